"""Turns at the embedded warehouse's file: one session at a time, over all threads and processes of this host.

DuckDB has a lock of its own and takes it too late: ATTACH reads the file's headers, and locks
the file only then. Whoever is slow between the two works on from headers that another process
has replaced meanwhile, and its checkpoint takes away what that one committed (seen with
DuckDB 2.0.0). So a lock beside the file is held from before ATTACH until after DETACH.
"""

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from leadscrub_pipeline import interrupts
from leadscrub_pipeline.errors import UnavailableError

_threads: dict[Path, threading.Lock] = {}
_threads_guard = threading.Lock()


def lock_file_of(warehouse: Path) -> Path:
    """It stays there, empty; who would remove it could not know whether somebody waits for it."""
    return warehouse.with_name(warehouse.name + ".lock")


@contextmanager
def turn_at(warehouse: Path, *, wait: float, busy: Callable[[], UnavailableError]) -> Iterator[None]:
    """Wait one's turn and hold it within the block. A process that dies gives it up.

    Args:
        warehouse: absolute path of the warehouse's file.
        wait: seconds to wait at most.
        busy: makes the error of who waited in vain.

    Raises:
        UnavailableError: what ``busy`` makes, or the lock's file cannot be made.
    """
    deadline = time.monotonic() + wait
    with _threads_guard:
        ours = _threads.setdefault(warehouse, threading.Lock())
    while not ours.acquire(timeout=min(wait, 0.1)):
        interrupts.check()
        if time.monotonic() > deadline:
            raise busy()
    try:
        with _locked(lock_file_of(warehouse), deadline, busy):
            yield
    finally:
        ours.release()


def tries_until(deadline: float, busy: Callable[[], UnavailableError]) -> Iterator[None]:
    """Yield for each try, with pauses that grow between them; raise ``busy`` when one fails after the deadline."""
    pause = 0.005
    while True:
        yield
        if time.monotonic() > deadline:
            raise busy()
        # Spread, so that the waiters do not come all at once.
        interrupts.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - guards nothing
        pause = min(pause * 1.5, 0.5)


@contextmanager
def _locked(path: Path, deadline: float, busy: Callable[[], UnavailableError]) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UnavailableError(
            f"The file {path.name} beside the warehouse cannot be made or opened ({type(error).__name__}): "
            "check disk space and rights under LEADSCRUB_HOME."
        ) from None
    try:
        for _ in tries_until(deadline, busy):
            if _try_lock(descriptor):
                break
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
