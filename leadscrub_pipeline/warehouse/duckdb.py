"""The embedded engine: one DuckDB file, attached as PROCESSED_DATA_DB.

One process may hold the file, readers included, so a session waits its turn
(duckdb_turns.py), is short, and is never open while a vendor is called. How instances are
locked down stands in duckdb_engine.py.
"""

import functools
import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import pyarrow as pa

from leadscrub_pipeline import failpoints, interrupts
from leadscrub_pipeline.domain.dialects import to_duckdb
from leadscrub_pipeline.domain.guard import guard
from leadscrub_pipeline.domain.scripts import LeadScript
from leadscrub_pipeline.errors import FailedError, UnavailableError, UsageError
from leadscrub_pipeline.warehouse import callable_phones
from leadscrub_pipeline.warehouse.arrow import stored
from leadscrub_pipeline.warehouse.duckdb_dialect import DuckdbDialect, output_type
from leadscrub_pipeline.warehouse.duckdb_engine import (
    engine_with_sources,
    give_memory_back,
    literal,
    shared_engine,
    show_source,
)
from leadscrub_pipeline.warehouse.duckdb_turns import tries_until, turn_at
from leadscrub_pipeline.warehouse.preparation import (
    SCHEMA_FACT,
    check_kind,
    declared_checksum,
    is_older,
    read_stamps,
    record,
    refuse_newer,
    refuse_unsafe,
    store_facts,
    table_changes,
    view_change,
    view_facts,
)
from leadscrub_pipeline.warehouse.protocol import OutputColumn
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, DATABASE, SCHEMA_VERSION, TABLES
from leadscrub_pipeline.warehouse.sources import Readable, SourceTable, find_sources, readable

_LONG_SECONDS: Final = 0.2
"""A session of less than this has not taken memory worth giving back, which itself takes a millisecond."""
_MISSING_NAME: Final = re.compile(
    r'(?:column|Table with name|function with name) "?([\w .$]+?)"? (?:not found|does not exist)'
)


