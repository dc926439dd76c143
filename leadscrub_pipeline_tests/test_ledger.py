"""What a run is told about each person: paid for, ours to ask, being asked, held or capped."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.ledger import Busy, Cached, Capped, Claimed, Held, LookupTerms, Settlement, ToAsk
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    ANSWER,
    FAILED,
    HIT,
    MISS,
    TERMS,
    UNKNOWN,
    claim_ids,
    clock,
    keys,
    ledger,
    look_up,
    new_postgres_database,
    open_ledger,
    other_run,
    send,
    settle,
    where,
)

(JANE,) = keys(1)


def test_a_person_nobody_asked_about_is_ours_to_ask(ledger):
    assert isinstance(ledger.claim([JANE], TERMS)[JANE], Claimed)


def test_a_person_another_run_is_asking_about_is_not_asked_about_twice(open_ledger):
    first, second = open_ledger(), open_ledger()
    (lookup_id,) = claim_ids(first, [JANE])
    assert isinstance(second.claim([JANE], other_run())[JANE], Busy)
    send(first, lookup_id)
    assert isinstance(second.claim([JANE], other_run())[JANE], Busy)


def test_a_person_of_our_own_that_is_in_flight_is_not_asked_about_twice(ledger):
    claim_ids(ledger, [JANE])
    assert isinstance(ledger.claim([JANE], TERMS)[JANE], Busy)


def test_a_person_named_twice_in_one_bulk_is_asked_about_once(ledger):
    assert len(ledger.claim([JANE, JANE], TERMS)) == 1
    assert ledger.summary().lookups == 1


def test_an_answer_paid_for_serves_other_runs_and_scripts(open_ledger, clock):
    first, second = open_ledger(), open_ledger()
    (lookup_id,) = look_up(first, [JANE], HIT)
    bought_at = clock.now
    clock.turn(days=10)
    cached = second.claim([JANE], other_run())[JANE]
    assert isinstance(cached, Cached)
    assert (cached.lookup_id, cached.outcome, cached.answer) == (lookup_id, "hit", ANSWER)
    assert (cached.looked_up_at, cached.parser_version) == (bought_at, 1)
    assert (cached.expires_at - bought_at).days == 180


@pytest.mark.parametrize(("settlement", "days"), [(HIT, 180), (MISS, 30)])
def test_an_answer_is_asked_for_again_only_when_its_life_is_over(ledger, clock, settlement, days):
    look_up(ledger, [JANE], settlement)
    clock.turn(days=days, seconds=-1)
    assert isinstance(ledger.claim([JANE], other_run())[JANE], Cached)
    clock.turn(seconds=1)
    assert isinstance(ledger.claim([JANE], other_run())[JANE], Claimed)


def test_an_answer_never_serves_another_endpoint(ledger):
    look_up(ledger, [JANE], HIT)
    elsewhere = other_run(endpoint="https://vendor.example/search")
    assert isinstance(ledger.claim([JANE], elsewhere)[JANE], Claimed)


def test_an_answer_serves_another_purpose_only_when_a_setting_says_so(ledger):
    look_up(ledger, [JANE], HIT)
    collections = other_run(purpose=Purpose("collections", "debt", "3"))
    assert isinstance(ledger.peek([JANE], collections)[JANE], ToAsk)
    assert isinstance(ledger.peek([JANE], replace(collections, reuse_across_purposes=True))[JANE], Cached)


def test_an_answer_bought_for_all_purposes_serves_only_its_own_once_the_setting_is_off(ledger):
    look_up(ledger, [JANE], HIT, replace(TERMS, reuse_across_purposes=True))
    assert isinstance(ledger.peek([JANE], TERMS)[JANE], Cached)
    assert isinstance(ledger.peek([JANE], other_run(purpose=Purpose("collections", "debt", "3")))[JANE], ToAsk)


def test_a_person_in_flight_for_another_purpose_is_waited_for_when_answers_are_shared(ledger):
    claim_ids(ledger, [JANE])
    shared = other_run(purpose=Purpose("collections", "debt", "3"), reuse_across_purposes=True)
    assert isinstance(ledger.claim([JANE], shared)[JANE], Busy)


def test_an_unknown_outcome_is_asked_about_once_more_and_then_held(ledger):
    look_up(ledger, [JANE], UNKNOWN)
    second = ledger.claim([JANE], TERMS)[JANE]
    assert isinstance(second, Claimed)
    assert second.request_number == 2
    send(ledger, second.lookup_id)
    settle(ledger, UNKNOWN, second.lookup_id)
    assert ledger.claim([JANE], other_run())[JANE] == Held("unknown_outcome")


def test_an_unknown_outcome_is_never_asked_about_again_under_policy_hold(ledger):
    look_up(ledger, [JANE], UNKNOWN)
    assert ledger.claim([JANE], replace(TERMS, unknown_policy="hold"))[JANE] == Held("unknown_outcome")


def test_a_held_person_can_be_asked_about_when_the_cache_life_is_over(ledger, clock):
    hold = replace(TERMS, unknown_policy="hold")
    look_up(ledger, [JANE], UNKNOWN)
    clock.turn(days=180)
    assert isinstance(ledger.claim([JANE], hold)[JANE], Claimed)


def test_a_failed_request_is_free_and_may_be_repeated(ledger):
    for _ in range(3):
        look_up(ledger, [JANE], FAILED)
    counts = ledger.lookups_of_run("run-1")
    assert (counts["failed"], counts.cost, counts.unknown_cost) == (3, Decimal("0.00"), Decimal("0.00"))


def test_a_late_answer_serves_although_the_person_is_being_asked_about_again(open_ledger):
    first, second = open_ledger(), open_ledger()
    (late,) = look_up(first, [JANE], UNKNOWN)
    claim_ids(second, [JANE])
    settle(first, HIT, late)
    assert ledger_answer(second, JANE) == ANSWER


def ledger_answer(ledger, person):
    cached = ledger.claim([person], TERMS)[person]
    assert isinstance(cached, Cached), cached
    return cached.answer


def test_thousands_of_people_are_claimed_in_order_and_all_answered(ledger):
    people = keys(2_300)
    standings = ledger.claim(people, replace(TERMS, max_lookups_per_run=2_100))
    assert list(standings) == people
    assert [isinstance(standing, Claimed) for standing in standings.values()] == [True] * 2_100 + [False] * 200


# --- caps -----------------------------------------------------------------------------------


def test_the_runs_cap_counts_over_all_claims_of_the_run(ledger):
    terms = replace(TERMS, max_lookups_per_run=3)
    claim_ids(ledger, keys(2), terms)
    people = keys(2, start=10)
    standings = ledger.claim(people, terms)
    assert isinstance(standings[people[0]], Claimed)
    assert standings[people[1]] == Capped("run_cap")
    assert isinstance(ledger.claim([people[1]], other_run(terms))[people[1]], Claimed)


def test_the_daily_budget_counts_over_all_runs_and_starts_anew_with_the_day(ledger, clock):
    terms = replace(TERMS, daily_budget=Decimal("0.60"))
    claim_ids(ledger, keys(2), terms)
    assert ledger.claim(keys(1, start=9), other_run(terms)) == dict.fromkeys(keys(1, start=9), Capped("daily_budget"))
    clock.turn(hours=12)
    assert isinstance(ledger.claim(keys(1, start=9), other_run(terms))[keys(1, start=9)[0]], Claimed)


def test_the_day_of_a_budget_is_the_utc_day_to_the_microsecond_whatever_the_hosts_zone(ledger, clock, monkeypatch):
    """On the day that clocks in New York are set back, which has 25 hours there."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        terms = replace(TERMS, daily_budget=Decimal("0.25"))
        clock.now = datetime(2026, 11, 1, tzinfo=UTC)
        claim_ids(ledger, keys(1), terms)
        clock.turn(days=1, microseconds=-1)
        assert ledger.claim(keys(1, start=1), terms) == dict.fromkeys(keys(1, start=1), Capped("daily_budget"))
        clock.turn(microseconds=1)
        claim_ids(ledger, keys(1, start=1), terms)
        assert [row.day.day for row in ledger.summary().rows] == [1, 2]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_clock_that_is_set_back_or_forth_renews_no_budget_that_was_spent(ledger, clock):
    terms = replace(TERMS, daily_budget=Decimal("0.25"))
    capped = dict.fromkeys(keys(1, start=9), Capped("daily_budget"))
    claim_ids(ledger, keys(1), terms)
    clock.turn(hours=-11)
    assert ledger.claim(keys(1, start=9), terms) == capped, "an earlier hour of the same day"
    clock.turn(hours=-2)
    claim_ids(ledger, keys(1, start=1), terms)
    assert ledger.claim(keys(1, start=9), terms) == capped, "the day before has its own budget, once"
    clock.turn(hours=13)
    assert ledger.claim(keys(1, start=9), terms) == capped
    assert ledger.summary().lookups == 2


