"""What a next version of the list may not do, and what is said about it. Reading and writing lists is building.py's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from leadscrub_pipeline.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from leadscrub_pipeline.dnc.change_lists import Changes
    from leadscrub_pipeline.dnc.list_files import ListFacts, SourceFacts

Kind = Literal["full", "changes", "import"]

_FEW_NUMBERS: Final = 1_000
"""Of an area code with so few numbers a share says nothing."""
_BETWEEN_DOWNLOADS: Final = timedelta(hours=24)
"""The FTC gives one download in so many hours."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a next version may not do without being allowed to."""

    shrink_share: float
    """Share of its numbers that the list, or an area code of it, may lose."""
    reject_share: float
    """Share of a source's lines that may be no number."""
    gap: timedelta
    """Time without a change between the list in place and the first change of a change list."""
    keep: timedelta
    """How long an old version can be asked about."""


@dataclass(frozen=True, slots=True)
class Order:
    """A next version that somebody asks for."""

    kind: Kind
    sources: tuple[Path, ...]
    obtained_at: datetime
    """When the sources were downloaded, aware. The list is good for 31 days from then."""
    subscription: str | None = None
    """The subscription account number, masked."""
    allow_shrink: bool = False
    allow_gap: bool = False


def judge_order(order: Order, base: "ListFacts | None", now: datetime) -> list[str]:
    """Refuse an order that cannot be, and say what is odd about it.

    Raises:
        UsageError: no source.
        RefusedError: obtained in the future, or before the list in place.
    """
    if not order.sources:
        raise UsageError("No source is given. Name the downloaded files.")
    if order.obtained_at > now:
        raise RefusedError(f"A list cannot be obtained in the future: {order.obtained_at:%Y-%m-%d %H:%M}Z.")
    if base is None:
        return []
    if order.obtained_at < base.obtained_at:
        raise RefusedError(
            f"The list in place was obtained at {base.obtained_at:%Y-%m-%d %H:%M}Z, after this one. "
            "A list must not go back in time."
        )
    apart = order.obtained_at - base.obtained_at
    if timedelta(0) < apart < _BETWEEN_DOWNLOADS:
        hours = apart.total_seconds() / 3600
        return [f"The downloads are {hours:.0f} hours apart; the FTC allows one in 24. Is the time right?"]
    return []


def judge_source(source: "SourceFacts", limits: Limits) -> None:
    """Refuse a source of which too many lines are no number."""
    rejected = sum(source.rejected.values())
    if rejected > limits.reject_share * source.lines or (rejected and rejected == source.lines):
        raise RefusedError(
            f"Of {source.lines:,} lines of {source.name}, {rejected:,} are no number ({_told(source.rejected)}): more "
            f"than a share of {limits.reject_share:g}. Look at the file, or raise DNC_MAX_REJECT_SHARE."
        )


def judge_changes(lists: Sequence["Changes"], base: "ListFacts", limits: Limits, order: Order) -> None:
    """Refuse change lists that do not follow the list in place, one on the other, without a gap.

    Raises:
        RefusedError: a list is empty, older than the list in place, or begins too long after what is known.
    """
    if order.allow_gap:
        return
    known = base.obtained_at
    for changes in lists:
        if changes.first_at is None or changes.last_at is None:
            raise RefusedError("A change list without a change is as likely cut off as true. --allow-gap takes it.")
        if changes.last_at > order.obtained_at:
            raise RefusedError(
                f"A change list has changes of {changes.last_at:%Y-%m-%d %H:%M}Z, after it was obtained. Give the "
                "right time with --obtained-at."
            )
        if changes.last_at <= known:
            raise RefusedError(
                f"A change list ends at {changes.last_at:%Y-%m-%d %H:%M}Z; the list in place has all changes until "
                f"{known:%Y-%m-%d %H:%M}Z. It was applied before, or is out of order."
            )
        if changes.first_at - known > limits.gap:
            raise RefusedError(
                f"There is a gap: changes are known until {known:%Y-%m-%d %H:%M}Z, and a change list begins at "
                f"{changes.first_at:%Y-%m-%d %H:%M}Z. Apply what is between, build a full list, or use --allow-gap."
            )
        known = changes.last_at


def judge_list(facts: "ListFacts", base: "ListFacts | None", limits: Limits, order: Order) -> None:
    """Refuse a list without numbers, and one that lost too many.

    Raises:
        RefusedError: the list, or an area code of it, is smaller than the limits allow.
    """
    if facts.rows == 0:
        raise RefusedError("The sources hold no number.")
    if base is None or order.allow_shrink:
        return
    _judge_loss("The list", base.rows, facts.rows, limits)
    for code, count in base.area_codes.items():
        if count >= _FEW_NUMBERS or code not in facts.area_codes:
            _judge_loss(f"Area code {code}", count, facts.area_codes.get(code, 0), limits)


def _judge_loss(what: str, before: int, after: int, limits: Limits) -> None:
    if before - after > limits.shrink_share * before:
        raise RefusedError(
            f"{what} would shrink from {before:,} numbers to {after:,}: more than a share of {limits.shrink_share:g}. "
            "A list that was cut off looks like that. If it is right, use --allow-shrink."
        )


def _told(rejected: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(rejected.items()))
