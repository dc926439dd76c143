"""Evidence: its text, its chain, and the seal on it, through whole runs and through what interrupts them."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.domain.chains import beginning
from leadscrub_pipeline.errors import FailedError, UnavailableError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.ledger.evidence_roots import NO_SEAL
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.steps.evidence import EvidenceChain, seal_what_is_left, sealed_chain
from leadscrub_pipeline.steps.evidence_verification import Verification, verify
from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.evidence import PLAIN_COLUMNS, SCHEMA, canonical, extents, pages
from leadscrub_pipeline.warehouse.schema import PHONE_VERDICTS, PUBLISHED_IDENTITIES, SCRUB_EVIDENCE, STAMP
from leadscrub_pipeline_tests import children
from leadscrub_pipeline_tests.children import Kill, Order
from leadscrub_pipeline_tests.evidence_making import answers, check_of, write_chain, write_earlier
from leadscrub_pipeline_tests.graph import Graph, graph_in, people
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    KEY,
    Clock,
    clock,
    ledger,
    new_postgres_database,
    open_ledger,
    where,
)
from leadscrub_pipeline_tests.published import make_warehouse

TABLE = SCRUB_EVIDENCE.full_name
ASSETS = ("litigator_flags", "dnc_flags")


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch) as made:
        made.write_source("LEADS_DB.PUBLIC.LEADS", people(30))
        yield made


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckdbWarehouse:
    return make_warehouse(tmp_path)


def verified(graph: Graph) -> Verification:
    with graph.ledger() as ledger:
        return verify(open_warehouse(load_settings()), ledger, report=lambda _: None)


def ask(warehouse: DuckdbWarehouse, ledger: Ledger) -> Verification:
    return verify(warehouse, ledger, report=lambda _: None)


def child(key: str, run_id: str, **changes: Any) -> children.Report:
    return children.scrub(Order(key, run_id, children.environment(), **changes))


# --- the text ---------------------------------------------------------------------------

TEXTS = st.none() | st.text(st.sampled_from("\\|pnrN\n\r 1é"), max_size=4)
TIMES = st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 - as stored
ROWS = st.fixed_dictionaries(
    {
        field.name: st.none() | st.integers(-(2**63), 2**63 - 1)
        if field.type == pa.int64()
        else TIMES
        if pa.types.is_timestamp(field.type)
        else TEXTS
        for field in SCHEMA
    }
)


def as_table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def as_read(text: str) -> list[str | None]:
    """The fields of a text, read back by its rules alone."""
    marks = {"\\": "\\", "p": "|", "n": "\n", "r": "\r"}
    fields: list[str | None] = []
    for field in text.split("|"):
        if field == "\\N":
            fields.append(None)
            continue
        characters = iter(field)
        fields.append("".join(marks[next(characters)] if one == "\\" else one for one in characters))
    return fields


@settings(deadline=None)
@given(row=ROWS)
def test_a_text_tells_every_column_exactly_so_rows_that_differ_have_texts_that_differ(row: dict[str, Any]) -> None:
    text = canonical(as_table(row))[0].as_py()
    assert "\n" not in text
    assert "\r" not in text
    version, *fields = as_read(text)
    assert version == "1"
    values = [row[name] for name in PLAIN_COLUMNS]
    assert fields == [value if value is None else as_written(value) for value in values]


def as_written(value: object) -> str:
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else str(value)


def test_null_and_the_empty_text_and_the_mark_of_null_are_three_things() -> None:
    rows = [dict.fromkeys(SCHEMA.names) | {"reason": value} for value in (None, "", "\\N", "N")]
    texts = canonical(as_table(*rows)).to_pylist()
    assert len(set(texts)) == 4
    assert canonical(as_table(*rows).slice(2, 1)).to_pylist() == texts[2:3]


def test_the_text_and_the_first_hash_never_change() -> None:
    row = {
        "run_id": "run-1",
        "asset": "dnc_flags",
        "sequence": 1,
        "partition_key": "spring|1",
        "phone": "2125550101",
        "source": "dnc",
        "verdict": "clear",
        "list_version": "2026-11-01",
        "obtained_at": datetime(2026, 11, 1),  # noqa: DTZ001 - as stored
        "checked_at": datetime(2026, 11, 21, 12, 30, 15, 7),  # noqa: DTZ001
    }
    text = canonical(as_table(dict.fromkeys(SCHEMA.names) | row))[0].as_py()
    assert text == (
        r"1|run-1|dnc_flags|1|spring\p1|\N|\N|2125550101|dnc|clear|\N|2026-11-01"
        r"|2026-11-01T00:00:00.000000|2026-11-21T12:30:15.000007|\N"
    )
    assert beginning("run-1", "dnc_flags") == sha256(b"leadscrub evidence 1|run-1|dnc_flags").hexdigest()


# --- whole runs -------------------------------------------------------------------------


def test_each_steps_evidence_is_chained_sealed_and_told_in_its_metadata(graph: Graph) -> None:
    run = graph.scrub("leads")
    assert run.success, run.error
    result = verified(graph)
    assert result.is_sound, result.findings
    assert (result.chains, result.seals, result.unsealed) == (2, 2, [])
    assert result.verdicts > 30
    with graph.ledger() as ledger:
        seals = {seal.asset: seal for seal in ledger.roots()}
        assert {chain.partition_key for chain in ledger.chains() if chain.run_id == run.run_id} == {"leads"}
    for asset in ASSETS:
        told = run.metadata[asset]
        seal = seals[asset]
        assert (told["evidence_rows"], told["evidence_root"], told["evidence_seal"]) == (
            seal.row_count,
            seal.root,
            seal.entry,
        )
        assert told["evidence_rows"] == told["asked"] > 0
        last = graph.rows(
            f"SELECT canonical, row_hash FROM {TABLE} WHERE asset = ? ORDER BY sequence DESC LIMIT 2", [asset]
        )
        (text, row_hash), (_, before) = last
        assert seal.root == row_hash == sha256(bytes.fromhex(before) + text.encode()).hexdigest()


def test_a_run_that_asks_nothing_seals_nothing_and_its_metadata_has_the_same_keys(graph: Graph) -> None:
    first = graph.scrub("leads")
    second = graph.scrub("leads", already_processed="include")
    assert second.success, second.error
    for asset in ASSETS:
        told = second.metadata[asset]
        assert set(told) == set(first.metadata[asset])
        assert (told["asked"], told["evidence_rows"], told["evidence_seal"]) == (0, 0, 0)
    assert verified(graph).seals == 2


def test_a_step_that_is_repeated_goes_on_with_its_chain_and_is_sealed_again(graph: Graph) -> None:
    graph.configure(CCC_MAX_RETRIES="0")
    graph.simulators.ccc.faults.add(Fault("missing_phones", share=1.0))
    first = child("leads", "run-1")
    assert first.ok, first.failure or first.defect
    graph.simulators.ccc.faults.clear()
    again = child("leads", "run-1", assets=("litigator_flags",))
    before, after = first.metadata["litigator_flags"], again.metadata["litigator_flags"]
    assert after["asked"] > 0
    assert after["evidence_rows"] == before["evidence_rows"] + after["asked"]
    assert after["evidence_seal"] > before["evidence_seal"]
    result = verified(graph)
    assert result.is_sound, result.findings
    assert (result.chains, result.seals) == (2, 3)


def test_a_step_that_fails_seals_the_evidence_of_what_was_answered(graph: Graph) -> None:
    graph.configure(
        CCC_MAX_RETRIES="0", CCC_BATCH_SIZE="5", CCC_MIN_WORKERS="1", CCC_MAX_WORKERS="1", CCC_WORKERS_PER_BATCH="0.01"
    )
    graph.simulators.ccc.faults.add(Fault("forbidden", requests=[4]))
    report = child("leads", "run-1")
    assert report.failed_asset == "litigator_flags"
    result = verified(graph)
    assert result.is_sound, result.findings
    assert (result.chains, result.seals, result.unsealed) == (1, 1, [])
    assert 0 < result.rows < 30


@pytest.mark.parametrize("asset", ASSETS)
def test_rows_of_a_killed_run_are_reported_as_unsealed_and_sealed_by_the_next_run(graph: Graph, asset: str) -> None:
    at = ASSETS.index(asset) + 1
    killed = child("leads", "run-killed", kill=Kill("answers.after_commit", at))
    assert killed.killed
    result = verified(graph)
    assert result.is_sound, result.findings
    ((run_id, of, rows),) = [(one.run_id, one.asset, one.rows) for one in result.unsealed]
    assert (run_id, of) == ("run-killed", asset)
    assert rows > 10
    after = child("leads", "run-after")
    assert after.ok, after.failure or after.defect
    told = [after.metadata[asset] for asset in ASSETS]
    assert sum(one["evidence_chains_sealed_late"] for one in told) == 1
    assert sum(one["evidence_rows_sealed_late"] for one in told) == rows
    assert any(f"1 chains, {rows} rows of evidence" in line for line in after.logged)
    result = verified(graph)
    assert result.is_sound, result.findings
    assert result.unsealed == []


def test_rows_of_a_killed_run_that_were_changed_are_not_sealed_and_the_next_run_says_so(graph: Graph) -> None:
    assert child("leads", "run-killed", kill=Kill("answers.after_commit", 1)).killed
    graph.rows(f"UPDATE {TABLE} SET verdict = 'clear' WHERE sequence = (SELECT MAX(sequence) FROM {TABLE})")
    graph.rows(f"UPDATE {TABLE} SET list_version = 'another' WHERE sequence = 2")
    after = child("leads", "run-after")
    assert after.ok, after.failure or after.defect
    assert after.metadata["litigator_flags"]["evidence_chains_broken"] == 1
    assert any("evidence verify" in line for line in after.logged)
    result = verified(graph)
    assert [(one.kind, one.sequence) for one in result.findings][:1] == [("edited", 2)]
    assert [one.run_id for one in result.unsealed] == ["run-killed"]


def test_verdicts_are_never_stored_without_their_evidence(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:

    def stop(point: str) -> None:
        if point == "answers.before_commit":
            raise UnavailableError("The disk is full.")

    failpoints.arm(stop)
    try:
        run = graph.scrub("leads", assets=[*children.ASSETS[:3]])
    finally:
        failpoints.arm(None)
    assert not run.success
    assert graph.rows(f"SELECT COUNT(*) FROM {PHONE_VERDICTS.full_name}") == [(0,)]
    assert graph.rows(f"SELECT COUNT(*) FROM {TABLE}") == [(0,)]
    assert verified(graph).is_sound


def test_an_older_deployment_keeps_its_evidence_which_is_sealed_as_it_was_found(graph: Graph) -> None:
    graph.scrub("leads")
    rows = graph.rows(f"SELECT COUNT(*) FROM {TABLE}")[0][0]
    make_older(graph)
    result = verified(graph)
    assert result.is_sound, result.findings
    assert (result.earlier_rows, result.earlier_sealed, result.chains) == (rows, False, 2)
    master = graph.master()
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(45))
    run = graph.scrub("leads")
    assert run.success, run.error
    assert (run.counts["published"], run.counts["already_processed"]) == (15, 30)
    assert [row for row in graph.master() if row["job_id"] != run.run_id] == master
    result = verified(graph)
    assert result.is_sound, result.findings
    assert (result.earlier_rows, result.earlier_sealed) == (rows, True)
    graph.rows(f"UPDATE {TABLE} SET list_version = 'another' WHERE row_hash IS NULL AND sequence = 3")
    assert verified(graph).kinds == {"earlier_changed": 1}


def make_older(graph: Graph) -> None:
    """Take away what the release before did not have, in the warehouse and in the ledger."""
    with graph.warehouse() as session:
        for table, column in (
            (SCRUB_EVIDENCE, "canonical"),
            (SCRUB_EVIDENCE, "row_hash"),
            (PUBLISHED_IDENTITIES, "record_id"),
        ):
            session.execute(f"ALTER TABLE {table.full_name} DROP COLUMN {column}")
        session.execute(f"DELETE FROM {STAMP.full_name} WHERE name = 'schema_version'")
    with graph.ledger() as ledger, ledger._database.writing() as connection:
        for name in ("reuses", "controls", "tombstones", "chains", "roots"):
            connection.exec_driver_sql(f"DROP TABLE ledger_{name}")
        connection.exec_driver_sql("UPDATE ledger_stamp SET schema_version = 1")


# --- chain and seal, without a run ------------------------------------------------------


def stopped(warehouse: DuckdbWarehouse, ledger: Ledger, error: BaseException, *, statement: str = "SELECT 1") -> None:
    """A step that stores ten rows and ends by an error, with something done to the ledger before."""
    with sealed_chain(warehouse, ledger, check_of("run-1")) as chain:
        with warehouse.session() as session:
            chain.store(session, answers(10))
        with ledger._database.writing() as connection:
            connection.exec_driver_sql(statement)
        raise error


def test_an_interrupt_seals_what_was_stored(warehouse: DuckdbWarehouse, ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped(warehouse, ledger, KeyboardInterrupt())
    assert [(seal.run_id, seal.row_count) for seal in ledger.roots()] == [("run-1", 10)]
    assert ask(warehouse, ledger).unsealed == []


def test_what_ended_a_step_is_told_also_when_the_ledger_does_not_answer(
    warehouse: DuckdbWarehouse, tmp_path: Path
) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite", kind="demo") as ledger:
        hide = "ALTER TABLE ledger_roots RENAME TO elsewhere"
        with pytest.raises(UnavailableError, match="CCC"):
            stopped(warehouse, ledger, UnavailableError("CCC is down."), statement=hide)
        with ledger._database.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO ledger_roots")
        result = ask(warehouse, ledger)
        assert result.is_sound, result.findings
        assert result.unsealed_rows == 10
        assert seal_what_is_left(warehouse, ledger).rows == 10
        assert ask(warehouse, ledger).unsealed_rows == 0


def test_a_chain_of_a_run_at_work_is_left_to_it(warehouse: DuckdbWarehouse, open_ledger: Callable[..., Ledger]) -> None:
    ours, other = open_ledger(), open_ledger()
    with ours.partition_lease("spring", holder="run-1"):
        chain = EvidenceChain(warehouse, ours, check_of("run-1"))
        with warehouse.session() as session:
            chain.store(session, answers(10))
        assert seal_what_is_left(warehouse, other).chains == 0
        assert ask(warehouse, other).unsealed_rows == 10
    late = seal_what_is_left(warehouse, other)
    assert (late.chains, late.rows, late.broken) == (1, 10, 0)
    assert ask(warehouse, other).is_sound


def test_a_chain_that_was_opened_and_never_got_a_row_is_no_finding(warehouse: DuckdbWarehouse, ledger: Ledger) -> None:
    ledger.open_chain("run-1", "dnc_flags", "spring")
    assert ask(warehouse, ledger).is_sound
    assert seal_what_is_left(warehouse, ledger).chains == 0
    assert ledger.roots() == []
    assert ledger.abandoned_chains() == []


def test_each_seal_holds_the_one_before_and_sealing_the_same_again_is_no_new_one(ledger: Ledger, clock: Clock) -> None:
    for number in range(1, 4):
        ledger.open_chain(f"run-{number}", "dnc_flags", "spring")
        clock.turn(seconds=1)
        ledger.seal_chain(f"run-{number}", "dnc_flags", number, f"{number:064x}")
    again = ledger.seal_chain("run-2", "dnc_flags", 2, f"{2:064x}")
    seals = ledger.roots()
    assert again == seals[1]
    assert [seal.entry for seal in seals] == [1, 2, 3]
    assert [seal.previous for seal in seals] == [NO_SEAL, seals[0].entry_hash, seals[1].entry_hash]
    assert all(seal.is_intact for seal in seals)
    first = seals[0]
    text = f"1|run-1|dnc_flags|1|{1:064x}|{first.sealed_micros}|{NO_SEAL}"
    assert first.entry_hash == sha256(text.encode()).hexdigest()
    assert first.sealed_at == clock.now - timedelta(seconds=2)
    assert first.sealed_at.tzinfo is UTC


@pytest.mark.parametrize(("rows", "root"), [(4, "a" * 64), (5, "b" * 64), (0, "a" * 64)])
def test_a_seal_that_takes_rows_back_or_names_another_root_is_refused(ledger: Ledger, rows: int, root: str) -> None:
    ledger.open_chain("run-1", "dnc_flags", "spring")
    ledger.seal_chain("run-1", "dnc_flags", 5, "a" * 64)
    with pytest.raises(FailedError, match=r"run-1.*5 rows are sealed"):
        ledger.seal_chain("run-1", "dnc_flags", rows, root)
    with pytest.raises(FailedError, match="no chain"):
        ledger.seal_chain("run-2", "dnc_flags", 5, "a" * 64)
    assert len(ledger.roots()) == 1


def test_a_step_does_not_go_on_with_a_chain_whose_sealed_rows_are_gone(
    warehouse: DuckdbWarehouse, ledger: Ledger
) -> None:
    write_chain(warehouse, ledger, check_of("run-1"), 10)
    with warehouse.session() as session:
        session.execute(f"DELETE FROM {TABLE} WHERE sequence > 4")
    with pytest.raises(FailedError, match=r"10 rows of evidence.*4 are there"):
        EvidenceChain(warehouse, ledger, check_of("run-1"))


def test_processes_that_seal_at_once_make_one_unbroken_chain_of_seals(where: str) -> None:
    open_it = f"Ledger.open({where!r}, kind='demo', answer_keys=[{KEY!r}])"
    program = (
        "import sys; from leadscrub_pipeline.ledger import Ledger\n"
        f"with {open_it} as ledger:\n"
        "    for number in range(25):\n"
        "        run = f'{sys.argv[1]}-{number}'\n"
        "        ledger.open_chain(run, 'dnc_flags', 'spring')\n"
        "        ledger.seal_chain(run, 'dnc_flags', 1, 'a' * 64)\n"
        "        ledger.seal_chain(run, 'dnc_flags', 2, 'b' * 64)\n"
    )
    Ledger.open(where, kind="demo", answer_keys=[KEY]).close()
    started = [subprocess.Popen([sys.executable, "-c", program, name], env=os.environ) for name in ("one", "other")]
    assert [process.wait(60) for process in started] == [0, 0]
    with Ledger.open(where, kind="demo", answer_keys=[KEY]) as ledger:
        seals = ledger.roots()
        chains = ledger.chains()
    assert [seal.entry for seal in seals] == list(range(1, 101))
    assert all(seal.is_intact for seal in seals)
    assert [seal.previous for seal in seals] == [NO_SEAL, *(seal.entry_hash for seal in seals[:-1])]
    assert {(chain.row_count, chain.root, chain.is_open) for chain in chains} == {(2, "b" * 64, False)}
    assert len({seal.run_id.split("-")[0] for seal in seals[:60]}) == 2, "they did not overlap"


# --- reading ----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [7, 50, 1_000])
def test_every_row_is_read_once_whatever_the_size_of_a_page(
    warehouse: DuckdbWarehouse, ledger: Ledger, rows: int
) -> None:
    write_earlier(warehouse, 12)
    for number, count in enumerate((1, 60, 3, 8, 20)):
        write_chain(warehouse, ledger, check_of(f"run-{number}"), count, rows=9)
    with warehouse.session() as session:
        found = extents(session)
    read = [row for page in pages(warehouse, found, rows=rows) for row in page.to_pylist()]
    assert len(read) == len({(row["run_id"], row["sequence"]) for row in read}) == 104
    by_run = [row["run_id"] for row in read]
    assert len([run for run, before in zip(by_run, [None, *by_run], strict=False) if run != before]) == 6
    assert [row["sequence"] for row in read if row["run_id"] == "run-1"] == list(range(1, 61))


def test_a_pruned_chain_is_no_loss_and_one_marked_by_hand_is(warehouse: DuckdbWarehouse, ledger: Ledger) -> None:
    for number in range(2):
        write_chain(warehouse, ledger, check_of(f"run-{number}"), 5)
    ledger.mark_pruned([("run-0", "litigator_flags", 5)], before="2026-01-01", reason=None)
    assert ask(warehouse, ledger).kinds == {"pruned_and_present": 1}
    with warehouse.session() as session:
        session.execute(f"DELETE FROM {TABLE} WHERE run_id = 'run-0'")
        session.execute(f"DELETE FROM {PHONE_VERDICTS.full_name}")
    result = ask(warehouse, ledger)
    assert result.is_sound, result.findings
    assert result.pruned_chains == 1
    with ledger._database.writing() as connection:
        connection.exec_driver_sql("UPDATE ledger_chains SET pruned_at = 1 WHERE run_id = 'run-1'")
    assert set(ask(warehouse, ledger).kinds) == {"pruned_by_nobody", "pruned_and_present"}


def test_rows_that_lie_in_another_order_in_the_table_are_as_sound(warehouse: DuckdbWarehouse, ledger: Ledger) -> None:
    for number, count in enumerate((40, 1, 25)):
        write_chain(warehouse, ledger, check_of(f"run-{number}"), count, first=number * 100)
    with warehouse.session() as session:
        rows = session.table(f"SELECT * FROM {TABLE} ORDER BY row_hash")
        session.execute(f"DELETE FROM {TABLE}")
        session.load(TABLE, rows)
    result = ask(warehouse, ledger)
    assert result.is_sound, result.findings
    assert result.rows == 66
