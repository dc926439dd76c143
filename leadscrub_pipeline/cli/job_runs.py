"""One run of a Dagster job in this process: started, followed, and read when it has ended.

What a job is for, and which of its numbers are shown, stands with the commands.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import dagster as dg

from leadscrub_pipeline.assets.common import failed_claims, own_failure, was_interrupted, was_stopped_by_check
from leadscrub_pipeline.cli.direct_runs import tags_of_this_process
from leadscrub_pipeline.cli.interrupts import INTERRUPTED
from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline.run_tags import SCRIPT
from leadscrub_pipeline.settings import Settings

Report = Callable[[str], None]


class Ended(NamedTuple):
    """What the events of a run tell."""

    status: Literal["success", "failed", "canceled"]
    exit_code: int
    error: str | None
    metadata: dict[str, dict[str, int]]
    """Whole numbers of each asset that was materialized or observed, as they were told last."""
    observed: list[tuple[str, dict[str, int]]]
    """The same of each observation, in their order: a step that is tried again observes anew."""


def run_job(
    name: str,
    run_id: str,
    settings: Settings,
    instance: dg.DagsterInstance,
    *,
    ops: Mapping[str, Any],
    partition_key: str | None = None,
    report: Report,
) -> Ended:
    """Run a job to its end. ``report`` is told which step runs, and what the step says of itself.

    Args:
        name: of the job.
        run_id: under which it shows in Dagster.
        settings: the deployment's.
        instance: where the run is kept.
        ops: the run's configuration, by step.
        partition_key: for a job of partitions.
        report: gets a line at a time.
    """
    instance.add_event_listener(run_id, _listener(instance, report))
    try:
        result = defs.resolve_job_def(name).execute_in_process(
            run_config={
                "ops": dict(ops),
                # Dagster's own lines are for who looks for a defect; the run's log in the UI has them all.
                "loggers": {
                    "console": {"config": {"log_level": "DEBUG" if settings.log_level == "DEBUG" else "CRITICAL"}}
                },
            },
            instance=instance,
            partition_key=partition_key,
            run_id=run_id,
            tags=tags_of_this_process() | ({SCRIPT: partition_key} if partition_key is not None else {}),
            raise_on_error=False,
        )
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        return _interrupted({}, [])
    metadata: dict[str, dict[str, int]] = {}
    observed: list[tuple[str, dict[str, int]]] = []
    failures = []
    for event in result.all_events:
        if event.is_step_failure:
            failures.append(event)
        elif (told := _told(event)) is not None and event.asset_key is not None:
            asset = event.asset_key.to_user_string()
            metadata[asset] = _whole_numbers(told)
            if not event.is_step_materialization:
                observed.append((asset, metadata[asset]))
    if result.success:
        return Ended("success", 0, None, metadata, observed)
    if any(map(was_interrupted, failures)):
        return _interrupted(metadata, observed)
    if failures:
        claims = (
            failed_claims(result.all_events, str(failures[0].step_key)) if was_stopped_by_check(failures[0]) else []
        )
        return Ended("failed", *_failure(failures[0], claims, run_id), metadata, observed)
    told_elsewhere = f"The run failed outside its steps. Its log in the UI tells more: run {run_id}."
    return Ended("failed", 1, told_elsewhere, metadata, observed)


def _told(event: dg.DagsterEvent) -> Mapping[str, Any] | None:
    """What an event says of an asset."""
    if event.is_step_materialization:
        return event.step_materialization_data.materialization.metadata
    if event.event_type is dg.DagsterEventType.ASSET_OBSERVATION:
        return event.asset_observation_data.asset_observation.metadata
    return None


def _whole_numbers(metadata: Mapping[str, Any]) -> dict[str, int]:
    return {
        name: value.value
        for name, value in metadata.items()
        if isinstance(value, dg.IntMetadataValue) and value.value is not None
    }


def _interrupted(metadata: dict[str, dict[str, int]], observed: list[tuple[str, dict[str, int]]]) -> Ended:
    text = "Interrupted. Requests in flight were let end, and what they brought is in the ledger."
    return Ended("canceled", INTERRUPTED, text, metadata, observed)


def _failure(event: dg.DagsterEvent, claims: list[str], run_id: str) -> tuple[int, str]:
    """The exit code and the sentence of a failed step."""
    if claims:
        return 1, f"Step {event.step_key} was stopped by a check. {' '.join(claims)}"
    return own_failure(event) or (
        1,
        f"Step {event.step_key} ended on a defect of the program. Its log in the UI tells more: run {run_id}.",
    )


def _listener(instance: dg.DagsterInstance, report: Report) -> Callable[[dg.EventLogEntry], None]:
    """Tells which step runs and what it says of itself, and Dagster when the run is being canceled.

    Without the latter a run that was stopped by Ctrl-C reads as failed, and alerts.
    """

    def listen(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is not None and event.is_step_failure and was_interrupted(event):
            run = instance.get_run_by_id(entry.run_id)
            if run is not None:
                instance.report_run_canceling(run)
        if entry.dagster_event is None and entry.step_key is not None:
            report(f"{entry.step_key}: {entry.user_message}")
        elif entry.dagster_event is not None and entry.dagster_event.is_step_start:
            report(str(entry.step_key))

    return listen
