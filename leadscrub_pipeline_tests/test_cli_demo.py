"""``leadscrub demo`` and what ``leadscrub dev`` and ``leadscrub simulate`` share with it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from leadscrub_pipeline.cli import dev
from leadscrub_pipeline.cli.app import app
from leadscrub_pipeline.cli.demo_home import demo_deployment
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline_tests.cli_deployment import running, started
from leadscrub_pipeline_tests.sums import check_sums


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def first(home: Path) -> dict:
    # A user's own settings, which must not reach the demo.
    theirs = {"IDICORE_DAILY_BUDGET": "1", "LEADSCRUB_SCRIPTS": "/nowhere", "CCC_API_URL": "https://vendor.example/x"}
    result = CliRunner().invoke(app, ["demo", "--home", str(home), "--json"], env=theirs)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_demo_runs_its_three_scripts_and_no_lead_is_lost(first: dict) -> None:
    assert len(first["scripts"]) == 3
    for script in first["scripts"]:
        assert script["status"] == "success"
        check_sums(script)
        assert script["rejected"] > 0
        assert script["duplicate"] > 0
    assert first["scripts"][1]["already_processed"] > 0


def test_the_bill_is_what_the_ledger_says(first: dict) -> None:
    account = first["account"]
    assert first["agrees"]
    assert account["billed_dollars"] == account["settled_dollars"] == account["settled_dollars_now"]
    assert account["billed_now"] == account["billed"] == sum(script["lookups_paid"] for script in first["scripts"])


def test_a_second_demo_pays_for_nothing_and_says_so_and_where_to_look_next(home: Path, first: dict) -> None:
    result = CliRunner().invoke(app, ["demo", "--home", str(home)])
    assert result.exit_code == 0, result.output
    assert "Nothing was paid for this time" in result.stdout
    assert "make dev" in result.stdout
    assert "results export" in result.stdout


def test_the_demos_settings_are_whole_and_for_its_own_vendors_only(home: Path, first: dict) -> None:
    settings = load_settings(env_file=home / "settings.env")
    assert settings.leadscrub_home == home
    assert settings.leadscrub_kind == "demo"
    assert settings.idicore_search_url.startswith("http://127.0.0.1:")
    assert (home / "settings.env").stat().st_mode & 0o777 == 0o600


def test_a_second_process_uses_the_simulators_that_are_served_already(home: Path, first: dict) -> None:
    before = dict(os.environ)
    with demo_deployment(home):
        served = (home / "settings.env").read_text()
        with demo_deployment(home):
            assert (home / "settings.env").read_text() == served
            assert os.environ["LEADSCRUB_ENV_FILE"] == str(home / "settings.env")
    assert dict(os.environ) == before


def test_the_usual_port_gives_way_and_a_wanted_one_does_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=str(port)):
            dev._free_port(port)
    assert dev._free_port(None) > 0


_SLOW_SERVER = """
import socket, sys, time
time.sleep(0.5)
try:
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
        time.sleep(60)
except OSError:
    sys.exit(3)
"""


@pytest.mark.parametrize("wanted", [False, True])
def test_a_port_that_somebody_takes_while_the_webserver_loads_is_not_taken_for_our_own(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = dev._bound(0)
    assert free
    with ExitStack() as stack:

        def start(_: Settings, port: int) -> dev.Child:
            if port == free:  # another deployment was quicker
                stack.enter_context(socket.create_server((dev.HOST, port)))
            return _webserver(stack, _SLOW_SERVER, port)

        monkeypatch.setattr(dev, "USUAL_PORT", free)
        monkeypatch.setattr(dev, "_webserver", start)
        children: list[dev.Child] = []
        if wanted:
            with pytest.raises(UnavailableError, match=f"Port {free} is taken"):
                dev._start_ui(children, Settings(_env_file=None), free, [])
            return
        port = dev._start_ui(children, Settings(_env_file=None), None, [])
        assert port != free
        assert [child.process.poll() for child in children] == [None]
        socket.create_connection((dev.HOST, port), timeout=5).close()


@pytest.mark.parametrize("ends", [1, 3])
def test_a_webserver_that_ended_of_a_port_that_is_free_again_is_started_again_but_not_for_ever(
    ends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = dev._bound(0)
    with ExitStack() as stack:
        started_with: list[int] = []

        def start(_: Settings, port: int) -> dev.Child:
            started_with.append(port)
            return _webserver(stack, "raise SystemExit(1)" if len(started_with) <= ends else _SLOW_SERVER, port)

        monkeypatch.setattr(dev, "_webserver", start)
        children: list[dev.Child] = []
        if ends == 3:
            with pytest.raises(UnavailableError, match="ui ended 3 times"):
                dev._start_ui(children, Settings(_env_file=None), free, [])
            assert (children, started_with) == ([], [free] * 3)
            return
        assert dev._start_ui(children, Settings(_env_file=None), free, []) == free
        assert [child.process.poll() for child in children] == [None]
        assert started_with == [free] * 2


def _webserver(stack: ExitStack, program: str, port: int) -> dev.Child:
    """The program in the webserver's place, which ends with the stack."""
    return dev.Child("ui", stack.enter_context(_ended(subprocess.Popen([sys.executable, "-c", program, str(port)]))))


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_simulated_vendors_serve_until_they_are_told_to_stop(tmp_path: Path) -> None:
    arguments = ("simulate", "--json", "--bill", str(tmp_path / "bill.jsonl"))
    with started(*arguments, environment={"LEADSCRUB_ENV_FILE": ""}) as process:
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            text += process.stdout.readline()
        with pytest.raises(urllib.error.HTTPError):  # it is there, and asks who we are
            urllib.request.urlopen(json.loads(text)["NTFY_BASE_URL"], timeout=10)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Stopped" in err


@pytest.mark.parametrize("fault", ["idicore", "nobody:timeout", "idicore:no_such_thing", "ccc:no_match"])
def test_a_fault_that_cannot_be_had_is_a_usage_error(fault: str) -> None:
    assert CliRunner().invoke(app, ["simulate", "--fault", fault]).exit_code == 2


def wait_for_ui(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    deadline = time.monotonic() + 180
    told: list[str] = []
    while time.monotonic() < deadline:
        told.append(process.stderr.readline())
        if "Dagster's UI: " in told[-1]:
            return told[-1].split()[2]
        assert process.poll() is None, told
    raise AssertionError(f"the UI did not come: {told}")


@pytest.mark.long
@pytest.mark.parametrize("how", ["SIGTERM", "a child dies"])
def test_dev_serves_the_demo_and_ends_with_all_its_children(how: str, tmp_path: Path) -> None:
    arguments = ("dev", "--demo", "--home", str(tmp_path / "home"))
    with started(*arguments, environment={"LEADSCRUB_ENV_FILE": ""}) as process:
        url = wait_for_ui(process)
        with urllib.request.urlopen(f"{url}/server_info", timeout=10) as answer:
            assert "dagster_version" in json.load(answer)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        if how == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            (daemon,) = running(family, "dagster-daemon")
            daemon.kill()
        _, err = process.communicate(timeout=90)
    assert process.returncode == (0 if how == "SIGTERM" else 1), err
    assert ("ended by itself" in err) == (how != "SIGTERM")
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
