"""What the ledger stores and hands out, value by value: requests, sums, answers, seals, and points of crashes."""

import asyncio
import hashlib
import os
import platform
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import event, select, update

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.domain.chains import beginning
from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.ledger import (
    Busy,
    Cached,
    Capped,
    Claimed,
    Held,
    Ledger,
    LookupTerms,
    Settlement,
    ToAsk,
    answers,
    sealing,
    tables,
)
from leadscrub_pipeline.ledger import writer as writing
from leadscrub_pipeline.ledger.adoption import CacheLife, OldLookup
from leadscrub_pipeline.ledger.answers import Answer, Tombstone
from leadscrub_pipeline.ledger.evidence_roots import NO_SEAL, Chain
from leadscrub_pipeline.ledger.owners import Owner, this_host
from leadscrub_pipeline.ledger.sealing import Sealer, key_file_of, make_or_read_key_file
from leadscrub_pipeline.ledger.standing import Row, Served, judge
from leadscrub_pipeline.ledger.summary import Spend
from leadscrub_pipeline.ledger.trace_reading import Lookup, Outcome, failed_page
from leadscrub_pipeline.ledger.units import (
    MICROS_PER_DAY,
    dollars_to_micros,
    micros_to_dollars,
    micros_to_time,
    time_to_micros,
)
from leadscrub_pipeline.ledger.writer import Settled
from leadscrub_pipeline_tests.ledger_support import (
    ANSWER,
    FAILED,
    HIT,
    KEY,
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
    other_run,
    send,
    settle,
    where_one,
)

_ = (clock, ledger, new_postgres_database, open_ledger, where_one)  # fixtures
(JANE,) = keys(1)
AT_NOON = time_to_micros(NOON)
SECOND = 1_000_000
HOUR = 3600 * SECOND
COLLECTIONS = Purpose("collections", "debt", "3")
FREE_MISS = Settlement(state="miss", reason="too_many_matches", billed=False)
LIFE = CacheLife(hit=180, miss=30)


def row_of(ledger: Ledger, lookup_id: str) -> dict[str, Any]:
    with ledger._database.reading() as connection:
        found = connection.execute(select(tables.lookups).where(tables.lookups.c.lookup_id == lookup_id))
        return dict(found.mappings().one())


def reserved(ledger: Ledger) -> dict[str, tuple[int, int]]:
    with ledger._database.reading() as connection:
        return {row.scope: (row.lookups, row.micros) for row in connection.execute(select(tables.budgets))}


def change(ledger: Ledger, **values: Any) -> None:
    with ledger._database.writing() as connection:
        connection.execute(update(tables.lookups).values(values))


# --- a request from the claim to its end ------------------------------------------------------------


def test_a_claim_stores_everything_the_run_said(ledger: Ledger) -> None:
    terms = replace(
        TERMS, purpose=COLLECTIONS, cache_days=90, miss_days=7, price=Decimal("0.31"), reuse_across_purposes=True
    )
    (lookup_id,) = claim_ids(ledger, [JANE], terms)
    assert row_of(ledger, lookup_id) == {
        "lookup_id": lookup_id,
        "person_key": JANE,
        "key_version": 1,
        "provider": "idicore",
        "endpoint": "loopback/search",
        "purpose": "collections",
        "glba": "debt",
        "dppa": "3",
        "scope": "*",
        "state": "claimed",
        "is_current": True,
        "suspicion": None,
        "owner": ledger._owner.owner,
        "request_number": 1,
        "run_id": "run-1",
        "partition_key": "script_a",
        "hit_days": 90,
        "miss_days": 7,
        "price_micros": 310_000,
        "cost_micros": None,
        "claimed_at": AT_NOON,
        "sent_at": None,
        "settled_at": None,
        "expires_at": None,
        "reason": None,
        "http_status": None,
        "parser_version": None,
        "answer": None,
    }
    assert len(lookup_id) == 32
    assert reserved(ledger) == {"run:run-1": (1, 310_000), "day:2026-11-21": (1, 310_000)}


@pytest.mark.parametrize(
    ("settlement", "state", "cost", "expires_after", "is_current"),
    [
        (HIT, "hit", 250_000, 180, True),
        (MISS, "miss", 250_000, 30, True),
        (FREE_MISS, "miss", 0, 30, True),
        (FAILED, "failed", 0, None, False),
        (UNKNOWN, "unknown", None, None, True),
    ],
)
def test_a_settlement_stores_its_outcome_its_cost_and_its_times(
    ledger: Ledger,
    clock: Clock,
    settlement: Settlement,
    state: str,
    cost: int | None,
    expires_after: int | None,
    is_current: bool,
) -> None:
    (lookup_id,) = claim_ids(ledger, [JANE])
    clock.turn(seconds=1)
    send(ledger, lookup_id)
    clock.turn(seconds=1)
    times = asyncio.run(ledger.writer().settle(lookup_id, settlement))
    expires_at = None if expires_after is None else clock.now + timedelta(days=expires_after)
    assert times == Settled(clock.now, expires_at)
    row = row_of(ledger, lookup_id)
    assert (row["state"], row["is_current"], row["cost_micros"]) == (state, is_current, cost)
    assert (row["claimed_at"], row["sent_at"], row["settled_at"]) == (AT_NOON, AT_NOON + SECOND, AT_NOON + 2 * SECOND)
    assert row["expires_at"] == (None if expires_at is None else time_to_micros(expires_at))
    assert (row["reason"], row["http_status"]) == (settlement.reason, settlement.http_status)
    assert row["parser_version"] == settlement.parser_version
    if settlement.answer is None:
        assert row["answer"] is None
    else:
        assert Sealer([KEY]).open(row["answer"]) == settlement.answer
    was_billed = cost != 0
    assert set(reserved(ledger).values()) == {(1, 250_000) if was_billed else (0, 0)}


def test_a_mark_has_no_times_and_a_flush_waits_for_what_came_before(ledger: Ledger) -> None:
    lookup_ids = claim_ids(ledger, keys(3))
    writer = ledger.writer()

    async def mark_and_flush() -> list[Settled | None]:
        waiting = [asyncio.create_task(writer.mark_sent(lookup_id)) for lookup_id in lookup_ids]
        await asyncio.sleep(0)
        writer.flush()
        with ledger._database.reading() as connection:
            states = connection.execute(select(tables.lookups.c.state)).scalars().all()
        assert states == ["sent"] * 3
        return await asyncio.gather(*waiting)

    assert asyncio.run(mark_and_flush()) == [None, None, None]
    begun: list[object] = []
    event.listen(ledger._database.engine, "begin", begun.append)
    writer.flush()
    assert begun == [], "with nothing to write there is no transaction"


