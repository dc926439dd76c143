"""The folder of downloads: which wait to become the next version of the list, and in which order.

A download is a folder named after what it is and when it was obtained, in UTC:
``full-20261121T0800Z`` or ``changes-20261122T0800Z``, with the files as they were downloaded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from leadscrub_pipeline.errors import UnavailableError

_NAME: Final = re.compile(r"(full|changes)-([0-9]{8}T[0-9]{4}(?:[0-9]{2})?)Z", re.ASCII)
_SUFFIXES: Final = frozenset({".txt", ".zip", ".csv"})


@dataclass(frozen=True, slots=True)
class Download:
    """One download; its files in the order of their names."""

    name: str
    kind: Literal["full", "changes"]
    obtained_at: datetime
    files: tuple[Path, ...]
    written_at: float
    """When a file of it was last written, in seconds of the epoch: while it is copied, it is not whole."""

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


def find_downloads(folder: Path) -> list[Download]:
    """All downloads in the folder, oldest first; whatever is named otherwise is left alone.

    Raises:
        UnavailableError: the folder cannot be read.
    """
    try:
        found = sorted(_downloads(folder), key=lambda one: (one.obtained_at, one.kind != "full"))
    except OSError as error:
        raise UnavailableError(
            f"The folder of downloads {folder} cannot be read: {type(error).__name__}. Check DNC_DOWNLOADS."
        ) from None
    return found


def waiting(downloads: list[Download], in_place: datetime | None) -> list[Download]:
    """Those that were obtained after the list in place, less what a full list among them makes needless.

    Without a list in place, changes before the first full list have nothing to go to.
    """
    later = [one for one in downloads if in_place is None or one.obtained_at > in_place]
    full = [place for place, one in enumerate(later) if one.kind == "full"]
    if full:
        return later[full[-1] :]
    return [] if in_place is None else later


def _downloads(folder: Path) -> Iterator[Download]:
    for entry in folder.iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is None or not entry.is_dir():
            continue
        text = match[2]
        try:
            obtained_at = datetime.fromisoformat(f"{text}+00:00")
        except ValueError:
            continue
        files = tuple(sorted(file for file in entry.iterdir() if file.suffix.lower() in _SUFFIXES))
        written_at = max(one.stat().st_mtime for one in (entry, *files))
        kind: Literal["full", "changes"] = "full" if match[1] == "full" else "changes"
        yield Download(entry.name, kind, obtained_at, files, written_at)
