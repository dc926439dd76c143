"""Values at the warehouse's edge: Arrow tables of the declared schema, and times as tables hold them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.warehouse.schema import ColumnType, Table

_ARROW: Final[dict[ColumnType, pa.DataType]] = {
    "text": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "number": pa.decimal128(37, 0),
    "timestamp": pa.timestamp("us"),
    "json": pa.string(),
}


def arrow_schema(table: Table, *names: str) -> pa.Schema:
    """Schema of the named columns, or of all; nullable booleans stay nullable, phones stay text."""
    types = {column.name: _ARROW[column.type] for column in table.columns}
    return pa.schema([(name, types[name]) for name in names or table.column_names])


def stored(value: object) -> object:
    """An aware time as the naive UTC that tables hold; anything else as it is."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def aware(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


def to_table(rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table of the declared schema, times as tables hold them."""
    return pa.table([pa.array(_column(rows, field), field.type) for field in schema], schema=schema)


def _column(rows: Sequence[Mapping[str, object]], field: pa.Field) -> list[object]:
    values = [row[field.name] for row in rows]
    return [stored(value) for value in values] if pa.types.is_timestamp(field.type) else values