def test_the_writer_is_one_thread_that_ends_with_its_block(ledger: Ledger) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "ledger-writer" and thread.is_alive()]

    before = len(threads())
    with ledger.writer() as writer:
        assert ledger.writer() is writer
        assert not writer.is_closed
        assert len(threads()) == before + 1
        assert all(thread.daemon for thread in threads()), "a thread that hangs must not keep the process"
    assert writer.is_closed
    assert len(threads()) == before
    assert ledger.writer() is not writer


def test_who_writes_nearly_alone_waits_for_nobody_and_many_wait_for_company(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(writing.time, "sleep", pauses.append)
    crowd = writing.COMPANY_ROWS + 1
    people = claim_ids(ledger, keys(7 + 8 + 1 + 8 + crowd))
    writer = ledger.writer()
    gate = threading.Event()
    whole = writer._next_group

    def when_all_are_there() -> Any:
        gate.wait(10)
        gate.clear()
        return whole()

    monkeypatch.setattr(writer, "_next_group", when_all_are_there)
    writer.flush()

    async def mark(some: list[str]) -> None:
        waiting = [asyncio.create_task(writer.mark_sent(lookup_id)) for lookup_id in some]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*waiting)

    once = [writing.LINGER_SECONDS]
    for count, expected in ((7, []), (8, []), (1, once), (8, once), (crowd, once)):
        some, people = people[:count], people[count:]
        asyncio.run(mark(some))
        assert pauses == expected
    gate.set()


def test_money_that_is_given_back_goes_to_the_run_and_the_day_it_was_taken_from(ledger: Ledger, clock: Clock) -> None:
    dear = replace(TERMS, price=Decimal("0.40"))
    first = claim_ids(ledger, keys(2))
    clock.turn(days=1)
    second = claim_ids(ledger, keys(3, start=5), other_run(dear))
    assert reserved(ledger) == {
        "run:run-1": (2, 500_000),
        "day:2026-11-21": (2, 500_000),
        "run:run-2": (3, 1_200_000),
        "day:2026-11-22": (3, 1_200_000),
    }
    assert ledger.release([first[0], *second[:2]]) == 3
    assert reserved(ledger) == {
        "run:run-1": (1, 250_000),
        "day:2026-11-21": (1, 250_000),
        "run:run-2": (1, 400_000),
        "day:2026-11-22": (1, 400_000),
    }


def test_more_claims_than_fit_into_one_transaction_are_released_and_counted(ledger: Ledger) -> None:
    assert ledger.release(claim_ids(ledger, keys(1_001))) == 1_001
    assert set(reserved(ledger).values()) == {(0, 0)}


@pytest.mark.parametrize(
    ("run_cap", "budget", "claimed", "reason"),
    [
        (2, None, 2, "run_cap"),
        (2, Decimal("0.75"), 2, "run_cap"),
        (2, Decimal("0.50"), 2, "run_cap"),
        (3, Decimal("0.74"), 2, "daily_budget"),
        (None, Decimal("0.24"), 0, "daily_budget"),
        (0, Decimal("0.25"), 0, "run_cap"),
    ],
)
def test_of_two_caps_the_nearer_one_counts_and_is_named(
    ledger: Ledger, run_cap: int | None, budget: Decimal | None, claimed: int, reason: str
) -> None:
    people = keys(5)
    found = list(ledger.claim(people, replace(TERMS, max_lookups_per_run=run_cap, daily_budget=budget)).values())
    assert [isinstance(standing, Claimed) for standing in found] == [True] * claimed + [False] * (5 - claimed)
    assert set(found[claimed:]) == {Capped(reason)}  # type: ignore[arg-type]


def test_money_spent_by_other_runs_of_the_day_counts_for_the_budget_and_not_for_the_runs_cap(ledger: Ledger) -> None:
    claim_ids(ledger, keys(2))
    terms = other_run(max_lookups_per_run=2, daily_budget=Decimal("0.80"))
    found = list(ledger.claim(keys(3, start=5), terms).values())
    assert [type(standing) for standing in found] == [Claimed, Capped, Capped]
    assert found[1] == Capped("daily_budget")


# --- where a person stands ----------------------------------------------------------------------------


def test_the_preview_tells_the_same_of_a_person_as_the_claim_but_the_answer(ledger: Ledger, clock: Clock) -> None:
    (lookup_id,) = look_up(ledger, [JANE], MISS)
    clock.turn(hours=1)
    seen = ledger.peek([JANE], TERMS)[JANE]
    assert seen == Cached(
        lookup_id=lookup_id,
        outcome="miss",
        reason="no_match",
        looked_up_at=NOON,
        expires_at=NOON + timedelta(days=30),
        answer=None,
        parser_version=1,
    )
    assert ledger.claim([JANE], TERMS)[JANE] == replace(seen, answer={"result": []})


def test_the_preview_sees_a_dead_process_as_a_sweep_would_leave_it(
    open_ledger: Callable[..., Ledger], clock: Clock
) -> None:
    dead, living = open_ledger(), open_ledger()
    claimed, sent = keys(2)
    lookup_ids = claim_ids(dead, [claimed, sent])
    send(dead, lookup_ids[1])
    hold = replace(TERMS, unknown_policy="hold")
    assert living.peek([claimed, sent], hold) == {claimed: Busy(dead._owner.owner), sent: Busy(dead._owner.owner)}
    clock.turn(seconds=61)
    assert living.peek([claimed, sent], hold) == {claimed: ToAsk(1), sent: Held("unknown_outcome")}
    assert living.peek([claimed, sent], TERMS) == {claimed: ToAsk(1), sent: ToAsk(2)}
    assert living.sweep() == (1, 1)
    assert living.sweep() == (0, 0)
    assert living.peek([claimed, sent], hold) == {claimed: ToAsk(1), sent: Held("unknown_outcome")}
    assert row_of(living, lookup_ids[1])["reason"] == "owner_died"
    assert row_of(living, lookup_ids[1])["settled_at"] == AT_NOON + 61 * SECOND


def test_a_lease_is_over_at_its_last_instant_and_only_the_dead_are_buried(
    open_ledger: Callable[..., Ledger], clock: Clock
) -> None:
    dead, living, other = open_ledger(), open_ledger(), open_ledger()
    claim_ids(dead, [JANE])
    clock.turn(seconds=30)
    (kept,) = claim_ids(other, keys(1, start=1))
    clock.turn(seconds=30, microseconds=-1)
    assert living.peek([JANE], TERMS)[JANE] == Busy(dead._owner.owner)
    clock.turn(microseconds=1)
    assert living.peek([JANE], TERMS)[JANE] == ToAsk(1)
    assert living.sweep() == (1, 0)
    assert row_of(living, kept)["state"] == "claimed"
    assert set(reserved(living).values()) == {(1, 250_000)}


