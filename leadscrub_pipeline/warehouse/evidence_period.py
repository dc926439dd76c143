"""The evidence of a period: what was checked, by which list versions, what stayed unknown, and every row in pages.

What a safe-harbour pack is made from; its files and its report are steps/evidence_pack.py.
Whether the evidence is sound is for evidence.py to say.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import pyarrow as pa

from leadscrub_pipeline.domain.verdicts import DNC, SOURCES, Reason
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse
from leadscrub_pipeline.warehouse.schema import PHONE_VERDICTS, SCRUB_EVIDENCE

PAGE_ROWS: Final = 50_000
MOST_DAYS: Final = 31
"""Age of a registry version on the day of a call (16 CFR 310.4(b)(3)(iv))."""

VENDOR_REASONS: Final = (
    Reason.TIMEOUT,
    Reason.VENDOR_ERROR,
    Reason.NOT_JSON,
    Reason.WRONG_SHAPE,
    Reason.WRONG_TYPE,
    Reason.MISSING_FROM_ANSWER,
    Reason.CONTRADICTORY_ANSWER,
    Reason.CONTROL_FAILED,
)
"""Reasons that are the vendor's doing and not the number's."""


@dataclass(frozen=True, slots=True)
class Period:
    """From ``since`` to before ``until``, both aware."""

    since: datetime
    until: datetime

    @property
    def params(self) -> list[object]:
        return [self.since, self.until]


_WHERE: Final = "e.checked_at >= ? AND e.checked_at < ?"
_OF: Final = f"FROM {SCRUB_EVIDENCE.full_name} AS e WHERE {_WHERE}"
_BY_VERDICT: Final = ", ".join(
    f"COUNT(CASE WHEN e.verdict = '{verdict}' THEN 1 END)" for verdict in ("listed", "clear", "unknown")
)


@dataclass(frozen=True, slots=True)
class Process:
    """The checks that one asset made in one run. Times as tables hold them, here and below."""

    run_id: str | None
    asset: str | None
    script: str | None
    script_hash: str | None
    purpose: str | None
    source: str | None
    started_at: datetime
    ended_at: datetime
    checks: int
    listed: int
    clear: int
    unknown: int
    first_sequence: int
    last_sequence: int
    with_hash: int
    """Rows that have a hash; those made before evidence was chained have none."""


@dataclass(frozen=True, slots=True)
class ListVersion:
    """A version of the registry, or the vendor's endpoint, and what was asked of it."""

    source: str
    version: str | None
    obtained_first: datetime | None
    obtained_last: datetime | None
    """Differs from the first only at a vendor, who is asked anew each time."""
    first_use: datetime
    last_use: datetime
    checks: int
    listed: int
    clear: int
    unknown: int
    last_clear: datetime | None

    @property
    def age_at_last_use(self) -> timedelta | None:
        """Of a registry version; a vendor's answer is new when it comes."""
        if self.source != DNC or self.obtained_first is None:
            return None
        return self.last_use - self.obtained_first

    @property
    def has_cleared_too_late(self) -> bool:
        """A number was told clear from a version that was too old to call by, or of unknown age."""
        if self.source != DNC or self.last_clear is None:
            return False
        return self.obtained_first is None or self.last_clear > self.obtained_first + timedelta(days=MOST_DAYS)


@dataclass(frozen=True, slots=True)
class UnknownReason:
    source: str
    reason: str | None
    checks: int
    phones: int
    answered_since: int
    """Of these numbers, how many have an answer of that source now."""
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Checks answered at one moment that stayed unknown for one reason of the vendor's: a batch, or part of one."""

    run_id: str
    asset: str
    script: str
    source: str
    reason: str
    checked_at: datetime
    checks: int


@dataclass(frozen=True, slots=True)
class PeriodFacts:
    checks: int
    phones: int
    phones_listed: int
    process: tuple[Process, ...]
    versions: tuple[ListVersion, ...]
    unknowns: tuple[UnknownReason, ...]
    unanswered: tuple[Unanswered, ...]
    kept_checks: int
    """Rows of evidence of all times."""
    oldest_check: datetime | None


_TOTALS: Final = (
    f"SELECT COUNT(*), COUNT(DISTINCT e.phone), COUNT(DISTINCT CASE WHEN e.verdict = 'listed' THEN e.phone END) {_OF}"
)

