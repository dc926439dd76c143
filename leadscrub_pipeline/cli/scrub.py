"""One script through Dagster from this process, and the numbers that come of it.

The work is the assets'; this module starts the run, follows it and reads what it reported.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NamedTuple

import dagster as dg

from leadscrub_pipeline.assets.common import own_failure, was_interrupted
from leadscrub_pipeline.cli.direct_runs import tags_of_this_process
from leadscrub_pipeline.cli.interrupts import INTERRUPTED
from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline.deployment import open_ledger
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.run_tags import SCRIPT
from leadscrub_pipeline.settings import Settings

_NUMBERS: Final = {
    # key of the object -> (asset, its metadata)
    "selected": ("raw_leads", "selected"),
    "rejected": ("raw_leads", "rejected"),
    "duplicate": ("raw_leads", "duplicate"),
    "already_processed": ("raw_leads", "already_processed"),
    "kept": ("raw_leads", "kept"),
    "published": ("master_processed_db", "published"),
    "deferred": ("master_processed_db", "deferred"),
    "held": ("master_processed_db", "held"),
    "taken": ("master_processed_db", "taken"),
    "lookups_paid": ("enriched_contacts", "lookups_paid"),
    "lookups_reused": ("enriched_contacts", "lookups_reused"),
    "hits": ("enriched_contacts", "hit"),
    "misses": ("enriched_contacts", "miss"),
    "lookups_unknown": ("enriched_contacts", "lookups_unknown"),
    "phones": ("master_processed_db", "phones"),
    "litigators": ("master_processed_db", "litigators"),
    "dnc_listed": ("master_processed_db", "dnc_listed"),
    "flags_unknown": ("master_processed_db", "flags_unknown"),
    "master_rows": ("master_processed_db", "master_rows"),
}
KEYS: Final = ("script", "run_id", "status", *_NUMBERS, "seconds")

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What became of one script. Numbers of steps that did not end are None."""

    script: str
    run_id: str | None
    """None when no run was started."""
    status: Literal["success", "failed", "canceled"]
    numbers: dict[str, int | None]
    seconds: float
    exit_code: int = 0
    error: str | None = None
    cost: Decimal = Decimal(0)
    """Dollars of the run's settled lookups."""

    def as_dict(self) -> dict[str, object]:
        values: dict[str, object] = {
            "script": self.script,
            "run_id": self.run_id,
            "status": self.status,
            **{key: self.numbers.get(key) for key in _NUMBERS},
            "seconds": round(self.seconds, 3),
        }
        return values if self.error is None else {**values, "error": self.error}


@dataclass(frozen=True, slots=True)
class Selection:
    """How leads are selected, as the run's configuration says it."""

    row_limit: int | None = None
    already_processed: Literal["skip", "include"] = "skip"


def scrub_scripts(
    keys: Sequence[str],
    settings: Settings,
    instance: dg.DagsterInstance,
    selection: Selection,
    *,
    report: Report,
) -> Iterator[Scrubbed]:
    """Scrub the scripts one after another; one that fails keeps none of the others from running.

    After an interrupt the rest is not started.
    """
    for key in keys:
        result = _scrub(key, settings, instance, selection, report=report)
        yield result
        if result.status == "canceled":
            return


def _scrub(
    key: str, settings: Settings, instance: dg.DagsterInstance, selection: Selection, *, report: Report
) -> Scrubbed:
    started = time.monotonic()
    run_id = str(uuid.uuid4())
    instance.add_event_listener(run_id, _listener(key, instance, report))
    try:
        with open_ledger(settings) as ledger, ledger.partition_lease(key, holder=run_id):
            ended = _execute(key, run_id, settings, instance, selection)
            spent = ledger.lookups_of_run(run_id)
    except LeadscrubError as error:
        # Before the run: another one is at this script, or the ledger cannot be used.
        return Scrubbed(key, None, "failed", {}, time.monotonic() - started, error.exit_code, str(error))
    numbers = {name: ended.metadata.get(asset, {}).get(entry) for name, (asset, entry) in _NUMBERS.items()}
    # What a step that failed had asked and not settled is in the ledger.
    numbers["lookups_unknown"] = spent["unknown"] + spent["sent"]
    seconds = time.monotonic() - started
    return Scrubbed(key, run_id, ended.status, numbers, seconds, ended.exit_code, ended.error, spent.cost)


class _Ended(NamedTuple):
    """What the events of a run tell."""

    status: Literal["success", "failed", "canceled"]
    exit_code: int
    error: str | None
    metadata: dict[str, dict[str, int]]
    """Whole numbers of each asset that was materialized."""


def _execute(key: str, run_id: str, settings: Settings, instance: dg.DagsterInstance, selection: Selection) -> _Ended:
    try:
        result = defs.resolve_job_def("scrub_job").execute_in_process(
            run_config={
                "ops": {
                    "raw_leads": {
                        "config": {
                            "row_limit": selection.row_limit,
                            "already_processed": selection.already_processed,
                        }
                    }
                },
                # Dagster's own lines are for who looks for a defect; the run's log in the UI has them all.
                "loggers": {
                    "console": {"config": {"log_level": "DEBUG" if settings.log_level == "DEBUG" else "CRITICAL"}}
                },
            },
            instance=instance,
            partition_key=key,
            run_id=run_id,
            tags={**tags_of_this_process(), SCRIPT: key},
            raise_on_error=False,
        )
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        return _interrupted({})
    metadata: dict[str, dict[str, int]] = {}
    failures = []
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key is not None:
            metadata[event.asset_key.to_user_string()] = {
                name: value.value
                for name, value in event.step_materialization_data.materialization.metadata.items()
                if isinstance(value, dg.IntMetadataValue) and value.value is not None
            }
        if event.is_step_failure:
            failures.append(event)
    if result.success:
        return _Ended("success", 0, None, metadata)
    if any(map(was_interrupted, failures)):
        return _interrupted(metadata)
    if failures:
        return _Ended("failed", *_failure(failures[0], run_id), metadata)
    return _Ended(
        "failed", 1, f"The run failed outside its steps. Its log in the UI tells more: run {run_id}.", metadata
    )


def _interrupted(metadata: dict[str, dict[str, int]]) -> _Ended:
    text = "Interrupted. Requests in flight were let end, and what they brought is in the ledger."
    return _Ended("canceled", INTERRUPTED, text, metadata)


def _failure(event: dg.DagsterEvent, run_id: str) -> tuple[int, str]:
    """The exit code and the sentence of a failed step."""
    return own_failure(event) or (
        1,
        f"Step {event.step_key} ended on a defect of the program. Its log in the UI tells more: run {run_id}.",
    )


def _listener(key: str, instance: dg.DagsterInstance, report: Report) -> Callable[[dg.EventLogEntry], None]:
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
            report(f"{key}: {entry.step_key}: {entry.user_message}")
        elif entry.dagster_event is not None and entry.dagster_event.is_step_start:
            report(f"{key}: {entry.step_key}")

    return listen
