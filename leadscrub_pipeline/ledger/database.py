"""One database behind the ledger: connections, transactions, and errors without values in them.

SQLite allows one writing transaction at a time. PostgreSQL is held to the same by an
advisory lock, so that one way of reasoning about claims is right for both.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from leadscrub_pipeline import interrupts
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.interrupts import deferred

_log = logging.getLogger(__name__)

LOCK_SECONDS: Final = 30
CACHE_KIB: Final = 16_384
CHECKPOINT_PAGES: Final = 8_000
DATABASE_ERRORS: Final = (SQLAlchemyError, sqlite3.Error)
"""What a statement, and setting up a new connection, may raise."""

CLOCK_SECONDS: Final = 5
AWAY_PAUSE_SECONDS: Final = 0.5
AWAY_SECONDS: Final = 300.0
"""How long a server that answered before is waited for: a restart takes seconds, a failover up to a few minutes, and
what waits to be written may be answers that are paid for."""
_AWAY_STATES: Final = ("08", "57P")
"""SQLSTATEs of lost connections, and of a server that shuts down, crashed or is not up yet."""
_POSTGRESQL_OPTIONS: Final = " ".join(
    f"-c {option}"
    for option in (
        f"lock_timeout={LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout=60s",  # a client that vanished must not keep the writers' lock
        "synchronous_commit=on",
        "default_transaction_isolation=read\\ committed",  # after the lock, a statement sees what others committed
    )
)
_ADVISORY_LOCK: Final = 7_305_122_026  # any constant; all ledgers' writers in one database share it
_WRITES: Final = "leadscrub_writes"


@contextmanager
def database_errors(doing: str) -> Iterator[None]:
    """Turn the database's errors into UnavailableError with type and code only; engines quote values in theirs."""
    try:
        yield
    except DATABASE_ERRORS as error:
        code = error_code(error)
        raise UnavailableError(
            f"The ledger's database failed while {doing} ({code}). Nothing of this step was written; "
            "see that it is reachable and its disk is not full, then run again."
        ) from None


def error_code(error: SQLAlchemyError | sqlite3.Error) -> str:
    """Type and code of a database error, never its text."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(origin, "sqlite_errorname", None) or getattr(origin, "pgcode", None)
    name = type(origin).__name__
    return f"{name} {code}" if code else name


def is_away(error: SQLAlchemyError | sqlite3.Error) -> bool:
    """Whether the server, and not what was asked of it, is the matter; never so for a file."""
    if not isinstance(error, DBAPIError) or isinstance(error.orig, sqlite3.Error):
        return False
    state = getattr(error.orig, "pgcode", None)
    if state is not None:
        return bool(state.startswith(_AWAY_STATES))
    # A connection that cannot be made, or that broke, has no state.
    return error.connection_invalidated or type(error.orig).__name__ == "OperationalError"


class Database:
    """SQLite by path, PostgreSQL by URL. With ``create`` a file is made; ``read_only`` needs no right to write.

    Raises:
        UsageError: the URL is none, or of another engine.
        UnavailableError: the file or server cannot be used.
    """

    def __init__(self, where: str | Path, *, create: bool = False, read_only: bool = False) -> None:
        self.path, url = _locate(where)
        if self.path is not None and not read_only:
            _prepare_file(self.path, create=create)
        with database_errors("connecting"):
            self.engine = _engine(url, read_only=read_only)
        self._writing = self.engine.execution_options(**{_WRITES: True})
        # Waiting threads of this process queue here; SQLite's own wait sleeps up to 100 ms at a time.
        self._one_writer = threading.Lock()
        self._away_seconds = AWAY_SECONDS
        self._answered = False
        self._away_since: float | None = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with ExitStack() as stack:
            yield self._begun(stack, self.engine)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that no other writer of any process or host overlaps.

        An interrupt waits for its end: in the middle of it the lock would stay taken while
        the interrupt is handled, and whoever puts the ledger in order would wait for it.
        """
        with deferred(), ExitStack() as stack:
            yield self._begun(stack, self._writing, turn=self._one_writer)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One reading transaction that sees one moment, however long it lasts."""
        engine = self.engine
        if self.path is None:  # SQLite's reading transactions are snapshots anyway
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with ExitStack() as stack:
            yield self._begun(stack, engine)

    def _begun(
        self, stack: ExitStack, engine: Engine, *, turn: AbstractContextManager[object] | None = None
    ) -> Connection:
        """A connection in a transaction that ends with the stack.

        A server that is away is waited for, because nothing was asked of it yet; all threads
        wait for the same end of ``AWAY_SECONDS``, and for none when it never answered.
        """
        while True:
            try:
                with ExitStack() as beginning:
                    if turn is not None:
                        beginning.enter_context(turn)
                    connection = beginning.enter_context(engine.connect())
                    beginning.enter_context(connection.begin())
                    stack.push(beginning.pop_all())
            except DATABASE_ERRORS as error:
                if not self._answered or not is_away(error):
                    raise
                self._wait_for_server(error)
            else:
                self._answered, self._away_since = True, None
                return connection

    def _wait_for_server(self, error: SQLAlchemyError | sqlite3.Error) -> None:
        """Wait a moment, or raise the error when it is away for too long."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            _log.warning("ledger: its server is away (%s); waiting %d s at most", error_code(error), self._away_seconds)
        if now - self._away_since > self._away_seconds:
            raise error
        interrupts.sleep(AWAY_PAUSE_SECONDS)

    def on_connecting(self, statements: Sequence[str]) -> None:
        """Have every connection from now on begin with these statements."""

        def begin(connection: Any, _record: object) -> None:  # noqa: ANN401 - either driver's connection
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            cursor.close()
            connection.commit()

        event.listen(self.engine, "connect", begin)
        self.engine.dispose()

    def require_common_clock(self) -> None:
        """Leases compare the clocks of hosts: refuse to take part with one that differs from the server's.

        Raises:
            UnavailableError: the difference is more than ``CLOCK_SECONDS``.
        """
        if self.path is not None:
            return
        with database_errors("comparing clocks"), self.reading() as connection:
            theirs: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        difference = abs((utc_now() - theirs).total_seconds())
        if difference > CLOCK_SECONDS:
            raise UnavailableError(
                f"This host's clock and the ledger server's differ by {difference:.0f} s; at most {CLOCK_SECONDS} are "
                "safe, because a lease decides who may ask. Set the clocks, then run again."
            )

    def close(self) -> None:
        self.engine.dispose()