def test_money_of_a_lookup_that_failed_returns_to_the_day_of_its_claim(ledger, clock):
    terms = replace(TERMS, daily_budget=Decimal("0.25"))
    (yesterdays,) = claim_ids(ledger, keys(1), terms)
    clock.turn(days=1)
    claim_ids(ledger, keys(1, start=1), terms)
    send(ledger, yesterdays)
    settle(ledger, FAILED, yesterdays)
    assert ledger.claim(keys(1, start=9), terms) == dict.fromkeys(keys(1, start=9), Capped("daily_budget"))
    clock.turn(days=-1)
    claim_ids(ledger, keys(1, start=9), terms)


def test_a_cap_is_exact_when_many_workers_claim_at_once(ledger):
    terms = replace(TERMS, max_lookups_per_run=37, daily_budget=Decimal(1_000))
    with ThreadPoolExecutor(20) as workers:
        found = list(workers.map(lambda number: ledger.claim(keys(3, start=3 * number), terms), range(40)))
    standings = [standing for some in found for standing in some.values()]
    assert sum(isinstance(standing, Claimed) for standing in standings) == 37
    assert standings.count(Capped("run_cap")) == 120 - 37


def test_a_cap_of_nothing_sends_nothing_but_serves_what_is_paid_for(ledger):
    look_up(ledger, [JANE], HIT)
    (other,) = keys(1, start=5)
    standings = ledger.claim([JANE, other], other_run(max_lookups_per_run=0))
    assert isinstance(standings[JANE], Cached)
    assert standings[other] == Capped("run_cap")


