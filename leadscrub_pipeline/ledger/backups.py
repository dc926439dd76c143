"""A backup of a ledger: every table at one moment, in a SQLite file that is there whole or not at all.

Answers stay sealed in it, so the keys are kept elsewhere. Bringing one back is restoring.py.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, create_engine, insert, select
from sqlalchemy.engine import URL

from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.ledger.controls import set_control
from leadscrub_pipeline.ledger.tables import lookups, metadata

BACKED_UP: Final = "backed_up"
"""Control in a backup only: its time is when the backup was made."""
_ROWS: Final = 5_000
_FAST: Final = ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "PRAGMA cache_size=-65536")
"""A draft that breaks off is thrown away, and one that is whole is flushed before it takes its name."""


class Backup(NamedTuple):
    path: Path
    lookups: int
    rows: int
    """Of all tables."""


def back_up(connection: Connection, path: Path, *, overwrite: bool, now: int) -> Backup:
    """Copy everything that the connection's transaction sees into a new file, mode 0600.

    Raises:
        UsageError: there is a file already, or no such folder.
        UnavailableError: the file cannot be written.
    """
    if path.exists() and not overwrite:
        raise _exists(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        os.close(handle)
    except FileNotFoundError:
        raise UsageError(f"There is no folder {path.parent}. Make it first.") from None
    except OSError as error:
        raise _not_written(path, error) from None
    draft = Path(name)
    try:
        counts = _copy(connection, draft, now=now)
        _publish(draft, path, overwrite=overwrite)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        draft.unlink(missing_ok=True)
    return Backup(path, counts[lookups.name], sum(counts.values()))


def _copy(source: Connection, draft: Path, *, now: int) -> dict[str, int]:
    engine = create_engine(URL.create("sqlite+pysqlite", database=str(draft)), hide_parameters=True)
    counts: dict[str, int] = {}
    try:
        with engine.begin() as target:
            for setting in _FAST:
                target.exec_driver_sql(setting)
            metadata.create_all(target)
            for table in metadata.sorted_tables:
                counts[table.name] = 0
                rows = source.execute(select(table).execution_options(yield_per=_ROWS))
                for some in rows.mappings().partitions():
                    target.execute(insert(table), _plain(some))
                    counts[table.name] += len(some)
            set_control(target, BACKED_UP, "", now=now)
    finally:
        engine.dispose()
    return counts


def _plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """PostgreSQL gives bytes as views of its own memory."""
    return [
        {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()} for row in rows
    ]


def _publish(draft: Path, path: Path, *, overwrite: bool) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    if overwrite:
        draft.replace(path)
        return
    try:
        os.link(draft, path)  # whole or not at all, and never over a file that came meanwhile
    except FileExistsError:
        raise _exists(path) from None


def _exists(path: Path) -> UsageError:
    return UsageError(f"{path} exists already. Give another name, or --force to overwrite it.")


def _not_written(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"{path} cannot be written: {error.strerror or type(error).__name__}.")
