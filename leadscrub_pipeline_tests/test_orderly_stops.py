"""Ctrl-C, SIGTERM and a terminate in the UI: what is on its way is settled, and the next run goes on."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from leadscrub_pipeline import interrupts
from leadscrub_pipeline.deployment import lookup_terms, open_ledger, purpose_of
from leadscrub_pipeline.domain.people import person_key
from leadscrub_pipeline.domain.scripts import read_script
from leadscrub_pipeline.ledger.database import Database
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.simulators.persons import person_at
from leadscrub_pipeline.vendors.idicore import endpoint_of
from leadscrub_pipeline_tests.children import Kill
from leadscrub_pipeline_tests.cli_deployment import deployment_in as cli_deployment_in
from leadscrub_pipeline_tests.crashes import (
    PEOPLE,
    SEED,
    Deployment,
    Facts,
    Town,
    check_as_undisturbed,
    check_settled,
    deployment_in,
    town_in,
)
from leadscrub_pipeline_tests.sums import check_sums
from leadscrub_pipeline_tests.tallies import tally

INTERRUPTED = 130


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town_in(tmp_path_factory.mktemp("town") / "town") as town:
        yield town


@pytest.fixture(scope="module")
def undisturbed(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    with pytest.MonkeyPatch.context() as patch, deployment_in(home, town, patch) as deployment:
        deployment.scrub_well("first")
        return deployment.facts()


@pytest.fixture
def deployment(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment_in(tmp_path / "home", town, monkeypatch) as deployment:
        yield deployment


@pytest.mark.parametrize(
    "stop",
    [
        Kill("prepare.before_commit"),
        Kill("leads.before_commit"),
        Kill("claim.before_commit", 2),
        Kill("mark.before_commit"),
        Kill("idicore.after_answer", 5),
        Kill("settle.before_commit"),
        Kill("contacts.before_commit"),
        Kill("ccc.before_request", 2),
        Kill("answers.before_commit"),
        Kill("seal.before_commit"),
        Kill("flags.before_commit"),
        Kill("master.merged_range"),
    ],
    ids=lambda stop: stop.point,
)
def test_a_run_stopped_by_ctrl_c_settles_what_is_on_its_way_and_the_next_one_goes_on(
    stop: Kill, deployment: Deployment, undisturbed: Facts
) -> None:
    report = deployment.scrub("first", interrupt=stop)
    assert report.exit_code == INTERRUPTED, (report.failure, report.defect)
    check_settled(deployment)
    deployment.scrub_well("first")
    check_as_undisturbed(deployment, undisturbed)
    tally("orderly stops")


def test_a_stop_does_not_wait_for_a_breaker_that_is_open(deployment: Deployment, undisturbed: Facts) -> None:
    faults = deployment.town.simulators.idicore.faults
    faults.add(Fault("server_error", operation="sign_in"))
    patient = deployment.environment
    deployment.environment = {**patient, "LEADSCRUB_BREAKER_SECONDS": "60"}
    started = time.monotonic()
    report = deployment.scrub("first", interrupt=Kill("breaker.opened"))
    assert report.exit_code == INTERRUPTED, (report.failure, report.defect)
    assert time.monotonic() - started < 30
    check_settled(deployment)
    faults.clear()
    deployment.environment = patient
    deployment.scrub_well("first")
    check_as_undisturbed(deployment, undisturbed)
    tally("orderly stops")


def test_a_stop_does_not_wait_for_people_whom_another_run_is_asking_about(
    deployment: Deployment, undisturbed: Facts
) -> None:
    settings = load_settings()
    assert settings.leadscrub_scripts is not None
    script = read_script(settings.leadscrub_scripts / "first.sql")
    terms = lookup_terms(
        settings,
        endpoint=endpoint_of(settings),
        purpose=purpose_of(settings, script),
        run_id="another",
        partition_key="another",
    )
    keys = [person_key(person_at(number, seed=SEED)) for number in PEOPLE["first"]]
    with open_ledger(settings) as another:
        another.claim(keys, terms)
        started = time.monotonic()
        # Three claims for three batches, the next when it has waited.
        report = deployment.scrub("first", interrupt=Kill("claim.after_commit", 4))
        assert report.exit_code == INTERRUPTED, (report.failure, report.defect)
        assert time.monotonic() - started < 30
        assert deployment.states() == {"claimed": len(keys)}
    check_settled(deployment)
    deployment.scrub_well("first")
    check_as_undisturbed(deployment, undisturbed)
    tally("orderly stops")


def test_leadscrub_run_stopped_by_sigterm_is_canceled_in_dagster_and_owes_nothing(tmp_path: Path) -> None:
    with cli_deployment_in(tmp_path, latency=0.05) as made:
        with made.struck("SIGTERM", "idicore.after_answer", 5, "run", "leads", "--json") as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == INTERRUPTED, err
        result = json.loads(out)
        assert result["status"] == "canceled"
        with made.ledger() as ledger:
            counts = ledger.lookups_of_run(result["run_id"])
            assert counts.cost == made.simulators.idicore.bill.total()
        assert counts["unknown"] == counts["sent"] == counts["claimed"] == 0
        with made.instance() as instance:
            run = instance.get_run_by_id(result["run_id"])
        assert run is not None
        assert run.status is dg.DagsterRunStatus.CANCELED
        ended = made.command("run", "leads", "--json")
        assert ended.code == 0, ended.err
        check_sums(ended.objects[0])
        assert max(made.simulators.idicore.bill.by_person().values()) == 1
    tally("orderly stops")


# --- the safe places ----------------------------------------------------------------------------


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_in_the_middle_of_a_ledgers_transaction_leaves_it_whole_and_its_lock_free(tmp_path: Path) -> None:
    # It was raised between BEGIN and COMMIT, and the lock stayed as long as the interrupt was being handled:
    # those who were to settle what was in flight waited for it in vain.
    database = Database(tmp_path / "ledger.sqlite", create=True)

    def write(note: str, *, interrupted: bool) -> None:
        with database.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS notes (note TEXT)")
            if interrupted:
                ctrl_c()
            connection.exec_driver_sql(f"INSERT INTO notes VALUES ('{note}')")

    try:
        write("one", interrupted=True)
    except KeyboardInterrupt:
        write("another", interrupted=False)
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT note FROM notes").scalars().all() == ["one", "another"]
    database.close()


def test_an_interrupt_waits_for_a_safe_place_and_for_the_end_at_the_latest() -> None:
    reached = []

    def to_a_safe_place() -> None:
        with interrupts.deferred():
            ctrl_c()
            reached.append("after the signal")
            interrupts.check()
            reached.append("behind the safe place")

    def to_the_end() -> None:
        with interrupts.deferred(), interrupts.deferred():
            ctrl_c()
            reached.append("the whole block")
        reached.append("behind the block")

    for interrupted in (to_a_safe_place, to_the_end, lambda: (ctrl_c(), time.sleep(10))):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert reached == ["after the signal", "the whole block"]


def test_an_interrupt_ends_a_wait() -> None:
    timer = threading.Timer(0.2, ctrl_c)
    started = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt), interrupts.deferred():
        interrupts.sleep(60)
    assert time.monotonic() - started < 30
    timer.join()
