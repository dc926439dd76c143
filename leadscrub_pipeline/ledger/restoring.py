"""Bringing a backup into a ledger: an empty one, or one that has gone on meanwhile.

No request that either side knows is forgotten, and the more final state of each counts. What
the backup had in flight may have been sent after it was made, so it becomes unknown. Owners,
leases and reservations are not brought back: the first two are dead, the last is counted anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, or_, select, update

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.ledger import tables
from leadscrub_pipeline.ledger.backups import BACKED_UP
from leadscrub_pipeline.ledger.budgets import day_scope, run_scope
from leadscrub_pipeline.ledger.controls import KEY_VERSION, PAUSED, key_version
from leadscrub_pipeline.ledger.tables import (
    ADOPTED,
    budgets,
    chains,
    controls,
    lookups,
    reuses,
    roots,
    tombstones,
)
from leadscrub_pipeline.ledger.units import MICROS_PER_DAY, micros_to_time

RESTORED: Final = "restored"
NOT_RESTORED: Final = ("ledger_stamp", "ledger_owners", "ledger_partition_leases", "ledger_budgets")
_ROWS: Final = 1_000
_IN_FLIGHT: Final = (tables.CLAIMED, tables.SENT)
_PAID: Final = (tables.HIT, tables.MISS)

Row = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Restored:
    """What came from the backup."""

    added: int = 0
    """Requests that the ledger did not know."""
    updated: int = 0
    """Requests of which the backup knew a more final state."""
    unknown: int = 0
    """Those of the former that were in flight and are of unknown outcome now."""
    tombstones: int = 0
    seals: int = 0
    backed_up_at: datetime | None = None
    """When the backup was made, or its newest request when it is a plain copy of a ledger's file."""


def restore(connection: Connection, source: Connection, *, merge: bool, now: int) -> Restored:
    """Bring in everything of the source, in the connection's one writing transaction.

    Raises:
        RefusedError: the ledger has lookups and ``merge`` is not set, or the two do not come from one ledger.
    """
    is_empty = connection.execute(select(lookups.c.lookup_id).limit(1)).first() is None
    if not is_empty and not merge:
        raise RefusedError("This ledger has lookups already. Say --merge to bring the backup's in as well.")
    result = Restored(backed_up_at=_made_at(source))
    _restore_controls(connection, source, is_empty=is_empty)
    _restore_seals(connection, source, result)
    _restore_lookups(connection, source, result, now=now)
    _restore_tombstones(connection, source, result)
    _restore_reuses(connection, source)
    _count_reservations(connection)
    return result


def _made_at(source: Connection) -> datetime | None:
    made_at = source.execute(select(controls.c.set_at).where(controls.c.name == BACKED_UP)).scalar_one_or_none()
    if made_at is None:
        newest = (func.max(column) for column in (lookups.c.claimed_at, lookups.c.sent_at, lookups.c.settled_at))
        made_at = max((at for at in source.execute(select(*newest)).one() if at is not None), default=None)
    return None if made_at is None else micros_to_time(made_at)


# --- controls, tombstones, reuses --------------------------------------------------------


def _restore_controls(connection: Connection, source: Connection, *, is_empty: bool) -> None:
    theirs, ours = key_version(source), key_version(connection)
    if theirs is None:
        theirs = source.execute(select(func.max(lookups.c.key_version))).scalar_one()
    if theirs is not None and theirs != ours and not is_empty:
        raise RefusedError(
            f"The backup's person keys are of version {theirs}, the ledger's of version {ours}: the same person would "
            "count as two. Restore it into an empty ledger and run leadscrub ledger rekey there first."
        )
    there = {row.name for row in connection.execute(select(controls))}
    found = {row.name: row._asdict() for row in source.execute(select(controls)) if row.name != BACKED_UP}
    if not is_empty:
        found.pop(PAUSED, None)
    elif KEY_VERSION in found:
        connection.execute(delete(controls).where(controls.c.name == KEY_VERSION))
        there.discard(KEY_VERSION)
    elif theirs is not None:
        connection.execute(update(controls).where(controls.c.name == KEY_VERSION).values(value=str(theirs)))
    _insert(connection, controls, (row for name, row in found.items() if name not in there))


