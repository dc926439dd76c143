"""One script through Dagster from this process, and the numbers that come of it.

The work is the assets'; starting and following a run stands in job_runs.py.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

import dagster as dg

from leadscrub_pipeline.cli.job_runs import Ended, Report, run_job
from leadscrub_pipeline.deployment import open_ledger
from leadscrub_pipeline.errors import LeadscrubError
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
    try:
        with open_ledger(settings) as ledger, ledger.partition_lease(key, holder=run_id):
            ended = _execute(key, run_id, settings, instance, selection, report)
            spent = ledger.lookups_of_run(run_id)
    except LeadscrubError as error:
        # Before the run: another one is at this script, or the ledger cannot be used.
        return Scrubbed(key, None, "failed", {}, time.monotonic() - started, error.exit_code, str(error))
    numbers = {name: ended.metadata.get(asset, {}).get(entry) for name, (asset, entry) in _NUMBERS.items()}
    # What a step that failed had asked and not settled is in the ledger.
    numbers["lookups_unknown"] = spent["unknown"] + spent["sent"]
    seconds = time.monotonic() - started
    return Scrubbed(key, run_id, ended.status, numbers, seconds, ended.exit_code, ended.error, spent.cost)


def _execute(
    key: str, run_id: str, settings: Settings, instance: dg.DagsterInstance, selection: Selection, report: Report
) -> Ended:
    config = {"row_limit": selection.row_limit, "already_processed": selection.already_processed}
    return run_job(
        "scrub_job",
        run_id,
        settings,
        instance,
        ops={"raw_leads": {"config": config}},
        partition_key=key,
        report=lambda text: report(f"{key}: {text}"),
    )
