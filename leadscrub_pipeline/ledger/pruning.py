"""What became of chains of evidence after the time they must be kept: which were deleted, when, and why.

The seals of a deleted chain stay for ever. Deleting the rows themselves is the warehouse's business, and comes after.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
from sqlalchemy import Connection, insert, select, update

from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.ledger.tables import chains, controls
from leadscrub_pipeline.ledger.units import micros_to_time

_CONTROL: Final = "pruned:"


@dataclass(frozen=True, slots=True)
class Pruning:
    """One decision to delete evidence; ``pruned_at`` is that of its chains."""

    pruned_at: datetime
    before: str
    chains: int
    rows: int
    reason: str | None


def mark_pruned(
    connection: Connection, pruned: Sequence[tuple[str, str, int]], *, before: str, reason: str | None, now: int
) -> Pruning:
    """Mark chains, given as run, asset and sealed rows, with the decision that they are deleted by.

    Raises:
        FailedError: a chain is not sealed at so many rows, or was pruned before.
    """
    for run_id, asset, row_count in pruned:
        marked = connection.execute(
            update(chains)
            .where(
                chains.c.run_id == run_id,
                chains.c.asset == asset,
                chains.c.row_count == row_count,
                chains.c.is_open.is_(False),
                chains.c.pruned_at.is_(None),
            )
            .values(pruned_at=now)
        )
        if marked.rowcount != 1:
            raise FailedError(
                f"The chain of evidence of run {run_id}, asset {asset}, changed meanwhile. "
                "Nothing was pruned; try again."
            )
    rows = sum(row_count for _, _, row_count in pruned)
    value = orjson.dumps({"before": before, "chains": len(pruned), "rows": rows, "reason": reason}).decode()
    connection.execute(insert(controls).values(name=f"{_CONTROL}{now}", value=value, set_at=now))
    return Pruning(micros_to_time(now), before, len(pruned), rows, reason)


def prunings(connection: Connection) -> list[Pruning]:
    """All of them, the oldest first."""
    found = connection.execute(
        select(controls.c.value, controls.c.set_at)
        .where(controls.c.name.startswith(_CONTROL, autoescape=True))
        .order_by(controls.c.set_at)
    )
    return [Pruning(pruned_at=micros_to_time(row.set_at), **orjson.loads(row.value)) for row in found]
