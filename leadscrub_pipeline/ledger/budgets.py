"""Reservations against the caps of a run and of a UTC day. The counters move in the transaction that moves the lookups.

How high a cap is comes with the terms; which lookups are given up when a cap is reached is
the claim's decision.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from leadscrub_pipeline.ledger.standing import Capped
from leadscrub_pipeline.ledger.tables import budgets
from leadscrub_pipeline.ledger.terms import LookupTerms
from leadscrub_pipeline.ledger.units import MICROS_PER_DAY, micros_to_day


class Reserved(Protocol):
    """A row of ``ledger_lookups``, as far as its reservation goes."""

    @property
    def run_id(self) -> str: ...
    @property
    def claimed_at(self) -> int: ...
    @property
    def price_micros(self) -> int: ...


class Headroom(NamedTuple):
    lookups: int
    """How many more may be claimed, of those asked for."""
    reason: Capped
    """What the others meet."""


def run_scope(run_id: str) -> str:
    return f"run:{run_id}"


def day_scope(moment: int) -> str:
    return f"day:{micros_to_day(moment).isoformat()}"


def headroom(connection: Connection, terms: LookupTerms, *, wanted: int, now: int) -> Headroom:
    """How many of ``wanted`` lookups fit under both caps."""
    allowed, reason = wanted, Capped("run_cap")
    if terms.max_lookups_per_run is None and terms.daily_budget_micros is None:
        return Headroom(allowed, reason)
    run, day = run_scope(terms.run_id), day_scope(now)
    rows = connection.execute(select(budgets).where(budgets.c.scope.in_([run, day]))).all()
    reserved = {row.scope: row for row in rows}
    if terms.max_lookups_per_run is not None:
        used = reserved[run].lookups if run in reserved else 0
        allowed = min(allowed, max(terms.max_lookups_per_run - used, 0))
    if terms.daily_budget_micros is not None:
        spent = reserved[day].micros if day in reserved else 0
        affordable = max(terms.daily_budget_micros - spent, 0) // terms.price_micros
        if affordable < allowed:
            allowed, reason = affordable, Capped("daily_budget")
    return Headroom(allowed, reason)


def reserve(connection: Connection, terms: LookupTerms, *, lookups: int, now: int) -> None:
    _move(connection, Counter({(terms.run_id, now // MICROS_PER_DAY, terms.price_micros): lookups}), sign=1)


def give_back(connection: Connection, rows: Iterable[Reserved]) -> None:
    """Return what these lookups had reserved, to the run and the day that it was taken from."""
    alike = Counter((row.run_id, row.claimed_at // MICROS_PER_DAY, row.price_micros) for row in rows)
    _move(connection, alike, sign=-1)


def _move(connection: Connection, alike: Counter[tuple[str, int, int]], *, sign: int) -> None:
    totals: dict[str, tuple[int, int]] = {}
    for (run_id, day, price), count in alike.items():
        for scope in (run_scope(run_id), day_scope(day * MICROS_PER_DAY)):
            lookups, micros = totals.get(scope, (0, 0))
            totals[scope] = (lookups + sign * count, micros + sign * count * price)
    if not totals:
        return
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(budgets)
    statement = insert.values(scope=bindparam("scope"), lookups=bindparam("lookups"), micros=bindparam("micros"))
    statement = statement.on_conflict_do_update(
        index_elements=[budgets.c.scope],
        set_={
            "lookups": budgets.c.lookups + statement.excluded.lookups,
            "micros": budgets.c.micros + statement.excluded.micros,
        },
    )
    connection.execute(
        statement, [{"scope": scope, "lookups": n, "micros": m} for scope, (n, m) in sorted(totals.items())]
    )
