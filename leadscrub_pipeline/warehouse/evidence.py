"""Evidence as the warehouse keeps it: the text of each row, the chain of hashes over the texts, and reading both.

A row's text and hash are made by the same functions when it is written and when it is verified.
Where the last hash of a chain is sealed, and what to think of one that does not fit, does not belong here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from leadscrub_pipeline.domain.chains import beginning, links
from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.warehouse.arrow import arrow_schema
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse
from leadscrub_pipeline.warehouse.schema import SCRUB_EVIDENCE

SCHEMA: Final = arrow_schema(SCRUB_EVIDENCE)
PLAIN_COLUMNS: Final = tuple(name for name in SCRUB_EVIDENCE.column_names if name not in ("canonical", "row_hash"))
_VERSION: Final = "1"
"""First field of every text: the form that the rest has."""

_ESCAPES: Final = (("\\", "\\\\"), ("|", "\\p"), ("\n", "\\n"), ("\r", "\\r"))
_NULL: Final = "\\N"

_HASH_LENGTH: Final = 64
"""Of a SHA-256 in hex."""

PAGE_ROWS: Final = 50_000
_ORDER: Final = ["run_id", "asset", "sequence"]
_CHAINS_AT_A_TIME: Final = 1_000


def canonical(rows: pa.Table) -> pa.Array:
    r"""The text of each row of evidence: the form's version and every column but text and hash, parted by ``|``.

    Within a field a backslash is ``\\``, a bar ``\p`` and the ends of lines ``\n`` and ``\r``; NULL is ``\N``.
    Times are ISO, UTC, to the microsecond. Rows that differ have texts that differ.
    """
    fields = [_as_text(rows.column(name).combine_chunks()) for name in PLAIN_COLUMNS]
    joined = pc.binary_join_element_wise(
        pa.scalar(_VERSION), *fields, "|", null_handling="replace", null_replacement=_NULL
    )
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        # Few times differ within a page, and writing one out is slow.
        times = column.dictionary_encode()
        texts = pc.replace_substring(pc.cast(times.dictionary, pa.string()), " ", "T")
        return texts.take(times.indices)
    if not pa.types.is_string(column.type):
        return pc.cast(column, pa.string())
    characters = column.buffers()[2]
    data = b"" if characters is None else characters.to_pybytes()
    for character, escape in _ESCAPES:
        if character.encode() in data:
            column = pc.replace_substring(column, character, escape)
    return column


@dataclass(slots=True)
class ChainEnd:
    """How far the chain of a run and asset has come: its rows, and the hash of the last."""

    run_id: str
    asset: str
    rows: int
    root: str

    @classmethod
    def none_yet(cls, run_id: str, asset: str) -> "ChainEnd":
        return cls(run_id, asset, 0, beginning(run_id, asset))

    def linked(self, rows: pa.Table) -> tuple[pa.Table, "ChainEnd"]:
        """The rows with text and hash, as they follow the chain's last, and the end that they make."""
        texts = canonical(rows)
        hashes = links(self.root, as_bytes(texts))
        table = rows.append_column("canonical", texts).append_column("row_hash", _hash_column(hashes))
        root = hashes[-_HASH_LENGTH:] or self.root
        return table.select(SCHEMA.names), ChainEnd(self.run_id, self.asset, self.rows + rows.num_rows, root)


def as_bytes(texts: pa.Array) -> list[bytes]:
    found: list[bytes] = pc.cast(texts, pa.binary()).to_numpy(zero_copy_only=False).tolist()
    return found


def split_hashes(hashes: str) -> list[str]:
    return [hashes[start : start + _HASH_LENGTH] for start in range(0, len(hashes), _HASH_LENGTH)]


def _hash_column(hashes: str) -> pa.Array:
    """Hashes that stand one after the other, as a column of texts."""
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(_HASH_LENGTH), len(hashes) // _HASH_LENGTH, [None, pa.py_buffer(hashes.encode())]
    )
    return pc.cast(pc.cast(fixed, pa.binary()), pa.string())


# --- reading ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Extent:
    """What the warehouse has of one run and asset, counted in one statement."""

    run_id: str | None
    asset: str | None
    rows: int
    in_sequence: int
    """Rows whose sequence is a number from 1."""
    last: int
    """The highest sequence; 0 when there is none."""
    with_hash: int
    """Rows that have a hash or a text; those made before there were chains have neither."""
    first_checked_at: datetime | None
    last_checked_at: datetime | None
    is_timed: bool
    """Every row has a time that can be, so rows can be looked for by it."""
    first_partition: str | None
    last_partition: str | None
    """By name; a chain is of one partition, and then they are the same."""


_TIME: Final = (
    "CASE WHEN checked_at >= TIMESTAMP '1970-01-01 00:00:00' AND checked_at < TIMESTAMP '9000-01-01 00:00:00' "
    "THEN checked_at END"
)

_EXTENTS: Final = f"""
SELECT run_id, asset, COUNT(*), COUNT(CASE WHEN sequence >= 1 THEN 1 END),
  COALESCE(MAX(CASE WHEN sequence >= 1 THEN sequence END), 0),
  COUNT(CASE WHEN row_hash IS NOT NULL OR canonical IS NOT NULL THEN 1 END),
  MIN({_TIME}), MAX({_TIME}), COUNT({_TIME}) = COUNT(*), MIN(partition_key), MAX(partition_key)
FROM {SCRUB_EVIDENCE.full_name}
GROUP BY run_id, asset
"""


def extents(session: Session) -> list[Extent]:
    """Every run and asset that has evidence, as the rows lie in the table: in the order of time."""
    found = [Extent(*row) for row in session.rows(_EXTENTS)]
    return sorted(found, key=lambda one: (one.first_checked_at or datetime.min, str(one.run_id), str(one.asset)))  # noqa: DTZ901 - naive UTC, as tables hold it


