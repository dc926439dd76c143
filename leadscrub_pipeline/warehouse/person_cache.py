"""PERSON_CACHE made again from what it projects: the ledger's answers and tombstones, and the publications.

Runs keep the table up to date by themselves (contacts.py, master.py). Reading the ledger does
not belong here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.warehouse.identity_numbers import note_owners
from leadscrub_pipeline.warehouse.master import computed_record_id
from leadscrub_pipeline.warehouse.protocol import Dialect, Session
from leadscrub_pipeline.warehouse.schema import ERASED, MASTER, PERSON_CACHE, PUBLISHED_IDENTITIES

NO_PARTITION: Final = "(erased)"
"""No script can have this key, so an erased person is another script's to every script."""
NEVER: Final = datetime(9999, 12, 31, tzinfo=UTC)

_ANSWERS: Final = pa.schema(
    [
        ("person_key", pa.string()),
        ("key_version", pa.int64()),
        ("outcome", pa.string()),
        ("looked_up_at", pa.timestamp("us")),
        ("expires_at", pa.timestamp("us")),
        ("since", pa.timestamp("us")),
        ("is_adopted", pa.bool_()),
    ]
)

# The owner of a person is the newest publication of an answer that held, or was renewed before it expired.
_REBUILT: Final = f"""
WITH published AS (
  SELECT DISTINCT person_key, partition_key, {{record_id}} AS record_id FROM {PUBLISHED_IDENTITIES.full_name}
),
publications AS (
  SELECT
    a.person_key,
    p.record_id,
    p.partition_key,
    CASE WHEN a.is_adopted THEN COALESCE(m.processed_at, a.looked_up_at) ELSE m.processed_at END AS published_at,
    a.since
  FROM {{answers}} AS a
  JOIN published AS p ON p.person_key = a.person_key
  LEFT JOIN {MASTER.full_name} AS m ON m.record_id = p.record_id
),
owners AS (
  SELECT person_key, record_id, partition_key, published_at
  FROM (
    SELECT o.*, ROW_NUMBER() OVER (PARTITION BY person_key ORDER BY published_at DESC, record_id) AS place
    FROM publications AS o
    WHERE published_at >= since
  ) AS ranked
  WHERE place = 1
)
SELECT
  a.person_key,
  a.key_version,
  a.outcome,
  a.looked_up_at,
  a.expires_at,
  CASE WHEN a.outcome = '{ERASED}' THEN '{ERASED}' ELSE o.record_id END AS record_id,
  CASE WHEN a.outcome = '{ERASED}' THEN '{NO_PARTITION}' ELSE o.partition_key END AS partition_key,
  CASE WHEN a.outcome = '{ERASED}' THEN a.looked_up_at ELSE o.published_at END AS published_at
FROM {{answers}} AS a
LEFT JOIN owners AS o ON o.person_key = a.person_key AND a.outcome <> '{ERASED}'
"""

_COLUMNS: Final = ", ".join(PERSON_CACHE.column_names)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild changed, or would change."""

    people: int
    owned: int
    erased: int
    added: int
    removed: int
    changed: int


Rows = Sequence[Sequence[object]]


def stage_answers(session: Session, pages: Iterable[Rows], erased: Iterable[Rows]) -> str:
    """The ledger's answers in a stage table of the session; who was erased has no other.

    Answers have the fields of ``ledger.answers.Answer``, the erased those of ``Tombstone``.
    """
    gone = session.create_stage("erased_people", _ANSWERS)
    for tombstones in erased:
        rows = [(key, version, ERASED, moment, None, moment, False) for key, version, moment in tombstones]
        session.load(gone, _table(rows, expires_at=NEVER))
    answers = session.create_stage("ledger_answers", _ANSWERS)
    for page in pages:
        session.load(answers, _table(page))
    session.execute(f"DELETE FROM {answers} WHERE person_key IN (SELECT person_key FROM {gone})")
    session.execute(f"INSERT INTO {answers} SELECT * FROM {gone}")
    session.drop_stage(gone)
    return answers


def rebuild(session: Session, dialect: Dialect, answers: str, *, dry_run: bool = False) -> Rebuilt:
    """Replace PERSON_CACHE in one transaction by what the answers and the publications give.

    The published identities note it, too.
    """
    record_id = f"COALESCE(record_id, {computed_record_id(dialect, 'partition_key', 'person_key')})"
    rebuilt = session.create_stage_as("rebuilt_people", _REBUILT.format(record_id=record_id, answers=answers))
    result = _compare(session, rebuilt)
    if not dry_run:
        with session.transaction():
            session.execute(f"DELETE FROM {PERSON_CACHE.full_name}")
            session.execute(f"INSERT INTO {PERSON_CACHE.full_name} ({_COLUMNS}) SELECT {_COLUMNS} FROM {rebuilt}")
            note_owners(session)
    session.drop_stage(rebuilt)
    session.drop_stage(answers)
    return result


def _compare(session: Session, rebuilt: str) -> Rebuilt:
    people, owned, erased = session.rows(
        f"SELECT COUNT(*), COUNT(record_id), COALESCE(SUM(CASE WHEN outcome = '{ERASED}' THEN 1 ELSE 0 END), 0) "
        f"FROM {rebuilt}"
    )[0]
    differs = " OR ".join(
        f"t.{name} IS DISTINCT FROM s.{name}" for name in PERSON_CACHE.column_names if name != "person_key"
    )
    added, removed, changed = session.rows(
        f"SELECT COALESCE(SUM(CASE WHEN t.person_key IS NULL THEN 1 ELSE 0 END), 0), "
        f"COALESCE(SUM(CASE WHEN s.person_key IS NULL THEN 1 ELSE 0 END), 0), "
        f"COALESCE(SUM(CASE WHEN t.person_key IS NOT NULL AND s.person_key IS NOT NULL AND ({differs}) THEN 1 "
        f"ELSE 0 END), 0) FROM {PERSON_CACHE.full_name} AS t "
        f"FULL OUTER JOIN {rebuilt} AS s ON s.person_key = t.person_key"
    )[0]
    return Rebuilt(int(people), int(owned), int(erased), int(added), int(removed), int(changed))


def _table(rows: Sequence[Sequence[object]], *, expires_at: datetime | None = None) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    if expires_at is not None:
        columns[4] = (expires_at.replace(tzinfo=None),) * len(rows)
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, _ANSWERS, strict=True)], schema=_ANSWERS
    )
