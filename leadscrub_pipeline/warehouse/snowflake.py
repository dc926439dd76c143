"""Snowflake as the warehouse: the same sessions, stages and pages as the embedded engine, over the connector.

Signing in stands in snowflake_connection.py, running a statement in snowflake_statements.py.
Tables are made by ``leadscrub db migrate``; a run makes nothing but stage tables.
"""

import hashlib
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import Dialect, TokenType

from leadscrub_pipeline.domain.guard import guard
from leadscrub_pipeline.domain.scripts import LeadScript
from leadscrub_pipeline.errors import FailedError, LeadscrubError, RefusedError
from leadscrub_pipeline.warehouse.preparation import (
    SCHEMA_FACT,
    apply,
    declared_checksum,
    pending_changes,
    refuse_newer,
    require_kind,
)
from leadscrub_pipeline.warehouse.protocol import OutputColumn
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, DATABASE, STAMP, TABLES
from leadscrub_pipeline.warehouse.snowflake_connection import Connect, NotThereError, QueryTag, SignIn
from leadscrub_pipeline.warehouse.snowflake_dialect import TEXT_LENGTH, SnowflakeDialect, inlined, output_type
from leadscrub_pipeline.warehouse.snowflake_loading import ROWS_A_LOAD, load
from leadscrub_pipeline.warehouse.snowflake_statements import SnowflakeConnection
from leadscrub_pipeline.warehouse.sources import Readable, readable

LEFTOVER_DAYS: Final = 2
"""Stage tables older than this are nobody's: no run takes so long."""

_STAGE: Final = re.compile(r"STAGE_\w+_(?P<day>\d{8})_(?P<owner>[0-9A-F]{12})_[0-9A-F]{12}")

_FACTS_AND_STAGES: Final = f"""
SELECT 'fact' AS what, name, value FROM {STAMP.full_name}
UNION ALL
SELECT 'stage' AS what, table_name, NULL FROM {DATABASE}.INFORMATION_SCHEMA.TABLES
WHERE table_schema = 'LEADSCRUB' AND STARTSWITH(table_name, 'STAGE_')
"""


