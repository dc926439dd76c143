"""The cache file of an older system: who was asked about, when, and with what outcome. CSV or Parquet, in pages.

What that counts for is adoption.py's business.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from leadscrub_pipeline.domain.columns import columns_of
from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.errors import UnavailableError, UsageError

PAGE_ROWS: Final = 10_000

_SPELLINGS: Final = {
    "looked_up_at": (
        "lookedupat", "lookupat", "lookupdate", "lookuptime", "lookupdatetime", "searchedat", "cachedat", "processedat",
        "createdat", "timestamp", "datetime", "date", "time",
    ),
    "outcome": ("outcome", "found", "isfound", "hit", "ishit", "result", "status", "matched"),
}  # fmt: skip
_HITS: Final = frozenset({"hit", "true", "t", "yes", "y", "1", "1.0", "found", "match", "matched", "success"})
_MISSES: Final = frozenset({"miss", "false", "f", "no", "n", "0", "0.0", "notfound", "nomatch", "nohit", "notmatched"})


class CachedLookup(NamedTuple):
    person: Person
    looked_up_at: datetime | None
    """Aware UTC; None when the file does not plainly say."""
    outcome: Literal["hit", "miss"] | None
    """None when it is neither."""


class OldCache:
    """A cache file whose columns are known to say what is needed.

    Raises:
        UsageError: the file is neither CSV nor Parquet, or has no column for when or with what outcome.
        RefusedError: its columns do not say who the people are.
        UnavailableError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in (".csv", ".parquet"):
            raise UsageError(f"{path.name} is neither .csv nor .parquet.")
        self._path = path
        self._is_parquet = path.suffix.lower() == ".parquet"
        with self._named_failures():
            self._names = self._read_names()
        self._people = columns_of(self._names, {})[:6]
        self._when, self._what = (_column(self._names, meaning, path) for meaning in ("looked_up_at", "outcome"))

    def pages(self) -> Iterator[list[CachedLookup]]:
        with self._named_failures():
            for batch in self._parquet() if self._is_parquet else self._csv():
                yield self._lookups(batch)

    def _read_names(self) -> list[str]:
        if self._is_parquet:
            return list(pyarrow.parquet.read_schema(self._path).names)
        with self._path.open("rb") as file, pyarrow.csv.open_csv(file) as reader:
            return list(reader.schema.names)

    def _parquet(self) -> Iterator[pa.RecordBatch]:
        with pyarrow.parquet.ParquetFile(self._path) as file:
            yield from file.iter_batches(batch_size=PAGE_ROWS)

    def _csv(self) -> Iterator[pa.RecordBatch]:
        """All values as text: a ZIP and a date are read by our own rules."""
        as_text = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(self._names, pa.string()), strings_can_be_null=True
        )
        with self._path.open("rb") as file, pyarrow.csv.open_csv(file, convert_options=as_text) as reader:
            for batch in reader:
                for first in range(0, batch.num_rows, PAGE_ROWS):
                    yield batch.slice(first, PAGE_ROWS)

    def _lookups(self, batch: pa.RecordBatch) -> list[CachedLookup]:
        people = map(Person._make, zip(*(_texts(batch, name) for name in self._people), strict=True))
        times, outcomes = batch.column(self._when).to_pylist(), batch.column(self._what).to_pylist()
        return [
            CachedLookup(person, _time(time), _outcome(outcome))
            for person, time, outcome in zip(people, times, outcomes, strict=True)
        ]

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise UnavailableError(
                f"The cache file {self._path.name} cannot be read ({type(error).__name__}). It must be a whole Parquet "
                "file, or UTF-8 text with a header line, commas between values and as many values in each line."
            ) from None


def _column(names: Sequence[str], meaning: str, path: Path) -> str:
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in names}
    for spelling in _SPELLINGS[meaning]:
        if spelling in plain:
            return plain[spelling]
    raise UsageError(f"{path.name} has no column that is plainly {meaning}. Rename the right one to {meaning}.")


def _texts(batch: pa.RecordBatch, name: str | None) -> list[str | None]:
    if name is None:
        return [None] * batch.num_rows
    column = batch.column(name)
    if not pa.types.is_string(column.type):
        column = pc.cast(column, pa.string())
    texts: list[str | None] = column.to_pylist()
    return texts


def _time(value: Any) -> datetime | None:  # noqa: ANN401 - whatever the file holds
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _outcome(value: object) -> Literal["hit", "miss"] | None:
    if value is None:
        return None
    word = re.sub(r"[^a-z0-9.]", "", str(value).lower())
    return "hit" if word in _HITS else "miss" if word in _MISSES else None
