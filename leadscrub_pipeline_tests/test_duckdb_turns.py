"""Turns at the embedded warehouse's file: DuckDB's own lock comes too late, so ours is taken before it is opened."""

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.duckdb_turns import lock_file_of
from leadscrub_pipeline.warehouse.schema import WITHDRAWALS

STORE = """
import sys, time
from pathlib import Path
from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.schema import WITHDRAWALS

path, who, times, pause = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
warehouse = DuckdbWarehouse(path, kind="demo", sources_folder=None, lock_wait=120)
print("begun", flush=True)
for number in range(times):
    with warehouse.session() as session, session.transaction():
        session.execute(
            f"INSERT INTO {WITHDRAWALS.full_name} (record_id, reason) VALUES (?, ?)", [f"{who}-{number}", who]
        )
        time.sleep(pause)
print("stored", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def warehouse_at(path: Path, *, lock_wait: float = 60.0) -> DuckdbWarehouse:
    return DuckdbWarehouse(path, kind="demo", sources_folder=None, lock_wait=lock_wait)


def open_and_close(path: Path, *, lock_wait: float = 60.0) -> None:
    with warehouse_at(path, lock_wait=lock_wait).session():
        pass


def stored(path: Path) -> list[str]:
    with warehouse_at(path).session() as session:
        return [name for (name,) in session.rows(f"SELECT record_id FROM {WITHDRAWALS.full_name} ORDER BY record_id")]


def storing(path: Path, who: str, *, times: int = 1, pause: float = 0.0, under: tuple[str, ...] = ()) -> list[str]:
    return [*under, sys.executable, "-c", STORE, str(path), who, str(times), str(pause)]


@contextmanager
def somebody_elses_turn(path: Path) -> Iterator[None]:
    descriptor = os.open(lock_file_of(path), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_the_file_is_not_even_opened_before_ones_turn(path: Path) -> None:
    with somebody_elses_turn(path):
        with pytest.raises(UnavailableError, match="held by another process for 0 seconds"):
            open_and_close(path, lock_wait=0.3)
        assert not path.exists()
    with warehouse_at(path).session():
        assert path.exists()


def test_a_turn_lasts_as_long_as_the_session_and_ends_with_it(path: Path) -> None:
    with warehouse_at(path).session():
        with lock_file_of(path).open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert stat.S_IMODE(lock_file_of(path).stat().st_mode) == 0o600
    with lock_file_of(path).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_killed_process_gives_up_its_turn(path: Path) -> None:
    stored(path)
    with subprocess.Popen(storing(path, "dead", pause=600.0), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        deadline = time.monotonic() + 60
        while can_be_locked(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert stored(path) == []


def can_be_locked(path: Path) -> bool:
    with lock_file_of(path).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_lock_that_cannot_be_made_is_named(path: Path) -> None:
    lock_file_of(path).mkdir()
    with pytest.raises(UnavailableError, match=r"warehouse\.duckdb\.lock beside the warehouse"):
        open_and_close(path)


def test_what_several_processes_store_at_once_is_all_there(path: Path) -> None:
    people = ["ann", "bob", "cat"]
    processes = [subprocess.Popen(storing(path, who, times=20), stdout=subprocess.PIPE) for who in people]
    for process in processes:
        assert b"stored" in process.communicate(timeout=120)[0]
    assert stored(path) == sorted(f"{who}-{number}" for who in people for number in range(20))


@pytest.mark.long
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, which holds a process up between two calls")
def test_who_is_held_up_while_opening_the_file_loses_nobody_elses_rows(path: Path, tmp_path: Path) -> None:
    """DuckDB reads the headers, and is held up for two seconds before it locks the file; another stores meanwhile."""
    stored(path)
    trace = tmp_path / "trace"
    held_up = ("strace", "-f", "-P", str(path), "-o", str(trace), "-e", "trace=openat,fcntl",
               "-e", "inject=fcntl:delay_enter=2000000:when=1+")  # fmt: skip
    with subprocess.Popen(storing(path, "slow", under=held_up), stdout=subprocess.PIPE) as slow:
        deadline = time.monotonic() + 60
        while not (trace.exists() and "O_RDWR" in trace.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        subprocess.run(storing(path, "quick"), check=True, stdout=subprocess.DEVNULL)
        assert b"stored" in slow.communicate(timeout=120)[0]
    assert stored(path) == ["quick-0", "slow-0"]
