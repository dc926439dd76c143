"""``leadscrub dev``: Dagster's webserver and daemon as children of this process, and the simulators for the demo.

All end together: by Ctrl-C or SIGTERM, or when one of them dies. With ``--postgres`` the demo
runs on a PostgreSQL of its own (postgres.py), which is one of them.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer

from leadscrub_pipeline.cli.demo_home import DEMO_HOME, demo_deployment
from leadscrub_pipeline.cli.instance import STORAGE_URL, dagster_environment, open_instance
from leadscrub_pipeline.cli.interrupts import sigterm_as_interrupt
from leadscrub_pipeline.cli.output import FINDINGS, err, note
from leadscrub_pipeline.cli.postgres import USER, PostgresServer
from leadscrub_pipeline.cli.project import project_path
from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.ledger.sealing import make_or_read_key_file
from leadscrub_pipeline.settings import Settings, load_settings

HOST: Final = "127.0.0.1"
USUAL_PORT: Final = 3000
POSTGRES_HOME: Final = Path(".leadscrub/postgres")
"""Not the other demo's: a ledger on a server and one in a file do not know of each other's paid answers."""

_START_SECONDS: Final = 120
_UI_TRIES: Final = 3
"""Other deployments may take the free port while the webserver loads."""
_STOP_SECONDS: Final = 45
"""Longer than a request to a vendor may take: a run that is ended lets its requests end."""


@dataclass(frozen=True, slots=True)
class Child:
    name: str
    process: subprocess.Popen[bytes]


def dev(
    *,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the UI. Default: 3000, or a free one if it is taken.")
    ] = None,
    demo: Annotated[
        bool | None,
        typer.Option(
            "--demo/--live", help="Demo data and simulated vendors, or your own. Default: your own once they are set."
        ),
    ] = None,
    postgres: Annotated[
        bool,
        typer.Option(
            "--postgres", help="The demo on a PostgreSQL that is started for it: Dagster's storage and the ledger."
        ),
    ] = False,
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help=f"The demo's own folder for its state. Default: {DEMO_HOME}, with --postgres {POSTGRES_HOME}.",
        ),
    ] = None,
) -> None:
    """Serve Dagster's UI on this machine, with the daemon that launches queued runs and backfills."""
    if postgres and demo is False:
        raise UsageError(
            f"--postgres starts a server for the demo only. For your own set {STORAGE_URL} and LEADSCRUB_LEDGER_URL."
        )
    with sigterm_as_interrupt(), ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        try:
            try:
                _serve(stack, port=port, demo=demo or postgres or None, postgres=postgres, home=home)
            finally:
                # A second Ctrl-C while all of it is ended would leave some of it running.
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
        except KeyboardInterrupt:
            note("Stopping.")


def _serve(stack: ExitStack, *, port: int | None, demo: bool | None, postgres: bool, home: Path | None) -> None:
    if demo is None:
        demo = load_settings().idicore_client_id is None
        if demo:
            note("No vendor is configured (IDICORE_CLIENT_ID), so this is the demo with simulated vendors.")
    server = None
    if postgres:
        folder = home or POSTGRES_HOME
        server = stack.enter_context(_started_postgres(folder))
        stack.enter_context(demo_deployment(folder / "demo", serve=True, more=_settings_on(server, folder)))
    elif demo:
        stack.enter_context(demo_deployment(home or DEMO_HOME, serve=True))
    settings = load_settings()
    with open_instance(settings):
        pass
    children = stack.enter_context(_children())
    children.append(_daemon(settings))
    others = [] if server is None else [Child("postgres", server.process)]
    chosen = _start_ui(children, settings, port, others)
    if server is not None:
        _tell_of(server)
    err.print(f"Dagster's UI: [bold]http://{HOST}:{chosen}[/] (Ctrl-C ends it)", highlight=False)
    _wait_for_an_end([*children, *others])


@contextmanager
def _started_postgres(home: Path) -> Iterator[PostgresServer]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    note("Starting PostgreSQL.")
    with PostgresServer(home / "server") as server:
        server.make_databases("dagster", "ledger")
        yield server


def _settings_on(server: PostgresServer, home: Path) -> dict[str, str]:
    """A ledger in a file makes its key beside it; one on a server is given it."""
    return {
        STORAGE_URL: server.url("dagster"),
        "LEADSCRUB_LEDGER_URL": server.url("ledger"),
        "LEADSCRUB_ANSWER_KEY": make_or_read_key_file(home / "answers.key"),
    }


def _tell_of(server: PostgresServer) -> None:
    lines = {
        "PostgreSQL:": f"{HOST}:{server.port}, user {USER}, databases dagster (runs, events, schedules) and ledger",
        "Its password:": f"in {server.password_file} (0600)",
        "Its log:": str(server.log_file),
        "Commands on it:": f"export LEADSCRUB_ENV_FILE={server.folder.with_name('demo') / 'settings.env'}",
    }
    for what, where in lines.items():
        err.print(f"{what:<16}{where}", highlight=False, soft_wrap=True, markup=False)


