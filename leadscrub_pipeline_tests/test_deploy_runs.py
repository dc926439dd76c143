"""Runs and backfills behind the proxy, with the daemon: whose name they carry, and that a stop lets them end."""

import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from leadscrub_pipeline_tests.cli_deployment import LEADS, Deployment, deployment_in
from leadscrub_pipeline_tests.proxied import NGINX, Proxy, Webservers, dagster_webservers, proxy_in

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(NGINX is None or shutil.which("openssl") is None, reason="nginx or openssl is missing"),
]

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
BACKFILL = """
mutation LaunchPartitionBackfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployment_in(tmp_path, latency=0.5) as made:
        made.environment |= {"IDICORE_MAX_WORKERS": "5", "IDICORE_MIN_WORKERS": "5"}
        made.write_script("more")
        made.command("setup")
        yield made


def in_front_of(behind: Webservers, deployment: Deployment) -> AbstractContextManager[Proxy]:
    return proxy_in(deployment.folder / "proxy", editors=behind.editors, viewers=behind.viewers, ntfy=behind.viewers)


def wait_for(found: Callable[[], Any], *, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (what := found()):
        assert time.monotonic() < deadline, "it did not come to it in time"
        time.sleep(0.2)
    return what


def test_stopping_the_code_server_lets_its_run_end_and_the_run_carries_its_user(deployment: Deployment):
    home = deployment.home / "dagster"
    with ExitStack() as stack:
        behind = stack.enter_context(
            dagster_webservers(home, deployment.environment, deployment.folder / "dagster.log", daemon=True)
        )
        proxy = stack.enter_context(in_front_of(behind, deployment))
        selector = {
            "repositoryLocationName": "leadscrub_pipeline",
            "repositoryName": "__repository__",
            "jobName": "scrub_job",
        }
        tags = [{"key": "dagster/partition", "value": "leads"}]
        params = {"selector": selector, "executionMetadata": {"tags": tags}}
        run_id = proxy.graphql("alice", LAUNCH, params=params)["launchRun"]["run"]["runId"]
        wait_for(lambda: deployment.billed, seconds=180)
        assert deployment.billed < LEADS
        # What systemd sends with KillMode=mixed, and compose with an init: to the first process only.
        behind.code_server.send_signal(signal.SIGTERM)
        behind.code_server.wait(240)
    with deployment.instance() as instance:
        run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags["leadscrub/user"] == "alice"
    assert deployment.billed == LEADS


def test_runs_of_a_backfill_carry_no_name_that_nobody_vouches_for_and_the_log_says_who_launched_it(
    deployment: Deployment,
):
    home = deployment.home / "dagster"
    with ExitStack() as stack:
        behind = stack.enter_context(
            dagster_webservers(home, deployment.environment, deployment.folder / "dagster.log", daemon=True)
        )
        proxy = stack.enter_context(in_front_of(behind, deployment))
        selected = [{"path": [name]} for name in ("raw_leads",)]
        for key, tags in {"leads": [], "more": [{"key": "leadscrub/user", "value": "bob"}]}.items():
            params = {"assetSelection": selected, "partitionNames": [key], "tags": tags}
            body = {"operationName": "LaunchPartitionBackfill", "query": BACKFILL, "variables": {"params": params}}
            answer = proxy.ask("POST", "/graphql", user="alice", json=body).json()["data"]["launchPartitionBackfill"]
            assert answer["__typename"] == "LaunchBackfillSuccess", answer
        with deployment.instance() as instance:
            wait_for(lambda: [run.is_finished for run in instance.get_runs()] == [True, True], seconds=240)
            runs = instance.get_runs()
    assert {run.tags["dagster/partition"]: run.tags.get("leadscrub/user") for run in runs} == {
        "leads": None,
        "more": "(not signed in)",
    }
    calls = re.findall(r'"alice" 200 POST /graphql LaunchPartitionBackfill$', proxy.logged(), re.MULTILINE)
    assert len(calls) == 2
