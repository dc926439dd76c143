"""Requests of unknown outcome: listed without personal data, and decided by an operator's word."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

from dataclasses import asdict, replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.errors import FailedError, RefusedError, UsageError
from leadscrub_pipeline.ledger import Capped, Claimed, Held, Ledger, ToAsk, tables
from leadscrub_pipeline.ledger.units import time_to_micros
from leadscrub_pipeline.ledger.unknowns import Repeats, Wanted
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    BOTH,
    FAILED,
    HIT,
    MISS,
    NOON,
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
    where_one,
)

ANY = Wanted()
REPEATS = Repeats(allowed=1, within_days=180, across_purposes=False)
(JANE,) = keys(1)


def row_of(ledger, lookup_id):
    with ledger._database.reading() as connection:
        return connection.execute(select(tables.lookups).where(tables.lookups.c.lookup_id == lookup_id)).one()


def reserved(ledger):
    with ledger._database.reading() as connection:
        return {row.scope: (row.lookups, row.micros) for row in connection.execute(select(tables.budgets))}


# --- the list ---------------------------------------------------------------------------------


@BOTH
def test_the_list_tells_what_the_vendor_needs_to_look_it_up_and_nothing_of_the_person(ledger, clock):
    look_up(ledger, keys(1, start=1), HIT)
    look_up(ledger, keys(1, start=2), FAILED)
    claimed_at = clock.now
    (lookup_id,) = claim_ids(ledger, [JANE])
    clock.turn(seconds=3)
    send(ledger, lookup_id)
    settle(ledger, UNKNOWN, lookup_id)
    (unknown,) = ledger.desk.unknowns(ANY, REPEATS)
    assert asdict(unknown) == {
        "lookup_id": lookup_id,
        "sent_at": claimed_at + timedelta(seconds=3),
        "partition_key": "script_a",
        "run_id": "run-1",
        "reason": "read_timeout",
        "price": Decimal("0.25"),
        "repeats_left": 1,
    }
    assert JANE not in str(unknown)


def test_the_oldest_comes_first_and_the_list_may_be_of_a_script_a_run_or_some_time(ledger, clock):
    (first,) = look_up(ledger, keys(1), UNKNOWN)
    clock.turn(hours=1)
    (second,) = look_up(ledger, keys(1, start=1), UNKNOWN, other_run())
    clock.turn(hours=1)
    (third,) = look_up(ledger, keys(1, start=2), UNKNOWN, other_run(run_id="run-3"))

    def found(**wanted):
        return [unknown.lookup_id for unknown in ledger.desk.unknowns(Wanted(**wanted), REPEATS)]

    assert found() == [first, second, third]
    assert found(partition_key="script_b") == [second, third]
    assert found(run_id="run-3") == [third]
    assert found(partition_key="script_a", run_id="run-3") == []
    hour_later = NOON + timedelta(hours=1)
    assert found(since=hour_later) == [second, third]
    assert found(until=hour_later) == [first]
    assert found(since=hour_later, until=hour_later + timedelta(microseconds=1)) == [second]
    assert found(since=hour_later + timedelta(microseconds=1)) == [third]


@BOTH
def test_repeats_left_count_down_with_each_unknown_of_the_person_as_the_claim_counts_them(ledger):
    look_up(ledger, [JANE], UNKNOWN)
    assert [u.repeats_left for u in ledger.desk.unknowns(ANY, REPEATS)] == [1]
    assert [u.repeats_left for u in ledger.desk.unknowns(ANY, replace(REPEATS, allowed=0))] == [0]
    assert [u.repeats_left for u in ledger.desk.unknowns(ANY, replace(REPEATS, allowed=2))] == [2]
    look_up(ledger, [JANE], UNKNOWN)
    assert [u.repeats_left for u in ledger.desk.unknowns(ANY, REPEATS)] == [0, 0]
    assert ledger.claim([JANE], TERMS)[JANE] == Held("unknown_outcome")
    assert [u.repeats_left for u in ledger.desk.unknowns(ANY, replace(REPEATS, allowed=0))] == [0, 0]


def test_an_unknown_past_the_cache_life_uses_up_no_repeat_any_more(ledger, clock):
    look_up(ledger, [JANE], UNKNOWN)
    clock.turn(days=179)
    look_up(ledger, [JANE], UNKNOWN)
    clock.turn(days=1, microseconds=-1)
    assert [u.repeats_left for u in ledger.desk.unknowns(ANY, REPEATS)] == [0, 0]
    clock.turn(microseconds=1)
    assert [u.repeats_left for u in ledger.desk.unknowns(ANY, REPEATS)] == [1, 1]
    assert isinstance(ledger.peek([JANE], TERMS)[JANE], ToAsk)


@pytest.mark.parametrize(("across", "left"), [(False, [1, 1]), (True, [0, 0])])
def test_unknowns_under_another_purpose_count_only_when_answers_are_shared(ledger, across, left):
    look_up(ledger, [JANE], UNKNOWN)
    look_up(ledger, [JANE], UNKNOWN, other_run(purpose=Purpose("collections", "debt", "3")))
    found = ledger.desk.unknowns(ANY, replace(REPEATS, across_purposes=across))
    assert [unknown.repeats_left for unknown in found] == left


def test_requests_of_the_person_that_failed_use_up_no_repeat_and_those_of_one_moment_come_by_their_ids(ledger):
    look_up(ledger, keys(9), FAILED)
    ids = look_up(ledger, keys(9), UNKNOWN)
    found = ledger.desk.unknowns(ANY, REPEATS)
    assert [unknown.lookup_id for unknown in found] == sorted(ids)
    assert {unknown.repeats_left for unknown in found} == {1}


def test_unknowns_of_other_people_and_endpoints_use_up_nothing(ledger):
    look_up(ledger, keys(2), UNKNOWN)
    look_up(ledger, [JANE], UNKNOWN, other_run(endpoint="https://vendor.example/search"))
    assert [u.repeats_left for u in ledger.desk.unknowns(ANY, REPEATS)] == [1, 1, 1]


def test_what_a_dead_process_had_sent_is_listed_before_any_sweep_and_claims_are_not(open_ledger, where, clock):
    lookup_ids = claim_ids(dead := open_ledger(), keys(2))
    send(dead, lookup_ids[0])
    with Ledger.open_existing(where, clock=clock) as reading:
        assert reading.desk.unknowns(ANY, REPEATS) == []
        with dead._database.writing() as connection:
            connection.execute(update(tables.owners).values(lease_until=0))
        (unknown,) = reading.desk.unknowns(ANY, REPEATS)
    assert (unknown.lookup_id, unknown.reason, unknown.repeats_left) == (lookup_ids[0], "owner_died", 1)


# --- the word ---------------------------------------------------------------------------------


@BOTH
def test_resolved_as_not_billed_costs_nothing_returns_its_reservation_and_the_person_may_be_asked_again(ledger, clock):
    terms = replace(TERMS, unknown_policy="hold", max_lookups_per_run=1, daily_budget=Decimal("0.25"))
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN, terms)
    assert ledger.claim([JANE], terms)[JANE] == Held("unknown_outcome")
    clock.turn(hours=1)
    assert ledger.desk.resolve([lookup_id], billed=False) == 1
    row = row_of(ledger, lookup_id)
    assert (row.state, row.cost_micros, row.is_current, row.reason) == ("failed", 0, False, "resolved_not_billed")
    assert row.settled_at - row.sent_at == 3_600_000_000
    assert set(reserved(ledger).values()) == {(0, 0)}
    assert (ledger.summary().cost, ledger.summary().unknown_cost) == (0, 0)
    assert ledger.desk.unknowns(ANY, REPEATS) == []
    claimed = ledger.claim([JANE], terms)[JANE]
    assert isinstance(claimed, Claimed)
    assert claimed.request_number == 2


@BOTH
def test_resolved_as_billed_is_spent_and_no_longer_in_doubt_and_still_uses_up_a_repeat(ledger):
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN)
    before = reserved(ledger)
    assert ledger.desk.resolve([lookup_id], billed=True) == 1
    row = row_of(ledger, lookup_id)
    assert (row.state, row.cost_micros, row.is_current, row.reason) == ("unknown", 250_000, True, "resolved_billed")
    assert (ledger.summary().cost, ledger.summary().unknown_cost) == (Decimal("0.25"), Decimal("0.00"))
    counts = ledger.lookups_of_run("run-1")
    assert (counts["unknown"], counts.cost, counts.unknown_cost) == (1, Decimal("0.25"), Decimal("0.00"))
    assert reserved(ledger) == before == {"run:run-1": (1, 250_000), "day:2026-11-21": (1, 250_000)}
    assert ledger.desk.unknowns(ANY, REPEATS) == []
    assert ledger.peek([JANE], replace(TERMS, unknown_policy="hold"))[JANE] == Held("unknown_outcome")
    look_up(ledger, [JANE], UNKNOWN)
    assert [u.repeats_left for u in ledger.desk.unknowns(ANY, REPEATS)] == [0]


def test_a_word_may_be_changed_from_billed_to_not_billed_and_not_back(ledger):
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN)
    ledger.desk.resolve([lookup_id], billed=True)
    assert ledger.desk.resolve([lookup_id], billed=False) == 1
    assert (ledger.summary().cost, set(reserved(ledger).values())) == (0, {(0, 0)})
    with pytest.raises(UsageError):
        ledger.desk.resolve([lookup_id], billed=True)


@pytest.mark.parametrize("settlement", [HIT, MISS, FAILED])
def test_only_what_is_unknown_can_be_resolved_and_one_mistake_changes_nothing(ledger, settlement):
    (known,) = look_up(ledger, keys(1, start=1), settlement)
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN)
    with pytest.raises(UsageError, match=f"^1 of 2 .*{known}") as caught:
        ledger.desk.resolve([lookup_id, known], billed=False)
    assert "Nothing" in str(caught.value)
    assert row_of(ledger, lookup_id).state == "unknown"
    with pytest.raises(UsageError, match="2 of 3"):
        ledger.desk.resolve([lookup_id, known, "no such lookup"], billed=True)


def test_an_id_named_twice_is_one(ledger):
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN)
    assert ledger.desk.resolve([lookup_id, lookup_id], billed=False) == 1
    assert reserved(ledger)["run:run-1"] == (0, 0)


@BOTH
@pytest.mark.parametrize("billed", [True, False])
def test_all_before_a_time_takes_what_nobody_decided_and_was_sent_before_it(ledger, clock, billed):
    (decided,) = look_up(ledger, keys(1, start=5), UNKNOWN)
    ledger.desk.resolve([decided], billed=True)
    (old,) = look_up(ledger, keys(1), UNKNOWN)
    clock.turn(hours=1)
    (new,) = look_up(ledger, keys(1, start=1), UNKNOWN)
    assert ledger.desk.resolve_before(clock.now, billed=billed) == 1
    assert row_of(ledger, old).reason == ("resolved_billed" if billed else "resolved_not_billed")
    settled = clock.now - timedelta(hours=1) if billed else clock.now
    assert row_of(ledger, old).settled_at == time_to_micros(settled)
    assert row_of(ledger, new).reason == "read_timeout"
    assert row_of(ledger, decided).state == "unknown"
    assert ledger.desk.resolve_before(clock.now, billed=billed) == 0
    assert ledger.desk.resolve_before(clock.now + timedelta(microseconds=1), billed=billed) == 1


def test_what_a_dead_process_had_sent_can_be_resolved_at_once(open_ledger):
    (lookup_id,) = claim_ids(dead := open_ledger(), [JANE])
    send(dead, lookup_id)
    living = open_ledger()
    with pytest.raises(UsageError):
        living.desk.resolve([lookup_id], billed=False)
    with dead._database.writing() as connection:
        connection.execute(update(tables.owners).values(lease_until=0))
    assert living.desk.resolve([lookup_id], billed=False) == 1


@BOTH
def test_more_than_a_chunk_of_unknowns_is_resolved_at_once(ledger):
    lookup_ids = look_up(ledger, keys(1_001), UNKNOWN)
    assert len(ledger.desk.unknowns(ANY, REPEATS)) == 1_001
    assert ledger.desk.resolve(lookup_ids, billed=False) == 1_001
    assert reserved(ledger)["run:run-1"] == (0, 0)
    assert ledger.lookups_of_run("run-1")["failed"] == 1_001


def test_money_that_was_returned_can_be_spent_again(ledger):
    terms = replace(TERMS, max_lookups_per_run=1)
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN, terms)
    (other,) = keys(1, start=7)
    ledger.desk.resolve([lookup_id], billed=True)
    assert ledger.claim([other], terms)[other] == Capped("run_cap")
    ledger.desk.resolve([lookup_id], billed=False)
    assert isinstance(ledger.claim([other], terms)[other], Claimed)


def test_an_answer_that_comes_after_all_beats_the_word_billed_and_counts_once(ledger):
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN)
    ledger.desk.resolve([lookup_id], billed=True)
    settle(ledger, HIT, lookup_id)
    assert (ledger.summary().cost, ledger.summary().unknown_cost) == (Decimal("0.25"), 0)


def test_an_answer_to_what_was_resolved_as_not_billed_is_refused_by_name(ledger):
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN)
    ledger.desk.resolve([lookup_id], billed=False)
    with pytest.raises(FailedError, match="settled"):
        settle(ledger, HIT, lookup_id)


def test_who_may_only_read_cannot_resolve(ledger, where, clock):
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN)
    with Ledger.open_existing(where, clock=clock) as reading, pytest.raises(RefusedError, match="reading only"):
        reading.desk.resolve([lookup_id], billed=True)
