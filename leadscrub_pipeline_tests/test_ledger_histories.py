"""Random histories of two owners, checked against a bill and a plain model after every step."""

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select

from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.ledger import Capped, Claimed, Ledger, tables
from leadscrub_pipeline.ledger.units import dollars_to_micros, micros_to_dollars, micros_to_time, time_to_micros
from leadscrub_pipeline_tests.ledger_support import FAILED, HIT, KEY, MISS, NOON, TERMS, UNKNOWN, Clock, keys

PEOPLE = keys(6)
PRICE = Decimal("0.25")
SOME_TERMS = [
    replace(TERMS, run_id=run_id, max_lookups_per_run=cap, daily_budget=budget, unknown_policy=policy)
    for run_id, cap, budget, policy in (
        ("run-1", None, None, "retry"),
        ("run-2", 4, None, "hold"),
        ("run-3", None, Decimal("2.10"), "retry"),
    )
]


class Histories(RuleBasedStateMachine):
    """Claims, requests, answers, time passing and owners dying, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.ledgers = [self.open_ledger(), self.open_ledger()]
        self.claimed: list[tuple[int, str, str]] = []
        self.sent: list[tuple[int, str, str]] = []
        self.bill: Counter[str] = Counter()

    def open_ledger(self) -> Ledger:
        return Ledger.open(self.folder / "ledger.sqlite", kind="demo", answer_keys=[KEY], clock=self.clock)

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()
        shutil.rmtree(self.folder)

    def rows(self):
        with self.ledgers[0]._database.reading() as connection:
            return connection.execute(select(tables.lookups)).all()

    @rule(
        who=st.integers(0, 1),
        people=st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4),
        terms=st.sampled_from(SOME_TERMS),
    )
    def claim(self, who, people, terms):
        now = time_to_micros(self.clock())
        paid = {row.person_key for row in self.rows() if row.state in {"hit", "miss"} and row.expires_at > now}
        foreseen = self.ledgers[who].peek(people, terms)
        standings = self.ledgers[who].claim(people, terms)
        for person, standing in standings.items():
            if isinstance(standing, Claimed):
                assert person not in paid
                self.claimed.append((who, person, standing.lookup_id))
                assert foreseen[person].request_number == standing.request_number
            elif not isinstance(standing, Capped):
                assert type(foreseen[person]) is type(standing)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def send(self, data):
        request = data.draw(st.sampled_from(self.claimed))
        self.claimed.remove(request)
        who, _, lookup_id = request
        try:
            asyncio.run(self.ledgers[who].writer().mark_sent(lookup_id))
        except FailedError:
            return
        self.sent.append(request)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), settlement=st.sampled_from([HIT, MISS, FAILED, UNKNOWN]), billed=st.booleans())
    def answer(self, data, settlement, billed):
        request = data.draw(st.sampled_from(self.sent))
        self.sent.remove(request)
        who, _, lookup_id = request
        if settlement in (HIT, MISS) or (settlement is UNKNOWN and billed):
            self.bill[lookup_id] += 1
        asyncio.run(self.ledgers[who].writer().settle(lookup_id, settlement))

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def release(self, data):
        request = data.draw(st.sampled_from(self.claimed))
        self.claimed.remove(request)
        self.ledgers[request[0]].release([request[2]])

    @rule(who=st.integers(0, 1), billed=st.booleans())
    def die(self, who, billed):
        """The process ends; its requests in flight may have been billed."""
        for request in [request for request in self.sent if request[0] == who]:
            self.bill[request[2]] += billed
        self.claimed = [request for request in self.claimed if request[0] != who]
        self.sent = [request for request in self.sent if request[0] != who]
        self.ledgers[who].close()
        self.ledgers[who] = self.open_ledger()

    @rule(days=st.sampled_from([0.0001, 0.001, 0.6, 29, 31, 179]))
    def wait(self, days):
        self.clock.turn(days=days)

    @rule(who=st.integers(0, 1))
    def sweep(self, who):
        self.ledgers[who].sweep()

    @invariant()
    def every_billed_request_has_its_row(self):
        assert {lookup_id for lookup_id, count in self.bill.items() if count} <= {row.lookup_id for row in self.rows()}

    @invariant()
    def the_bill_lies_between_settled_and_settled_plus_unknown(self):
        summary = self.ledgers[0].summary()
        cost = PRICE * self.bill.total()
        assert summary.cost <= cost <= summary.cost + summary.unknown_cost

    @invariant()
    def counters_agree_with_the_rows(self):
        derived: Counter[str] = Counter()
        for row in self.rows():
            if row.state != "failed":
                derived[f"run:{row.run_id}"] += 1
                derived[f"day:{micros_to_time(row.claimed_at).date()}"] += 1
        with self.ledgers[0]._database.reading() as connection:
            budgets = connection.execute(select(tables.budgets)).all()
        assert {row.scope: row.lookups for row in budgets if row.lookups} == dict(derived)
        assert all(row.micros == row.lookups * dollars_to_micros(PRICE) for row in budgets)

    @invariant()
    def no_cap_is_passed(self):
        rows = [row for row in self.rows() if row.state != "failed"]
        assert sum(row.run_id == "run-2" for row in rows) <= 4

    @invariant()
    def a_person_has_at_most_one_request_in_flight(self):
        flying = Counter(row.person_key for row in self.rows() if row.state in {"claimed", "sent"})
        assert max(flying.values(), default=0) <= 1


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


@given(st.integers(0, 10**15))
def test_money_survives_the_ledger_to_the_last_micro(micros):
    assert dollars_to_micros(micros_to_dollars(micros)) == micros


@given(st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(NOON.tzinfo)))  # noqa: DTZ001 - given
def test_times_survive_the_ledger_to_the_last_microsecond(moment):
    assert micros_to_time(time_to_micros(moment)) == moment


@pytest.mark.parametrize("amount", [Decimal("NaN"), Decimal("Infinity"), Decimal(-1), Decimal("0.0000001")])
def test_an_amount_that_is_none_is_not_rounded(amount):
    with pytest.raises(ValueError, match="six decimals"):
        dollars_to_micros(amount)


def test_amounts_read_as_money():
    assert [str(micros_to_dollars(micros)) for micros in (0, 250_000, 30_000_000, 1_500, 1)] == [
        "0.00",
        "0.25",
        "30.00",
        "0.0015",
        "0.000001",
    ]


def test_a_day_is_a_utc_day():
    assert micros_to_time(time_to_micros(NOON + timedelta(hours=11, minutes=59))).date() == date(2026, 11, 21)
