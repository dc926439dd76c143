"""Answers that served a lead without being paid for again: who had paid, and who was served.

They are counted in the transaction of the claim that hands them out, by run, script and UTC
day. An answer that the run had bought itself is no reuse, and one that is not kept serves nobody.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.dialects import postgresql, sqlite

from leadscrub_pipeline.ledger.tables import reuses
from leadscrub_pipeline.ledger.terms import LookupTerms
from leadscrub_pipeline.ledger.units import MICROS_PER_DAY, micros_to_dollars, micros_to_time, time_to_micros


@dataclass(frozen=True, slots=True)
class Reuse:
    """Leads of one script that were served on one UTC day by what another script, or an earlier run, had paid."""

    partition_key: str
    paid_by: str
    """The script whose lookups they were; it bears their cost."""
    day: date
    lookups: int
    saved: Decimal
    """Dollars that asking again would have cost."""


def count(connection: Connection, served: Iterable[Row[Any]], terms: LookupTerms, *, now: int) -> None:
    """Count rows of ``ledger_lookups`` that serve a lead of this run; one statement, whatever their number."""
    payers = Counter(row.partition_key for row in served if row.run_id != terms.run_id and row.answer is not None)
    if not payers:
        return
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(reuses)
    statement = insert.values(
        [
            {
                "run_id": terms.run_id,
                "partition_key": terms.partition_key,
                "paid_by": payer,
                "day": now // MICROS_PER_DAY,
                "lookups": lookups,
                "micros": lookups * terms.price_micros,
            }
            for payer, lookups in sorted(payers.items())
        ]
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(reuses.primary_key.columns),
            set_={
                "lookups": reuses.c.lookups + statement.excluded.lookups,
                "micros": reuses.c.micros + statement.excluded.micros,
            },
        )
    )


def read(connection: Connection, *, since: datetime | None, until: datetime | None) -> tuple[Reuse, ...]:
    """Reuses by script, payer and day; of the days that begin in the span from ``since`` to before ``until``."""
    query = select(
        reuses.c.partition_key,
        reuses.c.paid_by,
        reuses.c.day,
        func.sum(reuses.c.lookups).label("lookups"),
        func.sum(reuses.c.micros).label("micros"),
    ).group_by(reuses.c.partition_key, reuses.c.paid_by, reuses.c.day)
    if since is not None:
        query = query.where(reuses.c.day * MICROS_PER_DAY >= time_to_micros(since))
    if until is not None:
        query = query.where(reuses.c.day * MICROS_PER_DAY < time_to_micros(until))
    rows = connection.execute(query.order_by(reuses.c.partition_key, reuses.c.paid_by, reuses.c.day))
    return tuple(
        Reuse(
            partition_key=row.partition_key,
            paid_by=row.paid_by,
            day=micros_to_time(row.day * MICROS_PER_DAY).date(),
            lookups=int(row.lookups),
            saved=micros_to_dollars(int(row.micros)),
        )
        for row in rows
    )