@pytest.mark.parametrize("way", ["released", "failed", "not billed", "late failure"])
def test_what_was_not_billed_returns_its_reservation(ledger, way):
    terms = replace(TERMS, max_lookups_per_run=1, daily_budget=Decimal("0.25"))
    (lookup_id,) = claim_ids(ledger, [JANE], terms)
    if way == "released":
        assert ledger.release([lookup_id]) == 1
    else:
        send(ledger, lookup_id)
        if way == "late failure":
            settle(ledger, UNKNOWN, lookup_id)
        free_miss = Settlement(state="miss", reason="too_many_matches", billed=False)
        settle(ledger, free_miss if way == "not billed" else FAILED, lookup_id)
    assert isinstance(ledger.claim(keys(1, start=3), terms)[keys(1, start=3)[0]], Claimed)
    assert ledger.summary().cost == 0


@pytest.mark.parametrize("settlement", [HIT, MISS, UNKNOWN])
def test_what_may_have_been_billed_keeps_its_reservation(ledger, settlement):
    terms = replace(TERMS, max_lookups_per_run=1)
    look_up(ledger, [JANE], settlement, terms)
    assert ledger.claim(keys(1, start=3), terms)[keys(1, start=3)[0]] == Capped("run_cap")


def test_a_daily_budget_without_a_price_is_refused():
    with pytest.raises(RefusedError, match="IDICORE_PRICE_PER_LOOKUP"):
        replace(TERMS, price=Decimal(0), daily_budget=Decimal(10))


def test_a_price_finer_than_a_millionth_is_refused():
    with pytest.raises(RefusedError, match="six decimals"):
        replace(TERMS, price=Decimal("0.00000001"))


# --- release and preview ----------------------------------------------------------------------


def test_a_released_person_is_free_for_others_at_once(open_ledger):
    first, second = open_ledger(), open_ledger()
    lookup_ids = claim_ids(first, keys(3))
    assert second.release(lookup_ids) == 0, "only the owner may release"
    assert first.release(lookup_ids) == 3
    claim_ids(second, keys(3))


def test_a_request_that_was_sent_cannot_be_released(ledger):
    (lookup_id,) = claim_ids(ledger, [JANE])
    send(ledger, lookup_id)
    assert ledger.release([lookup_id]) == 0
    settle(ledger, HIT, lookup_id)


def test_releasing_a_repeat_does_not_forget_the_unknown_outcome_before_it(ledger):
    look_up(ledger, [JANE], UNKNOWN)
    ledger.release(claim_ids(ledger, [JANE]))
    assert ledger.peek([JANE], replace(TERMS, unknown_policy="hold"))[JANE] == Held("unknown_outcome")