def _free_port(wanted: int | None) -> int:
    """Raises UnavailableError when the port that was asked for is taken."""
    for port in (wanted or USUAL_PORT, 0):
        if found := _bound(port):
            return found
        if wanted is not None:
            raise UnavailableError(f"Port {wanted} is taken. Choose another one with --port.")
        note(f"Port {port} is taken; using a free one.")
    raise UnavailableError("No port is free on this machine.")


def _bound(port: int) -> int | None:
    """The port that could be listened on, any for 0; None when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return None
        found: int = probe.getsockname()[1]
        return found


@contextmanager
def _children() -> Iterator[list[Child]]:
    """What is put into the list ends with the block."""
    children: list[Child] = []
    try:
        yield children
    finally:
        _stop(children)


def _daemon(settings: Settings) -> Child:
    # A new instance has no cursors yet, and the daemon warns of each.
    level = "debug" if settings.log_level == "DEBUG" else "error"
    return _started(settings, "dagster-daemon", "run", "--log-level", level)


def _webserver(settings: Settings, port: int) -> Child:
    quiet = _quiet(settings)
    return _started(
        settings, "dagster-webserver", "--host", HOST, "--port", str(port),
        "--log-level", "warning", "--dagster-log-level", quiet, "--suppress-warnings",
    )  # fmt: skip


def _started(settings: Settings, name: str, *arguments: str) -> Child:
    workspace = str(project_path("workspace.yaml"))
    process = subprocess.Popen(  # noqa: S603 - our own programs and constant arguments
        [
            Path(sys.executable).with_name(name),
            *arguments,
            *("--workspace", workspace, "--code-server-log-level", _quiet(settings)),
        ],
        env=os.environ | dagster_environment(settings) | {"PYTHONWARNINGS": "ignore"},
        umask=0o077,
        stdin=subprocess.DEVNULL,
        # Ctrl-C reaches this process only: it ends its children in order, and they their runs.
        start_new_session=True,
    )
    return Child(name, process)


def _quiet(settings: Settings) -> str:
    return "debug" if settings.log_level == "DEBUG" else "warning"


def _start_ui(children: list[Child], settings: Settings, wanted: int | None, others: Sequence[Child]) -> int:
    """The port on which our own webserver answers.

    It takes its seconds to load, in which another deployment may take the port that was free, and may have given it
    back by the time ours has ended of it: so it is started again whoever has the port now.

    Raises:
        UnavailableError: it ended each time, or the port that was asked for is taken.
    """
    watched = [*children, *others]
    for _ in range(_UI_TRIES):
        port = _free_port(wanted)
        webserver = _webserver(settings, port)
        children.append(webserver)
        if _comes_to_listen(webserver, port, watched):
            return port
        children.remove(webserver)
    raise UnavailableError(f"{webserver.name} ended {_UI_TRIES} times before it answered. What it said stands above.")


def _comes_to_listen(webserver: Child, port: int, others: Sequence[Child]) -> bool:
    """False when it has ended before."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        _require_alive(others)
        if webserver.process.poll() is not None:
            return False
        if _listens(webserver, port):
            return True
        time.sleep(0.25)
    note(f"The UI has not answered within {_START_SECONDS} seconds; still waiting for it.")
    return True


def _listens(child: Child, port: int) -> bool:
    """Whether this process does: an answer on the port may be that of another deployment."""
    try:
        found = psutil.Process(child.process.pid).net_connections(kind="tcp")
    except psutil.Error:  # it has just ended
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)


def _wait_for_an_end(children: Sequence[Child]) -> None:
    while True:
        _require_alive(children)
        time.sleep(0.5)


def _require_alive(children: Sequence[Child]) -> None:
    for child in children:
        code = child.process.poll()
        if code is not None:
            err.print(f"[bold red]error:[/] {child.name} ended by itself with code {code}; stopping the rest.")
            raise typer.Exit(FINDINGS)


def _stop(children: Sequence[Child]) -> None:
    """End the children and whatever they started, and wait for all of it."""
    started: list[psutil.Process] = []
    for child in children:
        try:
            started += psutil.Process(child.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            continue
    for child in children:
        if child.process.poll() is None:
            child.process.terminate()
    mine = [psutil.Process(child.process.pid) for child in children if child.process.poll() is None]
    _, left = psutil.wait_procs([*mine, *started], timeout=_STOP_SECONDS / 3)
    for process in left:
        _signal(process, "terminate")
    _, left = psutil.wait_procs(left, timeout=_STOP_SECONDS)
    for process in left:
        _signal(process, "kill")
    for child in children:
        child.process.wait()


def _signal(process: psutil.Process, how: str) -> None:
    try:
        getattr(process, how)()
    except psutil.NoSuchProcess:
        return
