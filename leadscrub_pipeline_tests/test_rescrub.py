"""Published rows checked again: flags that flip both ways, sources that fail, and all that must stay as it is."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.assets.common import EXIT_CODE
from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline.deployment import open_ledger, open_registry, open_warehouse
from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.steps.evidence_verification import verify
from leadscrub_pipeline.steps.person import Wanted, erase_person, export_person
from leadscrub_pipeline.steps.rescrub import LEASE, Rescrub, rescrub
from leadscrub_pipeline.steps.rescrub_report import RescrubReport
from leadscrub_pipeline.steps.tracing import trace
from leadscrub_pipeline.warehouse import results
from leadscrub_pipeline.warehouse.schema import PHONE_VERDICTS, PUBLISHED_IDENTITIES, SCRUB_EVIDENCE, WITHDRAWALS
from leadscrub_pipeline_tests.graph import Graph, flags, graph_in, people

UNCHANGED = ("record_id", "job_id", "job_name", "table_id", "table_title", "processed_at", "first_name", "last_name",
             "address", "city", "state", "zip_code", "phone_1", "phone_2", "phone_3", "email_1")  # fmt: skip


@dataclass
class Ended:
    """One run of rescrub_job."""

    run_id: str
    success: bool
    numbers: dict[str, Any]
    """What the last observation of the master table says, without the prefix."""
    observed: dict[str, Any]
    """What was seen of the registry file."""
    error: str
    exit_code: int | None
    was_tried_again: bool


def run_job(graph: Graph, **config: object) -> Ended:
    result = defs.resolve_job_def("rescrub_job").execute_in_process(
        run_config={"ops": {"rescrub": {"config": config}}} if config else {},
        instance=graph.instance,
        raise_on_error=False,
    )
    seen: dict[str, dict[str, Any]] = {}
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.ASSET_OBSERVATION:
            observation = event.asset_observation_data.asset_observation
            seen[observation.asset_key.to_user_string()] = {
                name: value.value for name, value in observation.metadata.items()
            }
    numbers = {name.removeprefix("rescrub_"): value for name, value in seen.get("master_processed_db", {}).items()}
    ended = Ended(result.run_id, result.success, numbers, seen.get("dnc_registry", {}), "", None, was_tried_again=False)
    ended.was_tried_again = any(event.is_step_up_for_retry for event in result.all_events)
    for failure in result.get_step_failure_events():
        data = failure.step_failure_data.user_failure_data
        if data is not None:
            ended.error, ended.exit_code = data.description or "", data.metadata[EXIT_CODE].value
    return ended


def run_step(graph: Graph, run_id: str = "rescrub-run", **wanted: Any) -> RescrubReport:
    """The work alone, without Dagster's retries."""
    settings = load_settings()
    with open_ledger(settings) as ledger:
        return rescrub(
            open_warehouse(settings), ledger, settings, Rescrub(run_id, **wanted), lambda: open_registry(settings),
            report=lambda _: None,
        )  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """Thirty people are published, and their state is kept beside."""
    with pytest.MonkeyPatch.context() as patch, graph_in(tmp_path_factory.mktemp("graph") / "graph", patch) as made:
        made.write_source("LEADS_DB.PUBLIC.LEADS", people(30))
        assert made.scrub("leads").success
        shutil.copytree(made.home, made.folder / "kept")
        yield made


@pytest.fixture
def graph(published: Graph, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """The same as it was published; a failed op is tried again at once."""
    shutil.rmtree(published.home)
    shutil.copytree(published.folder / "kept", published.home)
    published.write_registry()
    published.simulators.ccc.faults.clear()
    return replace(published, patch=monkeypatch)


def clear_row(graph: Graph) -> dict[str, Any]:
    """A published row whose first phone may be called."""
    callable_phones = graph.callable_phones()
    return next(row for row in graph.master() if row["phone_1"] in callable_phones)


def row_of(graph: Graph, record_id: str) -> dict[str, Any]:
    return next(row for row in graph.master() if row["record_id"] == record_id)


def provenance(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["additional_data"])["provenance"]
    return found


def expire(graph: Graph, source: str) -> None:
    """As if the answers of a source had been given long ago."""
    with graph.warehouse() as session:
        session.execute(
            f"UPDATE {PHONE_VERDICTS.full_name} SET valid_until = ?, obtained_at = ? "
            "WHERE source = ? AND verdict <> 'unknown'",
            [datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) - timedelta(days=60), source],
        )


def date_list(graph: Graph, days: int) -> None:
    graph.configure(DNC_LIST_DATE=(datetime.now(UTC) - timedelta(days=days)).date().isoformat())


