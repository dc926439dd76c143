"""Partitions: one lead script is one partition, and its key is the file's stem."""

from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

LOOKED_BACK: Final = timedelta(days=92)
"""How far back a failed run still counts as failed."""
_TELLING: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]

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
    """Scripts whose latest run that succeeded or failed did the latter, in order; by one query.

    A run that somebody canceled says nothing, and a retired script is nobody's business.
    """
    there = set(instance.get_dynamic_partitions("lead_scripts"))
    ended = dg.RunsFilter(statuses=_TELLING, created_after=datetime.now(UTC) - LOOKED_BACK)
    latest = instance.get_run_partition_data(ended)
    return sorted(there & {data.partition for data in latest if data.status is dg.DagsterRunStatus.FAILURE})
