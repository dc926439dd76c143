"""A set of ten-digit numbers as one bit each, in a file that is mapped into memory.

The bits of 10^10 numbers would take 1.25 GB; the file is sparse, so that only the area codes
in use take room, 1.25 MB each. Where the numbers come from does not belong here.
"""

import errno
import hashlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import orjson

from leadscrub_pipeline.errors import UnavailableError

Numbers = npt.NDArray[np.int64]

AREA: Final = 10_000_000
"""Numbers of one area code."""
AREA_BYTES: Final = AREA // 8
AREA_CODES: Final = 1000
_MAGIC: Final = b"leadscrub numbers 1\n"
_HEADER_BYTES: Final = 65536
_FILE_BYTES: Final = _HEADER_BYTES + AREA_CODES * AREA_BYTES
_AT_ONCE: Final = 1 << 18
"""Numbers looked up in one go, so that what is needed for them stays in the processor's cache."""
_SPARSE: Final = 16
"""Where fewer than one in so many words has a bit, only those are unpacked: differences are like that."""
_FEW: Final = 200_000
"""So many bits are set one by one; for more the whole area is unpacked."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a set holds, as its file says."""

    counts: dict[int, int]
    """Numbers by area code; an area code with none is not there."""
    sha256: str
    """Of the area codes and their bits: two sets of the same numbers have the same."""
    facts: dict[str, object]
    """What the writer wanted to be kept with it."""

    @property
    def rows(self) -> int:
        return sum(self.counts.values())


class NumberSet:
    """A finished set, read only. Use ``NumberSet.open``, in a ``with`` block."""

    def __init__(self, path: Path, contents: Contents, mapping: mmap.mmap, file: int) -> None:
        self.path = path
        self.contents = contents
        self._mapping = mapping
        self._bits = np.frombuffer(mapping, np.uint8, offset=_HEADER_BYTES)
        self._file = file

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a finished set.

        Raises:
            UnavailableError: the file is missing, unfinished, truncated or of another form.
        """
        try:
            contents = read_contents(path)
            with path.open("rb") as file:
                mapping = mmap.mmap(file.fileno(), _FILE_BYTES, access=mmap.ACCESS_READ)
                descriptor = os.dup(file.fileno())
        except OSError as error:
            raise UnavailableError(f"The file {path} cannot be read: {type(error).__name__}.") from None
        return cls(path, contents, mapping, descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and of its mapping, which ends when nobody holds an array over it."""
        del self._bits, self._mapping
        os.close(self._file)

    def let_go(self) -> None:
        """Take what was read of the file out of this process's memory; the system keeps it at hand.

        Whoever asks about very many numbers, in their order, would have the whole file in memory in the end.
        """
        self._mapping.madvise(mmap.MADV_DONTNEED)

    def holds(self, numbers: Numbers) -> npt.NDArray[np.bool_]:
        """Of each number from 0 to 9,999,999,999, whether it is in the set; in the order they were given."""
        found = np.empty(len(numbers), np.bool_)
        for start in range(0, len(numbers), _AT_ONCE):
            part = numbers[start : start + _AT_ONCE]
            # Bounds are checked by take; a negative index would count from the end.
            if len(part) and part.min() < 0:
                raise ValueError("a number is negative")
            octets = self._bits.take(part >> 3)
            found[start : start + _AT_ONCE] = (octets >> (part & 7).astype(np.uint8)) & 1
        return found

    def area(self, code: int) -> npt.NDArray[np.uint8]:
        """The bits of an area code, eight numbers a byte.

        They are read, not mapped: whoever goes through all of them would have the whole file in memory.
        """
        return _read_area(self._file, self.path, code)

    def numbers(self, code: int) -> Numbers:
        """The numbers of an area code, ascending."""
        return numbers_of(code, self.area(code)) if code in self.contents.counts else np.empty(0, np.int64)