def test_the_preview_tells_what_a_claim_would_find_and_writes_nothing(ledger):
    paid, unknown, new, flying = keys(4)
    look_up(ledger, [paid], HIT)
    look_up(ledger, [unknown], UNKNOWN)
    claim_ids(ledger, [flying])
    before = ledger.summary()
    hold = replace(TERMS, unknown_policy="hold")
    found = ledger.peek([paid, unknown, new, flying], hold)
    assert [type(found[person]) for person in (paid, unknown, new, flying)] == [Cached, Held, ToAsk, Busy]
    assert found[paid].answer is None
    assert ledger.summary() == before


# --- misses in a row --------------------------------------------------------------------------


def test_suspect_misses_serve_nobody_until_they_are_believed(ledger, clock):
    look_up(ledger, keys(2), HIT)
    clock.turn(seconds=1)
    look_up(ledger, keys(3, start=10), MISS)
    assert ledger.recent_outcomes(TERMS, limit=4) == ["miss", "miss", "miss", "hit"]
    assert ledger.suspect_misses(TERMS, limit=4) == 3
    (miss,) = keys(1, start=10)
    assert ledger.claim([miss], other_run())[miss] == Held("suspect_miss")
    assert ledger.recent_outcomes(TERMS, limit=4) == ["miss", "miss", "miss", "hit"], "they still stop the next run"
    released = ledger.release_suspects(provider=TERMS.provider, endpoint=TERMS.endpoint, believe=True)
    assert released == 3
    assert isinstance(ledger.claim([miss], other_run())[miss], Cached)
    assert ledger.recent_outcomes(TERMS) == ["hit", "hit"]


def test_discarded_misses_are_asked_for_again_and_their_cost_stays(ledger):
    look_up(ledger, [JANE], MISS)
    ledger.suspect_misses(TERMS)
    ledger.release_suspects(provider=TERMS.provider, endpoint=TERMS.endpoint, believe=False)
    assert ledger.summary().cost == Decimal("0.25")
    look_up(ledger, [JANE], HIT)
    assert ledger_answer(ledger, JANE) == ANSWER
    assert ledger.recent_outcomes(TERMS) == ["hit"]


def test_outcomes_at_another_endpoint_do_not_count(ledger):
    look_up(ledger, keys(3), MISS, other_run(endpoint="https://vendor.example/search"))
    assert ledger.recent_outcomes(TERMS) == []
    assert ledger.suspect_misses(TERMS) == 0


# --- sums -------------------------------------------------------------------------------------


def test_the_summary_tells_spend_by_script_day_and_outcome(ledger, clock):
    look_up(ledger, keys(2), HIT)
    look_up(ledger, keys(1, start=2), UNKNOWN)
    clock.turn(days=1)
    look_up(ledger, keys(3, start=3), MISS, other_run(price=Decimal("0.333333")))
    rows = [(row.partition_key, row.day.day, row.outcome, row.lookups) for row in ledger.summary().rows]
    assert rows == [("script_a", 21, "hit", 2), ("script_a", 21, "unknown", 1), ("script_b", 22, "miss", 3)]
    assert ledger.summary().cost == Decimal("1.499999")
    assert ledger.summary().unknown_cost == Decimal("0.25")
    assert ledger.summary(since=clock.now).lookups == 3
    assert ledger.summary(until=clock.now).cost == Decimal("0.50")
    counts = ledger.lookups_of_run("run-1")
    assert (counts["hit"], counts["unknown"], counts["miss"]) == (2, 1, 0)
    assert (counts.cost, counts.unknown_cost) == (Decimal("0.50"), Decimal("0.25"))


def test_a_ledger_without_lookups_has_spent_nothing(ledger):
    assert (ledger.summary().rows, ledger.summary().cost) == ((), 0)
    assert ledger.lookups_of_run("run-1").cost == 0


def test_terms_keep_their_defaults_in_step_with_the_settings():
    from leadscrub_pipeline.settings import Settings  # noqa: PLC0415

    defaults = Settings(_env_file=None)
    terms = LookupTerms(provider="p", endpoint="e", purpose=TERMS.purpose, run_id="r", partition_key="s", key_version=1)
    assert terms.cache_days == defaults.idicore_cache_days
    assert terms.miss_days == defaults.idicore_miss_days
    assert terms.unknown_policy == defaults.idicore_unknown_policy
    assert terms.max_unknown_repeats == defaults.idicore_max_unknown_repeats
