"""A deployment in a temporary folder, used through the command line: what the tests of the commands are written in."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from typer.testing import CliRunner

from leadscrub_pipeline.cli.app import app
from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.simulators import Simulators
from leadscrub_pipeline.simulators.leads import make_leads_table
from leadscrub_pipeline.simulators.registry import make_registry
from leadscrub_pipeline.warehouse.protocol import Warehouse

PROGRAM = str(Path(sys.executable).with_name("leadscrub"))
LEADS = 30


@dataclass
class Ended:
    """One command: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def objects(self) -> list[dict[str, Any]]:
        """One a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Deployment:
    """Scripts, a source table, a registry file and simulators, with a home of its own."""

    folder: Path
    simulators: Simulators
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def scripts(self) -> Path:
        return self.folder / "scripts"

    @property
    def billed(self) -> int:
        return len(self.simulators.idicore.bill)

    def command(self, *arguments: str, **settings: str) -> Ended:
        """A command in this process, without the seconds that loading Dagster takes."""
        result = CliRunner().invoke(app, arguments, env=self.environment | settings)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    def start(self, *arguments: str, **settings: str) -> AbstractContextManager[subprocess.Popen[str]]:
        return started(*arguments, environment=self.environment | settings)

    def struck(
        self, strike: str, point: str, at: int, *arguments: str
    ) -> AbstractContextManager[subprocess.Popen[str]]:
        """A command in a process of its own that gets a signal, such as SIGKILL, when a point is reached."""
        program = [sys.executable, "-m", "leadscrub_pipeline_tests.armed", strike, point, str(at)]
        return started(*arguments, environment=self.environment, program=program)

    def write_script(self, key: str, sql: str = "SELECT * FROM LEADS_DB.PUBLIC.LEADS") -> Path:
        path = self.scripts / f"{key}.sql"
        path.write_text(f"-- title: {key.title()}\n{sql}\n", encoding="utf-8")
        return path

    def warehouse(self) -> Warehouse:
        """As a process with the deployment's settings would have it."""
        given: dict[str, Any] = {name.lower(): value for name, value in self.environment.items()}
        return open_warehouse(Settings(_env_file=None, **given))

    def ledger(self) -> Ledger:
        return Ledger.open(self.home / "ledger.sqlite", kind="demo")

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(self.home / "dagster"))
            with dg.DagsterInstance.get() as instance:
                yield instance


@contextmanager
def started(
    *arguments: str, environment: Mapping[str, str], program: Sequence[str] = (PROGRAM,)
) -> Iterator[subprocess.Popen[str]]:
    """The installed command in a process of its own, which ends with the block at the latest, and all it started."""
    outer = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    process = subprocess.Popen(
        [*program, *arguments],
        env=outer | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            left: list[psutil.Process] = []
            if process.poll() is None:
                left = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()


def running(processes: Iterable[psutil.Process], program: str) -> list[psutil.Process]:
    """Those that run the program; one that has ended since it was found is none of them."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if program in " ".join(process.cmdline()[:2]):
                found.append(process)
    return found


@contextmanager
def deployment_in(folder: Path, *, latency: float = 0.0, leads: int = LEADS) -> Iterator[Deployment]:
    """A deployment with the script ``leads`` over so many different people, all of them usable."""
    with Simulators(latency=latency) as simulators:
        made = Deployment(folder, simulators)
        made.environment = {
            **simulators.environment(),
            "LEADSCRUB_ENV_FILE": "",
            "LEADSCRUB_HOME": str(made.home),
            "LEADSCRUB_SCRIPTS": str(made.scripts),
            "LEADSCRUB_SOURCES": str(folder / "sources"),
            "DNC_DATABASE_PATH": str(folder / "dnc.sqlite"),
            "DNC_LIST_DATE": (datetime.now(UTC) - timedelta(days=3)).date().isoformat(),
            "NTFY_ENABLED": "false",
        }
        made.scripts.mkdir(parents=True)
        make_leads_table(folder / "sources" / "LEADS_DB" / "PUBLIC" / "LEADS.csv", leads=leads)
        make_registry(folder / "dnc.sqlite")
        made.write_script("leads")
        yield made