class DuckdbSession:
    """One locked-down connection to the warehouse's file."""

    # 100,000 leads at once do not fit into 256 MB: a join pins the verdicts of all their phones.
    leads_at_a_time: int | None = 40_000
    load_rows = 1
    # What an UPDATE changes stays in memory until COMMIT (150,000 rows of the master table are too many for 256 MB),
    # and the columns of all row groups that it touches are compressed anew: 240,000 verdicts in six million took
    # twice the time of everything else.
    replaces_by_delete = True
    query_id: str | None = None

    def __init__(self, connection: duckdb.DuckDBPyConnection, warehouse: "DuckdbWarehouse") -> None:
        self._connection = connection
        self._warehouse = warehouse

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        with _interruptible(self._connection), _foreign_errors():
            result = self._connection.execute(sql, [stored(value) for value in params]).fetchone()
        return int(result[0]) if result and isinstance(result[0], int) else 0

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _interruptible(self._connection), _foreign_errors():
            return self._connection.execute(sql, [stored(value) for value in params]).fetchall()

    def table(self, sql: str, params: Sequence[object] = ()) -> pa.Table:
        with _interruptible(self._connection), _foreign_errors():
            return self._connection.sql(sql, params=[stored(value) for value in params]).to_arrow_table()

    def batches(self, select: str, params: Sequence[object], *, key: str, last: int, rows: int) -> Iterator[pa.Table]:
        for first in range(0, last, rows):
            yield self.table(
                f"SELECT * FROM ({select}) AS batch WHERE {key} > ? AND {key} <= ?",
                [*params, first, min(first + rows, last)],
            )

    def load(self, table: str, data: pa.Table) -> int:
        names = ", ".join(data.column_names)
        with _foreign_errors():
            self._connection.register("incoming", data)
            try:
                return self.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM incoming")
            finally:
                self._connection.unregister("incoming")

    def create_stage(self, name: str, schema: pa.Schema, *, temporary: bool = True) -> str:
        full_name = f"temp.main.{name}" if temporary else f"{DATABASE}.LEADSCRUB.{name}"
        columns = ", ".join(f"{field.name} {self._warehouse.dialect.stage_type(field.type)}" for field in schema)
        self.execute(f"CREATE OR REPLACE {'TEMP ' if temporary else ''}TABLE {full_name} ({columns})")
        return full_name

    def create_stage_as(
        self,
        name: str,
        select: str,
        params: Sequence[object] = (),
        *,
        script: bool = False,  # noqa: ARG002 - all that scripts may not do is turned off for the whole instance
    ) -> str:
        full_name = f"temp.main.{name}"
        self.execute(f"CREATE OR REPLACE TEMP TABLE {full_name} AS {select}", params)
        return full_name

    @contextmanager
    def stage(self, name: str, data: pa.Table) -> Iterator[str]:
        with _foreign_errors():
            self._connection.register(name, data)
        try:
            yield f"temp.main.{name}"
        finally:
            with suppress(duckdb.Error):
                self._connection.unregister(name)

    def drop_stage(self, full_name: str) -> None:
        self.execute(f"DROP TABLE IF EXISTS {full_name}")

    def compact(self) -> None:
        self.execute(f"FORCE CHECKPOINT {DATABASE}")

    def found_columns(self) -> dict[tuple[str, str], dict[str, str]]:
        found: dict[tuple[str, str], dict[str, str]] = {}
        for schema, table, column, data_type in self.rows(
            "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = ?",
            [DATABASE],
        ):
            found.setdefault((schema.upper(), table.upper()), {})[column.lower()] = data_type
        return found

    def stored_tables(self) -> dict[tuple[str, str], str]:
        """Our tables as the engine has them: the statement of each, by schema and name."""
        ours = {(table.schema, table.name) for table in TABLES}
        found = self.rows(
            "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = ?", [DATABASE]
        )
        tables = {(schema.upper(), name.upper()): sql for schema, name, sql in found}
        return {name: tables[name] for name in sorted(ours & set(tables))}

    def stored_view(self) -> str:
        schema, name = CALLABLE_PHONES.split(".")[1:]
        found = self.rows(
            "SELECT sql FROM duckdb_views() "
            "WHERE database_name = ? AND upper(schema_name) = ? AND upper(view_name) = ?",
            [DATABASE, schema, name],
        )
        return str(found[0][0]) if found else ""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._at_transaction("BEGIN TRANSACTION")
        try:
            yield
        except BaseException:
            with suppress(duckdb.Error, UnavailableError, FailedError):
                self._connection.execute("ROLLBACK")
            raise
        self._at_transaction("COMMIT")

    def _at_transaction(self, statement: str) -> None:
        """Not to be interrupted: nobody would know whether it was carried out."""
        with _foreign_errors():
            self._connection.execute(statement)

    def select_leads(self, script: LeadScript) -> tuple[str, tuple[OutputColumn, ...]]:
        warehouse = self._warehouse
        may_read = warehouse.readable
        guarded = guard(
            script,
            allowed_databases=may_read.databases,
            default_database=may_read.default_database,
            default_schema=may_read.default_schema,
        )
        sources = {source.full_name: source for source in warehouse.sources}
        ours = {(DATABASE, table.schema, table.name) for table in TABLES}
        for name in guarded.tables:
            if name in sources:
                show_source(self._connection, sources[name])
            elif name not in ours:
                raise UsageError(
                    f"Script {script.key} reads {'.'.join(name)}, which does not exist. "
                    f"Put {'/'.join(name)}.csv or .parquet under LEADSCRUB_SOURCES."
                )
        statement = to_duckdb(guarded)
        try:
            described = self._connection.execute(f"DESCRIBE {statement}").fetchall()
        except duckdb.Error as error:
            raise _script_error(script, error) from None
        return statement, tuple(OutputColumn(name, output_type(kind)) for name, kind, *_ in described)


