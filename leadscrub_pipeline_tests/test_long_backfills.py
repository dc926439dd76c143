"""Backfills over many scripts, and what ends a run before its time: everything ends right, and no place stays taken."""

import csv
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import pytest

from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.pools import POOL_LIMITS
from leadscrub_pipeline.simulators.contacts import Match
from leadscrub_pipeline_tests.by_itself import Served, ledger_rows
from leadscrub_pipeline_tests.cli_deployment import deployment_in, running
from leadscrub_pipeline_tests.dagster_ui import (
    launch,
    launch_backfill,
    served,
    shorten_waits,
    terminate,
    wait_until,
)
from leadscrub_pipeline_tests.own_people import scripts_of_own_people
from leadscrub_pipeline_tests.postgres_server import postgres_server, settings_on

SCRIPTS = 30
LEADS = 3

pytestmark = pytest.mark.long


@contextmanager
def served_on(
    storage: str, folder: Path, patch: pytest.MonkeyPatch, *, keys: list[str], leads: int, latency: float
) -> Iterator[Served]:
    with deployment_in(folder, latency=latency, leads=len(keys) * leads) as made:
        scripts_of_own_people(made, keys, leads=leads)
        made.environment |= {"IDICORE_MAX_WORKERS": "2", "IDICORE_MIN_WORKERS": "2"}
        if storage == "SQLite":
            shorten_waits(made)
            assert made.command("setup").code == 0
            with made.instance() as instance:
                yield Served(made, folder / "settings.env", instance)
            return
        with postgres_server() as server:
            made.environment |= settings_on(server)
            shorten_waits(made, "deploy/dagster.yaml")
            patch.setenv("DAGSTER_POSTGRES_URL", server.url("dagster"))
            assert made.command("setup").code == 0
            with made.instance() as instance:
                yield Served(made, folder / "settings.env", instance)


def slots_taken(instance: dg.DagsterInstance) -> dict[str, int]:
    """What Dagster counts as being in each pool."""
    storage = instance.event_log_storage
    return {name: storage.get_concurrency_info(name).active_slot_count for name in POOL_LIMITS}


def people_charged_for(here: Served) -> int:
    """All of the deployment's table but those whose search is refused without a charge."""
    with (here.deployment.folder / "sources/LEADS_DB/PUBLIC/LEADS.csv").open(encoding="utf-8") as file:
        rows = [list(row.values())[:6] for row in csv.DictReader(file)]
    assert len(rows) == SCRIPTS * LEADS
    found = [here.deployment.simulators.idicore.contact_of(Person(*row)).match for row in rows]
    return len(rows) - found.count(Match.TOO_MANY)


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("storage", ["SQLite", "PostgreSQL"])
def test_a_backfill_over_thirty_scripts_that_is_cancelled_half_way_and_launched_again(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"script_{number:02}" for number in range(SCRIPTS)]
    with (
        served_on(storage, tmp_path, monkeypatch, keys=keys, leads=LEADS, latency=0.05) as here,
        served(here.deployment) as url,
    ):
        paid = people_charged_for(here)
        first = launch_backfill(url, *keys)
        wait_until(lambda: sum(here.has_succeeded(key) for key in keys) >= SCRIPTS // 2, seconds=900)
        here.cancel_backfill(url, first)
        half_way = here.deployment.billed
        assert paid - SCRIPTS // 2 * LEADS <= half_way < paid
        again = launch_backfill(url, *keys)
        wait_until(lambda: here.backfill(again) == "COMPLETED_SUCCESS", seconds=1200)
        for key in keys:
            runs = here.runs(key)
            assert runs[-1].tags["dagster/backfill"] == again
            assert runs[-1].is_success
            assert all(run.is_finished for run in runs)
        assert here.most_at_once("enriched_contacts") == POOL_LIMITS["idicore"]
        assert slots_taken(here.instance) == dict.fromkeys(POOL_LIMITS, 0)
        assert here.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])) == []
        # An orderly stop leaves no request of unknown outcome behind.
        assert here.deployment.command("ledger", "unknown", "list", "--json").json == []
    assert here.deployment.billed == paid
    assert max(here.deployment.simulators.idicore.bill.by_person().values()) == 1


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("how", ["terminated in the UI", "its process killed", "the daemon killed"])
def test_a_run_that_ends_before_its_time_leaves_no_place_taken(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_on("SQLite", tmp_path, monkeypatch, keys=["one", "two"], leads=12, latency=0.5) as here:
        with served(here.deployment) as url:
            run_id = launch(url, "one")
            wait_until(lambda: here.deployment.billed >= 2)
            if how == "terminated in the UI":
                assert terminate(url, run_id) == "TerminateRunSuccess"
                wait_until(lambda: all(run.is_finished for run in here.runs("one")))
            elif how == "its process killed":
                ((pid,),) = ledger_rows(here.deployment, "SELECT DISTINCT pid FROM ledger_owners")
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: here.has_succeeded("one"), seconds=600)
            else:
                _kill_the_daemon()
            if how != "the daemon killed":
                _ends_well(here, url)
        if how == "the daemon killed":
            with served(here.deployment) as url:
                # What the daemon left is found dead by the next one, and repeated by it.
                wait_until(lambda: all(run.is_finished for run in here.runs("one")), seconds=600)
                _ends_well(here, url)
        assert slots_taken(here.instance) == dict.fromkeys(POOL_LIMITS, 0)
        assert here.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == []
    assert ledger_rows(here.deployment, "SELECT * FROM ledger_partition_leases") == []


def _ends_well(here: Served, url: str) -> None:
    """The same script, and another one for the same pool, run through."""
    for key in ("one", "two"):
        run = here.wait_for(launch(url, key))
        assert run.is_success, key


def _kill_the_daemon() -> None:
    (daemon,) = running(psutil.Process().children(recursive=True), "dagster-daemon")
    daemon.kill()
    daemon.wait()