def settled(graph: Graph, record_id: str) -> set[bool]:
    query = f"SELECT settled FROM {PUBLISHED_IDENTITIES.full_name} WHERE record_id = ?"
    return {value for (value,) in graph.rows(query, [record_id])}


def is_sound(graph: Graph) -> bool:
    with graph.ledger() as ledger:
        return verify(open_warehouse(load_settings()), ledger, report=lambda _: None).is_sound


# --- the list changes ---------------------------------------------------------------------


def test_a_list_that_changes_flips_flags_both_ways_and_costs_no_lookup(graph: Graph) -> None:
    row = clear_row(graph)
    phone, before, billed = row["phone_1"], graph.master(), graph.billed
    graph.write_registry(listed=[phone])
    ended = run_job(graph)
    assert ended.success, ended.error
    assert row_of(graph, row["record_id"])["phone_1_in_dnc"] is True
    assert phone not in graph.callable_phones()
    assert (ended.numbers["dnc_became_true"], ended.numbers["dnc_false_to_true"], ended.numbers["rows_updated"]) == (
        1,
        1,
        1,
    )
    assert ended.numbers["dnc_asked"] == ended.numbers["phones"]
    assert ended.numbers["ccc_asked"] == 0, "what CCC said still counts"
    assert provenance(row_of(graph, row["record_id"]))["phone_1_dnc_list_version"] == ended.observed["list_version"]

    graph.write_registry()
    ended = run_job(graph)
    assert (ended.numbers["dnc_became_false"], ended.numbers["dnc_true_to_false"]) == (1, 1)
    assert phone in graph.callable_phones()
    assert [flags(one) for one in graph.master()] == [flags(one) for one in before]
    assert graph.billed == billed


def test_a_list_that_is_the_same_asks_about_nothing_and_changes_nothing(graph: Graph) -> None:
    before, evidence = graph.master(), graph.rows(f"SELECT COUNT(*) FROM {SCRUB_EVIDENCE.full_name}")
    ended = run_job(graph)
    assert ended.success, ended.error
    assert (ended.numbers["dnc_asked"], ended.numbers["ccc_asked"], ended.numbers["rows_updated"]) == (0, 0, 0)
    assert ended.numbers["rows"] == len(before)
    assert graph.master() == before
    assert graph.rows(f"SELECT COUNT(*) FROM {SCRUB_EVIDENCE.full_name}") == evidence
    renewed = run_job(graph, renew=True, sources="ccc")
    assert (renewed.numbers["dnc_asked"], renewed.numbers["ccc_asked"]) == (0, renewed.numbers["phones"])
    assert graph.master() == before, "flags that are the same leave the row alone"


def test_every_run_reports_the_same_numbers_zeros_included(graph: Graph) -> None:
    quiet = run_job(graph).numbers
    graph.write_registry(listed=[clear_row(graph)["phone_1"]])
    loud = run_job(graph).numbers
    common = {name for name in quiet if not name.startswith("ccc_latency")}
    assert common <= set(loud)
    assert quiet["dnc_became_true"] == quiet["litigator_false_to_null"] == 0


def test_the_rest_of_a_row_that_changes_stays_to_the_letter(graph: Graph) -> None:
    row = clear_row(graph)
    odd = '{"score":1.10,"account":123456789012345678901234567890,"note":"caf\\u00e9","provenance":' + json.dumps(
        {**provenance(row), "null_reasons": {}}
    )
    with graph.warehouse() as session:
        session.execute(
            "UPDATE PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB SET additional_data = CAST(? AS JSON) "
            "WHERE record_id = ?",
            [odd + "}", row["record_id"]],
        )
    graph.write_registry(listed=[row["phone_1"]])
    ended = run_job(graph)
    after = row_of(graph, row["record_id"])
    assert {name: after[name] for name in UNCHANGED} == {name: row[name] for name in UNCHANGED}
    assert after["additional_data"].startswith('{"score":1.10,"account":123456789012345678901234567890,"note":"café",')
    told, was = provenance(after), provenance(row)
    assert told["rescrubbed"]["run_id"] == ended.run_id
    assert datetime.fromisoformat(told["rescrubbed"]["at"]).tzinfo is not None
    same = ("contact", "lookup_id", "script_hash", "purpose", "run_id", "looked_up_at", "outcome",
            "phone_1_litigator_checked_at")  # fmt: skip
    assert {name: told[name] for name in same} == {name: was[name] for name in same}
    assert told["phone_1_dnc_checked_at"] > was["phone_1_dnc_checked_at"]


