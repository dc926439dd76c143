"""Misses in a row: an account that answers "no match" to everything is noticed, and its misses are not believed.

The share of misses above which a run stops is the caller's setting; here are the outcomes
it looks at and the marks it sets.
"""

from typing import Any, Literal, cast

from sqlalchemy import Connection, Select, or_, select, update

from leadscrub_pipeline.ledger import tables
from leadscrub_pipeline.ledger.tables import lookups


def _newest(provider: str, endpoint: str, limit: int) -> Select[Any]:
    return (
        select(lookups.c.lookup_id, lookups.c.state, lookups.c.suspicion)
        .where(
            lookups.c.provider == provider,
            lookups.c.endpoint == endpoint,
            tables.IS_ANSWERED,
            or_(lookups.c.suspicion.is_(None), lookups.c.suspicion == tables.SUSPECT),
        )
        .order_by(lookups.c.settled_at.desc(), lookups.c.lookup_id)
        .limit(limit)
    )


def recent_outcomes(
    connection: Connection, *, provider: str, endpoint: str, limit: int
) -> list[Literal["hit", "miss"]]:
    """The newest outcomes first, of all runs, without those an operator has decided about."""
    rows = connection.execute(_newest(provider, endpoint, limit)).all()
    return [cast(Literal["hit", "miss"], row.state) for row in rows]


def unmarked(connection: Connection, *, provider: str, endpoint: str, limit: int) -> int:
    """How many misses there are among those outcomes that nobody has marked."""
    rows = connection.execute(_newest(provider, endpoint, limit)).all()
    return sum(row.state == tables.MISS and row.suspicion is None for row in rows)


def suspect(connection: Connection, *, provider: str, endpoint: str, limit: int) -> int:
    """Mark the misses among the newest outcomes; they serve nobody until an operator decides."""
    rows = connection.execute(_newest(provider, endpoint, limit)).all()
    misses = [row.lookup_id for row in rows if row.state == tables.MISS]
    if not misses:
        return 0
    return connection.execute(
        update(lookups).where(lookups.c.lookup_id.in_(misses)).values(suspicion=tables.SUSPECT)
    ).rowcount


def release_suspects(connection: Connection, *, provider: str, endpoint: str, believe: bool) -> int:
    """Believe them (they serve as misses until they expire) or discard them (the people are asked about again)."""
    verdict: dict[str, Any] = (
        {"suspicion": tables.BELIEVED} if believe else {"suspicion": tables.DISCARDED, "is_current": False}
    )
    return connection.execute(
        update(lookups)
        .where(lookups.c.provider == provider, lookups.c.endpoint == endpoint, lookups.c.suspicion == tables.SUSPECT)
        .values(verdict)
    ).rowcount
