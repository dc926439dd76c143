"""Snowflake's spelling of what the engines do not share: expressions, column types, literals, and result types.

Statements do not belong here. Everything is in the form that Snowflake documents.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from leadscrub_pipeline.warehouse.arrow import stored
from leadscrub_pipeline.warehouse.protocol import OutputColumn, OutputType
from leadscrub_pipeline.warehouse.schema import ColumnType

_TYPES: Final[dict[ColumnType, str]] = {
    "text": "VARCHAR",
    "bool": "BOOLEAN",
    "int": "NUMBER(38,0)",
    "number": "NUMBER(37,0)",
    "timestamp": "TIMESTAMP_NTZ(6)",
    "json": "VARIANT",
}
_STAGE_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int64(): "NUMBER(38,0)",
    pa.decimal128(37, 0): "NUMBER(37,0)",
    pa.timestamp("us"): "TIMESTAMP_NTZ(6)",
}
TEXT_LENGTH: Final = 16_777_216
"""Characters that a VARCHAR without a length holds."""
_FIXED, _REAL, _TEXT = 0, 1, 2
"""Type codes of the connector's result metadata."""


class SnowflakeDialect:
    """Snowflake's spelling of what the engines do not share."""

    def sha256(self, text: str) -> str:
        return f"SHA2({text}, 256)"

    def to_json(self, text: str) -> str:
        return f"PARSE_JSON({text})"

    def json_text(self, column: str, *path: str) -> str:
        return f"{column}:{'.'.join(path)}::VARCHAR"

    def json_object(self, columns: Sequence[OutputColumn]) -> str:
        arguments = ", ".join(f"{literal(column.name.lower())}, {_json_value(column)}" for column in columns)
        return f"CAST(TO_JSON(OBJECT_CONSTRUCT_KEEP_NULL({arguments})) AS VARCHAR)" if arguments else "'{}'"

    def row_number(self) -> str:
        return "ROW_NUMBER() OVER (ORDER BY NULL)"

    def now(self) -> str:
        return "CAST(CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP()) AS TIMESTAMP_NTZ)"

    def column_type(self, kind: ColumnType) -> str:
        return _TYPES[kind]

    def create_or_replace_view(self, name: str) -> str:
        # Without COPY GRANTS whoever was given the view loses it at each release that changes it.
        return f"CREATE OR REPLACE VIEW {name} COPY GRANTS"

    def change_type(self, table: str, column: str, there: str, wanted: str) -> str:
        if there.startswith("VARCHAR") and wanted == "VARCHAR":
            return f"ALTER TABLE {table} ALTER COLUMN {column} SET DATA TYPE {wanted}({TEXT_LENGTH})"
        # Snowflake makes a column longer and nothing else of it.
        return (
            f"ALTER TABLE {table} RENAME COLUMN {column} TO {column}_before; "
            f"ALTER TABLE {table} ADD COLUMN {column} {wanted}; "
            f"UPDATE {table} SET {column} = CAST({column}_before AS {wanted})"
        )

    def stage_type(self, kind: pa.DataType) -> str:
        return _STAGE_TYPES[kind]


def _json_value(column: OutputColumn) -> str:
    name = f"script.{quoted(column.name)}"
    if column.type != "float":
        return name
    # JSON has no NaN and no infinity. Snowflake holds NaN for equal to itself and greater than any number.
    return f"CASE WHEN ABS({name}) <= 1.7976931348623157e308 THEN {name} END"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A value as a literal, for statements that take no parameters. Never for personal data: statements are kept.

    Raises:
        TypeError: the value is of another type than text, whole number, flag, time or None.
    """
    match stored(value):
        case None:
            return "NULL"
        case bool() as flag:
            return "TRUE" if flag else "FALSE"
        case int() as number:
            return str(number)
        case datetime() as time:
            return f"CAST('{time.isoformat(sep=' ', timespec='microseconds')}' AS TIMESTAMP_NTZ(6))"
        case str() as text:
            # A backslash escapes in Snowflake's quotes, too.
            return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    raise TypeError(f"A {type(value).__name__} is no literal.")


def inlined(sql: str, params: Sequence[object]) -> str:
    """The statement with its parameters as literals: DDL takes no parameters.

    Raises:
        ValueError: it does not have as many places as parameters.
    """
    parts = _split(sql)
    if len(parts) != len(params) + 1:
        raise ValueError("The statement has not as many places as parameters.")
    written = [parts[0]]
    for value, part in zip(params, parts[1:], strict=True):
        written += [literal(value), part]
    return "".join(written)


def _split(sql: str) -> list[str]:
    """The text between the places; a question mark within quotes is none."""
    parts: list[str] = []
    start = 0
    quote = ""
    for position, character in enumerate(sql):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "?":
            parts.append(sql[start:position])
            start = position + 1
    return [*parts, sql[start:]]


def output_type(column: Any) -> OutputType:  # noqa: ANN401 - the connector's ResultMetadata
    """Type of a script's column from the connector's description of it."""
    if column.type_code == _FIXED:
        return "int" if not column.scale else "other"
    return {_REAL: "float", _TEXT: "text"}.get(column.type_code, "other")  # type: ignore[return-value]
