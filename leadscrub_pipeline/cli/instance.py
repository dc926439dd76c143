"""Dagster's home of this deployment, set up before a command uses it: folder, dagster.yaml, pools, partitions.

What runs in it does not belong here.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dagster as dg

from leadscrub_pipeline.cli.project import project_path
from leadscrub_pipeline.domain.scripts import script_paths
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.partitions import register_scripts
from leadscrub_pipeline.settings import Settings

POOL_LIMITS: Final = {"idicore": 1, "ccc": 2, "warehouse": 4}
"""Runs at a time. A pool without a limit of its own holds nobody back, default_limit or not."""

_CONFIG: Final = "dagster.yaml"
_PLACED: Final = ".dagster.yaml.placed"
"""The hash of the file as it was placed: one that still has it was not edited, and may be replaced."""


def dagster_home(settings: Settings) -> Path:
    return settings.leadscrub_home.absolute() / "dagster"


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The deployment's Dagster instance with its pools limited and every lead script registered as a partition.

    Raises:
        UnavailableError: the home cannot be written.
    """
    home = dagster_home(settings)
    with _at_home(home):
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _one_at_a_time(home):
                place_config(home)
                instance = dg.DagsterInstance.get()
                set_pool_limits(instance)
                register_scripts(instance, list(script_paths(settings.leadscrub_scripts)))
        except OSError as error:
            raise UnavailableError(f"Dagster's home {home} cannot be written ({type(error).__name__}).") from None
        with instance:
            yield instance


def pool_limits(settings: Settings) -> dict[str, int | None]:
    """The limit of each pool, None where it has none; empty when there is no instance yet. Changes nothing."""
    home = dagster_home(settings)
    if not (home / _CONFIG).exists():
        return {}
    with _at_home(home), dg.DagsterInstance.get() as instance:
        pools = instance.event_log_storage.get_pool_limits()
    limits = {pool.name: pool.limit for pool in pools if not pool.from_default}
    return {name: limits.get(name) for name in POOL_LIMITS}


def place_config(home: Path) -> None:
    """Put the project's dagster.yaml there when it is missing or an unedited older one; an edited one stays."""
    wanted = project_path(_CONFIG).read_bytes()
    config, placed = home / _CONFIG, home / _PLACED
    if config.exists():
        current = config.read_bytes()
        was_placed = placed.exists() and placed.read_text() == _hash(current)
        if current == wanted or not was_placed:
            return
    beside = home / f"{_CONFIG}.new"
    beside.write_bytes(wanted)
    beside.replace(config)
    placed.write_text(_hash(wanted))


def set_pool_limits(instance: dg.DagsterInstance) -> None:
    """Limit the pools that have no limit of their own yet; a limit set by hand stays."""
    storage = instance.event_log_storage
    limited = {pool.name for pool in storage.get_pool_limits() if not pool.from_default}
    for name, limit in POOL_LIMITS.items():
        if name not in limited:
            storage.set_concurrency_slots(name, limit)


@contextmanager
def _at_home(home: Path) -> Iterator[None]:
    """DAGSTER_HOME for Dagster and for child processes, and files that nobody else can read.

    Dagster makes its own readable by all; run logs and events are nobody else's business.
    """
    before, umask = os.environ.get("DAGSTER_HOME"), os.umask(0o077)
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        yield
    finally:
        os.umask(umask)
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Two processes that make the tables of one new instance at once fail each other."""
    with (home / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
