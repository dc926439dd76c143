"""Runs that ``leadscrub dev`` launches from its queue: terminated in the UI, and killed and retried by the daemon."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from leadscrub_pipeline_tests.by_itself import ledger_rows
from leadscrub_pipeline_tests.cli_deployment import LEADS, Deployment, deployment_in
from leadscrub_pipeline_tests.dagster_ui import launch, served, terminate, wait_until
from leadscrub_pipeline_tests.sums import check_sums

pytestmark = pytest.mark.long


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployment_in(tmp_path, latency=0.5) as made:
        made.environment |= {"IDICORE_MAX_WORKERS": "5", "IDICORE_MIN_WORKERS": "5"}
        yield made


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


def states(deployment: Deployment) -> dict[str, int]:
    return dict(ledger_rows(deployment, "SELECT state, COUNT(*) FROM ledger_lookups GROUP BY state"))


def test_a_terminate_in_the_ui_settles_what_is_on_its_way_and_the_run_is_canceled(deployment: Deployment) -> None:
    with served(deployment) as url:
        run_id = launch(url)
        wait_until(lambda: deployment.billed >= 10)
        assert terminate(url, run_id) == "TerminateRunSuccess"
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
