"""The vendor's invoice against the ledger: which charges and requests do not fit together.

Both sides go into a scratch file first, so that neither has to fit into memory. Reading the
invoice is invoices.py; deciding unknown outcomes by what is found here is unknowns.py.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Connection, select

from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.ledger import tables
from leadscrub_pipeline.ledger.invoices import Invoice, lookup_id_of
from leadscrub_pipeline.ledger.tables import lookups
from leadscrub_pipeline.ledger.units import MICROS_PER_DAY, micros_to_dollars, micros_to_time, time_to_micros

_ROWS: Final = 5_000
_LONGEST_REFERENCE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not fit; amounts in dollars, nothing that tells who the person is."""

    kind: str
    reference: str
    line: int | None
    """Of the invoice, the first when there are several."""
    partition_key: str | None
    run_id: str | None
    outcome: str | None
    sent_at: datetime | None
    charged: Decimal | None
    expected: Decimal | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Requests sent from ``since`` to before ``until`` belong to the invoice; an open end has none."""

    since: datetime | None
    until: datetime | None
    is_given: bool
    """Both ends were named, not taken from the invoice's own dates: what is missing in it was not billed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    charges: int
    """Rows of the invoice that could be read and belong to the period."""
    charged: Decimal
    """Credits deducted."""
    outside: int
    """Rows of the invoice that are dated outside the period."""
    rejected: Mapping[str, int]
    requests: int
    """Requests of the ledger that were sent in the period."""
    cost: Decimal
    unknown_cost: Decimal
    misses_charged: int
    misses_charged_dollars: Decimal
    """Misses that were charged as the ledger expects; findings instead when misses are free."""

    @property
    def difference(self) -> Decimal:
        return self.charged - self.cost


class Reconciliation:
    """What was found (``reconcile``). Close it; it is a context manager."""

    def __init__(self, scratch: sqlite3.Connection, period: Period, totals: Totals) -> None:
        self._scratch = scratch
        self.period = period
        self.totals = totals

    def counts(self) -> dict[str, int]:
        """Findings by kind."""
        return dict(self._scratch.execute("SELECT kind, COUNT(*) FROM finding GROUP BY kind ORDER BY kind"))

    def findings(self, *, limit: int | None = None) -> Iterator[Finding]:
        """By kind, then in the order of the invoice and of sending."""
        rows = self._scratch.execute(
            "SELECT kind, reference, line, partition_key, run_id, outcome, sent_at, charged, expected, note "
            "FROM finding ORDER BY kind, line, sent_at, reference LIMIT ?",
            [-1 if limit is None else limit],
        )
        for kind, reference, line, partition_key, run_id, outcome, sent_at, charged, expected, note in rows:
            yield Finding(
                kind=kind,
                reference=reference,
                line=line,
                partition_key=partition_key,
                run_id=run_id,
                outcome=outcome,
                sent_at=None if sent_at is None else micros_to_time(sent_at),
                charged=None if charged is None else _dollars(charged),
                expected=None if expected is None else _dollars(expected),
                note=note,
            )

    def decided(self, *, billed: bool) -> list[str]:
        """Lookups of unknown outcome that the invoice decides in this way.

        One that is not on the invoice was not billed only when the period was given: the last
        hours before the end of an invoice may be on the next.
        """
        if billed:
            query = "SELECT reference FROM finding WHERE kind = 'unknown_billed'"
        else:
            query = "SELECT reference FROM finding WHERE kind = 'unknown_not_billed' AND (line IS NOT NULL OR ?)"
        rows = self._scratch.execute(f"{query} ORDER BY reference", [] if billed else [self.period.is_given])
        return [reference for (reference,) in rows]

    def close(self) -> None:
        self._scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reconcile(
    connection: Connection,
    invoice: Invoice,
    *,
    provider: str,
    since: datetime | None,
    until: datetime | None,
    misses_are_free: bool,
    dead_owners: Collection[str],
) -> Reconciliation:
    """Compare an invoice with the requests of one provider, as they are in the connection's transaction.

    Args:
        connection: of a snapshot.
        invoice: read to its end here.
        provider: whose invoice it is.
        since: requests sent from then on; by default from the first day on the invoice.
        until: requests sent before then; by default to the end of the last day on the invoice.
        misses_are_free: a miss that was charged is a finding, and one that was not is none.
        dead_owners: what they sent is of unknown outcome.

    Raises:
        UnavailableError: the scratch file cannot be written.
    """
    scratch = sqlite3.connect("")  # a file of SQLite's own, gone with the connection
    try:
        scratch.executescript(_TABLES)
        _load_invoice(scratch, invoice)
        period = _period(scratch, since, until)
        _load_requests(scratch, connection, provider, dead_owners)
        bounds = {
            "since": _or(period.since, -(2**62)),
            "until": _or(period.until, 2**62),
            "free": misses_are_free,
            "day": MICROS_PER_DAY,
        }
        for statement in (*_JOINED, *_FINDINGS):
            scratch.execute(statement, bounds)
        return Reconciliation(scratch, period, _totals(scratch, invoice, bounds))
    except sqlite3.Error as error:
        scratch.close()
        raise UnavailableError(
            f"The invoice could not be compared ({type(error).__name__}): the folder for temporary files may be "
            "full. Nothing was changed."
        ) from None
    except BaseException:
        scratch.close()
        raise


