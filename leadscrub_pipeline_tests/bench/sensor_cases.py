"""What is measured about sensors: the longest tick of any of them over a thousand scripts."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

SCRIPTS: Final = 1_000
RUNS: Final = 300


def sensor_ticks(scripts: int = SCRIPTS) -> dict[str, float]:
    """Seconds of each sensor's longest tick: the first look, one where nothing happened, and one with a new script."""
    from leadscrub_pipeline.definitions import defs  # noqa: PLC0415 - start_up must not have loaded it

    with TemporaryDirectory(prefix="leadscrub-bench-") as name, _instance(Path(name), scripts) as instance:
        repository = defs.get_repository_def()
        cursors: dict[str, str | None] = {}
        longest = dict.fromkeys((sensor.name for sensor in repository.sensor_defs), 0.0)
        for round_ in range(3):
            if round_ == 2:
                _write_script(Path(name) / "scripts", "new")
            for sensor in repository.sensor_defs:
                seconds, cursors[sensor.name] = _tick(sensor, repository, instance, cursors.get(sensor.name))
                longest[sensor.name] = max(longest[sensor.name], seconds)
    return {"scripts": scripts, "longest_seconds": max(longest.values()), **longest}


def _tick(sensor: Any, repository: Any, instance: Any, cursor: str | None) -> tuple[float, str | None]:
    import dagster as dg  # noqa: PLC0415

    from leadscrub_pipeline.resources import RegistryResource, SettingsResource  # noqa: PLC0415

    every = {"settings": SettingsResource(), "registry": RegistryResource()}
    resources = {name: every[name] for name in sensor.required_resource_keys}
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources, repository_def=repository)
    started = time.monotonic()
    if isinstance(sensor, dg.RunStatusSensorDefinition):
        cursor = sensor.evaluate_tick(context).cursor
        return time.monotonic() - started, cursor
    result = sensor(context)
    if not isinstance(result, dg.SensorResult):
        assert isinstance(result, dg.SkipReason), f"{sensor.name} gave {type(result).__name__}"
        return time.monotonic() - started, context.cursor
    for request in result.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    for event in result.asset_events or []:
        instance.report_runless_asset_event(event)
    return time.monotonic() - started, result.cursor


@contextmanager
def _instance(folder: Path, scripts: int) -> Iterator[Any]:
    """An instance in files with a run of the past for some of the scripts, as settings name them."""
    import dagster as dg  # noqa: PLC0415

    for name in ("scripts", "dagster", "home"):
        (folder / name).mkdir()
    keys = [f"script_{number:04}" for number in range(scripts)]
    for key in keys:
        _write_script(folder / "scripts", key)
    _write_registry(folder / "dnc.sqlite")
    wanted = {
        "LEADSCRUB_ENV_FILE": "",
        "LEADSCRUB_HOME": str(folder / "home"),
        "LEADSCRUB_SCRIPTS": str(folder / "scripts"),
        "DNC_DATABASE_PATH": str(folder / "dnc.sqlite"),
        "DNC_LIST_DATE": (datetime.now(UTC) - timedelta(days=3)).date().isoformat(),
        "NTFY_ENABLED": "true",
        # Nobody listens there: a connection is refused at once, which is a message's shortest way.
        "NTFY_BASE_URL": "http://127.0.0.1:9",
        **{f"NTFY_TOPIC_{topic}": "bench" for topic in ("JOBS", "ERRORS", "SYSTEM")},
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with dg.DagsterInstance.local_temp(str(folder / "dagster")) as instance:
            instance.add_dynamic_partitions("lead_scripts", keys)
            for number in range(RUNS):
                _past_run(instance, keys[number], failed=number % 10 == 0)
            yield instance
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _past_run(instance: Any, key: str, *, failed: bool) -> None:
    import dagster as dg  # noqa: PLC0415

    @dg.op
    def step() -> None:
        if failed:
            raise dg.Failure("It did not work.")

    @dg.job
    def past_job() -> None:
        step()

    past_job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={"dagster/partition": key},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def _write_script(folder: Path, key: str) -> None:
    text = f"-- title: {key}\n-- schedule: nightly\nSELECT * FROM LEADS_DB.PUBLIC.LEADS WHERE state = 'IL'\n"
    (folder / f"{key}.sql").write_text(text, encoding="utf-8")


def _write_registry(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE dnc_list(area_code TEXT, phone_number TEXT, full_phone TEXT, "
            "PRIMARY KEY(area_code, phone_number))"
        )
        connection.execute("CREATE INDEX full_phone ON dnc_list(full_phone)")
        rows = [(str(code), "5550199", f"{code}5550199") for code in range(200, 990)]
        connection.executemany("INSERT INTO dnc_list VALUES (?, ?, ?)", rows)
    connection.close()
