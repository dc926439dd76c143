"""What a history left behind, read as it lies on disk: ledger, tables and bill. Judging it stands in checker.py.

Read with the plain drivers and not through the product, which may be wrong about itself.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import duckdb

from leadscrub_pipeline.simulators import BillEntry
from leadscrub_pipeline_tests.histories.cast import Oracle, Somebody
from leadscrub_pipeline_tests.histories.world import KnownList, Ran, World

TABLES: Final = {
    "RAW_LEADS": "LEADSCRUB",
    "ENRICHED_CONTACTS": "LEADSCRUB",
    "SLICES": "LEADSCRUB",
    "PERSON_CACHE": "LEADSCRUB",
    "PUBLISHED_IDENTITIES": "LEADSCRUB",
    "PHONE_VERDICTS": "LEADSCRUB",
    "SCRUB_EVIDENCE": "LEADSCRUB",
    "MASTER_PROCESSED_DB": "PUBLIC",
}

Fact = dict[str, Any]


@dataclass
class Books:
    """Everything the checker looks at. Lookups are in the order in which they were claimed."""

    lookups: list[Fact]
    budgets: dict[str, Fact]
    chains: list[Fact]
    tables: dict[str, list[Fact]]
    bill: list[BillEntry]
    asked: dict[str, tuple[str | None, ...]]
    """Who was asked about under which id, as it came over the wire."""
    runs: list[Ran]
    settled: Ran | None
    """The undisturbed run over everybody, where the history ended with one."""
    """The undisturbed run over everybody; it is in ``runs``, too."""
    people: tuple[Somebody, ...]
    phones: dict[Somebody, frozenset[str]]
    litigators: frozenset[str]
    lists: Mapping[str, KnownList]
    oracle: Oracle
    clocks_differed: bool
    """A clock was set back, or two runs at once had different ones."""

    @property
    def master(self) -> list[Fact]:
        return self.tables["MASTER_PROCESSED_DB"]

    @property
    def evidence(self) -> list[Fact]:
        return self.tables["SCRUB_EVIDENCE"]

    @property
    def dead(self) -> set[str]:
        """Runs that were killed: nobody but the next run can seal what they wrote last."""
        return {ran.run_id for ran in self.runs if ran.report.killed}

    @property
    def slack(self) -> timedelta:
        """How far a time written earlier may lie after one written later."""
        return timedelta(hours=3) if self.clocks_differed else timedelta(0)

    def row_of(self, lookup_id: str) -> Fact | None:
        return next((row for row in self.lookups if row["lookup_id"] == lookup_id), None)

    def person_of_lookup(self, row: Fact) -> Somebody | None:
        """None for a request that never reached the vendor."""
        asked = self.asked.get(row["lookup_id"])
        return None if asked is None else self.oracle.whose(asked)

    def person_of_row(self, row: Fact) -> Somebody | None:
        return self.oracle.whose(
            [row[name] for name in ("first_name", "last_name", "address", "city", "state", "zip_code")]
        )

    def run(self, run_id: str) -> Ran | None:
        return next((ran for ran in self.runs if ran.run_id == run_id), None)


def read_books(world: World) -> Books:
    idicore = world.idicore
    phones = {
        somebody: frozenset(phone.digits for phone in idicore.contact_of(_person(somebody)).phones)
        for somebody in world.history.people
    }
    lookups, budgets, chains = _read_ledger(world)
    tables = _read_warehouse(world)
    checked = {row["phone"] for row in tables["SCRUB_EVIDENCE"]}
    return Books(
        lookups=lookups,
        budgets=budgets,
        chains=chains,
        tables=tables,
        bill=idicore.bill.entries(),
        asked=dict(idicore.asked),
        runs=list(world.runs),
        settled=world.settled,
        people=world.history.people,
        phones=phones,
        litigators=frozenset(phone for phone in checked if world.simulators.ccc.is_litigator(phone)),
        lists=world.lists,
        oracle=world.oracle,
        clocks_differed=world.stepped_back or any(ran.scrub.skew for ran in world.runs),
    )


def _person(somebody: Somebody) -> Any:
    from leadscrub_pipeline.domain.people import Person  # noqa: PLC0415 - the simulator's word, and only here

    return Person(*somebody.plain())


def _read_ledger(world: World) -> tuple[list[Fact], dict[str, Fact], list[Fact]]:
    with closing(sqlite3.connect(world.home / "ledger.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        lookups = [dict(row) for row in connection.execute("SELECT rowid, * FROM ledger_lookups ORDER BY rowid")]
        budgets = {row["scope"]: dict(row) for row in connection.execute("SELECT * FROM ledger_budgets")}
        chains = [dict(row) for row in connection.execute("SELECT * FROM ledger_chains")]
    return lookups, budgets, chains


def has_tables(world: World) -> bool:
    """Whether any run came so far as to make the warehouse's tables."""
    path = world.home / "warehouse.duckdb"
    if not path.exists():
        return False
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT COUNT(*) FROM duckdb_tables() WHERE schema_name = 'LEADSCRUB'").fetchone()
    return found is not None and found[0] > 0


def _read_warehouse(world: World) -> dict[str, list[Fact]]:
    tables: dict[str, list[Fact]] = {}
    with duckdb.connect(str(world.home / "warehouse.duckdb"), read_only=True) as connection:
        for name, schema in TABLES.items():
            result = connection.execute(f"SELECT * FROM {schema}.{name}")
            names = [column[0].lower() for column in result.description or ()]
            tables[name] = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    for row in tables["MASTER_PROCESSED_DB"]:
        row["additional_data"] = json.loads(row["additional_data"])
    return tables
