"""The engines that must keep the warehouse's contract, each made empty for the tests of ``test_warehouse_contract.py``.

DuckDB in a file, Snowflake's connector over HTTP against the server of ``snowflake_server.py``, and
with ``-m live`` a real account: one that is for tests only, whose warehouse is stamped demo.
"""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.domain.scripts import LeadScript, read_script
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.warehouse.preparation import apply, pending_changes
from leadscrub_pipeline_tests import live
from leadscrub_pipeline_tests.snowflake_server import Account

DEMO = {
    "IDICORE_AUTH_URL": "http://127.0.0.1:9/auth",
    "IDICORE_SEARCH_URL": "http://127.0.0.1:9/search",
    "CCC_API_URL": "http://127.0.0.1:9/ccc",
}


@dataclass
class Engine:
    """A backend with its tables made, and a way to bring source tables into it."""

    name: str
    folder: Path
    environment: Mapping[str, str]
    account: Account | None = None

    def open(self) -> Any:
        """The warehouse as another process would have it."""
        given: dict[str, Any] = {name.lower(): value for name, value in self.environment.items()}
        return open_warehouse(Settings(_env_file=None, **given))

    @property
    def is_snowflake(self) -> bool:
        return self.name != "duckdb"

    def migrate(self) -> None:
        """Make the tables; the embedded engine makes its own."""
        if self.is_snowflake:
            warehouse = self.open()
            with warehouse.session(prepared=False) as session:
                apply(session, warehouse.dialect, pending_changes(session, warehouse.dialect), kind="demo")
            warehouse.close()

    def add_source(self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[object]]) -> str:
        """A source table of made-up rows; ``columns`` are Snowflake's types by name. Returns its full name."""
        full_name = f"{'PROCESSED_DATA_DB' if self.name == 'live' else 'LEADS_DB'}.PUBLIC.{table}"
        if not self.is_snowflake:
            path = self.folder / "sources" / "LEADS_DB" / "PUBLIC" / f"{table}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([list(columns), *rows])
            return full_name
        with self.open().session() as session:
            body = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
            session.execute(f"CREATE OR REPLACE TABLE {full_name} ({body})")
            if self.name == "live":
                reader = self.environment["SNOWFLAKE_READER_ROLE"]
                session.execute(f"GRANT USAGE ON SCHEMA PROCESSED_DATA_DB.PUBLIC TO ROLE {reader}")
                session.execute(f"GRANT SELECT ON TABLE {full_name} TO ROLE {reader}")
            for row in rows:
                session.execute(f"INSERT INTO {full_name} VALUES ({', '.join('?' for _ in row)})", row)
        return full_name

    def script(self, sql: str, key: str = "leads") -> LeadScript:
        path = self.folder / f"{key}.sql"
        path.write_text(f"-- title: {key}\n{sql}\n", encoding="utf-8")
        return read_script(path)


@contextmanager
def engine(name: str, folder: Path, port: Callable[[], int]) -> Iterator[Engine]:
    """An engine by its name: duckdb, snowflake or live. ``port`` gives that of the server, and starts it."""
    environment = dict(DEMO)
    account = None
    match name:
        case "duckdb":
            environment |= {"LEADSCRUB_HOME": str(folder / "home"), "LEADSCRUB_SOURCES": str(folder / "sources")}
            (folder / "sources").mkdir(parents=True, exist_ok=True)
        case "snowflake":
            account = Account(port())
            environment |= account.environment()
        case "live":
            if "SNOWFLAKE_ACCOUNT" not in live.SETTINGS:
                pytest.skip("SNOWFLAKE_* is not set")
            environment |= live.SETTINGS
            environment |= {"LEADSCRUB_WAREHOUSE": "snowflake", "LEADSCRUB_ALLOWED_DATABASES": "PROCESSED_DATA_DB"}
    made = Engine(name, folder, environment, account)
    made.migrate()
    yield made


@contextmanager
def elsewhere(zone: str) -> Iterator[None]:
    """This process in another time zone."""
    import time  # noqa: PLC0415 - only here

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TZ", zone)
        time.tzset()
        yield
    time.tzset()
