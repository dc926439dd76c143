"""Results as they leave: CSV, JSON lines and Parquet, and a file that is there whole or not at all.

Takes pages of the master table and a binary stream. Which rows and phones are in the pages
is decided in results.py.
"""

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.warehouse.arrow import arrow_schema
from leadscrub_pipeline.warehouse.schema import MASTER

_CHUNK_ROWS: Final = 2_000
_FORMULA: Final = r"^[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
"""How a cell starts that a spreadsheet may run; line breaks and wide forms too (OWASP, CSV Injection)."""


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def write_results(pages: Iterable[pa.Table], stream: BinaryIO, format_: Format) -> int:
    """Write the pages to the stream and return the number of rows. Without rows: header or schema only."""
    match format_:
        case Format.CSV:
            return write_csv(pages, stream, MASTER.column_names)
        case Format.JSONL:
            return _write_jsonl(pages, stream)
        case Format.PARQUET:
            return _write_parquet(pages, stream)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A stream to a file that takes its place, mode 0600, when the block ends well; else nothing is there.

    Raises:
        UsageError: the folder does not exist, or the path is something other than a file.
        UnavailableError: the file cannot be written.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a file. Name a file to write to, or leave --output away.")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    except FileNotFoundError:
        raise UsageError(f"There is no folder {path.parent}. Make it first.") from None
    except OSError as error:
        raise _not_written(path, error) from None
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        beside.unlink(missing_ok=True)


def json_value(text: str | None) -> Any:  # noqa: ANN401 - any JSON
    """Stored JSON text as a value. DuckDB takes NaN and infinity for JSON: they become null, worse stays text."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return text


def _not_written(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"{path} cannot be written: {error.strerror or type(error).__name__}.")


def _chunks(pages: Iterable[pa.Table]) -> Iterator[pa.RecordBatch]:
    """Small pieces of the pages: as Python values a row takes ten times the memory."""
    for page in pages:
        yield from page.combine_chunks().to_batches(max_chunksize=_CHUNK_ROWS)


# --- CSV --------------------------------------------------------------------------------


def write_csv(pages: Iterable[pa.Table], stream: BinaryIO, names: Sequence[str]) -> int:
    """Write a header and the pages' rows, times in UTC, and return the number of rows. No cell is run as a formula."""
    rows = 0
    text = io.StringIO(newline="")
    # Python quotes a cell for a line break only when it is one of these: a bare CR would start a new line.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    for chunk in _chunks(pages):
        _flush(text, stream)
        writer.writerows(zip(*map(_cells, chunk.columns), strict=True))
        rows += chunk.num_rows
    _flush(text, stream)
    return rows


def _flush(text: io.StringIO, stream: BinaryIO) -> None:
    stream.write(text.getvalue().encode())
    text.seek(0)
    text.truncate()


def _cells(column: pa.Array) -> list[str | None]:
    if pa.types.is_boolean(column.type):
        return [None if value is None else "true" if value else "false" for value in column.to_pylist()]
    if pa.types.is_timestamp(column.type):
        times = column.dictionary_encode()  # few differ, and writing one out is slow
        texts = pa.array([_utc_text(value) for value in times.dictionary.to_pylist()], pa.string())
        found: list[str | None] = texts.take(times.indices).to_pylist()
        return found
    if not pa.types.is_string(column.type):
        numbers: list[str | None] = column.cast(pa.string()).to_pylist()
        return numbers
    risky = pc.match_substring_regex(column, _FORMULA)
    guarded: list[str | None] = pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column).to_pylist()
    return guarded


def _utc_text(value: datetime) -> str:
    return f"{value.isoformat()}Z"


# --- JSON lines -------------------------------------------------------------------------

_LINE: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def _write_jsonl(pages: Iterable[pa.Table], stream: BinaryIO) -> int:
    rows = 0
    for chunk in _chunks(pages):
        lines = []
        for row in chunk.to_pylist():
            row["additional_data"] = _json_fragment(row["additional_data"])
            lines.append(orjson.dumps(row, option=_LINE))
        stream.write(b"".join(lines))
        rows += chunk.num_rows
    return rows


def _json_fragment(text: str | None) -> orjson.Fragment | None:
    """The stored text as it is, on one line: read and written again, long numbers would lose digits."""
    if text is None:
        return None
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        text = json.dumps(json_value(text))
    # Inside a string a line break is escaped, so a real one stands between two values.
    return orjson.Fragment(text.replace("\r", " ").replace("\n", " "))


# --- Parquet ----------------------------------------------------------------------------


def _write_parquet(pages: Iterable[pa.Table], stream: BinaryIO) -> int:
    rows = 0
    schema = pa.schema(
        pa.field(f.name, pa.timestamp("us", "UTC") if pa.types.is_timestamp(f.type) else f.type)
        for f in arrow_schema(MASTER)
    )
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for page in pages:
            writer.write_table(page.cast(schema))
            rows += page.num_rows
    return rows