class SnowflakeSession:
    """One connection under the writing role, and one under the reading role once a script is run."""

    leads_at_a_time: int | None = None
    load_rows = ROWS_A_LOAD
    replaces_by_delete = False

    def __init__(self, warehouse: "SnowflakeWarehouse", connection: SnowflakeConnection) -> None:
        self._warehouse = warehouse
        self._connection = connection
        self._reader: SnowflakeConnection | None = None
        self._made: list[str] = []
        self.query_id: str | None = None

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        cursor = self._connection.run(sql, params)
        self.query_id = cursor.sfqid
        count = cursor.rowcount
        return count if isinstance(count, int) and count > 0 else 0

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.run(sql, params)
        return [tuple(row) for row in self._connection.fetched(cursor.fetchall)]

    def table(self, sql: str, params: Sequence[object] = ()) -> pa.Table:
        cursor = self._connection.run(sql, params)
        return as_declared(
            self._connection.fetched(
                lambda: cursor.fetch_arrow_all(force_return_table=True, force_microsecond_precision=True)
            )
        )

    def load(self, table: str, data: pa.Table) -> int:
        return load(self._connection, table, data)

    def create_stage(self, name: str, schema: pa.Schema, *, temporary: bool = True) -> str:
        full_name = self._new_stage(name, temporary=temporary)
        columns = ", ".join(f"{field.name} {self._warehouse.dialect.stage_type(field.type)}" for field in schema)
        self._connection.run(f"CREATE TRANSIENT TABLE {full_name} ({columns}) DATA_RETENTION_TIME_IN_DAYS = 0")
        return full_name

    def create_stage_as(self, name: str, select: str, params: Sequence[object] = (), *, script: bool = False) -> str:
        full_name = self._new_stage(name, temporary=True)
        statement = f"CREATE TRANSIENT TABLE {full_name} DATA_RETENTION_TIME_IN_DAYS = 0 AS {select}"
        connection = self._script_connection() if script else self._connection
        self.query_id = connection.run(inlined(statement, params) if params else statement).sfqid
        return full_name

    @contextmanager
    def stage(self, name: str, data: pa.Table) -> Iterator[str]:
        full_name = self.create_stage(name, data.schema)
        self.load(full_name, data)
        yield full_name
        self.drop_stage(full_name)

    def drop_stage(self, full_name: str) -> None:
        self._connection.run(f"DROP TABLE IF EXISTS {full_name}")
        if full_name in self._made:
            self._made.remove(full_name)

    def compact(self) -> None:
        """Nothing to do: Snowflake keeps what was deleted for the table's retention time, and then lets it go."""

    def transaction(self) -> AbstractContextManager[None]:
        return self._connection.transaction()

    def select_leads(self, script: LeadScript) -> tuple[str, tuple[OutputColumn, ...]]:
        may_read = self._warehouse.readable
        guarded = guard(
            script,
            allowed_databases=may_read.databases,
            default_database=may_read.default_database,
            default_schema=may_read.default_schema,
        )
        # As it was written: the engine that reads it is the one it was written for.
        statement = f"\n{_statement_of(script)}\n"
        try:
            described = self._script_connection().describe(f"SELECT * FROM ({statement}) AS script")
        except (RefusedError, FailedError) as error:
            raise type(error)(_script_problem(script, error, guarded.tables)) from None
        return statement, tuple(OutputColumn(column.name, output_type(column)) for column in described)

    def found_columns(self) -> dict[tuple[str, str], dict[str, str]]:
        schemas = sorted({table.schema for table in TABLES})
        found: dict[tuple[str, str], dict[str, str]] = {}
        places = ", ".join("?" for _ in schemas)
        query = (
            "SELECT table_schema, table_name, column_name, data_type, numeric_precision, numeric_scale, "
            "character_maximum_length "
            f"FROM {DATABASE}.INFORMATION_SCHEMA.COLUMNS WHERE table_schema IN ({places})"
        )
        try:
            rows = self.rows(query, schemas)
        except NotThereError:
            raise NotThereError(
                f"{DATABASE} is not there, or SNOWFLAKE_ROLE lacks USAGE on it. sql/snowflake/2_database.sql makes it."
            ) from None
        for schema, table, column, *kind in rows:
            found.setdefault((schema, table), {})[column.lower()] = _declared_type(*kind)
        return found

    def stored_view(self) -> str:
        schema, name = CALLABLE_PHONES.split(".")[1:]
        found = self.rows(
            f"SELECT view_definition FROM {DATABASE}.INFORMATION_SCHEMA.VIEWS "
            "WHERE table_schema = ? AND table_name = ?",
            [schema, name],
        )
        return str(found[0][0] or "") if found else ""

    def facts_and_stages(self) -> tuple[dict[str, str], list[str]]:
        """What STAMP says, and the stage tables that are there, in one statement."""
        found = self.rows(_FACTS_AND_STAGES)
        return (
            {name: value for what, name, value in found if what == "fact"},
            [name for what, name, _ in found if what == "stage"],
        )

    def batches(
        self,
        select: str,
        params: Sequence[object],
        *,
        key: str,
        last: int,  # noqa: ARG002 - one statement gives all there is
        rows: int,
    ) -> Iterator[pa.Table]:
        return self.stream(f"SELECT * FROM ({select}) AS batch ORDER BY {key}", params, rows=rows)

    def stream(self, sql: str, params: Sequence[object], *, rows: int) -> Iterator[pa.Table]:
        """The rows of one SELECT as they arrive, in tables of so many rows."""
        cursor = self._connection.run(sql, params)
        waiting: list[pa.Table] = []
        count = 0
        batches = iter(cursor.fetch_arrow_batches(force_microsecond_precision=True))
        while (batch := self._connection.fetched(lambda: next(batches, None))) is not None:
            waiting.append(as_declared(batch))
            count += batch.num_rows
            if count < rows:
                continue
            together = pa.concat_tables(waiting)
            whole = count - count % rows
            for first in range(0, whole, rows):
                yield together.slice(first, rows)
            waiting, count = [together.slice(whole)], count - whole
        if count:
            yield pa.concat_tables(waiting)

    def close(self) -> None:
        """End the session. Stage tables that stay although they should go are found by the next run."""
        if self._connection.is_sound:
            with suppress(LeadscrubError):
                for name in list(self._made):
                    self.drop_stage(name)
        if self._reader is not None:
            self._reader.close()

    def _script_connection(self) -> SnowflakeConnection:
        if self._reader is None:
            self._reader = self._warehouse.new_connection(reader=True)
        return self._reader

    def _new_stage(self, name: str, *, temporary: bool) -> str:
        for leftover in self._warehouse.leftovers():
            self.drop_stage(leftover)
        full_name = self._warehouse.new_stage_name(name)
        if temporary:
            self._made.append(full_name)
        return full_name


