"""The stamp of a SQLite file: by it a change or a truncation is seen without reading the file.

What the file holds does not belong here.
"""

from pathlib import Path
from typing import Final, NamedTuple

from leadscrub_pipeline.errors import UnavailableError

_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100


class FileStamp(NamedTuple):
    """What differs when somebody replaced the file or wrote to it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    change_counter: int
    page_count: int
    schema_cookie: int
    wal_size: int
    wal_modified_ns: int


def take_stamp(path: Path) -> FileStamp:
    """Read the stamp from the file's status and the first 100 bytes.

    Raises:
        UnavailableError: the file is missing, empty, truncated or no SQLite file.
    """
    try:
        if not path.is_file():
            raise UnavailableError(f"The registry file {path} does not exist. Check DNC_DATABASE_PATH.")
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        status = path.stat()
    except OSError as error:
        raise UnavailableError(f"The registry file {path} cannot be read: {type(error).__name__}.") from None
    if status.st_size == 0:
        raise UnavailableError(f"The registry file {path} is empty. Load the list again.")
    if not header.startswith(_MAGIC):
        raise UnavailableError(f"The registry file {path} is no SQLite file. Check DNC_DATABASE_PATH.")
    if len(header) < _HEADER_BYTES:
        raise UnavailableError(f"The registry file {path} is truncated. Copy it again.")
    page_size = _number(header, 16, 2)
    page_count = _number(header, 28)
    change_counter = _number(header, 24)
    # A file written by SQLite before 3.7 has no valid page count; then the two counters differ.
    expected = page_count * (65536 if page_size == 1 else page_size) if _number(header, 92) == change_counter else 0
    if status.st_size < expected:
        raise UnavailableError(
            f"The registry file {path} is truncated: {status.st_size} of {expected} bytes. Copy it again."
        )
    wal_size, wal_modified_ns = _wal(path)
    return FileStamp(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        change_counter,
        page_count,
        _number(header, 40),
        wal_size,
        wal_modified_ns,
    )


def _wal(path: Path) -> tuple[int, int]:
    """Size and time of the write-ahead log; an empty one, as a reader leaves it, counts as none."""
    try:
        status = path.with_name(path.name + "-wal").stat()
    except OSError:
        return 0, 0
    return (status.st_size, status.st_mtime_ns) if status.st_size else (0, 0)


def _number(header: bytes, offset: int, size: int = 4) -> int:
    return int.from_bytes(header[offset : offset + size], "big")
