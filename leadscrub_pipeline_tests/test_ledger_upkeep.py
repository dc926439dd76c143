"""Adoption, rekeying and erasing in the ledger itself, on both databases."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.errors import RefusedError, UnavailableError
from leadscrub_pipeline.ledger import Cached, Claimed, Held, Ledger, ToAsk
from leadscrub_pipeline.ledger.adoption import CacheLife, OldLookup
from leadscrub_pipeline.ledger.units import time_to_micros
from leadscrub_pipeline_tests.ledger_support import (
    ANSWER,
    HIT,
    MISS,
    NOON,
    TERMS,
    UNKNOWN,
    Clock,
    claim_ids,
    clock,
    keys,
    ledger,
    look_up,
    new_postgres_database,
    open_ledger,
    send,
    settle,
    where,
)

LIFE = CacheLife(hit=180, miss=30)
_ = (clock, ledger, new_postgres_database, open_ledger, where)  # fixtures


def adopt(ledger: Ledger, *found: OldLookup) -> None:
    ledger.upkeep.adopt(found, key_version=1, life=LIFE)


def old(key: str, *, days: float = 10, outcome: str = "hit", script: str = "old") -> OldLookup:
    return OldLookup(key, script, time_to_micros(NOON - timedelta(days=days)), outcome)  # type: ignore[arg-type]


def test_an_adopted_person_is_cached_without_an_answer_under_any_purpose_and_address(ledger: Ledger) -> None:
    (key,) = keys(1)
    adopt(ledger, old(key))
    other = replace(TERMS, purpose=Purpose("other", "x", "y"), endpoint="elsewhere")
    for terms in (TERMS, other):
        found = ledger.claim([key], terms)[key]
        assert isinstance(found, Cached)
        assert (found.answer, found.outcome, found.looked_up_at) == (None, "hit", NOON - timedelta(days=10))
        assert isinstance(ledger.peek([key], terms)[key], Cached)


def test_when_the_time_of_an_adopted_lookup_is_over_the_first_request_is_the_first(
    ledger: Ledger, clock: Clock
) -> None:
    (key,) = keys(1)
    adopt(ledger, old(key, days=179))
    clock.turn(days=2)
    found = ledger.claim([key], TERMS)[key]
    assert isinstance(found, Claimed)
    assert found.request_number == 1


def test_an_answer_of_our_own_is_shown_before_a_newer_adopted_lookup(ledger: Ledger, clock: Clock) -> None:
    (key,) = keys(1)
    look_up(ledger, [key], HIT)
    clock.turn(days=5)
    ledger.upkeep.adopt([OldLookup(key, "old", None, "hit")], key_version=1, life=LIFE)
    found = ledger.claim([key], TERMS)[key]
    assert isinstance(found, Cached)
    assert found.answer == ANSWER


def test_adopting_in_any_order_and_again_gives_one_lookup_that_lives_longest(ledger: Ledger, clock: Clock) -> None:
    first, second = keys(2)
    rows = [old(first, days=100), old(first, days=1, outcome="miss"), old(first, days=120)]
    adopt(ledger, *rows)
    for row in reversed(rows):
        adopt(ledger, row._replace(person_key=second))
    adopt(ledger, *rows)
    ends = {page.person_key: page.expires_at for pages in ledger.upkeep.answers() for page in pages}
    assert ends == dict.fromkeys((first, second), time_to_micros(NOON + timedelta(days=80)))
    assert len(ledger.upkeep.history([first, second])) == 2


def test_an_unknown_time_counts_from_the_first_adoption_on(ledger: Ledger, clock: Clock) -> None:
    (key,) = keys(1)
    for _again in range(2):
        ledger.upkeep.adopt([OldLookup(key, "old", None, "hit")], key_version=1, life=LIFE)
        clock.turn(days=1)
    (page,) = ledger.upkeep.answers()
    assert page[0].looked_up_at == time_to_micros(NOON)


def test_adopted_lookups_are_no_requests_in_the_summary(ledger: Ledger) -> None:
    adopt(ledger, *(old(key) for key in keys(5)))
    assert ledger.summary().lookups == 0
    assert ledger.recent_outcomes(TERMS) == []


# --- rekeying -----------------------------------------------------------------------------


def test_two_who_become_one_keep_one_current_request_and_the_newest_live_answer(ledger: Ledger, clock: Clock) -> None:
    first, second, new = keys(3)
    look_up(ledger, [first], HIT)
    clock.turn(days=1)
    (newest,) = look_up(ledger, [second], HIT)
    assert ledger.upkeep.begin_rekey(2)
    assert ledger.upkeep.move_keys({first: new}, version=2) == (1, 0)
    assert ledger.upkeep.move_keys({first: new, second: new}, version=2) == (1, 1)
    assert ledger.upkeep.move_keys({first: new, second: new}, version=2) == (0, 0)
    assert ledger.upkeep.people_left(2) == 0
    ledger.upkeep.end_rekey(2)
    found = ledger.claim([new], replace(TERMS, key_version=2))[new]
    assert isinstance(found, Cached)
    assert found.lookup_id == newest
    rows = ledger.upkeep.history([new])
    assert [row["lookup_id"] for row in rows if row["is_current"]] == [newest]


def test_a_live_answer_beats_a_newer_one_that_is_over(ledger: Ledger, clock: Clock) -> None:
    first, second, new = keys(3)
    (hit,) = look_up(ledger, [first], HIT)
    clock.turn(days=1)
    look_up(ledger, [second], MISS)
    clock.turn(days=60)
    ledger.upkeep.move_keys({first: new, second: new}, version=2)
    rows = ledger.upkeep.history([new])
    assert [row["lookup_id"] for row in rows if row["is_current"]] == [hit]


def test_a_page_of_people_is_moved_counted_and_left_alone_the_next_time(ledger: Ledger) -> None:
    one, joins_one, other, same, stranger, new_one, new_other = keys(7)
    look_up(ledger, [one, joins_one, other, same], HIT)
    page = {one: new_one, joins_one: new_one, other: new_other, same: same, stranger: stranger[::-1]}
    known = {one, joins_one, other, same}
    assert ledger.upkeep.people_left(2) == 4
    assert ledger.upkeep.would_move(page, version=2) == known
    assert ledger.upkeep.begin_rekey(2)
    assert ledger.upkeep.move_keys(page, version=2) == (4, 1)
    assert ledger.upkeep.move_keys(page, version=2) == (0, 0)
    assert ledger.upkeep.would_move(page, version=2) == set()
    assert ledger.upkeep.people_left(2) == 0
    assert ledger.upkeep.key_version() == 0
    ledger.upkeep.end_rekey(2)
    assert ledger.upkeep.key_version() == 2
    assert not ledger.upkeep.begin_rekey(2)
    found = {row["person_key"]: row["key_version"] for row in ledger.upkeep.history([*page, *page.values()])}
    assert found == dict.fromkeys((new_one, new_other, same), 2)


def test_of_people_who_become_one_only_the_newest_live_answer_stays_whatever_the_ids(
    ledger: Ledger, clock: Clock
) -> None:
    oldest, older, newest, new, alone = keys(10), keys(10, 10), keys(10, 20), keys(10, 30), keys(10, 40)
    for people in (oldest, older):
        look_up(ledger, people, HIT)
        clock.turn(days=1)
    kept = look_up(ledger, newest, HIT)
    kept += look_up(ledger, oldest, HIT, replace(TERMS, endpoint="elsewhere"))
    kept += look_up(ledger, alone, HIT)
    page = {old: key for people in (oldest, older, newest) for old, key in zip(people, new, strict=True)}
    assert ledger.upkeep.move_keys(page | {key: key for key in alone}, version=2) == (40, 20)
    rows = ledger.upkeep.history([*new, *alone])
    assert {row["lookup_id"] for row in rows if row["is_current"]} == set(kept)


def test_an_answer_that_is_over_at_this_moment_is_worth_less_than_a_live_one(ledger: Ledger, clock: Clock) -> None:
    first, second, new = keys(3)
    (hit,) = look_up(ledger, [first], HIT)
    clock.turn(days=1)
    look_up(ledger, [second], MISS)
    clock.turn(days=30)
    ledger.upkeep.move_keys({first: new, second: new}, version=2)
    rows = ledger.upkeep.history([new])
    assert [row["lookup_id"] for row in rows if row["is_current"]] == [hit]


def test_who_was_erased_stays_barred_under_the_new_key(ledger: Ledger, clock: Clock) -> None:
    asked, never_asked, joins, moved_before, new, new_too = keys(6)
    look_up(ledger, [asked], HIT)
    ledger.upkeep.erase({asked: 1, never_asked: 1})
    clock.turn(days=1)
    ledger.upkeep.erase({joins: 1, moved_before: 2})
    assert ledger.upkeep.people_left(2) == 3
    assert ledger.upkeep.people_left(1) == 1
    page = {asked: new, never_asked: new_too, joins: moved_before}
    assert ledger.upkeep.move_keys(page, version=2) == (1, 0)
    everybody = [*page, *page.values()]
    stones = {
        stone.person_key: (stone.key_version, stone.erased_at) for stone in ledger.upkeep.tombstones_of(everybody)
    }
    day_one, day_two = time_to_micros(NOON), time_to_micros(clock.now)
    assert stones == {new: (2, day_one), new_too: (2, day_one), moved_before: (2, day_two)}
    assert ledger.upkeep.people_left(2) == 0
    assert ledger.upkeep.move_keys(page, version=2) == (0, 0)
    assert len(ledger.upkeep.tombstones_of(everybody)) == 3


def test_a_ledger_that_is_being_rekeyed_refuses_everybody(ledger: Ledger) -> None:
    ledger.upkeep.begin_rekey(2)
    for version in (1, 2):
        with pytest.raises(RefusedError, match="rekey to its end"):
            ledger.claim(keys(1), replace(TERMS, key_version=version))
    with pytest.raises(RefusedError, match="rekey"):
        ledger.upkeep.require_key_version(1)


def test_a_rekey_does_not_begin_while_somebody_is_asked_about(open_ledger: Callable[..., Ledger]) -> None:
    ours, theirs = open_ledger(), open_ledger()
    claim_ids(theirs, keys(1))
    with pytest.raises(UnavailableError, match="right now"):
        ours.upkeep.begin_rekey(2)
    theirs.close()
    assert ours.upkeep.begin_rekey(2)


# --- erasing ------------------------------------------------------------------------------


def test_who_was_erased_is_held_for_ever_and_costs_stay(ledger: Ledger, clock: Clock) -> None:
    first, second = keys(2)
    look_up(ledger, [first, second], HIT)
    spent = ledger.summary().cost
    assert ledger.upkeep.erase({first: 1}) == 1
    assert ledger.upkeep.erase({first: 1}) == 0
    clock.turn(days=4000)
    assert ledger.claim([first], TERMS)[first] == Held("erased")
    assert ledger.peek([first], TERMS)[first] == Held("erased")
    assert isinstance(ledger.peek([second], TERMS)[second], ToAsk)
    assert ledger.summary().cost == spent
    (tombstone,) = ledger.upkeep.tombstones_of([first, second])
    assert tombstone.erased_at == time_to_micros(NOON)


def test_nobody_is_erased_while_they_are_asked_about(open_ledger: Callable[..., Ledger]) -> None:
    ours, theirs = open_ledger(), open_ledger()
    (lookup_id,) = claim_ids(theirs, keys(1))
    send(theirs, lookup_id)
    with pytest.raises(UnavailableError, match="Nothing was erased"):
        ours.upkeep.erase({keys(1)[0]: 1})
    assert ours.upkeep.tombstones_of(keys(1)) == []


def test_a_late_answer_about_an_erased_person_is_paid_for_and_not_kept(ledger: Ledger) -> None:
    (key,) = keys(1)
    (lookup_id,) = look_up(ledger, [key], UNKNOWN)
    ledger.upkeep.erase({key: 1})
    settle(ledger, HIT, lookup_id)
    (row,) = ledger.upkeep.history([key])
    assert (row["state"], row["answer"], row["cost_micros"]) == ("hit", None, 250_000)
