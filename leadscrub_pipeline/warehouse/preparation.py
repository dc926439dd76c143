"""What is declared against what a warehouse has: the tables, their columns, the view, and the facts in STAMP.

Works out what is missing and applies it, on either engine. When an engine comes here, and in
which transaction, is the engine's business; so is how it reads its own catalogue.
"""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.warehouse import callable_phones
from leadscrub_pipeline.warehouse.protocol import Columns, Dialect, Found, Session
from leadscrub_pipeline.warehouse.schema import (
    CALLABLE_PHONES,
    DATABASE,
    SCHEMA_CHANGES,
    SCHEMA_VERSION,
    STAMP,
    TABLES,
    Table,
)

_MICROSECOND: Final = timedelta(microseconds=1)
SCHEMA_FACT: Final = "declared_schema"
"""Name in STAMP under which stands the checksum of what was declared when the tables were last brought up to date."""


@dataclass(frozen=True, slots=True)
class Change:
    """One statement between the warehouse as it is and as declared; only an additive one is applied by the program."""

    target: str
    statement: str
    additive: bool
    reason: str

    @property
    def checksum(self) -> str:
        return checksum(self.statement)


def checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def pending_changes(session: Session, dialect: Dialect) -> list[Change]:
    """What is missing or different, in the order in which it can be applied; empty when all is as declared."""
    found = session.found_columns()
    return changes_to_make(session, dialect, found, read_stamps(session, found))


def changes_to_make(session: Session, dialect: Dialect, found: Found, stamps: Mapping[str, str]) -> list[Change]:
    """``pending_changes`` of a catalogue that was read already."""
    changes = table_changes(found, dialect, older=is_older(stamps))
    definition = callable_phones.view_definition(dialect)
    if any(stamps.get(name) != value for name, value in view_facts(session, definition).items()):
        changes.append(view_change(definition))
    return changes


def view_change(definition: str) -> Change:
    reason = "The view is missing, or its definition is not the declared one."
    return Change(CALLABLE_PHONES, definition, additive=True, reason=reason)


def apply(session: Session, dialect: Dialect, changes: Sequence[Change], *, kind: str) -> None:
    """Carry out additive changes and note in STAMP what the warehouse then is.

    Raises:
        RefusedError: one of the changes is not additive, or the warehouse is stamped as the other kind. Nothing is
            changed then.
    """
    refuse_unsafe(changes)
    found = session.found_columns()
    stamps = read_stamps(session, found)
    refuse_newer(stamps)
    if stamps:
        require_kind(stamps, kind)
    waiting: list[Change] = []
    has_record = (SCHEMA_CHANGES.schema, SCHEMA_CHANGES.name) in found
    for change in changes:
        try:
            session.execute(change.statement)
        except RefusedError as error:
            raise RefusedError(f"{change.target} could not be made or changed. {error}") from None
        waiting.append(change)
        has_record = has_record or change.target == SCHEMA_CHANGES.full_name
        # DDL commits by itself: each statement is recorded at once, and those before the record's own table with it.
        if has_record:
            record(session, waiting)
            waiting = []
    check_kind(session, stamps, kind)
    definition = callable_phones.view_definition(dialect)
    facts = {
        "schema_version": str(SCHEMA_VERSION),
        SCHEMA_FACT: declared_checksum(dialect),
        **view_facts(session, definition),
    }
    store_facts(session, stamps, facts)


def record(session: Session, changes: Sequence[Change]) -> None:
    """Write into SCHEMA_CHANGES what was carried out; times tell the order."""
    if not changes:
        return
    now = datetime.now(UTC).replace(tzinfo=None)
    names = ", ".join(SCHEMA_CHANGES.column_names)
    places = ", ".join("(?, ?, ?, ?, ?)" for _ in changes)
    values = [
        value
        for place, change in enumerate(changes)
        for value in (now + place * _MICROSECOND, SCHEMA_VERSION, change.target, change.statement, change.checksum)
    ]
    session.execute(f"INSERT INTO {SCHEMA_CHANGES.full_name} ({names}) VALUES {places}", values)


def table_changes(found: Found, dialect: Dialect, *, older: bool) -> list[Change]:
    """Schemas and tables to make, columns that an older release did not have, and what somebody else changed."""
    missing = [table for table in TABLES if (table.schema, table.name) not in found]
    changes = [
        Change(
            f"{DATABASE}.{schema}",
            f"CREATE SCHEMA IF NOT EXISTS {DATABASE}.{schema}",
            additive=True,
            reason=f"Schema {schema} has no table; perhaps it is missing, too.",
        )
        for schema in sorted({table.schema for table in missing} - {schema for schema, _ in found})
    ]
    for table in TABLES:
        columns = found.get((table.schema, table.name))
        if columns is None:
            reason = f"Table {table.full_name} is missing. {table.description}"
            changes.append(Change(table.full_name, _create_table(table, dialect), additive=True, reason=reason))
        else:
            changes += _column_changes(table, columns, dialect, older=older)
    return changes


