"""A deployment that runs by itself, through a real webserver and daemon: sensors, schedules, backfills, checks, alerts.

One story, because a webserver and a daemon take their time to start and to tick.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from leadscrub_pipeline.pools import POOL_LIMITS
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline_tests.cli_deployment import Deployment, deployment_in
from leadscrub_pipeline_tests.dagster_ui import (
    cancel_backfill,
    launch,
    launch_backfill,
    served,
    stale_status,
    start_schedule,
    start_sensor,
    stop_schedule,
    wait_until,
)
from leadscrub_pipeline_tests.own_people import scripts_of_own_people

BACKFILLED = ("first", "second", "third")
LEADS = 6
"""Of each script, and nobody twice."""


@dataclass
class Served:
    """A deployment, its settings file, and the instance that its webserver and daemon use."""

    deployment: Deployment
    settings: Path
    instance: dg.DagsterInstance

    def configure(self, **values: object) -> None:
        """Change settings as an operator does; they count from the next run on."""
        self.settings.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")

    def runs(self, partition: str) -> list[dg.DagsterRun]:
        """The oldest first."""
        return list(reversed(self.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": partition}))))

    def has_succeeded(self, partition: str) -> bool:
        runs = self.runs(partition)
        return bool(runs) and runs[-1].is_success

    def wait_for(self, run_id: str) -> dg.DagsterRun:
        def is_finished() -> bool:
            run = self.instance.get_run_by_id(run_id)
            return run is not None and run.is_finished

        wait_until(is_finished)
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def backfill(self, backfill_id: str) -> str | None:
        backfill = self.instance.get_backfill(backfill_id)
        return None if backfill is None else str(backfill.status.value)

    def evaluations(self, run_id: str) -> dict[str, Any]:
        """Each check of a run by name."""
        records = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
        found = [record.event_log_entry.dagster_event for record in records]
        return {
            one.asset_check_evaluation_data.check_name: one.asset_check_evaluation_data
            for one in found
            if one is not None
        }

    def materialized(self, run_id: str) -> set[str]:
        records = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
        found = [record.event_log_entry.asset_materialization for record in records]
        return {one.asset_key.to_user_string() for one in found if one is not None}

    def messages(self, word: str) -> list[dict[str, Any]]:
        """Alerts whose title or text holds a word."""
        sent: list[dict[str, Any]] = self.deployment.simulators.ntfy.messages
        return [one for one in sent if word in f"{one['title']} {one['message']}"]

    def most_at_once(self, pool_step: str) -> int:
        """How many runs with a step were in progress together, at most."""
        spans = []
        for record in self.instance.get_run_records():
            events = self.instance.get_records_for_run(
                record.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_START
            ).records
            if any(one.event_log_entry.step_key == pool_step for one in events) and record.start_time is not None:
                spans.append((record.start_time, record.end_time or time.time()))
        return max((sum(start <= moment < end for start, end in spans) for moment, _ in spans), default=0)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Served]:
    with deployment_in(tmp_path, latency=0.2, leads=LEADS * 5) as made:
        scripts_of_own_people(made, [*BACKFILLED, "nightly"], leads=LEADS)
        (made.scripts / "nightly.sql").write_text(
            "-- title: Nightly\n-- schedule: nightly\nSELECT * FROM LEADS_DB.PUBLIC.NIGHTLY\n", encoding="utf-8"
        )
        settings = tmp_path / "settings.env"
        settings.touch()
        made.environment |= {
            "LEADSCRUB_ENV_FILE": str(settings),
            "LEADSCRUB_SCRUB_CRON": "* * * * *",
            "NTFY_ENABLED": "true",
            "IDICORE_MAX_RETRIES": "1",
            "IDICORE_RETRY_BASE_DELAY": "0.1",
            "LEADSCRUB_BREAKER_SECONDS": "0.2",
        }
        assert made.command("setup").code == 0
        with made.instance() as instance:
            yield Served(made, settings, instance)


@pytest.mark.timeout(900)
def test_it_runs_by_itself(here: Served) -> None:
    with served(here.deployment) as url:
        start_sensor(url, "lead_scripts_sensor")
        schedule = start_schedule(url, "scrub_all_scripts_schedule")
        _a_backfill_is_cancelled_and_launched_again(here, url)
        wait_until(lambda: here.has_succeeded("nightly"))
        stop_schedule(url, schedule)
        _a_new_script_appears(here, url)
        assert here.runs("nightly")[0].tags["dagster/schedule_name"] == "scrub_all_scripts_schedule"
        _a_list_past_its_age_blocks_the_master_table(here, url)
        _a_failing_vendor_gives_one_alert(here, url)
    assert {pool.name: pool.limit for pool in here.instance.event_log_storage.get_pool_limits()} == POOL_LIMITS
    assert here.most_at_once("enriched_contacts") == 1
    bill = here.deployment.simulators.idicore.bill
    assert max(bill.by_person().values()) == 1
    assert here.deployment.billed == LEADS * 5


def _a_backfill_is_cancelled_and_launched_again(here: Served, url: str) -> None:
    cancelled = launch_backfill(url, *BACKFILLED)
    wait_until(lambda: any(here.runs(key) for key in BACKFILLED))
    cancel_backfill(url, cancelled)
    wait_until(lambda: here.backfill(cancelled) == "CANCELED")
    again = launch_backfill(url, *BACKFILLED)
    wait_until(lambda: here.backfill(again) == "COMPLETED_SUCCESS")
    for key in BACKFILLED:
        assert here.runs(key)[-1].tags["dagster/backfill"] == again
        assert here.runs(key)[-1].tags["leadscrub/script"] == key
        assert here.runs(key)[-1].tags["leadscrub/mode"] == "scrub"
        assert all(run.is_finished for run in here.runs(key))


def _a_new_script_appears(here: Served, url: str) -> None:
    assert here.runs("leads") == [], "the sensor's first look launches nothing"
    scripts_of_own_people(here.deployment, ["new"], leads=LEADS, after=4)
    wait_until(lambda: here.has_succeeded("new"))
    assert "new" in here.instance.get_dynamic_partitions("lead_scripts")
    assert here.runs("new")[0].tags["leadscrub/launched_by"] == "lead_scripts_sensor"
    assert stale_status(url, "raw_leads", "new") == "FRESH"
    assert stale_status(url, "dnc_flags", "new") == "FRESH"


def _a_list_past_its_age_blocks_the_master_table(here: Served, url: str) -> None:
    here.configure(DNC_LIST_DATE=(datetime.now(UTC) - timedelta(days=40)).date().isoformat())
    run = here.wait_for(launch(url, "first", raw_leads={"already_processed": "include"}))
    here.configure()
    assert run.status is dg.DagsterRunStatus.FAILURE
    materialized = here.materialized(run.run_id)
    assert "litigator_flags" in materialized
    assert not materialized & {"dnc_flags", "master_processed_db"}
    evaluation = here.evaluations(run.run_id)["registry_is_fresh"]
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.ERROR)


def _a_failing_vendor_gives_one_alert(here: Served, url: str) -> None:
    before = len(here.deployment.simulators.ntfy.messages)
    here.deployment.simulators.ccc.faults.add(Fault("5xx", times=10_000))
    here.configure(CCC_MAX_AGE_DAYS=1)
    run = here.wait_for(
        launch(url, "second", raw_leads={"already_processed": "include"}, litigator_flags={"renew": True})
    )
    assert run.status is dg.DagsterRunStatus.FAILURE
    wait_until(lambda: len(here.deployment.simulators.ntfy.messages) > before)
    time.sleep(35)
    sent = here.deployment.simulators.ntfy.messages[before:]
    assert [one["title"] for one in sent if "second" in f"{one['title']} {one['message']}"] != []
    assert len(sent) == 1, sent
