"""DuckDB's spelling of what the engines do not share: expressions, column types, and types of a script's result.

Statements do not belong here, and sqlglot's carrying over of lead scripts stands in domain/dialects.py.
"""

import re
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.warehouse.duckdb_engine import literal, quoted
from leadscrub_pipeline.warehouse.protocol import OutputColumn, OutputType
from leadscrub_pipeline.warehouse.schema import ColumnType

_TYPES: Final[dict[ColumnType, str]] = {
    "text": "VARCHAR",
    "bool": "BOOLEAN",
    "int": "BIGINT",
    "number": "DECIMAL(37,0)",
    "timestamp": "TIMESTAMP",
    "json": "JSON",
}
_ARROW_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int64(): "BIGINT",
    pa.decimal128(37, 0): "DECIMAL(37,0)",
    pa.timestamp("us"): "TIMESTAMP",
}
_INTEGERS: Final = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER"}
)
_ALL_NULL: Final = '"NULL"'
"""The type of a column that holds no value at all, as pandas writes it to Parquet."""
# Snowflake's INTEGER is a NUMBER(38, 0).
_WHOLE_DECIMAL: Final = re.compile(r"DECIMAL\(\d+,0\)")
_FLOATS: Final = frozenset({"FLOAT", "DOUBLE"})


class DuckdbDialect:
    """DuckDB's spelling of what the engines do not share."""

    def sha256(self, text: str) -> str:
        return f"sha256({text})"

    def to_json(self, text: str) -> str:
        return f"CAST({text} AS JSON)"

    def json_text(self, column: str, *path: str) -> str:
        return f"json_extract_string({column}, '$.{'.'.join(path)}')"

    def json_object(self, columns: Sequence[OutputColumn]) -> str:
        arguments = ", ".join(f"{literal(column.name.lower())}, {_json_value(column)}" for column in columns)
        return f"CAST(json_object({arguments}) AS VARCHAR)"

    def row_number(self) -> str:
        return "ROW_NUMBER() OVER ()"

    def column_type(self, kind: ColumnType) -> str:
        return _TYPES[kind]

    def create_or_replace_view(self, name: str) -> str:
        return f"CREATE OR REPLACE VIEW {name}"

    def change_type(self, table: str, column: str, _there: str, wanted: str) -> str:
        return f"ALTER TABLE {table} ALTER COLUMN {column} SET DATA TYPE {wanted}"

    def stage_type(self, kind: pa.DataType) -> str:
        return _ARROW_TYPES[kind]

    def now(self) -> str:
        # Without the zone of the reader's session, and without an extension.
        return "make_timestamp(epoch_us(now()))"


def _json_value(column: OutputColumn) -> str:
    # JSON has no NaN and no infinity, and DuckDB writes them all the same, in lists and structs too.
    name = f"script.{quoted(column.name)}"
    match column.type:
        case "float":
            return f"CASE WHEN isfinite({name}) THEN {name} END"
        case "other":
            text = f"CAST(to_json({name}) AS VARCHAR)"
            return (
                f"CASE WHEN regexp_matches({text}, 'NaN|Infinity') THEN CAST(array_to_string(list_transform("
                f"regexp_extract_all({text}, {literal(_JSON_PIECE)}), "
                "lambda token: CASE WHEN token IN ('NaN', 'Infinity', '-Infinity') THEN 'null' ELSE token END), '') "
                f"AS JSON) ELSE to_json({name}) END"
            )
    return name


_JSON_PIECE: Final = r'"(?:[^"\\]|\\.)*"|NaN|-?Infinity|[^"NI-]+|.'
"""A string, a number that is none, or what stands between."""


def output_type(kind: str) -> OutputType:
    if kind in ("VARCHAR", _ALL_NULL):
        return "text"
    if kind in _INTEGERS or _WHOLE_DECIMAL.fullmatch(kind):
        return "int"
    return "float" if kind in _FLOATS else "other"
