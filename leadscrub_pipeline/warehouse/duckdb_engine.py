"""DuckDB instances, locked down before anybody gets a connection: no file but those named, no network, fixed settings.

Which statements run on them does not belong here. By default DuckDB reads any file on the
host, and takes a name in three parts for a variable of this process.
"""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import duckdb

from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.warehouse.sources import SourceTable

_READER_OPTIONS: Final = {"read_csv": ", header = true, sample_size = -1", "read_parquet": ""}

_FILE_SUFFIXES: Final = ("", ".wal", ".wal.checkpoint", ".wal.recovery")
"""The warehouse's file and what DuckDB keeps beside it."""

_shared: dict[tuple[Path, str], duckdb.DuckDBPyConnection] = {}
_shared_guard = threading.Lock()


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
    """An instance of its own that sees the user's source tables as well; close it after the session.

    Raises:
        FailedError: a source table cannot be read.
    """
    engine = _open(path, memory_limit)
    try:
        _attach_sources(engine, sources)
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
    engine.execute("SET lock_configuration = true")


def _attach_sources(engine: duckdb.DuckDBPyConnection, sources: Iterable[SourceTable]) -> None:
    attached: set[str] = set()
    for source in sources:
        if source.database not in attached:
            engine.execute(f"ATTACH ':memory:' AS {quoted(source.database)}")
            attached.add(source.database)
        schema = f"{quoted(source.database)}.{quoted(source.schema)}"
        engine.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        reader = "read_parquet" if source.path.suffix.lower() == ".parquet" else "read_csv"
        try:
            engine.execute(
                f"CREATE VIEW {schema}.{quoted(source.name)} AS "
                f"SELECT * FROM {reader}({literal(str(source.path))}{_READER_OPTIONS[reader]})"
            )
        except duckdb.Error as error:
            raise FailedError(
                f"The source table {'.'.join(source.full_name)} cannot be read from {source.path.name} "
                f"({type(error).__name__}): it must be UTF-8 with a header line."
            ) from None