def pages(warehouse: Warehouse, wanted: Sequence[Extent], *, rows: int = PAGE_ROWS) -> Iterator[pa.Table]:
    """The rows of the extents in pages; each chain's rows stand together, by sequence.

    Rows without a sequence from 1 are left out. No connection is held between pages, and what
    was written after the extents were counted is not read.
    """
    together: list[Extent] = []
    for extent in wanted:
        if together and (sum(one.rows for one in together) + extent.rows > rows or len(together) >= _CHAINS_AT_A_TIME):
            yield _read(warehouse, together, rows=rows)
            together = []
        if extent.rows > rows or extent.last > rows:
            yield from _windows(warehouse, extent, after=0, rows=rows)
        elif extent.in_sequence:
            together.append(extent)
    if together:
        yield _read(warehouse, together, rows=rows)


def pages_after(
    warehouse: Warehouse, run_id: str, asset: str, sequence: int, *, rows: int = PAGE_ROWS
) -> Iterator[pa.Table]:
    """The rows of one chain behind a sequence, in pages and in order."""
    with warehouse.session() as session:
        counted = session.rows(f"{_EXTENTS} HAVING run_id = ? AND asset = ?", [run_id, asset])
    for row in counted:
        yield from _windows(warehouse, Extent(*row), after=sequence, rows=rows)


def _windows(warehouse: Warehouse, extent: Extent, *, after: int, rows: int) -> Iterator[pa.Table]:
    """One chain by ranges of its sequence; a gap of any length is passed over."""
    while after < extent.last:
        page = _read(warehouse, [extent], rows=rows, after=after)
        if page.num_rows:
            yield page
            after += rows
        else:
            with warehouse.session() as session:
                query = (
                    f"SELECT MIN(sequence) FROM {SCRUB_EVIDENCE.full_name} WHERE run_id = ? AND asset = ? "
                    "AND sequence > ? AND sequence <= ?"
                )
                (following,) = session.rows(query, [extent.run_id, extent.asset, after + rows, extent.last])[0]
            if following is None:
                return
            after = following - 1


def _read(warehouse: Warehouse, wanted: Sequence[Extent], *, rows: int, after: int = 0) -> pa.Table:
    last = max(extent.last for extent in wanted)
    marks = ", ".join("(?, ?)" for _ in wanted)
    conditions = [f"(run_id, asset) IN ({marks})" if len(wanted) > 1 else "run_id = ? AND asset = ?"]
    conditions.append("sequence > ? AND sequence <= ?")
    params: list[object] = [name for extent in wanted for name in (extent.run_id, extent.asset)]
    params += [after, min(last, after + rows)]
    if all(extent.is_timed for extent in wanted):
        # The table is filled in the order of time: engines skip the rest of it.
        conditions.append("checked_at BETWEEN ? AND ?")
        params += [min(_times(wanted, "first_checked_at")), max(_times(wanted, "last_checked_at"))]
    query = (
        f"SELECT {', '.join(SCHEMA.names)} FROM {SCRUB_EVIDENCE.full_name} WHERE {' AND '.join(conditions)} "
        f"LIMIT {2 * rows}"
    )
    with warehouse.session() as session:
        page = session.table(query, params).cast(SCHEMA)
    # Rows mostly lie in their order, and to have the engine sort them took a third of the time of reading.
    return page if _is_in_order(page) else page.sort_by([(name, "ascending") for name in _ORDER])


def _is_in_order(page: pa.Table) -> bool:
    """Whether each chain's rows stand together, by sequence."""
    chains = list(by_chain(page))
    if len({(run_id, asset) for run_id, asset, _, _ in chains}) < len(chains):
        return False
    starts = {start for _, _, start, _ in chains}
    sequence = page.column("sequence").combine_chunks()
    falls = pc.indices_nonzero(pc.less(sequence[1:], sequence[:-1])).to_pylist()
    return {index + 1 for index in falls} <= starts


def _times(wanted: Sequence[Extent], name: str) -> list[Any]:
    return [getattr(extent, name) for extent in wanted]


def by_chain(page: pa.Table) -> Iterator[tuple[str, str, int, int]]:
    """Run, asset, first row and end of each chain in a page."""
    if page.num_rows == 0:
        return
    differs = [pc.not_equal(column[1:], column[:-1]) for column in map(page.column, ("run_id", "asset"))]
    begins = pc.or_(*differs)
    starts = [0, *(index + 1 for index in pc.indices_nonzero(begins).to_pylist()), page.num_rows]
    for start, stop in pairwise(starts):
        yield page.column("run_id")[start].as_py(), page.column("asset")[start].as_py(), start, stop


def find_end(session: Session, run_id: str, asset: str) -> ChainEnd:
    """Where the chain of a run and asset stands, so that a step which is repeated goes on there.

    Raises:
        FailedError: its last row has no hash, so nothing can follow it.
    """
    found = session.rows(
        f"SELECT sequence, row_hash FROM {SCRUB_EVIDENCE.full_name} WHERE run_id = ? AND asset = ? "
        "ORDER BY sequence DESC LIMIT 1",
        [run_id, asset],
    )
    if not found:
        return ChainEnd.none_yet(run_id, asset)
    sequence, row_hash = found[0]
    if row_hash is None:
        raise FailedError(
            f"The last row of evidence of {asset} in run {run_id} has no hash: the table was changed. "
            "Run leadscrub evidence verify, and start a new run."
        )
    return ChainEnd(run_id, asset, sequence, row_hash)
