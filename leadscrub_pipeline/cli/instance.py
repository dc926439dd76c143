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
from uuid import uuid4

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from leadscrub_pipeline.cli.project import project_path
from leadscrub_pipeline.domain.scripts import script_paths
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.partitions import register_scripts
from leadscrub_pipeline.pools import limits_of, set_pool_limits
from leadscrub_pipeline.settings import Settings

STORAGE_URL: Final = "DAGSTER_POSTGRES_URL"
"""What deploy/dagster.yaml reads from the environment."""

_CONFIG: Final = "dagster.yaml"
_CONFIG_ON_POSTGRES: Final = "deploy/dagster.yaml"
_DOCTOR: Final = "leadscrub/doctor"
_PLACED: Final = ".dagster.yaml.placed"
"""The hash of the file as it was placed: one that still has it was not edited, and may be replaced."""


def dagster_home(settings: Settings) -> Path:
    return settings.leadscrub_home.absolute() / "dagster"


def dagster_environment(settings: Settings) -> dict[str, str]:
    """What Dagster's own programs need in their environment to find this instance."""
    found = {"DAGSTER_HOME": str(dagster_home(settings))}
    if settings.dagster_postgres_url is not None:
        found[STORAGE_URL] = settings.dagster_postgres_url.get_secret_value()
    return found


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The deployment's Dagster instance with its pools limited and every lead script registered as a partition.

    Raises:
        UnavailableError: the home cannot be written, or the PostgreSQL server fails, also later in the block.
    """
    home = dagster_home(settings)
    with _at_home(settings), _storage_errors(settings):
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _one_at_a_time(home):
                place_config(home, on_postgres=settings.dagster_postgres_url is not None)
                instance = dg.DagsterInstance.get()
                set_pool_limits(instance)
                register_scripts(instance, list(script_paths(settings.leadscrub_scripts)))
        except OSError as error:
            raise UnavailableError(f"Dagster's home {home} cannot be written ({type(error).__name__}).") from None
        with instance:
            yield instance


def require_storage(settings: Settings) -> bool:
    """Write a mark into the storage of runs and read it back; False when there is no instance yet.

    Raises:
        UnavailableError: it cannot be reached, read or written.
    """
    if not (dagster_home(settings) / _CONFIG).exists():
        return False
    written = {_DOCTOR: uuid4().hex}
    with _at_home(settings), _storage_errors(settings), dg.DagsterInstance.get() as instance:
        instance.run_storage.set_cursor_values(written)
        if instance.run_storage.get_cursor_values({_DOCTOR}) != written:
            raise UnavailableError("What was written to Dagster's storage did not come back.")
        instance.get_run_records(limit=1)
    return True


def pool_limits(settings: Settings) -> dict[str, int | None]:
    """The limit of each pool, None where it has none; empty when there is no instance yet. Changes nothing."""
    home = dagster_home(settings)
    if not (home / _CONFIG).exists():
        return {}
    with _at_home(settings), _storage_errors(settings), dg.DagsterInstance.get() as instance:
        return limits_of(instance)


def place_config(home: Path, *, on_postgres: bool = False) -> None:
    """Put the project's dagster.yaml there when it is missing or an unedited other one; an edited one stays."""
    wanted = project_path(_CONFIG_ON_POSTGRES if on_postgres else _CONFIG).read_bytes()
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


@contextmanager
def _at_home(settings: Settings) -> Iterator[None]:
    """DAGSTER_HOME for Dagster and for child processes, and files that nobody else can read.

    Dagster makes its own readable by all; run logs and events are nobody else's business.
    """
    wanted = dagster_environment(settings)
    before, umask = {name: os.environ.get(name) for name in wanted}, os.umask(0o077)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.umask(umask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _storage_errors(settings: Settings) -> Iterator[None]:
    """Turn the errors of Dagster's storage into UnavailableError; their texts name hosts and users."""
    errors: tuple[type[Exception], ...] = (SQLAlchemyError,)
    if settings.dagster_postgres_url is not None:
        from dagster_postgres.utils import DagsterPostgresException  # noqa: PLC0415 - a second, for those who use it

        errors = (*errors, DagsterPostgresException)
    try:
        yield
    except errors as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
        name = type(getattr(cause, "orig", None) or cause).__name__
        where = STORAGE_URL if len(errors) > 1 else "the SQLite files in LEADSCRUB_HOME/dagster"
        raise UnavailableError(
            f"Dagster's storage failed ({name}). See {where}: that it is reachable, and its disk is not full. "
            "Paid answers are in the ledger; run again."
        ) from None


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Two processes that make the tables of one new instance at once fail each other."""
    with (home / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
