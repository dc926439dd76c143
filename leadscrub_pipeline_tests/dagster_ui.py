"""What the UI asks Dagster's webserver by GraphQL: launch, terminate, backfill, switch sensors and schedules on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

import yaml

from leadscrub_pipeline.cli.project import project_path
from leadscrub_pipeline_tests.cli_deployment import Deployment
from leadscrub_pipeline_tests.test_cli_demo import wait_for_ui

_REPOSITORY: Final = {"repositoryLocationName": "leadscrub_pipeline", "repositoryName": "__repository__"}

_LAUNCH: Final = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message }
  }
}
"""
_BACKFILL: Final = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
_CANCEL: Final = """
mutation ($id: String!) {
  cancelPartitionBackfill(backfillId: $id) { __typename ... on PythonError { message } }
}
"""
_TERMINATE: Final = """
mutation ($runId: String!) {
  terminateRun(runId: $runId, terminatePolicy: SAFE_TERMINATE) { __typename }
}
"""
_START_SENSOR: Final = """
mutation ($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
}
"""
_START_SCHEDULE: Final = """
mutation ($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) {
    __typename
    ... on ScheduleStateResult { scheduleState { id } }
    ... on PythonError { message }
  }
}
"""
_STOP_SCHEDULE: Final = """
mutation ($id: String!) {
  stopRunningSchedule(id: $id) { __typename ... on PythonError { message } }
}
"""
_STALE: Final = """
query ($asset: AssetKeyInput!, $partition: String) {
  assetNodeOrError(assetKey: $asset) { ... on AssetNode { staleStatus(partition: $partition) } }
}
"""


def shorten_waits(deployment: Deployment, config: str = "dagster.yaml") -> None:
    """The instance's file as an operator edited it, and its tables as ``dagster instance migrate`` makes them."""
    found = yaml.safe_load(project_path(config).read_text(encoding="utf-8"))
    found["run_monitoring"] |= {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 2}
    found["run_coordinator"].setdefault("config", {})["dequeue_interval_seconds"] = 1
    home = deployment.home / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(yaml.safe_dump(found), encoding="utf-8")
    subprocess.run(
        [Path(sys.executable).with_name("dagster"), "instance", "migrate"],
        env=os.environ | deployment.environment | {"DAGSTER_HOME": str(home), "PYTHONWARNINGS": "ignore"},
        check=True,
    )


@contextmanager
def served(deployment: Deployment) -> Iterator[str]:
    """The UI's address while ``leadscrub dev`` serves it."""
    with deployment.start("dev", "--live") as process:
        try:
            url = wait_for_ui(process)
            # What nobody reads fills the pipe, and then the daemon waits for ever to tell of an error.
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                threading.Thread(target=_copy, args=(pipe,), daemon=True).start()
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()


def _copy(pipe: IO[str]) -> None:
    """To what pytest shows of a test that failed."""
    with suppress(ValueError):  # what was shown to is closed when the test is over
        for line in pipe:
            sys.stdout.write(line)


def ask(url: str, query: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)
    assert "errors" not in found, found
    return dict(found["data"])


def launch(url: str, partition: str | None = "leads", *, job: str = "scrub_job", **config: Any) -> str:
    """Launch a run as the launchpad does; ``config`` is that of the steps."""
    params: dict[str, Any] = {"selector": {**_REPOSITORY, "jobName": job}, "executionMetadata": {"tags": []}}
    if partition is not None:
        params["executionMetadata"]["tags"].append({"key": "dagster/partition", "value": partition})
    if config:
        params["runConfigData"] = {"ops": {step: {"config": options} for step, options in config.items()}}
    answer = ask(url, _LAUNCH, params=params)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def terminate(url: str, run_id: str) -> str:
    return str(ask(url, _TERMINATE, runId=run_id)["terminateRun"]["__typename"])


def launch_backfill(url: str, *partitions: str) -> str:
    params = {
        "selector": {"partitionSetName": "scrub_job_partition_set", "repositorySelector": _REPOSITORY},
        "partitionNames": list(partitions),
    }
    answer = ask(url, _BACKFILL, params=params)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


def cancel_backfill(url: str, backfill_id: str) -> None:
    answer = ask(url, _CANCEL, id=backfill_id)["cancelPartitionBackfill"]
    assert answer["__typename"] == "CancelBackfillSuccess", answer


def start_sensor(url: str, name: str) -> None:
    answer = ask(url, _START_SENSOR, selector={**_REPOSITORY, "sensorName": name})["startSensor"]
    assert answer["__typename"] == "Sensor", answer


def start_schedule(url: str, name: str) -> str:
    """The id by which it can be stopped."""
    answer = ask(url, _START_SCHEDULE, selector={**_REPOSITORY, "scheduleName": name})["startSchedule"]
    assert answer["__typename"] == "ScheduleStateResult", answer
    return str(answer["scheduleState"]["id"])


def stop_schedule(url: str, schedule_id: str) -> None:
    answer = ask(url, _STOP_SCHEDULE, id=schedule_id)["stopRunningSchedule"]
    assert answer["__typename"] == "ScheduleStateResult", answer


def stale_status(url: str, asset: str, partition: str) -> str:
    """FRESH, STALE or MISSING, as the graph colours it."""
    answer = ask(url, _STALE, asset={"path": [asset]}, partition=partition)["assetNodeOrError"]
    return str(answer["staleStatus"])


def wait_until(what: Callable[[], bool], *, seconds: float = 300.0) -> None:
    """Ask again and again, and leave most of the machine to those who are waited for."""
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if what():
            return
        assert time.monotonic() < deadline
        time.sleep(max(0.1, 4 * (time.monotonic() - asked)))
