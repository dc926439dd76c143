"""Requests as a trace and a safe-harbour pack tell them: whose, when, for which purpose, and what became of them.

Reads only, and never an answer. Sums of money by script and day stand in summary.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, func, or_, select

from leadscrub_pipeline.ledger import tables
from leadscrub_pipeline.ledger.evidence_roots import Seal
from leadscrub_pipeline.ledger.tables import lookups, reuses, roots
from leadscrub_pipeline.ledger.units import micros_to_dollars, micros_to_time, time_to_micros

PAGE_ROWS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Lookup:
    """One request, without its answer. Money in dollars, times in UTC."""

    lookup_id: str
    person_key: str
    provider: str
    endpoint: str
    purpose: str
    glba: str
    dppa: str
    state: str
    suspicion: str | None
    reason: str | None
    http_status: int | None
    price: Decimal
    cost: Decimal | None
    """Empty until the outcome is known."""
    claimed_at: datetime
    sent_at: datetime | None
    settled_at: datetime | None
    expires_at: datetime | None
    request_number: int
    run_id: str
    script: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Requests of one run, or of a time, that ended alike."""

    state: str
    reason: str | None
    purpose: str
    lookups: int
    cost: Decimal
    unknown_cost: Decimal
    """Dollars that may have been billed on top."""


class Seals:
    """Which seal covers a row of evidence."""

    def __init__(self, seals: Iterable[Seal]) -> None:
        self._of: dict[tuple[str, str], list[Seal]] = {}
        for seal in sorted(seals, key=lambda seal: seal.row_count):
            self._of.setdefault((seal.run_id, seal.asset), []).append(seal)

    def of(self, run_id: str | None, asset: str | None) -> list[Seal]:
        """The chain's seals, that over the fewest rows first."""
        return self._of.get((run_id or "", asset or ""), [])

    def covering(self, run_id: str, asset: str, sequence: int) -> Seal | None:
        """The first seal over the row, or None for one that is not sealed."""
        return next((seal for seal in self.of(run_id, asset) if seal.row_count >= sequence), None)


_COLUMNS: Final = tuple(
    lookups.c[name]
    for name in (
        "lookup_id",
        "person_key",
        "provider",
        "endpoint",
        "purpose",
        "glba",
        "dppa",
        "state",
        "suspicion",
        "reason",
        "http_status",
        "price_micros",
        "cost_micros",
        "claimed_at",
        "sent_at",
        "settled_at",
        "expires_at",
        "request_number",
        "run_id",
        "partition_key",
    )
)
_AT_RISK: Final = (tables.SENT, tables.UNKNOWN)


def lookups_with_ids(connection: Connection, lookup_ids: Sequence[str]) -> list[Lookup]:
    query = select(*_COLUMNS).where(lookups.c.lookup_id.in_(lookup_ids))
    return [_lookup(row) for row in connection.execute(query)]


def lookups_of_people(connection: Connection, person_keys: Sequence[str]) -> list[Lookup]:
    """All requests about these people, the oldest first."""
    query = select(*_COLUMNS).where(lookups.c.person_key.in_(person_keys))
    return [_lookup(row) for row in connection.execute(query.order_by(lookups.c.claimed_at, lookups.c.lookup_id))]


def outcomes(
    connection: Connection,
    *,
    run_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Outcome]:
    """Requests of a run, or claimed from ``since`` to before ``until``, by state, reason and purpose."""
    query = select(
        lookups.c.state,
        lookups.c.reason,
        lookups.c.purpose,
        func.count().label("lookups"),
        func.coalesce(func.sum(lookups.c.cost_micros), 0).label("cost"),
        func.coalesce(func.sum(lookups.c.price_micros).filter(lookups.c.state.in_(_AT_RISK)), 0).label("unknown"),
    ).group_by(lookups.c.state, lookups.c.reason, lookups.c.purpose)
    if run_id is not None:
        query = query.where(lookups.c.run_id == run_id)
    if since is not None:
        query = query.where(lookups.c.claimed_at >= time_to_micros(since))
    if until is not None:
        query = query.where(lookups.c.claimed_at < time_to_micros(until))
    found = [
        Outcome(
            row.state,
            row.reason,
            row.purpose,
            row.lookups,
            micros_to_dollars(int(row.cost)),
            micros_to_dollars(int(row.unknown)),
        )
        for row in connection.execute(query)
    ]
    return sorted(found, key=lambda outcome: (outcome.state, outcome.reason or "", outcome.purpose))


def reused_by_run(connection: Connection, run_id: str) -> int:
    """How many leads of the run were served by an answer that was paid for before."""
    query = select(func.coalesce(func.sum(reuses.c.lookups), 0)).where(reuses.c.run_id == run_id)
    return int(connection.execute(query).scalar_one())


def failed_page(
    connection: Connection, *, since: datetime, until: datetime, after: Lookup | None, rows: int = PAGE_ROWS
) -> list[Lookup]:
    """Requests claimed in this time that failed or whose outcome is unknown, in order, from ``after`` on."""
    query = (
        select(*_COLUMNS)
        .where(
            lookups.c.state.in_((tables.FAILED, tables.UNKNOWN, tables.SENT)),
            lookups.c.claimed_at >= time_to_micros(since),
            lookups.c.claimed_at < time_to_micros(until),
        )
        .order_by(lookups.c.claimed_at, lookups.c.lookup_id)
        .limit(rows)
    )
    if after is not None:
        last = time_to_micros(after.claimed_at)
        query = query.where(
            or_(
                lookups.c.claimed_at > last,
                and_(lookups.c.claimed_at == last, lookups.c.lookup_id > after.lookup_id),
            )
        )
    return [_lookup(row) for row in connection.execute(query)]


def seals_of_runs(connection: Connection, run_ids: Sequence[str]) -> Seals:
    found = connection.execute(select(roots).where(roots.c.run_id.in_(run_ids)).order_by(roots.c.entry))
    return Seals(Seal(*row) for row in found)


def _lookup(row: Row[Any]) -> Lookup:
    return Lookup(
        lookup_id=row.lookup_id,
        person_key=row.person_key,
        provider=row.provider,
        endpoint=row.endpoint,
        purpose=row.purpose,
        glba=row.glba,
        dppa=row.dppa,
        state=row.state,
        suspicion=row.suspicion,
        reason=row.reason,
        http_status=row.http_status,
        price=micros_to_dollars(row.price_micros),
        cost=None if row.cost_micros is None else micros_to_dollars(row.cost_micros),
        claimed_at=micros_to_time(row.claimed_at),
        sent_at=_time(row.sent_at),
        settled_at=_time(row.settled_at),
        expires_at=_time(row.expires_at),
        request_number=row.request_number,
        run_id=row.run_id,
        script=row.partition_key,
    )


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else micros_to_time(micros)
