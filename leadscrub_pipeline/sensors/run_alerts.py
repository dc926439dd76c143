"""What there is to announce of one run: read from its events in Dagster's storage.

How it is worded, and whether it is sent, does not belong here.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import dagster as dg

from leadscrub_pipeline.assets.common import own_failure, was_interrupted
from leadscrub_pipeline.domain.alerts import (
    CHECK_STOPPED,
    Alert,
    FailedCheck,
    RunFacts,
    StepFailure,
    breaker_opened,
    checks_failed,
    daily_budget_reached,
    run_cap_reached,
    run_failed,
)
from leadscrub_pipeline.run_tags import PARTITION

EVENTS: Final = 1000
"""Of one run: five assets and their checks have some dozens."""

_VENDORS: Final = {
    "idicore_breaker_openings": "idiCORE",
    "ccc_breaker_openings": "CCC",
    "rescrub_ccc_breaker_openings": "CCC",
}
_TOLD_BY_CAPS: Final = "spend_is_within_budget"
_TOLD_DAILY: Final = "registry_is_fresh"
"""A failed check about which another alert says more."""
_BY_REASON: Final = "deferred_or_held_by_reason"


class RunEvents(NamedTuple):
    failures: list[dg.DagsterEvent]
    """Steps that failed, the first one first."""
    checks: list[FailedCheck]
    metadata: list[tuple[datetime, Mapping[str, Any]]]
    """Of each asset that was materialized or observed, and when."""


def is_first_attempt(run: dg.DagsterRun) -> bool:
    return run.tags.get("dagster/retry_number", "0") == "0"


def alerts_of_failed_run(instance: dg.DagsterInstance, run: dg.DagsterRun, ui_url: str | None) -> list[Alert]:
    """None for a run that somebody stopped."""
    events = _read(instance, run.run_id)
    if any(map(was_interrupted, events.failures)):
        return []
    facts = _facts(run, ui_url)
    failure = _failure(events.failures[0]) if events.failures else None
    stopped = failure is not None and failure.error_class == CHECK_STOPPED and bool(events.checks)
    found = _found_in(events, facts, stopped=stopped)
    if stopped:
        return found
    failed = run_failed(
        facts,
        failure,
        reason=run.tags.get("dagster/failure_reason"),
        will_retry=run.tags.get("dagster/will_retry") == "true",
    )
    return [failed, *found]


def alerts_of_finished_run(instance: dg.DagsterInstance, run: dg.DagsterRun, ui_url: str | None) -> list[Alert]:
    return _found_in(_read(instance, run.run_id), _facts(run, ui_url), stopped=False)


def _facts(run: dg.DagsterRun, ui_url: str | None) -> RunFacts:
    return RunFacts(run.run_id, run.job_name, run.tags.get(PARTITION), ui_url)


def _read(instance: dg.DagsterInstance, run_id: str) -> RunEvents:
    kinds = dg.DagsterEventType
    records = instance.get_records_for_run(
        run_id,
        of_type={
            kinds.STEP_FAILURE,
            kinds.ASSET_CHECK_EVALUATION,
            kinds.ASSET_MATERIALIZATION,
            kinds.ASSET_OBSERVATION,
        },
        limit=EVENTS,
    ).records
    found = RunEvents([], [], [])
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.is_step_failure:
            found.failures.append(event)
        elif event.event_type is kinds.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                found.checks.append(_check(check))
        else:
            told = record.event_log_entry.asset_materialization or record.event_log_entry.asset_observation
            if told is not None:
                when = datetime.fromtimestamp(record.event_log_entry.timestamp, UTC)
                found.metadata.append((when, {name: value.value for name, value in told.metadata.items()}))
    return found


def _check(check: dg.AssetCheckEvaluation) -> FailedCheck:
    return FailedCheck(
        name=check.check_name,
        asset="/".join(check.asset_key.path),
        is_error=check.severity is dg.AssetCheckSeverity.ERROR,
        description=check.description or "",
    )


def _failure(event: dg.DagsterEvent) -> StepFailure:
    own = own_failure(event)
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return StepFailure(
        step=event.step_key or "a step",
        sentence=None if own is None else own[1],
        error_class="unknown" if error is None or error.cls_name is None else error.cls_name,
    )


def _found_in(events: RunEvents, run: RunFacts, *, stopped: bool) -> list[Alert]:
    """Failed checks, openings of a breaker and caps: what a run may have whether it ended well or not."""
    breakers: list[Alert] = []
    caps: list[Alert] = []
    for when, metadata in events.metadata:
        for name, vendor in _VENDORS.items():
            openings = metadata.get(name)
            if isinstance(openings, int) and openings > 0:
                breakers.append(breaker_opened(run, vendor, openings))
        by_reason = metadata.get(_BY_REASON)
        if isinstance(by_reason, Mapping):
            caps += _capped(run, by_reason, when)
    told = {_TOLD_DAILY, _TOLD_BY_CAPS} if caps else {_TOLD_DAILY}
    checks = [check for check in events.checks if check.name not in told]
    return [*([checks_failed(run, checks, stopped=stopped)] if checks else []), *breakers, *caps]


def _capped(run: RunFacts, by_reason: Mapping[str, Any], when: datetime) -> list[Alert]:
    found = []
    if leads := by_reason.get("run_cap"):
        found.append(run_cap_reached(run, leads))
    if leads := by_reason.get("daily_budget"):
        found.append(daily_budget_reached(run, leads, now=when))
    return found