def test_the_preview_of_thousands_comes_in_their_order(ledger: Ledger) -> None:
    people = keys(1_001)
    claim_ids(ledger, people[:1])
    found = ledger.peek(people, TERMS)
    assert list(found) == people
    assert [type(standing) for standing in found.values()] == [Busy] + [ToAsk] * 1_000


def request(state: str, **changes: Any) -> Row:
    values = {
        "lookup_id": state,
        "person_key": JANE,
        "state": state,
        "suspicion": None,
        "owner": "us",
        "claimed_at": AT_NOON,
        "sent_at": AT_NOON,
        "settled_at": AT_NOON,
        "expires_at": AT_NOON + HOUR if state in {"hit", "miss"} else None,
        "is_current": True,
        "provider": "idicore",
    }
    return Row(**values | changes)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], ToAsk(1)),
        ([request("hit")], Served("hit")),
        ([request("hit", settled_at=None), request("miss")], Served("miss")),
        ([request("miss", settled_at=AT_NOON + 1), request("hit")], Served("miss")),
        ([request("hit", settled_at=AT_NOON + 1, provider="adopted"), request("miss")], Served("miss")),
        ([request("hit", expires_at=AT_NOON)], ToAsk(2)),
        ([request("hit", expires_at=None)], ToAsk(2)),
        ([request("hit", expires_at=AT_NOON, provider="adopted")], ToAsk(1)),
        ([request("miss", suspicion="suspect")], Held("suspect_miss")),
        ([request("miss", suspicion="discarded")], ToAsk(2)),
        ([request("miss", suspicion="believed")], Served("miss")),
        ([request("miss", suspicion="suspect"), request("claimed", owner="other")], Busy("other")),
        ([request("claimed", owner="dead")], ToAsk(1)),
        ([request("sent", owner="dead")], ToAsk(2)),
        ([request("sent", owner="dead"), request("unknown")], Held("unknown_outcome")),
        ([request("unknown"), request("failed")], ToAsk(3)),
        ([request("unknown"), request("unknown")], Held("unknown_outcome")),
        ([request("unknown"), request("unknown", sent_at=AT_NOON - 2 * MICROS_PER_DAY)], ToAsk(3)),
        ([request("unknown"), request("unknown", sent_at=AT_NOON + 1 - 2 * MICROS_PER_DAY)], Held("unknown_outcome")),
        ([request("unknown"), request("unknown", sent_at=None)], Held("unknown_outcome")),
        ([request("unknown"), request("unknown", sent_at=None, claimed_at=0)], ToAsk(3)),
    ],
)
def test_the_rule_decides_each_case(rows: list[Row], found: object) -> None:
    terms = replace(TERMS, cache_days=2)
    assert judge(rows, terms, now=AT_NOON, dead_owners={"dead"}) == found


# --- owners ---------------------------------------------------------------------------------------------


def test_an_owner_renews_its_lease_when_a_quarter_of_it_is_over_and_after_a_step_back_of_the_clock(
    ledger: Ledger,
) -> None:
    owner = Owner(lease=40)

    def lease_after(now: int) -> int:
        with ledger._database.writing() as connection:
            owner.renew_when_due(connection, now)
            row = connection.execute(select(tables.owners).where(tables.owners.c.owner == owner.owner)).one()
        assert (row.host, row.pid) == (this_host(), os.getpid())
        return int(row.lease_until)

    assert not owner.was_registered
    assert [lease_after(now) for now in (100, 109, 110, 119, 118, 109)] == [140, 140, 150, 150, 150, 149]
    owner.forget_renewal()
    assert lease_after(111) == 151
    assert owner.was_registered
    assert len(owner.owner) == 32


def test_a_host_is_told_by_its_name_its_boot_and_its_processes() -> None:
    name, *rest = this_host().split(" ")
    assert name == platform.node()
    assert len(rest) == 2
    assert rest[0] == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert rest[1].startswith("pid:[")


# --- sums -----------------------------------------------------------------------------------------------


def test_the_summary_gives_each_script_day_and_outcome_a_line(ledger: Ledger, clock: Clock) -> None:
    look_up(ledger, keys(1), MISS, other_run())
    look_up(ledger, keys(1, start=1), MISS)
    look_up(ledger, keys(2, start=2), HIT)
    (decided, undecided) = look_up(ledger, keys(2, start=4), UNKNOWN)
    ledger.desk.resolve([decided], billed=True)
    send(ledger, *claim_ids(ledger, keys(1, start=6)))
    claim_ids(ledger, keys(1, start=7))
    ledger.upkeep.adopt([OldLookup(keys(1, start=8)[0], "old", AT_NOON, "hit")], key_version=1, life=LIFE)
    clock.turn(days=1)
    look_up(ledger, keys(1, start=9), HIT)
    first, next_day = date(2026, 11, 21), date(2026, 11, 22)
    quarter, half, nothing = Decimal("0.25"), Decimal("0.50"), Decimal("0.00")
    summary = ledger.summary()
    assert summary.rows == (
        Spend("script_a", first, "claimed", 1, nothing, nothing),
        Spend("script_a", first, "hit", 2, half, nothing),
        Spend("script_a", first, "miss", 1, quarter, nothing),
        Spend("script_a", first, "sent", 1, nothing, quarter),
        Spend("script_a", first, "unknown", 2, quarter, quarter),
        Spend("script_a", next_day, "hit", 1, quarter, nothing),
        Spend("script_b", first, "miss", 1, quarter, nothing),
    )
    assert (summary.lookups, str(summary.cost), str(summary.unknown_cost)) == (9, "1.50", "0.50")
    counts = ledger.lookups_of_run("run-1")
    assert counts.states == {"claimed": 1, "hit": 3, "miss": 1, "sent": 1, "unknown": 2}
    assert (counts.cost, counts.unknown_cost, counts["failed"]) == (Decimal("1.25"), half, 0)
    assert undecided != decided


def test_a_summary_without_a_line_is_nothing_in_dollars_and_cents(ledger: Ledger) -> None:
    summary, counts = ledger.summary(), ledger.lookups_of_run("run-1")
    assert [str(amount) for amount in (summary.cost, summary.unknown_cost, summary.saved)] == ["0.00"] * 3
    assert (summary.lookups, summary.reused, summary.rows, summary.reuses) == (0, 0, (), ())
    assert (counts.states, str(counts.cost), str(counts.unknown_cost)) == ({}, "0.00", "0.00")