_PROCESS: Final = f"""
SELECT e.run_id, e.asset, e.partition_key, e.script_hash, e.purpose, e.source, MIN(e.checked_at), MAX(e.checked_at),
  COUNT(*), {_BY_VERDICT}, MIN(COALESCE(e.sequence, 0)), MAX(COALESCE(e.sequence, 0)),
  COUNT(e.row_hash)
{_OF}
GROUP BY e.run_id, e.asset, e.partition_key, e.script_hash, e.purpose, e.source
ORDER BY 7, 1, 2
"""

_VERSIONS: Final = f"""
SELECT e.source, e.list_version, MIN(e.obtained_at), MAX(e.obtained_at), MIN(e.checked_at), MAX(e.checked_at),
  COUNT(*), {_BY_VERDICT}, MAX(CASE WHEN e.verdict = 'clear' THEN e.checked_at END)
{_OF} AND e.source IN ({", ".join(f"'{source}'" for source in SOURCES)})
GROUP BY e.source, e.list_version, CASE WHEN e.source = '{DNC}' THEN e.obtained_at END
ORDER BY 1, 5, 2
"""

_UNKNOWNS: Final = f"""
SELECT e.source, e.reason, COUNT(*), COUNT(DISTINCT e.phone),
  COUNT(DISTINCT CASE WHEN v.phone IS NOT NULL THEN e.phone END), MIN(e.checked_at), MAX(e.checked_at)
FROM {SCRUB_EVIDENCE.full_name} AS e
LEFT JOIN {PHONE_VERDICTS.full_name} AS v
  ON v.phone = e.phone AND v.source = e.source AND v.verdict <> 'unknown' AND v.checked_at > e.checked_at
WHERE {_WHERE} AND e.verdict = 'unknown'
GROUP BY e.source, e.reason
ORDER BY 1, 3 DESC, 2
"""

_UNANSWERED: Final = f"""
SELECT e.run_id, e.asset, e.partition_key, e.source, e.reason, e.checked_at, COUNT(*)
{_OF} AND e.verdict = 'unknown' AND e.reason IN ({", ".join(f"'{reason.value}'" for reason in VENDOR_REASONS)})
GROUP BY e.run_id, e.asset, e.partition_key, e.source, e.reason, e.checked_at
ORDER BY e.checked_at, e.run_id, e.asset, e.reason
"""


def read_period(session: Session, period: Period) -> PeriodFacts:
    """Sums and lists of a period; rows that were made up or spoilt count as they stand."""
    checks, phones, listed = session.rows(_TOTALS, period.params)[0]
    kept, oldest = session.rows(f"SELECT COUNT(*), MIN(checked_at) FROM {SCRUB_EVIDENCE.full_name}")[0]
    return PeriodFacts(
        checks=checks,
        phones=phones,
        phones_listed=listed,
        process=tuple(Process(*row) for row in session.rows(_PROCESS, period.params)),
        versions=tuple(ListVersion(*row) for row in session.rows(_VERSIONS, period.params)),
        unknowns=tuple(UnknownReason(*row) for row in session.rows(_UNKNOWNS, period.params)),
        unanswered=tuple(Unanswered(*row) for row in session.rows(_UNANSWERED, period.params)),
        kept_checks=kept,
        oldest_check=oldest,
    )


# --- every row --------------------------------------------------------------------------

CHECK_COLUMNS: Final = (
    "run_id",
    "asset",
    "sequence",
    "partition_key",
    "script_hash",
    "purpose",
    "phone",
    "source",
    "verdict",
    "reason",
    "list_version",
    "obtained_at",
    "checked_at",
    "valid_until",
    "row_hash",
    "seal_entry",
    "sealed_at",
)

_PIECES: Final = pa.schema(
    [
        ("number", pa.int64()),
        ("run_id", pa.string()),
        ("asset", pa.string()),
        ("first_sequence", pa.int64()),
        ("last_sequence", pa.int64()),
        ("seal_entry", pa.int64()),
        ("sealed_at", pa.timestamp("us")),
    ]
)


