"""Verdicts about phones: which phones need asking, what was answered, and the evidence of it.

An answer and its evidence are stored in one transaction, so nothing can be published as
clear before its evidence is durable. Asking a source does not belong here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.domain.verdicts import Answer
from leadscrub_pipeline.warehouse.arrow import arrow_schema
from leadscrub_pipeline.warehouse.evidence import PLAIN_COLUMNS, SCHEMA, ChainEnd
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse
from leadscrub_pipeline.warehouse.schema import (
    ENRICHED_CONTACTS,
    PHONE_VERDICTS,
    SCRUB_EVIDENCE,
    Table,
)
from leadscrub_pipeline.warehouse.slices import Slice, replace_slice, require_unchanged

_PHONES: Final = " UNION ".join(
    f"SELECT phone_{i} AS phone FROM {ENRICHED_CONTACTS.full_name} "
    f"WHERE partition_key = ? AND run_id = ? AND phone_{i} IS NOT NULL"
    for i in (1, 2, 3)
)

_UNEXPIRED: Final = "v.verdict <> 'unknown' AND v.valid_until > ?"

_TO_ASK: Final = f"""
SELECT p.phone
FROM ({{phones}}) AS p
WHERE NOT EXISTS (
  SELECT 1 FROM {PHONE_VERDICTS.full_name} AS v
  WHERE v.phone = p.phone AND v.source = ? AND ({{stands}})
)
"""

# A number once found listed stays so until the source answers again: no answer clears nothing. Of two
# answers the newer counts, whichever is stored last: a run that still reads last month's list must not
# clear what another has found on this month's.
_COUNTS_MORE: Final = """NOT (s.verdict = 'unknown' AND t.verdict = 'listed') AND (
  t.verdict = 'unknown' OR t.obtained_at IS NULL OR s.obtained_at IS NULL OR s.obtained_at >= t.obtained_at
)"""
MERGE_VERDICTS: Final = f"""
MERGE INTO {PHONE_VERDICTS.full_name} AS t
USING {{stage}} AS s
ON t.phone = s.phone AND t.source = s.source
WHEN MATCHED AND {_COUNTS_MORE} THEN UPDATE SET
  verdict = s.verdict, reason = s.reason, list_version = s.list_version,
  obtained_at = s.obtained_at, checked_at = s.checked_at, valid_until = s.valid_until
WHEN NOT MATCHED THEN INSERT ({", ".join(PHONE_VERDICTS.column_names)})
  VALUES ({", ".join("s." + name for name in PHONE_VERDICTS.column_names)})
