"""The PostgreSQL that ``leadscrub dev --postgres`` starts, and what of it a person sees."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import yaml
from sqlalchemy import make_url
from typer.testing import CliRunner

from leadscrub_pipeline.cli.app import app
from leadscrub_pipeline.cli.instance import place_config
from leadscrub_pipeline.cli.postgres import PostgresServer
from leadscrub_pipeline.cli.project import project_path
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline_tests.cli_deployment import running, started
from leadscrub_pipeline_tests.postgres_server import crash, postgres_server, settings_on

_LEAVE_RUNNING = """
import os, sys
from pathlib import Path
from leadscrub_pipeline.cli.postgres import PostgresServer
server = PostgresServer(Path(sys.argv[1])).__enter__()
print(server.process.pid, flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def ask(server: PostgresServer, sql: str, database: str = "ledger") -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(server.url(database))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_its_password_is_in_a_private_file_and_nowhere_to_be_seen(server: PostgresServer) -> None:
    password = server.password_file.read_text()
    assert len(password) >= 24
    assert server.password_file.stat().st_mode & 0o777 == 0o600
    assert server.log_file.stat().st_mode & 0o777 == 0o600
    assert password not in server.log_file.read_text()
    assert password not in " ".join(psutil.Process(server.process.pid).cmdline())
    assert not list(server.folder.glob("password.*"))


def test_nobody_comes_in_without_the_password_and_only_from_this_machine(server: PostgresServer) -> None:
    wrong = make_url(server.url("ledger")).set(password="wrong").render_as_string(hide_password=False)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(wrong)
    assert ask(server, "SHOW listen_addresses") == [("127.0.0.1",)]
    assert {kind.laddr.ip for kind in psutil.Process(server.process.pid).net_connections() if kind.laddr} == {
        "127.0.0.1"
    }


def test_two_do_not_run_one_folder(server: PostgresServer) -> None:
    with pytest.raises(UnavailableError, match="Another leadscrub"), PostgresServer(server.folder):
        pass
    assert ask(server, "SELECT 1") == [(1,)]


def test_what_was_committed_is_there_after_kill_9_and_a_new_start(server: PostgresServer) -> None:
    ask(server, "CREATE TABLE kept (value int); INSERT INTO kept VALUES (7)")
    for _ in range(3):
        crash(server)
        server.start()
        assert ask(server, "SELECT value FROM kept") == [(7,)]


def test_one_that_a_killed_leadscrub_left_running_is_ended_and_its_data_kept(server: PostgresServer) -> None:
    folder = server.folder.parent / "left"
    ended = subprocess.run(
        [sys.executable, "-c", _LEAVE_RUNNING, folder], capture_output=True, text=True, check=True, timeout=120
    )
    left = psutil.Process(int(ended.stdout))
    family = [left, *left.children(recursive=True)]
    with PostgresServer(folder) as again:
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []
        mine = psutil.Process(again.process.pid)
        family = [mine, *mine.children(recursive=True)]
        assert len(family) > 3
    _, alive = psutil.wait_procs(family, timeout=0)
    assert alive == [], "stopping leaves nothing running"
    again.password_file.unlink()
    with pytest.raises(UnavailableError, match="password is gone"), again:
        pass


def test_the_instance_on_postgresql_differs_in_its_storage_only(tmp_path: Path) -> None:
    ours = yaml.safe_load(project_path("dagster.yaml").read_text())
    theirs = yaml.safe_load(project_path("deploy/dagster.yaml").read_text())
    assert theirs.pop("storage") == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    assert theirs == ours
    placed = tmp_path / "dagster.yaml"
    for on_postgres in (False, True, False):
        place_config(tmp_path, on_postgres=on_postgres)
        assert ("postgres" in yaml.safe_load(placed.read_text()).get("storage", {})) == on_postgres
    placed.write_text("telemetry: {enabled: false}\n")
    place_config(tmp_path, on_postgres=True)
    assert placed.read_text() == "telemetry: {enabled: false}\n", "an edited one stays"


def test_a_server_that_is_not_there_is_named_by_its_setting_and_the_password_is_not_shown(
    server: PostgresServer, tmp_path: Path
) -> None:
    gone = make_url(server.url("dagster")).set(port=1).render_as_string(hide_password=False)
    environment = {
        **settings_on(server),
        "DAGSTER_POSTGRES_URL": gone,
        "LEADSCRUB_ENV_FILE": "",
        "LEADSCRUB_HOME": str(tmp_path / "home"),
        "LEADSCRUB_SCRIPTS": str(project_path("sql/leads")),
    }
    result = CliRunner().invoke(app, ["run", "--all"], env=environment)
    assert result.exit_code == 3, result.output
    assert "DAGSTER_POSTGRES_URL" in result.output
    assert server.password_file.read_text() not in result.output


@pytest.mark.long
@pytest.mark.parametrize("how", ["Ctrl-C twice", "the server dies"])
def test_dev_shows_the_demo_on_postgresql_and_leaves_nothing_running(how: str) -> None:
    # Not under tmp_path, which the server's account may not enter when we are root.
    home = Path(tempfile.mkdtemp(prefix="leadscrub-pg-"))
    with started("dev", "--postgres", "--home", str(home), environment={"LEADSCRUB_ENV_FILE": ""}) as process:
        assert process.stderr is not None
        told = []
        while "Dagster's UI: " not in "".join(told[-1:]):
            told.append(process.stderr.readline())
            assert process.poll() is None, told
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(running(family, "postgres: ")) > 3
        environment = {"LEADSCRUB_ENV_FILE": str(home / "demo/settings.env")}
        result = CliRunner().invoke(app, ["run", "recent_inquiries", "--row-limit", "5", "--json"], env=environment)
        assert result.exit_code == 0, result.output
        if how == "Ctrl-C twice":
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
        else:
            (server,) = running(psutil.Process(process.pid).children(), "bin/postgres")
            server.kill()
        told.append(process.communicate(timeout=180)[1])
    assert process.returncode == (0 if how == "Ctrl-C twice" else 1), told
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    password = (home / "server/password").read_text()
    assert str(home / "server/password") in "".join(told)
    assert password not in "".join(told) + (home / "server/server.log").read_text()
    shutil.rmtree(home)


def test_a_server_of_its_own_is_for_the_demo_only() -> None:
    result = CliRunner().invoke(app, ["dev", "--live", "--postgres"])
    assert result.exit_code == 2
    assert "LEADSCRUB_LEDGER_URL" in result.output
