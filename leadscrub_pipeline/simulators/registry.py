"""A Do-Not-Call file as the existing ones are, or in the compact form, with simulated numbers.

Which numbers are on it is decided by seed. Reading such a file does not belong here.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from leadscrub_pipeline.simulators.phones import AREA_CODES, PhoneSpace, listed_phones

Schema = Literal["three_column", "compact"]

_THREE_COLUMN: Final = """
CREATE TABLE dnc_list (
  area_code TEXT,
  phone_number TEXT,
  full_phone TEXT,
  PRIMARY KEY (area_code, phone_number)
);
"""
_THREE_COLUMN_INDEX: Final = "CREATE INDEX idx_full_phone ON dnc_list (full_phone);"
_COMPACT: Final = """
CREATE TABLE dnc_numbers (phone INTEGER PRIMARY KEY);
CREATE TABLE dnc_area_codes (area_code INTEGER PRIMARY KEY);
CREATE TABLE dnc_version (version TEXT, obtained_at TEXT, row_count INTEGER);
"""


@dataclass(frozen=True, slots=True)
class RegistryAmounts:
    rows: int
    area_codes: frozenset[str]
    """Those with at least one number in the file, or, in the compact form, those it says it covers."""


def make_registry(
    path: Path,
    *,
    seed: int = 1,
    space: PhoneSpace = PhoneSpace.FICTIONAL,
    listed: Iterable[str] | None = None,
    schema: Schema = "three_column",
    without_area_codes: Iterable[str] = (),
    obtained_at: datetime | None = None,
) -> RegistryAmounts:
    """Write a registry file, put in place in one step, and say what is in it.

    ``listed`` are its numbers; by default all of the space for which ``phones.is_listed``
    holds. Numbers of ``without_area_codes`` stay out, as in a list bought for some area codes
    only. The three-column form says nothing of its age, the compact one says ``obtained_at``
    (default: now).
    """
    left_out = frozenset(without_area_codes)
    numbers = (phone for phone in (_of_space(space, seed) if listed is None else listed) if phone[:3] not in left_out)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with closing(sqlite3.connect(beside)) as connection:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        if schema == "three_column":
            amounts = _fill_three_column(connection, numbers)
        else:
            amounts = _fill_compact(connection, numbers, left_out, obtained_at or datetime.now(UTC))
        connection.commit()
    beside.chmod(0o600)
    beside.replace(path)
    return amounts


def _of_space(space: PhoneSpace, seed: int) -> Iterator[str]:
    for phones in listed_phones(space, seed=seed):
        yield from map(str, phones.tolist())


def _fill_three_column(connection: sqlite3.Connection, numbers: Iterable[str]) -> RegistryAmounts:
    connection.executescript(_THREE_COLUMN)
    rows = ((phone[:3], phone[3:], phone) for phone in numbers)
    connection.executemany("INSERT OR IGNORE INTO dnc_list VALUES (?, ?, ?)", rows)
    connection.executescript(_THREE_COLUMN_INDEX)
    count, *_ = connection.execute("SELECT count(*) FROM dnc_list").fetchone()
    codes = connection.execute("SELECT DISTINCT area_code FROM dnc_list").fetchall()
    return RegistryAmounts(count, frozenset(code for (code,) in codes))


def _fill_compact(
    connection: sqlite3.Connection, numbers: Iterable[str], left_out: frozenset[str], obtained_at: datetime
) -> RegistryAmounts:
    connection.executescript(_COMPACT)
    connection.executemany("INSERT OR IGNORE INTO dnc_numbers VALUES (?)", ((int(phone),) for phone in numbers))
    codes = frozenset(AREA_CODES) - left_out
    connection.executemany("INSERT INTO dnc_area_codes VALUES (?)", [(int(code),) for code in sorted(codes)])
    count, *_ = connection.execute("SELECT count(*) FROM dnc_numbers").fetchone()
    stamp = obtained_at.astimezone(UTC).isoformat()
    version = f"simulated-{stamp[:10]}"
    connection.execute("INSERT INTO dnc_version VALUES (?, ?, ?)", (version, stamp, count))
    return RegistryAmounts(count, codes)
