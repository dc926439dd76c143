"""Erasing a person: answers are blanked; key, cost and a tombstone stay, and the tombstone bars a new lookup.

What the warehouse holds of the person is erased there. Evidence of checks stays: the seller
must keep it for five years (16 CFR 310.5).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.ledger import tables
from leadscrub_pipeline.ledger.answers import Tombstone
from leadscrub_pipeline.ledger.owners import Owner, bury, dead_owners
from leadscrub_pipeline.ledger.sealing import Sealer
from leadscrub_pipeline.ledger.tables import lookups, tombstones
from leadscrub_pipeline.ledger.units import micros_to_time

_TIMES = ("claimed_at", "sent_at", "settled_at", "expires_at")


def erase(connection: Connection, keys: Mapping[str, int], *, owner: Owner, now: int) -> int:
    """Blank the answers of a person under all its keys (with their versions); how many there were.

    Raises:
        UnavailableError: a run is asking about this person right now.
    """
    bury(connection, dead_owners(connection, now, us=owner), now)
    theirs = lookups.c.person_key.in_(sorted(keys))
    in_flight = select(lookups.c.lookup_id).where(theirs, tables.IS_IN_FLIGHT)
    if connection.execute(in_flight).first() is not None:
        raise UnavailableError(
            "A run is asking about this person right now. Nothing was erased; try again when it ended."
        )
    there = {tombstone.person_key for tombstone in tombstones_of(connection, keys)}
    missing = [
        {"person_key": key, "key_version": version, "erased_at": now}
        for key, version in keys.items()
        if key not in there
    ]
    if missing:
        connection.execute(insert(tombstones), missing)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")
    blanked = connection.execute(
        update(lookups).where(theirs, lookups.c.answer.is_not(None)).values(answer=None, parser_version=None)
    )
    return blanked.rowcount


def tombstones_of(connection: Connection, keys: Collection[str]) -> list[Tombstone]:
    found = connection.execute(select(tombstones).where(tombstones.c.person_key.in_(sorted(keys))))
    return [Tombstone(row.person_key, row.key_version, row.erased_at) for row in found]


def history(connection: Connection, keys: Collection[str], sealer: Sealer) -> Sequence[dict[str, Any]]:
    """Everything the ledger holds about a person, the oldest request first, with its answers opened."""
    rows = connection.execute(
        select(lookups).where(lookups.c.person_key.in_(sorted(keys))).order_by(lookups.c.claimed_at)
    )
    return [
        {
            **{str(name): value for name, value in row.items()},  # the driver's names are no plain text
            **{name: None if row[name] is None else micros_to_time(row[name]) for name in _TIMES},
            "answer": None if row["answer"] is None else sealer.open(row["answer"]),
        }
        for row in rows.mappings()
    ]
