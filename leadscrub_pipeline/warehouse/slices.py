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
    """Call it inside the transaction that publishes what was made from the slices.

    Raises:
        FailedError: another run replaced a slice in the meantime.
    """
    for expected in slices:
        if read_slice(session, expected.table, expected.partition_key).run_id != expected.run_id:
            asset = _ASSET_OF[expected.table.name]
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
    session.execute(
        f"DELETE FROM {SLICES.full_name} WHERE table_name = ? AND partition_key = ?", [table.name, partition_key]
    )
    session.execute(
        f"INSERT INTO {SLICES.full_name} ({', '.join(SLICES.column_names)}) VALUES (?, ?, ?, ?, ?, ?)",
        [table.name, partition_key, run_id, now, row_count, orjson.dumps(dict(details)).decode()],
    )
    return row_count
