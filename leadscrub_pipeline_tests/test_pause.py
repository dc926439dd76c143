"""Pausing: no new lookup is granted to anybody, at once, and everything else goes on."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from leadscrub_pipeline.ledger import Busy, Cached, Capped, Claimed, Held, Ledger
from leadscrub_pipeline.ledger.controls import Pause
from leadscrub_pipeline_tests.children import Child, Order, environment, scrub
from leadscrub_pipeline_tests.cli_deployment import deployment_in
from leadscrub_pipeline_tests.command_line import demo_settings, leadscrub
from leadscrub_pipeline_tests.graph import Graph, graph_in, people
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    BOTH,
    HIT,
    NOON,
    TERMS,
    UNKNOWN,
    claim_ids,
    clock,
    keys,
    ledger,
    look_up,
    new_postgres_database,
    open_ledger,
    other_run,
    send,
    settle,
    where_one,
)

JANE, JOHN = keys(2)
PAUSED = Capped("paused")


# --- the claim --------------------------------------------------------------------------------


@BOTH
def test_a_paused_ledger_grants_nothing_new_to_anybody_and_serves_what_is_paid(open_ledger):
    ledger, other = open_ledger(), open_ledger()
    look_up(ledger, [JANE], HIT)
    other.desk.pause("audit")
    for one in (ledger, other):
        standings = one.claim([JANE, JOHN], other_run())
        assert isinstance(standings[JANE], Cached)
        assert standings[JOHN] == PAUSED
    assert ledger.summary().lookups == 1
    assert ledger.desk.resume() is True
    assert isinstance(other.claim([JOHN], other_run())[JOHN], Claimed)


def test_what_is_in_flight_when_the_pause_comes_is_sent_and_settled(ledger):
    (lookup_id,) = claim_ids(ledger, [JANE])
    ledger.desk.pause()
    assert isinstance(ledger.claim([JANE], other_run())[JANE], Busy)
    send(ledger, lookup_id)
    settle(ledger, HIT, lookup_id)
    assert isinstance(ledger.claim([JANE], other_run())[JANE], Cached)


def test_a_repeat_of_an_unknown_outcome_waits_for_the_end_of_the_pause_too(ledger):
    look_up(ledger, [JANE], UNKNOWN)
    ledger.desk.pause()
    assert ledger.claim([JANE], TERMS)[JANE] == PAUSED
    assert ledger.claim([JANE], replace(TERMS, unknown_policy="hold"))[JANE] == Held("unknown_outcome")
    ledger.desk.resume()
    assert isinstance(ledger.claim([JANE], TERMS)[JANE], Claimed)


def test_a_pause_says_more_than_a_cap_that_is_reached_too(ledger):
    terms = replace(TERMS, max_lookups_per_run=0, daily_budget=Decimal(0))
    ledger.desk.pause()
    assert ledger.claim([JANE], terms)[JANE] == PAUSED
    ledger.desk.resume()
    assert ledger.claim([JANE], terms)[JANE] == Capped("run_cap")


def test_a_pause_tells_since_when_and_why_and_lasts_when_all_processes_end(open_ledger, where, clock):
    with open_ledger() as first:
        assert first.desk.paused() is None
        assert first.desk.pause("invoice looks wrong") == Pause(NOON, "invoice looks wrong")
    clock.turn(days=2)
    with Ledger.open_existing(where, clock=clock) as reading:
        assert reading.desk.paused() == Pause(NOON, "invoice looks wrong")


def test_pausing_again_renews_reason_and_time_and_resuming_twice_says_so(ledger, clock):
    ledger.desk.pause("first")
    clock.turn(hours=1)
    ledger.desk.pause()
    assert ledger.desk.paused() == Pause(clock.now, None)
    assert (ledger.desk.resume(), ledger.desk.resume()) == (True, False)
    assert ledger.desk.paused() is None


# --- steps ------------------------------------------------------------------------------------


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch) as made:
        yield made


def reasons(graph: Graph) -> dict[str | None, int]:
    return dict(
        graph.rows(
            "SELECT CASE WHEN outcome = 'deferred' THEN reason END, COUNT(*) "
            "FROM PROCESSED_DATA_DB.LEADSCRUB.ENRICHED_CONTACTS GROUP BY ALL"
        )
    )


def order(run_id: str, assets: tuple[str, ...] = ("raw_leads", "enriched_contacts")) -> Order:
    return Order("leads", run_id, environment(), assets=assets)


def test_leads_of_a_paused_run_are_deferred_and_come_again_and_nobody_is_paid_for(graph: Graph) -> None:
    assert leadscrub("pause").code == 0
    report = scrub(Order("leads", "run-1", environment()))
    assert report.ok, report.failure or report.defect
    assert (report.counts["published"], report.counts["deferred"], graph.billed) == (0, 10, 0)
    assert reasons(graph) == {"paused": 10}
    assert leadscrub("resume").code == 0
    report = scrub(Order("leads", "run-2", environment()))
    assert (report.counts["published"], report.counts["deferred"], graph.billed) == (10, 0, 10)


def test_a_running_step_notices_a_pause_at_its_next_claim_and_settles_what_is_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with graph_in(tmp_path, monkeypatch, latency=0.05) as graph:
        graph.write_source("LEADS_DB.PUBLIC.LEADS", people(400))
        graph.configure(ETL_BATCH_SIZE=10, IDICORE_MIN_WORKERS=2, IDICORE_MAX_WORKERS=2)
        child = Child(order("run-1"))
        deadline = time.monotonic() + 60
        while graph.billed < 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert leadscrub("pause", "--reason", "enough").code == 0
        at_pause = graph.billed
        report = child.wait()
        assert report.ok, report.failure or report.defect
        found = reasons(graph)
        deferred = found["paused"]
        assert found == {None: graph.billed, "paused": deferred}
        assert deferred + graph.billed == 400
        # What was claimed before the pause is at most what waits in the step's queue, some batches.
        assert graph.billed - at_pause < 100
        with graph.ledger() as ledger:
            counts = ledger.lookups_of_run("run-1")
        assert set(counts.states) <= {"hit", "miss"}
        assert counts["hit"] + counts["miss"] == graph.billed


# --- the command line -------------------------------------------------------------------------


def test_pause_and_resume_say_what_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo_settings(monkeypatch, tmp_path)
    said = leadscrub("pause", "--reason", "month's end")
    assert (said.code, said.out) == (0, "")
    assert "Lookups are paused since" in said.err
    assert "(month's end)" in said.err
    shown = leadscrub("pause", "--json").json
    assert shown["paused"]["reason"] is None
    assert leadscrub("ledger", "summary", "--json").json["paused"] == shown["paused"]
    assert "leadscrub resume" in leadscrub("ledger", "summary").err
    assert leadscrub("resume", "--json").json == {"paused": None, "was_paused": True}
    assert leadscrub("resume", "--json").json == {"paused": None, "was_paused": False}
    assert "were not paused" in leadscrub("resume").err
    assert leadscrub("ledger", "summary", "--json").json["paused"] is None
    assert "paused" not in leadscrub("ledger", "summary").err


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines", "\x1b[31mred"])
def test_a_reason_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    demo_settings(monkeypatch, tmp_path)
    assert leadscrub("pause", "--reason", reason).code == 2
    assert leadscrub("pause", "--reason", "x" * 200).code == 0


def test_doctor_finds_a_pause(tmp_path: Path) -> None:
    with deployment_in(tmp_path, leads=3) as deployment:
        deployment.command("pause", "--reason", "audit")
        ended = deployment.command("doctor", "--json")
        assert ended.code == 1
        (finding,) = (finding for finding in ended.json if finding["state"] != "ok")
        assert finding["check"] == "ledger"
        assert "(audit)" in finding["what"]
        deployment.command("resume")
        assert deployment.command("doctor").code == 0


def test_run_tells_that_it_will_pay_for_nobody(tmp_path: Path) -> None:
    with deployment_in(tmp_path, leads=3) as deployment:
        deployment.command("pause", "--reason", "audit")
        ended = deployment.command("run", "leads", "--json")
        assert "Lookups are paused" in ended.err
        assert (ended.code, ended.objects[0]["deferred"], deployment.billed) == (0, 3, 0)
