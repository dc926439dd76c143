"""Registry files in bulk: a whole list written as a SQLite file, and all its numbers read from one.

Arrow's driver for SQLite does both several times faster than rows of Python would. Looking up
single phones is registry.py's business, and what a new list is made of building.py's.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import adbc_driver_manager
import adbc_driver_sqlite.dbapi as arrow_sqlite
import orjson
import pyarrow as pa

from leadscrub_pipeline.dnc.number_set import AREA, Numbers, NumberSet
from leadscrub_pipeline.dnc.text_lists import Batch
from leadscrub_pipeline.dnc.versions import Difference
from leadscrub_pipeline.errors import UnavailableError

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS dnc_numbers (phone INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS dnc_area_codes (area_code INTEGER PRIMARY KEY, numbers INTEGER NOT NULL)",
    (
        "CREATE TABLE IF NOT EXISTS dnc_version (version TEXT NOT NULL, obtained_at TEXT NOT NULL, "
        "row_count INTEGER NOT NULL, content_sha256 TEXT NOT NULL, built_at TEXT NOT NULL, facts TEXT NOT NULL)"
    ),
)
_OLD_NUMBERS: Final = """
SELECT CASE
  WHEN typeof(full_phone) = 'text' AND length(full_phone) = 10 AND full_phone NOT GLOB '*[^0-9]*'
    THEN CAST(full_phone AS INTEGER)
END
FROM dnc_list
ORDER BY full_phone
"""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A file that a list was made from."""

    name: str
    sha256: str
    bytes: int
    lines: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListFacts:
    """What a list file says of itself. Times are aware and in UTC."""

    version: str
    obtained_at: datetime
    built_at: datetime
    rows: int
    content_sha256: str
    """Of the numbers: see number_set.Contents."""
    area_codes: Mapping[int, int]
    """Those that the list covers, with how many numbers each has."""
    kind: str
    """full, changes or import."""
    sources: tuple[SourceFacts, ...]
    parent: str | None = None
    """The version that changes were applied to, or that a full list replaced."""
    subscription: str | None = None
    """The subscription account number, masked."""


def write_list(path: Path, numbers: NumberSet, *, done: Callable[[int], None]) -> None:
    """Write all numbers into the SQLite file at ``path``, going on where an earlier call was ended.

    ``done`` hears how many numbers were written since it was last called.
    """
    with _writing(path) as cursor:
        for statement in ("PRAGMA synchronous = OFF", "PRAGMA journal_mode = TRUNCATE", *_SCHEMA):
            _run(cursor, statement)
        last = _value(cursor, "SELECT max(phone) FROM dnc_numbers")
        # An area code is written in one transaction: what is there of one is all of it.
        codes = [code for code in sorted(numbers.contents.counts) if last is None or code > last // AREA]
        done(numbers.contents.rows - sum(numbers.contents.counts[code] for code in codes))
        for code in codes:
            found = numbers.numbers(code)
            _run(cursor, "BEGIN")
            cursor.adbc_ingest("dnc_numbers", pa.table({"phone": found}), mode="append")
            _run(cursor, "COMMIT")
            done(len(found))


def change_list(path: Path, differences: Iterable[Difference]) -> None:
    """Apply differences to the list at ``path``, in one transaction. Work that was done before is not done again."""
    with _as_unavailable(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("BEGIN")
        for one in differences:
            connection.executemany("DELETE FROM dnc_numbers WHERE phone = ?", zip(one.removed.tolist(), strict=True))
            connection.executemany("INSERT OR IGNORE INTO dnc_numbers VALUES (?)", zip(one.added.tolist(), strict=True))
        connection.execute("COMMIT")


def write_facts(path: Path, facts: ListFacts) -> None:
    """Let the list say what it is, in one transaction; what it said before is replaced."""
    rest = asdict(facts)
    for name in ("version", "obtained_at", "rows", "content_sha256", "built_at", "area_codes"):
        del rest[name]
    with _as_unavailable(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for table in ("dnc_version", "dnc_area_codes"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.executemany("INSERT INTO dnc_area_codes VALUES (?, ?)", sorted(facts.area_codes.items()))
        connection.execute(
            "INSERT INTO dnc_version VALUES (?, ?, ?, ?, ?, ?)",
            (
                facts.version,
                facts.obtained_at.astimezone(UTC).isoformat(),
                facts.rows,
                facts.content_sha256,
                facts.built_at.astimezone(UTC).isoformat(),
                orjson.dumps(rest).decode(),
            ),
        )
        connection.execute("COMMIT")


def read_facts(path: Path) -> ListFacts | None:
    """What a list that this program built says of itself; None for any other file."""
    with _as_unavailable(path), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        columns = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('dnc_version')")}
        if not {"facts", "content_sha256"} <= columns:
            return None
        row = connection.execute(
            "SELECT version, obtained_at, row_count, content_sha256, built_at, facts FROM dnc_version"
        ).fetchone()
        codes = connection.execute("SELECT area_code, numbers FROM dnc_area_codes").fetchall()
    if row is None:
        return None
    version, obtained_at, rows, content_sha256, built_at, text = row
    rest: dict[str, Any] = orjson.loads(text)
    return ListFacts(
        version=version,
        obtained_at=datetime.fromisoformat(obtained_at),
        built_at=datetime.fromisoformat(built_at),
        rows=rows,
        content_sha256=content_sha256,
        area_codes=dict(codes),
        kind=rest["kind"],
        sources=tuple(SourceFacts(**source) for source in rest["sources"]),
        parent=rest["parent"],
        subscription=rest["subscription"],
    )


def read_list(path: Path) -> Iterator[Numbers]:
    """All numbers of a compact list, ascending, in batches."""
    for batch in _batches(path, "SELECT phone FROM dnc_numbers ORDER BY phone"):
        yield batch.column(0).to_numpy(zero_copy_only=False)


def read_old_list(path: Path) -> Iterator[Batch]:
    """All numbers of a three-column list, ascending, in batches; rejected is what is ``not_ten_digits``."""
    for batch in _batches(path, _OLD_NUMBERS):
        column = batch.column(0)
        found = Batch(column.drop_null().to_numpy(zero_copy_only=False), len(column))
        found.rejected["not_ten_digits"] = column.null_count
        yield found


def _batches(path: Path, query: str) -> Iterator[pa.RecordBatch]:
    with (
        _as_unavailable(path),
        closing(arrow_sqlite.connect(f"{path.resolve().as_uri()}?mode=ro", autocommit=True)) as connection,
        closing(connection.cursor()) as cursor,
    ):
        # The driver reads so many rows at a time.
        cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": "65536"})
        cursor.execute(query)
        yield from cursor.fetch_record_batch()


@contextmanager
def _writing(path: Path) -> Iterator[Any]:
    with (
        _as_unavailable(path),
        closing(arrow_sqlite.connect(str(path), autocommit=True)) as connection,
        closing(connection.cursor()) as cursor,
    ):
        yield cursor


def _run(cursor: Any, statement: str) -> list[Any]:  # noqa: ANN401 - the driver has no types
    cursor.execute(statement)
    return list(cursor.fetchall())


def _value(cursor: Any, query: str) -> Any:  # noqa: ANN401 - as above
    return _run(cursor, query)[0][0]


@contextmanager
def _as_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, adbc_driver_manager.Error, pa.ArrowException) as error:
        raise UnavailableError(f"The registry file {path} cannot be used: {type(error).__name__}.") from None