def _restore_tombstones(connection: Connection, source: Connection, result: Restored) -> None:
    """People who were erased stay erased, also when the backup is older and has their answers."""
    there = set(connection.execute(select(tombstones.c.person_key)).scalars())
    rows = (row._asdict() for row in source.execute(select(tombstones)) if row.person_key not in there)
    result.tombstones = _insert(connection, tombstones, rows)
    erased = lookups.c.person_key.in_(select(tombstones.c.person_key))
    connection.execute(
        update(lookups).where(erased, lookups.c.answer.is_not(None)).values(answer=None, parser_version=None)
    )


def _restore_reuses(connection: Connection, source: Connection) -> None:
    """Both sides counted the same reuses up to some day; the higher count has seen more of them."""
    ours = {_reuse(row): row.lookups for row in connection.execute(select(reuses))}
    for theirs in source.execute(select(reuses)):
        known = ours.get(_reuse(theirs))
        if known is None:
            connection.execute(insert(reuses).values(theirs._asdict()))
        elif theirs.lookups > known:
            same = (column == getattr(theirs, column.name) for column in reuses.primary_key)
            connection.execute(update(reuses).where(*same).values(lookups=theirs.lookups, micros=theirs.micros))


_reuse: Final = attrgetter(*(column.name for column in reuses.primary_key))


# --- evidence ----------------------------------------------------------------------------


