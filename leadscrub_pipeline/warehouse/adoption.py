"""Rows of the master table that an older system wrote: read in pages, and noted as published. They are not changed.

What their people's lookups count for is the ledger's decision.
"""

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.warehouse.identity_numbers import identity_number
from leadscrub_pipeline.warehouse.leads import identity_hash
from leadscrub_pipeline.warehouse.master import computed_record_id
from leadscrub_pipeline.warehouse.protocol import Dialect, Session
from leadscrub_pipeline.warehouse.schema import IDENTITY_COLUMNS, MASTER, PERSON_CACHE, PUBLISHED_IDENTITIES

PAGE_ROWS: Final = 10_000
NO_SCRIPT: Final = "(adopted)"
"""Partition of a row that names no script; no script can have this key."""
CONTACT_COLUMNS: Final = tuple(f"{kind}_{i}" for kind in ("phone", "email") for i in (1, 2, 3))

PUBLISHED: Final = pa.schema(
    [
        ("identity_hash", pa.string()),
        ("person_key", pa.string()),
        ("partition_key", pa.string()),
        ("record_id", pa.string()),
    ]
)
_PEOPLE: Final = pa.schema([("person_key", pa.string()), ("expires_at", pa.int64())])

# A record id that several rows share stands for none of them.
_OLD_ROWS: Final = f"""
SELECT
  {{row_number}} AS row_number,
  CASE WHEN d.record_id IS NULL THEN m.record_id END AS record_id,
  COALESCE(NULLIF(TRIM(m.table_id), ''), '{NO_SCRIPT}') AS partition_key,
  m.processed_at,
  {", ".join(f"m.{name}" for name in (*IDENTITY_COLUMNS, *CONTACT_COLUMNS))}
FROM {MASTER.full_name} AS m
LEFT JOIN (
  SELECT record_id FROM {MASTER.full_name} GROUP BY record_id HAVING COUNT(*) > 1
) AS d ON d.record_id = m.record_id
WHERE NOT EXISTS (SELECT 1 FROM {{known}} AS k WHERE k.record_id = m.record_id)
"""

_KNOWN: Final = f"""
SELECT {{record_id}} AS record_id FROM {PUBLISHED_IDENTITIES.full_name}
UNION
SELECT record_id FROM {PERSON_CACHE.full_name} WHERE record_id IS NOT NULL
"""

_NOTE: Final = f"""
MERGE INTO {PUBLISHED_IDENTITIES.full_name} AS t
USING (
  SELECT identity_hash, person_key, partition_key, MIN({{record_id}}) AS record_id
  FROM {{published}}
  GROUP BY identity_hash, person_key, partition_key
) AS s
ON t.identity_hash = s.identity_hash AND t.person_key = s.person_key AND t.partition_key = s.partition_key
WHEN NOT MATCHED THEN INSERT (identity_hash, person_key, partition_key, settled, record_id, identity_number)
  VALUES (s.identity_hash, s.person_key, s.partition_key, TRUE, s.record_id, {identity_number("s.identity_hash")})
"""


def known_record_ids(dialect: Dialect) -> str:
    """Record ids of the rows that this system published or adopted, as a query."""
    return _KNOWN.format(record_id=_record_id(dialect))


class OldRows:
    """Rows of the master table that this system did not write and did not adopt yet, in one session."""

    def __init__(self, session: Session, dialect: Dialect) -> None:
        self._session = session
        self._dialect = dialect
        known = session.create_stage_as("known_rows", known_record_ids(dialect))
        self._rows = session.create_stage_as("old_rows", _OLD_ROWS.format(row_number=dialect.row_number(), known=known))
        session.drop_stage(known)
        self._people = session.create_stage("old_people", _PEOPLE)
        self.count = int(session.rows(f"SELECT COUNT(*) FROM {self._rows}")[0][0])
        self.known = int(session.rows(f"SELECT COUNT(*) FROM {MASTER.full_name}")[0][0]) - self.count

    def pages(self, *, rows: int) -> Iterator[pa.Table]:
        """record_id (None when it is not one row's own), partition_key, processed_at, identity, its hash, contacts."""
        columns = ", ".join(("record_id", "partition_key", "processed_at", *IDENTITY_COLUMNS, *CONTACT_COLUMNS))
        for first in range(0, self.count, rows):
            yield self._session.table(
                f"SELECT {columns}, {identity_hash(self._dialect)} AS identity_hash FROM {self._rows} "
                "WHERE row_number > ? AND row_number <= ? ORDER BY row_number",
                [first, first + rows],
            )

    def note(self, published: pa.Table) -> None:
        """Note rows of a page as published, with the columns of ``PUBLISHED``; again changes nothing."""
        stage = self._session.create_stage("newly_published", PUBLISHED)
        self._session.load(stage, published)
        with self._session.transaction():
            self._session.execute(_NOTE.format(published=stage, record_id=_record_id(self._dialect)))
        self._session.drop_stage(stage)

    def count_people(self, keys: list[str], expires_at: list[int]) -> None:
        if keys:
            self._session.load(self._people, pa.table([pa.array(keys), pa.array(expires_at)], schema=_PEOPLE))

    def people(self, *, now: int) -> tuple[int, int]:
        """How many people there were in all pages counted, and how many of them have expired; microseconds."""
        people, live = self._session.rows(
            "SELECT COUNT(*), COALESCE(SUM(CASE WHEN expires_at > ? THEN 1 ELSE 0 END), 0) FROM "
            f"(SELECT person_key, MAX(expires_at) AS expires_at FROM {self._people} GROUP BY person_key) AS p",
            [now],
        )[0]
        return int(people), int(people) - int(live)


def _record_id(dialect: Dialect) -> str:
    return f"COALESCE(record_id, {computed_record_id(dialect, 'partition_key', 'person_key')})"


def has_published_rows(session: Session) -> bool:
    return bool(session.rows(f"SELECT 1 FROM {MASTER.full_name} LIMIT 1"))
