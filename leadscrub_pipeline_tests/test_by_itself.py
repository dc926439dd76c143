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
    launch,
    launch_backfill,
    served,
    shorten_waits,
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
        shorten_waits(made)
        assert made.command("setup").code == 0
        with made.instance() as instance:
            yield Served(made, settings, instance)


@pytest.mark.timeout(900)
def test_it_runs_by_itself(here: Served) -> None:
    with served(here.deployment) as url:
        start_sensor(url, "lead_scripts_sensor")
        schedule = start_schedule(url, "scrub_all_scripts_schedule")
        cancelled = _a_backfill_is_cancelled(here, url)
        # What follows waits for ticks, and need not wait for each other.
        again = launch_backfill(url, *BACKFILLED)
        wait_until(lambda: "first" in here.registered_by_sensor)
        scripts_of_own_people(here.deployment, ["new"], leads=LEADS, after=4)
        wait_until(lambda: here.has_succeeded("nightly"))
        stop_schedule(url, schedule)
        wait_until(lambda: here.backfill(again) == "COMPLETED_SUCCESS")
        wait_until(lambda: here.has_succeeded("new"))
        _what_ran_says_who_launched_it(here, cancelled, again)
        assert stale_status(url, "raw_leads", "new") == stale_status(url, "dnc_flags", "new") == "FRESH"
        _a_list_past_its_age_and_a_failing_vendor(here, url)
    assert {pool.name: pool.limit for pool in here.instance.event_log_storage.get_pool_limits()} == POOL_LIMITS
    assert here.most_at_once("enriched_contacts") == 1
    bill = here.deployment.simulators.idicore.bill
    assert max(bill.by_person().values()) == 1
    assert here.deployment.billed == LEADS * 5


def _a_backfill_is_cancelled(here: Served, url: str) -> str:
    backfill_id = launch_backfill(url, *BACKFILLED)
    wait_until(lambda: any(here.runs(key) for key in BACKFILLED))
    here.cancel_backfill(url, backfill_id)
    return backfill_id


def _what_ran_says_who_launched_it(here: Served, cancelled: str, again: str) -> None:
    for key in BACKFILLED:
        runs = here.runs(key)
        assert {run.tags.get("dagster/backfill") for run in runs} <= {cancelled, again}
        assert runs[-1].tags["dagster/backfill"] == again
        assert (runs[-1].tags["leadscrub/script"], runs[-1].tags["leadscrub/mode"]) == (key, "scrub")
        assert all(run.is_finished for run in runs)
    assert here.runs("nightly")[0].tags["dagster/schedule_name"] == "scrub_all_scripts_schedule"
    assert [run.tags["leadscrub/launched_by"] for run in here.runs("new")] == ["lead_scripts_sensor"]
    assert "new" in here.instance.get_dynamic_partitions("lead_scripts")


def _a_list_past_its_age_and_a_failing_vendor(here: Served, url: str) -> None:
    """One keeps the master table as it is, and each gives one alert, however often a step tried again."""
    here.configure(DNC_LIST_DATE=(datetime.now(UTC) - timedelta(days=40)).date().isoformat())
    stale = here.wait_for(launch(url, "first", raw_leads={"already_processed": "include"}))
    here.configure()
    here.deployment.simulators.ccc.faults.add(Fault("unauthorized"))
    options = {"raw_leads": {"already_processed": "include"}, "litigator_flags": {"renew": True}}
    failed = here.wait_for(launch(url, "second", **options))
    assert (stale.status, failed.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.FAILURE)
    materialized = here.materialized(stale.run_id)
    assert "litigator_flags" in materialized
    assert not materialized & {"dnc_flags", "master_processed_db"}
    evaluation = here.evaluations(stale.run_id)["registry_is_fresh"]
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.ERROR)
    retries = here.instance.get_records_for_run(failed.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY).records
    assert retries, "the step tries again by itself"
    wait_until(lambda: bool(here.alerts("second failed")))
    time.sleep(20)  # one tick more of a sensor of runs
    (alert,) = here.alerts("second failed")
    assert alert["title"] == "second failed at litigator_flags"
    assert "CCC refuses the key" in alert["message"]
    assert [one["title"] for one in here.alerts("first failed")] == ["first failed at dnc_flags"]
