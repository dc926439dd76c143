"""Published results: choosing, reading, counting and withdrawing rows of the master table.

What a row means is decided where it is published (master.py), what may be called in
callable_phones.py; the forms in which rows leave belong to exports.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import pyarrow as pa

from leadscrub_pipeline.domain.verdicts import CCC, DNC, utc_now
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.warehouse.arrow import arrow_schema
from leadscrub_pipeline.warehouse.protocol import Dialect, Session, Warehouse
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, MASTER, WITHDRAWALS

PAGE_ROWS: Final = 20_000

_SLOTS: Final = (1, 2, 3)
_PHONES: Final = tuple(f"phone_{i}" for i in _SLOTS)
_HAS_PHONE: Final = "COALESCE(m.phone_1, m.phone_2, m.phone_3) IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which published rows are wanted. ``since`` is aware and counts from when the row was last written."""

    script: str | None = None
    since: datetime | None = None
    exclude_litigators: bool = False
    """Leave out rows whose ``in_litigator_list`` is TRUE; rows where it is unknown stay."""
    only_callable: bool = False
    """Only rows with a phone of CALLABLE_PHONES, and of each row only those phones."""

    def where(self) -> tuple[str, list[object]]:
        """Condition on the master table as ``m``, and its values."""
        conditions, params = ["TRUE"], list[object]()
        if self.script is not None:
            conditions.append("m.table_id = ?")
            params.append(self.script)
        if self.since is not None:
            conditions.append("m.processed_at >= ?")
            params.append(self.since)
        if self.exclude_litigators:
            conditions.append("m.in_litigator_list IS DISTINCT FROM TRUE")
        return " AND ".join(conditions), params


EVERYTHING: Final = Choice()


# --- reading ----------------------------------------------------------------------------

# The phones that may be called are found once, at the start: the view reads the whole master
# table. A phone that a run puts into the row after that is not among them, so it stays out.
_CALLABLE_ROWS: Final = """
SELECT m.record_id, MAX(m.phone_1) AS phone_1, MAX(m.phone_2) AS phone_2, MAX(m.phone_3) AS phone_3
FROM (
{slots}
) AS m
GROUP BY m.record_id
ORDER BY m.record_id
"""


def read_pages(warehouse: Warehouse, choice: Choice, *, rows: int = PAGE_ROWS) -> Iterator[pa.Table]:
    """The chosen rows in the order of ``record_id``: all columns of the master table, in bounded pages.

    ``additional_data`` comes as JSON text. The warehouse is free between pages, so a slow
    reader holds up no run. What is kept in memory besides a page is the chosen record ids
    (36 MB for a million rows), with ``only_callable`` their phones as well.
    """
    with warehouse.session() as session:
        chosen = session.table(*_chosen_query(choice))
    select, params = _page_query(choice)
    for first in range(0, chosen.num_rows, rows):
        with warehouse.session() as session:
            stage = session.create_stage("chosen", chosen.schema)
            session.load(stage, chosen.slice(first, rows))
            page = session.table(select.format(stage=stage), params)
            session.drop_stage(stage)
        yield as_declared(page)


def newest_rows(session: Session, choice: Choice, *, limit: int) -> pa.Table:
    """The rows that were written last, newest first."""
    where, params = choice.where()
    return as_declared(
        session.table(
            f"SELECT {_columns()} FROM {MASTER.full_name} AS m WHERE {where} "
            f"ORDER BY m.processed_at DESC, m.record_id LIMIT {limit}",
            params,
        )
    )


def published_scripts(session: Session) -> list[str]:
    """Keys of the scripts that have published rows."""
    return [key for (key,) in session.rows(f"SELECT DISTINCT table_id FROM {MASTER.full_name} ORDER BY table_id")]


def as_declared(page: pa.Table) -> pa.Table:
    """Names and types as the schema declares them, whatever the engine's own spelling."""
    return pa.table(page.columns, names=list(MASTER.column_names)).cast(arrow_schema(MASTER))


def _chosen_query(choice: Choice) -> tuple[str, list[object]]:
    where, params = choice.where()
    if not choice.only_callable:
        return f"SELECT m.record_id FROM {MASTER.full_name} AS m WHERE {where} ORDER BY m.record_id", params
    slots = "\n  UNION ALL\n".join(
        f"  SELECT m.record_id, {', '.join(_only(slot, other) for other in _SLOTS)}\n"
        f"  FROM {MASTER.full_name} AS m JOIN callable AS c ON c.phone = m.phone_{slot}\n  WHERE {where}"
        for slot in _SLOTS
    )
    with_phones = f"WITH callable AS (SELECT DISTINCT phone FROM {CALLABLE_PHONES})"
    return with_phones + _CALLABLE_ROWS.format(slots=slots), params * len(_SLOTS)