def _dollars(micros: int) -> Decimal:
    return -micros_to_dollars(-micros) if micros < 0 else micros_to_dollars(micros)


def _or(moment: datetime | None, instead: int) -> int:
    return instead if moment is None else time_to_micros(moment)


def _load_invoice(scratch: sqlite3.Connection, invoice: Invoice) -> None:
    _insert(
        scratch,
        "INSERT INTO charge VALUES (?, ?, ?, ?, ?)",
        (
            (
                charge.line,
                charge.reference[:_LONGEST_REFERENCE],
                lookup_id_of(charge.reference[:_LONGEST_REFERENCE]),
                charge.micros,
                charge.at,
            )
            for charge in invoice.charges()
        ),
    )


def _period(scratch: sqlite3.Connection, since: datetime | None, until: datetime | None) -> Period:
    first, last = scratch.execute("SELECT MIN(at), MAX(at) FROM charge").fetchone()
    given = since is not None and until is not None
    if since is None and first is not None:
        since = micros_to_time(first - first % MICROS_PER_DAY)
    if until is None and last is not None:
        until = micros_to_time(last - last % MICROS_PER_DAY + MICROS_PER_DAY)
    return Period(since=since, until=until, is_given=given)


_REQUEST_COLUMNS: Final = (
    "lookup_id",
    "person_key",
    "endpoint",
    "scope",
    "state",
    "suspicion",
    "run_id",
    "partition_key",
    "hit_days",
    "price_micros",
    "cost_micros",
    "claimed_at",
    "sent_at",
    "expires_at",
)


def _load_requests(
    scratch: sqlite3.Connection, connection: Connection, provider: str, dead_owners: Collection[str]
) -> None:
    rows = connection.execute(
        select(*(lookups.c[name] for name in _REQUEST_COLUMNS), lookups.c.owner)
        .where(lookups.c.provider == provider)
        .execution_options(yield_per=_ROWS)
    )
    state = _REQUEST_COLUMNS.index("state")

    def values() -> Iterator[tuple[Any, ...]]:
        for *row, owner in rows:
            if row[state] == tables.SENT and owner in dead_owners:
                row[state] = tables.UNKNOWN
            yield tuple(row)

    marks = ", ".join("?" for _ in _REQUEST_COLUMNS)
    _insert(scratch, f"INSERT INTO request ({', '.join(_REQUEST_COLUMNS)}) VALUES ({marks})", values())


