"""Random histories of runs, kills, faults, clocks and settings; after each, ledger, tables and bill are compared.

A red one prints its log and the command that runs it again.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline_tests.histories.books import Books, read_books
from leadscrub_pipeline_tests.histories.checker import RULES, check
from leadscrub_pipeline_tests.histories.events import Runs, Scrub, history_of
from leadscrub_pipeline_tests.histories.running import repeat_command, run_history
from leadscrub_pipeline_tests.histories.world import world_of
from leadscrub_pipeline_tests.tallies import tally

SHORT = range(12)
LONG = range(200)


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where that can be had: every commit of a ledger waits for its disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


def hold(seeds: range, folder: Path, *, through_dagster: bool = False) -> None:
    for seed in seeds:
        ending = run_history(seed, folder / f"seed-{seed}", through_dagster=through_dagster)
        tally("histories through Dagster" if through_dagster else "histories")
        if ending.complaints:
            told = [f"{rule}: {text}" for rule, text in ending.complaints]
            command = repeat_command(seed, through_dagster=through_dagster)
            pytest.fail("\n".join([*ending.log, "", *told, "", f"Again: {command}"]), pytrace=False)


@pytest.mark.parametrize("part", SHORT)
def test_after_any_history_ledger_tables_and_bill_agree(part: int, folder: Path, pytestconfig: pytest.Config) -> None:
    first = pytestconfig.getoption("history_seed") + part * 5
    hold(range(first, first + 5), folder)


@pytest.mark.parametrize("part", range(5))
def test_after_a_history_through_dagster_ledger_tables_and_bill_agree(
    part: int, folder: Path, pytestconfig: pytest.Config
) -> None:
    first = pytestconfig.getoption("history_seed") + 500 + part
    hold(range(first, first + 1), folder, through_dagster=True)


@pytest.mark.long
@pytest.mark.parametrize("part", LONG)
def test_after_two_thousand_histories_ledger_tables_and_bill_agree(
    part: int, folder: Path, pytestconfig: pytest.Config
) -> None:
    first = pytestconfig.getoption("history_seed") + 1_000 + part * 10
    hold(range(first, first + 10), folder)


def test_a_seed_gives_the_same_history_again() -> None:
    assert vars(history_of(7)) == vars(history_of(7))
    assert history_of(7).events != history_of(8).events


# --- the checker itself -----------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """What two plain runs left, one of them with a time-out that was billed."""
    history = replace(history_of(3), events=[], from_nothing=True, settings=dict(history_of(3).settings))
    history.settings |= {
        "IDICORE_UNKNOWN_POLICY": "retry",
        "IDICORE_MAX_UNKNOWN_REPEATS": "1",
        "IDICORE_MAX_LOOKUPS_PER_RUN": "",
        "IDICORE_DAILY_BUDGET": "",
    }
    timeout = ("idicore", Fault("timeout_after_billing", times=1, seconds=2.0))
    with world_of(history, tmp_path_factory.mktemp("finished") / "world") as world:
        world.happen(Runs((Scrub("script_a", holds_lease=True),), (timeout,)))
        world.happen(Runs((Scrub("script_b"),)))
        world.settle()
        return read_books(world)


def test_the_checker_is_content_with_plain_runs(finished: Books) -> None:
    assert check(finished) == []
    assert {row["state"] for row in finished.lookups} >= {"hit", "unknown"}
    assert len(finished.bill) > len(finished.people)


def doctored(name: str, books: Books) -> Books:
    books = copy.deepcopy(books)
    DOCTORS[name](books)
    return books


def drop_a_row(books: Books) -> None:
    books.lookups.remove(_hit(books))


def bill_twice(books: Books) -> None:
    books.bill.append(books.bill[0])


def lose_a_bill(books: Books) -> None:
    hit = _hit(books)
    books.bill = [entry for entry in books.bill if entry.reference_id != hit["lookup_id"]]
    unknown = [row for row in books.lookups if row["state"] == "unknown"]
    books.bill = [entry for entry in books.bill if entry.reference_id not in {row["lookup_id"] for row in unknown}]


def ask_again(books: Books) -> None:
    hit = _hit(books)
    books.asked["again"] = books.asked[hit["lookup_id"]]
    books.lookups.append(
        {**hit, "lookup_id": "again", "run_id": books.runs[-1].run_id, "claimed_at": hit["settled_at"]}
    )


def ask_about_nobody(books: Books) -> None:
    books.asked["nobody"] = ("No", "Body", "1 Nowhere St", None, None, "62701")


def give_another_key(books: Books) -> None:
    asked = {row["person_key"] for row in books.tables["RAW_LEADS"]}
    next(row for row in books.lookups if row["person_key"] in asked)["person_key"] = "another"


def lower_the_cap(books: Books) -> None:
    books.runs[0].settings = {**books.runs[0].settings, "IDICORE_MAX_LOOKUPS_PER_RUN": "1"}


def miscount(books: Books) -> None:
    next(iter(books.budgets.values()))["lookups"] += 1


def leave_in_flight(books: Books) -> None:
    _hit(books)["state"] = "sent"


def abandon(books: Books) -> None:
    _hit(books).update(state="unknown", reason="owner_died")


def pause_before(books: Books) -> None:
    books.runs[0].paused = True


def crash(books: Books) -> None:
    books.runs[0].report.exit_code = -11


def lose_a_lead(books: Books) -> None:
    books.runs[0].report.metadata["raw_leads"]["kept"] += 1


def hold_twice(books: Books) -> None:
    books.runs.append(replace(books.runs[0], run_id="at-once"))


def lose_a_person(books: Books) -> None:
    somebody = books.people[0]
    books.tables["MASTER_PROCESSED_DB"] = [row for row in books.master if books.person_of_row(row) != somebody]


def double_a_row(books: Books) -> None:
    books.master.append(books.master[0])


def mix_a_slice(books: Books) -> None:
    books.tables["ENRICHED_CONTACTS"][0]["run_id"] = "another"


def own_twice(books: Books) -> None:
    books.master.append({**books.master[0], "record_id": "another", "table_id": "another"})


def note_too_long(books: Books) -> None:
    row = next(row for row in books.tables["PUBLISHED_IDENTITIES"] if row["owned_until"] is not None)
    row["owned_until"] += timedelta(days=400)


def mix_up_phones(books: Books) -> None:
    books.master[0]["phone_1"] = "2125550100"


def lose_evidence(books: Books) -> None:
    books.tables["SCRUB_EVIDENCE"] = [row for row in books.evidence if row["verdict"] != "clear"]


def accuse(books: Books) -> None:
    next(row for row in books.master if row["in_litigator_list"] is False)["in_litigator_list"] = True


def misquote(books: Books) -> None:
    next(row for row in books.evidence if row["source"] == "ccc" and row["verdict"] == "clear")["verdict"] = "listed"


def forge_a_verdict(books: Books) -> None:
    books.tables["PHONE_VERDICTS"][0]["list_version"] = "another"


def cut_evidence(books: Books) -> None:
    books.evidence.remove(next(row for row in books.evidence if row["sequence"] == 1))


def edit_evidence(books: Books) -> None:
    books.evidence[0]["canonical"] += "0"


def _hit(books: Books) -> dict[str, object]:
    return next(row for row in books.lookups if row["state"] == "hit")


DOCTORS: dict[str, Callable[[Books], None]] = {
    "every_request_on_the_wire_has_its_row": drop_a_row,
    "every_cost_is_on_the_bill_once": bill_twice,
    "the_bill_lies_between_settled_and_settled_plus_unknown": lose_a_bill,
    "nobody_is_asked_about_twice_within_the_caches_life": ask_again,
    "nobody_is_asked_about_who_is_nobody": ask_about_nobody,
    "one_person_has_one_key_and_one_key_one_person": give_another_key,
    "no_cap_is_passed": lower_the_cap,
    "budgets_are_what_the_rows_say": miscount,
    "nothing_is_left_in_flight": leave_in_flight,
    "only_a_dead_process_leaves_a_request_behind": abandon,
    "a_paused_ledger_grants_nothing": pause_before,
    "every_run_ends_in_a_known_way": crash,
    "no_lead_is_lost_in_a_run": lose_a_lead,
    "one_run_at_a_time_holds_a_script": hold_twice,
    "everybody_is_published_in_the_end": lose_a_person,
    "no_row_is_doubled": double_a_row,
    "a_slice_is_of_one_run": mix_a_slice,
    "a_person_has_one_live_owner": own_twice,
    "no_identity_is_noted_longer_than_its_person_is_owned": note_too_long,
    "published_phones_are_the_persons_own": mix_up_phones,
    "every_false_flag_had_an_unexpired_clear_answer": lose_evidence,
    "every_true_flag_was_answered_listed": accuse,
    "evidence_is_the_truth": misquote,
    "every_verdict_has_its_evidence": forge_a_verdict,
    "evidence_has_no_gap": cut_evidence,
    "evidence_is_chained_and_sealed": edit_evidence,
}


@pytest.mark.parametrize("rule", [rule.__name__ for rule in RULES])
def test_the_checker_sees_what_a_rule_is_about(rule: str, finished: Books) -> None:
    assert rule in {complaint.rule for complaint in check(doctored(rule, finished))}


def test_the_checker_sees_more_repeats_than_the_policy_allows(finished: Books) -> None:
    books = copy.deepcopy(finished)
    books.runs[0].settings = {**books.runs[0].settings, "IDICORE_UNKNOWN_POLICY": "hold"}
    assert {complaint.rule for complaint in check(books)} == {"nobody_is_asked_about_twice_within_the_caches_life"}
