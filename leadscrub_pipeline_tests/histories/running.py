"""One history from its seed to the checker's word."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from leadscrub_pipeline_tests.histories.books import Books, has_tables, read_books
from leadscrub_pipeline_tests.histories.checker import Complaint, check
from leadscrub_pipeline_tests.histories.events import history_of
from leadscrub_pipeline_tests.histories.world import world_of


@dataclass(frozen=True)
class Ending:
    books: Books
    complaints: list[Complaint]
    log: list[str]


def run_history(
    seed: int, folder: Path, *, through_dagster: bool = False, say: Callable[[str], None] = lambda _: None
) -> Ending:
    """Let a history happen in a folder that is removed afterwards.

    Every third ends with an undisturbed run over everybody, in which nobody may be missing;
    the others end as they are.
    """
    log: list[str] = []

    def note(line: str) -> None:
        log.append(line)
        say(line)

    history = history_of(seed, through_dagster=through_dagster)
    try:
        with world_of(history, folder, say=note) as world:
            for event in history.events:
                world.happen(event)
            if seed % 3 == 0 or through_dagster or not has_tables(world):
                world.settle()
            else:
                world.clear_up()
            books = read_books(world)
        return Ending(books, check(books), log)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def repeat_command(seed: int, *, through_dagster: bool) -> str:
    return f"python -m leadscrub_pipeline_tests.histories {seed}{' --dagster' if through_dagster else ''}"