def _insert(scratch: sqlite3.Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    rest = iter(rows)
    while some := list(islice(rest, _ROWS)):
        scratch.executemany(statement, some)


def _totals(scratch: sqlite3.Connection, invoice: Invoice, bounds: Mapping[str, int]) -> Totals:
    outside, charges, charged = scratch.execute(_CHARGE_TOTALS, bounds).fetchone()
    requests, cost, unknown_cost = scratch.execute(_REQUEST_TOTALS, bounds).fetchone()
    misses, misses_charged = scratch.execute(_MISS_TOTALS, bounds).fetchone()
    return Totals(
        charges=charges,
        charged=_dollars(charged),
        outside=outside,
        rejected=dict(sorted(invoice.rejected.items())),
        requests=requests,
        cost=_dollars(cost),
        unknown_cost=_dollars(unknown_cost),
        misses_charged=misses,
        misses_charged_dollars=_dollars(misses_charged),
    )


_TABLES: Final = """
PRAGMA journal_mode=OFF;
PRAGMA cache_size=-65536;
CREATE TABLE charge (line INTEGER, reference TEXT, lookup_id TEXT, micros INTEGER, at INTEGER);
CREATE TABLE request (
    lookup_id TEXT PRIMARY KEY, person_key TEXT, endpoint TEXT, scope TEXT, state TEXT, suspicion TEXT, run_id TEXT,
    partition_key TEXT, hit_days INTEGER, price_micros INTEGER, cost_micros INTEGER, claimed_at INTEGER,
    sent_at INTEGER, expires_at INTEGER
) WITHOUT ROWID;
CREATE TABLE finding (
    kind TEXT, reference TEXT, line INTEGER, partition_key TEXT, run_id TEXT, outcome TEXT, sent_at INTEGER,
    charged INTEGER, expected INTEGER, note TEXT
);
"""

_IN_PERIOD: Final = "(at IS NULL OR (at >= :since AND at < :until))"

_JOINED: Final = (
    # What the invoice says of each lookup; a credit takes a charge back.
    f"""
    CREATE TABLE billed AS
    SELECT lookup_id, MIN(reference) AS reference, MIN(line) AS line, SUM(micros) AS micros,
           SUM(micros > 0) - SUM(micros < 0) AS charges
    FROM charge WHERE {_IN_PERIOD} GROUP BY lookup_id
    """,
    "CREATE UNIQUE INDEX billed_lookup ON billed (lookup_id)",
    # Each request with what was billed for it; the price is what it was expected to cost, when one is known.
    """
    CREATE VIEW asked AS
    SELECT r.*, b.line, COALESCE(b.micros, 0) AS billed_micros, COALESCE(b.charges, 0) AS charges,
           b.lookup_id IS NOT NULL AS is_listed,
           r.state = 'unknown' AND r.cost_micros IS NULL AS is_undecided,
           COALESCE(r.cost_micros, r.price_micros) AS expected,
           r.cost_micros > 0 OR (r.price_micros = 0 AND r.state = 'hit') AS is_paid
    FROM request r LEFT JOIN billed b ON b.lookup_id = r.lookup_id
    WHERE r.sent_at IS NOT NULL
    """,
)

_FINDING: Final = """
INSERT INTO finding
SELECT '{kind}', lookup_id, line, partition_key, run_id, state, sent_at,
       CASE WHEN is_listed THEN billed_micros END, {expected}, {note}
FROM {source} WHERE {condition}
"""


def _finding(
    kind: str, condition: str, *, expected: str = "expected", note: str = "NULL", source: str = "asked"
) -> str:
    return _FINDING.format(kind=kind, condition=condition, expected=expected, note=note, source=source)


_SENT_IN_PERIOD: Final = "sent_at >= :since AND sent_at < :until"
_FREE_MISS: Final = "state = 'miss' AND (:free OR (cost_micros = 0 AND price_micros > 0))"

_FINDINGS: Final = (
    # A reference that was never sent under: unknown to the ledger, or claimed and given up.
    """
    INSERT INTO finding
    SELECT 'charged_not_asked', b.reference, b.line, r.partition_key, r.run_id, r.state, NULL, b.micros, 0,
           CASE WHEN r.lookup_id IS NOT NULL THEN 'never sent' END
    FROM billed b LEFT JOIN request r ON r.lookup_id = b.lookup_id
    WHERE b.micros > 0 AND r.sent_at IS NULL
    """,
    _finding("asked_not_charged", f"is_paid AND billed_micros <= 0 AND {_SENT_IN_PERIOD} AND NOT ({_FREE_MISS})"),
    _finding("charged_twice", "billed_micros > 0 AND charges > 1", note="charges || ' charges'"),
    _finding("charged_for_a_miss", f"billed_micros > 0 AND {_FREE_MISS}", expected="0"),
    _finding("charged_for_a_failure", "billed_micros > 0 AND state = 'failed'", expected="0"),
    _finding(
        "charged_at_another_price",
        "billed_micros > 0 AND charges <= 1 AND price_micros > 0 AND billed_micros <> expected "
        f"AND state <> 'failed' AND NOT ({_FREE_MISS})",
    ),
    _finding("unknown_billed", "billed_micros > 0 AND is_undecided"),
    _finding(
        "unknown_not_billed",
        f"billed_micros <= 0 AND is_undecided AND (is_listed OR ({_SENT_IN_PERIOD}))",
        expected="0",
    ),
    # Claimed while an answer that was paid for, now or by an earlier invoice, was still alive.
    _finding(
        "person_charged_again",
        "billed_micros > 0 AND claimed_at < alive_until",
        expected="0",
        note="CASE WHEN state_before = 'unknown' THEN 'after an unknown outcome' END",
        source=f"""(
            SELECT *,
                   MAX(CASE WHEN suspicion = 'discarded' THEN 0
                            ELSE COALESCE(expires_at, sent_at + hit_days * :day) END) OVER earlier AS alive_until,
                   LAG(state) OVER (PARTITION BY person_key, endpoint, scope ORDER BY claimed_at, lookup_id)
                       AS state_before
            FROM asked
            WHERE billed_micros > 0 OR (NOT is_listed AND cost_micros > 0 AND NOT ({_SENT_IN_PERIOD}))
            WINDOW earlier AS (
                PARTITION BY person_key, endpoint, scope ORDER BY claimed_at, lookup_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
        )""",
    ),
)

_CHARGE_TOTALS: Final = f"""
SELECT COALESCE(SUM(NOT {_IN_PERIOD}), 0), COALESCE(SUM({_IN_PERIOD}), 0),
       COALESCE(SUM(CASE WHEN {_IN_PERIOD} THEN micros END), 0)
FROM charge
"""
_REQUEST_TOTALS: Final = f"""
SELECT COUNT(*), COALESCE(SUM(cost_micros), 0),
       COALESCE(SUM(CASE WHEN cost_micros IS NULL AND state IN ('sent', 'unknown') THEN price_micros END), 0)
FROM request WHERE {_SENT_IN_PERIOD}
"""
_MISS_TOTALS: Final = f"""
SELECT COUNT(*), COALESCE(SUM(billed_micros), 0)
FROM asked WHERE billed_micros > 0 AND state = 'miss' AND NOT ({_FREE_MISS})
"""
