"""A deployment that runs by itself, through a real webserver and daemon: sensors, schedules, backfills, checks, alerts.

One story, because a webserver and a daemon take their time to start and to tick.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from leadscrub_pipeline.pools import POOL_LIMITS
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline_tests.by_itself import Served
from leadscrub_pipeline_tests.cli_deployment import deployment_in
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
