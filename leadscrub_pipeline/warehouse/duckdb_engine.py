"""DuckDB instances, locked down before anybody gets a connection: no file but those named, no network, fixed settings.

Which statements run on them does not belong here. By default DuckDB reads any file on the
host, and takes a name in three parts for a variable of this process.
"""

import atexit
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import duckdb

from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.warehouse.sources import SourceTable

# Nothing is left to guessing: DuckDB otherwise takes a file with a broken line for one of another
# dialect, skips all lines above it, and takes 1/2/2026 for the first of February.
_READER_OPTIONS: Final = {
    "read_csv": """, header = true, skip = 0, sample_size = -1, delim = ',', quote = '"', escape = '"', """
    "dateformat = '%Y-%m-%d', timestampformat = '%Y-%m-%d %H:%M:%S'",
    "read_parquet": "",
}

_DATA: Final = re.compile(r"\d{5}(-?\d{4})?|\d{10}|\d+\w? +\w.*|.+@.+\..+")
"""A ZIP, a phone, a street with its number or an e-mail: no name of a column, and a lead's own."""

_FILE_SUFFIXES: Final = ("", ".wal", ".wal.checkpoint", ".wal.recovery")
"""The warehouse's file and what DuckDB keeps beside it."""

_shared: dict[tuple[Path, str], duckdb.DuckDBPyConnection] = {}
_shared_guard = threading.Lock()


@atexit.register
def _close_shared() -> None:
    with _shared_guard:
        for engine in _shared.values():
            engine.close()
        _shared.clear()


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def shared_engine(path: Path, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """The process's instance for one warehouse file; a new one takes longer than most sessions.

    It holds the file only while a session has it attached. Take a ``cursor`` and close it.
    """
    with _shared_guard:
        engine = _shared.get((path, memory_limit))
        if engine is None:
            engine = _shared[path, memory_limit] = _open(path, memory_limit)
            _lock_down(engine, path, folder=None)
        return engine


def engine_with_sources(
    path: Path, memory_limit: str, folder: Path, sources: Iterable[SourceTable]
) -> duckdb.DuckDBPyConnection:
    """An instance of its own that may have the user's source tables (``show_source``); close it after the session."""
    engine = _open(path, memory_limit)
    try:
        for database in sorted({source.database for source in sources}):
            engine.execute(f"ATTACH ':memory:' AS {quoted(database)}")
        _lock_down(engine, path, folder=folder)
    except BaseException:
        engine.close()
        raise
    return engine


def _open(path: Path, memory_limit: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory_limit,
            "threads": 2,
            "temp_directory": str(path.parent / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


def _lock_down(engine: duckdb.DuckDBPyConnection, path: Path, *, folder: Path | None) -> None:
    if folder is not None:
        engine.execute(f"SET allowed_directories = [{literal(str(folder.absolute()))}]")
    files = ", ".join(literal(f"{path}{suffix}") for suffix in _FILE_SUFFIXES)
    engine.execute(f"SET allowed_paths = [{files}]")
    engine.execute("SET GLOBAL TimeZone = 'UTC'")
    engine.execute("SET GLOBAL python_enable_replacements = false")
    engine.execute("SET enable_external_access = false")
    if folder is None:
        engine.execute("SET allowed_configs = ['memory_limit']")  # give_memory_back sets it
    engine.execute("SET lock_configuration = true")


def give_memory_back(connection: duckdb.DuckDBPyConnection, memory_limit: str) -> None:
    """Give what a shared instance does not use to the system: its allocator lets go of it when the limit is set."""
    connection.execute(f"SET memory_limit = {literal(memory_limit)}")


def show_source(engine: duckdb.DuckDBPyConnection, source: SourceTable) -> None:
    """Make a source table readable by its name. One at a time: a broken file is the business of those who read it.

    Raises:
        FailedError: the file cannot be read.
    """
    schema = f"{quoted(source.database)}.{quoted(source.schema)}"
    reader = "read_parquet" if source.path.suffix.lower() == ".parquet" else "read_csv"
    view = f"{schema}.{quoted(source.name)}"
    engine.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    try:
        engine.execute(
            f"CREATE VIEW IF NOT EXISTS {view} AS "
            f"SELECT * FROM {reader}({literal(str(source.path))}{_READER_OPTIONS[reader]})"
        )
        names = [row[0] for row in engine.execute(f"DESCRIBE {view}").fetchall()]
    except duckdb.Error as error:
        form = (
            "a whole Parquet file"
            if reader == "read_parquet"
            else "UTF-8, with a header line, commas between values, quotes closed, and as many values in each line"
        )
        raise FailedError(
            f"The source table {'.'.join(source.full_name)} cannot be read from {source.path.name} "
            f"({type(error).__name__}): it must be {form}."
        ) from None
    if reader == "read_csv" and any(_DATA.fullmatch(name) for name in names):
        raise FailedError(
            f"The source table {'.'.join(source.full_name)} has no header: the first line of {source.path.name} holds "
            "values. Put the names of the columns there."
        )