def test_a_span_of_the_summary_begins_with_its_first_instant_and_ends_before_its_last(
    ledger: Ledger, clock: Clock
) -> None:
    for _hour in range(3):
        look_up(ledger, keys(1, start=_hour), HIT)
        clock.turn(hours=1)
    one, two = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    instant = timedelta(microseconds=1)
    assert ledger.summary(since=one).lookups == 2
    assert ledger.summary(since=one + instant).lookups == 1
    assert ledger.summary(until=two).lookups == 2
    assert ledger.summary(until=two + instant).lookups == 3
    assert ledger.summary(since=one, until=two).lookups == 1


# --- misses in a row --------------------------------------------------------------------------------------


def test_the_newest_outcomes_come_first_and_as_many_as_are_wanted(ledger: Ledger, clock: Clock) -> None:
    for settlement in (HIT, MISS, MISS, UNKNOWN, FAILED, HIT):
        look_up(ledger, keys(1, start=int(clock.now.timestamp())), settlement)
        clock.turn(seconds=1)
    assert ledger.recent_outcomes(TERMS) == ["hit", "miss", "miss", "hit"]
    assert ledger.recent_outcomes(TERMS, limit=2) == ["hit", "miss"]
    assert [ledger.unmarked_misses(TERMS, limit=limit) for limit in (1, 2, 100)] == [0, 1, 2]
    assert ledger.recent_outcomes(replace(TERMS, provider="another")) == []
    assert ledger.unmarked_misses(replace(TERMS, endpoint="another")) == 0
    assert ledger.suspect_misses(replace(TERMS, provider="another")) == 0
    assert ledger.suspect_misses(TERMS, limit=2) == 1
    assert ledger.unmarked_misses(TERMS) == 1
    assert ledger.suspect_misses(TERMS, limit=1) == 0


def test_a_hundred_outcomes_are_looked_at_unless_it_is_said(ledger: Ledger, clock: Clock) -> None:
    look_up(ledger, keys(1), MISS)
    clock.turn(seconds=1)
    look_up(ledger, keys(100, start=1), MISS)
    assert len(ledger.recent_outcomes(TERMS)) == 100
    assert ledger.unmarked_misses(TERMS) == 100
    assert ledger.suspect_misses(TERMS) == 100
    assert isinstance(ledger.claim([JANE], other_run())[JANE], Cached), "the oldest is not among them"


def test_only_suspects_of_the_address_are_released_and_discarded_ones_are_no_current_requests(ledger: Ledger) -> None:
    elsewhere = other_run(endpoint="elsewhere")
    (ours,) = look_up(ledger, [JANE], MISS)
    (theirs,) = look_up(ledger, keys(1, start=1), MISS, elsewhere)
    (hit,) = look_up(ledger, keys(1, start=2), HIT)
    assert (ledger.suspect_misses(TERMS), ledger.suspect_misses(elsewhere)) == (1, 1)
    for provider, endpoint in (("idicore", "another"), ("another", TERMS.endpoint)):
        assert ledger.release_suspects(provider=provider, endpoint=endpoint, believe=False) == 0
    assert ledger.release_suspects(provider="idicore", endpoint=TERMS.endpoint, believe=False) == 1
    assert ledger.release_suspects(provider="idicore", endpoint="elsewhere", believe=True) == 1
    assert [(row_of(ledger, one)["suspicion"], row_of(ledger, one)["is_current"]) for one in (ours, theirs, hit)] == [
        ("discarded", False),
        ("believed", True),
        (None, True),
    ]


# --- telling what happened ----------------------------------------------------------------------------------


def test_a_request_is_told_in_full(ledger: Ledger, clock: Clock) -> None:
    (hit,) = look_up(ledger, [JANE], HIT)
    clock.turn(seconds=1)
    terms = other_run(purpose=COLLECTIONS, price=Decimal("0.3"))
    (claimed,) = claim_ids(ledger, [JANE], terms)
    told = ledger.lookups_of_people([JANE])
    assert told[0] == Lookup(
        lookup_id=hit,
        person_key=JANE,
        provider="idicore",
        endpoint="loopback/search",
        purpose="default",
        glba="otheruse",
        dppa="none",
        state="hit",
        suspicion=None,
        reason=None,
        http_status=200,
        price=Decimal("0.25"),
        cost=Decimal("0.25"),
        claimed_at=NOON,
        sent_at=NOON,
        settled_at=NOON,
        expires_at=NOON + timedelta(days=180),
        request_number=1,
        run_id="run-1",
        script="script_a",
    )
    (miss,) = look_up(ledger, keys(1, start=1), MISS)
    ledger.suspect_misses(TERMS)
    (suspect,) = ledger.lookups_with_ids([miss])
    assert (suspect.reason, suspect.suspicion) == ("no_match", "suspect")
    second = told[1]
    assert (second.lookup_id, second.purpose, second.glba, second.dppa) == (claimed, "collections", "debt", "3")
    assert (second.price, second.cost, second.http_status) == (Decimal("0.30"), None, None)
    assert (second.sent_at, second.settled_at, second.expires_at) == (None, None, None)
    assert (second.run_id, second.script, second.claimed_at) == ("run-2", "script_b", clock.now)


def test_outcomes_come_in_the_order_of_state_reason_and_purpose(ledger: Ledger) -> None:
    collections = other_run(run_id="run-1", purpose=COLLECTIONS)
    look_up(ledger, keys(2), HIT)
    look_up(ledger, keys(1, start=2), HIT, collections)
    look_up(ledger, keys(1, start=3), replace(FAILED, reason="z"))
    look_up(ledger, keys(1, start=4), replace(FAILED, reason="a"))
    look_up(ledger, keys(1, start=5), UNKNOWN)
    send(ledger, *claim_ids(ledger, keys(1, start=6)))
    look_up(ledger, keys(1, start=7), HIT, other_run())
    quarter, half, nothing = Decimal("0.25"), Decimal("0.50"), Decimal("0.00")
    assert ledger.outcomes_of_run("run-1") == [
        Outcome("failed", "a", "default", 1, nothing, nothing),
        Outcome("failed", "z", "default", 1, nothing, nothing),
        Outcome("hit", None, "collections", 1, quarter, nothing),
        Outcome("hit", None, "default", 2, half, nothing),
        Outcome("sent", None, "default", 1, nothing, quarter),
        Outcome("unknown", "read_timeout", "default", 1, nothing, quarter),
    ]


def test_leads_of_a_run_that_were_served_by_earlier_answers_are_counted(ledger: Ledger) -> None:
    look_up(ledger, keys(3), HIT)
    ledger.claim(keys(2), other_run())
    ledger.claim(keys(3), other_run(run_id="run-3"))
    assert [ledger.reused_by_run(run) for run in ("run-1", "run-2", "run-3")] == [0, 2, 3]


