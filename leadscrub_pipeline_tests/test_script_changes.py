"""What the sensor makes of a folder of scripts: every change is launched once, and nothing else is."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from leadscrub_pipeline.domain.script_changes import Memory, Seen, from_cursor, look, to_cursor

KEYS = st.sampled_from("abcde")
FOLDERS = st.dictionaries(KEYS, st.sampled_from(["one", "two", "three"]))


def seen(folder: dict[str, str]) -> dict[str, Seen]:
    return {key: Seen(f"stamp-{text}", text) for key, text in folder.items()}


@given(st.lists(FOLDERS, min_size=1, max_size=12), st.integers(1, 5))
def test_every_change_is_launched_once_whatever_the_limit(folders: list[dict[str, str]], at_most: int) -> None:
    memory = look(Memory(), seen(folders[0]), is_whole=True, at_most=at_most).memory
    expected: Counter[str] = Counter()
    launched: Counter[str] = Counter()
    run_keys: list[tuple[str, str]] = []
    last = dict(folders[0])
    for folder in folders[1:]:
        expected.update(key for key, text in folder.items() if last.get(key) != text)
        last |= folder
        while True:
            found = look(memory, seen(folder), is_whole=True, at_most=at_most)
            assert len(found.to_run) <= at_most
            memory = from_cursor(to_cursor(found.memory))
            launched.update(found.to_run)
            run_keys += [(key, memory.scripts[key].run_key) for key in found.to_run]
            if not found.to_run:
                break
    assert launched == expected
    assert len(set(run_keys)) == len(run_keys), "no two changes of a script have one run key"


@given(st.lists(FOLDERS, min_size=1, max_size=6))
def test_nothing_is_launched_before_the_folder_was_seen_as_a_whole(folders: list[dict[str, str]]) -> None:
    memory = Memory()
    for folder in folders:
        found = look(memory, seen(folder), is_whole=False, at_most=5)
        assert found.to_run == ()
        memory = found.memory
    assert look(memory, seen(folders[-1]), is_whole=True, at_most=5).to_run == ()


@given(FOLDERS, FOLDERS)
def test_a_script_that_is_away_for_a_while_is_no_change(folder: dict[str, str], other: dict[str, str]) -> None:
    memory = look(Memory(), seen(folder), is_whole=True, at_most=9).memory
    away = {key: text for key, text in other.items() if key not in folder}
    memory = look(memory, seen(away), is_whole=True, at_most=9).memory
    assert look(memory, seen(folder), is_whole=True, at_most=9).to_run == ()


@given(st.text() | st.none())
def test_a_cursor_that_is_none_of_ours_launches_nothing(cursor: str | None) -> None:
    memory = from_cursor(cursor)
    assert look(memory, seen({"a": "one"}), is_whole=True, at_most=9).to_run == ()
