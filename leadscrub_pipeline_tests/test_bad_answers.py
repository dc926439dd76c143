"""Vendors that answer badly or not at all, over runs: nothing is paid twice, nothing is read as clear."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS, SCRUB_EVIDENCE
from leadscrub_pipeline_tests.bad_input import (
    deployment,
    fails,
    no_flag_is_false_unanswered,
    phones_of,
    private_people,
    published,
    settled_again,
    state,
    tells_nothing_private,
    verdicts,
)
from leadscrub_pipeline_tests.graph import Graph, Run

NEXT = {"start": 1000}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    with deployment(tmp_path_factory.mktemp("answers")) as graph:
        graph.configure(IDICORE_TIMEOUT="0.3", CCC_TIMEOUT="0.3", CCC_MAX_RETRIES="0")
        yield graph


@pytest.fixture
def graph(whole: Graph, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with settled_again(whole, monkeypatch) as graph:
        yield graph


def new_script(graph: Graph, key: str, count: int) -> None:
    """A script over people nobody was asked about yet."""
    graph.write_source(f"LEADS_DB.PUBLIC.{key.upper()}", private_people(count, start=NEXT["start"]))
    graph.write_script(key, f"SELECT * FROM LEADS_DB.PUBLIC.{key.upper()}")
    NEXT["start"] += count


def from_next(graph: Graph, first: int = 1) -> range:
    """The numbers of the searches to come, from the so-manieth on."""
    return range(graph.simulators.idicore.searches + first, 10**9)


def the_ledger_has_the_bill(graph: Graph) -> None:
    """Every billed request has a row of its own, and the bill lies between what is settled and what is unknown."""
    bill = graph.simulators.idicore.bill
    with closing(sqlite3.connect(graph.home / "ledger.sqlite")) as connection:
        rows = {lookup_id for (lookup_id,) in connection.execute("SELECT lookup_id FROM ledger_lookups")}
    assert {entry.reference_id for entry in bill} <= rows
    assert {len(entries) for entries in bill.by_reference().values()} == {1}
    with graph.ledger() as ledger:
        summary = ledger.summary()
    assert summary.cost <= bill.total() <= summary.cost + summary.unknown_cost


# --- idiCORE answers badly ------------------------------------------------------------


def test_each_bad_answer_of_idicore_is_asked_about_once_more_and_harms_no_other_lead(graph: Graph) -> None:
    kinds = ["short_answer", "wrong_type", "html", "empty_body", "cut_body", "slow_body"]
    graph.configure(IDICORE_MIN_WORKERS=1, IDICORE_MAX_WORKERS=1)
    new_script(graph, "answers", 20)
    billed = graph.billed
    for at, kind in enumerate(kinds):
        graph.simulators.idicore.faults.add(Fault(kind, requests=[graph.simulators.idicore.searches + 1 + 3 * at]))
    run = graph.scrub("answers")
    assert run.success, run.error
    assert run.counts["published"] == 20
    # Some wrong types can still be read as nobody found, which is an answer.
    assert 5 <= run.counts["lookups_unknown"] <= 6
    assert graph.billed - billed == run.counts["lookups_paid"] + run.counts["lookups_unknown"]
    the_ledger_has_the_bill(graph)
    no_flag_is_false_unanswered(graph, "answers")
    tells_nothing_private(run)


def test_a_lead_whose_answers_stay_bad_is_held_and_not_asked_about_for_ever(graph: Graph) -> None:
    new_script(graph, "always", 4)
    graph.simulators.idicore.faults.add(Fault("html", share=1.0))
    run = graph.scrub("always")
    assert run.success, run.error
    assert (run.counts["held"], run.counts["published"], run.counts["lookups_unknown"]) == (4, 0, 8)
    assert run.metadata["enriched_contacts"]["deferred_or_held_by_reason"] == {"unknown_outcome": 4}
    graph.simulators.idicore.faults.clear()
    billed = graph.billed
    run = graph.scrub("always")
    assert (run.counts["held"], run.counts["lookups_paid"], graph.billed) == (4, 0, billed)


def test_under_policy_hold_nothing_of_unknown_outcome_is_asked_about_again(graph: Graph) -> None:
    graph.configure(IDICORE_UNKNOWN_POLICY="hold")
    new_script(graph, "held", 8)
    billed = graph.billed
    graph.simulators.idicore.faults.add(Fault("reset_after_billing", times=3))
    run = graph.scrub("held")
    assert run.success, run.error
    assert (run.counts["held"], run.counts["lookups_unknown"], run.counts["published"]) == (3, 3, 5)
    assert graph.billed - billed == run.counts["lookups_paid"] + 3
    billed = graph.billed
    run = graph.scrub("held")
    assert (run.counts["held"], run.counts["lookups_paid"], graph.billed) == (3, 0, billed)


def test_an_answer_about_somebody_else_is_a_miss_and_nobodys_phone_becomes_the_leads(graph: Graph) -> None:
    new_script(graph, "others", 10)
    graph.simulators.idicore.faults.add(Fault("other_person", share=1.0))
    run = graph.scrub("others")
    assert run.success, run.error
    assert [phones_of(row) for row in published(graph, "others")] == [[]] * 10
    assert all(row["in_litigator_list"] is None for row in published(graph, "others"))


def test_a_long_answer_gives_three_phones_and_no_relatives(graph: Graph) -> None:
    new_script(graph, "longer", 10)
    graph.simulators.idicore.faults.add(Fault("long_answer", share=1.0))
    run = graph.scrub("longer")
    assert run.success, run.error
    assert len(published(graph, "longer")) == 10
    kept = graph.rows(f"SELECT contact FROM {ENRICHED_CONTACTS.full_name} WHERE partition_key = 'longer'")
    assert all(len(contact) < 2000 for (contact,) in kept if contact)
    no_flag_is_false_unanswered(graph, "longer")


def test_a_phone_that_is_no_nanp_number_is_kept_aside_and_never_sent_to_a_vendor(graph: Graph) -> None:
    new_script(graph, "unusable", 120)
    run = graph.scrub("unusable")
    assert run.success, run.error
    contacts = [json.loads(row["additional_data"])["provenance"]["contact"] for row in published(graph, "unusable")]
    aside = [phone["phone"] for contact in contacts if contact for phone in contact.get("unusable_phones", [])]
    assert aside
    assert set(aside) <= {"555-0123", "(212) 555-0123 x44", "+44 20 7946 0123", "8005550199", "N/A"}
    assert all(len(phone) == 10 and phone.isdigit() for phone in graph.simulators.ccc.asked)
    assert "8005550199" not in graph.simulators.ccc.asked
    no_flag_is_false_unanswered(graph, "unusable")


# --- idiCORE does not answer ----------------------------------------------------------


@pytest.mark.parametrize("kind", ["server_error", "reset_after_billing", "timeout_after_billing"])
def test_when_idicore_goes_down_in_the_middle_what_was_paid_is_kept_and_not_paid_again(graph: Graph, kind: str) -> None:
    key = f"down_{kind}"
    new_script(graph, key, 30)
    billed = graph.simulators.idicore.bill.by_person()
    graph.simulators.idicore.faults.add(Fault(kind, requests=from_next(graph, 11)))
    fails(graph, key, "enriched_contacts", "idiCORE did not recover", "run again when the vendor is up")
    assert published(graph, key) == []
    graph.simulators.idicore.faults.clear()
    run = graph.scrub(key)
    assert run.success, run.error
    assert run.counts["published"] + run.counts["held"] == 30
    assert run.counts["lookups_reused"] >= 9
    ours = graph.simulators.idicore.bill.by_person() - billed
    assert max(ours.values()) <= (1 if kind == "server_error" else 2)
    the_ledger_has_the_bill(graph)


@pytest.mark.parametrize("kind", ["reset_before_billing", "html"])
def test_when_the_sign_in_is_down_the_step_fails_by_name_and_nothing_is_billed(graph: Graph, kind: str) -> None:
    key = f"sign_in_{kind}"
    new_script(graph, key, 20)
    before = graph.billed
    graph.simulators.idicore.faults.add(Fault(kind, operation="sign_in"))
    run = fails(graph, key, "enriched_contacts", "idiCORE did not recover")
    assert graph.billed == before
    with graph.ledger() as ledger:
        counts = ledger.lookups_of_run(run.run_id)
        assert (counts["sent"], counts["claimed"], counts["unknown"]) == (0, 0, 0)


def test_a_403_stops_at_once_and_what_was_answered_is_reused(graph: Graph) -> None:
    graph.configure(IDICORE_MIN_WORKERS=4, IDICORE_MAX_WORKERS=4)
    new_script(graph, "forbidden", 60)
    first = graph.simulators.idicore.searches
    graph.simulators.idicore.faults.add(Fault("forbidden", requests=from_next(graph, 11)))
    fails(graph, "forbidden", "enriched_contacts", "(403)", "No further search is sent", "IDICORE_CLIENT_ID")
    assert graph.simulators.idicore.searches - first <= 10 + 4
    graph.simulators.idicore.faults.clear()
    run = graph.scrub("forbidden")
    assert run.counts["published"] == 60, run.error
    assert run.counts["lookups_reused"] >= 9


def test_a_token_that_dies_early_is_renewed_and_costs_no_lead(graph: Graph) -> None:
    """The mistake of others: a token kept for its life, with no way back from a 401."""
    new_script(graph, "token", 20)
    signed_in = graph.simulators.idicore.sign_ins
    graph.simulators.idicore.faults.add(Fault("unauthorized", requests=[graph.simulators.idicore.searches + 5]))
    run = graph.scrub("token")
    assert run.success, run.error
    assert (run.counts["published"], run.counts["lookups_unknown"]) == (20, 0)
    assert graph.simulators.idicore.sign_ins == signed_in + 2


def test_an_account_that_answers_no_match_to_everything_stops_the_step_and_its_misses_are_held(graph: Graph) -> None:
    new_script(graph, "suspended", 130)
    graph.configure(IDICORE_MIN_WORKERS=5, IDICORE_MAX_WORKERS=5)
    graph.simulators.idicore.faults.add(Fault("no_match", share=1.0))
    fails(graph, "suspended", "enriched_contacts", "suspended", "leadscrub ledger release-suspects")
    assert published(graph, "suspended") == []
    graph.simulators.idicore.faults.clear()
    graph.configure(IDICORE_MAX_MISS_SHARE="1")
    billed = graph.billed
    run = graph.scrub("suspended")
    assert run.success, run.error
    assert run.counts["held"] >= 90
    assert run.counts["held"] + run.counts["published"] == 130
    assert graph.billed - billed == run.counts["lookups_paid"] <= 40
    with graph.ledger() as ledger:
        ledger.release_suspects(provider="idicore", endpoint="loopback/search", believe=False)


# --- CCC ------------------------------------------------------------------------------

CCC_FAULTS = {
    "all_false": {"control_failed"},
    "html": {"not_json"},
    "missing_control": {"control_failed"},
    "timeout": {"timeout"},
    "short_answer": {"missing_from_answer", "control_failed"},
    "wrong_type": {"wrong_type", "control_failed"},
    "server_error": {"vendor_error"},
    "contradiction": {"contradictory_answer", "control_failed"},
    "clear_control": {"control_failed"},
    "empty_body": {"not_json"},
    "other_phone": {"missing_from_answer"},
    "cut_body": {"vendor_error", "timeout", "not_json"},
    "long_answer": set(),
    "reset": {"vendor_error"},
}


def test_a_failed_or_false_batch_of_ccc_is_never_read_as_not_a_litigator(graph: Graph) -> None:
    """Each batch of one run meets another fault; afterwards the leads come again, at no cost at idiCORE."""
    graph.configure(CCC_BATCH_SIZE=13, CCC_MIN_WORKERS=1, CCC_MAX_WORKERS=1)
    new_script(graph, "batches", 150)
    for at, kind in enumerate(CCC_FAULTS, start=graph.simulators.ccc.scrubs + 1):
        graph.simulators.ccc.faults.add(Fault(kind, requests=[at]))
    run = graph.scrub("batches")
    assert run.success, run.error
    evidence = graph.rows(
        f"SELECT phone, verdict, reason FROM {SCRUB_EVIDENCE.full_name} "
        "WHERE run_id = ? AND source = 'ccc' ORDER BY sequence",
        [run.run_id],
    )
    for at, (kind, reasons) in enumerate(CCC_FAULTS.items()):
        batch = evidence[10 * at : 10 * at + 10]
        assert len(batch) == 10, kind
        found = {reason for _, verdict, reason in batch if verdict == "unknown"}
        assert found <= reasons, (kind, found)
        assert bool(found) == bool(reasons), kind
    no_flag_is_false_unanswered(graph, "batches")
    unknown = [row for row in published(graph, "batches") if row["in_litigator_list"] is None and phones_of(row)]
    assert len(unknown) > 30
    reasons = {json.loads(row["additional_data"])["provenance"]["null_reasons"]["in_litigator_list"] for row in unknown}
    assert reasons <= set().union(*CCC_FAULTS.values())
    tells_nothing_private(run)
    graph.simulators.ccc.faults.clear()
    billed = graph.billed
    run = graph.scrub("batches")
    assert run.counts["published"] >= len(unknown)
    assert (run.counts["flags_unknown"], graph.billed) == (0, billed)
    no_flag_is_false_unanswered(graph, "batches")


def test_a_number_that_ccc_calls_malformed_stands_alone_and_the_rest_is_answered(graph: Graph) -> None:
    new_script(graph, "culprit", 20)
    for step in ("raw_leads", "enriched_contacts"):
        assert graph.scrub("culprit", assets=[step]).success
    known = verdicts(graph, "ccc")
    phones = graph.rows(
        f"SELECT phone_1 FROM {ENRICHED_CONTACTS.full_name} WHERE partition_key = 'culprit' AND phone_1 IS NOT NULL"
    )
    culprit = next(phone for (phone,) in phones if phone not in known)
    graph.simulators.ccc.faults.add(Fault("malformed", phones=frozenset({culprit})))
    run = graph.scrub("culprit")
    assert run.success, run.error
    answered = verdicts(graph, "ccc")
    assert answered[culprit] == ("unknown", "malformed_by_vendor")
    assert all(
        answered[phone][1] is None
        for row in published(graph, "culprit")
        for phone in phones_of(row)
        if phone != culprit
    )
    no_flag_is_false_unanswered(graph, "culprit")


@pytest.mark.parametrize(("kind", "words"), [("unauthorized", "CCC_API_KEY"), ("server_error", "CCC did not recover")])
def test_when_ccc_goes_down_the_answers_so_far_stay_nothing_is_published_and_nothing_is_paid_twice(
    graph: Graph, kind: str, words: str
) -> None:
    key = f"ccc_{kind}"
    new_script(graph, key, 60)
    before = verdicts(graph, "ccc")
    graph.configure(CCC_BATCH_SIZE=5, CCC_MIN_WORKERS=2, CCC_MAX_WORKERS=2)
    graph.simulators.ccc.faults.add(Fault(kind, requests=range(graph.simulators.ccc.scrubs + 4, 10**9)))
    fails(graph, key, "litigator_flags", words)
    assert published(graph, key) == []
    stored = verdicts(graph, "ccc")
    assert [phone for phone in stored.keys() - before.keys() if stored[phone][1] is None]
    graph.simulators.ccc.faults.clear()
    billed = graph.billed
    run = graph.scrub(key)
    assert run.success, run.error
    assert (run.counts["lookups_paid"], graph.billed) == (0, billed)
    no_flag_is_false_unanswered(graph, key)


# --- mistakes others made --------------------------------------------------------------


def test_a_crash_near_the_end_loses_nothing_that_was_paid_for(graph: Graph) -> None:
    """The mistake of others: results stored only at the end of the job."""
    new_script(graph, "crash", 40)
    graph.configure(IDICORE_MIN_WORKERS=2, IDICORE_MAX_WORKERS=2)
    billed = graph.billed
    graph.simulators.idicore.faults.add(Fault("forbidden", requests=from_next(graph, 38)))
    fails(graph, "crash", "enriched_contacts", "(403)")
    assert graph.billed - billed >= 36
    graph.simulators.idicore.faults.clear()
    run = graph.scrub("crash")
    assert run.counts["published"] == 40, run.error
    assert run.counts["lookups_reused"] >= 35
    assert graph.billed - billed <= 40


def test_a_missing_address_is_rejected_and_never_replaced_by_a_made_up_one(graph: Graph) -> None:
    graph.write_source(
        "LEADS_DB.PUBLIC.NOWHERE",
        [("Ottoline", "Vexley", text, "Springfield", "IL", "62701") for text in ("", "N/A", "unknown", "-", "   ")],
    )
    graph.write_script("nowhere", "SELECT * FROM LEADS_DB.PUBLIC.NOWHERE")
    before = state(graph)
    run = graph.scrub("nowhere")
    assert run.metadata["raw_leads"]["rejected_by_reason"] == {"no_address": 5}, run.error
    after = state(graph)
    assert (after["billed"], after["master"], after["asked"]) == (before["billed"], before["master"], before["asked"])


def test_doubles_within_one_run_and_spellings_over_two_are_charged_once(graph: Graph) -> None:
    rows = [(first, "Vexley", street, "Springfield", "IL", "62701") for first in ("Ottoline", "OTTOLINE ", "ottoline")
            for street in ("77 Marrowbone Lane", "77 MARROWBONE LN.", "77  Marrowbone  Ln")]  # fmt: skip
    graph.write_source("LEADS_DB.PUBLIC.SPELT", rows[:5])
    graph.write_script("spelt", "SELECT * FROM LEADS_DB.PUBLIC.SPELT")
    graph.write_script("spelt_again", "SELECT * FROM LEADS_DB.PUBLIC.SPELT")
    billed = graph.billed
    assert graph.scrub("spelt").counts["duplicate"] == 4
    graph.write_source("LEADS_DB.PUBLIC.SPELT", rows[5:])
    assert graph.scrub("spelt_again", already_processed="include").counts["lookups_paid"] == 0
    assert graph.billed == billed + 1


def test_two_runs_at_once_that_want_the_same_people_are_charged_once(graph: Graph) -> None:
    graph.configure(IDICORE_TIMEOUT="5", CCC_TIMEOUT="5")
    new_script(graph, "left", 30)
    graph.write_script("right", "SELECT * FROM LEADS_DB.PUBLIC.LEFT")
    billed = graph.billed
    graph.simulators.idicore.latency = 0.1
    runs: list[Run] = []

    def scrub(key: str) -> None:
        runs.append(graph.scrub(key))

    threads = [threading.Thread(target=scrub, args=(key,)) for key in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    graph.simulators.idicore.latency = 0.0
    assert [run.error for run in runs] == ["", ""]
    assert sum(run.counts["lookups_paid"] for run in runs) == graph.billed - billed <= 30
    assert max((graph.simulators.idicore.bill.by_person()).values()) <= 2
    assert len(published(graph, "left")) + len(published(graph, "right")) == 30
