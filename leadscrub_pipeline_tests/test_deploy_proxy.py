"""The proxy in front of everything, run for real: who gets in, who may launch, and whose name a run carries."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from websockets.exceptions import InvalidStatus

from leadscrub_pipeline_tests.proxied import (
    DEPLOY,
    NGINX,
    Proxy,
    basic,
    dagster_webservers,
    free_port,
    proxy_in,
    signing_in_server,
    telling_server,
)

pytestmark = pytest.mark.skipif(
    NGINX is None or shutil.which("openssl") is None,
    reason="nginx or openssl is not on this machine: the proxy was not run (apt-get install nginx-light openssl)",
)

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId tags { key value } } }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""
RUN_LOGS = """
subscription Logs($id: ID!) {
  pipelineRunLogs(runId: $id) {
    __typename
    ... on PipelineRunLogsSubscriptionSuccess { messages { __typename } }
  }
}
"""
TERMINATE = """
mutation Terminate($id: String!) {
  terminateRun(runId: $id, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) { __typename }
}
"""
VIEWERS_MAY_NOT = (
    'deletePipelineRun(runId: "RUN")',
    'reloadRepositoryLocation(repositoryLocationName: "leadscrub_pipeline")',
    'launchPartitionBackfill(backfillParams: {assetSelection: [{path: ["raw_leads"]}], partitionNames: ["a"]})',
    'wipeAssets(assetPartitionRanges: [{assetKey: {path: ["raw_leads"]}}])',
    """addDynamicPartition(partitionKey: "a", partitionsDefName: "lead_scripts", repositorySelector:
    {repositoryName: "__repository__", repositoryLocationName: "leadscrub_pipeline"})""",
)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """In front of servers that tell what reached them."""
    with ExitStack() as stack:
        ports = {name: stack.enter_context(telling_server(name)) for name in ("editors", "viewers", "ntfy")}
        yield stack.enter_context(proxy_in(tmp_path, **ports))


def refused(proxy: Proxy, **arguments: Any) -> int:
    """The status with which a WebSocket is refused."""
    with pytest.raises(InvalidStatus) as answer:
        proxy.talk("{}", **arguments)
    return answer.value.response.status_code


def test_nobody_gets_in_without_signing_in_by_http_or_websocket(proxy: Proxy):
    paths = ("/", "/graphql", "/server_info", "/logs/x/out", "/download_debug/x", "/report_asset_materialization/a")
    for path in paths:
        assert [proxy.ask(method, path).status_code for method in ("GET", "POST", "OPTIONS")] == [401, 401, 401], path
    assert refused(proxy) == 401
    assert refused(proxy, headers={"X-Leadscrub-User": "alice", "X-Forwarded-User": "alice"}) == 401
    assert proxy.ask("GET", "/", headers={"X-Leadscrub-User": "alice"}).status_code == 401


@pytest.mark.parametrize(
    ("user", "password"),
    [("alice", "wrong"), ("alice", ""), ("admin", "admin"), ("dagster", "dagster"), ("nginx", "nginx"), ("", "")],
)
def test_a_wrong_password_gets_nobody_in_and_there_is_no_default_one(proxy: Proxy, user: str, password: str):
    assert proxy.ask("GET", "/", auth=(user, password)).status_code == 401
    assert refused(proxy, headers={"Authorization": basic(user, password)}) == 401


def test_without_a_file_of_users_nobody_gets_in(tmp_path: Path):
    with telling_server("any") as port, proxy_in(
        tmp_path, editors=port, viewers=port, ntfy=port, with_users=False
    ) as proxy:  # fmt: skip
        assert proxy.ask("GET", "/").status_code == 401
        assert proxy.ask("GET", "/", user="alice").status_code == 403
        assert refused(proxy, user="alice") == 403


def test_an_editor_reaches_the_webserver_and_everybody_else_the_read_only_one(proxy: Proxy):
    for user, server in {"alice": "editors", "victor": "viewers"}.items():
        assert proxy.ask("POST", "/graphql", user=user, json={}).json()["server"] == server
        assert [told["server"] for told in proxy.talk("{}", user=user)] == [server]


def test_who_it_is_comes_from_the_sign_in_whatever_the_client_sends(proxy: Proxy):
    forged = {"X-Leadscrub-User": "alice", "X_Leadscrub_User": "alice", "x-leadscrub-user": "alice"}
    seen = proxy.ask("POST", "/graphql", user="victor", headers=forged).json()
    (seen_by_socket,) = proxy.talk("{}", user="victor", headers={"X-Leadscrub-User": "alice"})
    for told in (seen, seen_by_socket):
        assert told["server"] == "viewers"
        names = {
            name: value
            for name, value in told["headers"].items()
            if "user" in name.lower() and "agent" not in name.lower()
        }
        assert names == {"X-Leadscrub-User": "victor"}


def test_the_password_goes_no_further_than_the_proxy(proxy: Proxy):
    told = proxy.ask("GET", "/", user="alice").text
    assert "Authorization" not in told
    assert proxy.passwords["alice"] not in told


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/graphql?query=mutation", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}),
        ("GET", "/graphql?query=mutation", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
        ("GET", "//graphql?query=mutation", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}),
        ("GET", "/%67raphql?query=mutation", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
        ("POST", "/graphql", {"Origin": "https://elsewhere.example"}),
        ("POST", "/graphql", {"Origin": "null"}),
        ("POST", "/graphql", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
        ("POST", "/report_asset_materialization/a", {"Sec-Fetch-Site": "cross-site"}),
    ],
)
def test_another_site_cannot_act_with_the_sign_in_of_a_visitor(
    proxy: Proxy, method: str, path: str, headers: dict[str, str]
):
    assert proxy.ask(method, path, user="alice", headers=headers).status_code == 403


def test_another_site_cannot_open_a_websocket_with_the_sign_in_of_a_visitor(proxy: Proxy):
    assert refused(proxy, user="alice", headers={"Origin": "https://elsewhere.example"}) == 403
    (told,) = proxy.talk("{}", user="alice", headers={"Origin": f"https://127.0.0.1:{proxy.port}"})
    assert told["server"] == "editors"


def test_the_ui_itself_and_a_link_in_a_mail_are_let_through(proxy: Proxy):
    own = {"Origin": f"https://127.0.0.1:{proxy.port}", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert proxy.ask("POST", "/graphql", user="alice", headers=own).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert proxy.ask("GET", "/runs/1", user="alice", headers=link).status_code == 200
    assert proxy.ask("GET", "/", user="alice", headers={"Sec-Fetch-Site": "none"}).status_code == 200


def test_the_log_tells_who_called_which_operation_and_holds_no_argument(proxy: Proxy):
    body = {"operationName": "LaunchPartitionBackfill", "query": "mutation", "variables": {"name": "Jane Canary"}}
    proxy.ask("POST", "/graphql?token=canary", user="alice", json=body)
    proxy.ask("POST", "/topic-canary", port=proxy.ntfy_port, headers={"Authorization": "Bearer tk_canary"})
    deadline = time.monotonic() + 30
    while "LaunchPartitionBackfill" not in proxy.logged() and time.monotonic() < deadline:
        time.sleep(0.05)
    logged = proxy.logged()
    assert re.search(r'"alice" 200 POST /graphql LaunchPartitionBackfill$', logged, re.MULTILINE)
    assert "anary" not in logged
    assert proxy.passwords["alice"] not in logged


def test_ntfy_gets_nothing_from_who_does_not_sign_in(proxy: Proxy):
    for path in ("/", "/v1/health", "/topic/json"):
        assert proxy.ask("GET", path, port=proxy.ntfy_port).status_code == 401
    told = proxy.ask("POST", "/", port=proxy.ntfy_port, headers={"Authorization": "Bearer tk_x"}).json()
    assert told["server"] == "ntfy"
    assert told["headers"]["Authorization"] == "Bearer tk_x"


def test_a_topic_is_in_no_log_when_ntfy_is_down(tmp_path: Path):
    nothing = free_port()
    with proxy_in(tmp_path, editors=nothing, viewers=nothing, ntfy=nothing) as proxy:
        signed_in = {"Authorization": "Bearer tk_x"}
        answer = proxy.ask("POST", "/topic-canary", port=proxy.ntfy_port, headers=signed_in)
        assert answer.status_code == 502
        assert proxy.ask("GET", "/runs", user="alice").status_code == 502
    written = (tmp_path / "nginx.log").read_text(encoding="utf-8") + proxy.logged()
    assert "/runs" in written
    assert "canary" not in written


def test_behind_oauth2_proxy_the_session_decides_who_it_is(tmp_path: Path):
    with ExitStack() as stack:
        ports = {name: stack.enter_context(telling_server(name)) for name in ("editors", "viewers", "ntfy")}
        sessions = stack.enter_context(signing_in_server({"one": "alice@example.com", "two": "victor@example.com"}))
        proxy = stack.enter_context(proxy_in(tmp_path, **ports, sign_in="oauth2-proxy", oauth2_proxy=sessions))
        forged = {"X-Leadscrub-User": "alice@example.com", "X-Auth-Request-Email": "alice@example.com"}
        assert proxy.ask("POST", "/graphql", headers=forged).status_code == 401
        assert proxy.ask("GET", "/", headers={"Cookie": "_oauth2_proxy=made-up"}).status_code == 401
        assert refused(proxy) == 401
        assert refused(proxy, headers=forged) == 401
        person = proxy.ask("GET", "/runs", headers={"Accept": "text/html"})
        assert (person.status_code, person.headers["Location"]) == (302, proxy.url("/oauth2/start?rd=/runs"))
        assert proxy.ask("GET", "/oauth2/start?rd=/runs").json()["server"] == "oauth2-proxy"
        for session, (server, user) in {
            "one": ("editors", "alice@example.com"),
            "two": ("viewers", "victor@example.com"),
        }.items():
            signed_in = {**forged, "Cookie": f"_oauth2_proxy={session}"}
            told = proxy.ask("POST", "/graphql", headers=signed_in).json()
            assert (told["server"], told["headers"]["X-Leadscrub-User"]) == (server, user)
            (told,) = proxy.talk("{}", headers=signed_in)
            assert (told["server"], told["headers"]["X-Leadscrub-User"]) == (server, user)


def params(**tags: str) -> dict[str, Any]:
    return {
        "selector": {
            "repositoryLocationName": "leadscrub_pipeline",
            "repositoryName": "__repository__",
            "jobName": "preview_job",
        },
        "executionMetadata": {"tags": [{"key": key.replace("__", "/"), "value": tags[key]} for key in tags]},
    }


def test_a_viewer_cannot_launch_and_an_editors_run_carries_the_editors_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(DEPLOY.parent / "dagster.yaml", home)
    environment = {"LEADSCRUB_ENV_FILE": "", "LEADSCRUB_HOME": str(tmp_path)}
    with (
        dagster_webservers(home, environment, tmp_path / "dagster.log") as behind,
        proxy_in(tmp_path, editors=behind.editors, viewers=behind.viewers, ntfy=behind.viewers) as proxy,
    ):
        launched = proxy.graphql(
            "alice", LAUNCH, headers={"X-Leadscrub-User": "victor"}, params=params(leadscrub__user="victor")
        )["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        assert {"key": "leadscrub/user", "value": "alice"} in launched["run"]["tags"]

        as_alice = {"X-Leadscrub-User": "alice"}
        assert proxy.graphql("victor", "{ version }", headers=as_alice)["version"]
        for mutation in VIEWERS_MAY_NOT:
            query = f"mutation {{ {mutation.replace('RUN', launched['run']['runId'])} {{ __typename }} }}"
            answer = proxy.graphql("victor", query, headers=as_alice)
            assert [name["__typename"] for name in answer.values()] == ["UnauthorizedError"], mutation
        answer = proxy.graphql("victor", LAUNCH, headers=as_alice, params=params())["launchRun"]
        assert answer["__typename"] == "UnauthorizedError"
        proxy.graphql("victor", TERMINATE, headers=as_alice, id=launched["run"]["runId"])
        for event in ("materialization", "observation", "check"):
            path = f"/report_asset_{event}/raw_leads?check_name=a&passed=true&partition=a"
            answer = proxy.ask("POST", path, user="victor", headers=as_alice)
            assert answer.status_code == 401, answer.text

        def start(query: str, **variables: Any) -> str:
            return json.dumps({"type": "start", "id": "1", "payload": {"query": query, "variables": variables}})

        (answer,) = proxy.talk(start(LAUNCH, params=params()), user="victor", headers=as_alice)
        assert answer["type"] == "error"
        hello = json.dumps({"type": "connection_init"})
        acknowledged, told = proxy.talk(hello, start(RUN_LOGS, id=launched["run"]["runId"]), user="victor")
        assert acknowledged["type"] == "connection_ack"
        assert told["payload"]["data"]["pipelineRunLogs"]["__typename"] == "PipelineRunLogsSubscriptionSuccess"

    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs()
        events = instance.get_latest_materialization_event(dg.AssetKey("raw_leads"))
    assert [(run.tags.get("leadscrub/user"), run.status) for run in runs] == [("alice", dg.DagsterRunStatus.QUEUED)]
    assert events is None
