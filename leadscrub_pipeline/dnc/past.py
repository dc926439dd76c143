"""What stood on the list at a time that has passed, and what changed between two versions.

The list in place and the versions kept beside it are read; nothing here changes them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from leadscrub_pipeline.dnc.list_files import ListFacts, read_facts
from leadscrub_pipeline.dnc.number_set import AREA
from leadscrub_pipeline.dnc.registry import DncRegistry
from leadscrub_pipeline.dnc.stamp import take_stamp
from leadscrub_pipeline.dnc.versions import Difference, KeptVersion, VersionBook, held_at
from leadscrub_pipeline.domain.verdicts import CLEAR, LISTED, Answer, Reason, registry_valid_until, unknown
from leadscrub_pipeline.errors import UnavailableError, UsageError


@dataclass(frozen=True, slots=True)
class PastAnswer:
    """What would have been answered about a number at a time, by the version that was in place then."""

    answer: Answer
    version: KeptVersion


class PastLists:
    """The versions of the list at a path. Use ``PastLists.open``, in a ``with`` block."""

    def __init__(self, path: Path, facts: ListFacts, book: VersionBook, registry: DncRegistry) -> None:
        self.path = path
        self.facts = facts
        self._book = book
        self._registry = registry
        self._stamp = take_stamp(path)
        self.chain = book.chain(facts.version)
        """The versions that are kept, newest first."""

    @classmethod
    @contextmanager
    def open(cls, path: Path, versions: Path) -> Iterator[Self]:
        """Open the list in place with what is kept of those before it.

        Raises:
            UsageError: the list was not built by this program.
            UnavailableError: a file cannot be read.
        """
        take_stamp(path)
        facts = read_facts(path)
        if facts is None:
            raise UsageError(
                f"The registry file {path} was not built by this program: no version before it is kept. "
                "leadscrub dnc import takes it over."
            )
        with VersionBook(versions) as book, DncRegistry.open(path, list_date=None, max_age_days=31) as registry:
            yield cls(path, facts, book, registry)

    def answer(self, phone: str, at: datetime, *, max_age_days: int) -> PastAnswer | None:
        """What the version in place at a time said of a number; None when that version is not kept any more.

        ``at`` is aware. A list too old at that time does not clear a number, as it did not then.
        """
        version = held_at(self.chain, at)
        if version is None:
            return None
        newer = self.chain[: self.chain.index(version)]
        is_listed_now = self._registry.look_up([phone])[phone] == LISTED
        if self._stamp != take_stamp(self.path):
            raise UnavailableError(f"The registry file {self.path} changed meanwhile. Ask again.")
        if is_listed_now != self._book.toggled(int(phone), newer):
            return PastAnswer(LISTED, version)
        if int(phone) // AREA not in version.area_codes:
            return PastAnswer(unknown(Reason.AREA_CODE_NOT_COVERED), version)
        if registry_valid_until(version.obtained_at, max_age_days) <= at:
            return PastAnswer(unknown(Reason.STALE_LIST), version)
        return PastAnswer(CLEAR, version)

    def find(self, name: str) -> KeptVersion:
        """The version of a name, or of the beginning of one.

        Raises:
            UsageError: none that is kept, or several.
        """
        found = [version for version in self.chain if version.version == name] or [
            version for version in self.chain if version.version.startswith(name)
        ]
        if len(found) != 1:
            what = "No version" if not found else "More than one version"
            raise UsageError(f"{what} that is kept is named {name}. leadscrub dnc status names them.")
        return found[0]

    def difference(self, older: KeptVersion, newer: KeptVersion) -> Iterator[Difference]:
        """What came and what went from one version to a later one, by area code.

        Raises:
            UsageError: the first is not older than the second.
        """
        start, end = self.chain.index(newer), self.chain.index(older)
        if start >= end:
            raise UsageError(f"{older.version} is not older than {newer.version}. Name the older version first.")
        steps = [
            (one.code, index, one)
            for index, version in enumerate(reversed(self.chain[start:end]))
            for one in self._book.differences(version.version)
        ]
        for _, group in groupby(sorted(steps, key=lambda step: step[:2]), key=lambda step: step[0]):
            net = _net([one for _, _, one in group])
            if len(net.added) or len(net.removed):
                yield net


def _net(steps: list[Difference]) -> Difference:
    """Several differences of an area code as one: who came and went again is in none."""
    numbers = np.concatenate([part for step in steps for part in (step.added, step.removed)])
    came: npt.NDArray[np.bool_] = np.concatenate(
        [np.full(len(part), sign) for step in steps for part, sign in ((step.added, True), (step.removed, False))]
    )
    # The first time that a number is in a difference says where it stood before.
    found, first, count = np.unique(numbers, return_index=True, return_counts=True)
    odd = count % 2 == 1
    return Difference(steps[0].code, found[odd & came[first]], found[odd & ~came[first]])
