"""Which list a registry file holds: its schema, version, date and area codes, and the statements that ask it.

A file that cannot be trusted is refused here by its name. Asking it about phones is registry.py's business.
"""

import hashlib
import re
import sqlite3
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Final, Literal

from leadscrub_pipeline.dnc.stamp import FileStamp
from leadscrub_pipeline.errors import UnavailableError

Schema = Literal["three_column", "compact"]

TEN_DIGITS: Final = re.compile(r"[0-9]{10}", re.ASCII)
_ON_INDEX: Final = re.compile(r"SEARCH \w+ USING (?:(?:COVERING )?INDEX|INTEGER PRIMARY KEY|PRIMARY KEY)\b")
_MOST_AREA_CODES: Final = 1000


@dataclass(frozen=True, slots=True)
class ListVersion:
    """Which list the file holds; the name is stored with each verdict and stays the same while the file does."""

    name: str
    obtained_at: datetime | None
    """Aware, UTC. None when neither the file nor DNC_LIST_DATE says it; file times do not count."""
    schema: Schema
    area_codes: frozenset[str]
    rows: int | None
    """As the file says; counting 258 million rows takes too long."""


@dataclass(frozen=True, slots=True)
class Statements:
    batched: str
    single: str
    table: str
    extremes: str
    also: tuple[str, ...] = ()
    """Further statements that must run on an index."""


_NEXT_AREA_CODE: Final = """
WITH RECURSIVE found(area_code) AS (
  SELECT min(area_code) FROM dnc_list
  UNION ALL
  SELECT (SELECT min(area_code) FROM dnc_list WHERE area_code > found.area_code)
  FROM found
  WHERE found.area_code IS NOT NULL
)
SELECT area_code FROM found WHERE area_code IS NOT NULL LIMIT ?
"""
_FIRST_OF_AREA: Final = """
SELECT phone_number, full_phone FROM dnc_list
WHERE area_code = ? ORDER BY area_code, phone_number LIMIT 1
"""
_LAST_OF_AREA: Final = """
SELECT phone_number, full_phone FROM dnc_list
WHERE area_code = ? ORDER BY area_code DESC, phone_number DESC LIMIT 1
"""
_WITHOUT_PHONE: Final = "SELECT 1 FROM dnc_list WHERE full_phone IS NULL LIMIT 1"
_EXTREMES: Final = "SELECT (SELECT min(full_phone) FROM dnc_list), (SELECT max(full_phone) FROM dnc_list)"

STATEMENTS: Final[dict[Schema, Statements]] = {
    "three_column": Statements(
        batched="SELECT dnc_list.full_phone FROM json_each(?) CROSS JOIN dnc_list ON dnc_list.full_phone = value",
        single="SELECT full_phone FROM dnc_list WHERE full_phone = ? LIMIT 1",
        table="dnc_list",
        extremes=_EXTREMES,
        also=(_EXTREMES, _NEXT_AREA_CODE, _FIRST_OF_AREA, _LAST_OF_AREA, _WITHOUT_PHONE),
    ),
    "compact": Statements(
        batched="SELECT dnc_numbers.phone FROM json_each(?) CROSS JOIN dnc_numbers ON dnc_numbers.phone = value",
        single="SELECT phone FROM dnc_numbers WHERE phone = ?",
        table="dnc_numbers",
        extremes="SELECT (SELECT min(phone) FROM dnc_numbers), (SELECT max(phone) FROM dnc_numbers)",
    ),
}
_COLUMNS: Final = {
    "dnc_list": {"area_code", "phone_number", "full_phone"},
    "dnc_numbers": {"phone"},
    "dnc_version": {"version", "obtained_at", "row_count"},
    "dnc_area_codes": {"area_code"},
}
_TABLES: Final[dict[Schema, tuple[str, ...]]] = {
    "three_column": ("dnc_list",),
    "compact": ("dnc_numbers", "dnc_version", "dnc_area_codes"),
}


