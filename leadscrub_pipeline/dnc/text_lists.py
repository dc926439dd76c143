"""Full lists as the FTC hands them out: text, one number a line, plain or zipped.

What is read as a number and why a line is rejected stands here; what becomes of the numbers does not.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from leadscrub_pipeline.dnc.number_set import Numbers
from leadscrub_pipeline.errors import UnavailableError

UNREADABLE: Final = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What reading a file raises, zipped ones included, when it is missing, damaged, encrypted or packed in another way."""
_CHUNK_BYTES: Final = 4 << 20
_LONGEST_LINE: Final = 4096
_NEWLINE, _RETURN, _COMMA, _ZERO = 10, 13, 44, 48
_WITH_COMMA: Final = np.array([0, 1, 2, 4, 5, 6, 7, 8, 9, 10])
_PLAIN: Final = np.arange(10)


@dataclass(slots=True)
class Batch:
    """Numbers of some lines, in their order, and why the other lines are none."""

    numbers: Numbers
    lines: int
    rejected: Counter[str] = field(default_factory=Counter)


def read_text_list(path: Path) -> Iterator[Batch]:
    """The numbers of a file, in batches of a few megabytes of text; a ZIP file is read member by member.

    A line is ``212,5550123`` or ``2125550123``. Lines are rejected as ``empty``,
    ``wrong_length``, ``not_digits`` or ``not_nanp`` (area code or exchange starts with 0 or 1).

    Raises:
        UnavailableError: the file cannot be read, or ends in the middle of a line.
    """
    try:
        for file in _members(path):
            with closing(file):
                yield from _batches(path, file)
    except UNREADABLE as error:
        raise UnavailableError(
            f"The file {path.name} cannot be read: {type(error).__name__}. Download it again."
        ) from None


def _members(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix.lower() != ".zip":
        yield path.open("rb")
        return
    with zipfile.ZipFile(path) as archive:
        names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
        if not names:
            raise zipfile.BadZipFile
        for name in names:
            yield archive.open(name)


def _batches(path: Path, file: IO[bytes]) -> Iterator[Batch]:
    rest = b""
    while chunk := file.read(_CHUNK_BYTES):
        whole, newline, tail = (rest + chunk).rpartition(b"\n")
        rest = tail
        if newline:
            yield parse_lines(whole + newline)
        elif len(rest) > _LONGEST_LINE:
            raise UnavailableError(f"The file {path.name} is no list of numbers, one a line.")
    if rest:
        last = parse_lines(rest + b"\n")
        if last.rejected:
            raise UnavailableError(f"The file {path.name} ends in the middle of a line. Download it again.")
        yield last


def parse_lines(text: bytes) -> Batch:
    """Read whole lines; the text ends with a newline."""
    octets = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(octets == _NEWLINE)
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts
    lengths -= (lengths > 0) & (octets[ends - 1] == _RETURN)
    is_long, is_short = lengths == 11, lengths == 10
    if is_long.all():
        numbers, digits_only = _read(octets, starts, _WITH_COMMA)
        digits_only &= octets[starts + 3] == _COMMA
    else:
        numbers = np.zeros(len(starts), np.int64)
        digits_only = np.zeros(len(starts), np.bool_)
        long_starts = starts[is_long]
        numbers[is_long], long_digits = _read(octets, long_starts, _WITH_COMMA)
        digits_only[is_long] = long_digits & (octets[long_starts + 3] == _COMMA)
        numbers[is_short], digits_only[is_short] = _read(octets, starts[is_short], _PLAIN)
    in_plan = digits_only & is_in_plan(numbers)
    rejected: Counter[str] = Counter()
    if not in_plan.all():
        rejected["empty"] = int((lengths == 0).sum())
        rejected["wrong_length"] = int((~is_long & ~is_short & (lengths > 0)).sum())
        rejected["not_digits"] = int(((is_long | is_short) & ~digits_only).sum())
        rejected["not_nanp"] = int((digits_only & ~in_plan).sum())
        numbers = numbers[in_plan]
    return Batch(numbers, len(starts), +rejected)


def is_in_plan(numbers: Numbers) -> npt.NDArray[np.bool_]:
    """Whether area code and exchange start with 2 to 9, as all numbers of the North American plan do."""
    in_plan: npt.NDArray[np.bool_] = (numbers >= 2_000_000_000) & (numbers // 1_000_000 % 10 >= 2)
    return in_plan


def _read(
    octets: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """The ten digits at these places of each line as a number, and whether they are digits at all."""
    numbers = np.zeros(len(starts), np.int64)
    digits_only = np.ones(len(starts), np.bool_)
    for place in places:
        digit = octets[starts + place] - np.uint8(_ZERO)
        digits_only &= digit <= 9
        numbers *= 10
        numbers += digit
    return numbers, digits_only
