"""The writer: what it says is committed is committed, and nobody waits for ever."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

import asyncio
import threading

import pytest
from sqlalchemy import event

from leadscrub_pipeline.errors import FailedError, UnavailableError
from leadscrub_pipeline.ledger import Busy, Cached, Claimed, Ledger, Settlement
from leadscrub_pipeline.ledger.writer import Settled
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    ANSWER,
    FAILED,
    HIT,
    KEY,
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


def test_hundreds_of_writes_at_once_share_few_transactions(ledger):
    commits = []
    event.listen(ledger._database.engine, "commit", commits.append)
    lookup_ids = claim_ids(ledger, keys(400))
    commits.clear()
    send(ledger, *lookup_ids)
    settle(ledger, HIT, *lookup_ids)
    assert ledger.lookups_of_run("run-1")["hit"] == 400
    assert len(commits) < 40


def test_what_was_marked_sent_is_seen_by_others_when_the_wait_is_over(open_ledger):
    first, second = open_ledger(), open_ledger()
    (lookup_id,) = claim_ids(first, [JANE])
    send(first, lookup_id)
    assert second.lookups_of_run("run-1")["sent"] == 1


def test_two_event_loops_in_two_threads_can_write_at_once(ledger):
    lookup_ids = claim_ids(ledger, keys(60))
    threads = [
        threading.Thread(target=lambda part=part: (send(ledger, *part), settle(ledger, MISS, *part)))
        for part in (lookup_ids[:30], lookup_ids[30:])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.lookups_of_run("run-1")["miss"] == 60


def test_a_claim_that_another_run_cleared_must_not_be_sent(open_ledger, clock):
    slow, other = open_ledger(), open_ledger()
    (lookup_id,) = claim_ids(slow, [JANE])
    clock.turn(seconds=61)
    claim_ids(other, [JANE], other_run())
    with pytest.raises(FailedError, match="no longer ours"):
        send(slow, lookup_id)
    assert other.summary().lookups == 1


def test_marking_keeps_the_lease_alive_so_that_a_request_in_flight_is_not_given_away(open_ledger, clock):
    slow, other = open_ledger(), open_ledger()
    (lookup_id,) = claim_ids(slow, [JANE])
    clock.turn(seconds=59)
    send(slow, lookup_id)
    clock.turn(seconds=59)
    assert isinstance(other.claim([JANE], other_run())[JANE], Busy)


def test_a_claim_of_somebody_else_cannot_be_sent(open_ledger):
    first, second = open_ledger(), open_ledger()
    (lookup_id,) = claim_ids(first, [JANE])
    with pytest.raises(FailedError):
        send(second, lookup_id)


def test_a_request_cannot_be_sent_twice(ledger):
    (lookup_id,) = claim_ids(ledger, [JANE])
    send(ledger, lookup_id)
    with pytest.raises(FailedError):
        send(ledger, lookup_id)


def test_a_late_answer_settles_its_row_after_a_sweep(open_ledger, clock):
    slow, other = open_ledger(), open_ledger()
    (lookup_id,) = claim_ids(slow, [JANE])
    send(slow, lookup_id)
    clock.turn(seconds=61)
    assert other.sweep() == (0, 1)
    assert other.lookups_of_run("run-1")["unknown"] == 1
    settle(slow, HIT, lookup_id)
    assert other.lookups_of_run("run-1").states == {"hit": 1}
    assert isinstance(other.claim([JANE], other_run())[JANE], Cached)


@pytest.mark.parametrize("again", [HIT, MISS, FAILED, UNKNOWN])
def test_a_settled_request_cannot_be_settled_otherwise(ledger, again):
    (lookup_id,) = look_up(ledger, [JANE], HIT)
    with pytest.raises(FailedError):
        settle(ledger, again, lookup_id)
    assert ledger.lookups_of_run("run-1").states == {"hit": 1}


@pytest.mark.parametrize("settlement", [HIT, MISS, UNKNOWN])
def test_a_request_that_was_never_sent_cannot_have_an_outcome(ledger, settlement):
    (lookup_id,) = claim_ids(ledger, [JANE])
    with pytest.raises(FailedError):
        settle(ledger, settlement, lookup_id)
    settle(ledger, FAILED, lookup_id)


def test_one_lookup_settled_twice_in_one_group_is_settled_once(ledger):
    (lookup_id,) = claim_ids(ledger, [JANE])
    send(ledger, lookup_id)

    async def both():
        writer = ledger.writer()
        return await asyncio.gather(
            writer.settle(lookup_id, HIT), writer.settle(lookup_id, MISS), return_exceptions=True
        )

    outcomes = asyncio.run(both())
    assert [type(outcome) for outcome in outcomes] == [Settled, FailedError]


def test_an_answer_that_cannot_be_stored_fails_alone_and_does_not_quote_itself(ledger):
    good, bad = claim_ids(ledger, keys(2))
    send(ledger, good, bad)

    async def both():
        writer = ledger.writer()
        odd = Settlement(state="hit", answer={"Jane Roe": {1, 2}})
        return await asyncio.gather(writer.settle(bad, odd), writer.settle(good, HIT), return_exceptions=True)

    outcomes = asyncio.run(both())
    assert isinstance(outcomes[0], FailedError)
    assert "Jane" not in str(outcomes[0])
    assert isinstance(outcomes[1], Settled)


def test_a_waiter_that_was_cancelled_does_not_disturb_the_others(ledger):
    first, second = claim_ids(ledger, keys(2))

    async def cancel_one():
        writer = ledger.writer()
        waiting = asyncio.create_task(writer.mark_sent(first))
        other = asyncio.create_task(writer.mark_sent(second))
        await asyncio.sleep(0)
        waiting.cancel()
        await other
        writer.flush()

    asyncio.run(cancel_one())
    assert ledger.lookups_of_run("run-1")["sent"] == 2


def test_an_event_loop_that_is_gone_does_not_stop_the_writer(ledger):
    first, second = claim_ids(ledger, keys(2))

    async def walk_away():
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        await ledger.writer().mark_sent(first)

    loop = asyncio.new_event_loop()
    task = loop.create_task(walk_away())
    loop.run_forever()
    ledger.writer().flush()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    send(ledger, second)
    assert ledger.lookups_of_run("run-1")["sent"] == 2


def test_closing_commits_what_waits_and_later_writes_are_told(ledger):
    lookup_ids = claim_ids(ledger, keys(20))
    writer = ledger.writer()

    async def close_meanwhile():
        waiting = [asyncio.create_task(writer.mark_sent(lookup_id)) for lookup_id in lookup_ids]
        await asyncio.sleep(0)
        await asyncio.to_thread(writer.close)
        await asyncio.gather(*waiting)
        with pytest.raises(UnavailableError, match="closed"):
            await writer.settle(lookup_ids[0], HIT)

    asyncio.run(close_meanwhile())
    assert ledger.lookups_of_run("run-1")["sent"] == 20
    settle(ledger, HIT, lookup_ids[0])


def test_a_closed_ledger_releases_what_was_not_sent_and_owns_up_to_what_was(open_ledger):
    ledger, other = open_ledger(), open_ledger()
    sent = claim_ids(ledger, keys(2))[1]
    send(ledger, sent)
    ledger.close()
    assert other.lookups_of_run("run-1").states == {"unknown": 1}
    assert isinstance(other.claim(keys(1), other_run())[JANE], Claimed)
    ledger.close()
    with pytest.raises(UnavailableError, match="closed"):
        ledger.claim([JANE], TERMS)


def test_a_full_disk_fails_those_who_wait_and_frees_nothing_that_was_promised(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite", kind="demo", answer_keys=[KEY], retry_seconds=(0.01,)) as ledger:
        lookup_ids = claim_ids(ledger, keys(30))
        send(ledger, *lookup_ids)
        set_room(ledger, 0)
        big = Settlement(state="hit", answer={"result": ["x" * 50_000]})
        with pytest.raises(UnavailableError, match="SQLITE_FULL"):
            settle(ledger, big, *lookup_ids)
        with pytest.raises(UnavailableError, match="SQLITE_FULL"):
            ledger.claim(keys(2_000, start=100), TERMS)
        assert ledger.lookups_of_run("run-1").states == {"sent": 30}, "nothing half-written"
        set_room(ledger, 1_000_000)
        settle(ledger, big, *lookup_ids)
        assert ledger.lookups_of_run("run-1").states == {"hit": 30}


def set_room(ledger, pages):
    """Limit the database to this many pages more than it has; in every connection it opens."""
    with ledger._database.reading() as connection:
        limit = connection.exec_driver_sql("PRAGMA page_count").scalar() + pages
    ledger._database.engine.dispose()

    def restrict(connection, _record):
        connection.execute(f"PRAGMA max_page_count = {limit}")

    event.listen(ledger._database.engine, "connect", restrict)


def test_a_commit_that_only_seemed_lost_is_recognised_and_not_refused(ledger):
    first, second = claim_ids(ledger, keys(2))
    lose_next_commit(ledger)
    send(ledger, first, second)
    lose_next_commit(ledger)
    settle(ledger, HIT, first, second)
    assert ledger.lookups_of_run("run-1").states == {"hit": 2}
    assert ledger.claim([JANE], TERMS)[JANE].answer == ANSWER


def test_a_failure_whose_commit_seemed_lost_returns_its_reservation_once(ledger):
    (lookup_id,) = claim_ids(ledger, [JANE])
    send(ledger, lookup_id)
    lose_next_commit(ledger)
    settle(ledger, FAILED, lookup_id)
    with ledger._database.reading() as connection:
        assert connection.exec_driver_sql("SELECT max(lookups), min(micros) FROM ledger_budgets").one() == (0, 0)


def lose_next_commit(ledger):
    """The next transaction is committed, and the connection breaks before its answer arrives."""
    import contextlib  # noqa: PLC0415

    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    database, whole = ledger._database, ledger._database.writing

    @contextlib.contextmanager
    def broken():
        with whole() as connection:
            yield connection
        database.writing = whole
        raise OperationalError("COMMIT", None, ConnectionResetError())

    database.writing = broken
