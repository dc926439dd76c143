"""Files that a sensor watches: whether one is still being written, and what tells its state from an earlier one."""

import hashlib
import time
from pathlib import Path
from typing import Final

QUIET_SECONDS: Final = 30.0
"""A file that was written to later than this is still being loaded: each commit would be a state of its own."""

Stamp = tuple[str, int, int]
"""Name, size, and nanoseconds of the last write."""


def is_being_written(written_at: float) -> bool:
    """By the last write, in seconds of the epoch; one in the future is a wrong clock and is not waited for."""
    return 0 <= time.time() - written_at < QUIET_SECONDS


def stamp(file: Path) -> Stamp:
    status = file.stat()
    return file.name, status.st_size, status.st_mtime_ns


def digest(state: object) -> str:
    """A short name of a state, the same for the same one."""
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]
