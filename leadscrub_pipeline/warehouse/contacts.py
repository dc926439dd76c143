"""The contacts of a partition's leads: gathered in a stage, then published with the person cache in one transaction.

Asking idiCORE and keeping the ledger do not belong here.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import pyarrow as pa

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.identity_numbers import shorten_ownership
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse
from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS, ERASED, IDENTITY_COLUMNS, PERSON_CACHE, RAW_LEADS
from leadscrub_pipeline.warehouse.slices import LEADS_RUN, Slice, replace_slice, require_unchanged

STAGED: Final = tuple(name for name in ENRICHED_CONTACTS.column_names if name not in ("partition_key", "run_id"))
"""Columns of a staged contact: all but the partition and the run."""

_SCHEMA: Final = arrow_schema(ENRICHED_CONTACTS, *STAGED)

_ANSWERS: Final = """
  SELECT person_key, MAX(outcome) AS outcome, MAX(looked_up_at) AS looked_up_at, MAX(expires_at) AS expires_at
  FROM {stage}
  WHERE outcome IN ('hit', 'miss')
  GROUP BY person_key
"""

# The newest answer counts, in whatever order runs publish theirs. A lookup made after the old one
# expired starts anew: the person belongs to no row until published.
_MERGE_CACHE: Final = f"""
MERGE INTO {PERSON_CACHE.full_name} AS t
USING ({{answers}}) AS s
ON t.person_key = s.person_key
WHEN MATCHED AND t.outcome <> 'erased' AND t.looked_up_at <= s.looked_up_at THEN UPDATE SET
  key_version = {{key_version}},
  outcome = s.outcome,
  record_id = CASE WHEN t.expires_at <= s.looked_up_at THEN NULL ELSE t.record_id END,
  partition_key = CASE WHEN t.expires_at <= s.looked_up_at THEN NULL ELSE t.partition_key END,
  published_at = CASE WHEN t.expires_at <= s.looked_up_at THEN NULL ELSE t.published_at END,
  looked_up_at = s.looked_up_at,
  expires_at = s.expires_at
WHEN NOT MATCHED THEN INSERT (person_key, key_version, outcome, looked_up_at, expires_at)
  VALUES (s.person_key, {{key_version}}, s.outcome, s.looked_up_at, s.expires_at)
"""


# Who was erased while this run had the answer in hand is not written again.
_LEAVE_OUT_ERASED: Final = f"""
UPDATE {{stage}} SET outcome = 'held', reason = '{ERASED}', contact = NULL,
  {", ".join(f"{kind}_{i} = NULL" for kind in ("phone", "email") for i in (1, 2, 3))}
WHERE person_key IN (SELECT person_key FROM {PERSON_CACHE.full_name} WHERE outcome = '{ERASED}')
"""


def stage_name(asset: str, partition_key: str) -> str:
    """One stage a partition and asset, so that the next run replaces what a dead one left."""
    return f"STAGE_{asset.upper()}_{hashlib.sha256(partition_key.encode()).hexdigest()[:16].upper()}"


def lead_pages(warehouse: Warehouse, leads: Slice, *, rows: int) -> Iterator[pa.Table]:
    """The kept leads of a slice in pages: lead_number, person_key, person columns."""
    return warehouse.pages(
        f"SELECT lead_number, person_key, {', '.join(IDENTITY_COLUMNS)} FROM {RAW_LEADS.full_name} WHERE {leads.where}",
        leads.params,
        key="lead_number",
        first=0,
        rows=rows,
    )


class ContactStage:
    """Where a run gathers contacts in short transactions before it publishes them all at once."""

    def __init__(self, warehouse: Warehouse, partition_key: str) -> None:
        self._warehouse = warehouse
        self._partition_key = partition_key
        self._waiting: list[pa.Table] = []
        with warehouse.session() as session:
            self._table = session.create_stage(stage_name("contacts", partition_key), _SCHEMA, temporary=False)
            failpoints.reached("contacts.stage_made")

    def append(self, contacts: Sequence[Mapping[str, object]]) -> None:
        """Gather contacts; they are loaded at once, or when there are enough of them for a load."""
        if contacts:
            self._waiting.append(to_table(contacts, _SCHEMA))
        if sum(table.num_rows for table in self._waiting) >= self._warehouse.load_rows:
            with self._warehouse.session() as session:
                self._load(session)

    def _load(self, session: Session) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            session.load(self._table, pa.concat_tables(waiting))
            failpoints.reached("contacts.staged")

    def publish(
        self, leads: Slice, run_id: str, *, key_version: int, details: Mapping[str, object], now: datetime
    ) -> int:
        """Replace the partition's slice and bring the person cache up to date; return the rows of the slice.

        Raises:
            FailedError: the leads were replaced by another run in the meantime.
        """
        with self._warehouse.session() as session:
            self._load(session)
            with session.transaction():
                require_unchanged(session, leads)
                session.execute(_LEAVE_OUT_ERASED.format(stage=self._table))
                rows = replace_slice(
                    session,
                    ENRICHED_CONTACTS,
                    self._partition_key,
                    run_id,
                    select=f"SELECT ?, ?, {', '.join(STAGED)} FROM {self._table}",
                    params=[self._partition_key, run_id],
                    details={**details, LEADS_RUN: leads.run_id},
                    now=now,
                )
                answers = _ANSWERS.format(stage=self._table)
                session.execute(_MERGE_CACHE.format(answers=answers, key_version=key_version))
                shorten_ownership(session, answers)
                failpoints.reached("contacts.before_commit")
            failpoints.reached("contacts.after_commit")
            self._drop(session)
            failpoints.reached("contacts.stage_dropped")
        return rows

    def _drop(self, session: Session) -> None:
        session.drop_stage(self._table)