def test_requests_that_did_not_end_well_come_by_time_then_id_and_only_those_of_the_span(
    ledger: Ledger, clock: Clock
) -> None:
    asked: list[tuple[datetime, str]] = []
    for number, settlement in enumerate((FAILED, UNKNOWN, HIT, FAILED, MISS, FAILED)):
        ids = look_up(ledger, keys(5, start=10 * number), settlement)
        if settlement in (FAILED, UNKNOWN):
            asked += sorted((clock.now, lookup_id) for lookup_id in ids)
        clock.turn(hours=1)
    asked += sorted((clock.now, lookup_id) for lookup_id in claim_ids(ledger, keys(3, start=90)))
    send(ledger, *(lookup_id for _, lookup_id in asked[-3:]))
    until = clock.now + timedelta(microseconds=1)

    def told(since: datetime, until: datetime, rows: int) -> list[tuple[datetime, str]]:
        found: list[tuple[datetime, str]] = []
        last: Lookup | None = None
        for _page in range(100):
            with ledger._reading() as connection:
                page = failed_page(connection, since=since, until=until, after=last, rows=rows)
            if not page:
                return found
            found += [(lookup.claimed_at, lookup.lookup_id) for lookup in page]
            last = page[-1]
        raise AssertionError("the pages have no end")

    for rows in (1, 3, 5, 7, 100):
        assert told(NOON, until, rows) == asked
    assert told(NOON, clock.now, 4) == asked[:-3], "the end does not belong to the span"
    assert told(NOON + timedelta(microseconds=1), until, 4) == asked[5:], "its beginning does"
    assert [lookup.lookup_id for page in ledger.failed_lookups(NOON, until) for lookup in page] == [
        lookup_id for _, lookup_id in asked
    ]


def test_requests_about_people_at_one_moment_come_in_the_order_of_their_ids(ledger: Ledger) -> None:
    ids = claim_ids(ledger, keys(9))
    assert [lookup.lookup_id for lookup in ledger.lookups_of_people(keys(9))] == sorted(ids)
    assert {lookup.lookup_id for lookup in ledger.lookups_with_ids(ids[:4])} == set(ids[:4])


def test_seals_of_a_run_come_in_order_and_only_of_the_runs_that_are_wanted(ledger: Ledger) -> None:
    for run_id, asset, count in (("run-1", "a", 5), ("run-2", "a", 1), ("run-1", "b", 2), ("run-1", "a", 9)):
        ledger.open_chain(run_id, asset, "spring")
        ledger.seal_chain(run_id, asset, count, f"{count:064x}")
    seals = ledger.seals_of_runs(["run-1"])
    assert [seal.row_count for seal in seals.of("run-1", "a")] == [5, 9]
    assert [seal.row_count for seal in seals.of("run-1", "b")] == [2]
    assert (seals.of("run-2", "a"), seals.of(None, None), seals.of("run-1", None)) == ([], [], [])
    covering = seals.covering("run-1", "a", 6)
    assert covering is not None
    assert covering.row_count == 9


# --- answers that count ---------------------------------------------------------------------------------------


def test_answers_come_in_pages_in_the_order_of_people_with_the_newest_of_each(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "PAGE_PEOPLE", 2)
    people = sorted(keys(5))
    look_up(ledger, people[:3], MISS)
    clock.turn(days=40)
    look_up(ledger, people[:1], HIT)  # the miss was over
    look_up(ledger, people[1:2], HIT, other_run(purpose=COLLECTIONS))
    look_up(ledger, people[3:4], FAILED)
    ledger.upkeep.adopt([OldLookup(people[4], "old", AT_NOON, "hit")], key_version=1, life=LIFE)
    day, later = MICROS_PER_DAY, AT_NOON + 40 * MICROS_PER_DAY
    assert list(ledger.upkeep.answers()) == [
        [
            Answer(people[0], 1, "hit", later, later + 180 * day, later, is_adopted=False),
            Answer(people[1], 1, "hit", later, later + 180 * day, later, is_adopted=False),
        ],
        [
            Answer(people[2], 1, "miss", AT_NOON, AT_NOON + 30 * day, AT_NOON, is_adopted=False),
            Answer(people[4], 1, "hit", AT_NOON, AT_NOON + 180 * day, AT_NOON, is_adopted=True),
        ],
    ]


def test_an_answer_counts_since_the_first_of_those_that_followed_without_a_gap(ledger: Ledger, clock: Clock) -> None:
    def again(purpose: str) -> LookupTerms:
        return replace(TERMS, purpose=Purpose(purpose, "x", "y"))

    look_up(ledger, [JANE], MISS, again("first"))  # over after 30 days
    clock.turn(days=30)
    look_up(ledger, [JANE], HIT, again("second"))
    second = time_to_micros(clock.now)
    clock.turn(days=100)
    look_up(ledger, [JANE], MISS, again("third"))
    clock.turn(days=10)
    look_up(ledger, [JANE], HIT, again("fourth"))
    ((answer,),) = ledger.upkeep.answers()
    assert (answer.looked_up_at, answer.since) == (time_to_micros(clock.now), second)


def test_of_two_answers_the_second_counts_since_the_first_and_requests_without_an_answer_count_for_nothing(
    ledger: Ledger, clock: Clock
) -> None:
    look_up(ledger, [JANE], MISS)
    clock.turn(days=1)
    look_up(ledger, [JANE], HIT, other_run(endpoint="elsewhere"))
    answered = time_to_micros(clock.now)
    clock.turn(days=1)
    look_up(ledger, [JANE], UNKNOWN, other_run(purpose=COLLECTIONS))
    look_up(ledger, [JANE], FAILED, other_run(purpose=Purpose("third", "x", "y")))
    ((answer,),) = ledger.upkeep.answers()
    assert (answer.outcome, answer.looked_up_at, answer.since) == ("hit", answered, AT_NOON)


def test_a_suspect_or_discarded_miss_counts_for_nobody_and_a_believed_one_does(ledger: Ledger) -> None:
    look_up(ledger, [JANE], MISS)
    for suspicion, pages in (("suspect", 0), ("discarded", 0), ("believed", 1), (None, 1)):
        change(ledger, suspicion=suspicion)
        assert len(list(ledger.upkeep.answers())) == pages


def test_tombstones_come_in_pages_in_the_order_of_people(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "PAGE_PEOPLE", 2)
    people = sorted(keys(3))
    ledger.upkeep.erase({people[2]: 1})
    clock.turn(seconds=1)
    ledger.upkeep.erase({people[0]: 1, people[1]: 2, people[2]: 1})
    assert list(ledger.upkeep.tombstones()) == [
        [Tombstone(people[0], 1, AT_NOON + SECOND), Tombstone(people[1], 2, AT_NOON + SECOND)],
        [Tombstone(people[2], 1, AT_NOON)],
    ]
    assert {stone.person_key for stone in ledger.upkeep.tombstones_of(people[:2])} == set(people[:2])


