"""What starts by the clock: which scripts, how often, at whose local time; and settings that are no times."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.schedules import load_schedules

NIGHT = datetime(2026, 11, 1, 7, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "instance").mkdir()
    monkeypatch.setenv("LEADSCRUB_SCRIPTS", str(tmp_path / "scripts"))
    return tmp_path / "scripts"


def write(folder: Path, key: str, *lines: str) -> None:
    text = "\n".join([f"-- title: {key}", *lines, "SELECT * FROM LEADS_DB.PUBLIC.LEADS"])
    (folder / f"{key}.sql").write_text(text, encoding="utf-8")


def schedule(name: str) -> dg.ScheduleDefinition:
    return next(one for one in load_schedules() if one.name == name)


def ticked(instance: dg.DagsterInstance, at: datetime = NIGHT) -> Any:
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=at, resources={"settings": SettingsResource()}
    )
    return schedule("scrub_all_scripts_schedule")(context)


def test_the_night_runs_the_scripts_whose_header_asks_for_it_and_no_others(folder: Path) -> None:
    write(folder, "a", "-- schedule: nightly")
    write(folder, "b")
    write(folder, "c", "-- schedule: nightly")
    with dg.DagsterInstance.local_temp(str(folder.parent / "instance")) as instance:
        requests = ticked(instance)
        assert [request.partition_key for request in requests] == ["a", "c"]
        assert instance.get_dynamic_partitions("lead_scripts") == ["a", "c"]


def test_a_tick_that_is_evaluated_twice_asks_for_the_same_runs_and_the_next_night_for_others(folder: Path) -> None:
    write(folder, "a", "-- schedule: nightly")
    with dg.DagsterInstance.local_temp(str(folder.parent / "instance")) as instance:
        first, again = (ticked(instance)[0].run_key for _ in range(2))
        other = ticked(instance, at=datetime(2026, 11, 2, 7, 0, tzinfo=UTC))[0].run_key
    assert first == again
    assert first != other


def test_a_script_that_cannot_be_read_keeps_none_of_the_others_from_running(folder: Path) -> None:
    write(folder, "a", "-- schedule: nightly")
    write(folder, "b", "-- schedule: hourly")
    (folder / "c.sql").write_bytes(b"\xff\xfe")
    (folder / "a (copy).sql").write_text("SELECT 1", encoding="utf-8")
    with dg.DagsterInstance.local_temp(str(folder.parent / "instance")) as instance:
        assert [request.partition_key for request in ticked(instance)] == ["a"]


def test_an_hour_that_a_change_of_clocks_repeats_has_runs_of_its_own(folder: Path) -> None:
    write(folder, "a", "-- schedule: nightly")
    zone = ZoneInfo("America/Chicago")
    with dg.DagsterInstance.local_temp(str(folder.parent / "instance")) as instance:
        twice = [ticked(instance, at=datetime(2026, 11, 1, 1, 0, tzinfo=zone, fold=fold)) for fold in (0, 1)]
    assert len({requests[0].run_key for requests in twice}) == 2


def test_a_setting_that_cannot_be_read_is_told_and_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.DagsterInstance.local_temp(str(folder.parent / "instance")) as instance:
        nightly = schedule("scrub_all_scripts_schedule")
        monkeypatch.setenv("IDICORE_TIMEOUT", "soon")
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=NIGHT, resources={"settings": SettingsResource()}
        )
        assert "IDICORE_TIMEOUT" in nightly(context).skip_message


def test_a_night_without_a_script_says_how_to_ask_for_one(folder: Path) -> None:
    write(folder, "a")
    with dg.DagsterInstance.local_temp(str(folder.parent / "instance")) as instance:
        assert "-- schedule: nightly" in ticked(instance).skip_message


def test_a_folder_that_cannot_be_read_is_told_and_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADSCRUB_SCRIPTS", str(folder / "nowhere"))
    with dg.DagsterInstance.local_temp(str(folder.parent / "instance")) as instance:
        assert "Cannot read the folder" in ticked(instance).skip_message


def test_times_and_time_zone_are_settings_and_everything_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADSCRUB_TIME_ZONE", "America/Chicago")
    monkeypatch.setenv("LEADSCRUB_RESILIENCE_CRON", "30 4 * * 6")
    found = load_schedules()
    assert {one.execution_timezone for one in found} == {"America/Chicago"}
    assert {one.name: one.cron_schedule for one in found}["resilience_schedule"] == "30 4 * * 6"
    assert {one.default_status for one in found} == {dg.DefaultScheduleStatus.STOPPED}
    assert all(one.description for one in found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEADSCRUB_SCRUB_CRON", "at night"),
        ("LEADSCRUB_RESCRUB_CRON", "61 2 * * *"),
        ("LEADSCRUB_TIME_ZONE", "Mars/Base"),
    ],
)
def test_what_is_no_time_is_refused_by_the_name_of_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"^{name} is no "):
        load_schedules()


def test_the_code_location_says_which_setting_keeps_it_from_loading() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import leadscrub_pipeline.definitions"],
        env={"LEADSCRUB_ENV_FILE": "", "LEADSCRUB_SCRUB_CRON": "never"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "LEADSCRUB_SCRUB_CRON is no cron expression" in done.stderr
