"""Dagster's pools: how many runs may be in each at a time, and whether an instance says so.

An asset names its pool; a pool without a limit of its own holds nobody back, default_limit or not.
"""

from typing import Final

import dagster as dg

POOL_LIMITS: Final = {"idicore": 1, "ccc": 2, "warehouse": 4}
"""Runs at a time, as set-up sets them; a limit set by hand stays."""


def limits_of(instance: dg.DagsterInstance) -> dict[str, int | None]:
    """The limit of each of our pools; None where it has none of its own."""
    limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits() if not pool.from_default}
    return {name: limits.get(name) for name in POOL_LIMITS}


def keeps_place_to_the_end(instance: dg.DagsterInstance) -> bool:
    """Whether a run is in its pools from its beginning to its end; else a blocked step spins and ignores signals."""
    granularity = instance.get_concurrency_config().pool_config.pool_granularity
    return granularity is not None and granularity.value == "run"


def set_pool_limits(instance: dg.DagsterInstance) -> None:
    """Limit the pools that have no limit of their own yet; a limit set by hand stays."""
    for name, limit in limits_of(instance).items():
        if limit is None:
            instance.event_log_storage.set_concurrency_slots(name, POOL_LIMITS[name])
