"""The five assets together, run through Dagster over the embedded warehouse and the simulators."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.warehouse.schema import SCRUB_EVIDENCE
from leadscrub_pipeline_tests.graph import Graph, flags, graph_in, people


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch, through_dagster=True) as made:
        yield made


def test_a_script_fills_the_master_table_and_the_bill_is_what_the_ledger_says(graph: Graph) -> None:
    run = graph.scrub("leads")
    assert run.success, run.error
    assert run.counts["selected"] == run.counts["kept"] == run.counts["published"] == 10
    rows = graph.master()
    assert len(rows) == 10
    assert {row["table_id"] for row in rows} == {"leads"}
    assert {row["job_id"] for row in rows} == {run.run_id}
    assert all(len(row["record_id"]) == 32 for row in rows)
    assert graph.billed == 10
    with graph.ledger() as ledger:
        assert ledger.lookups_of_run(run.run_id).cost == graph.simulators.idicore.price * graph.billed


def test_person_columns_carry_the_scripts_values_unchanged(graph: Graph) -> None:
    graph.write_source(
        "LEADS_DB.PUBLIC.LEADS", [("  Zoë ", "O'Neil-SMITH", "12 1/2  N. Main St., #4", "", "il", "62701-1234")]
    )
    run = graph.scrub("leads")
    assert run.success, run.error
    row = graph.master()[0]
    assert [row[name] for name in ("first_name", "last_name", "address", "city", "state", "zip_code")] == [
        "  Zoë ",
        "O'Neil-SMITH",
        "12 1/2  N. Main St., #4",
        None,
        "il",
        "62701-1234",
    ]


def test_a_second_run_pays_for_nothing_and_changes_nothing(graph: Graph) -> None:
    graph.scrub("leads")
    before = graph.master()
    run = graph.scrub("leads")
    assert run.counts["already_processed"] == 10
    assert run.counts["kept"] == run.counts["lookups_paid"] == 0
    assert graph.billed == 10
    assert graph.master() == before


def test_already_processed_include_sends_all_through_with_cached_contacts(graph: Graph) -> None:
    graph.scrub("leads")
    run = graph.scrub("leads", already_processed="include")
    assert run.counts["published"] == run.counts["lookups_reused"] == 10
    assert graph.billed == 10
    assert {row["job_id"] for row in graph.master()} == {run.run_id}


def test_other_spellings_of_a_person_are_paid_for_once(graph: Graph) -> None:
    graph.write_source(
        "LEADS_DB.PUBLIC.LEADS",
        [
            ("Ada", "Example", "1 Main Street", "Springfield", "IL", "62701"),
            ("ADA ", "example", "1 MAIN ST.", "springfield", "Illinois", "62701-1234"),
        ],
    )
    run = graph.scrub("leads")
    assert (run.counts["duplicate"], run.counts["kept"], graph.billed) == (1, 1, 1)
    graph.write_source("LEADS_DB.PUBLIC.LEADS", [("ada", "EXAMPLE", "1 Main  st", "Springfield", "il", "62701")])
    assert graph.scrub("leads").counts["already_processed"] == 1
    assert graph.billed == 1


def test_the_first_script_to_publish_owns_a_person(graph: Graph) -> None:
    graph.write_script("others")
    graph.scrub("leads")
    run = graph.scrub("others")
    assert run.counts["already_processed"] == 10
    run = graph.scrub("others", already_processed="include")
    assert (run.counts["kept"], run.counts["taken"], run.counts["published"]) == (10, 10, 0)
    assert {row["table_id"] for row in graph.master()} == {"leads"}
    assert graph.billed == 10


def test_a_row_limit_counts_kept_leads_and_the_rest_come_later(graph: Graph) -> None:
    run = graph.scrub("leads", row_limit=4)
    assert (run.counts["kept"], run.counts["selected"], graph.billed) == (4, 4, 4)
    run = graph.scrub("leads", row_limit=4)
    assert (run.counts["kept"], run.counts["already_processed"]) == (4, 4)
    run = graph.scrub("leads")
    assert (run.counts["kept"], run.counts["already_processed"], graph.billed) == (2, 8, 10)


def test_unusable_leads_are_rejected_with_a_reason_and_never_looked_up(graph: Graph) -> None:
    graph.write_source(
        "LEADS_DB.PUBLIC.LEADS",
        [("", "Example", "1 Main St", "X", "IL", "62701"), ("Ada", "N/A", "1 Main St", "X", "IL", "62701"),
         ("Ada", "Example", "", "X", "IL", "62701"), ("Ada", "Example", "2 Main St", "X", "IL", "62701")],
    )  # fmt: skip
    run = graph.scrub("leads")
    assert run.metadata["raw_leads"]["rejected_by_reason"] == {"no_address": 1, "no_first_name": 1, "no_last_name": 1}
    assert graph.billed == 1


@pytest.mark.parametrize("filtering", ["true", "false"])
def test_the_filter_in_sql_changes_no_number(graph: Graph, filtering: str) -> None:
    graph.configure(ETL_USE_DATABASE_FILTERING=filtering)
    graph.scrub("leads", row_limit=6)
    graph.write_source("LEADS_DB.PUBLIC.LEADS", [*people(10), *people(10), ("", "", "", "", "", "")])
    run = graph.scrub("leads")
    assert [run.counts[name] for name in ("selected", "already_processed", "duplicate", "kept", "rejected")] == [
        21, 12, 4, 4, 1,
    ]  # fmt: skip


def test_every_flag_of_a_fresh_run_is_answered_and_has_evidence(graph: Graph) -> None:
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(60))
    graph.scrub("leads")
    phones = {row[f"phone_{i}"] for row in graph.master() for i in (1, 2, 3)} - {None}
    evidence = graph.rows(f"SELECT phone, source, verdict FROM {SCRUB_EVIDENCE.full_name}")
    assert {(phone, source) for phone, source, _ in evidence} == {(p, s) for p in phones for s in ("ccc", "dnc")}
    assert len(evidence) == 2 * len(phones)
    for row in graph.master():
        for slot in (1, 2, 3):
            assert (row[f"phone_{slot}_in_dnc"] is None) == (row[f"phone_{slot}"] is None)


def test_listed_numbers_and_litigators_are_flagged_and_not_callable(graph: Graph) -> None:
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(60))
    graph.scrub("leads")
    first = next(row for row in graph.master() if row["phone_1"])
    graph.write_registry(listed=[first["phone_1"]])
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(60, start=100))
    graph.write_script("more")
    assert graph.scrub("more").success
    callable_phones = graph.callable_phones()
    for row in graph.master():
        if row["in_litigator_list"] is not False:
            assert not callable_phones & {row[f"phone_{i}"] for i in (1, 2, 3)}
    assert callable_phones


def test_a_person_without_a_phone_has_a_null_flag_with_its_reason(graph: Graph) -> None:
    graph.simulators.idicore.faults.add(Fault("no_match", share=1.0))
    run = graph.scrub("leads")
    assert run.success
    for row in graph.master():
        assert flags(row) == (None, None, None, None)
        reasons = json.loads(row["additional_data"])["provenance"]["null_reasons"]
        assert set(reasons.values()) == {"no_phone"}


def test_columns_without_a_place_travel_in_additional_data(graph: Graph) -> None:
    columns = ("FIRST_NAME", "LAST_NAME", "ADDRESS", "ZIP", "Credit Score", "BALANCE", "NOTE", "SINCE")
    graph.write_source(
        "LEADS_DB.PUBLIC.LEADS",
        [("Ada", "Example", "1 Main St", "62701", 700, 1.5, 'a "quote"', "2026-01-02")],
        columns,
    )
    assert graph.scrub("leads").success
    extra = json.loads(graph.master()[0]["additional_data"])
    assert {name: extra[name] for name in ("credit score", "balance", "note", "since")} == {
        "credit score": 700,
        "balance": 1.5,
        "note": 'a "quote"',
        "since": "2026-01-02",
    }
    assert extra["provenance"]["lookup_id"]


def test_when_ccc_does_not_answer_no_flag_is_false_and_the_leads_come_again(graph: Graph) -> None:
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(40))
    graph.configure(CCC_MAX_RETRIES="0", CCC_TIMEOUT="0.3")
    graph.simulators.ccc.faults.add(Fault("html", share=1.0))
    run = graph.scrub("leads")
    if run.success:
        assert {row["in_litigator_list"] for row in graph.master()} <= {None}
        assert run.counts["flags_unknown"] > 0
    graph.simulators.ccc.faults.clear()
    run = graph.scrub("leads")
    assert run.counts["lookups_paid"] == 0
    assert run.counts["published"] > 0
    assert all(row["in_litigator_list"] is not None for row in graph.master() if row["phone_1"])
    assert graph.billed == 40


def test_an_outage_under_many_workers_ends_by_name_and_does_not_wait_for_ever(graph: Graph) -> None:
    graph.configure(IDICORE_MIN_WORKERS="20", IDICORE_MAX_WORKERS="20", IDICORE_NOT_BILLED_STATUSES="503")
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(100))
    graph.simulators.idicore.faults.add(Fault("server_error", share=1.0))
    run = graph.scrub("leads")
    assert (run.success, run.failed_step, graph.billed) == (False, "enriched_contacts", 0)
    assert "did not recover" in run.error
