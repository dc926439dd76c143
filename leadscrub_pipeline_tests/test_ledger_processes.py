"""Several processes on one ledger, and processes that stop or die in the middle of their work."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.ledger import Busy, Claimed, Ledger, tables
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    KEY,
    TERMS,
    Clock,
    claim_ids,
    clock,
    keys,
    ledger,
    new_postgres_database,
    open_ledger,
    other_run,
    send,
    where,
)


@contextmanager
def children(where, *commands, lease=60.0):
    """Start one process for each command, all at once; they are gone at the end, whatever happens."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "leadscrub_pipeline_tests.ledger_child", where, str(lease), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LEDGER_CHILD_KEY": KEY},
        )
        for command in commands
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def open_now(where, **changes):
    return Ledger.open(where, kind="demo", answer_keys=[KEY], **changes)


def test_processes_that_make_a_ledger_and_claim_everybody_at_once_share_the_people_out(where):
    commands = [("claim_everybody", f"run-{number}", "900") for number in range(3)]
    with children(where, *commands) as started:
        claimed = [process.stdout.readline().split() for process in started]
        assert [process.wait(60) for process in started] == [0] * 3
    with open_now(where) as ledger, ledger._database.reading() as connection:
        people = connection.execute(select(tables.lookups.c.person_key)).scalars().all()
    assert sum(map(len, claimed)) == len(set().union(*claimed)) == 900
    assert sorted(people) == sorted(keys(900))


@pytest.mark.parametrize(
    ("runs", "run_cap", "budget", "granted"),
    [
        (["run-1"] * 3, 40, "1000", 40),  # processes of one run share its cap
        (["run-1", "run-1", "run-2"], 1_000, "10.24", 40),  # runs share the day's budget; 24 cents buy no lookup
    ],
)
def test_caps_are_exact_when_processes_claim_release_and_fail_at_once(where, runs, run_cap, budget, granted):
    commands = [
        ("claim_under_caps", run, str(number * 10_000), str(run_cap), budget) for number, run in enumerate(runs)
    ]
    with children(where, *commands) as started:
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        told = [process.stdout.readline().split() for process in started]
        assert [process.wait(60) for process in started] == [0] * len(runs)
    with open_now(where) as ledger:
        paid = [row for row in ledger.summary().rows if row.outcome == "hit"]
        with ledger._database.reading() as connection:
            reserved = dict(connection.execute(select(tables.budgets.c.scope, tables.budgets.c.lookups)).all())
    assert sum(row.lookups for row in paid) == granted, told
    assert ledger_cost(paid) == Decimal("0.25") * granted
    days = {scope: count for scope, count in reserved.items() if scope.startswith("day:")}
    assert sum(days.values()) == granted
    assert all(count <= run_cap for scope, count in reserved.items() if scope.startswith("run:"))


def ledger_cost(rows):
    return sum(row.cost for row in rows)


def test_demos_that_start_together_make_one_key(tmp_path):
    path = tmp_path / "ledger.sqlite"
    program = (
        "import sys; from leadscrub_pipeline.ledger import Ledger\n"
        "with Ledger.open(sys.argv[1], kind='demo') as ledger: ledger.sweep()"
    )
    started = [subprocess.Popen([sys.executable, "-c", program, path]) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0] * 3
    assert len(list(tmp_path.glob("*.key*"))) == 1


def test_after_a_kill_unsent_claims_are_free_and_sent_requests_are_unknown_and_shown(where):
    with children(where, ("hang_with_requests",)) as (child,):
        assert child.stdout.readline() == "ready\n"
        with open_now(where) as ledger:
            assert all(isinstance(found, Busy) for found in ledger.claim(keys(3), other_run()).values())
            child.kill()
            child.wait()
            sent, also_sent, unsent = keys(3)
            assert isinstance(ledger.claim([unsent], other_run())[unsent], Claimed)
            counts = ledger.lookups_of_run("run-1")
            assert (counts["unknown"], counts["claimed"], counts.unknown_cost) == (2, 0, Decimal("0.50"))
            repeat = ledger.claim([sent, also_sent], other_run(max_lookups_per_run=2))
            assert isinstance(repeat[sent], Claimed)
            assert repeat[sent].request_number == 2


def test_a_dead_process_on_another_host_keeps_its_claims_until_its_lease_ends(where):
    with children(where, ("hang_with_requests",)) as (child,):
        child.stdout.readline()
    clock = Clock()
    clock.now = utc_now()
    with open_now(where, clock=clock) as ledger:
        with ledger._database.writing() as connection:
            connection.execute(update(tables.owners).values(host="elsewhere"))
        assert ledger.sweep() == (0, 0)
        clock.turn(seconds=61)
        assert ledger.sweep() == (1, 2)
        assert ledger.sweep() == (0, 0)


