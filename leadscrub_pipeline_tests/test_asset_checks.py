"""The checks that Dagster shows: what a run claims, what holds over all scripts, and what a failed one keeps back."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from leadscrub_pipeline.assets.litigator_flags import _controls_are_found
from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.pools import set_pool_limits
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.steps.adoption import adopt
from leadscrub_pipeline.steps.flag_report import FlagReport
from leadscrub_pipeline.warehouse import master
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.leads import LeadSelection
from leadscrub_pipeline.warehouse.schema import IDENTITY_COLUMNS, MASTER, PUBLISHED_IDENTITIES, SCRUB_EVIDENCE
from leadscrub_pipeline.warehouse.standing_checks import false_flags_without_evidence, people_published_twice
from leadscrub_pipeline_tests.graph import Graph, graph_in, people
from leadscrub_pipeline_tests.published import DAY, NOW, make_warehouse, master_row, phone, store

Evaluated = Mapping[str, Any]

OF_EVERY_RUN = {
    "no_lead_is_lost",
    "every_lead_has_one_outcome",
    "phones_are_valid",
    "hit_rate_is_usual",
    "spend_is_within_budget",
    "positive_controls_are_found",
    "litigator_rate_is_usual",
    "registry_is_fresh",
    "every_kept_lead_is_accounted_for",
    "no_row_stands_twice",
}
OF_BOTH_FLAGS = {"every_clear_phone_has_evidence", "few_phones_are_unknown"}


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch, through_dagster=True) as made:
        yield made


def evaluated(graph: Graph, run_id: str) -> dict[tuple[str, str], Any]:
    """Each check of a run, by asset and name."""
    records = graph.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    found = [event.asset_check_evaluation_data for event in events if event is not None]
    return {(one.asset_key.to_user_string(), one.check_name): one for one in found}


def scrub(graph: Graph, key: str = "leads", **config: Any) -> tuple[Any, dict[tuple[str, str], Any]]:
    """A run of the whole job with options of any step."""
    graph.instance.add_dynamic_partitions("lead_scripts", [key])
    result = defs.resolve_job_def("scrub_job").execute_in_process(
        partition_key=key,
        instance=graph.instance,
        run_config={"ops": {step: {"config": options} for step, options in config.items()}},
        raise_on_error=False,
    )
    return result, evaluated(graph, result.run_id)


def checked(graph: Graph, job: str) -> dict[str, Any]:
    result = defs.resolve_job_def(job).execute_in_process(instance=graph.instance, raise_on_error=False)
    return {name: one for (_, name), one in evaluated(graph, result.run_id).items()}


def materialized(graph: Graph, run_id: str) -> set[str]:
    records = graph.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    events = [record.event_log_entry.asset_materialization for record in records]
    return {event.asset_key.to_user_string() for event in events if event is not None}


def first_failure(result: Any) -> str:
    return str(result.get_step_failure_events()[0].step_failure_data.error.message)


def test_every_run_evaluates_its_claims_and_all_hold(graph: Graph) -> None:
    _, found = scrub(graph)
    names = [name for _, name in found]
    assert set(names) == OF_EVERY_RUN | OF_BOTH_FLAGS
    assert sorted(name for name in names if name in OF_BOTH_FLAGS) == sorted([*OF_BOTH_FLAGS, *OF_BOTH_FLAGS])
    assert {key: one.description for key, one in found.items() if not one.passed} == {}
    assert found["raw_leads", "no_lead_is_lost"].description == (
        "10 selected = 0 rejected + 0 duplicate + 0 already processed + 10 kept."
    )


def test_more_unknown_phones_than_the_run_allows_keep_the_master_table_as_it_is(graph: Graph) -> None:
    graph.simulators.ccc.faults.add(Fault("missing_phones", times=1))
    result, found = scrub(graph, litigator_flags={"max_unknown_share": 0.0})
    assert not result.success
    check = found["litigator_flags", "few_phones_are_unknown"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "litigator_flags" in materialized(graph, result.run_id)
    assert "master_processed_db" not in materialized(graph, result.run_id)
    assert graph.master() == []
    graph.scrub("leads")
    assert len(graph.master()) == 10
    assert graph.billed == 10


@pytest.mark.long
def test_unknown_phones_are_a_warning_where_nothing_else_is_asked_for(graph: Graph) -> None:
    graph.write_registry(area_codes=[201])
    result, found = scrub(graph)
    assert result.success
    check = found["dnc_flags", "few_phones_are_unknown"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["unknown_share"].value > 0.05


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"litigator_flags": {"max_unknown_share": 1.5}}, "max_unknown_share of litigator_flags"),
        ({"dnc_flags": {"max_unknown_share": -0.1}}, "max_unknown_share of dnc_flags"),
    ],
)
def test_an_option_out_of_its_bounds_is_refused_before_anything_is_paid(
    graph: Graph, config: dict[str, Any], named: str
) -> None:
    result, _ = scrub(graph, **config)
    failed = result.get_step_failure_events()[0]
    assert failed.step_key == "raw_leads"
    assert named in failed.step_failure_data.user_failure_data.description
    assert graph.billed == 0
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


@pytest.mark.long
def test_what_is_launched_without_raw_leads_is_looked_at_all_the_same(graph: Graph) -> None:
    graph.scrub("leads", assets=["raw_leads"])
    result = defs.resolve_job_def("scrub_job").execute_in_process(
        partition_key="leads",
        instance=graph.instance,
        run_config={"ops": {"dnc_flags": {"config": {"max_unknown_share": 7}}}},
        raise_on_error=False,
        asset_selection=[dg.AssetKey("enriched_contacts"), dg.AssetKey("dnc_flags")],
    )
    assert result.get_step_failure_events()[0].step_key == "enriched_contacts"
    assert graph.billed == 0


def test_renew_asks_about_every_phone_again_and_pays_for_no_lookup(graph: Graph) -> None:
    graph.scrub("leads")
    result, _ = scrub(
        graph,
        raw_leads={"already_processed": "include"},
        litigator_flags={"renew": True},
        dnc_flags={"renew": True},
    )
    assert result.success
    for asset in ("litigator_flags", "dnc_flags"):
        reported = result.asset_materializations_for_node(asset)[0].metadata
        assert reported["asked"].value == reported["phones"].value > 0
        assert reported["reused"].value == 0
    assert graph.billed == 10


@pytest.mark.long
def test_on_stale_list_of_the_run_goes_before_the_setting(graph: Graph) -> None:
    graph.configure(DNC_LIST_DATE=(datetime.now(UTC) - timedelta(days=40)).date().isoformat())
    result, found = scrub(graph, dnc_flags={"on_stale_list": "null"})
    assert result.success
    check = found["dnc_registry", "registry_is_fresh"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert not any(row["phone_1_in_dnc"] is False for row in graph.master())
    graph.configure(DNC_ON_STALE_LIST="null")
    result, found = scrub(graph, raw_leads={"already_processed": "include"}, dnc_flags={"on_stale_list": "fail"})
    assert not result.success
    assert found["dnc_registry", "registry_is_fresh"].severity is dg.AssetCheckSeverity.ERROR


@pytest.mark.long
@pytest.mark.parametrize(("days", "passed"), [(23, True), (24, False)])
def test_a_list_is_warned_of_a_week_before_it_is_too_old(graph: Graph, days: int, passed: bool) -> None:
    graph.configure(DNC_LIST_DATE=(datetime.now(UTC) - timedelta(days=days)).date().isoformat())
    check = checked(graph, "resilience_job")["registry_is_fresh"]
    assert (check.passed, check.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert check.metadata["age_days"].value == days


@pytest.mark.long
def test_a_budget_that_is_nearly_used_up_or_kept_leads_back_is_told(graph: Graph) -> None:
    graph.configure(IDICORE_DAILY_BUDGET=graph.simulators.idicore.price * 12)
    _, found = scrub(graph)
    near = found["enriched_contacts", "spend_is_within_budget"]
    assert (near.passed, near.severity) == (False, dg.AssetCheckSeverity.WARN)
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(20))
    _, found = scrub(graph)
    capped = found["enriched_contacts", "spend_is_within_budget"]
    assert not capped.passed
    assert capped.metadata["daily_budget"].value == 8


@pytest.mark.long
def test_an_account_that_finds_no_control_is_an_error_that_is_named(graph: Graph) -> None:
    graph.simulators.ccc.faults.add(Fault("all_false", times=10))
    _, found = scrub(graph)
    check = found["litigator_flags", "positive_controls_are_found"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "Check the CCC plan" in check.description


@pytest.mark.long
@pytest.mark.parametrize(
    ("controls", "asked", "said"),
    [(0, 5, "No positive control is configured"), (2, 0, "Nothing was asked"), (2, 5, "All positive controls")],
)
def test_controls_are_said_to_be_found_only_when_some_were_asked_about(controls: int, asked: int, said: str) -> None:
    check = _controls_are_found(FlagReport(asked=asked), controls=controls, is_live=False)
    assert check.passed
    assert str(check.description).startswith(said)


@pytest.mark.long
def test_a_hit_rate_that_falls_is_a_warning_compared_with_the_scripts_own_past(graph: Graph) -> None:
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(40))
    for hits in (34, 36, 35, 34, 36, 37, 35, 33, 36, 35):
        past = {"hit": dg.MetadataValue.int(hits), "miss": dg.MetadataValue.int(40 - hits)}
        graph.instance.report_runless_asset_event(
            dg.AssetMaterialization("enriched_contacts", partition="leads", metadata=past)
        )
    graph.configure(IDICORE_MAX_MISS_SHARE=1)
    graph.simulators.idicore.faults.add(Fault("no_match", times=20))
    _, found = scrub(graph)
    check = found["enriched_contacts", "hit_rate_is_usual"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["past_runs"].value == 10
    assert check.metadata["rate"].value < 0.55 < check.metadata["usual_low"].value


def test_the_weekly_checks_hold_after_a_scrub(graph: Graph) -> None:
    graph.scrub("leads")
    set_pool_limits(graph.instance)
    found = checked(graph, "resilience_job")
    assert len(found) == 8
    assert {name: one.description for name, one in found.items() if not one.passed} == {}


@pytest.mark.long
def test_the_weekly_checks_find_what_is_wrong(graph: Graph) -> None:
    graph.scrub("leads")
    with graph.warehouse() as session:
        session.execute(f"DELETE FROM {SCRUB_EVIDENCE.full_name} WHERE source = 'dnc'")
        session.execute(
            f"INSERT INTO {PUBLISHED_IDENTITIES.full_name} "
            "(identity_hash, person_key, partition_key, settled, record_id) "
            f"SELECT 'x', person_key, 'other', settled, record_id FROM {PUBLISHED_IDENTITIES.full_name} LIMIT 1"
        )
    found = checked(graph, "resilience_job")
    wrong = {name for name, one in found.items() if not one.passed}
    assert wrong == {
        "evidence_is_as_sealed",
        "every_false_flag_has_evidence",
        "no_person_is_published_twice",
        "pool_limits_are_set",
    }
    assert found["every_false_flag_has_evidence"].metadata["without_evidence"].value > 0


def evidence(phone: str, verdict: str, *, days_ago: int) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(SCRUB_EVIDENCE.column_names)
    return row | {"phone": phone, "source": "dnc", "verdict": verdict, "checked_at": NOW - days_ago * DAY}


@pytest.mark.long
def test_a_false_flag_needs_clear_evidence_that_no_later_answer_refutes(tmp_path: Path) -> None:
    warehouse = make_warehouse(tmp_path)
    rows = [master_row(number, [f"{phone(number)}.0"], litigator=None) for number in range(5)]
    rows[0]["processed_at"] = None
    store(warehouse, rows)
    told = [
        [("clear", 80), ("listed", 50)],
        [("clear", 80), ("listed", 50), ("clear", 20)],
        [("clear", 80), ("unknown", 20)],
        [("unknown", 20)],
        [],
    ]
    written = [
        evidence(phone(number), verdict, days_ago=days) for number, said in enumerate(told) for verdict, days in said
    ]
    with warehouse.session() as session:
        session.load(SCRUB_EVIDENCE.full_name, to_table(written, arrow_schema(SCRUB_EVIDENCE)))
        assert false_flags_without_evidence(session, since=NOW - 100 * DAY) == (5, 3)


@pytest.mark.long
def test_people_whom_an_older_system_or_an_older_key_has_under_two_scripts_are_nobodys_mistake(graph: Graph) -> None:
    old: dict[str, object] = dict.fromkeys(MASTER.column_names)
    old |= dict(zip(IDENTITY_COLUMNS, people(1, start=50)[0], strict=True))
    store(open_warehouse(load_settings()), [old | {"record_id": key, "table_id": key} for key in ("old_1", "old_2")])
    settings = load_settings()
    with graph.ledger() as ledger:
        adopt(open_warehouse(settings), ledger, settings, report=lambda _: None)
    graph.scrub("leads")
    dialect = open_warehouse(settings).dialect
    with graph.warehouse() as session:
        ids = [key for (key,) in session.rows(f"SELECT record_id FROM {PUBLISHED_IDENTITIES.full_name}")]
        assert {"old_1", "old_2"} <= set(ids)
        names = ", ".join(name for name in MASTER.column_names if name != "record_id")
        session.execute(
            f"INSERT INTO {MASTER.full_name} (record_id, {names}) SELECT 'of an older key', {names} "
            f"FROM {MASTER.full_name} WHERE table_id = 'leads' LIMIT 1"
        )
        session.execute(
            f"INSERT INTO {PUBLISHED_IDENTITIES.full_name} "
            "(identity_hash, person_key, partition_key, settled, record_id) "
            "SELECT 'x', person_key, 'other', TRUE, 'of an older key' "
            f"FROM {PUBLISHED_IDENTITIES.full_name} WHERE partition_key = 'leads' LIMIT 1"
        )
        assert people_published_twice(session, dialect) == 0


def test_a_clear_phone_without_evidence_keeps_the_master_table_as_it_is(graph: Graph) -> None:
    graph.scrub("leads")
    before = graph.master()
    with graph.warehouse() as session:
        session.execute(f"DELETE FROM {SCRUB_EVIDENCE.full_name} WHERE source = 'dnc' AND verdict = 'clear'")
    result, found = scrub(graph, raw_leads={"already_processed": "include"})
    assert not result.success
    assert not found["dnc_flags", "every_clear_phone_has_evidence"].passed
    assert "every_clear_phone_has_evidence" in first_failure(result)
    assert graph.master() == before


@pytest.mark.long
def test_a_lead_that_is_lost_on_the_way_is_found(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as lossy:
        whole = LeadSelection._keyed_page
        lossy.setattr(LeadSelection, "_keyed_page", lambda *given: whole(*given).slice(1))
        result, found = scrub(graph)
    check = found["raw_leads", "no_lead_is_lost"]
    assert (result.success, check.passed) == (False, False)
    assert "10 selected and not 0 rejected + 0 duplicate + 0 already processed + 9 kept" in check.description
    with monkeypatch.context() as lossy:
        select = master.publishable_query
        lossy.setattr(master, "publishable_query", lambda *given: f"{select(*given)} WHERE f.lead_number > 1")
        result, found = scrub(graph)
    check = found["master_processed_db", "every_kept_lead_is_accounted_for"]
    assert (result.success, check.passed) == (False, False)
    assert "10 kept and not 9 published" in check.description


@pytest.mark.long
def test_a_row_that_stands_twice_is_found(graph: Graph) -> None:
    graph.scrub("leads")
    with graph.warehouse() as session:
        session.execute(f"INSERT INTO {MASTER.full_name} SELECT * FROM {MASTER.full_name} LIMIT 1")
        names = ", ".join(name for name in MASTER.column_names if name not in ("record_id", "job_id"))
        older = f"INSERT INTO {MASTER.full_name} (record_id, {names}) SELECT ?, {names} FROM {MASTER.full_name} LIMIT 2"
        session.execute(older, [None])
        session.execute(older, ["shared"])
    _, found = scrub(graph, raw_leads={"already_processed": "include"})
    assert found["master_processed_db", "no_row_stands_twice"].metadata["double_rows"].value == 1
    assert not found["master_processed_db", "no_row_stands_twice"].passed


@pytest.mark.long
def test_scripts_that_are_still_failed_are_named_until_they_run_well(graph: Graph) -> None:
    graph.write_script("broken", "SELECT first_name FROM LEADS_DB.PUBLIC.LEADS")
    graph.scrub("leads")
    graph.scrub("broken")
    (found,) = checked(graph, "still_failed_job").values()
    assert not found.passed
    assert found.metadata["scripts"].value == ["broken"]
    graph.write_script("broken")
    assert graph.scrub("broken").success
    (found,) = checked(graph, "still_failed_job").values()
    assert found.passed
