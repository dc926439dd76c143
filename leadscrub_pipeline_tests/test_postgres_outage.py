"""The ledger's PostgreSQL server is killed in the middle of the work: the vendor's bill says what that cost."""

# ruff: noqa: F811 - a fixture is imported by name and then asked for by it

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from leadscrub_pipeline.cli.postgres import PostgresServer
from leadscrub_pipeline.deployment import open_ledger
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.ledger import Cached, Claimed, Ledger
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline_tests.dagster_ui import wait_until
from leadscrub_pipeline_tests.graph import Graph, graph_in, people
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - a fixture
    ANSWER,
    HIT,
    TERMS,
    Clock,
    claim_ids,
    clock,
    keys,
    look_up,
    other_run,
    send,
    settle,
)
from leadscrub_pipeline_tests.postgres_server import KEY, crash, postgres_server, settings_on

LONG_AWAY = 4.0
"""Longer than the writer's own tries."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def opened(server: PostgresServer, database: str, **changes: Any) -> Ledger:
    return Ledger.open(server.url(database), kind="demo", answer_keys=[KEY], **changes)


@contextmanager
def outage(server: PostgresServer, *, when: Callable[[], bool] = lambda: True, seconds: float) -> Iterator[None]:
    """The server is killed when something has happened, and started again so many seconds later.

    With nothing to wait for it is down when the block begins.
    """
    down = threading.Event()

    def strike() -> None:
        wait_until(when, seconds=120)
        crash(server)
        down.set()
        time.sleep(seconds)
        server.start()

    striking = threading.Thread(target=strike)
    striking.start()
    if when():
        assert down.wait(30)
    try:
        yield
    finally:
        striking.join()
    assert down.is_set()


def test_an_answer_that_arrives_while_the_server_is_away_is_stored_when_it_is_back(server: PostgresServer) -> None:
    server.make_databases("away")
    with opened(server, "away") as ledger:
        first, second = claim_ids(ledger, keys(2))
        send(ledger, first, second)
        with outage(server, seconds=LONG_AWAY):
            settle(ledger, HIT, first)
        assert ledger.lookups_of_run("run-1").states == {"hit": 1, "sent": 1}
        standing = ledger.claim(keys(1), other_run())[keys(1)[0]]
        assert isinstance(standing, Cached)
        assert standing.answer == ANSWER
        settle(ledger, HIT, second)


def test_claims_and_sums_wait_for_a_server_that_is_being_restarted(server: PostgresServer) -> None:
    server.make_databases("restarted")
    with opened(server, "restarted") as ledger:
        look_up(ledger, keys(3), HIT)
        with outage(server, seconds=1.0):
            assert ledger.lookups_of_run("run-1").states == {"hit": 3}
        with outage(server, seconds=1.0):
            assert all(isinstance(one, Claimed) for one in ledger.claim(keys(3, start=3), TERMS).values())


def test_a_server_that_stays_away_is_given_up_by_name_and_what_was_sent_becomes_unknown(
    server: PostgresServer, clock: Clock
) -> None:
    server.make_databases("gone")
    ledger = opened(server, "gone")
    (lookup_id,) = claim_ids(ledger, keys(1))
    send(ledger, lookup_id)
    ledger._database._away_seconds = 0.5
    crash(server)
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"could not be written \(OperationalError\)"):
        settle(ledger, HIT, lookup_id)
    with pytest.raises(UnavailableError, match="claiming lookups"):
        ledger.claim(keys(1, start=1), TERMS)
    ledger.close()
    assert time.monotonic() - started < 20, "whoever closes it does not wait once more"
    server.start()
    clock.now = utc_now() + timedelta(minutes=2)
    with opened(server, "gone", clock=clock) as other:
        assert other.sweep().unknown == 1


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: PostgresServer) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch, latency=0.2) as made:
        made.configure(**settings_on(server), IDICORE_MIN_WORKERS=4, IDICORE_MAX_WORKERS=4, ETL_BATCH_SIZE=5)
        made.write_source("LEADS_DB.PUBLIC.LEADS", people(40))
        yield made


def check_bill(graph: Graph) -> Counter[str]:
    """Every billed request has its row, and the sums agree; how often each person was billed."""
    bill = graph.simulators.idicore.bill
    with open_ledger(load_settings()) as ledger:
        summary = ledger.summary()
        with ledger._database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT lookup_id, state FROM ledger_lookups").all()
    states = dict(map(tuple, rows))
    assert set(bill.by_reference()) <= set(states)
    assert set(states.values()) <= {"hit", "miss", "failed", "unknown"}
    assert summary.cost <= bill.total() <= summary.cost + summary.unknown_cost
    return bill.by_person()


def test_a_run_goes_on_when_the_server_is_killed_and_comes_back_and_nobody_is_paid_for_twice(
    graph: Graph, server: PostgresServer
) -> None:
    with outage(server, when=lambda: graph.billed >= 10, seconds=LONG_AWAY):
        run = graph.scrub("leads")
    assert run.success, run.error
    assert run.counts["published"] == 40
    assert run.counts["lookups_unknown"] == 0
    assert max(check_bill(graph).values()) == 1
    assert graph.billed == 40
    assert graph.scrub("leads").counts["already_processed"] == 40
    assert graph.billed == 40


@pytest.mark.long
@pytest.mark.timeout(900)
def test_outages_at_any_moment_of_many_runs_lose_no_answer_and_a_run_that_failed_is_just_run_again(
    graph: Graph, server: PostgresServer, pytestconfig: pytest.Config
) -> None:
    chance = random.Random(pytestconfig.getoption("history_seed"))
    failed = 0
    for number in range(12):
        graph.write_source("LEADS_DB.PUBLIC.LEADS", people(15 * (number + 1)))
        moment, before = chance.randrange(15), graph.billed
        with outage(server, when=lambda m=moment, b=before: graph.billed >= b + m, seconds=chance.uniform(0.0, 5.0)):
            time.sleep(chance.uniform(0.0, 0.3))
            run = graph.scrub("leads")
        if not run.success:
            failed += 1
            assert "ledger" in run.error, run.error
            assert graph.scrub("leads").success
        assert max(check_bill(graph).values()) == 1
        (published,) = graph.rows("SELECT count(*) FROM PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB")
        assert published == (15 * (number + 1),)
    assert failed < 12, "most of them go on"
