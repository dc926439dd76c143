"""Whoever changes evidence, verdicts or seals by hand, in one place and however well, is found out."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pytest

from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.steps.evidence_verification import Verification, verify
from leadscrub_pipeline.warehouse.duckdb import DuckdbSession, DuckdbWarehouse
from leadscrub_pipeline.warehouse.schema import DATABASE, PHONE_VERDICTS, SCRUB_EVIDENCE
from leadscrub_pipeline_tests.evidence_making import write_chains, write_earlier
from leadscrub_pipeline_tests.evidence_tampering import Tamperer
from leadscrub_pipeline_tests.published import make_warehouse
from leadscrub_pipeline_tests.tallies import tally

ROWS = (1, 2, 5, 40, 150)
PARTS = 4


class HeldWarehouse(DuckdbWarehouse):
    """A copy of evidence and verdicts in memory, on one connection: what is changed there can be rolled back."""

    def copy(self, real: DuckdbWarehouse) -> DuckdbSession:
        connection = duckdb.connect(":memory:", config={"threads": 1})
        connection.execute(f"ATTACH ':memory:' AS {DATABASE}")
        connection.execute(f"CREATE SCHEMA {DATABASE}.LEADSCRUB")
        with real.session() as session:
            for table in (SCRUB_EVIDENCE, PHONE_VERDICTS):
                rows = session.table(f"SELECT * FROM {table.full_name}")
                connection.register("rows", rows)
                connection.execute(f"CREATE TABLE {table.full_name} AS SELECT * FROM rows")
        self.held = DuckdbSession(connection, self)
        self.turn = threading.Lock()
        return self.held

    @contextmanager
    def session(self, *, scripts: bool = False) -> Iterator[DuckdbSession]:
        with self.turn:
            yield self.held


@dataclass
class Prepared:
    warehouse: HeldWarehouse
    ledger: Ledger
    ledger_file: sqlite3.Connection
    tamperer: Tamperer

    def verify(self) -> Verification:
        return verify(self.warehouse, self.ledger, report=lambda _: None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("evidence")
    real = make_warehouse(folder)
    with Ledger.open(folder / "ledger.sqlite", kind="demo") as ledger:
        write_earlier(real, 30)
        write_chains(real, ledger, ROWS)
        held = HeldWarehouse(real.path, kind="demo", sources_folder=None)
        connection = sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        yield Prepared(held, ledger, connection, Tamperer(held.copy(real), connection))
        connection.close()


def tampered(prepared: Prepared, kind: int) -> tuple[str, str, Verification]:
    """Tamper once, verify, and put everything back."""
    session, ledger = prepared.warehouse.held, prepared.ledger_file
    before = read_ledger(ledger)
    session.execute("BEGIN TRANSACTION")
    try:
        kinds = prepared.tamperer.kinds()
        name, tamper = kinds[kind % len(kinds)]
        where = tamper()
        return name, where, prepared.verify()
    finally:
        session.execute("ROLLBACK")
        if read_ledger(ledger) != before:
            ledger.execute("BEGIN")
            for table, rows in before.items():
                ledger.execute(f"DELETE FROM {table}")
                ledger.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
            ledger.execute("COMMIT")


def read_ledger(ledger: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {name: ledger.execute(f"SELECT * FROM {name}").fetchall() for name in ("ledger_chains", "ledger_roots")}


def check(prepared: Prepared, count: int, seed: int) -> None:
    prepared.tamperer.dice.seed(seed)
    missed = []
    for number in range(count):
        name, where, result = tampered(prepared, kind=seed * count + number)
        if result.is_sound:
            missed.append(f"{name}: {where}")
    assert not missed, f"{len(missed)} of {count} were not noticed"
    assert prepared.verify().is_sound
    tally("evidence tamperings caught", count)


def test_a_single_tampering_of_any_kind_is_found(prepared: Prepared) -> None:
    check(prepared, 200, seed=PARTS)


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_of_a_thousand_tamperings_every_one_is_found(prepared: Prepared, part: int) -> None:
    check(prepared, 1_000 // PARTS, seed=part)


def test_evidence_that_nobody_touched_is_sound(prepared: Prepared) -> None:
    result = prepared.verify()
    assert result.is_sound, result.findings
    assert result.rows == 2 * sum(ROWS) + 30
    assert (result.chains, result.earlier_rows, result.unsealed_rows) == (2 * len(ROWS) + 1, 30, 0)
    assert result.verdicts > 100


def test_a_finding_names_the_run_the_asset_and_the_row_and_no_phone(prepared: Prepared) -> None:
    session = prepared.warehouse.held
    session.execute("BEGIN TRANSACTION")
    try:
        changed = session.execute(
            f"UPDATE {SCRUB_EVIDENCE.full_name} SET verdict = 'other' "
            "WHERE run_id = 'run-0003' AND asset = 'dnc_flags' AND sequence = 17"
        )
        assert changed == 1
        session.execute(f"DELETE FROM {SCRUB_EVIDENCE.full_name} WHERE run_id = 'run-0004' AND sequence > 149")
        findings = prepared.verify().findings
    finally:
        session.execute("ROLLBACK")
    assert [(one.kind, one.run_id, one.asset, one.sequence) for one in findings if one.kind == "edited"] == [
        ("edited", "run-0003", "dnc_flags", 17)
    ]
    cut = [(one.run_id, one.asset, one.sequence) for one in findings if one.kind == "cut"]
    assert sorted(cut) == [("run-0004", "dnc_flags", 150), ("run-0004", "litigator_flags", 150)]
    assert "150 rows are sealed, and the chain ends at 149." in {one.text for one in findings}
    assert not any(char.isdigit() and len(one.text) > 500 for one in findings for char in one.text)


def test_one_row_changed_is_one_finding_and_not_one_for_every_row_behind_it(prepared: Prepared) -> None:
    session = prepared.warehouse.held
    session.execute("BEGIN TRANSACTION")
    try:
        session.execute(
            f"UPDATE {SCRUB_EVIDENCE.full_name} SET row_hash = repeat('0', 64) "
            "WHERE run_id = 'run-0004' AND asset = 'dnc_flags' AND sequence = 20"
        )
        assert prepared.verify().kinds == {"broken": 2}  # the row itself, and the next one, which holds its hash
    finally:
        session.execute("ROLLBACK")
