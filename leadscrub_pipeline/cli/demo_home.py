"""The demo's home: source tables, registry file, settings and simulated vendors, for ``demo`` and ``dev``.

One process at a time serves the simulators of a home; others use what it serves. The bill is
a file there, so that it adds up over all of them.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from leadscrub_pipeline.cli.env_example import env_text
from leadscrub_pipeline.cli.output import note
from leadscrub_pipeline.cli.project import project_path
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.simulators import Simulators
from leadscrub_pipeline.simulators.leads import make_demo_sources
from leadscrub_pipeline.simulators.registry import make_registry

DEMO_HOME: Final = Path(".leadscrub/demo")
SEED: Final = 1

_WAIT_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class DemoHome:
    folder: Path

    @property
    def bill(self) -> Path:
        return self.folder / "bill.jsonl"

    @property
    def settings_file(self) -> Path:
        return self.folder / "settings.env"

    @property
    def sources(self) -> Path:
        return self.folder / "sources"

    @property
    def registry(self) -> Path:
        return self.folder / "dnc.sqlite"


@contextmanager
def demo_deployment(folder: Path, *, serve: bool = False, more: Mapping[str, str] | None = None) -> Iterator[DemoHome]:
    """Point this process and its children at the demo in ``folder``, with its simulators running.

    With ``serve`` it waits until no other process serves them, because it must not lose
    them when that one ends. ``more`` are settings on top of the demo's own.

    Raises:
        UnavailableError: the folder cannot be written, or another process keeps the simulators.
    """
    home = DemoHome(folder.absolute())
    with ExitStack() as stack:
        try:
            home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = stack.enter_context((home.folder / "simulators.lock").open("w"))
            if _take(lock, wait=serve):
                _make_data(home)
                simulators = stack.enter_context(Simulators(seed=SEED, bill_path=home.bill))
                _write_settings(home, {**simulators.environment(), **(more or {})})
        except OSError as error:
            raise UnavailableError(
                f"The demo's home {home.folder} cannot be written ({type(error).__name__})."
            ) from None
        stack.enter_context(_only_settings_of(home.settings_file))
        yield home


def _take(lock: IO[str], *, wait: bool) -> bool:
    """Whether this process is to serve the simulators."""
    deadline = time.monotonic() + _WAIT_SECONDS
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                return False
        else:
            return True
        if time.monotonic() > deadline:
            raise UnavailableError("Another leadscrub serves this demo. End it, or use another --home.")
        if not told:
            note("Waiting for another leadscrub to end that serves this demo.")
            told = True
        time.sleep(0.2)


def _make_data(home: DemoHome) -> None:
    """Tables and registry, once; the same seed makes the same."""
    made = home.folder / "data.made"
    if not made.exists():
        make_demo_sources(home.sources, seed=SEED)
        make_registry(home.registry, seed=SEED)
        made.touch(mode=0o600)


def _write_settings(home: DemoHome, vendors: Mapping[str, str]) -> None:
    """Every setting, the unset ones too: the file wins over the environment only where it says something."""
    own = {
        **vendors,
        "LEADSCRUB_HOME": str(home.folder),
        "LEADSCRUB_SCRIPTS": str(project_path("sql/leads")),
        "LEADSCRUB_SOURCES": str(home.sources),
        "LEADSCRUB_KIND": "demo",
        "DNC_DATABASE_PATH": str(home.registry),
        # The file does not say when it was obtained; the demo's list is always today's.
        "DNC_LIST_DATE": datetime.now(UTC).date().isoformat(),
    }
    defaults = {name.upper(): env_text(field.default) or "" for name, field in Settings.model_fields.items()}
    lines = ["# Written anew by every leadscrub demo and leadscrub dev. Use it: LEADSCRUB_ENV_FILE=<this file>\n"]
    lines += [f"{name}={_quoted(value)}\n" for name, value in {**defaults, **own}.items()]
    beside = home.settings_file.with_suffix(".new")
    beside.touch(mode=0o600)
    beside.write_text("".join(lines), encoding="utf-8")
    beside.replace(home.settings_file)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@contextmanager
def _only_settings_of(file: Path) -> Iterator[None]:
    """Take this process's own settings out of its environment, so that none reaches the demo."""
    before = dict(os.environ)
    for name in before:
        if name.lower() in Settings.model_fields:
            del os.environ[name]
    os.environ["LEADSCRUB_ENV_FILE"] = str(file)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
