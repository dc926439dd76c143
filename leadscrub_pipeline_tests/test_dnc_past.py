"""What stood on the list in the past: as it was answered then, by the version that was in place then."""

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.dnc import DncRegistry
from leadscrub_pipeline.dnc.building import versions_path
from leadscrub_pipeline.dnc.past import PastLists
from leadscrub_pipeline.dnc.versions import Difference, KeptVersion, VersionBook
from leadscrub_pipeline.domain.verdicts import Answer
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline_tests.dnc_lists import LIMITS, START, change_text, full_text, made, some_numbers, stored

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Asked:
    """One check, as its evidence has it."""

    phone: str
    at: datetime
    answer: Answer
    list_version: str


def ask(path: Path, phones: list[str], at: datetime) -> list[Asked]:
    with DncRegistry.open(path, list_date=None, max_age_days=31, now=lambda: at) as registry:
        answers = registry.look_up(phones)
        return [Asked(phone, at, answers[phone], registry.version.name) for phone in phones]


def five_versions(path: Path, rng: random.Random) -> tuple[list[Asked], list[list[int]]]:
    """Five lists over nine weeks, each asked about many numbers, some of them when it was too old already."""
    pool = some_numbers(5, codes=(212, 310, 415), each=4_000)
    numbers = set(pool[: len(pool) // 2])
    asked: list[Asked] = []
    contents = []
    for turn, days in enumerate((0, 1, 12, 15, 50)):
        at = START + days * DAY
        if turn in (0, 4):
            made(path, "full", full_text(path.with_name("full.txt"), sorted(numbers)), at=at, allow_shrink=True)
        else:
            moved = rng.sample(pool, 800)
            changes = [(number, at - DAY / 4, "D" if number in numbers else "A") for number in moved]
            made(
                path, "changes", change_text(path.with_name("c.txt"), changes), at=at, allow_gap=True, allow_shrink=True
            )
        numbers = set(stored(path))
        contents.append(sorted(numbers))
        phones = [str(number) for number in rng.sample(pool, 1_995)] + [f"97255501{n:02}" for n in range(5)]
        later = at + (34 * DAY if days == 15 else timedelta(hours=2))
        asked += ask(path, phones, later)
        numbers ^= set(rng.sample(pool, 60))
    return asked, contents


def test_ten_thousand_past_answers_over_five_versions_are_those_of_their_evidence(tmp_path: Path) -> None:
    path = tmp_path / "dnc.sqlite"
    asked, contents = five_versions(path, random.Random(11))
    assert len(asked) == 10_000
    with PastLists.open(path, versions_path(path)) as past:
        assert len(past.chain) == 5
        for one in asked:
            found = past.answer(one.phone, one.at, max_age_days=31)
            assert found is not None
            assert (found.answer, found.version.version) == (one.answer, one.list_version)
        assert {(one.answer.verdict, one.answer.reason) for one in asked} >= {
            ("listed", None),
            ("clear", None),
            ("unknown", "stale_list"),
            ("unknown", "area_code_not_covered"),
        }
        _differences_lead_from_each_version_to_each_later_one(past, contents)


def _differences_lead_from_each_version_to_each_later_one(past: PastLists, contents: list[list[int]]) -> None:
    oldest_first = past.chain[::-1]
    for start in range(5):
        for end in range(start + 1, 5):
            came: set[int] = set()
            went: set[int] = set()
            for one in past.difference(oldest_first[start], oldest_first[end]):
                came |= set(one.added.tolist())
                went |= set(one.removed.tolist())
            assert came == set(contents[end]) - set(contents[start])
            assert went == set(contents[start]) - set(contents[end])
    with pytest.raises(UsageError, match="not older"):
        list(past.difference(past.chain[0], past.chain[1]))


def test_before_the_first_kept_version_nothing_is_known(tmp_path: Path) -> None:
    path = tmp_path / "dnc.sqlite"
    numbers = some_numbers(1, each=100)
    made(path, "full", full_text(tmp_path / "full.txt", numbers))
    with PastLists.open(path, versions_path(path)) as past:
        assert past.answer(str(numbers[0]), START, max_age_days=31) is None
        assert past.answer(str(numbers[0]), START + DAY, max_age_days=31) is not None


def test_versions_are_forgotten_when_their_time_is_over_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "dnc.sqlite"
    numbers = some_numbers(1, each=100)
    limits = replace(LIMITS, keep=19 * DAY)
    for turn in range(5):
        source = full_text(tmp_path / "full.txt", numbers[turn:])
        made(path, "full", source, at=START + turn * 10 * DAY, limits=limits, allow_shrink=True)
    with PastLists.open(path, versions_path(path)) as past:
        assert len(past.chain) == 3
        for turn in (2, 3, 4):
            found = past.answer(str(numbers[turn]), START + (turn * 10 + 1) * DAY, max_age_days=31)
            assert found is not None
            assert found.answer.verdict == "listed"
            gone = past.answer(str(numbers[turn - 1]), START + (turn * 10 + 1) * DAY, max_age_days=31)
            assert gone is not None
            assert gone.answer.verdict == "clear"
        assert past.answer(str(numbers[0]), START + 15 * DAY, max_age_days=31) is None


def test_a_version_whose_build_never_ended_is_in_no_chain(tmp_path: Path) -> None:
    path = tmp_path / "dnc.sqlite"
    made(path, "full", full_text(tmp_path / "full.txt", some_numbers(1, each=100)))
    with VersionBook(versions_path(path), writing=True) as book:
        name = KeptVersion("never", "dnc-x", START, START, 1, frozenset({212}), "full", 1, 0)
        book.add(name, [Difference(212, np.array([2_125_550_123]), np.empty(0, np.int64))])
    with PastLists.open(path, versions_path(path)) as past:
        assert len(past.chain) == 1
    made(path, "full", full_text(tmp_path / "next.txt", some_numbers(1, each=101)), at=START + DAY, allow_shrink=True)
    with VersionBook(versions_path(path)) as book:
        assert list(book.differences("never")) == []


@given(numbers=st.sets(st.integers(2_120_000_000, 2_129_999_999), max_size=300))
@settings(max_examples=100, deadline=None)
def test_a_difference_is_read_as_it_was_kept(numbers: set[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "versions"
    ordered = np.array(sorted(numbers), np.int64)
    half = len(ordered) // 2
    version = KeptVersion("v", None, START, START, 1, frozenset({212}), "full", half, len(ordered) - half)
    with VersionBook(path, writing=True) as book:
        book.add(version, [Difference(212, ordered[:half], ordered[half:])])
        (found,) = book.differences("v")
        assert (found.added.tolist(), found.removed.tolist()) == (ordered[:half].tolist(), ordered[half:].tolist())
        assert book.chain("v") == [version]
