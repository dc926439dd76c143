"""What holds for every run on the ledger: whether lookups are paused, and the version of its person keys.

The controls are read in the transaction that grants lookups, so that a running step obeys at
its next claim. Who may set them is the command line's business.
"""

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.ledger.tables import controls, lookups
from leadscrub_pipeline.ledger.terms import LookupTerms
from leadscrub_pipeline.ledger.units import micros_to_time

PAUSED: Final = "paused"
KEY_VERSION: Final = "key_version"
UNDER_WAY: Final = 0
"""Key version of a ledger that is being rekeyed: no release may claim."""


class Pause(NamedTuple):
    since: datetime
    reason: str | None


def set_control(connection: Connection, name: str, value: str, *, now: int) -> None:
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(controls)
    statement = insert.values(name=name, value=value, set_at=now)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[controls.c.name], set_={"value": value, "set_at": now})
    )


def read_pause(connection: Connection) -> Pause | None:
    row = connection.execute(select(controls).where(controls.c.name == PAUSED)).one_or_none()
    return None if row is None else Pause(micros_to_time(row.set_at), row.value or None)


def end_pause(connection: Connection) -> bool:
    """Whether there was one."""
    return connection.execute(delete(controls).where(controls.c.name == PAUSED)).rowcount > 0


def key_version(connection: Connection) -> int | None:
    """The version of the person keys in the ledger; None in one that is older than versions."""
    value = connection.execute(select(controls.c.value).where(controls.c.name == KEY_VERSION)).scalar_one_or_none()
    return None if value is None else int(value)


def note_key_version(connection: Connection, *, code: int, now: int) -> None:
    """Write down the version of the keys where it is not: that of the oldest row, or the code's in an empty ledger."""
    if key_version(connection) is None:
        oldest = connection.execute(select(func.min(lookups.c.key_version))).scalar_one()
        set_control(connection, KEY_VERSION, str(code if oldest is None else oldest), now=now)


def require_key_version(connection: Connection, terms: LookupTerms) -> None:
    """A person under another version's key would be a stranger to the ledger, and paid for again.

    Raises:
        RefusedError: the ledger's person keys are of another version than the terms'.
    """
    found = key_version(connection)
    if found == UNDER_WAY:
        raise RefusedError(
            "The ledger's person keys are being carried over to another version, and that was not finished. "
            "Run leadscrub ledger rekey to its end, then run again."
        )
    if found is not None and found != terms.key_version:
        raise RefusedError(
            f"The ledger's person keys are of version {found} and this release makes version {terms.key_version}: "
            "people who are paid for would not be recognised. Run leadscrub ledger rekey, then run again."
        )
