"""A rescrub on the Snowflake backend, over HTTP: flags both ways, and statements that do not grow with the rows."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from leadscrub_pipeline_tests.graph import Graph, people
from leadscrub_pipeline_tests.snowflake_server import Account
from leadscrub_pipeline_tests.test_rescrub import Ended, clear_row, is_sound, provenance, row_of, run_job
from leadscrub_pipeline_tests.test_snowflake_pipeline import DDL, bring, leftovers, snowflake_graph

STATEMENTS = 42

pytestmark = pytest.mark.long


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Account) -> Iterator[Graph]:
    with snowflake_graph(tmp_path / "snowflake", monkeypatch, account) as made:
        yield made


def rescrubbed(graph: Graph, account: Account, listed: Sequence[str]) -> tuple[Ended, list[dict[str, Any]]]:
    """One rescrub after the list became another one, and its statements."""
    graph.write_registry(listed=listed)
    account.control(forget=True)
    ended = run_job(graph)
    statements = account.statements()
    assert ended.success, ended.error
    assert {json.loads(one["tag"])["run"] for one in statements} == {ended.run_id}
    return ended, statements


def test_a_rescrub_flips_flags_both_ways_and_its_statements_do_not_grow_with_the_rows(
    graph: Graph, account: Account
) -> None:
    bring(graph, people(30))
    assert graph.scrub("leads").success
    row, phones = clear_row(graph), sorted(graph.callable_phones())
    ended, few = rescrubbed(graph, account, [row["phone_1"]])
    assert (ended.numbers["dnc_became_true"], ended.numbers["rows_updated"]) == (1, 1)
    after = row_of(graph, row["record_id"])
    assert after["phone_1_in_dnc"] is True
    assert after["processed_at"] == row["processed_at"]
    assert provenance(after)["rescrubbed"]["run_id"] == ended.run_id
    assert row["phone_1"] not in graph.callable_phones()
    others = [phone for phone in phones if phone != row["phone_1"]]
    ended, many = rescrubbed(graph, account, others)
    assert (ended.numbers["dnc_false_to_true"], ended.numbers["dnc_true_to_false"]) == (len(others), 1)
    assert graph.callable_phones() == {row["phone_1"]}
    assert len(many) == len(few) <= STATEMENTS
    open_sessions: set[int] = set()
    for one in many:
        if one["sql"] == "BEGIN TRANSACTION":
            open_sessions.add(one["session"])
        elif one["sql"] in ("COMMIT", "ROLLBACK"):
            open_sessions.remove(one["session"])
        else:
            assert one["session"] not in open_sessions or not DDL.match(one["sql"]), one["sql"][:80]
    assert not leftovers(graph)
    assert is_sound(graph)