def _only(slot: int, other: int) -> str:
    return f"{'c.phone' if slot == other else 'CAST(NULL AS VARCHAR)'} AS phone_{other}"


def _page_query(choice: Choice) -> tuple[str, list[object]]:
    where, params = choice.where()
    given = {}
    if choice.only_callable:
        for i in _SLOTS:
            still = f"CASE WHEN m.phone_{i} = k.phone_{i} THEN"
            given[f"phone_{i}"] = f"{still} m.phone_{i} END"
            given[f"phone_{i}_in_dnc"] = f"{still} m.phone_{i}_in_dnc END"
        where += f" AND ({' OR '.join(f'm.phone_{i} = k.phone_{i}' for i in _SLOTS)})"
    return (
        f"SELECT {_columns(given)} FROM {MASTER.full_name} AS m JOIN {{stage}} AS k ON k.record_id = m.record_id "
        f"WHERE {where} ORDER BY m.record_id"
    ), params


def _columns(given: dict[str, str] | None = None) -> str:
    expressions = {"additional_data": "CAST(m.additional_data AS VARCHAR)", **(given or {})}
    return ", ".join(f"{expressions.get(name, 'm.' + name)} AS {name}" for name in MASTER.column_names)


# --- counting ---------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class ResultCounts:
    """What is published by one script, or by all."""

    rows: int = 0
    without_phone: int = 0
    phones: int = 0
    """Phone columns that hold a number; the DNC counts are of the same columns."""
    distinct_phones: int = 0
    litigators: int = 0
    """Rows whose ``in_litigator_list`` is TRUE."""
    litigator_unknown: int = 0
    """Rows with a phone whose ``in_litigator_list`` is NULL."""
    dnc_listed: int = 0
    dnc_unknown: int = 0
    withdrawn: int = 0
    """Rows that are withdrawn and were not published again since."""
    callable: int = 0
    """Distinct phones in CALLABLE_PHONES now."""
    unknown_by_reason: dict[str, int] = field(default_factory=dict)
    """Reasons of the NULL flags of rows and columns that have a phone, as ``source: reason``."""


_LITIGATOR_UNKNOWN: Final = f"m.in_litigator_list IS NULL AND {_HAS_PHONE}"


def _dnc_unknown(slot: int) -> str:
    return f"m.phone_{slot} IS NOT NULL AND m.phone_{slot}_in_dnc IS NULL"


_FLAG_COUNTS: Final = f"""
SELECT
  m.table_id,
  COUNT(*),
  SUM(CASE WHEN {_HAS_PHONE} THEN 0 ELSE 1 END),
  SUM({" + ".join(f"CASE WHEN m.phone_{i} IS NULL THEN 0 ELSE 1 END" for i in _SLOTS)}),
  SUM(CASE WHEN m.in_litigator_list THEN 1 ELSE 0 END),
  SUM(CASE WHEN {_LITIGATOR_UNKNOWN} THEN 1 ELSE 0 END),
  SUM({" + ".join(f"CASE WHEN m.phone_{i}_in_dnc THEN 1 ELSE 0 END" for i in _SLOTS)}),
  SUM({" + ".join(f"CASE WHEN {_dnc_unknown(i)} THEN 1 ELSE 0 END" for i in _SLOTS)}),
  SUM(CASE WHEN EXISTS (
    SELECT 1 FROM {WITHDRAWALS.full_name} AS w WHERE w.record_id = m.record_id AND w.withdrawn_at >= m.processed_at
  ) THEN 1 ELSE 0 END)
FROM {MASTER.full_name} AS m
GROUP BY m.table_id
ORDER BY m.table_id
"""

_HELD: Final = " UNION ".join(
    f"SELECT table_id, phone_{i} AS phone FROM {MASTER.full_name} WHERE phone_{i} IS NOT NULL" for i in _SLOTS
)


def count_results(session: Session, dialect: Dialect) -> tuple[dict[str, ResultCounts], ResultCounts]:
    """Counts by script, and of all together: a phone that two scripts hold counts once there."""
    by_script: dict[str, ResultCounts] = {}
    total = ResultCounts()
    names = ("rows", "without_phone", "phones", "litigators", "litigator_unknown", "dnc_listed", "dnc_unknown")
    for script, *values in session.rows(_FLAG_COUNTS):
        counts = by_script[script] = ResultCounts()
        for name, value in zip((*names, "withdrawn"), values, strict=True):
            setattr(counts, name, int(value))
            setattr(total, name, getattr(total, name) + int(value))
    for script, source, reason, count in session.rows(_reasons_query(dialect)):
        for counts in (by_script[script], total):
            known = counts.unknown_by_reason.get(f"{source}: {reason}", 0)
            counts.unknown_by_reason[f"{source}: {reason}"] = known + count
    stage = session.create_stage_as("callable_now", f"SELECT DISTINCT phone FROM {CALLABLE_PHONES}")
    held = f"FROM ({_HELD}) AS h LEFT JOIN {stage} AS c ON c.phone = h.phone"
    for script, phones, callable_phones in session.rows(
        f"SELECT h.table_id, COUNT(*), COUNT(c.phone) {held} GROUP BY h.table_id"
    ):
        by_script[script].distinct_phones = phones
        by_script[script].callable = callable_phones
    everywhere = session.rows(f"SELECT COUNT(DISTINCT h.phone), COUNT(DISTINCT c.phone) {held}")
    total.distinct_phones, total.callable = everywhere[0]
    session.drop_stage(stage)
    return by_script, total