def test_a_litigator_found_later_becomes_true_and_all_phones_of_the_lead_go(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = clear_row(graph)
    known = graph.simulators.ccc.is_litigator
    monkeypatch.setattr(graph.simulators.ccc, "is_litigator", lambda phone: phone == row["phone_1"] or known(phone))
    expire(graph, "ccc")
    ended = run_job(graph, sources="ccc")
    assert ended.success, ended.error
    assert row_of(graph, row["record_id"])["in_litigator_list"] is True
    assert ended.numbers["litigator_false_to_true"] >= 1
    assert not graph.callable_phones() & {row[f"phone_{i}"] for i in (1, 2, 3)}


# --- sources that fail --------------------------------------------------------------------


def test_an_expired_answer_that_ccc_does_not_renew_becomes_null_and_comes_back(graph: Graph) -> None:
    row = clear_row(graph)
    assert settled(graph, row["record_id"]) == {True}
    expire(graph, "ccc")
    graph.configure(CCC_MAX_RETRIES="0")
    graph.simulators.ccc.faults.add(Fault("server_error", share=1.0))
    ended = run_job(graph)
    during = row_of(graph, row["record_id"])
    assert during["in_litigator_list"] is None
    assert provenance(during)["null_reasons"]["in_litigator_list"] in ("vendor_error", "expired")
    assert during["phone_1_in_dnc"] is False
    assert settled(graph, row["record_id"]) == {True}, "the next rescrub asks again, no scrub publishes the lead anew"
    assert not graph.callable_phones()
    assert ended.numbers["ccc_unknown"] > 0
    assert sum(ended.numbers["unknown_by_reason"].values()) == ended.numbers["ccc_unknown"]
    graph.simulators.ccc.faults.clear()
    back = run_job(graph)
    assert back.success, back.error
    assert back.numbers["litigator_null_to_false"] > 0
    assert row_of(graph, row["record_id"])["in_litigator_list"] is False
    assert settled(graph, row["record_id"]) == {True}
    assert is_sound(graph)


def test_a_key_that_ccc_refuses_fails_the_job_by_name_and_the_registry_is_asked_all_the_same(graph: Graph) -> None:
    row = clear_row(graph)
    expire(graph, "ccc")
    graph.configure(CCC_API_KEY="wrong")
    graph.write_registry(listed=[row["phone_1"]])
    ended = run_job(graph)
    assert (ended.success, ended.exit_code) == (False, 3)
    assert "CCC refuses the key" in ended.error
    after = row_of(graph, row["record_id"])
    assert after["phone_1_in_dnc"] is True, "the other source was asked"
    assert after["in_litigator_list"] is None
    assert provenance(after)["null_reasons"]["in_litigator_list"] == "expired"


@pytest.mark.parametrize("choice", [{"on_stale_list": "fail"}, {"on_stale_list": "null"}])
def test_a_list_past_its_age_fails_the_job_or_makes_absence_unknown(graph: Graph, choice: dict[str, str]) -> None:
    row = clear_row(graph)
    graph.write_registry(listed=[row["phone_1"]])
    expire(graph, "dnc")
    date_list(graph, days=40)
    ended = run_job(graph, **choice)
    after = row_of(graph, row["record_id"])
    absent = {one["phone_1_in_dnc"] for one in graph.master() if one["phone_1"] and one["phone_1"] != row["phone_1"]}
    assert absent == {None}
    if choice["on_stale_list"] == "fail":
        assert (ended.success, ended.exit_code, ended.numbers["dnc_asked"]) == (False, 3, 0)
        assert "40 days old" in ended.error
        assert not ended.was_tried_again, "the list does not become newer by another try"
        assert after["phone_1_in_dnc"] is None
    else:
        assert ended.success, ended.error
        assert after["phone_1_in_dnc"] is True, "found on a stale list is listed"
        assert set(ended.numbers["unknown_by_reason"]) <= {"dnc: expired", "dnc: stale_list"}
    date_list(graph, days=2)
    assert run_job(graph).success
    assert {one["phone_1_in_dnc"] for one in graph.master() if one["phone_1"]} == {True, False}


def test_a_registry_that_is_gone_fails_the_job_and_litigators_are_asked_all_the_same(graph: Graph) -> None:
    expire(graph, "ccc")
    graph.registry.unlink()
    ended = run_job(graph)
    assert (ended.success, ended.exit_code) == (False, 3)
    assert "does not exist" in ended.error
    assert ended.was_tried_again
    assert {row["in_litigator_list"] for row in graph.master() if row["phone_1"]} >= {False}


def test_two_rescrubs_at_once_are_refused_and_a_scrub_may_run_beside_one(graph: Graph) -> None:
    with graph.ledger() as ledger, ledger.partition_lease(LEASE, holder="another-run"):
        ended = run_job(graph)
        assert (ended.success, ended.exit_code) == (False, 4)
        assert "another-run" in ended.error
        assert graph.scrub("leads").success
    assert run_job(graph).success


# --- what must stay as it is --------------------------------------------------------------


def test_a_withdrawn_row_is_checked_again_and_stays_withdrawn(graph: Graph) -> None:
    row = clear_row(graph)
    with graph.warehouse() as session:
        results.withdraw(session, results.find_withdrawal(session, "leads"))
    assert not graph.callable_phones()
    graph.write_registry(listed=[row["phone_1"]])
    assert run_job(graph).success
    graph.write_registry()
    assert run_job(graph).success
    assert row_of(graph, row["record_id"])["phone_1_in_dnc"] is False
    assert not graph.callable_phones()
    assert graph.rows(f"SELECT COUNT(*) FROM {WITHDRAWALS.full_name}") == [(len(graph.master()),)]


def test_a_withdrawn_row_that_became_unknown_is_neither_published_nor_paid_for_by_the_next_scrub(graph: Graph) -> None:
    with graph.warehouse() as session:
        results.withdraw(session, results.find_withdrawal(session, "leads"))
    expire(graph, "ccc")
    graph.configure(CCC_MAX_RETRIES="0", IDICORE_GLBA="legal")
    graph.simulators.ccc.faults.add(Fault("server_error", share=1.0))
    before, billed = graph.master(), graph.billed
    run_job(graph)
    assert {row["in_litigator_list"] for row in graph.master() if row["phone_1"]} <= {True, None}
    graph.simulators.ccc.faults.clear()
    run = graph.scrub("leads")
    assert (run.success, run.counts["kept"], graph.billed) == (True, 0, billed)
    assert {row["processed_at"] for row in graph.master()} == {row["processed_at"] for row in before}
    assert run_job(graph).success
    assert not graph.callable_phones()


def test_an_erased_person_stays_erased(graph: Graph) -> None:
    row = clear_row(graph)
    wanted = Wanted(record_id=row["record_id"])
    warehouse = open_warehouse(load_settings())
    with graph.ledger() as ledger:
        erase_person(warehouse, ledger, wanted)
    before = row_of(graph, row["record_id"])
    graph.write_registry(listed=[row["phone_1"]])
    expire(graph, "ccc")
    assert run_job(graph, renew=True).success
    assert row_of(graph, row["record_id"]) == before
    with graph.ledger() as ledger:
        export = export_person(warehouse, ledger, wanted)
    assert export["phones"] == []
    query = f"SELECT COUNT(*) FROM {PHONE_VERDICTS.full_name} WHERE phone = ?"
    assert graph.rows(query, [row["phone_1"]]) == [(0,)]


def test_evidence_is_sound_after_a_rescrub_and_a_phones_story_shows_it(graph: Graph) -> None:
    row = clear_row(graph)
    graph.write_registry(listed=[row["phone_1"]])
    ended = run_job(graph, renew=True)
    assert ended.success, ended.error
    assert is_sound(graph)
    assert ended.numbers["evidence"]["dnc"]["rows"] == ended.numbers["phones"]
    assert ended.numbers["evidence"]["ccc"]["seal"] > 0
    warehouse = open_warehouse(load_settings())
    with graph.ledger() as ledger:
        (story,) = trace(warehouse, ledger, row["phone_1"])["phones"]
        run = trace(warehouse, ledger, ended.run_id)
    checks = [check for check in story["checks"] if check["run_id"] == ended.run_id]
    assert {check["asset"] for check in checks} == {"rescrub_dnc", "rescrub_litigators"}
    assert all(check["seal"]["root"] for check in checks)
    assert {chain["asset"]: chain["script"] for chain in run["chains"]} == {
        "rescrub_dnc": "*",
        "rescrub_litigators": "*",
    }


@pytest.mark.parametrize(
    "point", ["answers.before_commit", "answers.after_commit", "seal.before_commit", "master.before_commit"]
)
def test_a_rescrub_that_is_stopped_anywhere_and_run_again_ends_in_the_same_state(graph: Graph, point: str) -> None:
    row, before = clear_row(graph), graph.master()
    graph.write_registry(listed=[row["phone_1"]])
    expire(graph, "ccc")

    def stop(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    failpoints.arm(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_step(graph, "stopped")
    finally:
        failpoints.arm(None)
    run_step(graph, "again")
    expected = {one["record_id"]: flags(one) for one in before}
    expected[row["record_id"]] = (False, True, *flags(row)[2:])
    assert {one["record_id"]: flags(one) for one in graph.master()} == expected
    assert is_sound(graph)


def test_a_lease_that_is_held_is_refused_before_anything_is_asked(graph: Graph) -> None:
    scrubs = graph.simulators.ccc.scrubs
    with (
        graph.ledger() as ledger,
        ledger.partition_lease(LEASE, holder="another-run"),
        pytest.raises(RefusedError, match="another-run"),
    ):
        run_step(graph, renew=True)
    assert graph.simulators.ccc.scrubs == scrubs
