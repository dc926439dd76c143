"""The versions of the list that were held, as differences from one to the next: what stood on it at any time.

A difference holds the numbers that came or went, a few bytes each. From the list there is now
one goes back: a number stood on an older version when it stands on this one and an even number
of differences hold it, or the other way round. Making versions is building.py's business.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import orjson
import pyarrow as pa

from leadscrub_pipeline.dnc.number_set import AREA, AREA_CODES, Numbers
from leadscrub_pipeline.errors import UnavailableError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS versions (
  version TEXT PRIMARY KEY,
  parent TEXT,
  obtained_at TEXT NOT NULL,
  placed_at TEXT NOT NULL,
  row_count INTEGER NOT NULL,
  area_codes TEXT NOT NULL,
  kind TEXT NOT NULL,
  added INTEGER NOT NULL,
  removed INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS differences (
  version TEXT NOT NULL,
  area_code INTEGER NOT NULL,
  added BLOB NOT NULL,
  removed BLOB NOT NULL,
  PRIMARY KEY (version, area_code)
) WITHOUT ROWID;
"""
_CODEC: Final = pa.Codec("zstd")
_REMEMBERED: Final = 1_000
"""Differences of an area code; each is a few kilobytes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What came and what went in one area code, ascending."""

    code: int
    added: Numbers
    removed: Numbers


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version that was held from ``placed_at`` until the next was placed. Times are aware and in UTC."""

    version: str
    parent: str | None
    obtained_at: datetime
    placed_at: datetime
    rows: int
    area_codes: frozenset[int]
    kind: str
    added: int
    removed: int


class VersionBook:
    """The versions kept beside a list. Use it in a ``with`` block; one that does not exist is empty."""

    def __init__(self, path: Path, *, writing: bool = False) -> None:
        self.path = path
        self._unpacked: dict[tuple[str, int], tuple[Difference, ...]] = {}
        with _as_unavailable(path):
            if writing:
                self._connection = sqlite3.connect(path, isolation_level=None)
                path.chmod(0o600)
                self._connection.executescript(_SCHEMA)
            elif path.exists():
                self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            else:
                self._connection = sqlite3.connect(":memory:", isolation_level=None)
                self._connection.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def add(self, version: KeptVersion, differences: Iterable[Difference]) -> None:
        """Keep a version and its difference from its parent, both or neither; doing it again changes nothing."""
        with _as_unavailable(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._forget(version.version)
                self._connection.execute(
                    "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        version.version,
                        version.parent,
                        _text(version.obtained_at),
                        _text(version.placed_at),
                        version.rows,
                        orjson.dumps(sorted(version.area_codes)).decode(),
                        version.kind,
                        version.added,
                        version.removed,
                    ),
                )
                self._connection.executemany(
                    "INSERT INTO differences VALUES (?, ?, ?, ?)",
                    (
                        (version.version, one.code, _packed(one.code, one.added), _packed(one.code, one.removed))
                        for one in differences
                    ),
                )
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def placed(self, version: str, at: datetime) -> None:
        """Say when a version that is kept was put in place."""
        with _as_unavailable(self.path):
            self._connection.execute("UPDATE versions SET placed_at = ? WHERE version = ?", (_text(at), version))

    def chain(self, newest: str) -> list[KeptVersion]:
        """The version there is now and those before it, newest first, as far back as they are kept.

        A version that was never placed, because its build was ended first, is in no chain.
        """
        with _as_unavailable(self.path):
            rows = self._connection.execute(
                "SELECT version, parent, obtained_at, placed_at, row_count, area_codes, kind, added, removed "
                "FROM versions"
            ).fetchall()
        known = {row[0]: _kept(row) for row in rows}
        chain: list[KeptVersion] = []
        name: str | None = newest
        while name in known and len(chain) < len(known):
            chain.append(known[name])
            name = chain[-1].parent
        return chain

    def toggled(self, number: int, versions: Iterable[KeptVersion]) -> bool:
        """Whether going back over these versions' differences changes where the number stands."""
        code, odd = number // AREA, False
        for version in versions:
            for one in self._remembered(version.version, code):
                odd ^= bool(_among(number, one.added)) ^ bool(_among(number, one.removed))
        return odd

    def differences(self, version: str) -> Iterator[Difference]:
        """What came and went with a version, by area code."""
        for code in range(AREA_CODES):
            yield from self._differences(version, code)

    def prune(self, newest: str, before: datetime) -> int:
        """Forget versions that were replaced before this time, and those of no chain; say how many."""
        chain = self.chain(newest)
        # A version was held until its successor was placed.
        kept = {newest} | {older.version for newer, older in pairwise(chain) if newer.placed_at >= before}
        with _as_unavailable(self.path):
            names = {name for (name,) in self._connection.execute("SELECT version FROM versions")}
            self._connection.execute("BEGIN IMMEDIATE")
            for name in names - kept:
                self._forget(name)
            self._connection.execute("COMMIT")
        return len(names - kept)

    def _remembered(self, version: str, code: int) -> tuple[Difference, ...]:
        """As ``_differences``, for questions about many numbers; what was unpacked is kept up to a bound."""
        key = (version, code)
        if key not in self._unpacked:
            if len(self._unpacked) >= _REMEMBERED:
                self._unpacked.clear()
            self._unpacked[key] = tuple(self._differences(version, code))
        return self._unpacked[key]

    def _differences(self, version: str, code: int) -> Iterator[Difference]:
        with _as_unavailable(self.path):
            row = self._connection.execute(
                "SELECT added, removed FROM differences WHERE version = ? AND area_code = ?", (version, code)
            ).fetchone()
        if row is not None:
            yield Difference(code, _unpacked(code, row[0]), _unpacked(code, row[1]))

    def _forget(self, version: str) -> None:
        self._connection.execute("DELETE FROM versions WHERE version = ?", (version,))
        self._connection.execute("DELETE FROM differences WHERE version = ?", (version,))


