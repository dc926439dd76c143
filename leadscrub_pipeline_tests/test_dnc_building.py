"""Building the Do-Not-Call list: what is in it, what is refused, and what an ended build leaves."""

import resource
import shutil
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.dnc import DncRegistry
from leadscrub_pipeline.dnc.bulk_index import index_path, open_index
from leadscrub_pipeline.dnc.list_files import read_facts
from leadscrub_pipeline.domain.verdicts import Verdict
from leadscrub_pipeline.errors import RefusedError, UnavailableError, UsageError
from leadscrub_pipeline_tests.dnc_lists import (
    LIMITS,
    START,
    change_text,
    full_text,
    listed,
    made,
    old_file,
    some_numbers,
    stored,
)

DAY = timedelta(days=1)
NUMBERS = some_numbers(1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list" / "dnc.sqlite"


@pytest.fixture(autouse=True)
def folder(path: Path) -> None:
    path.parent.mkdir()


@pytest.fixture
def first(path: Path, tmp_path: Path) -> Path:
    made(path, "full", full_text(tmp_path / "full.txt", NUMBERS))
    return path


def test_a_list_of_several_files_holds_every_number_once_and_says_where_they_came_from(
    path: Path, tmp_path: Path
) -> None:
    half = len(NUMBERS) // 2
    one = full_text(tmp_path / "one.txt", [*NUMBERS[:half], NUMBERS[0]])
    full_text(tmp_path / "two.txt", NUMBERS[half - 5 :])
    with zipfile.ZipFile(tmp_path / "two.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "two.txt", "two.txt")
    built = made(path, "full", one, tmp_path / "two.zip", subscription="...90")
    assert stored(path) == NUMBERS
    facts = read_facts(path)
    assert facts == built.facts
    assert (facts.rows, facts.area_codes, facts.subscription) == (len(NUMBERS), {212: 3000, 310: 3000}, "...90")
    assert [(source.name, source.lines) for source in facts.sources] == [("one.txt", half + 1), ("two.zip", half + 5)]
    assert path.stat().st_mode & 0o777 == 0o600
    index = open_index(path)
    assert index is not None
    with index:
        assert index.contents.rows == len(NUMBERS)


def test_a_states_list_is_a_further_source_of_the_same_list(path: Path, tmp_path: Path) -> None:
    federal = full_text(tmp_path / "federal.txt", NUMBERS)
    of_state = [number for number in some_numbers(2) if number not in set(NUMBERS)][:50]
    built = made(path, "full", federal, full_text(tmp_path / "texas.txt", of_state))
    assert {source.name for source in built.facts.sources} == {"federal.txt", "texas.txt"}
    assert set(listed(path, of_state).values()) == {Verdict.LISTED}
    assert stored(path) == sorted([*NUMBERS, *of_state])


def test_a_reader_finds_what_is_on_the_list_and_is_not_told_that_other_area_codes_are_clear(first: Path) -> None:
    absent = next(number for number in range(2_122_000_000, 2_123_000_000) if number not in set(NUMBERS))
    assert listed(first, [NUMBERS[0], absent, 4_155_550_100]) == {
        NUMBERS[0]: Verdict.LISTED,
        absent: Verdict.CLEAR,
        4_155_550_100: Verdict.UNKNOWN,
    }


def test_changes_are_applied_and_an_area_code_that_was_not_bought_stays_unknown(first: Path, tmp_path: Path) -> None:
    gone, came, foreign = NUMBERS[10], 2_125_550_123, 4_155_550_100
    at = START + DAY / 2
    built = made(
        first,
        "changes",
        change_text(tmp_path / "c.txt", [(gone, at, "D"), (came, at, "A"), (foreign, at, "A"), (NUMBERS[0], at, "A")]),
        at=START + DAY,
    )
    assert (built.added, built.removed) == (2, 1)
    assert stored(first) == sorted({*NUMBERS, came, foreign} - {gone})
    assert listed(first, [gone, came, foreign, foreign + 1], now=START + DAY) == {
        gone: Verdict.CLEAR,
        came: Verdict.LISTED,
        foreign: Verdict.LISTED,
        foreign + 1: Verdict.UNKNOWN,
    }


def test_many_changes_are_written_as_a_whole_new_list_with_the_same_result(first: Path, tmp_path: Path) -> None:
    at = START + DAY / 2
    came = [number for number in some_numbers(2, each=600) if number not in set(NUMBERS)]
    built = made(first, "changes", change_text(tmp_path / "c.txt", [(n, at, "A") for n in came]), at=START + DAY)
    assert built.added == len(came)
    assert stored(first) == sorted([*NUMBERS, *came])


def test_several_change_lists_are_applied_in_the_order_of_their_times_however_they_are_named(
    first: Path, tmp_path: Path
) -> None:
    later = change_text(tmp_path / "a.txt", [(NUMBERS[0], START + 2 * DAY, "A")])
    earlier = change_text(tmp_path / "b.txt", [(NUMBERS[0], START + DAY, "D")])
    made(first, "changes", later, earlier, at=START + 3 * DAY)
    assert stored(first) == NUMBERS


def test_a_file_of_three_columns_is_taken_over_and_kept_beside(path: Path) -> None:
    old_file(path, [*NUMBERS, 1_125_550_123])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO dnc_list VALUES ('212', 'x', '212-555-0101')")
    with pytest.raises(RefusedError, match="not_nanp 1, not_ten_digits 1"):
        made(path, "import", path, limits=replace(LIMITS, reject_share=0.0001))
    built = made(path, "import", path)
    assert stored(path) == NUMBERS
    assert built.facts.sources[0].rejected == {"not_ten_digits": 1, "not_nanp": 1}
    with closing(sqlite3.connect(path.with_name("dnc.sqlite.old"))) as connection:
        assert connection.execute("SELECT count(*) FROM dnc_list").fetchone() == (len(NUMBERS) + 2,)


def test_a_build_does_not_replace_a_file_that_somebody_else_made(path: Path, tmp_path: Path) -> None:
    old_file(path, NUMBERS)
    with pytest.raises(UsageError, match="dnc import"):
        made(path, "full", full_text(tmp_path / "full.txt", NUMBERS))


@pytest.mark.parametrize("what", ["the list", "an area code", "an area code that is missing"])
def test_a_list_that_lost_too_many_numbers_is_refused_and_the_one_in_place_stays(
    what: str, first: Path, tmp_path: Path
) -> None:
    kept = {
        "the list": NUMBERS[::2],
        "an area code": [*NUMBERS[:3000], *NUMBERS[3000:][300:], *range(2_125_550_100, 2_125_550_400)],
        "an area code that is missing": NUMBERS[:3000],
    }[what]
    source = full_text(tmp_path / "next.txt", sorted(set(kept)))
    with pytest.raises(RefusedError, match="would shrink"):
        made(first, "full", source, at=START + DAY)
    assert stored(first) == NUMBERS
    made(first, "full", source, at=START + DAY, allow_shrink=True)
    assert stored(first) == sorted(set(kept))


def refused_change(first: Path, tmp_path: Path, *changes: tuple[int, object, str], days: float = 3) -> str:
    with pytest.raises(RefusedError) as refusal:
        made(first, "changes", change_text(tmp_path / "c.txt", changes), at=START + days * DAY)  # type: ignore[arg-type]
    assert stored(first) == NUMBERS
    assert not list((first.parent / "dnc.sqlite.building").glob("[!l]*")), (
        "a refused order leaves nothing to go on with"
    )
    return str(refusal.value)


def test_change_lists_out_of_order_or_with_a_gap_are_refused(first: Path, tmp_path: Path) -> None:
    assert "out of order" in refused_change(first, tmp_path, (NUMBERS[0], START - DAY, "D"))
    assert "There is a gap" in refused_change(first, tmp_path, (NUMBERS[0], START + 2.1 * DAY, "D"))
    assert "after it was obtained" in refused_change(first, tmp_path, (NUMBERS[0], START + DAY, "D"), days=0.9)
    assert "cut off" in refused_change(first, tmp_path)
    assert "back in time" in refused_change(first, tmp_path, (NUMBERS[0], START + DAY, "D"), days=-0.1)
    gap = change_text(tmp_path / "gap.txt", [(NUMBERS[0], START + 2.1 * DAY, "D")])
    made(first, "changes", gap, at=START + 3 * DAY, allow_gap=True)
    assert stored(first) == NUMBERS[1:]


def test_a_change_list_that_overlaps_what_is_known_changes_nothing_twice(first: Path, tmp_path: Path) -> None:
    day1 = [(NUMBERS[0], START + DAY / 2, "D")]
    made(first, "changes", change_text(tmp_path / "c1.txt", day1), at=START + DAY)
    both = [*day1, (NUMBERS[0], START + 1.5 * DAY, "A"), (NUMBERS[1], START + 1.6 * DAY, "D")]
    built = made(first, "changes", change_text(tmp_path / "c2.txt", both), at=START + 2 * DAY)
    assert (built.added, built.removed) == (1, 1)
    assert stored(first) == [NUMBERS[0], *NUMBERS[2:]]


def test_downloads_less_than_a_day_apart_are_warned_of(first: Path, tmp_path: Path) -> None:
    changes = change_text(tmp_path / "c.txt", [(NUMBERS[0], START + DAY / 8, "D")])
    (warning,) = made(first, "changes", changes, at=START + DAY / 4).warnings
    assert "6 hours apart" in warning


def test_a_source_with_too_many_lines_that_are_no_number_is_refused(path: Path, tmp_path: Path) -> None:
    source = full_text(tmp_path / "full.txt", NUMBERS)
    with source.open("a") as file:
        file.write("no number\n" * 7)
    with pytest.raises(RefusedError, match=r"full\.txt, 7 are no number \(wrong_length 7\)"):
        made(path, "full", source)
    assert not path.exists()


def test_the_same_file_given_twice_and_a_file_that_is_not_there_are_usage(path: Path, tmp_path: Path) -> None:
    source = full_text(tmp_path / "full.txt", NUMBERS)
    twin = tmp_path / "twin.txt"
    shutil.copy(source, twin)
    with pytest.raises(UsageError, match=r"full\.txt, twin\.txt"):
        made(path, "full", source, twin)
    with pytest.raises(UsageError, match=r"missing\.txt"):
        made(path, "full", tmp_path / "missing.txt")
    with pytest.raises(UsageError, match="Build a full one first"):
        made(path, "changes", source)


def test_building_the_list_that_is_there_does_nothing(first: Path, tmp_path: Path) -> None:
    before = first.stat()
    built = made(first, "full", full_text(tmp_path / "again.txt", reversed(NUMBERS)))
    assert built.was_there
    assert first.stat() == before


def test_a_disk_without_room_is_named_before_anything_is_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    with pytest.raises(UnavailableError, match="GB are free"):
        made(path, "full", full_text(tmp_path / "full.txt", NUMBERS))
    assert not path.exists()


def test_a_disk_that_is_full_in_the_middle_is_named_and_the_list_in_place_stays(first: Path, tmp_path: Path) -> None:
    source = full_text(tmp_path / "next.txt", [*NUMBERS, 3_109_999_999])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, hard))
    try:
        with pytest.raises(UnavailableError, match="File too large"):
            made(first, "full", source, at=START + DAY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stored(first) == NUMBERS
    made(first, "full", source, at=START + DAY)
    assert stored(first) == [*NUMBERS, 3_109_999_999]


def test_two_builds_at_once_are_one_and_a_refusal(first: Path, tmp_path: Path) -> None:
    refusals = []

    def another(point: str) -> None:
        if point == "list.batch_added" and not refusals:
            with pytest.raises(UnavailableError, match="Another build") as refusal:
                made(first, "full", full_text(tmp_path / "other.txt", NUMBERS), at=START + DAY)
            refusals.append(refusal)

    failpoints.arm(another)
    try:
        made(first, "full", full_text(tmp_path / "next.txt", [*NUMBERS, 3_109_999_999]), at=START + DAY)
    finally:
        failpoints.arm(None)
    assert refusals
    assert stored(first)[-1] == 3_109_999_999


def test_a_list_is_put_in_place_under_a_reader_which_notices(first: Path, tmp_path: Path) -> None:
    with DncRegistry.open(first, list_date=None, max_age_days=31, now=lambda: START) as registry:
        made(first, "full", full_text(tmp_path / "next.txt", [*NUMBERS, 3_109_999_999]), at=START + DAY)
        with pytest.raises(UnavailableError, match="changed since it was opened"):
            registry.look_up(["3109999999"])


def test_an_index_of_another_list_is_not_trusted(first: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.index"
    older.hardlink_to(index_path(first))
    made(first, "full", full_text(tmp_path / "next.txt", [*NUMBERS, 3_109_999_999]), at=START + DAY)
    older.replace(index_path(first))
    assert open_index(first) is None
    made(
        first,
        "changes",
        change_text(tmp_path / "c.txt", [(NUMBERS[0], START + 1.5 * DAY, "D")]),
        at=START + 2 * DAY,
    )
    assert stored(first) == [*NUMBERS[1:], 3_109_999_999]
