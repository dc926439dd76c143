"""``leadscrub scripts retire``: take the partition of a removed script out of Dagster, when nothing is at work on it.

What the script published, its evidence and what was paid are not touched.
"""

from typing import Final
from uuid import uuid4

import dagster as dg

from leadscrub_pipeline.cli.direct_runs import fail_dead_runs
from leadscrub_pipeline.cli.instance import open_instance
from leadscrub_pipeline.deployment import open_ledger
from leadscrub_pipeline.domain.scripts import script_paths
from leadscrub_pipeline.errors import RefusedError, UsageError
from leadscrub_pipeline.run_tags import PARTITION
from leadscrub_pipeline.settings import Settings

_AT_WORK: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_BACKFILL_AT_WORK: Final = {"REQUESTED", "CANCELING", "FAILING"}
_BACKFILLS: Final = 500


def retire(script: str, settings: Settings) -> None:
    """Take the partition out.

    Raises:
        UsageError: the script's file is still there, or there is no such partition.
        RefusedError: a run or a backfill is at work on it.
    """
    folder = settings.leadscrub_scripts
    if script in script_paths(folder):
        raise UsageError(f"{script}.sql is still in {folder}. Remove the file first, or it would come back by itself.")
    with open_instance(settings) as instance:
        partitions = instance.get_dynamic_partitions("lead_scripts")
        if script not in partitions:
            known = ", ".join(sorted(set(partitions) - set(script_paths(folder)))) or "none"
            raise UsageError(f"There is no partition {script!r} (those without a file: {known}).")
        fail_dead_runs(instance)
        _retire(script, settings, instance)


def _retire(script: str, settings: Settings, instance: dg.DagsterInstance) -> None:
    """Deleting the key of a partition fails a run that is at work on it, so nothing may be."""
    # The lease keeps direct runs out, which Dagster's queue knows nothing of.
    with open_ledger(settings) as ledger, ledger.partition_lease(script, holder=f"retire-{uuid4()}"):
        runs = instance.get_runs(dg.RunsFilter(statuses=_AT_WORK, tags={PARTITION: script}), limit=1)
        if runs:
            raise RefusedError(
                f"Run {runs[0].run_id} is at work on {script}, or waits to be. Wait for it or cancel it."
            )
        if _is_in_backfill(script, instance):
            raise RefusedError(f"A backfill over {script} is at work. Wait for it or cancel it.")
        instance.delete_dynamic_partition("lead_scripts", script)


def _is_in_backfill(script: str, instance: dg.DagsterInstance) -> bool:
    """Of a backfill over assets Dagster does not say the partitions without its code location: any may be meant."""
    return any(
        backfill.status.value in _BACKFILL_AT_WORK and script in (backfill.partition_names or [script])
        for backfill in instance.get_backfills(limit=_BACKFILLS)
    )