def _script_error(script: LeadScript, error: duckdb.Error) -> FailedError:
    """An error that names what is missing, and never the text of the engine: that quotes values."""
    missing = (
        _MISSING_NAME.search(str(error))
        if isinstance(error, duckdb.BinderException | duckdb.CatalogException)
        else None
    )
    detail = f": {missing.group(1)!r} does not exist" if missing else ""
    return FailedError(
        f"Script {script.key} cannot be run by the embedded warehouse ({type(error).__name__}{detail}). "
        "Its columns and their types must fit the source tables."
    )


@contextmanager
def _foreign_errors() -> Iterator[None]:
    """DuckDB quotes values in its errors, so only the type of one leaves this module."""
    try:
        yield
    except duckdb.IOException as error:
        raise UnavailableError(
            f"The warehouse file cannot be read or written ({type(error).__name__}): "
            "check disk space and rights under LEADSCRUB_HOME."
        ) from None
    except duckdb.OutOfMemoryException:
        raise UnavailableError("The warehouse ran out of memory. Raise LEADSCRUB_DUCKDB_MEMORY.") from None
    except duckdb.Error as error:
        # A disk that is full at COMMIT is no IOException.
        if isinstance(error, duckdb.TransactionException) and "Could not write file" in str(error):
            raise UnavailableError(
                "The warehouse could not store a transaction, and nothing of it was stored: check disk space under "
                "LEADSCRUB_HOME."
            ) from None
        raise FailedError(f"The warehouse refused a statement ({type(error).__name__}).") from None


