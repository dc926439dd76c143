"""How a warehouse stands against what is declared, and bringing it there: what ``leadscrub db`` shows and does.

What is missing and how it is made stands in preparation.py.
"""

from dataclasses import dataclass
from datetime import datetime

from leadscrub_pipeline.warehouse.preparation import (
    SCHEMA_FACT,
    Change,
    changes_to_make,
    checksum,
    declared_checksum,
    read_stamps,
    schema_version,
)
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import SCHEMA_CHANGES


@dataclass(frozen=True, slots=True)
class Applied:
    """A row of SCHEMA_CHANGES."""

    applied_at: datetime
    schema_version: int
    target: str
    statement: str
    checksum: str

    @property
    def is_intact(self) -> bool:
        return self.checksum == checksum(self.statement)


@dataclass(frozen=True, slots=True)
class Status:
    """A warehouse against what is declared."""

    kind: str | None
    """demo or live; None when it is not made yet."""
    schema_version: int | None
    changes: list[Change]
    """What is missing or different, in the order in which it can be applied."""
    applied: list[Applied]
    """What the program applied, oldest first."""
    is_recorded: bool
    """STAMP has the checksum of what is declared; without it no run begins on Snowflake."""

    @property
    def is_current(self) -> bool:
        return not self.changes and self.is_recorded


def read_status(warehouse: Warehouse) -> Status:
    """Look at all tables, columns and the view; changes nothing.

    Raises:
        RefusedError: the role may not see the database.
    """
    with warehouse.session(prepared=False) as session:
        found = session.found_columns()
        stamps = read_stamps(session, found)
        applied = []
        if (SCHEMA_CHANGES.schema, SCHEMA_CHANGES.name) in found:
            names = ", ".join(SCHEMA_CHANGES.column_names)
            rows = session.rows(f"SELECT {names} FROM {SCHEMA_CHANGES.full_name} ORDER BY applied_at")
            applied = [Applied(*row) for row in rows]
        changes = changes_to_make(session, warehouse.dialect, found, stamps)
    return Status(
        kind=stamps.get("kind"),
        schema_version=schema_version(stamps),
        changes=changes,
        applied=applied,
        is_recorded=stamps.get(SCHEMA_FACT) == declared_checksum(warehouse.dialect),
    )


def migrate(warehouse: Warehouse) -> list[Applied]:
    """Apply what is missing, as far as it only adds, and return what was applied.

    Raises:
        RefusedError: a table was changed in a way that no release did; the text has the statement to run by hand.
            Nothing is changed then.
    """
    before = len(read_status(warehouse).applied)
    warehouse.prepare()
    return read_status(warehouse).applied[before:]