def held_at(chain: list[KeptVersion], moment: datetime) -> KeptVersion | None:
    """The version of a chain that was in place at a time; None when it was before the oldest that is kept."""
    return next((version for version in chain if version.placed_at <= moment), None)


def _among(number: int, numbers: Numbers) -> bool:
    place = int(np.searchsorted(numbers, number))
    return place < len(numbers) and int(numbers[place]) == number


def _packed(code: int, numbers: Numbers) -> bytes:
    """The distances from one number to the next, compressed, with how many there are before them."""
    steps = np.diff(numbers - code * AREA, prepend=0).astype("<u4")
    # Equal bytes beside each other pack better than whole numbers.
    planes = steps.view(np.uint8).reshape(-1, 4).T.tobytes()
    return len(numbers).to_bytes(4, "little") + bytes(_CODEC.compress(planes, asbytes=True))


def _unpacked(code: int, data: bytes) -> Numbers:
    count = int.from_bytes(data[:4], "little")
    planes = _CODEC.decompress(data[4:], decompressed_size=count * 4, asbytes=True) if count else b""
    steps = np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(4, -1).T).view("<u4").ravel()
    return np.cumsum(steps, dtype=np.int64) + code * AREA


def _kept(row: tuple[object, ...]) -> KeptVersion:
    version, parent, obtained_at, placed_at, rows, codes, kind, added, removed = row
    return KeptVersion(
        version=str(version),
        parent=None if parent is None else str(parent),
        obtained_at=datetime.fromisoformat(str(obtained_at)),
        placed_at=datetime.fromisoformat(str(placed_at)),
        rows=int(str(rows)),
        area_codes=frozenset(orjson.loads(str(codes))),
        kind=str(kind),
        added=int(str(added)),
        removed=int(str(removed)),
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


@contextmanager
def _as_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise UnavailableError(
            f"The file of kept list versions {path} cannot be used: {type(error).__name__}."
        ) from None
