"""Who was served by whose lookups: counted once for each lead served, and shown beside the spend."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from leadscrub_pipeline.ledger import Cached, tables
from leadscrub_pipeline.ledger.reuses import Reuse
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    BOTH,
    HIT,
    MISS,
    TERMS,
    UNKNOWN,
    clock,
    keys,
    ledger,
    look_up,
    new_postgres_database,
    open_ledger,
    other_run,
    where_one,
)

THIRD = other_run(run_id="run-3", partition_key="script_c", price=Decimal("0.40"))


@BOTH
def test_leads_served_by_another_scripts_lookups_are_counted_by_payer_with_what_asking_would_have_cost(ledger):
    look_up(ledger, keys(3), HIT)
    look_up(ledger, keys(2, start=3), MISS, other_run())
    ledger.claim(keys(6), THIRD)  # three of script_a, two of script_b, one to ask
    day = date(2026, 11, 21)
    assert ledger.summary().reuses == (
        Reuse("script_c", "script_a", day, 3, Decimal("1.20")),
        Reuse("script_c", "script_b", day, 2, Decimal("0.80")),
    )
    assert (ledger.summary().reused, ledger.summary().saved) == (5, Decimal("2.00"))


def test_the_first_payer_bears_the_cost_of_a_person_whom_others_want_too(ledger):
    look_up(ledger, keys(2), HIT)
    ledger.claim(keys(2), other_run())
    assert {(row.partition_key, row.lookups, row.cost) for row in ledger.summary().rows} == {
        ("script_a", 2, Decimal("0.50"))
    }


@BOTH
def test_reuses_of_a_run_add_up_over_its_claims_and_over_runs(ledger, clock):
    look_up(ledger, keys(4), HIT)
    ledger.claim(keys(1), other_run())
    ledger.claim(keys(2, start=1), other_run())
    ledger.claim(keys(1), other_run(run_id="run-9"))
    clock.turn(hours=1)
    ledger.claim(keys(1, start=3), other_run())
    (reuse,) = ledger.summary().reuses
    assert (reuse.lookups, reuse.saved) == (5, Decimal("1.25"))
    with ledger._database.reading() as connection:
        rows = connection.execute(select(tables.reuses).order_by(tables.reuses.c.run_id)).all()
    assert [(row.run_id, row.lookups, row.micros) for row in rows] == [("run-2", 4, 1_000_000), ("run-9", 1, 250_000)]


def test_what_a_run_bought_itself_is_no_reuse_in_its_own_next_claim_but_is_one_in_its_next_run(ledger):
    look_up(ledger, keys(1), HIT)
    assert isinstance(ledger.claim(keys(1), TERMS)[keys(1)[0]], Cached)
    assert ledger.summary().reuses == ()
    ledger.claim(keys(1), replace(TERMS, run_id="run-2"))
    (reuse,) = ledger.summary().reuses
    assert (reuse.partition_key, reuse.paid_by) == ("script_a", "script_a")


def test_an_answer_that_is_not_kept_serves_nobody_and_is_no_reuse(ledger):
    look_up(ledger, keys(1), HIT)
    with ledger._database.writing() as connection:
        connection.execute(update(tables.lookups).values(answer=None))
    assert isinstance(ledger.claim(keys(1), other_run())[keys(1)[0]], Cached)
    assert ledger.summary().reuses == ()


def test_a_preview_and_leads_that_were_not_served_count_nothing(ledger):
    look_up(ledger, keys(1), HIT)
    look_up(ledger, keys(1, start=1), UNKNOWN)
    ledger.peek(keys(3), other_run())
    ledger.claim(keys(2, start=1), other_run())
    assert (ledger.summary().reuses, ledger.summary().reused, ledger.summary().saved) == ((), 0, Decimal("0.00"))


@BOTH
def test_reuses_are_of_the_utc_day_of_the_claim_and_a_span_takes_days_that_begin_in_it(ledger, clock):
    look_up(ledger, keys(1), HIT)
    clock.turn(hours=11, minutes=59)
    ledger.claim(keys(1), other_run())
    clock.turn(minutes=1)
    ledger.claim(keys(1), other_run())
    assert [reuse.day.day for reuse in ledger.summary().reuses] == [21, 22]
    midnight = clock.now
    assert [reuse.day.day for reuse in ledger.summary(since=midnight).reuses] == [22]
    assert [reuse.day.day for reuse in ledger.summary(until=midnight).reuses] == [21]
    clock.turn(seconds=1)
    assert ledger.summary(since=clock.now).reuses == ()


@pytest.mark.parametrize("people", [1_000, 1_001])
def test_reuses_are_exact_when_people_come_in_several_chunks(open_ledger, people):
    ledger = open_ledger()
    look_up(ledger, keys(people), HIT)
    ledger.claim(keys(people), other_run())
    assert ledger.summary().reused == people