class NumberSetDraft:
    """A set that is being made. Adding or removing a number twice is the same as once, so work may be repeated.

    Bits are read and written an area code at a time: what a draft holds in memory does not grow with it.
    """

    def __init__(self, path: Path) -> None:
        """Open the draft at ``path``, or make an empty one."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, _FILE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def copy(self, other: NumberSet) -> None:
        """Make the draft hold exactly what the other set holds."""
        os.ftruncate(self._file, 0)
        os.ftruncate(self._file, _FILE_BYTES)
        for code in other.contents.counts:
            self._write(code, other.area(code))

    def add(self, numbers: Numbers) -> None:
        self._change(numbers, present=True)

    def remove(self, numbers: Numbers) -> None:
        self._change(numbers, present=False)

    def sync(self) -> None:
        os.fsync(self._file)

    def finish(self, **facts: object) -> Contents:
        """Write down what the draft holds, which makes it a set that can be opened."""
        counts: dict[int, int] = {}
        digest = hashlib.sha256()
        for code in self._used():
            bits = self._read(code)
            count = int(np.bitwise_count(bits.view(np.uint64)).sum())
            if count:
                counts[code] = count
                digest.update(code.to_bytes(2, "big"))
                digest.update(bits.data)
        contents = Contents(counts, digest.hexdigest(), dict(facts))
        self.sync()
        self._put(0, _header(contents))
        self.sync()
        return contents

    def _change(self, numbers: Numbers, *, present: bool) -> None:
        if len(numbers) > 1 and not bool((numbers[1:] >= numbers[:-1]).all()):
            numbers = np.sort(numbers)
        codes = numbers // AREA
        bounds = [*np.flatnonzero(np.diff(codes, prepend=-1)).tolist(), len(numbers)]
        for start, end in pairwise(bounds):
            code = int(codes[start])
            bits = self._read(code)
            _set_bits(bits, numbers[start:end] - code * AREA, present=present)
            self._write(code, bits)

    def _used(self) -> Iterator[int]:
        """Area codes that take room in the file, ascending; where a file cannot be sparse, all."""
        for code in range(AREA_CODES):
            offset = _HEADER_BYTES + code * AREA_BYTES
            try:
                if os.lseek(self._file, offset, os.SEEK_DATA) < offset + AREA_BYTES:
                    yield code
            except OSError as error:
                if error.errno != errno.ENXIO:  # nothing but a hole up to the end
                    raise
                return

    def _read(self, code: int) -> npt.NDArray[np.uint8]:
        return _read_area(self._file, self.path, code)

    def _write(self, code: int, bits: npt.NDArray[np.uint8]) -> None:
        self._put(_HEADER_BYTES + code * AREA_BYTES, bits.tobytes())

    def _put(self, offset: int, data: bytes) -> None:
        # A full disk may take a part of it; the next write says why.
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written


def read_contents(path: Path) -> Contents:
    """What a finished set holds, without its numbers.

    Raises:
        UnavailableError: the file is unfinished, truncated or of another form.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        size = os.fstat(file.fileno()).st_size
    text, _, digest = header.removeprefix(_MAGIC).rstrip(b"\x00").rpartition(b"\n")
    if not header.startswith(_MAGIC) or size != _FILE_BYTES or hashlib.sha256(text).hexdigest().encode() != digest:
        raise UnavailableError(f"The file {path} is no finished set of numbers. Remove it; it is made again.")
    values = orjson.loads(text)
    return Contents({int(code): count for code, count in values["counts"].items()}, values["sha256"], values["facts"])


def relabel(path: Path, **facts: object) -> None:
    """Let a finished set say something else of itself; half of it done, the file is no finished set."""
    contents = read_contents(path)
    with path.open("r+b") as file:
        file.write(_header(Contents(contents.counts, contents.sha256, dict(facts))))
        file.flush()
        os.fsync(file.fileno())


def numbers_of(code: int, bits: npt.NDArray[np.uint8]) -> Numbers:
    """The numbers of an area code whose bits are set, ascending."""
    words = bits.view(np.uint64)
    used = np.flatnonzero(words)
    if len(used) < len(words) // _SPARSE:
        octets = words[used].view(np.uint8).reshape(-1, 8)
        place, bit = np.nonzero(np.unpackbits(octets, axis=1, bitorder="little"))
        found: Numbers = used[place] * 64 + bit
    else:
        found = np.flatnonzero(np.unpackbits(bits, bitorder="little").view(np.bool_))
    found += code * AREA
    return found


def _read_area(file: int, path: Path, code: int) -> npt.NDArray[np.uint8]:
    bits = np.empty(AREA_BYTES, np.uint8)
    if os.preadv(file, [bits.data], _HEADER_BYTES + code * AREA_BYTES) != AREA_BYTES:
        raise UnavailableError(f"The file {path} is truncated. Remove it and start again.")
    return bits


def _set_bits(bits: npt.NDArray[np.uint8], lines: Numbers, *, present: bool) -> None:
    """Set or clear the bits of the numbers of an area code, given without it, in place."""
    if len(lines) > _FEW:
        unpacked = np.unpackbits(bits, bitorder="little")
        unpacked[lines] = present
        bits[:] = np.packbits(unpacked, bitorder="little")
        return
    masks = np.left_shift(np.uint8(1), (lines & 7).astype(np.uint8))
    if present:
        np.bitwise_or.at(bits, lines >> 3, masks)
    else:
        np.bitwise_and.at(bits, lines >> 3, np.bitwise_not(masks))


def _header(contents: Contents) -> bytes:
    counts = {str(code): count for code, count in contents.counts.items()}
    text = orjson.dumps({"counts": counts, "sha256": contents.sha256, "facts": contents.facts})
    header = _MAGIC + text + b"\n" + hashlib.sha256(text).hexdigest().encode()
    if len(header) > _HEADER_BYTES:
        raise ValueError("more facts than a header has room for")
    return header.ljust(_HEADER_BYTES, b"\x00")