def test_a_persons_history_is_everything_with_times_and_the_answer_opened(ledger: Ledger, clock: Clock) -> None:
    (first,) = look_up(ledger, [JANE], UNKNOWN)
    clock.turn(seconds=1)
    (second,) = look_up(ledger, [JANE], HIT)
    look_up(ledger, keys(1, start=1), HIT)
    told = ledger.upkeep.history([JANE])
    assert [row["lookup_id"] for row in told] == [first, second]
    assert set(told[0]) == {column.name for column in tables.lookups.columns}
    assert (told[0]["claimed_at"], told[0]["sent_at"], told[0]["settled_at"]) == (NOON, NOON, NOON)
    assert (told[0]["expires_at"], told[0]["answer"], told[0]["state"]) == (None, None, "unknown")
    assert (told[1]["expires_at"], told[1]["answer"]) == (clock.now + timedelta(days=180), ANSWER)
    assert all(type(name) is str for name in told[0])
    clock.turn(days=-1)
    (earlier,) = look_up(ledger, [JANE], FAILED, other_run(endpoint="elsewhere"))
    assert [row["lookup_id"] for row in ledger.upkeep.history([JANE])] == [earlier, first, second]


def test_erasing_blanks_every_answer_of_a_person_and_nobody_elses(ledger: Ledger) -> None:
    one, other, stranger = keys(3)
    mine = look_up(ledger, [one, other], HIT)
    (theirs,) = look_up(ledger, [stranger], HIT)
    assert ledger.upkeep.erase({one: 1, other: 1}) == 2
    for lookup_id in mine:
        row = row_of(ledger, lookup_id)
        assert (row["answer"], row["parser_version"], row["cost_micros"]) == (None, None, 250_000)
    assert row_of(ledger, theirs)["answer"] is not None
    assert row_of(ledger, theirs)["parser_version"] == 1


def test_an_erased_answer_is_in_no_file_of_the_ledger_any_more(ledger: Ledger, where: str) -> None:
    (lookup_id,) = look_up(ledger, [JANE], HIT)
    look_up(ledger, keys(5, start=1), HIT)
    sealed = bytes(row_of(ledger, lookup_id)["answer"])

    def holds_it() -> bool:
        return any(sealed[:40] in file.read_bytes() for file in Path(where).parent.iterdir())

    assert holds_it()
    ledger.upkeep.erase({JANE: 1})
    assert not holds_it()


def test_somebody_elses_request_bars_no_erasure_and_a_dead_process_bars_neither_that_nor_a_rekey(
    open_ledger: Callable[..., Ledger], clock: Clock
) -> None:
    ours, theirs = open_ledger(), open_ledger()
    (lookup_id,) = claim_ids(theirs, keys(1, start=1))
    send(theirs, lookup_id)
    ours.upkeep.erase({JANE: 1})
    clock.turn(seconds=61)
    ours.upkeep.erase({keys(1, start=1)[0]: 1})
    row = row_of(ours, lookup_id)
    assert (row["state"], row["reason"], row["settled_at"]) == ("unknown", "owner_died", AT_NOON + 61 * SECOND)
    third = open_ledger()
    (lookup_id,) = claim_ids(third, keys(1, start=2))
    send(third, lookup_id)
    clock.turn(seconds=61)
    assert ours.upkeep.begin_rekey(2)
    row = row_of(ours, lookup_id)
    assert (row["state"], row["reason"], row["settled_at"]) == ("unknown", "owner_died", AT_NOON + 122 * SECOND)


# --- what an older system asked ---------------------------------------------------------------------------------


def test_an_adopted_lookup_is_stored_at_no_cost_under_no_run(ledger: Ledger) -> None:
    asked_at = AT_NOON - 10 * MICROS_PER_DAY
    ledger.upkeep.adopt([OldLookup(JANE, "old", asked_at, "miss")], key_version=4, life=LIFE)
    lookup_id = hashlib.sha256(f"adopted|{JANE}".encode()).hexdigest()[:32]
    assert row_of(ledger, lookup_id) == {
        "lookup_id": lookup_id,
        "person_key": JANE,
        "key_version": 4,
        "provider": "adopted",
        "endpoint": "adopted",
        "purpose": "adopted",
        "glba": "",
        "dppa": "",
        "scope": "*",
        "state": "miss",
        "is_current": True,
        "suspicion": None,
        "owner": "adopted",
        "request_number": 0,
        "run_id": "adopted",
        "partition_key": "old",
        "hit_days": 180,
        "miss_days": 30,
        "price_micros": 0,
        "cost_micros": 0,
        "claimed_at": asked_at,
        "sent_at": asked_at,
        "settled_at": asked_at,
        "expires_at": asked_at + 30 * MICROS_PER_DAY,
        "reason": "adopted",
        "http_status": None,
        "parser_version": None,
        "answer": None,
    }


def test_of_several_old_lookups_the_one_that_bars_longest_counts_and_may_grow_later(ledger: Ledger) -> None:
    def adopt(*found: tuple[str, int | None, str]) -> tuple[Any, ...]:
        lookups = [
            OldLookup(JANE, script, None if days is None else AT_NOON - days * MICROS_PER_DAY, outcome)  # type: ignore[arg-type]
            for script, days, outcome in found
        ]
        ledger.upkeep.adopt(lookups, key_version=1, life=LIFE)
        row = row_of(ledger, hashlib.sha256(f"adopted|{JANE}".encode()).hexdigest()[:32])
        assert row["claimed_at"] == row["sent_at"] == row["settled_at"]
        days = (AT_NOON - row["settled_at"]) // MICROS_PER_DAY
        return row["partition_key"], row["state"], days, (row["expires_at"] - AT_NOON) // MICROS_PER_DAY

    assert adopt(("a", 20, "miss"), ("b", 10, "miss"), ("c", 15, "miss")) == ("b", "miss", 10, 20)
    assert adopt(("z", 10, "miss"), ("y", 10, "miss")) == ("b", "miss", 10, 20), "the same time changes nothing"
    assert adopt(("d", 160, "hit"), ("z", 160, "hit")) == ("d", "hit", 160, 20), (
        "of two that end together the hit counts"
    )
    assert adopt(("e", 10, "miss")) == ("d", "hit", 160, 20)
    assert adopt(("f", 159, "hit")) == ("f", "hit", 159, 21)
    assert adopt(("g", None, "hit")) == ("f", "hit", 159, 21), "an unknown time makes nothing longer"
    assert adopt(("h", -5, "hit")) == ("h", "hit", 0, 180), "a time to come counts as now"


# --- chains of evidence and their seals -------------------------------------------------------------------------


