"""What the ledger tells of requests, seals and prunings, on both databases."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest

from leadscrub_pipeline.errors import FailedError, RefusedError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.ledger.trace_reading import PAGE_ROWS, failed_page
from leadscrub_pipeline_tests.ledger_support import (
    FAILED,
    HIT,
    MISS,
    NOON,
    UNKNOWN,
    Clock,
    clock,
    keys,
    ledger,
    look_up,
    new_postgres_database,
    open_ledger,
    other_run,
    where,
)

__all__ = ["clock", "ledger", "new_postgres_database", "open_ledger", "where"]

DAY = timedelta(days=1)


@pytest.fixture
def asked(ledger: Ledger, clock: Clock) -> Ledger:
    """Two hits, a miss, three failures and an unknown of one run; a day later a hit of another."""
    look_up(ledger, keys(2), HIT)
    look_up(ledger, keys(1, 2), MISS)
    look_up(ledger, keys(3, 3), FAILED)
    look_up(ledger, keys(1, 6), UNKNOWN)
    clock.turn(days=1)
    look_up(ledger, keys(1, 7), HIT, other_run())
    return ledger


def test_a_persons_requests_are_told_without_their_answers(asked: Ledger) -> None:
    (person,) = keys(1)
    (lookup,) = asked.lookups_of_people([person])
    assert (lookup.state, lookup.person_key, lookup.run_id, lookup.script) == ("hit", person, "run-1", "script_a")
    assert (lookup.cost, lookup.purpose, lookup.glba, lookup.dppa) == (Decimal("0.25"), "default", "otheruse", "none")
    assert lookup.sent_at == lookup.settled_at == NOON
    assert lookup.expires_at == NOON + 180 * DAY
    assert not hasattr(lookup, "answer")
    assert asked.lookups_with_ids([lookup.lookup_id]) == [lookup]
    assert asked.lookups_with_ids([]) == asked.lookups_of_people([]) == []


def test_a_persons_requests_come_in_the_order_they_were_made(ledger: Ledger, clock: Clock) -> None:
    for _ in range(3):
        look_up(ledger, keys(1), FAILED)
        clock.turn(hours=1)
    told = ledger.lookups_of_people(keys(1))
    assert [lookup.request_number for lookup in told] == [1, 2, 3]
    assert [lookup.claimed_at for lookup in told] == [NOON + timedelta(hours=hour) for hour in range(3)]


def test_outcomes_of_a_run_and_of_a_time_add_up(asked: Ledger) -> None:
    of_run = {(each.state, each.reason): each for each in asked.outcomes_of_run("run-1")}
    assert {key: each.lookups for key, each in of_run.items()} == {
        ("hit", None): 2,
        ("miss", "no_match"): 1,
        ("failed", "refused_connection"): 3,
        ("unknown", "read_timeout"): 1,
    }
    assert of_run["hit", None].cost == Decimal("0.50")
    assert of_run["unknown", "read_timeout"].unknown_cost == Decimal("0.25")
    assert asked.outcomes_of_run("run-9") == []
    assert sum(each.lookups for each in asked.outcomes_between(NOON, NOON + 2 * DAY)) == 8
    assert sum(each.lookups for each in asked.outcomes_between(NOON, NOON + DAY)) == 7
    assert sum(each.lookups for each in asked.outcomes_between(NOON + DAY, NOON + 2 * DAY)) == 1


@pytest.mark.parametrize("rows", [1, 2, PAGE_ROWS])
def test_failed_requests_come_once_each_whatever_the_page(asked: Ledger, rows: int) -> None:
    found, after = [], None
    while True:
        with asked._reading() as connection:
            page = failed_page(connection, since=NOON, until=NOON + DAY, after=after, rows=rows)
        if not page:
            break
        assert len(page) <= rows
        found += page
        after = page[-1]
    assert sorted(lookup.state for lookup in found) == ["failed", "failed", "failed", "unknown"]
    assert len({lookup.lookup_id for lookup in found}) == 4
    assert [len(page) for page in asked.failed_lookups(NOON, NOON + DAY)] == [4]
    assert list(asked.failed_lookups(NOON + DAY, NOON + 2 * DAY)) == []


def seal(ledger: Ledger, run_id: str, *counts: int) -> None:
    for count in counts:
        ledger.open_chain(run_id, "dnc_flags", "script_a")
        ledger.seal_chain(run_id, "dnc_flags", count, f"{count:064x}")


def test_a_row_is_covered_by_the_first_seal_over_it(ledger: Ledger) -> None:
    seal(ledger, "run-1", 10, 25)
    seal(ledger, "run-2", 5)
    seals = ledger.seals_of_runs(["run-1"])
    found = [seals.covering("run-1", "dnc_flags", number) for number in (1, 10, 11, 25, 26)]
    assert [each and each.entry for each in found] == [1, 1, 2, 2, None]
    assert seals.covering("run-2", "dnc_flags", 1) is None
    assert ledger.seals_of_runs(["run-2"]).of("run-2", "dnc_flags")[0].entry == 3


def test_a_pruning_is_kept_with_its_reason_and_its_chains_with_its_time(ledger: Ledger, clock: Clock) -> None:
    seal(ledger, "run-1", 10)
    seal(ledger, "run-2", 5)
    clock.turn(days=2_000)
    done = ledger.mark_pruned([("run-1", "dnc_flags", 10)], before="2027-01-01", reason="five years are over")
    assert ledger.prunings() == [done]
    assert (done.pruned_at, done.chains, done.rows, done.reason) == (clock.now, 1, 10, "five years are over")
    assert {chain.run_id: chain.pruned_at for chain in ledger.chains()} == {"run-1": clock.now, "run-2": None}
    assert len(ledger.roots()) == 2


@pytest.mark.parametrize("chain", [("run-1", "dnc_flags", 9), ("run-2", "dnc_flags", 10), ("run-3", "dnc_flags", 5)])
def test_what_is_not_sealed_as_it_was_found_is_not_pruned_and_nothing_with_it(
    ledger: Ledger, chain: tuple[str, str, int]
) -> None:
    seal(ledger, "run-0", 3)
    seal(ledger, "run-1", 10)
    seal(ledger, "run-3", 5)
    ledger.open_chain("run-3", "dnc_flags", "script_a")
    with pytest.raises(FailedError, match="changed meanwhile"):
        ledger.mark_pruned([("run-0", "dnc_flags", 3), chain], before="2027-01-01", reason=None)
    assert ledger.prunings() == []
    assert all(each.pruned_at is None for each in ledger.chains())


def test_a_chain_is_pruned_once(ledger: Ledger, clock: Clock) -> None:
    seal(ledger, "run-1", 10)
    ledger.mark_pruned([("run-1", "dnc_flags", 10)], before="2027-01-01", reason=None)
    clock.turn(hours=1)
    with pytest.raises(FailedError):
        ledger.mark_pruned([("run-1", "dnc_flags", 10)], before="2027-01-01", reason=None)


def test_a_ledger_opened_for_reading_tells_everything_and_prunes_nothing(
    where: str, asked: Ledger, open_ledger: Callable[..., Ledger]
) -> None:
    seal(asked, "run-1", 10)
    reading = Ledger.open_existing(where)
    assert reading is not None
    with reading:
        assert reading.outcomes_of_run("run-1") == asked.outcomes_of_run("run-1")
        assert reading.seals_of_runs(["run-1"]).of("run-1", "dnc_flags")
        assert reading.reused_by_run("run-1") == 0
        with pytest.raises(RefusedError):
            reading.mark_pruned([("run-1", "dnc_flags", 10)], before="2027-01-01", reason=None)
