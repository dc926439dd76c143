"""The command line called in this process: exit code, standard output and standard error."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from leadscrub_pipeline.cli.app import app

NOBODY_LISTENS = "http://127.0.0.1:9"


class Answer(NamedTuple):
    code: int
    out: str
    err: str
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def leadscrub(*arguments: object, stdin: str | bytes | None = None) -> Answer:
    """Run one command. What no command foresaw is raised here, as a test's failure."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)


def demo_settings(monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: object) -> dict[str, str]:
    """The settings of a demo in this folder whose vendors do not answer, and further ones."""
    environment = {
        "LEADSCRUB_ENV_FILE": "",
        "LEADSCRUB_HOME": str(folder / "home"),
        "LEADSCRUB_SCRIPTS": str(folder / "scripts"),
        "IDICORE_AUTH_URL": f"{NOBODY_LISTENS}/apiclient",
        "IDICORE_SEARCH_URL": f"{NOBODY_LISTENS}/search",
        "CCC_API_URL": f"{NOBODY_LISTENS}/scrub",
        "COLUMNS": "300",
        **{name: str(value) for name, value in settings.items()},
    }
    (folder / "scripts").mkdir(exist_ok=True)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment
