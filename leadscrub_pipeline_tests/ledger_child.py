"""A process of its own that uses a ledger, for tests that start several at once, stop them or kill them.

``python -m leadscrub_pipeline_tests.ledger_child WHERE ACTION [ARGUMENT...]``; each step done is a line on
standard output.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path

from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.ledger import Claimed, Ledger
from leadscrub_pipeline_tests.ledger_support import (
    FAILED,
    HIT,
    KEY,
    MISS,
    UNKNOWN,
    claim_ids,
    keys,
    other_run,
    send,
    settle,
)


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is what the test reads


def claim_everybody(ledger: Ledger, run_id: str, count: str) -> None:
    """Claim the same people as the other processes, in an order of our own."""
    people = keys(int(count))
    random.Random(run_id).shuffle(people)
    ours = []
    for start in range(0, len(people), 150):
        standings = ledger.claim(people[start : start + 150], other_run(run_id=run_id, unknown_policy="hold"))
        ours += [standing.lookup_id for standing in standings.values() if isinstance(standing, Claimed)]
    send(ledger, *ours)  # so that closing does not release them, and hold keeps others from repeating them
    say(" ".join(ours))


def claim_under_caps(ledger: Ledger, run_id: str, first: str, max_lookups: str, budget: str) -> None:
    """Claim people of our own, a few at a time, until nothing is granted any more; release and fail some on the way."""
    dice = random.Random(first)
    terms = other_run(run_id=run_id, max_lookups_per_run=int(max_lookups), daily_budget=Decimal(budget))
    people = iter(keys(2_000, start=int(first)))
    say("ready")
    sys.stdin.readline()
    kept: list[str] = []
    while some := list(islice(people, dice.randint(1, 5))):
        standings = ledger.claim(some, terms)
        ours = [standing.lookup_id for standing in standings.values() if isinstance(standing, Claimed)]
        if not ours:
            break
        if dice.random() < 0.3:
            ledger.release(ours)
            continue
        send(ledger, *ours)
        settle(ledger, FAILED if dice.random() < 0.2 else HIT, *ours)
        kept += ours
    say(" ".join(kept))


def hang_with_requests(ledger: Ledger) -> None:
    """Claim three, send two, and settle none of them."""
    lookup_ids = claim_ids(ledger, keys(3))
    send(ledger, *lookup_ids[:2])
    say("ready")
    time.sleep(60)


def hold_partition(ledger: Ledger, run_id: str) -> None:
    with ledger.partition_lease("script_a", holder=run_id):
        say("ready")
        time.sleep(60)


def send_when_told(ledger: Ledger) -> None:
    (lookup_id,) = claim_ids(ledger, keys(1))
    say("ready")
    sys.stdin.readline()
    try:
        send(ledger, lookup_id)
    except FailedError:
        say("refused")
    else:
        say("sent")


def look_up_until_killed(ledger: Ledger, run_id: str, count: str, bill: str) -> None:
    """A worker against a vendor who writes each billed request into the bill before it answers."""
    people = keys(int(count))
    dice = random.Random()
    descriptor = os.open(bill, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def one(person: str, lookup_id: str) -> None:
        writer = ledger.writer()
        await writer.mark_sent(lookup_id)
        settlement = dice.choices([HIT, MISS, FAILED, UNKNOWN], [6, 2, 1, 1])[0]
        if settlement is not FAILED:
            os.write(descriptor, f"{lookup_id} {person}\n".encode())
        await asyncio.sleep(dice.random() * 0.01)
        await writer.settle(lookup_id, settlement)

    async def rounds() -> None:
        for _ in range(1_000):
            wanted = dice.sample(people, 40)
            standings = await asyncio.to_thread(ledger.claim, wanted, other_run(run_id=run_id))
            ours = {p: s.lookup_id for p, s in standings.items() if isinstance(s, Claimed)}
            await asyncio.gather(*(one(person, lookup_id) for person, lookup_id in ours.items()))
            say("round")

    asyncio.run(rounds())


ACTIONS: dict[str, Callable[..., None]] = {
    action.__name__: action
    for action in (
        claim_everybody,
        claim_under_caps,
        hang_with_requests,
        hold_partition,
        send_when_told,
        look_up_until_killed,
    )
}


def main(where: str, lease: str, action: str, *arguments: str) -> None:
    seconds = float(lease)
    with Ledger.open(
        where if "://" in where else Path(where),
        kind="demo",
        answer_keys=[KEY_OF_TESTS],
        lease=timedelta(seconds=seconds),
        heartbeat=timedelta(seconds=seconds / 4),
    ) as ledger:
        ACTIONS[action](ledger, *arguments)


KEY_OF_TESTS = os.environ.get("LEDGER_CHILD_KEY", KEY)

if __name__ == "__main__":
    main(*sys.argv[1:])