def _locate(where: str | Path) -> tuple[Path | None, URL]:
    if isinstance(where, Path) or "://" not in where:
        path = Path(where)
        return path, URL.create("sqlite+pysqlite", database=str(path))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):  # a port that is no number is a plain ValueError
        raise UsageError("LEADSCRUB_LEDGER_URL is no database URL; expected postgresql+psycopg2://...") from None
    if url.get_backend_name() != "postgresql":
        raise UsageError("LEADSCRUB_LEDGER_URL names an engine other than PostgreSQL; for SQLite leave it unset.")
    return None, url.set(drivername="postgresql+psycopg2")


def _prepare_file(path: Path, *, create: bool) -> None:
    """Folder 0700 when we make it, file 0600 before SQLite puts anything into it (its side files follow the file)."""
    try:
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Never opened when it is there: closing any handle on the file takes away the locks of all this process's
            # connections. Another process then took itself for the last one and deleted the WAL with what they wrote.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            if path.is_dir():
                raise IsADirectoryError
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise UnavailableError(
            f"The ledger file {path} cannot be made or opened ({type(error).__name__}). See LEADSCRUB_HOME."
        ) from None


def _engine(url: URL, *, read_only: bool) -> Engine:
    if url.get_backend_name() == "sqlite":
        if read_only and url.database is not None:
            path = quote(str(Path(url.database).absolute()))
            url = url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": LOCK_SECONDS})
        event.listen(engine, "connect", _let_transactions_be_begun if read_only else _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            executemany_mode="values_plus_batch",
            connect_args={
                "connect_timeout": 10,
                "application_name": "leadscrub-ledger",
                # A host that vanished sends no word; without these a write waits for it longer than a lease lasts.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 25_000,
                "options": " ".join([_POSTGRESQL_OPTIONS, *_as_words(url.query.get("options"))]),
            },
        )
        event.listen(engine, "begin", _begin_postgresql)
    return engine


def _as_words(option: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (option,) if isinstance(option, str) else option or ()


def _let_transactions_be_begun(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # they are begun by _begin_sqlite, not by the driver's guess


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    _let_transactions_be_begun(connection, record)
    deadline = time.monotonic() + LOCK_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError:  # two processes make the file at once: SQLite does not wait here by itself
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
            continue
        if mode != "wal":
            raise UnavailableError("The ledger's file system cannot hold a SQLite WAL. Use a local disk or PostgreSQL.")
    connection.execute("PRAGMA synchronous=FULL")
    # Person keys are spread over their whole index. With SQLite's own 2 MB and 4 MB nearly every lookup read its pages
    # anew, and wrote them to the file at nearly every commit.
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
