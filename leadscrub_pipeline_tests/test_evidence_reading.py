"""What is told of evidence is what is there: the rules of CALLABLE_PHONES in words, and a period's rows in pages."""

import itertools
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.steps.evidence import sealed_chain
from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.evidence_period import Period, Process, Sealing, check_pages, read_period
from leadscrub_pipeline.warehouse.evidence_reading import read_phone
from leadscrub_pipeline.warehouse.phone_verdicts import Checked, to_answers
from leadscrub_pipeline.warehouse.schema import SCRUB_EVIDENCE
from leadscrub_pipeline_tests.evidence_making import START, answers, check_of, checked
from leadscrub_pipeline_tests.published import make_warehouse, phone, store
from leadscrub_pipeline_tests.test_callable_phones import FLAGS, MARKS, VERDICTS, WITHDRAWN, Case, Holder

DAY = timedelta(days=1)


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckdbWarehouse:
    return make_warehouse(tmp_path)


# --- why a number may not be called -----------------------------------------------------


def cases() -> list[Case]:
    """Every rule broken by itself, by each of two rows, and pairs of rules broken at once."""
    kinds = [
        Holder(),
        *(Holder(litigator=flag) for flag in FLAGS),
        *(Holder(dead=mark) for mark in MARKS),
        *(Holder(disconnected=mark, slot=3) for mark in MARKS),
        *(Holder(withdrawn=when) for when in WITHDRAWN),
    ]
    said = [("clear", verdict) for verdict in VERDICTS] + [(verdict, "clear") for verdict in VERDICTS]
    held: list[tuple[str, str, tuple[Holder, ...]]] = [("clear", "clear", (kind,)) for kind in kinds]
    held += [("clear", "clear", (Holder(), kind)) for kind in kinds]
    held += [(ccc, dnc, (Holder(),)) for ccc, dnc in said]
    held += [("listed", "expired", (kind,)) for kind in kinds] + [("clear", "clear", ()), ("none", "none", ())]
    return [Case(phone(number), ccc, dnc, holders) for number, (ccc, dnc, holders) in enumerate(held)]


def test_the_rules_told_in_words_are_those_of_the_view(warehouse: DuckdbWarehouse) -> None:
    made = cases()
    store(
        warehouse,
        [row for case in made for row in case.rows()],
        [row for case in made for row in case.verdicts()],
        [row for case in made for row in case.withdrawals()],
    )
    told = {}
    with warehouse.session() as session:
        for case in made:
            story = read_phone(session, warehouse.dialect, case.number)
            by_words = all(condition.is_met for condition in story.conditions)
            assert by_words == (story.callable_until is not None), case
            told[case] = sum(not condition.is_met for condition in story.conditions)
    assert sum(count == 0 for count in told.values()) > 10
    assert all(told[case] == 1 for case in made if case.holders in ((Holder(litigator=True),), (Holder(dead="true"),))
               and (case.ccc, case.dnc) == ("clear", "clear"))  # fmt: skip


# --- the rows of a period ---------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "ledger.sqlite", kind="demo")


def fill(warehouse: DuckdbWarehouse, ledger: Ledger) -> None:
    """Three chains: one sealed twice and written on since, one sealed, one of another time."""
    with ledger:
        for run_id, count, at in (("two", 30, START), ("one", 41, START + DAY), ("far", 12, START + 9 * DAY)):
            for first in (0, 20) if run_id == "two" else (0,):
                with sealed_chain(warehouse, ledger, check_of(run_id)) as chain, warehouse.session() as session:
                    chain.store(session, answers(min(20, count - first) if run_id == "two" else count, at=at))
        with warehouse.session() as session:
            session.execute(
                f"INSERT INTO {SCRUB_EVIDENCE.full_name} SELECT * REPLACE (31 AS sequence) "
                f"FROM {SCRUB_EVIDENCE.full_name} WHERE run_id = 'two' AND sequence = 30"
            )


@pytest.mark.parametrize("rows", [1, 7, 20, 1_000])
def test_every_row_of_a_period_comes_once_in_order_with_its_seal(
    warehouse: DuckdbWarehouse, ledger: Ledger, rows: int
) -> None:
    fill(warehouse, ledger)
    period = Period(START - DAY, START + 5 * DAY)
    with warehouse.session() as session:
        facts = read_period(session, period)
    seals = {"two": [Sealing(20, 1, START), Sealing(30, 2, START)], "one": [Sealing(41, 3, START)]}

    def seals_of(process: Process) -> list[Sealing]:
        return seals[process.run_id or ""]

    pages = list(check_pages(warehouse, period, facts.process, seals_of, rows=rows))
    assert all(page.num_rows <= rows for page in pages)
    table = pa.concat_tables(pages)
    found = list(zip(*(table.column(name).to_pylist() for name in ("run_id", "sequence", "seal_entry")), strict=True))
    expected = [("two", number, 1 if number <= 20 else 2 if number <= 30 else None) for number in range(1, 32)]
    expected += [("one", number, 3) for number in range(1, 42)]
    assert found == expected
    assert facts.checks == len(expected)


def test_rows_that_somebody_put_in_without_a_name_or_place_are_handed_out_too(
    warehouse: DuckdbWarehouse, ledger: Ledger
) -> None:
    fill(warehouse, ledger)
    with warehouse.session() as session:
        for spoilt in ("NULL AS run_id", "NULL AS asset", "NULL AS sequence", "-4 AS sequence", "'other' AS source"):
            session.execute(
                f"INSERT INTO {SCRUB_EVIDENCE.full_name} SELECT * REPLACE ({spoilt}) "
                f"FROM {SCRUB_EVIDENCE.full_name} WHERE run_id = 'one' AND sequence = 3"
            )
        period = Period(START - DAY, START + 5 * DAY)
        facts = read_period(session, period)
    pages = list(check_pages(warehouse, period, facts.process, lambda _: [], rows=9))
    assert sum(page.num_rows for page in pages) == facts.checks > 72


def test_a_version_that_cleared_a_number_past_its_31_days_stands_out(
    warehouse: DuckdbWarehouse, ledger: Ledger
) -> None:
    with ledger:
        for place, (age, source) in enumerate(itertools.product((30, 32), ("dnc_flags", "litigator_flags"))):
            old = [
                Checked(each.phone, each.answer, f"v{place}", START - timedelta(days=age), START, START + DAY)
                for each in checked(5)
            ]
            with (
                sealed_chain(warehouse, ledger, check_of(f"run-{place}", source)) as chain,
                warehouse.session() as session,
            ):
                chain.store(session, to_answers(old))
    with warehouse.session() as session:
        facts = read_period(session, Period(START - DAY, START + DAY))
    assert {version.version: version.has_cleared_too_late for version in facts.versions} == {
        "v0": False, "v1": False, "v2": True, "v3": False,
    }  # fmt: skip
