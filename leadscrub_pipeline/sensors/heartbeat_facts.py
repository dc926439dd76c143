"""What the daily message tells, gathered from Dagster's storage, the ledger and the registry file.

A part that cannot be read is told as such. How it is worded does not belong here.
"""

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Final

import dagster as dg

from leadscrub_pipeline.deployment import open_registry, read_ledger
from leadscrub_pipeline.domain.alerts import Spending
from leadscrub_pipeline.domain.heartbeat import Heartbeat, ListFacts, SpendingFacts
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.partitions import failed_scripts

if TYPE_CHECKING:
    from leadscrub_pipeline.ledger.summary import Summary
    from leadscrub_pipeline.settings import Settings

A_DAY: Final = timedelta(days=1)

_PAID: Final = frozenset({"hit", "miss"})


def gather(instance: dg.DagsterInstance, settings: "Settings", dnc_list: ListFacts, now: datetime) -> Heartbeat:
    return Heartbeat(
        runs=_runs(instance, now),
        still_failed=tuple(failed_scripts(instance)),
        unreadable=_unreadable(settings),
        dnc_list=dnc_list,
        warn_age_days=settings.dnc_warn_age_days,
        spending=_spending(settings, now),
        silent_daemons=tuple(
            name for name, status in instance.get_daemon_statuses().items() if status.required and not status.healthy
        ),
        ui_url=settings.leadscrub_ui_url,
    )


def _unreadable(settings: "Settings") -> tuple[str, ...]:
    """Scripts that nobody can run, by the sentence that says why; such a file makes no run fail."""
    from leadscrub_pipeline.domain.scripts import inspect_script, sound_script_paths

    try:
        paths, problems = sound_script_paths(settings.leadscrub_scripts)
    except LeadscrubError as error:
        return (str(error),)
    errors = {path.name: inspect_script(path)[1] for path in paths.values()}
    return (*problems, *(f"{name}: {found[0]}" for name, found in errors.items() if found))


def read_list(settings: "Settings") -> ListFacts:
    try:
        with open_registry(settings) as registry:
            return ListFacts(
                age_days=registry.age_days,
                max_age_days=settings.dnc_max_age_days,
                is_stale=registry.age_reason() is not None,
            )
    except LeadscrubError as error:
        return ListFacts(trouble=str(error))
    except OSError as error:
        return ListFacts(trouble=f"The Do-Not-Call list cannot be read ({type(error).__name__}).")


def _runs(instance: dg.DagsterInstance, now: datetime) -> dict[str, int]:
    ended = {
        status: dg.RunsFilter(statuses=[status], updated_after=now - A_DAY)
        for status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    }
    under_way = {dg.DagsterRunStatus.STARTED: dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])}
    return {status.value.lower(): instance.get_runs_count(wanted) for status, wanted in {**ended, **under_way}.items()}


def _spending(settings: "Settings", now: datetime) -> SpendingFacts:
    budget = settings.idicore_daily_budget
    try:
        with read_ledger(settings) as ledger:
            if ledger is None:
                return SpendingFacts(daily_budget=budget)
            midnight = datetime.combine(now.date(), time(), now.tzinfo)
            return SpendingFacts(
                last_day=_spent(ledger.summary(since=now - A_DAY)),
                today=_spent(ledger.summary(since=midnight)),
                daily_budget=budget,
                paused=ledger.desk.paused() is not None,
            )
    except (LeadscrubError, OSError) as error:
        what = str(error) if isinstance(error, LeadscrubError) else type(error).__name__
        return SpendingFacts(daily_budget=budget, trouble=f"What was spent cannot be told: {what}")


def _spent(summary: "Summary") -> Spending:
    paid = sum(row.lookups for row in summary.rows if row.outcome in _PAID)
    return Spending(paid, summary.cost, summary.unknown_cost)
