"""Which run last replaced a partition's slice of a work table, so that a step sees when its input changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.schema import SLICES, Table

_ASSET_OF: Final = {
    "RAW_LEADS": "raw_leads",
    "ENRICHED_CONTACTS": "enriched_contacts",
    "LITIGATOR_FLAGS": "litigator_flags",
    "DNC_FLAGS": "dnc_flags",
}

_NOTE: Final = f"""
MERGE INTO {SLICES.full_name} AS t
USING (SELECT {", ".join(f"? AS {name}" for name in SLICES.column_names)}) AS s
ON t.table_name = s.table_name AND t.partition_key = s.partition_key
WHEN MATCHED THEN UPDATE SET
  {", ".join(f"{name} = s.{name}" for name in SLICES.column_names if name not in SLICES.key)}
WHEN NOT MATCHED THEN INSERT ({", ".join(SLICES.column_names)})
  VALUES ({", ".join(f"s.{name}" for name in SLICES.column_names)})
"""

LEADS_RUN: Final = "leads_run_id"
"""Among the details of ENRICHED_CONTACTS: the run whose leads the contacts are of."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows that one run wrote for one partition of a work table."""

    table: Table
    partition_key: str
    run_id: str
    row_count: int
    details: dict[str, Any]

    @property
    def where(self) -> str:
        return "partition_key = ? AND run_id = ?"

    @property
    def params(self) -> list[object]:
        return [self.partition_key, self.run_id]


def read_slice(session: Session, table: Table, partition_key: str) -> Slice:
    """The latest slice of a work table.

    Raises:
        FailedError: the partition was never materialized.
    """
    found = session.rows(
        f"SELECT run_id, row_count, details FROM {SLICES.full_name} WHERE table_name = ? AND partition_key = ?",
        [table.name, partition_key],
    )
    if not found:
        asset = _ASSET_OF.get(table.name, table.name)
        raise FailedError(f"{asset} has no rows for partition {partition_key}. Materialize {asset} for it first.")
    run_id, row_count, details = found[0]
    return Slice(table, partition_key, run_id, row_count, orjson.loads(details))


def require_unchanged(session: Session, *slices: Slice) -> None:
    """Call it inside the transaction that publishes what was made from the slices, which are of one partition.

    Raises:
        FailedError: another run replaced a slice in the meantime.
    """
    if not slices:
        return
    marks = ", ".join("?" for _ in slices)
    found = dict(
        session.rows(
            f"SELECT table_name, run_id FROM {SLICES.full_name} WHERE partition_key = ? AND table_name IN ({marks})",
            [slices[0].partition_key, *(expected.table.name for expected in slices)],
        )
    )
    for expected in slices:
        if found.get(expected.table.name) != expected.run_id:
            asset = _ASSET_OF.get(expected.table.name, expected.table.name)
            raise FailedError(
                f"{asset} of partition {expected.partition_key} was replaced by another run meanwhile. "
                "Nothing was published; materialize the partition again."
            )


def replace_slice(
    session: Session,
    table: Table,
    partition_key: str,
    run_id: str,
    *,
    select: str,
    params: Sequence[object],
    details: Mapping[str, object],
    now: datetime,
) -> int:
    """Replace the partition's rows by those of a SELECT of the table's columns in order; return their number."""
    session.execute(f"DELETE FROM {table.full_name} WHERE partition_key = ?", [partition_key])
    row_count = session.execute(f"INSERT INTO {table.full_name} ({', '.join(table.column_names)}) {select}", params)
    session.execute(_NOTE, [table.name, partition_key, run_id, now, row_count, orjson.dumps(dict(details)).decode()])
    return row_count
