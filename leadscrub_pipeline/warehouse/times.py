"""Times at the warehouse's edge: aware UTC inside the project, naive UTC in tables."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa


def stored(value: object) -> object:
    """An aware time as the naive UTC that tables hold; anything else as it is."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def aware(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


def to_table(rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table of the declared schema, times as tables hold them."""
    return pa.table(
        [pa.array([stored(row[field.name]) for row in rows], field.type) for field in schema], schema=schema
    )
