"""Carrying the warehouse over to the person keys of a new version: whose identity it knows, and what was published.

Published record ids stay. PERSON_CACHE is not moved but rebuilt (person_cache.py), and says then who owns whom.
"""

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.warehouse.master import computed_record_id
from leadscrub_pipeline.warehouse.protocol import Dialect, Session
from leadscrub_pipeline.warehouse.schema import IDENTITY_COLUMNS, MASTER, PUBLISHED_IDENTITIES, RAW_LEADS, Table

PAGE_ROWS: Final = 10_000

SOURCES: Final = (MASTER, RAW_LEADS)
"""Published people first: when a new rule parts spellings that were one person, the published one keeps the lookup."""

_KEYS: Final = pa.schema([("old_key", pa.string()), ("new_key", pa.string())])

_MOVE: Final = f"""
MERGE INTO {PUBLISHED_IDENTITIES.full_name} AS t
USING {{keys}} AS s
ON t.person_key = s.old_key
WHEN MATCHED THEN UPDATE SET
  person_key = s.new_key,
  record_id = COALESCE(t.record_id, {{record_id}}),
  owned_until = NULL
"""


class KnownIdentities:
    """The raw identities of a table, in one session."""

    def __init__(self, session: Session, dialect: Dialect, table: Table, *, page_rows: int = PAGE_ROWS) -> None:
        self._session = session
        self._page_rows = page_rows
        self._table = session.create_stage_as(
            "known_identities",
            f"SELECT {dialect.row_number()} AS row_number, {', '.join(IDENTITY_COLUMNS)} FROM {table.full_name}",
        )
        self.count = int(session.rows(f"SELECT COUNT(*) FROM {self._table}")[0][0])

    def pages(self) -> Iterator[pa.Table]:
        for first in range(0, self.count, self._page_rows):
            yield self._session.table(
                f"SELECT {', '.join(IDENTITY_COLUMNS)} FROM {self._table} "
                "WHERE row_number > ? AND row_number <= ? ORDER BY row_number",
                [first, first + self._page_rows],
            )


class WouldMove:
    """Keys that a rekey would move, counted in the session whatever their number."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._table = session.create_stage("would_move", _KEYS)

    def add(self, old_keys: list[str], new_keys: list[str]) -> None:
        self._session.load(self._table, _key_table(old_keys, new_keys))

    def count(self) -> tuple[int, int]:
        """People that would move, and how many of them would join another."""
        old, new = self._session.rows(f"SELECT COUNT(DISTINCT old_key), COUNT(DISTINCT new_key) FROM {self._table}")[0]
        return int(old), int(old) - int(new)


def _key_table(old_keys: list[str], new_keys: list[str]) -> pa.Table:
    return pa.table([pa.array(old_keys, pa.string()), pa.array(new_keys, pa.string())], schema=_KEYS)


def move_publications(session: Session, dialect: Dialect, old_keys: list[str], new_keys: list[str]) -> None:
    """Move a page of publications to new keys; a record id that was always computed is stored before its key goes."""
    stage = session.create_stage("moved_keys", _KEYS)
    session.load(stage, _key_table(old_keys, new_keys))
    record_id = computed_record_id(dialect, "t.partition_key", "t.person_key")
    with session.transaction():
        session.execute(_MOVE.format(keys=stage, record_id=record_id))
    session.drop_stage(stage)