"""

# The same in two statements. Phones are asked in their order, so that most of the table is passed over.
_DELETE_VERDICTS: Final = f"""
DELETE FROM {PHONE_VERDICTS.full_name} AS t
USING {{stage}} AS s
WHERE t.phone = s.phone AND t.source = s.source AND t.phone >= ? AND t.phone <= ? AND {_COUNTS_MORE}
"""
_INSERT_VERDICTS: Final = f"""
INSERT INTO {PHONE_VERDICTS.full_name} ({", ".join(PHONE_VERDICTS.column_names)})
SELECT {", ".join("s." + name for name in PHONE_VERDICTS.column_names)}
FROM {{stage}} AS s
WHERE NOT EXISTS (
  SELECT 1 FROM {PHONE_VERDICTS.full_name} AS t
  WHERE t.phone = s.phone AND t.source = s.source AND t.phone >= ? AND t.phone <= ?
)
"""

_VERDICT_COUNTS: Final = f"""
SELECT f.verdict, COUNT(*), SUM(CASE WHEN f.verdict = 'clear' AND e.phone IS NULL THEN 1 ELSE 0 END)
FROM {{table}} AS f
LEFT JOIN (
  SELECT DISTINCT phone, checked_at, valid_until
  FROM {SCRUB_EVIDENCE.full_name}
  WHERE source = ? AND verdict = 'clear'
    AND phone IN (SELECT phone FROM {{table}} WHERE partition_key = ? AND run_id = ?)
) AS e ON e.phone = f.phone AND e.checked_at = f.checked_at AND e.valid_until = f.valid_until
WHERE f.partition_key = ? AND f.run_id = ?
GROUP BY f.verdict
"""

_FETCHED_ROWS: Final = 1_000_000
"""The embedded engine looks for what needs asking anew at each fetch; as text so many phones take 14 MB."""
_LINKED_AT_ONCE: Final = 20_000
"""Rows of evidence whose texts are objects of Python at a time."""
_ROW_SCHEMA: Final = pa.schema([SCHEMA.field(name) for name in PLAIN_COLUMNS])
ANSWERS: Final = arrow_schema(
    SCRUB_EVIDENCE, "phone", "verdict", "reason", "list_version", "obtained_at", "checked_at", "valid_until"
)
"""Answers as steps hand them over: a table with a row a phone, no phone twice. Times are naive UTC."""


@dataclass(frozen=True, slots=True)
class Check:
    """Who asks, for what: what evidence says of every answer of one step."""

    run_id: str
    asset: str
    partition_key: str
    script_hash: str
    purpose: str
    source: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer about one phone, of which list or endpoint, and how long a clear one counts. Times in UTC."""

    phone: str
    answer: Answer
    list_version: str | None
    obtained_at: datetime | None
    checked_at: datetime
    valid_until: datetime


@dataclass(frozen=True, slots=True)
class Phones:
    """The phones that a step is about, and which verdicts about them need no new answer."""

    select: str
    """Gives each phone once, as ``phone``."""
    params: tuple[object, ...]
    stands: str
    """Condition on a verdict ``v`` of the step's source."""
    stands_params: tuple[object, ...]

    def to_ask(self, source: str) -> tuple[str, list[object]]:
        """The phones without a verdict that stands, as a SELECT with its values."""
        query = _TO_ASK.format(phones=self.select, stands=self.stands)
        return query, [*self.params, source, *self.stands_params]


def phones_of(contacts: Slice, now: datetime, *, renew: bool) -> Phones:
    """Phones of a slice of contacts; an unexpired answer is not asked for again, unless all are to be renewed."""
    if renew:
        return Phones(_PHONES, (*contacts.params,) * 3, "FALSE", ())
    return Phones(_PHONES, (*contacts.params,) * 3, _UNEXPIRED, (now,))


def count_phones(session: Session, phones: Phones, source: str) -> tuple[int, int]:
    """How many there are, and how many need asking."""
    to_ask, params = phones.to_ask(source)
    every, asked = session.rows(
        f"SELECT (SELECT COUNT(*) FROM ({phones.select}) AS p), (SELECT COUNT(*) FROM ({to_ask}) AS p)",
        [*phones.params, *params],
    )[0]
    return int(every), int(asked)


def phones_to_ask(warehouse: Warehouse, phones: Phones, source: str, *, rows: int) -> Iterator[pa.Array]:
    """The phones that need asking, ascending, in pages of at most so many."""
    to_ask, params = phones.to_ask(source)
    for fetched in warehouse.pages(to_ask, params, key="phone", first="", rows=max(rows, _FETCHED_ROWS)):
        column = fetched.column("phone")
        for start in range(0, len(column), rows):
            yield column.slice(start, rows).combine_chunks()


def to_answers(checked: Sequence[Checked]) -> pa.Table:
    """Answers that came one by one, as a table of ``ANSWERS``."""
    columns: dict[str, list[object]] = {
        "phone": [one.phone for one in checked],
        "verdict": [one.answer.verdict.value for one in checked],
        "reason": [None if one.answer.reason is None else one.answer.reason.value for one in checked],
        "list_version": [one.list_version for one in checked],
        # Arrow takes an aware time as the naive UTC that tables hold.
        "obtained_at": [one.obtained_at for one in checked],
        "checked_at": [one.checked_at for one in checked],
        "valid_until": [one.valid_until for one in checked],
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in ANSWERS], schema=ANSWERS)


