"""Where a person stands with the ledger, and the pure rule that decides it from the rows there are.

Reading and writing rows does not belong here: the same rule serves the claim, which
writes, and the preview, which does not.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from leadscrub_pipeline.ledger import tables
from leadscrub_pipeline.ledger.terms import LookupTerms
from leadscrub_pipeline.ledger.units import MICROS_PER_DAY


@dataclass(frozen=True, slots=True)
class Cached:
    """Paid for and not expired. ``answer`` is the vendor's body; ``peek`` leaves it out."""

    lookup_id: str
    outcome: Literal["hit", "miss"]
    reason: str | None
    looked_up_at: datetime
    expires_at: datetime
    answer: dict[str, Any] | None
    parser_version: int | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """Ours to ask about: mark it sent, settle it, or release it."""

    lookup_id: str
    request_number: int


@dataclass(frozen=True, slots=True)
class Held:
    reason: Literal["unknown_outcome", "suspect_miss", "erased"]


@dataclass(frozen=True, slots=True)
class Busy:
    """Another owner is asking. Wait one lease, then defer the lead."""

    owner: str


@dataclass(frozen=True, slots=True)
class Capped:
    reason: Literal["run_cap", "daily_budget", "paused"]


@dataclass(frozen=True, slots=True)
class ToAsk:
    """Nobody is asking and nothing is paid for: a claim would make it ours, caps permitting."""

    request_number: int


Standing = Cached | Claimed | Held | Busy | Capped
Preview = Cached | Held | Busy | ToAsk


class Row(NamedTuple):
    """The part of a lookup that the rule needs; the columns of ``claims.ROW_COLUMNS``."""

    lookup_id: str
    person_key: str
    state: str
    suspicion: str | None
    owner: str
    claimed_at: int
    sent_at: int | None
    settled_at: int | None
    expires_at: int | None
    is_current: bool
    provider: str


class Served(NamedTuple):
    """The lookup whose answer serves the person."""

    lookup_id: str


def judge(
    rows: Sequence[Row], terms: LookupTerms, *, now: int, dead_owners: Collection[str] = ()
) -> Served | Held | Busy | ToAsk:
    """Decide for one person from all its rows under these terms; ``now`` in microseconds.

    A request of a dead owner counts as what a sweep would make of it: nothing when it was
    only claimed, unknown when it was sent.
    """
    live = [row for row in rows if _is_live_answer(row, now)]
    believed = [row for row in live if row.suspicion != tables.SUSPECT]
    if believed:
        # An adopted lookup has no answer to show, so one of our own is better, however old.
        best = max(believed, key=lambda row: (row.provider != tables.ADOPTED, row.settled_at or 0))
        return Served(best.lookup_id)
    for row in rows:
        if row.state in (tables.CLAIMED, tables.SENT) and row.owner not in dead_owners:
            return Busy(row.owner)
    if live:
        return Held("suspect_miss")
    unknowns = sum(_is_unknown(row, dead_owners) and _sent_within(row, terms.cache_days, now) for row in rows)
    if unknowns > terms.allowed_unknowns:
        return Held("unknown_outcome")
    return ToAsk(1 + sum(row.state != tables.CLAIMED and row.provider != tables.ADOPTED for row in rows))


def _is_live_answer(row: Row, now: int) -> bool:
    return (
        row.state in (tables.HIT, tables.MISS)
        and row.suspicion != tables.DISCARDED
        and row.expires_at is not None
        and row.expires_at > now
    )


def _is_unknown(row: Row, dead_owners: Collection[str]) -> bool:
    return row.state == tables.UNKNOWN or (row.state == tables.SENT and row.owner in dead_owners)


def _sent_within(row: Row, days: int, now: int) -> bool:
    return (row.sent_at or row.claimed_at) + days * MICROS_PER_DAY > now
