"""The daily message that says that all is well, or what is not, and which day it counts for.

Gathering the facts and sending do not belong here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from leadscrub_pipeline.domain.alerts import DAYS, Alert, Spending, count, names


@dataclass(frozen=True, slots=True)
class ListFacts:
    """The Do-Not-Call list's age; ``trouble`` says why there is none."""

    age_days: int | None = None
    max_age_days: int = 31
    is_stale: bool = False
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class SpendingFacts:
    """What the ledger tells; ``trouble`` says why it tells nothing."""

    last_day: Spending | None = None
    """The last 24 hours; None when nobody was ever looked up."""
    today: Spending | None = None
    """Since midnight UTC, as the budget counts."""
    daily_budget: Decimal | None = None
    """Dollars."""
    paused: bool = False
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What there is to say of the last 24 hours and of now."""

    runs: Mapping[str, int]
    """Runs that changed in the last 24 hours by status, in lower case."""
    still_failed: tuple[str, ...]
    """Partitions whose latest run failed."""
    unreadable: tuple[str, ...]
    """Scripts that cannot be run as they are, a sentence each."""
    dnc_list: ListFacts
    warn_age_days: int
    spending: SpendingFacts
    silent_daemons: tuple[str, ...]
    ui_url: str | None = None


def day_of(now: datetime, *, zone: ZoneInfo, hour: int) -> str:
    """The day, as 2026-11-18, whose daily messages are due or past: it begins at ``hour`` in ``zone``.

    The hour that a change of clocks leaves out begins when that change does; of one that it
    repeats the first counts.
    """
    local = now.astimezone(zone).date()
    begins = datetime.combine(local, time(hour), zone).astimezone(UTC)
    return (local if now >= begins else local - timedelta(days=1)).isoformat()


def heartbeat_key(day: str) -> str:
    return f"daily_heartbeat/{day}"


def heartbeat_alert(facts: Heartbeat, *, day: str, untold: int) -> Alert:
    """``untold``: alerts that were held back or could not be sent, and that no later one has told of."""
    troubles = _troubles(facts)
    lines = [*troubles, _runs(facts), *_spending(facts.spending), _list(facts.dnc_list)]
    if untold:
        lines.append(f"{count(untold, 'alert')} held back or not sent since the last one.")
    return Alert(
        topic="system",
        title=f"leadscrub needs a look: {_things(troubles)}" if troubles else "leadscrub: all is well",
        message="\n".join(line for line in lines if line),
        key=heartbeat_key(day),
        tags=("leadscrub", "daily_heartbeat"),
        priority=4 if troubles else 2,
        click=facts.ui_url,
        window=DAYS,
    )


def _things(troubles: list[str]) -> str:
    return count(len(troubles), "thing")


def _troubles(facts: Heartbeat) -> list[str]:
    """What is not as it should be, a sentence each."""
    found = []
    failed = facts.runs.get("failure", 0)
    if failed:
        found.append(f"{count(failed, 'run')} failed in the last 24 hours.")
    if facts.still_failed:
        found.append(f"Still failed, their latest run: {names(facts.still_failed)}.")
    if facts.unreadable:
        found.append(f"{count(len(facts.unreadable), 'script')} cannot be run. {' '.join(facts.unreadable[:3])}")
    found += _list_troubles(facts)
    if facts.spending.trouble is not None:
        found.append(facts.spending.trouble)
    if facts.spending.paused:
        found.append("Paid lookups are paused. Go on: leadscrub resume.")
    if facts.silent_daemons:
        found.append(f"Not heard of lately: {', '.join(sorted(facts.silent_daemons))} of the Dagster daemon.")
    return found


def _list_troubles(facts: Heartbeat) -> list[str]:
    listed = facts.dnc_list
    if listed.trouble is not None:
        return [listed.trouble]
    if listed.age_days is None:
        return ["The Do-Not-Call list does not say when it was obtained."]
    if listed.is_stale:
        return ["The Do-Not-Call list has expired."]
    if listed.age_days >= facts.warn_age_days:
        return ["The Do-Not-Call list is about to expire."]
    return []


def _runs(facts: Heartbeat) -> str:
    words = {"success": "succeeded", "failure": "failed", "canceled": "canceled"}
    ended = ", ".join(f"{facts.runs.get(status, 0):,} {word}" for status, word in words.items())
    return f"Runs in the last 24 hours: {ended}; {facts.runs.get('started', 0):,} under way now."


def _spending(facts: SpendingFacts) -> list[str]:
    if facts.trouble is not None:
        return []
    if facts.last_day is None or facts.today is None:
        return ["Nobody was ever looked up."]
    budget = "" if facts.daily_budget is None else f" of {facts.daily_budget:,}"
    return [
        f"Last 24 hours: {facts.last_day.sentence()}.",
        f"Today (UTC): {facts.today.dollars:,}{budget} dollars.",
    ]


def _list(facts: ListFacts) -> str:
    if facts.age_days is None:
        return ""
    left = max(facts.max_age_days - facts.age_days, 0)
    return f"The Do-Not-Call list is {count(facts.age_days, 'day')} old, {count(left, 'day')} left."
