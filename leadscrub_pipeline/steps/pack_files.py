"""The files of a pack: private, hashed as they are written, and in their folder whole or not at all.

What is in them does not belong here.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast

import pyarrow as pa

from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.warehouse.arrow import to_table
from leadscrub_pipeline.warehouse.exports import write_csv

Row = Mapping[str, object]
Columns = Mapping[str, Literal["text", "int", "bool", "timestamp"]]

_ARROW: Final = {"text": pa.string(), "int": pa.int64(), "bool": pa.bool_(), "timestamp": pa.timestamp("us")}
_ROWS_AT_A_TIME: Final = 5_000


@dataclass(frozen=True, slots=True)
class WrittenFile:
    name: str
    sha256: str
    rows: int | None
    """Without the header; None for what is no table."""


class _Hashed(RawIOBase):
    """A file that knows the SHA-256 of what went into it."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self.hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        self.hash.update(data)
        return self._file.write(data)

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        super().close()


class PackWriter:
    """Writes the pack's files and remembers what is in them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: list[WrittenFile] = []

    def pages(self, name: str, columns: Sequence[str], pages: Iterable[pa.Table]) -> WrittenFile:
        def write(stream: BinaryIO) -> int:
            header = ["script" if column == "partition_key" else column for column in columns]
            return write_csv(pages, stream, header)

        return self._write(name, write)

    def csv(self, name: str, columns: Columns, rows: Iterable[Row]) -> WrittenFile:
        schema = pa.schema([(column, _ARROW[kind]) for column, kind in columns.items()])
        return self._write(name, lambda stream: write_csv(_small_pages(rows, schema), stream, list(columns)))

    def text(self, name: str, text: str) -> WrittenFile:
        def write(stream: BinaryIO) -> None:
            stream.write(text.encode())

        return self._write(name, write)

    def _write(self, name: str, write: Callable[[BinaryIO], int | None]) -> WrittenFile:
        file = _Hashed(self._folder / name)
        try:
            rows = write(cast(BinaryIO, file))
        finally:
            file.close()
        written = WrittenFile(name, file.hash.hexdigest(), rows)
        self.files.append(written)
        return written


def _small_pages(rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.Table]:
    page: list[Row] = []
    for row in rows:
        page.append(row)
        if len(page) == _ROWS_AT_A_TIME:
            yield to_table(page, schema)
            page = []
    yield to_table(page, schema)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` that takes its place when the block ends well; else it is gone."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UsageError(f"{path} is not a folder. Name a new one.")
    try:
        if path.exists() and any(path.iterdir()):
            raise UsageError(f"{path} is not empty. Name a new folder: a pack is never mixed with other files.")
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", dir=path.absolute().parent))
    except FileNotFoundError:
        raise UsageError(f"There is no folder {path.absolute().parent}. Make it first.") from None
    except OSError as error:
        raise _not_written(path, error) from None
    try:
        yield beside
        # An empty folder gives way; one that was filled meanwhile does not.
        beside.rename(path)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        if beside.exists():
            with suppress(OSError):
                shutil.rmtree(beside)


def _not_written(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"{path} cannot be written: {error.strerror or type(error).__name__}.")
