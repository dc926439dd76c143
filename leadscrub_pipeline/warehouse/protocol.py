"""What the rest of the project asks of a warehouse engine.

Two engines stand behind it. It covers sessions, transactions, bulk loads and the few
spellings that differ between engines; statements themselves live with the table they
fill, in the subset of SQL both engines take.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol

import pyarrow as pa

from leadscrub_pipeline.domain.scripts import LeadScript
from leadscrub_pipeline.warehouse.schema import ColumnType

Columns = Mapping[str, str]
"""Types by column, in lower case and in the engine's spelling."""
Found = Mapping[tuple[str, str], Columns]
"""Columns by schema and table, in upper case."""

OutputType = Literal["text", "int", "float", "other"]


class OutputColumn(NamedTuple):
    """A column of a lead script's result, as the engine names it."""

    name: str
    type: OutputType


class Dialect(Protocol):
    """The spellings that differ between the engines. Arguments and results are SQL expressions."""

    def sha256(self, text: str) -> str: ...
    def to_json(self, text: str) -> str: ...
    def json_text(self, column: str, *path: str) -> str: ...
    def json_object(self, columns: Sequence[OutputColumn]) -> str: ...
    def row_number(self) -> str: ...
    def now(self) -> str: ...
    def column_type(self, kind: ColumnType) -> str: ...
    def create_or_replace_view(self, name: str) -> str: ...

    def change_type(self, table: str, column: str, there: str, wanted: str) -> str:
        """What somebody can run by hand to make another type of a column, its values kept."""
        ...


class Session(Protocol):
    """One connection. Timestamps go in and come out as naive UTC."""

    leads_at_a_time: int | None
    """So many leads, if they are not wide, one statement can take in the memory it has; None for any number."""
    load_rows: int
    """So many rows are worth a load of their own: gather them before ``load``."""
    replaces_by_delete: bool
    """Many rows become other ones by DELETE and INSERT, not by MERGE: in the time and memory that the engine has."""
    query_id: str | None
    """Of the last statement, in the engine's own history; None where it keeps none."""

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement and return the number of rows it changed."""
        ...

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...

    def table(self, sql: str, params: Sequence[object] = ()) -> pa.Table: ...

    def batches(self, select: str, params: Sequence[object], *, key: str, last: int, rows: int) -> Iterator[pa.Table]:
        """Rows of a SELECT by a unique whole number from 1 to ``last``, in bounded tables.

        Other statements of the session may be run between two tables.
        """
        ...

    def load(self, table: str, data: pa.Table) -> int:
        """Append to a table by column name."""
        ...

    def create_stage(self, name: str, schema: pa.Schema, *, temporary: bool = True) -> str:
        """Make an empty stage table, replacing one of that name, and return its full name."""
        ...

    def create_stage_as(self, name: str, select: str, params: Sequence[object] = (), *, script: bool = False) -> str:
        """Make a temporary stage table from a SELECT and return its full name.

        One that holds a lead script (``script``) is run with the rights that lead scripts have.
        """
        ...

    def stage(self, name: str, data: pa.Table) -> AbstractContextManager[str]:
        """Rows that statements within the block can read under the name that it gives."""
        ...

    def drop_stage(self, full_name: str) -> None: ...

    def compact(self) -> None:
        """Write to the file what was changed, and give back the pages of what was deleted, as far as the engine can."""
        ...

    def transaction(self) -> AbstractContextManager[None]: ...

    def found_columns(self) -> Found:
        """What the engine's catalogue says of all tables and views of the warehouse."""
        ...

    def stored_view(self) -> str:
        """The definition of CALLABLE_PHONES as the engine gives it; empty when there is none."""
        ...

    def select_leads(self, script: LeadScript) -> tuple[str, tuple[OutputColumn, ...]]:
        """Guard a lead script; return its statement for this engine and the columns it would give."""
        ...


class Warehouse(Protocol):
    """An engine. Making one opens nothing; its tables are checked at the first session."""

    load_rows: int
    """As that of its sessions."""

    @property
    def dialect(self) -> Dialect: ...

    def session(self, *, scripts: bool = False, prepared: bool = True) -> AbstractContextManager[Session]:
        """Open a session; only one made for scripts sees the source tables.

        One that need not be ``prepared`` comes to the tables as they are: missing, of another release, or changed.
        """
        ...

    def prepare(self) -> None:
        """Make what is missing, and note it.

        Raises:
            RefusedError: somebody changed a table in a way that no release did. Nothing is changed then.
        """
        ...

    def pages(self, select: str, params: Sequence[object], *, key: str, first: object, rows: int) -> Iterator[pa.Table]:
        """Rows of a SELECT in the order of one unique column, in bounded pages.

        The SELECT is wrapped, so it needs no WHERE on the key. No connection is held between
        pages of the embedded engine: the caller may take its time.
        """
        ...