@contextmanager
def _interruptible(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """An interrupt stays one, and ends the statement.

    DuckDB forgets what the signal's handler raised and has an error, for which it waits until its other thread has
    come to the end of what it does, minutes maybe: that one looks at nothing but the connection's own interrupt.
    """
    with interrupts.at_once(), interrupts.ending(connection.interrupt):
        try:
            yield
        except (RuntimeError, duckdb.InterruptException) as error:
            if isinstance(error, duckdb.InterruptException) or str(error) == "Query interrupted":
                interrupts.check()
                raise KeyboardInterrupt from None
            raise


class DuckdbWarehouse:
    """PROCESSED_DATA_DB in one file, and the user's source tables beside it."""

    load_rows = DuckdbSession.load_rows

    def __init__(
        self,
        path: Path,
        *,
        kind: Literal["demo", "live"],
        sources_folder: Path | None,
        allowed_databases: Sequence[str] = (),
        default_database: str | None = None,
        default_schema: str | None = None,
        memory_limit: str = "256MB",
        lock_wait: float = 300.0,
    ) -> None:
        self.path = path.absolute()
        self.kind = kind
        self.dialect = DuckdbDialect()
        self.sources: tuple[SourceTable, ...] = ()
        self._sources_folder = sources_folder
        self._allowed_databases = tuple(allowed_databases)
        self._default_database = default_database
        self._default_schema = default_schema
        self._memory_limit = memory_limit
        self._lock_wait = lock_wait
        self._prepared = False

    @property
    def readable(self) -> Readable:
        return readable(
            self.sources,
            allowed=self._allowed_databases,
            database=self._default_database,
            schema=self._default_schema,
            is_embedded=True,
        )

    @contextmanager
    def session(self, *, scripts: bool = False, prepared: bool = True) -> Iterator[DuckdbSession]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            turn_at(self.path, wait=self._lock_wait, busy=self._busy),
            self._connection(with_sources=scripts) as connection,
        ):
            self._attach(connection, is_needed=prepared)
            try:
                session = DuckdbSession(connection, self)
                if prepared and not self._prepared:
                    _prepare(session, self.dialect, kind=self.kind)
                    failpoints.reached("prepare.after_commit")
                    self._prepared = True
                yield session
            finally:
                # The file is free for others as soon as it is detached.
                with suppress(duckdb.Error):
                    connection.execute(f"DETACH {DATABASE}")

    def prepare(self) -> None:
        self._prepared = False
        with self.session() as session:
            session.rows("SELECT 1")  # what is missing was made when it was opened

    @contextmanager
    def _connection(self, *, with_sources: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        self.sources = find_sources(self._sources_folder) if with_sources else ()
        if self.sources and self._sources_folder is not None:
            engine = engine_with_sources(self.path, self._memory_limit, self._sources_folder, self.sources)
            try:
                yield engine
            finally:
                engine.close()
            return
        connection = shared_engine(self.path, self._memory_limit).cursor()
        began = time.monotonic()
        try:
            yield connection
        finally:
            if time.monotonic() - began > _LONG_SECONDS:
                with suppress(duckdb.Error):
                    give_memory_back(connection, self._memory_limit)
            connection.close()

    def pages(self, select: str, params: Sequence[object], *, key: str, first: object, rows: int) -> Iterator[pa.Table]:
        last = first
        while True:
            with self.session() as session:
                page = session.table(
                    f"SELECT * FROM ({select}) AS page WHERE {key} > ? ORDER BY {key} LIMIT {rows}", [*params, last]
                )
            if page.num_rows:
                yield page
            if page.num_rows < rows:
                return
            last = page.column(key)[-1].as_py()

    def _busy(self) -> UnavailableError:
        return UnavailableError(
            f"The warehouse file was held by another process for {self._lock_wait:.0f} seconds (LEADSCRUB_LOCK_WAIT). "
            "Wait for that run to end, or close the program that has the file open."
        )

    def _attach(self, connection: duckdb.DuckDBPyConnection, *, is_needed: bool) -> None:
        if not is_needed and not self.path.exists():
            connection.execute(f"ATTACH ':memory:' AS {DATABASE}")  # to look at it makes no file
            return
        for _ in tries_until(time.monotonic() + self._lock_wait, self._busy):
            try:
                connection.execute(f"ATTACH {literal(str(self.path))} AS {DATABASE}")
            except duckdb.Error as error:
                if not isinstance(error, duckdb.IOException) or "lock" not in str(error):
                    raise UnavailableError(
                        f"The warehouse file {self.path.name} cannot be opened ({type(error).__name__}): "
                        "check disk space, rights, and that it is a DuckDB file of this version."
                    ) from None
            else:
                self.path.chmod(0o600)
                return


def _prepare(session: DuckdbSession, dialect: DuckdbDialect, *, kind: str) -> None:
    """Make what is missing, and refuse a table that is not as declared.

    Every step of a run comes here, so tables that are as they were last time are not looked
    at column by column: that takes DuckDB 14 ms.
    """
    with session.transaction():
        tables = session.stored_tables()
        stamps = read_stamps(session, tables)
        refuse_newer(stamps)
        older = is_older(stamps)
        if older or stamps.get("tables") != _checksum(tables):
            changes = table_changes(session.found_columns(), dialect, older=older)
            refuse_unsafe(changes)
            for change in changes:
                session.execute(change.statement)
            record(session, changes)
            tables = session.stored_tables()
        check_kind(session, stamps, kind)
        facts = view_facts(session, _view())
        if any(stamps.get(name) != value for name, value in facts.items()):
            change = view_change(_view())
            session.execute(change.statement)
            record(session, [change])
            facts = view_facts(session, _view())
        facts = {"schema_version": str(SCHEMA_VERSION), SCHEMA_FACT: _declared(), "tables": _checksum(tables), **facts}
        store_facts(session, stamps, facts)
        failpoints.reached("prepare.before_commit")


def _checksum(tables: dict[tuple[str, str], str]) -> str:
    return hashlib.sha256(repr(tables).encode()).hexdigest()


@functools.cache
def _view() -> str:
    return callable_phones.view_definition(DuckdbDialect())


@functools.cache
def _declared() -> str:
    return declared_checksum(DuckdbDialect())
