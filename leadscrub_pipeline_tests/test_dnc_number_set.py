"""Sets of numbers on disk: what was put in is found, nothing else is, and half a file is no set."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.dnc import number_set
from leadscrub_pipeline.dnc.number_set import NumberSet, NumberSetDraft
from leadscrub_pipeline.errors import UnavailableError

EDGES = [0, 7, 8, 9_999_999, 10_000_000, 2_125_550_123, 2_125_550_124, 9_999_999_999]
number = st.one_of(st.sampled_from(EDGES), st.integers(2_125_550_100, 2_125_550_130), st.integers(0, 9_999_999_999))
step = st.tuples(st.booleans(), st.lists(number, max_size=20))


def array(numbers: object) -> np.ndarray:
    return np.array(list(numbers), np.int64)  # type: ignore[call-overload]


def draft_of(path: Path, numbers: object) -> Path:
    with NumberSetDraft(path) as draft:
        draft.add(array(numbers))
        draft.finish()
    return path


@given(steps=st.lists(step, max_size=6), few=st.sampled_from([0, 5, 200_000]))
@settings(max_examples=60, deadline=None)
def test_a_set_holds_what_was_added_and_not_removed_whichever_way_bits_are_set(
    steps: list[tuple[bool, list[int]]], few: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"set-{few}"
    path.unlink(missing_ok=True)
    model: set[int] = set()
    with pytest.MonkeyPatch.context() as patch, NumberSetDraft(path) as draft:
        patch.setattr(number_set, "_FEW", few)
        for present, numbers in steps:
            draft.add(array(numbers)) if present else draft.remove(array(numbers))
            model = model | set(numbers) if present else model - set(numbers)
        contents = draft.finish()
    asked = sorted({n for _, numbers in steps for n in numbers} | set(EDGES))
    with NumberSet.open(path) as found:
        assert found.holds(array(asked)).tolist() == [n in model for n in asked]
        assert [n for code in sorted(contents.counts) for n in found.numbers(code).tolist()] == sorted(model)
        assert found.contents == contents
        assert contents.rows == len(model)


def test_the_same_numbers_have_the_same_hash_however_they_came(tmp_path: Path) -> None:
    one = draft_of(tmp_path / "one", EDGES)
    with NumberSetDraft(tmp_path / "two") as draft:
        for n in reversed(EDGES):
            draft.add(array([n, n, 3_105_550_150]))
        draft.remove(array([3_105_550_150]))
        two = draft.finish()
    assert number_set.read_contents(one).sha256 == two.sha256
    with NumberSetDraft(tmp_path / "three") as draft:
        draft.add(array([*EDGES[:-1], 9_999_999_998]))
        assert draft.finish().sha256 != two.sha256


def test_a_copy_holds_the_same_and_nothing_of_what_was_there(tmp_path: Path) -> None:
    with NumberSet.open(draft_of(tmp_path / "one", EDGES)) as one, NumberSetDraft(tmp_path / "two") as draft:
        draft.add(array([3_105_550_150]))
        draft.copy(one)
        assert draft.finish() == one.contents


def test_a_draft_that_was_not_finished_or_a_damaged_file_is_no_set(tmp_path: Path) -> None:
    with NumberSetDraft(tmp_path / "draft") as draft:
        draft.add(array(EDGES))
    with pytest.raises(UnavailableError, match="no finished set"):
        NumberSet.open(tmp_path / "draft")
    path = draft_of(tmp_path / "set", EDGES)
    whole = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(whole - 1)
    with pytest.raises(UnavailableError, match="no finished set"):
        NumberSet.open(path)
    with path.open("r+b") as file:
        file.truncate(whole)
        file.seek(30)
        file.write(b"9")
    with pytest.raises(UnavailableError, match="no finished set"):
        NumberSet.open(path)
    with pytest.raises(UnavailableError, match="cannot be read"):
        NumberSet.open(tmp_path / "missing")


def test_a_number_of_another_size_is_a_defect_and_not_clear(tmp_path: Path) -> None:
    with NumberSet.open(draft_of(tmp_path / "set", EDGES)) as found:
        for wrong in (-1, 10_000_000_000, 2**62):
            with pytest.raises((ValueError, IndexError)):
                found.holds(array([2_125_550_123, wrong]))


def test_a_file_takes_room_for_its_area_codes_only(tmp_path: Path) -> None:
    path = draft_of(tmp_path / "set", [2_125_550_123, 3_105_550_150])
    assert path.stat().st_blocks * 512 < 4_000_000
