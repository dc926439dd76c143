"""Settings, stamps, caps and files of a deployment that are wrong: a run refuses by name before it costs anything."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from leadscrub_pipeline.warehouse.schema import DATABASE, MASTER
from leadscrub_pipeline_tests.bad_input import (
    deployment,
    fails,
    private_people,
    published,
    settled_again,
    state,
)
from leadscrub_pipeline_tests.graph import Graph

REAL_CCC = "https://dataapi.example.com/v1.5/Scrub/litigator"
HOLD_THE_FILE = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A demo deployment whose script ``leads`` is published."""
    with deployment(tmp_path_factory.mktemp("deployment")) as graph:
        graph.write_source("LEADS_DB.PUBLIC.LEADS", private_people(5, start=0))
        assert graph.scrub("leads").success
        yield graph


@pytest.fixture
def graph(whole: Graph, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with settled_again(whole, monkeypatch) as graph:
        yield graph


def requests(graph: Graph) -> tuple[int, int, int]:
    """What came to the simulated vendors so far."""
    simulators = graph.simulators
    return simulators.idicore.sign_ins, simulators.idicore.searches, simulators.ccc.scrubs


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"LEADSCRUB_KIND": "live"}, ["stamped demo", "live", "LEADSCRUB_HOME"]),
        ({"CCC_API_URL": REAL_CCC}, ["IDICORE_AUTH_URL, IDICORE_SEARCH_URL", "never mixed"]),
        ({"IDICORE_SEARCH_URL": "https://api.example.com/search"}, ["never mixed"]),
        ({"LEADSCRUB_KIND": "demo", **dict.fromkeys(
            ("IDICORE_AUTH_URL", "IDICORE_SEARCH_URL", "CCC_API_URL"), "https://example.com/x"
        )}, ["LEADSCRUB_KIND is demo", "real ones"]),
        ({"IDICORE_GLBA": ""}, ["permissible purpose", "LEADSCRUB_PURPOSES"]),
        ({"IDICORE_TIMEOUT": "soon"}, ["IDICORE_TIMEOUT"]),
        ({"LEADSCRUB_PURPOSES": "{not json"}, ["A setting cannot be understood"]),
    ],
    ids=["live_on_demo", "real_ccc", "real_idicore", "demo_pays", "no_purpose", "no_number", "no_json"],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused_before_the_first_request(
    graph: Graph, settings: dict[str, str], words: list[str]
) -> None:
    before, asked = state(graph), requests(graph)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"LEADSCRUB_ANSWER_KEY": _KEY, **settings}.items():
            patch.setenv(name, value)
        fails(graph, "leads", "raw_leads", *words)
    assert requests(graph) == asked
    assert state(graph) == before


_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def test_a_live_deployment_without_an_answer_key_is_refused_and_starts_with_one(graph: Graph, tmp_path: Path) -> None:
    asked = requests(graph)
    graph.configure(LEADSCRUB_KIND="live", LEADSCRUB_HOME=tmp_path)
    fails(graph, "leads", "raw_leads", "LEADSCRUB_ANSWER_KEY")
    assert requests(graph) == asked
    graph.configure(LEADSCRUB_ANSWER_KEY=_KEY)
    assert graph.scrub("leads", assets=["raw_leads"]).success


def test_a_purpose_that_is_not_configured_is_refused_with_those_that_are(graph: Graph) -> None:
    graph.configure(LEADSCRUB_PURPOSES='{"marketing": {"glba": "otheruse", "dppa": "none"}}')
    graph.write_script("purpose", purpose="curiosity")
    asked = requests(graph)
    fails(graph, "purpose", "raw_leads", "'curiosity'", "marketing", "LEADSCRUB_PURPOSES")
    assert requests(graph) == asked


def by_hand(graph: Graph, statement: str) -> None:
    """What an operator does to the warehouse with DuckDB's own client."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH '{graph.home / 'warehouse.duckdb'}' AS {DATABASE}")
        connection.execute(statement)


def test_a_table_that_was_changed_by_hand_is_refused_by_name_and_put_right_by_the_line_given(graph: Graph) -> None:
    by_hand(graph, f"ALTER TABLE {MASTER.full_name} ALTER COLUMN zip_code TYPE INTEGER")
    fails(graph, "leads", "raw_leads", MASTER.full_name, "zip_code has type INTEGER", "VARCHAR")
    by_hand(graph, f"ALTER TABLE {MASTER.full_name} ALTER COLUMN zip_code TYPE VARCHAR")
    by_hand(graph, f"ALTER TABLE {MASTER.full_name} DROP COLUMN email_3")
    error = fails(graph, "leads", "raw_leads", MASTER.full_name, "email_3 is missing").error
    by_hand(graph, error[error.index("ALTER TABLE") :].rstrip("."))
    run = graph.scrub("leads", already_processed="include")
    assert run.counts["published"] == 5, run.error


def test_a_warehouse_file_that_another_process_holds_is_waited_for_and_then_named(graph: Graph) -> None:
    graph.configure(LEADSCRUB_LOCK_WAIT="0.2")
    asked = requests(graph)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_FILE, str(graph.home / "warehouse.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        fails(graph, "leads", "raw_leads", "held by another process", "LEADSCRUB_LOCK_WAIT")
        assert holder.stdin is not None
        holder.stdin.close()
    assert requests(graph) == asked


def test_a_warehouse_file_that_is_no_database_is_named(graph: Graph, tmp_path: Path) -> None:
    graph.configure(LEADSCRUB_HOME=tmp_path)
    (tmp_path / "warehouse.duckdb").write_bytes(os.urandom(50_000))
    fails(graph, "leads", "raw_leads", "warehouse.duckdb", "cannot be opened")


@pytest.mark.parametrize("cap", ["run", "day"])
def test_a_cap_ends_a_run_green_with_a_warning_and_the_rest_comes_later(graph: Graph, cap: str) -> None:
    key = f"cap_{cap}"
    graph.write_source(f"LEADS_DB.PUBLIC.{key}", private_people(12, start=100 if cap == "run" else 200))
    graph.write_script(key, f"SELECT * FROM LEADS_DB.PUBLIC.{key}")
    with graph.ledger() as ledger:
        spent = ledger.summary(since=datetime.now(UTC).replace(hour=0, minute=0, second=0)).cost
    settings: dict[str, object] = (
        {"IDICORE_MAX_LOOKUPS_PER_RUN": 5}
        if cap == "run"
        else {"IDICORE_DAILY_BUDGET": spent + 5 * graph.simulators.idicore.price}
    )
    billed = graph.billed
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, str(value))
        run = graph.scrub(key)
    assert run.success, run.error
    assert (run.counts["published"], run.counts["deferred"], graph.billed - billed) == (5, 7, 5)
    reason = "run_cap" if cap == "run" else "daily_budget"
    assert run.metadata["enriched_contacts"]["deferred_or_held_by_reason"] == {reason: 7}
    assert "warning: Not published now, and coming again by themselves" in run.told
    run = graph.scrub(key)
    assert (run.counts["published"], run.counts["already_processed"], graph.billed - billed) == (7, 5, 12)
    assert len(published(graph, key)) == 12


def test_a_budget_without_a_price_is_refused(graph: Graph) -> None:
    graph.configure(IDICORE_DAILY_BUDGET="5", IDICORE_PRICE_PER_LOOKUP="")
    fails(graph, "leads", "enriched_contacts", "IDICORE_DAILY_BUDGET", "IDICORE_PRICE_PER_LOOKUP")
