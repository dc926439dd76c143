"""The embedded engine: one DuckDB file, attached as PROCESSED_DATA_DB.

One process may hold the file, readers included, so a session waits its turn
(duckdb_turns.py), is short, and is never open while a vendor is called. How instances are
locked down stands in duckdb_engine.py.
"""

import functools
import hashlib
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import pyarrow as pa

from leadscrub_pipeline import failpoints, interrupts
from leadscrub_pipeline.domain.dialects import to_duckdb
from leadscrub_pipeline.domain.guard import guard
from leadscrub_pipeline.domain.scripts import LeadScript
from leadscrub_pipeline.errors import FailedError, RefusedError, UnavailableError, UsageError
from leadscrub_pipeline.warehouse import callable_phones
from leadscrub_pipeline.warehouse.arrow import stored
from leadscrub_pipeline.warehouse.duckdb_engine import engine_with_sources, literal, quoted, shared_engine, show_source
from leadscrub_pipeline.warehouse.duckdb_turns import turn_at
from leadscrub_pipeline.warehouse.protocol import OutputColumn, OutputType
from leadscrub_pipeline.warehouse.schema import (
    CALLABLE_PHONES,
    DATABASE,
    SCHEMA_VERSION,
    STAMP,
    TABLES,
    ColumnType,
    Table,
)
from leadscrub_pipeline.warehouse.sources import Readable, SourceTable, find_sources, readable

_TYPES: Final[dict[ColumnType, str]] = {
    "text": "VARCHAR",
    "bool": "BOOLEAN",
    "int": "BIGINT",
    "timestamp": "TIMESTAMP",
    "json": "JSON",
}
_ARROW_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int64(): "BIGINT",
    pa.timestamp("us"): "TIMESTAMP",
}
_INTEGERS: Final = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER"}
)
_ALL_NULL: Final = '"NULL"'
"""The type of a column that holds no value at all, as pandas writes it to Parquet."""
# Snowflake's INTEGER is a NUMBER(38, 0).
_WHOLE_DECIMAL: Final = re.compile(r"DECIMAL\(\d+,0\)")
_FLOATS: Final = frozenset({"FLOAT", "DOUBLE"})
_MISSING_NAME: Final = re.compile(
    r'(?:column|Table with name|function with name) "?([\w .$]+?)"? (?:not found|does not exist)'
)


class DuckdbDialect:
    """DuckDB's spelling of what the engines do not share."""

    def sha256(self, text: str) -> str:
        return f"sha256({text})"

    def to_json(self, text: str) -> str:
        return f"CAST({text} AS JSON)"

    def json_text(self, column: str, *path: str) -> str:
        return f"json_extract_string({column}, '$.{'.'.join(path)}')"

    def json_object(self, columns: Sequence[OutputColumn]) -> str:
        arguments = ", ".join(f"{literal(column.name.lower())}, {_json_value(column)}" for column in columns)
        return f"CAST(json_object({arguments}) AS VARCHAR)"

    def row_number(self) -> str:
        return "ROW_NUMBER() OVER ()"

    def now(self) -> str:
        # Without the zone of the reader's session, and without an extension.
        return "make_timestamp(epoch_us(now()))"


def _json_value(column: OutputColumn) -> str:
    # JSON has no NaN and no infinity, and DuckDB writes them all the same, in lists and structs too.
    name = f"script.{quoted(column.name)}"
    match column.type:
        case "float":
            return f"CASE WHEN isfinite({name}) THEN {name} END"
        case "other":
            text = f"CAST(to_json({name}) AS VARCHAR)"
            return (
                f"CASE WHEN regexp_matches({text}, 'NaN|Infinity') THEN CAST(array_to_string(list_transform("
                f"regexp_extract_all({text}, {literal(_JSON_PIECE)}), "
                "lambda token: CASE WHEN token IN ('NaN', 'Infinity', '-Infinity') THEN 'null' ELSE token END), '') "
                f"AS JSON) ELSE to_json({name}) END"
            )
    return name


_JSON_PIECE: Final = r'"(?:[^"\\]|\\.)*"|NaN|-?Infinity|[^"NI-]+|.'
"""A string, a number that is none, or what stands between."""


