"""Requests of unknown outcome: which they are, and an operator's word on whether the vendor billed them.

The word changes money and who may be asked again, never an answer: there is none. Settling a
request while its process lives is the writer's business.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update

from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.ledger import budgets, tables
from leadscrub_pipeline.ledger.owners import OWNER_DIED
from leadscrub_pipeline.ledger.tables import lookups
from leadscrub_pipeline.ledger.units import MICROS_PER_DAY, micros_to_dollars, micros_to_time, time_to_micros

RESOLVED_BILLED: Final = "resolved_billed"
RESOLVED_NOT_BILLED: Final = "resolved_not_billed"
_CHUNK: Final = 1000

_asked_at: Final = func.coalesce(lookups.c.sent_at, lookups.c.claimed_at)
_undecided: Final = and_(lookups.c.state == tables.UNKNOWN, lookups.c.cost_micros.is_(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """How often a person of unknown outcome may be asked again: the terms of the runs to come."""

    allowed: int
    within_days: int
    across_purposes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """One request that may have been billed. Nothing in it tells who the person is."""

    lookup_id: str
    """The vendor knows the request by it, as ``referenceId``."""
    sent_at: datetime
    partition_key: str
    run_id: str
    reason: str | None
    price: Decimal
    repeats_left: int
    """How many more requests about the person the terms allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which of them; None stands for any."""

    since: datetime | None = None
    until: datetime | None = None
    partition_key: str | None = None
    run_id: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.since is not None:
            found.append(_asked_at >= time_to_micros(self.since))
        if self.until is not None:
            found.append(_asked_at < time_to_micros(self.until))
        if self.partition_key is not None:
            found.append(lookups.c.partition_key == self.partition_key)
        if self.run_id is not None:
            found.append(lookups.c.run_id == self.run_id)
        return found


def unknowns(
    connection: Connection, wanted: Wanted, repeats: Repeats, *, dead_owners: Collection[str], now: int
) -> list[Unknown]:
    """Those nobody has decided, the oldest first; what dead owners had sent is among them, swept or not."""
    rows = connection.execute(
        select(lookups)
        .where(or_(_undecided, _sent_by(dead_owners)), *wanted.conditions())
        .order_by(_asked_at, lookups.c.lookup_id)
    ).all()
    asked = _asked_by_person(connection, {row.person_key for row in rows}, repeats, dead_owners, now)
    return [
        Unknown(
            lookup_id=row.lookup_id,
            sent_at=micros_to_time(row.sent_at or row.claimed_at),
            partition_key=row.partition_key,
            run_id=row.run_id,
            reason=row.reason if row.state == tables.UNKNOWN else OWNER_DIED,
            price=micros_to_dollars(row.price_micros),
            repeats_left=max(repeats.allowed + 1 - asked[_asked_as(row, repeats)], 0),
        )
        for row in rows
    ]


def resolve(connection: Connection, lookup_ids: Sequence[str], *, billed: bool, now: int) -> int:
    """Decide these, whichever way they were decided before as long as they stayed unknown.

    Raises:
        UsageError: one of them is no request of unknown outcome; nothing is decided then.
    """
    wanted = list(dict.fromkeys(lookup_ids))
    rows = [
        row
        for some in _chunks(wanted)
        for row in connection.execute(
            select(lookups).where(lookups.c.lookup_id.in_(some), lookups.c.state == tables.UNKNOWN)
        )
    ]
    missing = len(wanted) - len(rows)
    if missing:
        found = {row.lookup_id for row in rows}
        first = next(lookup_id for lookup_id in wanted if lookup_id not in found)
        raise UsageError(
            f"{missing:,} of {len(wanted):,} are no lookups of unknown outcome, the first is {first[:40]!r}. Nothing "
            "was changed. See leadscrub ledger unknown list."
        )
    _decide(connection, rows, billed=billed, now=now)
    return len(rows)


def resolve_before(connection: Connection, moment: datetime, *, billed: bool, now: int) -> int:
    """Decide all that were sent before this time and that nobody has decided yet."""
    rows = connection.execute(select(lookups).where(_undecided, time_to_micros(moment) > _asked_at)).all()
    _decide(connection, rows, billed=billed, now=now)
    return len(rows)


def _decide(connection: Connection, rows: Sequence[Row[Any]], *, billed: bool, now: int) -> None:
    values: dict[str, Any] = {"reason": RESOLVED_BILLED, "cost_micros": lookups.c.price_micros}
    if not billed:
        values = {
            "reason": RESOLVED_NOT_BILLED,
            "state": tables.FAILED,
            "cost_micros": 0,
            "is_current": False,
            "settled_at": now,
        }
        budgets.give_back(connection, rows)
    for some in _chunks([row.lookup_id for row in rows]):
        connection.execute(update(lookups).where(lookups.c.lookup_id.in_(some)).values(values))


def _sent_by(dead_owners: Collection[str]) -> ColumnElement[bool]:
    return and_(lookups.c.state == tables.SENT, lookups.c.owner.in_(sorted(dead_owners)))


def _asked_by_person(
    connection: Connection, people: Collection[str], repeats: Repeats, dead_owners: Collection[str], now: int
) -> Counter[tuple[str, ...]]:
    """How many requests of unknown outcome each person has that still count; as ``standing.judge`` counts them."""
    asked: Counter[tuple[str, ...]] = Counter()
    for some in _chunks(sorted(people)):
        rows = connection.execute(
            select(lookups).where(
                lookups.c.person_key.in_(some),
                or_(lookups.c.state == tables.UNKNOWN, _sent_by(dead_owners)),
                now - repeats.within_days * MICROS_PER_DAY < _asked_at,
            )
        )
        asked.update(_asked_as(row, repeats) for row in rows)
    return asked


def _asked_as(row: Row[Any], repeats: Repeats) -> tuple[str, ...]:
    return (row.person_key, row.provider, row.endpoint, "" if repeats.across_purposes else row.purpose)


def _chunks(values: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(values)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
