"""The claim: for each person, the paid answer there is or the right to ask, decided in one transaction.

What the rows mean for a person is standing.py's rule. Requests that have been claimed are
moved on by the writer (writer.py).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from secrets import token_hex
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, bindparam, delete, insert, or_, select, update
from sqlalchemy import Row as SqlRow

from leadscrub_pipeline.ledger import budgets, controls, reuses, tables
from leadscrub_pipeline.ledger.owners import Owner, bury, dead_owners
from leadscrub_pipeline.ledger.standing import (
    Busy,
    Cached,
    Capped,
    Claimed,
    Held,
    Preview,
    Row,
    Served,
    Standing,
    ToAsk,
    judge,
)
from leadscrub_pipeline.ledger.tables import lookups, tombstones
from leadscrub_pipeline.ledger.terms import LookupTerms
from leadscrub_pipeline.ledger.units import micros_to_time

CHUNK: Final = 1000
"""Keys in one transaction: some ten milliseconds, so that no writer waits long for another."""

ROW_COLUMNS: Final = tuple(lookups.c[name] for name in Row._fields)

Unseal = Callable[[bytes], dict[str, Any]]


def claim(
    connection: Connection, keys: Sequence[str], terms: LookupTerms, *, owner: Owner, now: int, unseal: Unseal
) -> dict[str, Standing]:
    """Claim for distinct keys, at most ``CHUNK``, in a writing transaction. Under a cap the first keys are served."""
    controls.require_key_version(connection, terms)
    owner.renew_when_due(connection, now)
    bury(connection, dead_owners(connection, now, us=owner), now)
    rows = _rows_of(connection, keys, terms)
    erased = _erased(connection, keys)
    verdicts = {key: _ERASED if key in erased else judge(rows.get(key, ()), terms, now=now) for key in keys}
    wanted = {key: verdict for key, verdict in verdicts.items() if isinstance(verdict, ToAsk)}
    room = _room(connection, terms, wanted=len(wanted), now=now)
    granted = dict(list(wanted.items())[: room.lookups])
    claimed = _insert(connection, granted, rows, terms, owner=owner.owner, now=now)
    served = _served(connection, verdicts.values(), with_answers=True)
    reuses.count(connection, served, terms, now=now)
    answers = _answers(served, unseal)
    standings: dict[str, Standing] = {}
    for key, verdict in verdicts.items():
        if isinstance(verdict, ToAsk):
            standings[key] = claimed.get(key, room.reason)
        elif isinstance(verdict, Served):
            standings[key] = answers[verdict.lookup_id]
        else:
            standings[key] = verdict
    return standings


def peek(
    connection: Connection, keys: Sequence[str], terms: LookupTerms, *, owner: Owner, now: int
) -> dict[str, Preview]:
    """What a claim would find, caps aside; writes nothing and opens no answer."""
    controls.require_key_version(connection, terms)
    rows = _rows_of(connection, keys, terms)
    dead = dead_owners(connection, now, us=owner)
    erased = _erased(connection, keys)
    verdicts = {
        key: _ERASED if key in erased else judge(rows.get(key, ()), terms, now=now, dead_owners=dead) for key in keys
    }
    answers = _answers(_served(connection, verdicts.values(), with_answers=False), None)
    return {
        key: answers[verdict.lookup_id] if isinstance(verdict, Served) else verdict for key, verdict in verdicts.items()
    }


def release(connection: Connection, lookup_ids: Sequence[str], *, owner: Owner) -> int:
    """Give up claims of ours that were not sent; what was sent stays."""
    released = connection.execute(
        delete(lookups)
        .where(lookups.c.lookup_id.in_(lookup_ids), lookups.c.state == tables.CLAIMED, lookups.c.owner == owner.owner)
        .returning(lookups.c.run_id, lookups.c.claimed_at, lookups.c.price_micros)
    ).all()
    budgets.give_back(connection, released)
    return len(released)


def _rows_of(connection: Connection, keys: Sequence[str], terms: LookupTerms) -> Mapping[str, list[Row]]:
    """Every request about these people that counts under these terms, whoever made it."""
    statement = _PEOPLE if terms.reuse_across_purposes else _PEOPLE_OF_PURPOSE
    parameters = {
        "keys": list(keys),
        "provider": terms.provider,
        "endpoint": terms.endpoint,
        "purpose": terms.purpose.name,
    }
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for values in connection.execute(statement, parameters):
        row = Row(*values)
        rows[row.person_key].append(row)
    return rows


def _erased(connection: Connection, keys: Sequence[str]) -> Collection[str]:
    """Who must not be looked up again."""
    return set(connection.execute(_TOMBSTONES, {"keys": list(keys)}).scalars())


_ERASED: Final = Held("erased")
_TOMBSTONES: Final = select(tombstones.c.person_key).where(
    tombstones.c.person_key.in_(bindparam("keys", expanding=True))
)
_THEIRS: Final = lookups.c.person_key.in_(bindparam("keys", expanding=True))
_OF_VENDOR: Final = and_(lookups.c.provider == bindparam("provider"), lookups.c.endpoint == bindparam("endpoint"))
# Whom an older system looked up is paid for under any terms.
_ADOPTED: Final = lookups.c.provider == tables.ADOPTED
_PEOPLE: Final[Select[Any]] = select(*ROW_COLUMNS).where(_THEIRS, or_(_OF_VENDOR, _ADOPTED))
_PEOPLE_OF_PURPOSE: Final[Select[Any]] = select(*ROW_COLUMNS).where(
    _THEIRS, or_(and_(_OF_VENDOR, lookups.c.purpose == bindparam("purpose")), _ADOPTED)
)


def _room(connection: Connection, terms: LookupTerms, *, wanted: int, now: int) -> budgets.Headroom:
    if wanted and controls.read_pause(connection) is not None:
        return budgets.Headroom(0, Capped("paused"))
    return budgets.headroom(connection, terms, wanted=wanted, now=now)


def _insert(
    connection: Connection,
    granted: Mapping[str, ToAsk],
    rows: Mapping[str, list[Row]],
    terms: LookupTerms,
    *,
    owner: str,
    now: int,
) -> dict[str, Claimed]:
    if not granted:
        return {}
    superseded = [row.lookup_id for key in granted for row in rows.get(key, ()) if row.is_current]
    if superseded:
        connection.execute(update(lookups).where(lookups.c.lookup_id.in_(superseded)).values(is_current=False))
    claimed = {key: Claimed(_new_id(now), ask.request_number) for key, ask in granted.items()}
    same = {
        "key_version": terms.key_version,
        "provider": terms.provider,
        "endpoint": terms.endpoint,
        "purpose": terms.purpose.name,
        "glba": terms.purpose.glba,
        "dppa": terms.purpose.dppa,
        "scope": terms.scope,
        "state": tables.CLAIMED,
        "is_current": True,
        "owner": owner,
        "run_id": terms.run_id,
        "partition_key": terms.partition_key,
        "hit_days": terms.cache_days,
        "miss_days": terms.miss_days,
        "price_micros": terms.price_micros,
        "claimed_at": now,
    }
    connection.execute(
        insert(lookups),
        [
            {"lookup_id": one.lookup_id, "person_key": key, "request_number": one.request_number, **same}
            for key, one in claimed.items()
        ],
    )
    budgets.reserve(connection, terms, lookups=len(claimed), now=now)
    return claimed


def _new_id(now: int) -> str:
    """32 hex digits in the order of time, so that what a run moves on stands together in the ledger's file."""
    return f"{now:016x}{token_hex(8)}"