class DuckdbSession:
    """One locked-down connection to the warehouse's file."""

    # 100,000 leads at once do not fit into 256 MB: a join pins the verdicts of all their phones.
    leads_at_a_time: int | None = 10_000

    def __init__(self, connection: duckdb.DuckDBPyConnection, warehouse: "DuckdbWarehouse") -> None:
        self._connection = connection
        self._warehouse = warehouse

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        with _interruptible(), _foreign_errors():
            result = self._connection.execute(sql, [stored(value) for value in params]).fetchone()
        return int(result[0]) if result and isinstance(result[0], int) else 0

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _interruptible(), _foreign_errors():
            return self._connection.execute(sql, [stored(value) for value in params]).fetchall()

    def table(self, sql: str, params: Sequence[object] = ()) -> pa.Table:
        with _interruptible(), _foreign_errors():
            return self._connection.sql(sql, params=[stored(value) for value in params]).to_arrow_table()

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
        columns = ", ".join(f"{field.name} {_ARROW_TYPES[field.type]}" for field in schema)
        self.execute(f"CREATE OR REPLACE {'TEMP ' if temporary else ''}TABLE {full_name} ({columns})")
        return full_name

    def create_stage_as(self, name: str, select: str, params: Sequence[object] = ()) -> str:
        full_name = f"temp.main.{name}"
        self.execute(f"CREATE OR REPLACE TEMP TABLE {full_name} AS {select}", params)
        return full_name

    def drop_stage(self, full_name: str) -> None:
        self.execute(f"DROP TABLE IF EXISTS {full_name}")

    def compact(self) -> None:
        self.execute(f"FORCE CHECKPOINT {DATABASE}")

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
        return statement, tuple(OutputColumn(name, _output_type(kind)) for name, kind, *_ in described)


def _output_type(kind: str) -> OutputType:
    if kind in ("VARCHAR", _ALL_NULL):
        return "text"
    if kind in _INTEGERS or _WHOLE_DECIMAL.fullmatch(kind):
        return "int"
    return "float" if kind in _FLOATS else "other"


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
def _interruptible() -> Iterator[None]:
    """An interrupt stays one. DuckDB ends its statement, forgets what the signal's handler raised, and has an error."""
    with interrupts.at_once():
        try:
            yield
        except RuntimeError as error:
            if str(error) == "Query interrupted":
                interrupts.check()
                raise KeyboardInterrupt from None
            raise


class DuckdbWarehouse:
    """PROCESSED_DATA_DB in one file, and the user's source tables beside it."""

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
        )

    @contextmanager
    def session(self, *, scripts: bool = False) -> Iterator[DuckdbSession]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            turn_at(self.path, wait=self._lock_wait, busy=self._busy),
            self._connection(with_sources=scripts) as connection,
        ):
            self._attach(connection)
            try:
                session = DuckdbSession(connection, self)
                if not self._prepared:
                    _prepare(session, kind=self.kind)
                    failpoints.reached("prepare.after_commit")
                    self._prepared = True
                yield session
            finally:
                # The file is free for others as soon as it is detached.
                with suppress(duckdb.Error):
                    connection.execute(f"DETACH {DATABASE}")

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
        try:
            yield connection
        finally:
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

    def _attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        deadline = time.monotonic() + self._lock_wait
        pause = 0.005
        while True:
            try:
                connection.execute(f"ATTACH {literal(str(self.path))} AS {DATABASE}")
            except duckdb.Error as error:
                if not isinstance(error, duckdb.IOException) or "lock" not in str(error):
                    raise UnavailableError(
                        f"The warehouse file {self.path.name} cannot be opened ({type(error).__name__}): "
                        "check disk space, rights, and that it is a DuckDB file of this version."
                    ) from None
                if time.monotonic() > deadline:
                    raise self._busy() from None
                # Spread, so that the waiters do not come all at once.
                interrupts.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - guards nothing
                pause = min(pause * 1.5, 0.5)
            else:
                self.path.chmod(0o600)
                return


def _prepare(session: DuckdbSession, *, kind: str) -> None:
    """Make what is missing, and refuse a table that is not as declared.

    Every step of a run comes here, so tables that are as they were last time are not looked
    at column by column: that takes DuckDB 14 ms.
    """
    with session.transaction():
        tables = _stored_tables(session)
        stamps = _read_stamps(session) if (STAMP.schema, STAMP.name) in tables else {}
        # The first release did not say which it was, and 0 is a warehouse that is made now.
        is_older = int(stamps.get("schema_version", "1" if stamps else "0")) < SCHEMA_VERSION
        if is_older or stamps.get("tables") != _checksum(tables):
            _make_and_check(session, is_older=is_older)
            tables = _stored_tables(session)
        _check_kind(session, stamps, kind)
        if is_older:
            _store_fact(session, "schema_version", str(SCHEMA_VERSION))
        _renew_view(session, stamps)
        if stamps.get("tables") != _checksum(tables):
            _store_fact(session, "tables", _checksum(tables))
        failpoints.reached("prepare.before_commit")