class _Piece(NamedTuple):
    """Rows of one chain that one seal covers, or none."""

    number: int
    run_id: str | None
    asset: str | None
    first_sequence: int
    last_sequence: int
    seal_entry: int | None
    sealed_at: datetime | None


class Sealing(NamedTuple):
    """A seal over so many rows of a chain."""

    rows: int
    entry: int
    sealed_at: datetime


SealsOf = Callable[[Process], Sequence[Sealing]]
"""The seals over a process's rows, that over the fewest rows first."""


def check_pages(
    warehouse: Warehouse, period: Period, process: Iterable[Process], seals_of: SealsOf, *, rows: int = PAGE_ROWS
) -> Iterator[pa.Table]:
    """All rows of the processes in the period, by run and sequence, each with the entry of its seal.

    The warehouse is free between pages. Rows that come later are left out, so that the pages
    are what the sums were made of.
    """
    columns = ", ".join(f"p.{name}" if name in ("seal_entry", "sealed_at") else f"e.{name}" for name in CHECK_COLUMNS)
    for bundle in _bundles(_pieces(process, seals_of, rows), rows):
        with warehouse.session() as session:
            stage = session.create_stage("pieces", _PIECES)
            session.load(stage, pa.Table.from_pylist([piece._asdict() for piece in bundle], schema=_PIECES))
            page = session.table(
                f"SELECT {columns} FROM {SCRUB_EVIDENCE.full_name} AS e JOIN {stage} AS p "
                "ON e.run_id IS NOT DISTINCT FROM p.run_id AND e.asset IS NOT DISTINCT FROM p.asset "
                "AND COALESCE(e.sequence, 0) >= p.first_sequence AND COALESCE(e.sequence, 0) <= p.last_sequence "
                f"WHERE {_WHERE} ORDER BY p.number, e.sequence",
                period.params,
            )
            session.drop_stage(stage)
        yield page


def _pieces(process: Iterable[Process], seals_of: SealsOf, rows: int) -> Iterator[_Piece]:
    spans: dict[tuple[str | None, str | None], Process] = {}
    for each in process:  # a chain whose rows do not agree on their script has several
        known = spans.get((each.run_id, each.asset), each)
        spans[each.run_id, each.asset] = replace(
            known,
            first_sequence=min(known.first_sequence, each.first_sequence),
            last_sequence=max(known.last_sequence, each.last_sequence),
            with_hash=known.with_hash + each.with_hash,
        )
    number = 0
    for (run_id, asset), span in spans.items():
        start, last = span.first_sequence, span.last_sequence
        for end, entry, sealed_at in [*seals_of(span), (last, None, None)]:
            while start <= min(end, last):
                stop = min(end, last, start + rows - 1)
                yield _Piece(number, run_id, asset, start, stop, entry, sealed_at and sealed_at.replace(tzinfo=None))
                number, start = number + 1, stop + 1


def _bundles(pieces: Iterable[_Piece], rows: int) -> Iterator[list[_Piece]]:
    bundle: list[_Piece] = []
    size = 0
    for piece in pieces:
        length = piece.last_sequence - piece.first_sequence + 1
        if bundle and size + length > rows:
            yield bundle
            bundle, size = [], 0
        bundle.append(piece)
        size += length
    if bundle:
        yield bundle


# --- what stayed unknown ----------------------------------------------------------------

UNKNOWN_COLUMNS: Final = ("source", "reason", "phone", "checks", "first_checked_at", "last_checked_at")

_UNKNOWN_PHONES: Final = f"""
SELECT e.source || '|' || COALESCE(e.reason, '') || '|' || COALESCE(e.phone, '') AS place, e.source, e.reason, e.phone,
  COUNT(*) AS checks, MIN(e.checked_at) AS first_checked_at, MAX(e.checked_at) AS last_checked_at
{_OF} AND e.verdict = 'unknown'
GROUP BY e.source, e.reason, e.phone
"""


def unknown_pages(warehouse: Warehouse, period: Period, *, rows: int = PAGE_ROWS) -> Iterator[pa.Table]:
    """Each number that was asked about and stayed unknown, by source and reason."""
    for page in warehouse.pages(_UNKNOWN_PHONES, period.params, key="place", first="", rows=rows):
        yield page.select(UNKNOWN_COLUMNS)
