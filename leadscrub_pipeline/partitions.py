"""Partitions: one lead script is one partition, and its key is the file's stem."""

from typing import Final

import dagster as dg

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