def _create_table(table: Table, dialect: Dialect) -> str:
    body = ", ".join(f"{column.name} {dialect.column_type(column.type)}" for column in table.columns)
    # Without IF NOT EXISTS: a table of somebody else's, which the role does not see, must not pass for made.
    return f"CREATE TABLE {table.full_name} ({body})"


def _column_changes(table: Table, found: Columns, dialect: Dialect, *, older: bool) -> list[Change]:
    changes = []
    for column in table.columns:
        wanted = dialect.column_type(column.type)
        there = found.get(column.name)
        if there == wanted:
            continue
        statement = (
            f"ALTER TABLE {table.full_name} ADD COLUMN {column.name} {wanted}"
            if there is None
            else dialect.change_type(table.full_name, column.name, there, wanted)
        )
        if there is None and older:
            changes.append(Change(table.full_name, statement, additive=True, reason=f"Column {column.name} is new."))
            continue
        state = "is missing" if there is None else f"has type {there}"
        reason = (
            f"Table {table.full_name} was changed: column {column.name} {state}, and {wanted} is declared. "
            f"Put it right by hand, for example: {statement}."
        )
        changes.append(Change(table.full_name, statement, additive=False, reason=reason))
    return changes


def refuse_unsafe(changes: Iterable[Change]) -> None:
    """Let additive changes through.

    Raises:
        RefusedError: somebody changed a table in a way that no release did; the text has the statement to run by hand.
    """
    reasons = [change.reason for change in changes if not change.additive]
    if reasons:
        raise RefusedError(" ".join(reasons))


def declared_checksum(dialect: Dialect) -> str:
    """Of every statement that makes the declared schema on this engine."""
    return checksum("\n".join(declared_statements(dialect)))


def declared_statements(dialect: Dialect) -> list[str]:
    """What makes every table and the view, in an order in which it can be run."""
    return [*(_create_table(table, dialect) for table in TABLES), callable_phones.view_definition(dialect)]


def view_facts(session: Session, definition: str) -> dict[str, str]:
    """Checksums of the view as declared and as the engine has it; when one changed, the view is made anew."""
    stored = session.stored_view()
    return {
        "callable_phones": callable_phones.checksum(definition),
        "callable_phones_stored": callable_phones.checksum(stored) if stored else "",
    }


def read_stamps(session: Session, tables: Container[tuple[str, str]]) -> dict[str, str]:
    """What STAMP says; nothing when it is not among the tables that are there."""
    if (STAMP.schema, STAMP.name) not in tables:
        return {}
    return dict(session.rows(f"SELECT name, value FROM {STAMP.full_name}"))


def schema_version(stamps: Mapping[str, str]) -> int | None:
    """Version of the release that last brought the tables up to date; None when none did."""
    # The first release did not say which it was.
    return int(stamps.get("schema_version", "1")) if stamps else None


def is_older(stamps: Mapping[str, str]) -> bool:
    """Whether an older release made the tables, or nobody did."""
    return (schema_version(stamps) or 0) < SCHEMA_VERSION


def refuse_newer(stamps: Mapping[str, str]) -> None:
    """An older host would put its own view back, which may let more be called.

    Raises:
        RefusedError: a newer release made the tables.
    """
    version = schema_version(stamps)
    if version is not None and version > SCHEMA_VERSION:
        raise RefusedError(
            f"The tables of {DATABASE} were made by a newer release (schema version {version}; this one has "
            f"{SCHEMA_VERSION}). Bring this host's leadscrub_pipeline up to date."
        )


def check_kind(session: Session, stamps: Mapping[str, str], kind: str) -> None:
    """Stamp a new warehouse demo or live.

    Raises:
        RefusedError: it is stamped as the other kind.
    """
    if "kind" not in stamps:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        session.execute(
            f"INSERT INTO {STAMP.full_name} (name, value) VALUES ('kind', ?), ('created_at', ?)", [kind, now]
        )
        return
    require_kind(stamps, kind)


def require_kind(stamps: Mapping[str, str], kind: str) -> None:
    stamped = stamps.get("kind", "by nobody")
    if stamped != kind:
        raise RefusedError(
            f"This warehouse is stamped {stamped}, and the settings are for {kind}; simulated answers never mix with "
            "real ones. Set LEADSCRUB_HOME to a folder of that kind, or SNOWFLAKE_ACCOUNT to such an account."
        )


def store_facts(session: Session, stamps: Mapping[str, str], facts: Mapping[str, str]) -> None:
    """Write the facts that are not in STAMP as they should be."""
    for name, value in facts.items():
        if stamps.get(name) != value:
            session.execute(f"DELETE FROM {STAMP.full_name} WHERE name = ?", [name])
            session.execute(f"INSERT INTO {STAMP.full_name} (name, value) VALUES (?, ?)", [name, value])