def _make_and_check(session: DuckdbSession, *, is_older: bool) -> None:
    """Make missing tables, add columns that an older release did not have, and refuse any other difference."""
    for schema in sorted({table.schema for table in TABLES}):
        session.execute(f"CREATE SCHEMA IF NOT EXISTS {DATABASE}.{schema}")
    found: dict[tuple[str, str], dict[str, str]] = {}
    for schema, table, column, data_type in session.rows(
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = ?",
        [DATABASE],
    ):
        found.setdefault((schema.upper(), table.upper()), {})[column.lower()] = data_type
    for declared in TABLES:
        columns = found.get((declared.schema, declared.name))
        if columns is None:
            body = ", ".join(f"{column.name} {_TYPES[column.type]}" for column in declared.columns)
            session.execute(f"CREATE TABLE {declared.full_name} ({body})")
            continue
        if is_older:
            columns |= _add_columns(session, declared, columns)
        _check_drift(declared, columns)


def _stored_tables(session: DuckdbSession) -> dict[tuple[str, str], str]:
    """Our tables as the engine has them: the statement of each, by schema and name."""
    ours = {(table.schema, table.name) for table in TABLES}
    found = session.rows("SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = ?", [DATABASE])
    tables = {(schema.upper(), name.upper()): sql for schema, name, sql in found}
    return {name: tables[name] for name in sorted(ours & set(tables))}


def _checksum(tables: dict[tuple[str, str], str]) -> str:
    return hashlib.sha256(repr(tables).encode()).hexdigest()


def _read_stamps(session: DuckdbSession) -> dict[str, str]:
    return dict(session.rows(f"SELECT name, value FROM {STAMP.full_name}"))


def _add_columns(session: DuckdbSession, declared: Table, found: dict[str, str]) -> dict[str, str]:
    """The columns that this release has and the table lacks, as they now are."""
    added = {column.name: _TYPES[column.type] for column in declared.columns if column.name not in found}
    for name, kind in added.items():
        session.execute(f"ALTER TABLE {declared.full_name} ADD COLUMN {name} {kind}")
    return added


def _store_fact(session: DuckdbSession, name: str, value: str) -> None:
    session.execute(f"DELETE FROM {STAMP.full_name} WHERE name = ?", [name])
    session.execute(f"INSERT INTO {STAMP.full_name} VALUES (?, ?)", [name, value])


def _check_drift(declared: Table, found: dict[str, str]) -> None:
    for column in declared.columns:
        there = found.get(column.name)
        if there != _TYPES[column.type]:
            state = "is missing" if there is None else f"has type {there}"
            raise RefusedError(
                f"Table {declared.full_name} was changed: column {column.name} {state}, and {_TYPES[column.type]} "
                f"is declared. Put it right by hand, for example: "
                f"ALTER TABLE {declared.full_name} ADD COLUMN {column.name} {_TYPES[column.type]}."
            )


def _check_kind(session: DuckdbSession, stamps: dict[str, str], kind: str) -> None:
    if "kind" not in stamps:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        session.execute(f"INSERT INTO {STAMP.full_name} VALUES ('kind', ?), ('created_at', ?)", [kind, now])
    elif stamps["kind"] != kind:
        raise RefusedError(
            f"This warehouse is stamped {stamps['kind']}, and the settings are for {kind}. "
            "Set LEADSCRUB_HOME to a folder of that kind; simulated answers never mix with real ones."
        )


def _renew_view(session: DuckdbSession, stamps: dict[str, str]) -> None:
    """Make the view when its definition is new, and again when somebody dropped or changed it."""
    definition, checksum = _view()
    wanted = {"callable_phones": checksum, "callable_phones_stored": _stored_view(session)}
    if any(stamps.get(name) != value for name, value in wanted.items()):
        session.execute(definition)
        for name, value in (wanted | {"callable_phones_stored": _stored_view(session)}).items():
            _store_fact(session, name, value)


@functools.cache
def _view() -> tuple[str, str]:
    """The view's statement and its checksum."""
    definition = callable_phones.view_definition(DuckdbDialect())
    return definition, callable_phones.checksum(definition)


def _stored_view(session: DuckdbSession) -> str:
    """The checksum of the view as the engine has it; empty when it has none."""
    schema, name = CALLABLE_PHONES.split(".")[1:]
    found = session.rows(
        "SELECT sql FROM duckdb_views() WHERE database_name = ? AND upper(schema_name) = ? AND upper(view_name) = ?",
        [DATABASE, schema, name],
    )
    return callable_phones.checksum(found[0][0]) if found else ""
