"""What goes wrong with the registry's file, made on a real one: see ``fault_makers.py``."""

import contextlib
import random
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from leadscrub_pipeline.simulators.registry import make_registry
from leadscrub_pipeline_tests.fault_judge import listing_of
from leadscrub_pipeline_tests.fault_makers import Make, as_nobody_special, meanwhile, settings
from leadscrub_pipeline_tests.fault_trial import KEY, Trial, people_of, phones_of_person


def content_of(change: Callable[[bytes], bytes]) -> Make:
    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        trial.listing = None
        trial.registry.write_bytes(change(trial.registry.read_bytes()))
        yield

    return made


def with_noise(content: bytes) -> bytes:
    """All pages but the first, which holds the schema, overwritten."""
    return content[:4096] + random.Random(7).randbytes(len(content) - 4096)


def sql(*statements: str) -> Make:
    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        trial.listing = None
        _change_registry(trial.registry, *statements)
        yield

    return made


def _change_registry(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@contextmanager
def missing(trial: Trial) -> Iterator[None]:
    trial.listing = None
    trial.registry.unlink()
    yield


@contextmanager
def folder(trial: Trial) -> Iterator[None]:
    trial.listing = None
    trial.registry.unlink()
    trial.registry.mkdir()
    yield
    trial.registry.rmdir()


@contextmanager
def unreadable(trial: Trial) -> Iterator[None]:
    trial.listing = None
    trial.registry.chmod(0)
    with as_nobody_special():
        yield


def aged(days: int | None) -> Make:
    """The list's date so many days ago, or no date at all; the file itself is fine."""

    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        date = "" if days is None else (datetime.now(UTC) - timedelta(days=days)).date().isoformat()
        trial.registry.touch()
        trial.listing = listing_of(trial.registry, fresh=False)
        with settings(DNC_LIST_DATE=date)(trial):
            yield

    return made


def compact(*statements: str, days: int = 2) -> Make:
    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        listed = trial.template.listing.listed
        obtained = datetime.now(UTC) - timedelta(days=days)
        make_registry(trial.registry, listed=listed, schema="compact", obtained_at=obtained)
        _change_registry(trial.registry, *statements)
        trial.listing = listing_of(trial.registry, fresh=0 <= days < 31)
        with settings(DNC_LIST_DATE="")(trial):
            yield

    return made


def of(area_codes: Iterable[int]) -> Make:
    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        trial.graph.write_registry(area_codes=area_codes)
        trial.listing = listing_of(trial.registry, fresh=True)
        yield

    return made


def locked(seconds: float) -> Make:
    """A writer has the file to itself for so long."""

    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        with closing(sqlite3.connect(trial.registry, isolation_level=None, check_same_thread=False)) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            timer = threading.Timer(seconds, lambda: writer.execute("ROLLBACK"))
            timer.start()
            yield
            timer.cancel()
            timer.join()

    return made


@contextmanager
def replaced_while_opening(trial: Trial) -> Iterator[None]:
    """The old file is locked until somebody waits for it; then another stands in its place, for the next try."""
    other = _another_registry(trial)
    trial.listing = listing_of(other, fresh=True)
    with closing(sqlite3.connect(trial.registry, isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        mine = _times_open(trial.registry)

        def replace() -> None:
            other.replace(trial.registry)
            writer.execute("ROLLBACK")

        with meanwhile(lambda: _times_open(trial.registry) > mine, replace):
            yield


def _times_open(path: Path) -> int:
    """How often this process has the file open now."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += entry.readlink() == path
    return found


def _another_registry(trial: Trial) -> Path:
    """With all numbers of the leads on it: whoever mixed the two files up would read them as clear."""
    other = trial.registry.with_name("other.sqlite")
    other.write_bytes(trial.registry.read_bytes())
    _list_everybody(other)
    return other


def _list_everybody(path: Path) -> None:
    phones = {phone for row in people_of(KEY) for phone in phones_of_person(row)}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT OR IGNORE INTO dnc_list VALUES (?, ?, ?)", [(phone[:3], phone[3:], phone) for phone in phones]
        )


def _once_the_registry_is_open(action: Callable[[Trial], None]) -> Make:
    """Between opening the file and looking phones up, a step counts and reads its phones: tens of milliseconds."""

    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        with meanwhile(lambda: _times_open(trial.registry) > 0, lambda: action(trial)):
            yield
        trial.listing = listing_of(trial.registry, fresh=True)

    return made


def _replace_registry(trial: Trial) -> None:
    _another_registry(trial).replace(trial.registry)


replaced_during_lookup: Final = _once_the_registry_is_open(_replace_registry)
deleted_during_lookup: Final = _once_the_registry_is_open(lambda trial: trial.registry.unlink())
written_during_lookup: Final = _once_the_registry_is_open(lambda trial: _list_everybody(trial.registry))