def _restore_seals(connection: Connection, source: Connection, result: Restored) -> None:
    ours = connection.execute(select(roots.c.entry_hash).order_by(roots.c.entry)).scalars().all()
    theirs = [row._asdict() for row in source.execute(select(roots).order_by(roots.c.entry))]
    for entry, (one, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if one != other["entry_hash"]:
            raise RefusedError(
                f"The backup does not belong to this ledger: its seals of evidence differ from entry {entry:,} on. "
                "Restore it into an empty ledger of its own; nothing was changed."
            )
    result.seals = _insert(connection, roots, theirs[len(ours) :])
    key = (chains.c.run_id, chains.c.asset)
    there = {(row.run_id, row.asset): row for row in connection.execute(select(chains))}
    for row in source.execute(select(chains)):
        known = there.get((row.run_id, row.asset))
        if known is None:
            connection.execute(insert(chains).values(row._asdict()))
            continue
        further = row if row.row_count > known.row_count else known
        values = {"row_count": further.row_count, "root": further.root, "pruned_at": known.pruned_at or row.pruned_at}
        connection.execute(update(chains).where(key[0] == row.run_id, key[1] == row.asset).values(values))


# --- lookups -----------------------------------------------------------------------------


def finality(row: Row) -> tuple[int, int]:
    """How much is known of a request, and of what an operator thinks of its answer."""
    if row["state"] == tables.UNKNOWN:
        known = 2 if row["cost_micros"] is None else 3
    else:
        known = {tables.CLAIMED: 0, tables.SENT: 1, tables.FAILED: 4}.get(row["state"], 5)
    return known, {None: 0, tables.SUSPECT: 1}.get(row["suspicion"], 2)


def worth(row: Row) -> tuple[int, int, str]:
    """Which of two requests about a person is the current one: what is paid for, then what is in flight."""
    paid = row["state"] in _PAID and row["suspicion"] != tables.DISCARDED
    return 2 if paid else int(row["state"] in _IN_FLIGHT), row["settled_at"] or 0, row["lookup_id"]


def _restore_lookups(connection: Connection, source: Connection, result: Restored, *, now: int) -> None:
    rows = source.execute(select(lookups).order_by(lookups.c.lookup_id).execution_options(yield_per=_ROWS))
    for some in rows.mappings().partitions():
        _merge(connection, [dict(row) for row in some], result, now=now)


def _merge(connection: Connection, found: Sequence[Row], result: Restored, *, now: int) -> None:
    known = {row["lookup_id"]: row for row in _select(connection, lookups.c.lookup_id, found, "lookup_id")}
    current = {
        _seat(row): row for row in _select(connection, lookups.c.person_key, found, "person_key") if row["is_current"]
    }
    added: dict[str, Row] = {}
    updated: dict[str, Row] = {}
    unseated: list[str] = []
    for theirs in found:
        lookup_id = theirs["lookup_id"]
        ours = known.get(lookup_id)
        if ours is not None and finality(theirs) <= finality(ours):
            continue
        row = _settled(theirs, now)
        (added if ours is None else updated)[lookup_id] = row
        result.unknown += row["state"] != theirs["state"]
        sitting = current.get(_seat(row))
        if not row["is_current"]:
            if sitting is not None and sitting["lookup_id"] == lookup_id:
                del current[_seat(row)]
            continue
        if sitting is not None and sitting["lookup_id"] != lookup_id:
            loser = min(row, sitting, key=worth)
            loser["is_current"] = False
            if loser is sitting:
                unseated.append(sitting["lookup_id"])
        if row["is_current"]:
            current[_seat(row)] = row
    if unseated:
        connection.execute(update(lookups).where(lookups.c.lookup_id.in_(unseated)).values(is_current=False))
    if updated:
        connection.execute(_UPDATE, [_as_new(row) for row in updated.values()])
    result.updated += len(updated)
    result.added += _insert(connection, lookups, added.values())


def _select(connection: Connection, column: Any, found: Sequence[Row], name: str) -> list[Row]:  # noqa: ANN401 - a column
    wanted = sorted({row[name] for row in found})
    return [dict(row) for row in connection.execute(select(lookups).where(column.in_(wanted))).mappings()]


def _seat(row: Row) -> tuple[str, ...]:
    """What only one current request may have, as the index of the table says."""
    return row["person_key"], row["provider"], row["endpoint"], row["scope"]


def _settled(row: Row, now: int) -> Row:
    if row["state"] not in _IN_FLIGHT:
        return row
    sent_at = row["claimed_at"] if row["sent_at"] is None else row["sent_at"]
    return row | {"state": tables.UNKNOWN, "reason": RESTORED, "sent_at": sent_at, "settled_at": now}


def _as_new(row: Row) -> Row:
    return {f"new_{name}": value for name, value in row.items()}


_UPDATE: Final = (
    update(lookups)
    .where(lookups.c.lookup_id == bindparam("new_lookup_id"))
    .values({column: bindparam(f"new_{column.name}") for column in lookups.c if column.name != "lookup_id"})
)


def _insert(connection: Connection, table: Table, rows: Iterable[Row]) -> int:
    values = list(rows)
    if values:
        connection.execute(insert(table), values)
    return len(values)


# --- reservations ------------------------------------------------------------------------


def _count_reservations(connection: Connection) -> None:
    """What each run and day has reserved: everything that was, or may be, billed."""
    reserved = (
        lookups.c.state != tables.FAILED,
        or_(lookups.c.cost_micros.is_(None), lookups.c.cost_micros > 0, lookups.c.price_micros == 0),
        lookups.c.provider != ADOPTED,
    )
    day = (lookups.c.claimed_at.op("/")(MICROS_PER_DAY)).label("day")
    sums = (func.count().label("lookups"), func.sum(lookups.c.price_micros).label("micros"))
    runs = connection.execute(select(lookups.c.run_id, *sums).where(*reserved).group_by(lookups.c.run_id)).all()
    days = connection.execute(select(day, *sums).where(*reserved).group_by("day")).all()
    scopes = [(run_scope(row.run_id), row) for row in runs]
    scopes += [(day_scope(row.day * MICROS_PER_DAY), row) for row in days]
    connection.execute(delete(budgets))
    _insert(
        connection,
        budgets,
        ({"scope": scope, "lookups": row.lookups, "micros": int(row.micros)} for scope, row in scopes),
    )
