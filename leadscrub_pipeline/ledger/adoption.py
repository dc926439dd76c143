"""Lookups that an older system made and paid for: one row a person, at no cost and without an answer.

They bar a new request for as long as an answer of ours would. Reading the older system's
tables does not belong here.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from leadscrub_pipeline.ledger import tables
from leadscrub_pipeline.ledger.controls import set_control
from leadscrub_pipeline.ledger.tables import ADOPTED, controls, lookups
from leadscrub_pipeline.ledger.units import MICROS_PER_DAY

NOTHING: Final = "none"
"""Value of the control when the operator starts afresh."""
UNDER_WAY: Final = "under_way"
"""Value of the control until an adoption has come to its end."""
State = Literal["decided", "under_way", "undecided"]


class OldLookup(NamedTuple):
    """What an older system knew of a person at one time, in microseconds; None when it did not say when."""

    person_key: str
    partition_key: str
    asked_at: int | None
    outcome: Literal["hit", "miss"]


class CacheLife(NamedTuple):
    """Days."""

    hit: int
    miss: int

    def end(self, outcome: str, asked_at: int) -> int:
        return asked_at + (self.hit if outcome == tables.HIT else self.miss) * MICROS_PER_DAY


class _Time(NamedTuple):
    """The lookup that bars longest counts; of two, the hit, then the newer."""

    expires_at: int
    is_hit: bool
    asked_at: int


def adopt(connection: Connection, found: Iterable[OldLookup], *, key_version: int, life: CacheLife, now: int) -> None:
    """Write one adopted lookup for each person, or bring it up to date; the same again changes nothing.

    What was asked at an unknown time counts as asked now, and stays so: nobody is paid for
    twice because a date was missing.
    """
    best: dict[str, tuple[_Time, OldLookup]] = {}
    for old in found:
        time = _time(old, life, now)
        if old.person_key not in best or time > best[old.person_key][0]:
            best[old.person_key] = (time, old)
    known = _known(connection, list(best))
    new: list[dict[str, Any]] = []
    longer: list[dict[str, Any]] = []
    for key, (time, old) in best.items():
        row = known.get(key)
        if row is None:
            new.append(_row(old, time, key_version=key_version, life=life))
        elif old.asked_at is not None and time > _Time(row.expires_at, row.state == tables.HIT, row.settled_at):
            longer.append({f"new_{name}": value for name, value in _times(old, time).items()} | {"id": row.lookup_id})
    if new:
        connection.execute(insert(lookups), new)
    if longer:
        connection.execute(_PROLONG, longer)


def note_adoption(connection: Connection, value: str, *, now: int) -> None:
    set_control(connection, ADOPTED, value, now=now)


def state(connection: Connection) -> State:
    """Whether lookups were made or adopted here, or an operator said that there is nothing to adopt."""
    value = connection.execute(select(controls.c.value).where(controls.c.name == ADOPTED)).scalar_one_or_none()
    if value == UNDER_WAY:
        return "under_way"
    if value is not None or connection.execute(select(lookups.c.lookup_id).limit(1)).first() is not None:
        return "decided"
    return "undecided"


def _known(connection: Connection, keys: Sequence[str]) -> dict[str, Any]:
    rows = connection.execute(
        select(lookups.c.lookup_id, lookups.c.person_key, lookups.c.state, lookups.c.settled_at, lookups.c.expires_at)
        .where(lookups.c.person_key.in_(keys), lookups.c.provider == ADOPTED, lookups.c.endpoint == ADOPTED)
        .order_by(lookups.c.is_current, lookups.c.expires_at)
    )
    return {row.person_key: row for row in rows}


def _time(old: OldLookup, life: CacheLife, now: int) -> _Time:
    asked_at = now if old.asked_at is None else min(old.asked_at, now)
    return _Time(life.end(old.outcome, asked_at), old.outcome == tables.HIT, asked_at)


def _times(old: OldLookup, time: _Time) -> dict[str, Any]:
    return {
        "partition_key": old.partition_key,
        "state": old.outcome,
        "claimed_at": time.asked_at,
        "sent_at": time.asked_at,
        "settled_at": time.asked_at,
        "expires_at": time.expires_at,
    }


_PROLONG: Final = (
    update(lookups)
    .where(lookups.c.lookup_id == bindparam("id"))
    .values(
        {
            lookups.c[name]: bindparam(f"new_{name}")
            for name in ("partition_key", "state", "claimed_at", "sent_at", "settled_at", "expires_at")
        }
    )
)


def _row(old: OldLookup, time: _Time, *, key_version: int, life: CacheLife) -> dict[str, Any]:
    return {
        "lookup_id": hashlib.sha256(f"{ADOPTED}|{old.person_key}".encode()).hexdigest()[:32],
        "person_key": old.person_key,
        "key_version": key_version,
        "provider": ADOPTED,
        "endpoint": ADOPTED,
        "purpose": ADOPTED,
        "glba": "",
        "dppa": "",
        "scope": "*",
        "is_current": True,
        "owner": ADOPTED,
        "request_number": 0,
        "run_id": ADOPTED,
        "hit_days": life.hit,
        "miss_days": life.miss,
        "price_micros": 0,
        "cost_micros": 0,
        "reason": ADOPTED,
        **_times(old, time),
    }