def store_answers(session: Session, check: Check, end: ChainEnd, answers: pa.Table) -> ChainEnd:
    """Append the evidence to its chain and merge the verdicts, both or neither; return the chain's new end."""
    linked: list[pa.Table] = []
    new_end = end
    for first in range(0, answers.num_rows, _LINKED_AT_ONCE):
        rows = evidence_rows(check, answers.slice(first, _LINKED_AT_ONCE), first=new_end.rows + 1)
        evidence, new_end = new_end.linked(rows)
        linked.append(evidence)
    evidence = pa.concat_tables(linked)
    with session.stage("answers", evidence) as stage:
        with session.transaction():
            names = ", ".join(SCRUB_EVIDENCE.column_names)
            session.execute(
                f"INSERT INTO {SCRUB_EVIDENCE.full_name} ({names}) SELECT {names} FROM {stage} ORDER BY sequence"
            )
            _keep_verdicts(session, stage, answers)
            failpoints.reached("answers.before_commit")
        failpoints.reached("answers.after_commit")
    return new_end


def _keep_verdicts(session: Session, stage: str, answers: pa.Table) -> None:
    if not session.replaces_by_delete:
        session.execute(MERGE_VERDICTS.format(stage=stage))
        return
    ends = pc.min_max(answers.column("phone")).as_py()
    for statement in (_DELETE_VERDICTS, _INSERT_VERDICTS):
        session.execute(statement.format(stage=stage), [ends["min"], ends["max"]])


def publish_flags(
    session: Session, table: Table, contacts: Slice, check: Check, *, details: Mapping[str, object], now: datetime
) -> None:
    """Replace the partition's slice by the verdict of each phone as it stands."""
    with session.transaction():
        require_unchanged(session, contacts)
        replace_slice(
            session,
            table,
            check.partition_key,
            check.run_id,
            select=(
                "SELECT ?, ?, p.phone, v.verdict, v.reason, v.list_version, v.obtained_at, v.checked_at, v.valid_until "
                f"FROM ({_PHONES}) AS p "
                f"JOIN {PHONE_VERDICTS.full_name} AS v ON v.phone = p.phone AND v.source = ?"
            ),
            params=[check.partition_key, check.run_id, *(contacts.params * 3), check.source],
            details=details,
            now=now,
        )
        failpoints.reached("flags.before_commit")
    failpoints.reached("flags.after_commit")


def verdict_counts(session: Session, table: Table, check: Check) -> tuple[dict[str, int], int]:
    """Phones of the flags that a run published, by verdict, and how many clear ones have no evidence.

    Every verdict has a count, zero included.
    """
    counts = {"listed": 0, "clear": 0, "unknown": 0}
    without_evidence = 0
    for verdict, phones, without in session.rows(
        _VERDICT_COUNTS.format(table=table.full_name),
        [check.source, check.partition_key, check.run_id, check.partition_key, check.run_id],
    ):
        counts[verdict] = int(phones)
        without_evidence += int(without)
    return counts, without_evidence


def evidence_rows(check: Check, answers: pa.Table, *, first: int) -> pa.Table:
    """Rows of evidence before their chain."""
    same = {
        "run_id": check.run_id,
        "asset": check.asset,
        "partition_key": check.partition_key,
        "script_hash": check.script_hash,
        "purpose": check.purpose,
        "source": check.source,
    }
    count = answers.num_rows
    columns = {name: pa.repeat(value, count) for name, value in same.items()} | {
        "sequence": pa.array(range(first, first + count), pa.int64())
    }
    return pa.table(
        [columns.get(name) if name in columns else answers.column(name) for name in PLAIN_COLUMNS], schema=_ROW_SCHEMA
    )