def read_version(
    path: Path, connection: sqlite3.Connection, stamp: FileStamp, list_date: date | None, now: datetime
) -> ListVersion:
    """Look what list the opened file holds; ``list_date`` dates one that does not say its date itself.

    Raises:
        UnavailableError: the file is empty, of another schema, without its index, or dated in the future.
        sqlite3.Error: it cannot be read.
    """
    schema = _find_schema(path, connection)
    statements = STATEMENTS[schema]
    for statement in (statements.batched, statements.single, *statements.also):
        _require_index(path, connection, statement, statements.table)
    first, last = connection.execute(statements.extremes).fetchone()
    if first is None:
        raise UnavailableError(f"The registry file {path} holds no numbers. Load the list again.")
    # Integers sort before text and blobs after it: the two ends show a column of another type or spelling.
    kind = str if schema == "three_column" else int
    if not all(isinstance(end, kind) and TEN_DIGITS.fullmatch(str(end)) for end in (first, last)):
        raise UnavailableError(f"The registry file {path} holds numbers that are not ten digits. Load it again.")
    dated = None if list_date is None else datetime.combine(list_date, time(), UTC)
    if schema == "three_column":
        return _old_version(path, connection, stamp, dated)
    return _compact_version(path, connection, dated, now)


def _find_schema(path: Path, connection: sqlite3.Connection) -> Schema:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for schema, names in _TABLES.items():
        if all(name in tables and _columns(connection, name) >= _COLUMNS[name] for name in names):
            return schema
    raise UnavailableError(
        f"The registry file {path} is of another schema: it needs table dnc_list "
        "(area_code, phone_number, full_phone), or tables dnc_numbers, dnc_version and dnc_area_codes."
    )


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def _require_index(path: Path, connection: sqlite3.Connection, statement: str, table: str) -> None:
    """A statement that misses the index takes 5 to 25 seconds on the full list."""
    values = (None,) * statement.count("?")
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    # A search without an index is said of min() over a table without one: that reads every row.
    steps = [step for step in plan if table in step.split()]
    if not steps or not all(_ON_INDEX.match(step) for step in steps):
        raise UnavailableError(
            f"The registry file {path} lacks an index that its lookups need. Create it: dnc_list needs "
            "PRIMARY KEY (area_code, phone_number) and an index on full_phone."
        )


def _old_version(
    path: Path, connection: sqlite3.Connection, stamp: FileStamp, obtained_at: datetime | None
) -> ListVersion:
    """The version of a three-column file, named after its date, size, change counter and outermost rows."""
    area_codes = [code for (code,) in connection.execute(_NEXT_AREA_CODE, (_MOST_AREA_CODES + 1,))]
    outermost = hashlib.sha256()
    for code in area_codes:
        for statement in (_FIRST_OF_AREA, _LAST_OF_AREA):
            number, full = connection.execute(statement, (code,)).fetchone()
            if full != f"{code}{number}" or not TEN_DIGITS.fullmatch(full):
                raise UnavailableError(
                    f"The registry file {path} holds rows whose full_phone is not area_code and "
                    "phone_number in ten digits. Load it again."
                )
            outermost.update(full.encode())
    if connection.execute(_WITHOUT_PHONE).fetchone() is not None:
        raise UnavailableError(f"The registry file {path} holds rows without full_phone. Load it again.")
    dated = "undated" if obtained_at is None else obtained_at.date().isoformat()
    name = f"dnc-{dated}-{stamp.size}-{stamp.change_counter}-{outermost.hexdigest()[:8]}"
    return ListVersion(name, obtained_at, "three_column", frozenset(area_codes), None)


def _compact_version(path: Path, connection: sqlite3.Connection, dated: datetime | None, now: datetime) -> ListVersion:
    rows = connection.execute("SELECT version, obtained_at, row_count FROM dnc_version LIMIT 2").fetchall()
    if len(rows) != 1 or not isinstance(rows[0][0], str) or not rows[0][0].strip():
        raise UnavailableError(f"The registry file {path} does not say its version in exactly one row. Load it again.")
    name, obtained_text, row_count = rows[0]
    obtained_at = dated if obtained_text is None else _utc(path, obtained_text)
    if obtained_at is not None and obtained_at > now:
        raise UnavailableError(f"The registry file {path} says that its list was obtained in the future.")
    codes = connection.execute("SELECT area_code FROM dnc_area_codes LIMIT ?", (_MOST_AREA_CODES + 1,))
    area_codes = frozenset(str(code) for (code,) in codes)
    return ListVersion(name, obtained_at, "compact", area_codes, row_count if isinstance(row_count, int) else None)


def _utc(path: Path, text: str) -> datetime:
    """A time as the file says it; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise UnavailableError(
            f"The registry file {path} says its date in a form that cannot be read. Load it again."
        ) from None