def _reasons_query(dialect: Dialect) -> str:
    null_flags = [(CCC, "in_litigator_list", _LITIGATOR_UNKNOWN)]
    null_flags += [(DNC, f"phone_{i}_in_dnc", _dnc_unknown(i)) for i in _SLOTS]
    reasons = " UNION ALL ".join(
        f"SELECT m.table_id, '{source}' AS source, "
        f"{dialect.json_text('m.additional_data', 'provenance', 'null_reasons', flag)} AS reason "
        f"FROM {MASTER.full_name} AS m WHERE {is_unknown}"
        for source, flag, is_unknown in null_flags
    )
    return (
        f"SELECT f.table_id, f.source, COALESCE(f.reason, 'not_recorded'), COUNT(*) FROM ({reasons}) AS f "
        "GROUP BY f.table_id, f.source, f.reason ORDER BY f.source, f.reason, f.table_id"
    )


# --- withdrawing ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a withdrawal is about: the rows of one script, or those that one run wrote last."""

    kind: Literal["script", "run"]
    name: str
    rows: int
    phones: int
    """Distinct phones in these rows."""
    callable: int
    """How many of those phones may be called now."""


_COLUMN_OF: Final[dict[Literal["script", "run"], str]] = {"script": "table_id", "run": "job_id"}

# A row written by a host whose clock is ahead is withdrawn all the same; a row published later is not.
_WITHDRAW: Final = f"""
MERGE INTO {WITHDRAWALS.full_name} AS t
USING (
  SELECT record_id, MAX(CASE WHEN processed_at > ? THEN processed_at ELSE ? END) AS withdrawn_at
  FROM {MASTER.full_name}
  WHERE {{column}} = ?
  GROUP BY record_id
) AS s
ON t.record_id = s.record_id
WHEN MATCHED THEN UPDATE SET withdrawn_at = s.withdrawn_at, reason = ?
WHEN NOT MATCHED THEN INSERT (record_id, withdrawn_at, reason) VALUES (s.record_id, s.withdrawn_at, ?)
"""


def find_withdrawal(session: Session, name: str) -> Withdrawal:
    """What withdrawing this script or run would be about.

    Raises:
        UsageError: nothing is published under that name.
    """
    kinds: tuple[Literal["script", "run"], ...] = ("script", "run")
    for kind in kinds:
        column = _COLUMN_OF[kind]
        found = session.rows(f"SELECT COUNT(*) FROM {MASTER.full_name} WHERE {column} = ?", [name])
        if found[0][0]:
            held = " UNION ".join(
                f"SELECT {phone} AS phone FROM {MASTER.full_name} WHERE {column} = ? AND {phone} IS NOT NULL"
                for phone in _PHONES
            )
            phones, callable_phones = session.rows(
                f"SELECT COUNT(*), COUNT(c.phone) FROM ({held}) AS h "
                f"LEFT JOIN (SELECT DISTINCT phone FROM {CALLABLE_PHONES}) AS c ON c.phone = h.phone",
                [name] * len(_PHONES),
            )[0]
            return Withdrawal(kind, name, found[0][0], phones, callable_phones)
    scripts = ", ".join(published_scripts(session)) or "none"
    raise UsageError(
        f"Nothing is published by a script or run named {name!r}. Scripts with published rows: {scripts}. "
        "A run is named by its whole id; rows belong to the run that wrote them last."
    )


def withdraw(session: Session, withdrawal: Withdrawal) -> int:
    """Mark the rows as not to be called until they are published again; return their number.

    Rows and evidence stay. The rows are chosen now, so one published since it was found is
    withdrawn as well.
    """
    now = utc_now()
    reason = f"{withdrawal.kind} {withdrawal.name}"
    with session.transaction():
        return session.execute(
            _WITHDRAW.format(column=_COLUMN_OF[withdrawal.kind]), [now, now, withdrawal.name, reason, reason]
        )
