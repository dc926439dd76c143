"""What an alert says: title, text, urgency, link, and the key under which alerts are the same, from plain facts.

Finding the facts and sending do not belong here. Counts and the names of scripts, steps and
checks go in; no value of a lead does, because messages are read on lock screens.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal
from urllib.parse import quote

Topic = Literal["jobs", "errors", "system"]

HOUR: Final = timedelta(hours=1)
DAYS: Final = timedelta(days=2)
"""For alerts whose key names the day: until that day's key comes no more."""

CHECK_STOPPED: Final = "DagsterAssetCheckFailedError"
"""What a step ends on when a blocking check failed in it."""

_NAMED: Final = 5
_REASONS: Final = {
    "UNEXPECTED_TERMINATION": "Its process ended without a word: killed, out of memory, or the machine stopped.",
    "RUN_WORKER_RESTART": "Its process was started anew in the middle of the run.",
    "START_TIMEOUT": "It did not start in time.",
    "JOB_INITIALIZATION_FAILURE": "It could not be set up: its configuration or a resource is not in order.",
}
_OUTSIDE: Final = "It failed outside its steps. The log of the run tells more."
_CHANGING: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32,64}\b|\d+(?:[.,:]\d+)*")
"""Ids of runs, hashes and numbers: what differs between alerts that say the same."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One message, and for how long another one under its key is held back."""

    topic: Topic
    title: str
    message: str
    key: str
    tags: tuple[str, ...]
    """Plain words. ntfy makes pictures of those it knows as names of pictures; these are none."""
    priority: int = 3
    """1 to 5; 3 is usual."""
    click: str | None = None
    window: timedelta = HOUR


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Which run an alert is about."""

    run_id: str
    job: str
    script: str | None
    """The partition key; None for a job without one."""
    ui_url: str | None = None

    @property
    def subject(self) -> str:
        return self.script or self._job

    @property
    def link(self) -> str | None:
        return run_link(self.ui_url, self.run_id)

    def line(self) -> str:
        return f"Job {self._job}, run {self.run_id}."

    @property
    def _job(self) -> str:
        return "materialize" if self.job.startswith("__") else self.job


@dataclass(frozen=True, slots=True)
class StepFailure:
    """The first step of a run that failed."""

    step: str
    sentence: str | None
    """Of an error of ours. A foreign error's text may quote a lead, so there is none."""
    error_class: str

    def first_line(self) -> str:
        if self.sentence:
            return _first_line(self.sentence)
        if self.error_class == CHECK_STOPPED:
            return "A check of the step failed, and it stops what comes after it."
        return f"It ended on a defect of the program ({self.error_class}). The log of the run tells more."


@dataclass(frozen=True, slots=True)
class FailedCheck:
    name: str
    asset: str
    """Parts of its key parted by slashes."""
    is_error: bool
    """False for a warning."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Spending:
    """Lookups paid for, and dollars settled; what is of unknown outcome may come on top."""

    lookups: int
    dollars: Decimal
    unknown_dollars: Decimal = Decimal(0)

    def sentence(self) -> str:
        text = f"{count(self.lookups, 'lookup')} paid for, {self.dollars:,} dollars"
        return f"{text}, and at most {self.unknown_dollars:,} more of unknown outcome" if self.unknown_dollars else text


@dataclass(frozen=True, slots=True)
class BackfillFacts:
    """A backfill that came to an end, in partitions."""

    backfill_id: str
    title: str | None
    status: str
    """As Dagster says it."""
    succeeded: int
    failed: tuple[str, ...]
    canceled: int
    not_started: int
    leads_published: int
    spending: Spending | None
    """None when the ledger cannot be read now."""
    ui_url: str | None = None

    @property
    def partitions(self) -> int:
        return self.succeeded + len(self.failed) + self.canceled + self.not_started


def run_failed(run: RunFacts, failure: StepFailure | None, *, reason: str | None, will_retry: bool) -> Alert:
    """``reason`` is Dagster's for a run that failed outside its steps."""
    where = f" at {failure.step}" if failure is not None else ""
    sentence = failure.first_line() if failure is not None else _REASONS.get(reason or "", _OUTSIDE)
    next_step = "It is being run again by itself." if will_retry else "It is not run again by itself."
    step = failure.step if failure is not None else "run"
    return Alert(
        topic="errors",
        title=f"{run.subject} failed{where}",
        message=f"{sentence}\n{next_step}\n{run.line()}",
        key=f"run_failed/{step}/{_digest(_alike(sentence, run.script))}",
        tags=("leadscrub", "run_failed"),
        priority=4,
        click=run.link,
    )


def checks_failed(run: RunFacts, checks: Sequence[FailedCheck], *, stopped: bool) -> Alert:
    """One alert for all checks of a run; ``stopped`` when one of them kept the run from going on."""
    ordered = sorted(checks, key=lambda check: (not check.is_error, check.asset, check.name))
    what = f"check {ordered[0].name}" if len(ordered) == 1 else f"{len(ordered)} checks"
    lines = [
        f"{check.name} of {check.asset} ({'error' if check.is_error else 'warning'})"
        f"{': ' if check.description else '.'}{_first_line(check.description)}"
        for check in ordered
    ]
    if stopped:
        lines.append("The run stopped there: nothing after it was done.")
    first = ordered[0].asset
    return Alert(
        topic="errors",
        title=f"{run.subject}: {what} failed",
        message="\n".join([*lines, run.line()]),
        key=f"check_failed/{_digest(' '.join(f'{c.asset}.{c.name}.{c.is_error}' for c in ordered))}",
        tags=("leadscrub", "check_failed"),
        priority=4 if ordered[0].is_error else 3,
        click=_link(run.ui_url, f"/assets/{quote(first)}?view=checks"),
    )


