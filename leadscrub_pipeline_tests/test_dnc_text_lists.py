"""The FTC's texts: every line is a number or rejected with a reason, and none is lost."""

import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.dnc.change_lists import read_changes
from leadscrub_pipeline.dnc.text_lists import parse_lines, read_text_list
from leadscrub_pipeline.errors import UnavailableError

DIGITS = frozenset("0123456789")


def judged(line: str) -> tuple[int | None, str | None]:
    """What one line is, told one character at a time."""
    if not line:
        return None, "empty"
    if len(line) not in (10, 11):
        return None, "wrong_length"
    digits = line[:3] + line[4:] if len(line) == 11 else line
    if (len(line) == 11 and line[3] != ",") or not set(digits) <= DIGITS:
        return None, "not_digits"
    if digits[0] in "01" or digits[3] in "01":
        return None, "not_nanp"
    return int(digits), None


good = st.integers(2_000_000_000, 9_999_999_999).filter(lambda n: n // 10**6 % 10 >= 2)
with_comma = good.map(lambda n: f"{n // 10**7},{n % 10**7:07}")
bad = st.text("0123456789,x +-\t\v", max_size=13)
lines_of_text = st.lists(st.one_of(with_comma, good.map(str), bad), min_size=1, max_size=40)


@given(lines=lines_of_text, ending=st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=400, deadline=None)
def test_every_line_is_a_number_or_rejected_with_its_reason(lines: list[str], ending: str) -> None:
    batch = parse_lines("".join(line + ending for line in lines).encode())
    expected = [judged(line) for line in lines]
    assert batch.numbers.tolist() == [number for number, _ in expected if number is not None]
    assert batch.rejected == Counter(reason for _, reason in expected if reason is not None)
    assert batch.lines == len(lines) == len(batch.numbers) + batch.rejected.total()


def read(path: Path) -> list[int]:
    return [number for batch in read_text_list(path) for number in batch.numbers.tolist()]


@pytest.mark.parametrize("kind", ["txt", "zip"])
def test_a_list_over_many_chunks_is_read_whole_plain_and_zipped(kind: str, tmp_path: Path) -> None:
    numbers = np.random.default_rng(3).integers(2_120_000_000, 2_130_000_000, 500_000)
    numbers = numbers[numbers // 10**6 % 10 >= 2]
    text = "".join(f"{n // 10**7},{n % 10**7:07}\n" for n in numbers.tolist()).encode()
    path = tmp_path / f"212.{kind}"
    if kind == "zip":
        half = text.index(b"\n", len(text) // 2) + 1
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("b.txt", text[half:])
            archive.writestr("a.txt", text[:half])
    else:
        path.write_bytes(text.rstrip(b"\n"))
    assert read(path) == numbers.tolist()


@pytest.mark.parametrize(
    "content",
    [b"212,5550123\n212,55501", b"212,5550123\n212,5550124\n2", b"x" * 5000, b"\x00" * 9_000_000],
    ids=["half a number", "a digit", "no lines", "noise"],
)
def test_a_text_that_was_cut_off_or_is_no_list_is_refused_by_its_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "212.txt"
    path.write_bytes(content)
    with pytest.raises(UnavailableError, match=r"212\.txt"):
        read(path)


@pytest.mark.parametrize("cut", [30, 200, -40])
def test_a_zip_file_that_was_cut_off_or_damaged_is_refused_by_its_name(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "212.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("212.txt", "".join(f"212,555{n:04}\n" for n in range(5000)))
    content = path.read_bytes()
    path.write_bytes(content[:cut] if cut < 0 else content[:cut] + bytes([content[cut] ^ 0xFF]) + content[cut + 1 :])
    with pytest.raises(UnavailableError, match=r"212\.zip"):
        read(path)


def changes_file(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_changes_are_applied_in_the_order_of_their_times(tmp_path: Path) -> None:
    found = read_changes(
        changes_file(
            tmp_path / "changes.txt",
            "2125550123,2026-08-29T08:00:02,D",
            "2125550123,2026-08-29T08:00:01,A",
            "2125550124,2026-08-29T08:00:01,D",
            "2125550124,2026-08-29T08:00:01,A",
        )
    )
    listed, removed = found.last_of_each()
    assert (listed.tolist(), removed.tolist()) == ([2125550124], [2125550123])
    assert found.first_at == datetime(2026, 8, 29, 8, 0, 1, tzinfo=UTC)
    assert found.last_at == datetime(2026, 8, 29, 8, 0, 2, tzinfo=UTC)


def test_lines_that_are_no_change_are_counted_by_reason(tmp_path: Path) -> None:
    found = read_changes(
        changes_file(
            tmp_path / "changes.txt",
            "2125550123,2026-08-29T08:00:00,A",
            "2125550123,2026-08-29T08:00:00",
            "212555012,2026-08-29T08:00:00,A",
            "1125550123,2026-08-29T08:00:00,A",
            "2125550123,2026-13-29T08:00:00,A",
            "2125550123,2026-08-29T08:00:00,X",
        )
    )
    assert (found.numbers.tolist(), found.lines) == ([2125550123], 6)
    assert found.rejected == Counter(wrong_columns=1, not_digits=1, not_nanp=1, bad_time=1, bad_action=1)


moments = st.integers(0, 50).map(lambda second: f"2026-08-29T08:00:{second:02}")
change = st.tuples(st.integers(2_125_550_100, 2_125_550_105), moments, st.sampled_from("AD"))


@given(rows=st.lists(change, max_size=60))
@settings(max_examples=200, deadline=None)
def test_what_a_change_list_comes_to_is_what_its_lines_one_after_the_other_do(
    rows: list[tuple[int, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "changes.txt"
    found = read_changes(changes_file(path, *(f"{number},{at},{action}" for number, at, action in rows)))
    state = {number: action for number, _, action in sorted(rows, key=lambda row: row[1])}
    listed, removed = found.last_of_each()
    assert listed.tolist() == sorted(number for number, action in state.items() if action == "A")
    assert removed.tolist() == sorted(number for number, action in state.items() if action == "D")


def test_an_empty_change_list_is_no_change_and_one_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    empty = read_changes(changes_file(tmp_path / "empty.txt"))
    assert (len(empty.numbers), empty.first_at) == (0, None)
    (tmp_path / "cut.txt").write_text("2125550123,2026-08-29T08:00:00,A\n2125550124,2026-08-")
    with pytest.raises(UnavailableError, match=r"cut\.txt"):
        read_changes(tmp_path / "cut.txt")
