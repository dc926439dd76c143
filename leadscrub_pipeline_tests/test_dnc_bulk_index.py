"""Many phones go to the bulk index: it answers as SQLite does about everything, and only about its own file."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.dnc import DncRegistry, registry
from leadscrub_pipeline.dnc.bulk_index import build_index, index_path, malformed, open_index
from leadscrub_pipeline.domain.verdicts import Answer, Reason, Verdict
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline_tests.dnc_lists import full_text, made, old_file, some_numbers

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NUMBERS = some_numbers(1, each=300)


def opened(path: Path) -> DncRegistry:
    return DncRegistry.open(path, list_date=date(2026, 11, 20), max_age_days=31, now=lambda: NOW)


@pytest.fixture(autouse=True)
def every_question_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "INDEX_FROM", 1)
    monkeypatch.setattr(registry, "BUILD_INDEX_FROM", 1)


_FULL_WIDTH = "2125550101".translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
stored_text = st.one_of(
    st.integers(2_125_550_100, 2_125_550_140).map(str),
    st.sampled_from(["0125550101", "1115550101", "212-555-0101", "21255501", "212555010x", _FULL_WIDTH, ""]),
)
asked_text = st.one_of(
    st.integers(2_125_550_095, 2_125_550_145).map(str),
    st.integers(2_000_000_000, 9_999_999_999).map(str),
    st.sampled_from(["0125550101", "1115550101", "212-555-0101", "3105550101", "21255501011", _FULL_WIDTH, ""]),
)


def in_columns(registry: DncRegistry, asked: list[str], *, batched: bool = True) -> dict[str, Answer]:
    verdicts, reasons = registry.look_up_column(pa.array(asked, pa.string()), batched=batched)
    said = zip(verdicts.to_pylist(), reasons.to_pylist(), strict=True)
    answers = [Answer(Verdict(verdict), None if reason is None else Reason(reason)) for verdict, reason in said]
    return dict(zip(asked, answers, strict=True))


@given(stored=st.sets(stored_text, max_size=25), asked=st.lists(asked_text, max_size=40), compact=st.booleans())
@settings(max_examples=60, deadline=None)
def test_index_and_sqlite_give_the_same_answer_on_everything(
    stored: set[str], asked: list[str], compact: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("list")
    numbers = sorted(
        {int(text) for text in stored if len(text) == 10 and text.isascii() and text.isdigit() and text[0] > "1"}
    )
    if compact:
        path = folder / "dnc.sqlite"
        made(path, "full", full_text(folder / "full.txt", [*numbers, 2_125_550_199]), at=NOW - timedelta(days=1))
        index_path(path).unlink()
    else:
        path = old_file(folder / "dnc.sqlite", [2_125_550_199])
        rows = [("212", text, text) for text in stored if text]
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO dnc_list VALUES ('555', ?, ?)", [row[1:] for row in rows])
    try:
        found = opened(path)
    except UnavailableError:
        return  # a file with such ends is not asked at all
    with found:
        expected = found.look_up(asked)
        assert found.looks_up_in == "sqlite"
        assert found.look_up(asked, batched=False) == expected
        assert in_columns(found, asked) == in_columns(found, asked, batched=False) == expected
        found.expect(len(asked) + 1)
        assert found.looks_up_in == "index"
        assert found.look_up(asked) == expected
        assert found.look_up(asked, batched=False) == expected
        assert in_columns(found, asked) == in_columns(found, asked, batched=False) == expected


def test_few_phones_are_asked_of_sqlite_and_nothing_is_made_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "INDEX_FROM", 10)
    monkeypatch.setattr(registry, "BUILD_INDEX_FROM", 20)
    path = old_file(tmp_path / "dnc.sqlite", NUMBERS)
    with opened(path) as found:
        found.expect(9)
        found.expect(19)
        assert (found.looks_up_in, index_path(path).exists()) == ("sqlite", False)
        assert found.describe()["lookups"] == "sqlite"
        found.expect(20)
        assert (found.describe()["lookups"], found.describe()["malformed"]) == ("index", 0)
    with opened(path) as found:
        found.expect(10)
        assert found.looks_up_in == "index"


def _changed_in_place(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO dnc_list VALUES ('212', '5550123', '2125550123')")


def _replaced(path: Path) -> None:
    other = old_file(path.with_name("other.sqlite"), [*NUMBERS[:-1], 3_105_550_123])
    other.replace(path)


def _touched(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize("change", [_changed_in_place, _replaced, _touched])
def test_an_index_is_not_used_for_a_file_that_is_another_one_now(change: object, tmp_path: Path) -> None:
    path = old_file(tmp_path / "dnc.sqlite", NUMBERS)
    build_index(path, of_compact=False)
    with opened(path) as found:
        found.expect(100)
        assert found.looks_up_in == "index"
        change(path)  # type: ignore[operator]
        with pytest.raises(UnavailableError, match="changed since it was opened"):
            found.look_up([str(NUMBERS[0])])
    assert open_index(path) is None


def test_stored_numbers_that_are_no_phones_are_counted_and_reported(tmp_path: Path) -> None:
    path = old_file(tmp_path / "dnc.sqlite", NUMBERS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO dnc_list VALUES ('212', ?, ?)",
            [("a", "212-555-0101"), ("b", "21255501011"), ("c", b"2125550101")],
        )
    contents = build_index(path, of_compact=False)
    assert contents.rows == len(NUMBERS)
    index = open_index(path)
    assert index is not None
    with index:
        assert malformed(index.contents) == 3


def test_a_list_whose_numbers_are_not_those_it_was_built_with_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dnc.sqlite"
    made(path, "full", full_text(tmp_path / "full.txt", NUMBERS))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM dnc_numbers WHERE phone = ?", (NUMBERS[5],))
    with pytest.raises(UnavailableError, match="does not hold the numbers it was built with"):
        build_index(path, of_compact=True)
    with opened(path) as found, pytest.raises(UnavailableError, match="does not hold the numbers"):
        found.expect(100)


def test_half_an_index_is_no_index(tmp_path: Path) -> None:
    path = old_file(tmp_path / "dnc.sqlite", NUMBERS)
    build_index(path, of_compact=False)
    with index_path(path).open("r+b") as file:
        file.truncate(1_000_000)
    assert open_index(path) is None
    with opened(path) as found:
        found.expect(100)
        assert found.looks_up_in == "index", "it is made anew"
        assert found.look_up([str(NUMBERS[0])])[str(NUMBERS[0])].verdict == "listed"


def test_the_index_of_a_large_list_is_read_as_a_whole(tmp_path: Path) -> None:
    numbers = some_numbers(4, codes=(212, 310, 972), each=150_000)
    path = tmp_path / "dnc.sqlite"
    made(path, "full", full_text(tmp_path / "full.txt", numbers))
    index_path(path).unlink()
    contents = build_index(path, of_compact=True)
    assert contents.counts == {212: 150_000, 310: 150_000, 972: 150_000}
    index = open_index(path)
    assert index is not None
    with index:
        asked = np.random.default_rng(1).integers(2_120_000_000, 9_730_000_000, 300_000)
        assert index.holds(asked).tolist() == np.isin(asked, numbers).tolist()
