"""Dagster and the ledger on one PostgreSQL: migrate, daemon, webserver, queued runs, a backfill, a retry, an outage."""

import os
import signal
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import NullPool, create_engine

from leadscrub_pipeline.cli.postgres import PostgresServer
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.pools import POOL_LIMITS
from leadscrub_pipeline_tests.cli_deployment import Deployment, deployment_in
from leadscrub_pipeline_tests.dagster_ui import ask, launch, launch_backfill, served, shorten_waits, wait_until
from leadscrub_pipeline_tests.own_people import scripts_of_own_people
from leadscrub_pipeline_tests.postgres_server import KEY, crash, postgres_server, settings_on
from leadscrub_pipeline_tests.test_dev_runs import numbers

BACKFILLED = ("first", "second", "third")
SCRIPTS = (*BACKFILLED, "single")
LEADS = 12
"""Of each script, and nobody twice."""
WORKERS = 3
IN_FLIGHT = 4
"""Requests that the ledger may call sent: on the wire, or with an answer that is being stored."""

AWAY_SECONDS = 25.0
"""Longer than Dagster waits for its storage, shorter than the ledger does."""


@dataclass
class Hosted:
    """A deployment whose runs, events, schedules and ledger are on a server."""

    deployment: Deployment
    server: PostgresServer
    instance: dg.DagsterInstance

    def runs(self, partition: str) -> list[dg.DagsterRun]:
        """The oldest first."""
        return list(reversed(self.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": partition}))))

    def ended_well(self, partition: str) -> bool:
        runs = self.runs(partition)
        assert not any(run.is_failure_or_canceled for run in runs[1:]), runs
        return bool(runs) and runs[-1].is_success

    def backfill_status(self, backfill_id: str) -> str | None:
        backfill = self.instance.get_backfill(backfill_id)
        return None if backfill is None else str(backfill.status.value)

    def rows(self, sql: str, database: str = "ledger") -> list[tuple[Any, ...]]:
        engine = create_engine(self.server.url(database), poolclass=NullPool)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def check_bill(self, *, again: int) -> None:
        """Every billed request has its row, the sums agree, and at most so many were paid for again."""
        bill = self.deployment.simulators.idicore.bill
        states = dict(self.rows("SELECT lookup_id, state FROM ledger_lookups"))
        assert set(bill.by_reference()) <= set(states)
        assert set(states.values()) <= {"hit", "miss", "failed", "unknown"}
        with Ledger.open(self.server.url("ledger"), kind="demo", answer_keys=[KEY]) as ledger:
            summary = ledger.summary()
        assert summary.cost <= bill.total() <= summary.cost + summary.unknown_cost
        assert sum(bill.by_person().values()) - len(bill.by_person()) <= again


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosted]:
    with postgres_server() as server, deployment_in(tmp_path, latency=0.3, leads=LEADS * len(SCRIPTS)) as made:
        made.environment |= settings_on(server)
        made.environment |= {"IDICORE_MAX_WORKERS": str(WORKERS), "IDICORE_MIN_WORKERS": str(WORKERS)}
        scripts_of_own_people(made, SCRIPTS, leads=LEADS)
        shorten_waits(made, "deploy/dagster.yaml")
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", server.url("dagster"))
        with made.instance() as instance:
            yield Hosted(made, server, instance)


def answers(url: str) -> bool:
    """The webserver keeps a connection a storage, and finds out by a request that each of them broke."""
    try:
        ask(url, "{ runsOrError(limit: 1) { ... on Runs { results { id } } } }")
        ask(url, "{ assetsOrError { ... on AssetConnection { nodes { id } } } }")
    except urllib.error.HTTPError:
        return False
    return True


def kill_the_run_of(hosted: Hosted, partition: str) -> int:
    """SIGKILL to the process of the partition's run while it asks; how many requests were on their way."""
    asking = (
        "SELECT o.pid FROM ledger_owners o JOIN ledger_lookups l ON l.owner = o.owner "
        f"WHERE l.partition_key = '{partition}' AND l.state = 'sent'"
    )
    pids: list[tuple[Any, ...]] = []

    def is_asking() -> bool:
        pids[:] = hosted.rows(asking) if hosted.rows("SELECT to_regclass('ledger_lookups')") != [(None,)] else []
        return bool(pids)

    wait_until(is_asking)
    os.kill(pids[0][0], signal.SIGKILL)
    ((in_flight,),) = hosted.rows(
        f"SELECT count(*) FROM ledger_lookups WHERE partition_key = '{partition}' AND state = 'sent'"
    )
    return int(in_flight)


@pytest.mark.timeout(900)
def test_a_queued_run_whose_process_is_killed_is_retried_and_nothing_is_kept_in_files(hosted: Hosted) -> None:
    with served(hosted.deployment) as url:
        run_id = launch(url, "single")
        in_flight = kill_the_run_of(hosted, "single")
        wait_until(lambda: hosted.ended_well("single"))
        assert {pool.name: pool.limit for pool in hosted.instance.event_log_storage.get_pool_limits()} == POOL_LIMITS
        assert hosted.server.password_file.read_text() not in hosted.instance.info_str()
    killed, retry = hosted.runs("single")
    assert (killed.run_id, killed.status, retry.parent_run_id) == (run_id, dg.DagsterRunStatus.FAILURE, run_id)
    assert in_flight <= IN_FLIGHT
    hosted.check_bill(again=in_flight)
    home = hosted.deployment.home
    assert not list(home.rglob("*.db*")) + list(home.glob("ledger.sqlite*")), "something is kept in a file after all"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_backfill_over_three_scripts_ends_well(hosted: Hosted) -> None:
    with served(hosted.deployment) as url:
        backfill_id = launch_backfill(url, *BACKFILLED)
        wait_until(lambda: hosted.backfill_status(backfill_id) == "COMPLETED_SUCCESS", seconds=600)
    for key in BACKFILLED:
        (run,) = hosted.runs(key)
        assert (run.status, run.tags["dagster/backfill"]) == (dg.DagsterRunStatus.SUCCESS, backfill_id)
    hosted.check_bill(again=0)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moment", ["while it asks", "while Dagster writes"])
def test_a_server_that_is_killed_in_the_middle_of_a_run_and_started_again_loses_nothing_and_nobody_is_paid_for_twice(
    hosted: Hosted, moment: str
) -> None:
    with served(hosted.deployment) as url:
        launch(url, "single")
        if moment == "while it asks":
            wait_until(lambda: hosted.deployment.billed >= LEADS // 3)
        else:
            wait_until(lambda: hosted.runs("single")[0].status is dg.DagsterRunStatus.STARTED)
        crash(hosted.server)
        time.sleep(AWAY_SECONDS)
        hosted.server.start()
        # A run whose process gave up is found dead by the daemon, and retried by it.
        wait_until(lambda: hosted.ended_well("single"), seconds=600)
        wait_until(lambda: answers(url))
        billed = hosted.deployment.billed
        again = launch(url, "single")
        wait_until(lambda: hosted.runs("single")[-1].is_finished)
    assert len(hosted.runs("single")) == (2 if moment == "while it asks" else 3)
    assert numbers(hosted.instance, again)["already_processed"] == LEADS
    assert hosted.deployment.billed == billed
    hosted.check_bill(again=0)
