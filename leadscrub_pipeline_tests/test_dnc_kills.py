"""Builds of the list that are killed: readers see one whole version at any time, and the next try ends the work."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.dnc.build_folder import under_way
from leadscrub_pipeline.dnc.building import versions_path
from leadscrub_pipeline.dnc.bulk_index import build_index, open_index
from leadscrub_pipeline.dnc.list_files import read_facts
from leadscrub_pipeline.dnc.past import PastLists
from leadscrub_pipeline.domain.verdicts import Verdict
from leadscrub_pipeline_tests.dnc_lists import (
    START,
    change_text,
    full_text,
    listed,
    made,
    old_file,
    some_numbers,
    stored,
)

FORK: Final = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["leadscrub_pipeline_tests.test_dnc_kills"])
DAY: Final = timedelta(days=1)
BEFORE: Final = some_numbers(1, codes=(212, 310, 415), each=20_000)
AFTER: Final = sorted({*BEFORE[7:], 2_125_550_123, 4_155_550_123})
ASKED: Final = [*BEFORE[:9], *AFTER[-9:], 2_125_550_123, 4_155_550_123]


@dataclass(frozen=True)
class Work:
    """What is killed: the list before it, what does it, and what the list holds afterwards."""

    prepare: Callable[[Path], None]
    do: Callable[[Path], object]
    before: list[int] | None
    after: list[int]


def _first_list(path: Path) -> None:
    made(path, "full", full_text(path.with_name("before.txt"), BEFORE))


def _next_full(path: Path) -> None:
    _first_list(path)
    half = len(AFTER) // 2
    full_text(path.with_name("a.txt"), AFTER[:half])
    full_text(path.with_name("b.txt"), AFTER[half:])


def _changes(path: Path) -> None:
    _first_list(path)
    at = START + DAY / 2
    gone = [(number, at, "D") for number in BEFORE[:7]]
    change_text(path.with_name("c.txt"), [*gone, (2_125_550_123, at, "A"), (4_155_550_123, at, "A")])


def _do_full(path: Path) -> object:
    return made(path, "full", path.with_name("a.txt"), path.with_name("b.txt"), at=START + DAY)


def _do_changes(path: Path) -> object:
    return made(path, "changes", path.with_name("c.txt"), at=START + DAY)


def _old(path: Path) -> None:
    old_file(path.with_name("old.sqlite"), BEFORE)


def _do_import(path: Path) -> object:
    return made(path, "import", path.with_name("old.sqlite"))


def _without_index(path: Path) -> None:
    _first_list(path)
    path.with_name(f"{path.name}.index").unlink()


def _do_index(path: Path) -> object:
    return build_index(path, of_compact=True)


WORKS: Final = {
    "build": Work(_next_full, _do_full, BEFORE, AFTER),
    "update": Work(_changes, _do_changes, BEFORE, AFTER),
    "import": Work(_old, _do_import, None, BEFORE),
    "index": Work(_without_index, _do_index, BEFORE, BEFORE),
}


def _child(name: str, path: Path, kill_at: int | None, passed: Any) -> None:
    """Do the work, and die at a point of it."""
    count = 0

    def at_point(_point: str) -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.arm(at_point)
    WORKS[name].do(path)
    passed.value = count


def _run(name: str, path: Path, *, kill_at: int | None = None, kill_after: float | None = None) -> int:
    """How many points were passed; 0 when the child was killed."""
    passed = FORK.Value("i", 0)
    child = FORK.Process(target=_child, args=(name, path, kill_at, passed))
    child.start()
    if kill_after is not None:
        time.sleep(kill_after)
        child.kill()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL)
    return int(passed.value)


def _require_whole(work: Work, path: Path) -> None:
    """Whoever opens the list now sees one version of it, all of it."""
    if work.before is None and not path.exists():
        return
    holds = stored(path)
    assert holds in (work.before, work.after)
    on_list = set(holds)
    found = listed(path, ASKED, now=START + 2 * DAY)
    assert {number: verdict is Verdict.LISTED for number, verdict in found.items()} == {
        number: number in on_list for number in ASKED
    }
    index = open_index(path)
    if index is not None:
        with index:
            assert [n for code in sorted(index.contents.counts) for n in index.numbers(code).tolist()] == holds


def _require_ended(name: str, path: Path) -> None:
    work = WORKS[name]
    assert stored(path) == work.after
    index = open_index(path)
    assert index is not None
    index.close()
    assert not under_way(path)
    assert [file.name for file in path.parent.glob("dnc.sqlite.building/*")] == ["lock"]
    facts = read_facts(path)
    assert facts is not None
    with PastLists.open(path, versions_path(path)) as past:
        assert len(past.chain) == (2 if name in ("build", "update") else 1)
        if name in ("build", "update"):
            (_, older) = past.chain
            at = older.placed_at
            for number in (BEFORE[0], BEFORE[8], 2_125_550_123):
                then = past.answer(str(number), at, max_age_days=31)
                assert then is not None
                assert (then.answer.verdict is Verdict.LISTED) == (number in set(BEFORE))


def _killed_and_gone_on_with(name: str, path: Path, kills: list[dict[str, Any]]) -> None:
    work = WORKS[name]
    work.prepare(path)
    for kill in kills:
        _run(name, path, **kill)
        _require_whole(work, path)
    work.do(path)
    _require_ended(name, path)


@pytest.mark.parametrize("name", list(WORKS))
def test_work_killed_at_any_point_leaves_one_whole_version_and_is_ended_by_the_next_try(
    name: str, tmp_path: Path
) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    WORKS[name].prepare(undisturbed / "dnc.sqlite")
    points = _run(name, undisturbed / "dnc.sqlite")
    _require_ended(name, undisturbed / "dnc.sqlite")
    for point in range(1, points + 1):
        folder = tmp_path / str(point)
        folder.mkdir()
        _killed_and_gone_on_with(name, folder / "dnc.sqlite", [{"kill_at": point}])


def _at_random_moments(name: str, tmp_path: Path, rng: random.Random, times: int) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    WORKS[name].prepare(undisturbed / "dnc.sqlite")
    began = time.monotonic()
    _run(name, undisturbed / "dnc.sqlite")
    usual = time.monotonic() - began
    for turn in range(times):
        folder = tmp_path / str(turn)
        folder.mkdir()
        kills = [{"kill_after": rng.uniform(0, 1.1 * usual)} for _ in range(rng.choice((1, 1, 2, 3)))]
        _killed_and_gone_on_with(name, folder / "dnc.sqlite", kills)


@pytest.mark.parametrize("name", list(WORKS))
def test_work_killed_at_random_moments_leaves_one_whole_version(name: str, tmp_path: Path) -> None:
    _at_random_moments(name, tmp_path, random.Random(os.urandom(8)), times=3)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(WORKS))
def test_work_killed_at_a_hundred_random_moments_leaves_one_whole_version(name: str, tmp_path: Path) -> None:
    _at_random_moments(name, tmp_path, random.Random(os.urandom(8)), times=25)