def test_a_chain_is_told_as_it_is_opened_sealed_and_opened_again(ledger: Ledger, clock: Clock) -> None:
    opened = ledger.open_chain("run-1", "dnc_flags", "spring")
    assert opened == Chain(
        run_id="run-1",
        asset="dnc_flags",
        partition_key="spring",
        opened_micros=AT_NOON,
        row_count=0,
        root=beginning("run-1", "dnc_flags"),
        is_open=True,
        pruned_micros=None,
    )
    assert (opened.opened_at, opened.pruned_at) == (NOON, None)
    assert ledger.seal_chain("run-1", "dnc_flags", 0, opened.root) is None
    clock.turn(seconds=1)
    ledger.open_chain("run-1", "dnc_flags", "spring")
    seal = ledger.seal_chain("run-1", "dnc_flags", 3, "a" * 64)
    assert seal is not None
    assert (seal.entry, seal.row_count, seal.root, seal.sealed_at) == (1, 3, "a" * 64, clock.now)
    sealed = replace(opened, row_count=3, root="a" * 64, is_open=False)
    assert ledger.chain("run-1", "dnc_flags") == sealed
    assert ledger.chain("run-2", "dnc_flags") is None
    assert ledger.chain("run-1", "other") is None
    assert ledger.open_chain("run-1", "dnc_flags", "spring") == replace(sealed, is_open=True)


def test_rows_that_were_there_before_chains_are_opened_and_sealed_at_once(ledger: Ledger) -> None:
    seal = ledger.open_sealed_chain("run-1", "dnc_flags", "spring", row_count=7, root="a" * 64)
    assert seal is not None
    assert ledger.roots() == [seal]
    assert (seal.entry, seal.run_id, seal.asset, seal.row_count) == (1, "run-1", "dnc_flags", 7)
    assert (seal.root, seal.sealed_micros, seal.previous, seal.is_intact) == ("a" * 64, AT_NOON, NO_SEAL, True)
    chain = ledger.chain("run-1", "dnc_flags")
    assert chain is not None
    assert (chain.partition_key, chain.opened_at, chain.row_count, chain.is_open) == ("spring", NOON, 7, False)
    assert ledger.open_sealed_chain("run-1", "dnc_flags", "spring", row_count=7, root="a" * 64) == seal
    assert ledger.roots() == [seal]


def test_the_same_seal_again_is_that_of_its_own_asset(ledger: Ledger) -> None:
    for asset in ("a", "b"):
        ledger.open_sealed_chain("run-1", asset, "spring", row_count=1, root="a" * 64)
    again = ledger.seal_chain("run-1", "a", 1, "a" * 64)
    assert again == ledger.roots()[0]
    assert ledger.mark_pruned([("run-1", "a", 1)], before="2020-01-01", reason=None).chains == 1
    assert [chain.pruned_at for chain in ledger.chains()] == [NOON, None], "the other asset's chain stays"


def test_a_seal_whose_values_were_changed_is_not_intact(ledger: Ledger) -> None:
    seal = ledger.open_sealed_chain("run-1", "dnc_flags", "spring", row_count=7, root="a" * 64)
    assert seal is not None
    for changes in (
        {"entry": 2},
        {"run_id": "run-2"},
        {"asset": "other"},
        {"row_count": 8},
        {"root": "b" * 64},
        {"sealed_micros": 0},
        {"previous": "1" * 64},
        {"entry_hash": "1" * 64},
    ):
        assert not replace(seal, **changes).is_intact  # type: ignore[arg-type]


def test_chains_come_by_age_run_and_asset_and_abandoned_ones_are_those_of_no_run_at_work(
    open_ledger: Callable[..., Ledger], clock: Clock
) -> None:
    ledger, other = open_ledger(), open_ledger()
    for run_id, asset in (("run-3", "b"), ("run-3", "a"), ("run-2", "b")):
        ledger.open_chain(run_id, asset, "spring")
    clock.turn(seconds=1)
    ledger.open_chain("run-1", "a", "spring")
    ledger.open_sealed_chain("run-0", "a", "spring", row_count=1, root="a" * 64)
    names = [(chain.run_id, chain.asset) for chain in ledger.chains()]
    assert names == [("run-2", "b"), ("run-3", "a"), ("run-3", "b"), ("run-0", "a"), ("run-1", "a")]
    with other.partition_lease("spring", holder="run-3"):
        assert [chain.run_id for chain in ledger.abandoned_chains()] == ["run-2", "run-1"]
        clock.turn(seconds=61)
        assert len(ledger.abandoned_chains()) == 4, "the run at work has died"
    with ledger._database.writing() as connection:
        connection.execute(update(tables.chains).where(tables.chains.c.run_id == "run-2").values(pruned_at=1))
    assert [chain.run_id for chain in ledger.abandoned_chains()] == ["run-3", "run-3", "run-1"]
    clock.turn(days=-1)
    ledger.open_chain("run-9", "a", "spring")
    assert [chain.run_id for chain in ledger.abandoned_chains()] == ["run-9", "run-3", "run-3", "run-1"]


def test_prunings_come_in_the_order_they_were_decided(ledger: Ledger, clock: Clock) -> None:
    for number in range(2):
        ledger.open_sealed_chain(f"run-{number}", "a", "spring", row_count=number + 2, root="a" * 64)
    late = ledger.mark_pruned([("run-1", "a", 3)], before="2021-01-01", reason=None)
    clock.turn(days=-1)
    early = ledger.mark_pruned([("run-0", "a", 2)], before="2020-01-01", reason="audit")
    assert ledger.prunings() == [early, late]
    assert (early.pruned_at, early.before, early.chains, early.rows, early.reason) == (
        clock.now,
        "2020-01-01",
        1,
        2,
        "audit",
    )
    ledger.desk.pause("not a pruning")
    assert len(ledger.prunings()) == 2


# --- a partition, once more ---------------------------------------------------------------------------------------


def test_a_lease_is_stored_under_its_run_and_ends_with_its_last_use(ledger: Ledger) -> None:
    def leases() -> list[tuple[str, str, str]]:
        with ledger._database.reading() as connection:
            found = connection.execute(select(tables.partition_leases))
            return sorted((row.partition_key, row.owner, row.holder) for row in found)

    us = ledger._owner.owner
    with ledger.partition_lease("script_a", holder="run-1"), ledger.partition_lease("script_b", holder="run-1"):
        assert leases() == [("script_a", us, "run-1"), ("script_b", us, "run-1")]
        with ledger.partition_lease("script_a", holder="run-1"):
            pass
        assert len(leases()) == 2
    assert leases() == []