class SnowflakeWarehouse:
    """PROCESSED_DATA_DB in a Snowflake account. Making one opens nothing."""

    load_rows = SnowflakeSession.load_rows

    def __init__(
        self,
        sign_in: SignIn,
        connect: Connect,
        *,
        kind: Literal["demo", "live"],
        allowed_databases: Sequence[str],
        tag: QueryTag | None = None,
    ) -> None:
        self.kind = kind
        self.dialect = SnowflakeDialect()
        self._sign_in = sign_in
        self._connect = connect
        self._allowed_databases = tuple(allowed_databases)
        self._tag = tag or QueryTag()
        # Who may take over what a dead run left: only the same asset of the same partition, which one run at a
        # time works on.
        scope = f"{self._tag.asset}|{self._tag.partition}" if self._tag.partition else uuid4().hex
        self._owner = hashlib.sha256(scope.encode()).hexdigest()[:12].upper()
        self._idle: list[SnowflakeConnection] = []
        self._idle_guard = threading.Lock()
        self._found_stages: list[str] | None = None
        self._prepared = False
        weakref.finalize(self, _close_all, self._idle)

    @property
    def readable(self) -> Readable:
        return readable(
            (),
            allowed=self._allowed_databases,
            database=self._sign_in.database,
            schema=self._sign_in.schema,
            is_embedded=False,
        )

    @contextmanager
    def session(self, *, scripts: bool = False, prepared: bool = True) -> Iterator[SnowflakeSession]:  # noqa: ARG002 - it signs in for scripts when one comes
        """Open a session.

        Raises:
            RefusedError: the tables are not those of this release, or the warehouse is of the other kind.
        """
        with self._idle_guard:
            connection = self._idle.pop() if self._idle else self.new_connection()
        session = SnowflakeSession(self, connection)
        try:
            connection.sign_in()
            if prepared and not self._prepared:
                self._check(session)
            yield session
        finally:
            session.close()
            if connection.is_sound:
                with self._idle_guard:
                    self._idle.append(connection)
            else:
                connection.close()

    def prepare(self) -> None:
        with self.session(prepared=False) as session:
            apply(session, self.dialect, pending_changes(session, self.dialect), kind=self.kind)

    def pages(self, select: str, params: Sequence[object], *, key: str, first: object, rows: int) -> Iterator[pa.Table]:
        with self.session() as session:
            yield from session.stream(
                f"SELECT * FROM ({select}) AS page WHERE {key} > ? ORDER BY {key}", [*params, first], rows=rows
            )

    def close(self) -> None:
        """Sign out. Connections that are left open are closed with the object that holds them."""
        _close_all(self._idle)

    def new_connection(self, *, reader: bool = False) -> SnowflakeConnection:
        return SnowflakeConnection(self._connect, self._sign_in, self._tag, reader=reader)

    def new_stage_name(self, name: str) -> str:
        """A name that nobody else has: two runs can never meet in one table."""
        day = f"{datetime.now(UTC):%Y%m%d}"
        plain = name.upper().removeprefix("STAGE_")
        return f"{DATABASE}.LEADSCRUB.STAGE_{plain}_{day}_{self._owner}_{uuid4().hex[:12].upper()}"

    def leftovers(self) -> list[str]:
        """Stage tables of dead runs, once: those of the same asset and partition, and old ones."""
        found, self._found_stages = self._found_stages or [], []
        oldest = f"{datetime.now(UTC) - timedelta(days=LEFTOVER_DAYS):%Y%m%d}"
        names = [match for name in found if (match := _STAGE.fullmatch(name))]
        left = [match for match in names if match["owner"] == self._owner or match["day"] < oldest]
        return [f"{DATABASE}.LEADSCRUB.{match.string}" for match in left]

    def _check(self, session: SnowflakeSession) -> None:
        try:
            facts, stages = session.facts_and_stages()
        except NotThereError:
            raise RefusedError(
                f"The tables of {DATABASE} cannot be read: run leadscrub db migrate, which makes them; or "
                "SNOWFLAKE_ROLE lacks USAGE on the database."
            ) from None
        refuse_newer(facts)
        if facts.get(SCHEMA_FACT) != declared_checksum(self.dialect):
            raise RefusedError(
                f"The tables of {DATABASE} are not those of this release. Run leadscrub db migrate; "
                "leadscrub db plan shows what it would do."
            )
        require_kind(facts, self.kind)
        if self._found_stages is None:
            self._found_stages = stages
        self._prepared = True


def _close_all(connections: list[SnowflakeConnection]) -> None:
    while connections:
        connections.pop().close()


def as_declared(found: pa.Table) -> pa.Table:
    """Arrow as the rest of the project has it: names in lower case, whole numbers of 64 bits, times in microseconds."""
    columns = [_as_declared(column) for column in found.columns]
    return pa.table(columns, names=[name.lower() for name in found.column_names])


def _as_declared(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):
        return pc.cast(column, pa.int64())
    if pa.types.is_timestamp(kind):
        return pc.cast(column, pa.timestamp("us"))
    return pc.cast(column, pa.string()) if pa.types.is_large_string(kind) else column


def _declared_type(data_type: str, precision: int | None, scale: int | None, length: int | None) -> str:
    """A column's type as SnowflakeDialect writes it; a length that holds ours is as good, and so is any fraction."""
    match data_type:
        case "TEXT":
            return "VARCHAR" if length is None or length >= TEXT_LENGTH else f"VARCHAR({length})"
        case "NUMBER":
            return f"NUMBER({precision},{scale})"
        case "TIMESTAMP_NTZ":
            return "TIMESTAMP_NTZ(6)"
    return data_type


def _statement_of(script: LeadScript) -> str:
    """The script's text without the semicolon at its end, and what comes after it."""
    tokens = Dialect.get_or_raise("snowflake").tokenize(script.sql)
    ends = [token.start for token in tokens if token.token_type == TokenType.SEMICOLON]
    return script.sql[: ends[0]] if ends else script.sql


def _script_problem(script: LeadScript, error: LeadscrubError, tables: Sequence[tuple[str, str, str]]) -> str:
    names = ", ".join(".".join(name) for name in tables)
    return (
        f"Script {script.key} cannot be run. {error} It reads {names or 'no table'}: SNOWFLAKE_READER_ROLE needs USAGE "
        "on their databases and schemas and SELECT on them, and the script's columns must be theirs."
    )
