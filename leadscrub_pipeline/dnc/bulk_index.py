"""The bulk index: all numbers of a registry file as bits beside it, for questions about very many phones.

It is derived from the file and trusted only as long as the file's stamp is the one it was
made from. Which questions go to it is decided in registry.py.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from leadscrub_pipeline.dnc.list_files import read_facts, read_list, read_old_list
from leadscrub_pipeline.dnc.number_set import AREA, AREA_CODES, Contents, NumberSet, NumberSetDraft
from leadscrub_pipeline.dnc.stamp import FileStamp, take_stamp
from leadscrub_pipeline.dnc.text_lists import Batch
from leadscrub_pipeline.errors import UnavailableError

_STAMP: Final = "stamp"
_MALFORMED: Final = "malformed"


def index_path(path: Path) -> Path:
    """Where the bulk index of a registry file is."""
    return path.with_name(f"{path.name}.index")


def open_index(path: Path) -> NumberSet | None:
    """The index of the registry file as it is now; None when there is none or it is of another file."""
    try:
        index = NumberSet.open(index_path(path))
    except UnavailableError:
        return None
    if index.contents.facts.get(_STAMP) == list(take_stamp(path)):
        return index
    index.close()
    return None


def malformed(index: Contents) -> int:
    """Stored numbers that are no phones. They are in no index, and nobody can ask for them."""
    return int(str(index.facts[_MALFORMED]))


def build_index(path: Path, *, of_compact: bool, done: Callable[[int], None] = lambda _count: None) -> Contents:
    """Make the index of a registry file anew and put it in place in one step; say what it holds.

    ``done`` hears how many rows were read since it was last called.

    Raises:
        UnavailableError: the file cannot be read, changed meanwhile, or does not hold the numbers it was built with.
    """
    stamp = take_stamp(path)
    beside = index_path(path).with_name(f"{path.name}.index.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        with NumberSetDraft(beside) as draft:
            wrong = 0
            for batch in _stored(path, of_compact=of_compact):
                draft.add(batch.numbers)
                wrong += batch.rejected.total()
                done(batch.lines)
            contents = draft.finish(**index_facts(stamp, wrong))
        _require_as_built(path, contents, of_compact=of_compact)
        if take_stamp(path) != stamp:
            raise UnavailableError(f"The registry file {path} changed while its index was built. Try again.")
        beside.replace(index_path(path))
    finally:
        beside.unlink(missing_ok=True)
    return contents


def index_facts(stamp: FileStamp, malformed_numbers: int) -> dict[str, object]:
    """What an index says of itself."""
    return {_STAMP: list(stamp), _MALFORMED: malformed_numbers, "built_at": datetime.now(UTC).isoformat()}


def _stored(path: Path, *, of_compact: bool) -> Iterator[Batch]:
    if not of_compact:
        yield from read_old_list(path)
        return
    for numbers in read_list(path):
        # Whoever reads single numbers finds such rows never: no phone has another count of digits.
        is_phone = (numbers >= 0) & (numbers < AREA * AREA_CODES)
        found = Batch(numbers[is_phone], len(numbers))
        found.rejected.update(not_ten_digits=int((~is_phone).sum()))
        yield found


def _require_as_built(path: Path, contents: Contents, *, of_compact: bool) -> None:
    facts = read_facts(path) if of_compact else None
    if facts is not None and facts.content_sha256 != contents.sha256:
        raise UnavailableError(
            f"The registry file {path} does not hold the numbers it was built with. Move it away and build it again."
        )
