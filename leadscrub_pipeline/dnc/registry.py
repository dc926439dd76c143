"""The registry file: which list it holds, how old it is, and which phones are on it.

Absence from the list means clear only when the list is fresh and covers the phone's area
code. Whether a stale list stops a step is the caller's policy and does not belong here.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from leadscrub_pipeline.dnc.stamp import FileStamp, take_stamp
from leadscrub_pipeline.domain.verdicts import (
    CLEAR,
    LISTED,
    Answer,
    Reason,
    registry_valid_until,
    unknown,
    utc_now,
)
from leadscrub_pipeline.errors import RefusedError, StaleListError, UnavailableError

Schema = Literal["three_column", "compact"]

_TEN_DIGITS: Final = re.compile(r"[0-9]{10}", re.ASCII)
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
class _Statements:
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

_STATEMENTS: Final[dict[Schema, _Statements]] = {
    "three_column": _Statements(
        batched="SELECT dnc_list.full_phone FROM json_each(?) CROSS JOIN dnc_list ON dnc_list.full_phone = value",
        single="SELECT full_phone FROM dnc_list WHERE full_phone = ? LIMIT 1",
        table="dnc_list",
        extremes=_EXTREMES,
        also=(_EXTREMES, _NEXT_AREA_CODE, _FIRST_OF_AREA, _LAST_OF_AREA, _WITHOUT_PHONE),
    ),
    "compact": _Statements(
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


class DncRegistry:
    """One opened registry file, read only. Use ``DncRegistry.open``, in a ``with`` block, from one thread."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        stamp: FileStamp,
        version: ListVersion,
        *,
        max_age_days: int,
        now: Callable[[], datetime],
    ) -> None:
        self.path = path
        self.version = version
        self._connection = connection
        self._stamp = stamp
        self._max_age_days = max_age_days
        self._now = now
        self._statements = _STATEMENTS[version.schema]

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        list_date: date | None,
        max_age_days: int,
        now: Callable[[], datetime] = utc_now,
    ) -> Self:
        """Open and check the file; ``list_date`` dates a file that does not say its date itself.

        Raises:
            UnavailableError: no such file, or it is empty, truncated, of another schema,
                without its index, or dated in the future.
            RefusedError: ``list_date`` is in the future.
        """
        if path is None:
            raise UnavailableError("No registry file is configured. Set DNC_DATABASE_PATH.")
        if list_date is not None and list_date > now().date():
            raise RefusedError(f"DNC_LIST_DATE {list_date} is in the future.")
        stamp = take_stamp(path)
        with _as_unavailable(path):
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            with _as_unavailable(path):
                for pragma in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON"):
                    connection.execute(f"PRAGMA {pragma}")
                version = _read_version(path, connection, stamp, list_date, now())
            if take_stamp(path) != stamp:
                raise UnavailableError(f"The registry file {path} changed while it was opened. Try again.")
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, stamp, version, max_age_days=max_age_days, now=now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @property
    def age_days(self) -> int | None:
        """Whole days since the list was obtained, or None when nobody says."""
        obtained_at = self.version.obtained_at
        return None if obtained_at is None else (self._now() - obtained_at).days

    def age_reason(self) -> Reason | None:
        """Why absence from the list does not mean clear now, or None (16 CFR 310.4(b)(3)(iv))."""
        obtained_at = self.version.obtained_at
        if obtained_at is None:
            return Reason.LIST_OF_UNKNOWN_AGE
        stale = registry_valid_until(obtained_at, self._max_age_days) <= self._now()
        return Reason.STALE_LIST if stale else None

    def require_fresh(self) -> None:
        """Raise when the list is past its age or of unknown age.

        Raises:
            StaleListError: absence from this list cannot be read as clear.
        """
        reason = self.age_reason()
        if reason is Reason.LIST_OF_UNKNOWN_AGE:
            raise StaleListError(
                f"The registry file {self.path} does not say when the list was obtained. Set DNC_LIST_DATE."
            )
        if reason is not None:
            raise StaleListError(
                f"The registry list is {self.age_days} days old, the limit is {self._max_age_days}. "
                "Load a newer list, and set DNC_LIST_DATE where the file does not say its date."
            )

    def look_up(self, phones: Sequence[str], *, batched: bool = True) -> dict[str, Answer]:
        """Answer every asked phone: listed when found, clear only when the list is fresh and covers its area code.

        Text that is no ten digits is answered unknown. ``batched`` asks in one statement,
        otherwise in one a phone; the answers are the same.

        Raises:
            UnavailableError: the file cannot be read, or changed since it was opened.
        """
        asked = sorted({phone for phone in phones if _TEN_DIGITS.fullmatch(phone)})
        self._require_unchanged("since it was opened")
        with _as_unavailable(self.path):
            found = self._find_batched(asked) if batched else self._find_one_by_one(asked)
        self._require_unchanged("during the lookup")
        age_reason = self.age_reason()
        absent = CLEAR if age_reason is None else unknown(age_reason)
        not_covered = unknown(Reason.AREA_CODE_NOT_COVERED)
        covered = self.version.area_codes
        answers = dict.fromkeys(phones, unknown(Reason.NOT_NANP))
        for phone in asked:
            if phone in found:
                answers[phone] = LISTED
            else:
                answers[phone] = absent if phone[:3] in covered else not_covered
        return answers

    def describe(self) -> dict[str, str | int | None]:
        """The list's particulars for metadata, the same keys always."""
        version = self.version
        reason = self.age_reason()
        return {
            "list_version": version.name,
            "schema": version.schema,
            "obtained_at": None if version.obtained_at is None else version.obtained_at.isoformat(),
            "age_days": self.age_days,
            "max_age_days": self._max_age_days,
            "age_reason": None if reason is None else reason.value,
            "area_codes": len(version.area_codes),
            "rows": version.rows,
            "file_bytes": self._stamp.size,
        }

    def _find_batched(self, phones: Sequence[str]) -> set[str]:
        values: Sequence[str | int] = phones if self.version.schema == "three_column" else [int(p) for p in phones]
        rows = self._connection.execute(self._statements.batched, (json.dumps(values),))
        return {str(phone) for (phone,) in rows}

    def _find_one_by_one(self, phones: Sequence[str]) -> set[str]:
        as_stored = str if self.version.schema == "three_column" else int
        self._connection.execute("BEGIN")  # one snapshot for all, as the batched statement has
        try:
            found = set()
            for phone in phones:
                if self._connection.execute(self._statements.single, (as_stored(phone),)).fetchone() is not None:
                    found.add(phone)
            return found
        finally:
            self._connection.execute("ROLLBACK")

    def _require_unchanged(self, when: str) -> None:
        if take_stamp(self.path) != self._stamp:
            raise UnavailableError(f"The registry file {self.path} changed {when}. Start again with the new file.")


@contextmanager
def _as_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", None) or type(error).__name__
        raise UnavailableError(f"The registry file {path} cannot be read: {code}.") from None


def _read_version(
    path: Path, connection: sqlite3.Connection, stamp: FileStamp, list_date: date | None, now: datetime
) -> ListVersion:
    schema = _find_schema(path, connection)
    statements = _STATEMENTS[schema]
    for statement in (statements.batched, statements.single, *statements.also):
        _require_index(path, connection, statement, statements.table)
    first, last = connection.execute(statements.extremes).fetchone()
    if first is None:
        raise UnavailableError(f"The registry file {path} holds no numbers. Load the list again.")
    # Integers sort before text and blobs after it: the two ends show a column of another type or spelling.
    kind = str if schema == "three_column" else int
    if not all(isinstance(end, kind) and _TEN_DIGITS.fullmatch(str(end)) for end in (first, last)):
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
            if full != f"{code}{number}" or not _TEN_DIGITS.fullmatch(full):
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