_SERVED_COLUMNS: Final = (
    lookups.c.lookup_id,
    lookups.c.run_id,
    lookups.c.partition_key,
    lookups.c.state,
    lookups.c.reason,
    lookups.c.settled_at,
    lookups.c.expires_at,
    lookups.c.parser_version,
)


def _served(
    connection: Connection, verdicts: Iterable[Served | Held | Busy | ToAsk], *, with_answers: bool
) -> Sequence[SqlRow[Any]]:
    served: Collection[str] = [verdict.lookup_id for verdict in verdicts if isinstance(verdict, Served)]
    if not served:
        return ()
    columns = (*_SERVED_COLUMNS, lookups.c.answer) if with_answers else _SERVED_COLUMNS
    return connection.execute(select(*columns).where(lookups.c.lookup_id.in_(served))).all()


def _answers(served: Iterable[SqlRow[Any]], unseal: Unseal | None) -> dict[str, Cached]:
    return {
        row.lookup_id: Cached(
            lookup_id=row.lookup_id,
            outcome=row.state,
            reason=row.reason,
            looked_up_at=micros_to_time(row.settled_at),
            expires_at=micros_to_time(row.expires_at),
            answer=unseal(row.answer) if unseal is not None and row.answer is not None else None,
            parser_version=row.parser_version,
        )
        for row in served
    }
