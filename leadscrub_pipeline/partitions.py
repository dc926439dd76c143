"""Partitions: one lead script is one partition, and its key is the file's stem."""

from typing import Final

import dagster as dg

from leadscrub_pipeline.run_tags import PARTITION

_FAILED_RUNS: Final = 500
_FINISHED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

LEAD_SCRIPTS: Final = dg.DynamicPartitionsDefinition(name="lead_scripts")


def register_scripts(instance: dg.DagsterInstance, keys: list[str]) -> list[str]:
    """Add the partitions that are not there yet and return them; none is ever taken away here.

    Keys are sorted because Dagster keeps the order of insertion and ranges go by position.
    """
    known = set(instance.get_dynamic_partitions("lead_scripts"))
    new = sorted(set(keys) - known)
    if new:
        instance.add_dynamic_partitions("lead_scripts", new)
    return new


def failed_scripts(instance: dg.DagsterInstance) -> list[str]:
    """Scripts whose latest finished run failed, in order; of the newest 500 failed runs."""
    failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]), limit=_FAILED_RUNS)
    candidates = {run.tags[PARTITION] for run in failed if PARTITION in run.tags}
    return sorted(
        key for key in candidates & set(instance.get_dynamic_partitions("lead_scripts")) if _failed(instance, key)
    )


def _failed(instance: dg.DagsterInstance, key: str) -> bool:
    latest = instance.get_runs(dg.RunsFilter(statuses=_FINISHED, tags={PARTITION: key}), limit=1)
    return bool(latest) and latest[0].status is dg.DagsterRunStatus.FAILURE
