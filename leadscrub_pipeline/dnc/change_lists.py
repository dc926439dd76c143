"""Change lists as the FTC hands them out: numbers that came on the list or went off it, with the time of each.

Whether a change list may follow the list there is, is decided in building.py.
"""

import re
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from leadscrub_pipeline.dnc.number_set import Numbers
from leadscrub_pipeline.dnc.text_lists import UNREADABLE, is_in_plan
from leadscrub_pipeline.errors import UnavailableError

_COLUMNS: Final = ("number", "time", "action")
_TIME: Final = "%Y-%m-%dT%H:%M:%S"
_ADDED, _DELETED = b"A", b"D"
_LINE: Final = re.compile(rb"[0-9]{10},[0-9T:-]{19},[AD]")


@dataclass(slots=True)
class Changes:
    """Changes in the order of their times; of equal times in the order of the file."""

    numbers: Numbers
    listed: npt.NDArray[np.bool_]
    """TRUE: came on the list (A). FALSE: went off it (D)."""
    first_at: datetime | None
    """Time of the earliest change, as the list writes it, taken as UTC. None for an empty list."""
    last_at: datetime | None
    lines: int
    rejected: Counter[str] = field(default_factory=Counter)

    def last_of_each(self) -> tuple[Numbers, Numbers]:
        """The numbers whose last change put them on the list, and those whose last change took them off; sorted."""
        # Of equal numbers unique gives the first, so look from the end.
        numbers, places = np.unique(self.numbers[::-1], return_index=True)
        listed = self.listed[::-1][places]
        return numbers[listed], numbers[~listed]


def read_changes(path: Path) -> Changes:
    """Read a change list, plain or zipped: lines of ``2125550123,2026-08-29T08:00:00,A`` or ``D``.

    Lines are rejected as ``wrong_columns``, ``not_digits``, ``not_nanp``, ``bad_time`` or ``bad_action``.

    Raises:
        UnavailableError: the file cannot be read, or ends in the middle of a line.
    """
    rejected: Counter[str] = Counter()

    def skip(_row: object) -> str:
        rejected["wrong_columns"] += 1
        return "skip"

    try:
        text = _text(path)
        if not text.strip():
            return Changes(np.empty(0, np.int64), np.empty(0, np.bool_), None, None, 0)
        _require_whole(path, text)
        table = pa.csv.read_csv(
            pa.BufferReader(text),
            # A row that is left out must be seen in this thread, before the rows are counted.
            read_options=pa.csv.ReadOptions(column_names=_COLUMNS, use_threads=False),
            parse_options=pa.csv.ParseOptions(quote_char=False, invalid_row_handler=skip),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(_COLUMNS, pa.binary()), strings_can_be_null=False, check_utf8=False
            ),
        )
    except (*UNREADABLE, pa.ArrowException) as error:
        raise UnavailableError(
            f"The change list {path.name} cannot be read: {type(error).__name__}. Download it again."
        ) from None
    return _changes(table, rejected)


def _text(path: Path) -> bytes:
    if path.suffix.lower() != ".zip":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
        if not names:
            raise zipfile.BadZipFile
        return b"".join(archive.read(name) for name in names)


def _require_whole(path: Path, text: bytes) -> None:
    last = text.rpartition(b"\n")[2].strip()
    if last and _LINE.fullmatch(last) is None:
        raise UnavailableError(f"The change list {path.name} ends in the middle of a line. Download it again.")


def _changes(table: pa.Table, rejected: Counter[str]) -> Changes:
    lines = len(table) + rejected.total()
    is_number = pc.match_substring_regex(table["number"], "^[0-9]{10}$")
    is_action = pc.is_in(table["action"], pa.array([_ADDED, _DELETED]))
    # What is no text in ASCII is no time either.
    as_text = pc.if_else(pc.match_substring_regex(table["time"], "^[0-9T:-]{19}$"), table["time"], None)
    times = pc.strptime(as_text.cast(pa.string()), format=_TIME, unit="s", error_is_null=True)
    good = pc.and_(pc.and_(is_number, is_action), pc.is_valid(times))
    rejected["not_digits"] = _count(pc.invert(is_number))
    rejected["bad_time"] = _count(pc.and_(is_number, pc.is_null(times)))
    rejected["bad_action"] = _count(pc.and_(pc.and_(is_number, pc.is_valid(times)), pc.invert(is_action)))
    numbers = table["number"].filter(good).cast(pa.string()).cast(pa.int64()).to_numpy()
    listed = pc.equal(table["action"].filter(good), _ADDED).to_numpy()
    seconds = times.filter(good).cast(pa.int64()).to_numpy()
    in_plan = is_in_plan(numbers)
    rejected["not_nanp"] = int((~in_plan).sum())
    numbers, listed, seconds = numbers[in_plan], listed[in_plan], seconds[in_plan]
    order = np.argsort(seconds, kind="stable")
    return Changes(
        numbers[order],
        listed[order],
        datetime.fromtimestamp(int(seconds.min()), UTC) if len(seconds) else None,
        datetime.fromtimestamp(int(seconds.max()), UTC) if len(seconds) else None,
        lines,
        +rejected,
    )


def _count(which: pa.ChunkedArray) -> int:
    return int(pc.sum(which).as_py() or 0)
