"""Runs that ``leadscrub dev`` launches from its queue: terminated in the UI, and killed and retried by the daemon."""

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from leadscrub_pipeline_tests.cli_deployment import LEADS, Deployment, deployment_in
from leadscrub_pipeline_tests.sums import check_sums
from leadscrub_pipeline_tests.test_cli_demo import wait_for_ui

_LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
_TERMINATE = """
mutation ($runId: String!) {
  terminateRun(runId: $runId, terminatePolicy: SAFE_TERMINATE) { __typename }
}
"""

pytestmark = pytest.mark.long


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployment_in(tmp_path, latency=0.5) as made:
        made.environment |= {"IDICORE_MAX_WORKERS": "5", "IDICORE_MIN_WORKERS": "5"}
        yield made


@contextmanager
def served(deployment: Deployment) -> Iterator[str]:
    """The UI's address while ``leadscrub dev`` serves it."""
    with deployment.start("dev", "--live") as process:
        try:
            url = wait_for_ui(process)
            # What nobody reads fills the pipe, and then the daemon waits for ever to tell of an error.
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                threading.Thread(target=pipe.read, daemon=True).start()
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()


def ask(url: str, query: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)
    assert "errors" not in found, found
    return dict(found["data"])


def launch(url: str, partition: str = "leads") -> str:
    answer = ask(
        url,
        _LAUNCH,
        params={
            "selector": {
                "repositoryLocationName": "leadscrub_pipeline",
                "repositoryName": "__repository__",
                "jobName": "scrub_job",
            },
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
        },
    )["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def wait_until(what: Callable[[], bool], *, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def runs(deployment: Deployment) -> list[dg.DagsterRun]:
    """The oldest first."""
    with deployment.instance() as instance:
        return list(reversed(instance.get_runs()))


def numbers(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """What the assets of a run reported."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    values: dict[str, Any] = {}
    for record in records:
        if (materialization := record.event_log_entry.asset_materialization) is not None:
            values |= {name: value.value for name, value in materialization.metadata.items()}
    return values


def ledger_rows(deployment: Deployment, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(deployment.home / "ledger.sqlite", timeout=30)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def states(deployment: Deployment) -> dict[str, int]:
    return dict(ledger_rows(deployment, "SELECT state, COUNT(*) FROM ledger_lookups GROUP BY state"))


def test_a_terminate_in_the_ui_settles_what_is_on_its_way_and_the_run_is_canceled(deployment: Deployment) -> None:
    with served(deployment) as url:
        run_id = launch(url)
        wait_until(lambda: deployment.billed >= 10)
        answer = ask(url, _TERMINATE, runId=run_id)
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
        wait_until(lambda: runs(deployment)[0].is_finished)
        assert runs(deployment)[0].status is dg.DagsterRunStatus.CANCELED
        bill = deployment.simulators.idicore.bill
        assert deployment.billed < LEADS
        assert set(states(deployment)) <= {"hit", "miss", "failed"}
        with deployment.ledger() as ledger:
            assert ledger.summary().cost == bill.total()
        assert ledger_rows(deployment, "SELECT * FROM ledger_partition_leases") == []
        again = launch(url)
        wait_until(lambda: runs(deployment)[-1].is_finished)
        assert runs(deployment)[-1].run_id == again
        assert runs(deployment)[-1].is_success
    assert bill.total() == LEADS * bill.entries()[0].cost
    assert max(bill.by_person().values()) == 1


def test_a_run_whose_process_is_killed_is_retried_by_the_daemon_and_pays_only_for_what_was_on_its_way_again(
    deployment: Deployment,
) -> None:
    with served(deployment) as url:
        launch(url)
        wait_until(lambda: deployment.billed >= 10)
        ((pid,),) = ledger_rows(deployment, "SELECT DISTINCT pid FROM ledger_owners")
        os.kill(pid, signal.SIGKILL)
        in_flight = states(deployment).get("sent", 0)
        assert in_flight > 0
        wait_until(lambda: len(runs(deployment)) == 2 and runs(deployment)[-1].is_finished, seconds=600)
        killed, retry = runs(deployment)
        assert (killed.status, retry.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS)
        assert retry.parent_run_id == killed.run_id
    # The retry begins where the first run was killed: raw_leads had ended.
    with deployment.instance() as instance:
        reported = numbers(instance, killed.run_id) | numbers(instance, retry.run_id)
    check_sums(reported)
    assert reported["published"] == LEADS
    bill = deployment.simulators.idicore.bill
    assert LEADS <= deployment.billed <= LEADS + in_flight
    assert max(bill.by_person().values()) <= 2
    with deployment.ledger() as ledger:
        summary = ledger.summary()
    assert summary.cost <= bill.total() <= summary.cost + summary.unknown_cost
    assert summary.unknown_cost <= in_flight * bill.entries()[0].cost
