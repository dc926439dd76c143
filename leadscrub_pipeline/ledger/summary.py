"""What was spent: by script, day and outcome, and for one run or script. Reads only.

A lookup is charged to the script that claimed it first; whoever was served by it later is in
the reuses (reuses.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, Connection, func, literal_column, select

from leadscrub_pipeline.ledger import reuses, tables
from leadscrub_pipeline.ledger.reuses import Reuse
from leadscrub_pipeline.ledger.tables import lookups
from leadscrub_pipeline.ledger.units import MICROS_PER_DAY, micros_to_dollars, micros_to_time, time_to_micros


@dataclass(frozen=True, slots=True)
class Spend:
    """Requests of one script, UTC day (of the claim) and outcome."""

    partition_key: str
    day: date
    outcome: str
    """claimed, sent, hit, miss, failed or unknown"""
    lookups: int
    cost: Decimal
    """Dollars settled."""
    unknown_cost: Decimal
    """Dollars that may have been billed on top: requests sent and not settled, or of an unknown outcome that
    nobody has decided."""


@dataclass(frozen=True, slots=True)
class Summary:
    rows: tuple[Spend, ...]
    reuses: tuple[Reuse, ...] = ()

    @property
    def lookups(self) -> int:
        return sum(row.lookups for row in self.rows)

    @property
    def cost(self) -> Decimal:
        return sum((row.cost for row in self.rows), Decimal("0.00"))

    @property
    def unknown_cost(self) -> Decimal:
        return sum((row.unknown_cost for row in self.rows), Decimal("0.00"))

    @property
    def reused(self) -> int:
        """Leads served by a lookup that was paid for before."""
        return sum(reuse.lookups for reuse in self.reuses)

    @property
    def saved(self) -> Decimal:
        """Dollars that asking about them again would have cost."""
        return sum((reuse.saved for reuse in self.reuses), Decimal("0.00"))


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Requests of one run or script by state, and their cost in dollars.

    The bill lies between cost and cost + unknown_cost.
    """

    states: Mapping[str, int]
    cost: Decimal
    unknown_cost: Decimal

    def __getitem__(self, state: str) -> int:
        return self.states.get(state, 0)


_UNSETTLED_COST = func.coalesce(
    func.sum(lookups.c.price_micros).filter(
        lookups.c.state.in_([tables.SENT, tables.UNKNOWN]), lookups.c.cost_micros.is_(None)
    ),
    0,
)
_COST = func.coalesce(func.sum(lookups.c.cost_micros), 0)


def summary(connection: Connection, *, since: datetime | None, until: datetime | None) -> Summary:
    day = (lookups.c.claimed_at.op("/")(literal_column(str(MICROS_PER_DAY)))).label("day")
    # What an older system asked is in nobody's bill here.
    query = select(
        lookups.c.partition_key,
        day,
        lookups.c.state,
        func.count().label("lookups"),
        _COST.label("cost"),
        _UNSETTLED_COST.label("unknown"),
    )
    query = query.where(lookups.c.provider != tables.ADOPTED).group_by(lookups.c.partition_key, day, lookups.c.state)
    if since is not None:
        query = query.where(lookups.c.claimed_at >= time_to_micros(since))
    if until is not None:
        query = query.where(lookups.c.claimed_at < time_to_micros(until))
    rows = connection.execute(query.order_by(lookups.c.partition_key, day, lookups.c.state))
    return Summary(
        tuple(
            Spend(
                partition_key=row.partition_key,
                day=micros_to_time(row.day * MICROS_PER_DAY).date(),
                outcome=row.state,
                lookups=row.lookups,
                cost=micros_to_dollars(int(row.cost)),
                unknown_cost=micros_to_dollars(int(row.unknown)),
            )
            for row in rows
        ),
        reuses.read(connection, since=since, until=until),
    )


def lookups_of_runs(connection: Connection, run_ids: Sequence[str]) -> RunCounts:
    return _counts(connection, lookups.c.run_id.in_(run_ids))


def lookups_of_script(connection: Connection, partition_key: str) -> RunCounts:
    """Requests that all runs of a script made, without those an older system had asked."""
    return _counts(connection, lookups.c.partition_key == partition_key, lookups.c.provider != tables.ADOPTED)


def _counts(connection: Connection, *conditions: ColumnElement[bool]) -> RunCounts:
    rows = connection.execute(
        select(lookups.c.state, func.count().label("lookups"), _COST.label("cost"), _UNSETTLED_COST.label("unknown"))
        .where(*conditions)
        .group_by(lookups.c.state)
    ).all()
    return RunCounts(
        states={row.state: row.lookups for row in rows},
        cost=micros_to_dollars(sum(int(row.cost) for row in rows)),
        unknown_cost=micros_to_dollars(sum(int(row.unknown) for row in rows)),
    )