def breaker_opened(run: RunFacts, vendor: str, openings: int) -> Alert:
    return Alert(
        topic="errors",
        title=f"{vendor} was down for a while: its breaker opened {count(openings, 'time')}",
        message=f"{run.subject} waited for {vendor} and went on when it was back. Nothing was paid for twice.\n"
        + run.line(),
        key=f"breaker_opened/{vendor}",
        tags=("leadscrub", "breaker_opened"),
        click=run.link,
    )


def run_cap_reached(run: RunFacts, leads: int) -> Alert:
    return Alert(
        topic="errors",
        title=f"{run.subject}: the cap of paid lookups a run was reached",
        message=f"{count(leads, 'lead')} deferred by IDICORE_MAX_LOOKUPS_PER_RUN. They come again by themselves with "
        f"the next run of the script.\n{run.line()}",
        key="run_cap",
        tags=("leadscrub", "budget_reached"),
        click=run.link,
    )


def daily_budget_reached(run: RunFacts, leads: int, *, now: datetime) -> Alert:
    """Once a day: the budget is of the UTC day."""
    return Alert(
        topic="errors",
        title="The budget of the day is used up",
        message=f"{run.subject}: {count(leads, 'lead')} deferred by IDICORE_DAILY_BUDGET. Lookups are paid for again "
        f"from midnight UTC on; the leads come again with the next run of their script.\n{run.line()}",
        key=f"daily_budget/{now:%Y-%m-%d}",
        tags=("leadscrub", "budget_reached"),
        click=run.link,
        window=DAYS,
    )


def list_expires(age_days: int, max_age_days: int, *, day: str, ui_url: str | None) -> Alert:
    """``day`` is the day that the alert counts for; see ``heartbeat.day_of``."""
    left = max_age_days - age_days
    aged = f"The Do-Not-Call list is {count(age_days, 'day')} old, and may be used for {count(max_age_days, 'day')}."
    if left > 0:
        title = f"The Do-Not-Call list expires in {count(left, 'day')}"
        outcome = "Load a newer one before then."
    else:
        title = "The Do-Not-Call list has expired"
        outcome = (
            "Runs fail or leave numbers unknown, as DNC_ON_STALE_LIST says, and published numbers are no longer "
            "callable. Load a newer one now."
        )
    return Alert(
        topic="system",
        title=title,
        message=f"{aged} {outcome}",
        key=f"{'list_expires' if left > 0 else 'list_expired'}/{day}",
        tags=("leadscrub", "list_expires"),
        priority=4 if left > 0 else 5,
        click=_link(ui_url, "/assets/dnc_registry"),
        window=DAYS,
    )


def backfill_finished(facts: BackfillFacts) -> Alert:
    went_well = facts.succeeded == facts.partitions
    ended = {"CANCELED": "was canceled", "FAILED": "failed"}.get(facts.status, "finished")
    parts = [f"{facts.succeeded:,} succeeded", f"{len(facts.failed):,} failed", f"{facts.canceled:,} canceled"]
    if facts.not_started:
        parts.append(f"{facts.not_started:,} never started")
    lines = [", ".join(parts) + "."]
    if facts.failed:
        lines.append(f"Failed: {names(facts.failed)}.")
    lines.append(f"{count(facts.leads_published, 'lead')} published.")
    if facts.spending is None:
        lines.append("What it cost is not known now: the ledger cannot be read.")
    else:
        lines.append(f"{facts.spending.sentence()}.")
    lines.append(f"Backfill {facts.title or facts.backfill_id}.")
    return Alert(
        topic="jobs",
        title=f"Backfill {ended}: {facts.succeeded:,} of {count(facts.partitions, 'script')} succeeded",
        message="\n".join(lines),
        key=f"backfill/{facts.backfill_id}",
        tags=("leadscrub", "backfill_finished"),
        priority=3 if went_well else 4,
        click=backfill_link(facts.ui_url, facts.backfill_id),
        window=DAYS,
    )


def run_link(ui_url: str | None, run_id: str) -> str | None:
    return _link(ui_url, f"/runs/{quote(run_id)}")


def backfill_link(ui_url: str | None, backfill_id: str) -> str | None:
    return _link(ui_url, f"/runs/b/{quote(backfill_id)}")


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def names(keys: Sequence[str]) -> str:
    """The first few, and how many more."""
    shown = ", ".join(sorted(keys)[:_NAMED])
    return shown if len(keys) <= _NAMED else f"{shown} and {len(keys) - _NAMED:,} more"


def _link(ui_url: str | None, path: str) -> str | None:
    return None if not ui_url else ui_url.rstrip("/") + path


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""


def _alike(sentence: str, script: str | None) -> str:
    """What is the same in alerts of one cause."""
    text = sentence
    if script is not None:
        # Only where the script is named as such: a script may be called as any word of the sentence.
        key = re.escape(script)
        named = rf"(?:(?<=script )|(?<=partition )){key}(?![\w-])|(?<![\w-]){key}(?=\.sql)"
        text = re.sub(named, "*", sentence, flags=re.IGNORECASE)
    return _CHANGING.sub("#", text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
