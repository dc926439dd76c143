"""The folder in which the next version of a list is made: what is in it, how far it is, and that nobody else is at it.

What the work is belongs to building.py.
"""

import fcntl
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import psutil

from leadscrub_pipeline.dnc.list_files import SourceFacts
from leadscrub_pipeline.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Plan:
    """What is being made of what. Only work for the very same plan is gone on with."""

    kind: str
    obtained_at: str
    base: str | None
    sources: tuple[tuple[str, int, str], ...]
    """Name, bytes and SHA-256."""


class BuildFolder:
    """The folder beside the list at ``path``. Use it in a ``with`` block, which holds its lock."""

    def __init__(self, path: Path) -> None:
        self.folder = path.with_name(f"{path.name}.building")
        self.draft = self.folder / "numbers"
        self.list = self.folder / "list.sqlite"
        self._journal = self.folder / "journal.json"
        self._lock = -1
        self._plan: dict[str, Any] = {}
        self._read: list[dict[str, Any]] = []
        self.is_written = False
        """The next version is whole in here and only needs to be put in place."""

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise UnavailableError("Another build of this list is at work. Wait until it has ended.") from None
        self._load()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def start(self, plan: Plan) -> bool:
        """Go on with this plan, and say whether some of the work was done before; other work is dropped."""
        wanted = orjson.loads(orjson.dumps(asdict(plan)))
        if self._plan == wanted:
            return bool(self._read)
        self.clear()
        self._plan = wanted
        self._save()
        return False

    def was_read(self, index: int) -> SourceFacts | None:
        """What is known of a source whose numbers are in the draft already."""
        return SourceFacts(**self._read[index]) if index < len(self._read) else None

    def note_read(self, source: SourceFacts) -> None:
        """All numbers of the next source are in the draft, and on disk."""
        self._read.append(asdict(source))
        self._save()

    def note_written(self) -> None:
        self.is_written = True
        self._save()

    def clear(self) -> None:
        """Forget what was being made."""
        self._plan, self._read, self.is_written = {}, [], False
        # The journal goes first: without it nobody takes the rest for work that was done.
        self._journal.unlink(missing_ok=True)
        for file in self.folder.iterdir():
            if file.name != "lock":
                file.unlink()

    def _load(self) -> None:
        try:
            found = orjson.loads(self._journal.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            self.clear()
            return
        # What was not synced may be lost when the machine goes down; what a killed process wrote is not.
        if found["booted_at"] != _booted_at() and not found["is_written"]:
            self.clear()
            return
        self._plan, self._read, self.is_written = found["plan"], found["read"], found["is_written"]

    def _save(self) -> None:
        values = {"plan": self._plan, "read": self._read, "is_written": self.is_written, "booted_at": _booted_at()}
        beside = self._journal.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(orjson.dumps(values))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._journal)
        sync_folder(self.folder)


def under_way(path: Path) -> bool:
    """Whether work on a next version of the list at ``path`` was begun and not ended."""
    return (path.with_name(f"{path.name}.building") / "journal.json").exists()


def sync_folder(folder: Path) -> None:
    """Make sure that what was renamed in a folder stays so when the machine goes down."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _booted_at() -> int:
    # It is told to a fraction of a second and moves with the clock; whole minutes do.
    return round(psutil.boot_time() / 60)
