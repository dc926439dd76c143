"""What the tests of bad input share: a deployment for a whole module, and what every failure must and must not say.

One deployment serves many tests, each with a script and people of its own: what a test does
to its partition is no other test's business.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from leadscrub_pipeline.warehouse.schema import MASTER, PHONE_VERDICTS, SLICES, TABLES
from leadscrub_pipeline_tests.graph import Graph, Run, graph_in, people

PRIVATE = ("Ottoline", "Vexley", "Marrowbone", "Zeb\u00e9d\u00e9e")
"""Words that stand only in leads: no error, log line or metadata may hold one."""

_FOREIGN = re.compile(
    r"Traceback|File \"|duckdb\.|sqlite3\.|sqlglot|Invalid Input Error|Conversion Error|Binder Error|Parser Error|"
    r"Constraint Error|Catalog Error|aiohttp|127\.0\.0\.1|5550?1\d\d"
)


@contextmanager
def deployment(folder: Path, *, from_nothing: bool = False) -> Iterator[Graph]:
    """A deployment for the tests of a module, each of which takes its settings and faults back."""
    with pytest.MonkeyPatch.context() as patch, graph_in(folder, patch, from_nothing=from_nothing) as graph:
        yield graph


@contextmanager
def settled_again(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """The deployment for one test: its settings and faults end with it."""
    whole, graph.patch = graph.patch, monkeypatch
    try:
        yield graph
    finally:
        graph.patch = whole
        graph.simulators.idicore.faults.clear()
        graph.simulators.ccc.faults.clear()


def private_people(count: int, *, start: int) -> list[tuple[object, ...]]:
    """People nobody else has, with names that must not be told."""
    return [("Ottoline", "Vexley", f"{number} Marrowbone Lane", *rest) for number, (_, _, _, *rest) in enumerate(
        people(count, start=start), start=start
    )]  # fmt: skip


def fails(graph: Graph, key: str, step: str, *words: str, **arguments: Any) -> Run:
    """Run the script, and see that it fails at the step with these words and nothing private."""
    run = graph.scrub(key, **arguments)
    assert not run.success
    assert run.failed_step == step, run.error
    for word in words:
        assert word in run.error, run.error
    assert len(run.error) < 1200
    assert not _FOREIGN.search(run.error), run.error
    tells_nothing_private(run)
    return run


def tells_nothing_private(run: Run) -> None:
    """Nothing that is kept of the run names a lead: events, metadata, checks, log lines, errors with their causes."""
    assert run.run_id in run.told
    for word in PRIVATE:
        assert word.lower() not in run.told.lower(), f"{word} is told"


def state(graph: Graph) -> dict[str, Any]:
    """All that a refused run must leave as it is: each table's rows, the published ones, the slices, the bill."""
    with graph.warehouse() as session:
        return {
            "billed": graph.billed,
            "asked": dict(graph.simulators.ccc.asked),
            "rows": {table.name: session.rows(f"SELECT COUNT(*) FROM {table.full_name}") for table in TABLES},
            "master": session.rows(f"SELECT * FROM {MASTER.full_name} ORDER BY record_id"),
            "slices": session.rows(f"SELECT * FROM {SLICES.full_name} ORDER BY table_name, partition_key"),
        }


def published(graph: Graph, key: str) -> list[dict[str, Any]]:
    return [row for row in graph.master() if row["table_id"] == key]


def phones_of(row: dict[str, Any]) -> list[str]:
    return [row[f"phone_{slot}"] for slot in (1, 2, 3) if row[f"phone_{slot}"]]


def verdicts(graph: Graph, source: str) -> dict[str, tuple[str, str | None]]:
    found = graph.rows(f"SELECT phone, verdict, reason FROM {PHONE_VERDICTS.full_name} WHERE source = ?", [source])
    return {phone: (verdict, reason) for phone, verdict, reason in found}


def no_flag_is_false_unanswered(graph: Graph, key: str) -> None:
    """FALSE stands only where the source itself has the number as clear, and the answer is stored."""
    litigators, registry = verdicts(graph, "ccc"), verdicts(graph, "dnc")
    for row in published(graph, key):
        if row["in_litigator_list"] is False:
            assert phones_of(row)
            for phone in phones_of(row):
                assert litigators[phone] == ("clear", None)
                assert not graph.simulators.ccc.is_litigator(phone)
        for slot in (1, 2, 3):
            if row[f"phone_{slot}_in_dnc"] is False:
                assert registry[row[f"phone_{slot}"]] == ("clear", None)
    callable_now = graph.callable_phones()
    assert not any(graph.simulators.ccc.is_litigator(phone) for phone in callable_now)
    assert all(litigators.get(phone) == registry.get(phone) == ("clear", None) for phone in callable_now)