def test_whoever_takes_a_partition_settles_the_estate_of_a_run_that_died(
    open_ledger: Callable[..., Ledger], clock: Clock
) -> None:
    dead, living = open_ledger(), open_ledger()
    dead.partition_lease("script_a", holder="run-1").__enter__()
    (lookup_id,) = claim_ids(dead, [JANE])
    send(dead, lookup_id)
    clock.turn(seconds=61)
    with living.partition_lease("script_a", holder="run-2"):
        row = row_of(living, lookup_id)
        assert (row["state"], row["reason"], row["settled_at"]) == ("unknown", "owner_died", time_to_micros(clock.now))


# --- money and time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("micros", "dollars"),
    [
        (0, "0.00"),
        (10_000, "0.01"),
        (250_000, "0.25"),
        (1_000_000, "1.00"),
        (1_500_000, "1.50"),
        (1, "0.000001"),
        (123_456, "0.123456"),
        (12_345_600, "12.3456"),
        (1_000_000_000_000, "1000000.00"),
    ],
)
def test_micros_are_dollars_with_at_least_two_decimals(micros: int, dollars: str) -> None:
    assert f"{micros_to_dollars(micros):f}" == dollars
    assert dollars_to_micros(Decimal(dollars)) == micros


@pytest.mark.parametrize("dollars", ["0.0000001", "-0.01", "NaN", "Infinity", "-Infinity", "sNaN"])
def test_what_is_no_amount_is_refused(dollars: str) -> None:
    with pytest.raises(ValueError, match=r"^an amount of money has at most six decimals and is not negative$"):
        dollars_to_micros(Decimal(dollars))


def test_times_are_microseconds_since_1970_and_back() -> None:
    moment = datetime(2026, 11, 21, 12, 0, 0, 1, tzinfo=UTC)
    assert time_to_micros(moment) == 1_795_262_400_000_001
    assert micros_to_time(1_795_262_400_000_001) == moment
    assert time_to_micros(datetime(1970, 1, 2, tzinfo=UTC)) == MICROS_PER_DAY
    with pytest.raises(TypeError):
        time_to_micros(datetime(2026, 11, 21))  # noqa: DTZ001 - that is the mistake


# --- the demo's key file ------------------------------------------------------------------------------------------


def test_the_key_file_is_made_whole_and_private_and_no_draft_is_left(tmp_path: Path) -> None:
    path = key_file_of(tmp_path / "ledger.sqlite")
    assert path == tmp_path / "ledger.sqlite.key"
    key = make_or_read_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.sqlite.key"]
    assert make_or_read_key_file(path) == key
    assert Sealer([key]).open(Sealer([key]).seal({"x": 1})) == {"x": 1}
    path.write_text(f" {key}\n", encoding="ascii")
    assert make_or_read_key_file(path) == key


def test_a_key_that_another_process_made_meanwhile_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, theirs = tmp_path / "key", Fernet.generate_key().decode()

    def meanwhile(point: str) -> None:
        if point == "key_file.drafted":
            drafts = list(tmp_path.iterdir())
            assert [draft.name.startswith("key.") for draft in drafts] == [True]
            assert stat.S_IMODE(drafts[0].stat().st_mode) == 0o600
            path.write_text(theirs, encoding="ascii")

    monkeypatch.setattr(failpoints, "reached", meanwhile)
    assert make_or_read_key_file(path) == theirs
    assert list(tmp_path.iterdir()) == [path]


def test_answers_are_sealed_with_the_newest_key_and_opened_with_any() -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    sealed = Sealer([new, old]).seal(ANSWER)
    assert Sealer([new]).open(sealed) == ANSWER
    assert Sealer([new, old]).open(Sealer([old]).seal(ANSWER)) == ANSWER
    token = Sealer([new]).check_token()
    Sealer([old, new]).require_fits(token)
    assert Fernet(new).decrypt(token) == b"leadscrub ledger"
    assert sealing.Sealer([new]).seal(ANSWER) != sealed, "the same answer is never sealed the same"


# --- the points at which a crash is tried --------------------------------------------------------------------------


def test_every_write_passes_the_points_at_which_crashes_are_tried(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []

    def reached(point: str) -> None:
        assert point in failpoints.POINTS
        passed.append(point)

    monkeypatch.setattr(failpoints, "reached", reached)

    def points() -> list[str]:
        found = passed.copy()
        passed.clear()
        return found

    def around(*names: str) -> list[str]:
        return [f"{name}.{when}_commit" for name in names for when in ("before", "after")]

    ledger = Ledger.open(tmp_path / "ledger.sqlite", kind="demo", clock=clock)
    assert points() == ["key_file.drafted", "key_file.made", *around("ledger")]
    lookup_id, *others = claim_ids(ledger, keys(2))
    assert points() == around("claim")
    send(ledger, lookup_id)
    assert points() == around("mark")
    settle(ledger, MISS, lookup_id)
    assert points() == around("settle")
    ledger.release(others)
    assert points() == around("release")
    ledger.suspect_misses(TERMS)
    assert points() == around("suspect")
    with ledger.partition_lease("script_a", holder="run-1"):
        assert points() == around("lease")
    assert points() == around("lease_end")
    ledger.open_chain("run-1", "dnc_flags", "spring")
    assert points() == around("chain")
    ledger.seal_chain("run-1", "dnc_flags", 1, "a" * 64)
    assert points() == around("seal")
    ledger.open_sealed_chain("run-2", "dnc_flags", "spring", row_count=1, root="a" * 64)
    assert points() == around("seal_of_old")
    ledger.close()
    assert points() == around("sign_off")


def test_nothing_that_a_run_asks_reads_the_lookups_of_all_time(ledger: Ledger) -> None:
    """Each claim read the whole ledger for dead owners: 32 ms at 20,000 lookups, under the lock of all writers."""
    asked: dict[str, Any] = {}
    event.listen(ledger._database.engine, "before_cursor_execute", _into(asked))
    died = claim_ids(ledger, keys(2), other_run())
    with ledger._database.writing() as connection:
        connection.execute(update(tables.lookups).where(tables.lookups.c.lookup_id.in_(died)).values(owner="died"))
    look_up(ledger, keys(3), HIT)
    ledger.release(claim_ids(ledger, keys(1, start=9)))
    ledger.recent_outcomes(TERMS)
    ledger.lookups_of_run("run-1")
    about_lookups = {statement: values for statement, values in asked.items() if "ledger_lookups" in statement}
    with ledger._database.reading() as connection:
        plans = {
            statement: [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            for statement, values in about_lookups.items()
        }
    assert len(plans) > 8
    assert {statement: plan for statement, plan in plans.items() if "SCAN ledger_lookups" in plan} == {}


def _into(asked: dict[str, Any]) -> Callable[..., None]:
    def note(_connection: object, _cursor: object, statement: str, parameters: Any, _c: object, many: bool) -> None:
        asked[statement] = parameters[0] if many else parameters

    return note