def test_a_process_that_was_suspended_past_its_lease_may_not_send_what_others_took_over(where):
    with children(where, ("send_when_told",), lease=1.0) as (child,), open_now(where) as ledger:
        child.stdout.readline()
        os.kill(child.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 20
        while not isinstance(ledger.claim(keys(1), other_run())[keys(1)[0]], Claimed):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(child.pid, signal.SIGCONT)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "refused\n"
        assert ledger.lookups_of_run("run-1").states == {}


def test_the_heartbeat_keeps_claims_of_a_quiet_process(where):
    short = {"lease": timedelta(seconds=1), "heartbeat": timedelta(seconds=0.2)}
    with open_now(where, **short) as quiet, open_now(where, **short) as other:
        claim_ids(quiet, keys(1))
        time.sleep(1.5)
        assert isinstance(other.claim(keys(1), other_run())[keys(1)[0]], Busy)


def test_a_partition_is_refused_while_another_run_holds_it_and_the_run_is_named(open_ledger):
    first, second = open_ledger(), open_ledger()
    with first.partition_lease("script_a", holder="run-1"):
        for ledger in (first, second):
            with pytest.raises(RefusedError, match="run-1"), ledger.partition_lease("script_a", holder="run-2"):
                pass
        with second.partition_lease("script_b", holder="run-2"):
            pass
    with second.partition_lease("script_a", holder="run-2"):
        pass


def test_steps_of_one_run_hold_its_partition_side_by_side(open_ledger):
    first, second, stranger = open_ledger(), open_ledger(), open_ledger()
    with first.partition_lease("script_a", holder="run-1"):
        with second.partition_lease("script_a", holder="run-1"), first.partition_lease("script_a", holder="run-1"):
            pass
        with pytest.raises(RefusedError), stranger.partition_lease("script_a", holder="run-2"):
            pass


def test_a_killed_run_keeps_nobody_out_of_its_partition(where):
    with children(where, ("hold_partition", "run-1")) as (child,), open_now(where) as ledger:
        child.stdout.readline()
        with pytest.raises(RefusedError, match="run-1"), ledger.partition_lease("script_a", holder="run-2"):
            pass
        child.kill()
        child.wait()
        with ledger.partition_lease("script_a", holder="run-2"):
            pass


def test_workers_killed_at_any_moment_never_leave_a_bill_the_ledger_does_not_know(where, tmp_path):
    bill = tmp_path / "bill"
    dice = random.Random(1)
    for round_number in range(2):
        commands = [("look_up_until_killed", f"run-{round_number}-{n}", "300", str(bill)) for n in range(2)]
        with children(where, *commands) as started:
            for process in started:
                process.stdout.readline()
                time.sleep(dice.random() * 0.3)
                process.kill()
    with open_now(where) as ledger:
        ledger.sweep()
        with ledger._database.reading() as connection:
            rows = {row.lookup_id: row for row in connection.execute(select(tables.lookups))}
            reserved = dict(connection.exec_driver_sql("SELECT scope, lookups FROM ledger_budgets").all())
        summary = ledger.summary()
    billed = [line.split() for line in bill.read_text().splitlines()]
    assert len(billed) > 30
    assert all(rows[lookup_id].person_key == person for lookup_id, person in billed)
    assert {row.state for row in rows.values()} <= {"hit", "miss", "failed", "unknown"}
    cost = Decimal("0.25") * len(billed)
    assert summary.cost <= cost <= summary.cost + summary.unknown_cost
    paid = Counter(row.person_key for row in rows.values() if row.state in {"hit", "miss"})
    unknown = Counter(row.person_key for row in rows.values() if row.state == "unknown")
    assert max(paid.values()) == 1
    assert all(unknown[person] + paid[person] <= 2 for person in {*paid, *unknown})
    kept = Counter(row.run_id for row in rows.values() if row.state != "failed")
    assert {scope: n for scope, n in reserved.items() if scope.startswith("run:")} == {
        scope: kept[scope.removeprefix("run:")] for scope in reserved if scope.startswith("run:")
    }


def test_others_see_what_a_process_asks_that_opened_its_ledger_twice(tmp_path):
    # Opening it anew opened and closed the file, which took the locks of the connections that were open.
    # The next process to end deleted the WAL under them: what was then written nobody else saw, and a kill lost it.
    path = tmp_path / "ledger.sqlite"
    with open_now(path) as ledger:
        claim_ids(ledger, keys(1, start=20))
        open_now(path).close()
        with children(str(path), ("claim_everybody", "run-2", "0")) as (child,):
            child.wait(30)
        send(ledger, *claim_ids(ledger, keys(2)))
        with children(str(path), ("claim_everybody", "run-3", "3")) as (child,):
            assert len(child.stdout.readline().split()) == 1
