"""What the ledger's tests share: a clock to turn, terms, keys, and both kinds of database."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.ledger import Claimed, Ledger, LookupTerms, Settlement
from leadscrub_pipeline_tests.postgres import new_postgres_database

KEY = Fernet.generate_key().decode()
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ANSWER = {"result": [{"pid": "1", "phone": [{"number": "(212) 555-0123"}]}]}
TERMS = LookupTerms(
    provider="idicore",
    endpoint="loopback/search",
    purpose=Purpose("default", "otheruse", "none"),
    run_id="run-1",
    partition_key="script_a",
    key_version=1,
    price=Decimal("0.25"),
)
HIT = Settlement(state="hit", http_status=200, answer=ANSWER, parser_version=1)
MISS = Settlement(state="miss", reason="no_match", http_status=200, answer={"result": []}, parser_version=1)
FAILED = Settlement(state="failed", reason="refused_connection")
UNKNOWN = Settlement(state="unknown", reason="read_timeout")


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def turn(self, **by: float) -> None:
        self.now += timedelta(**by)


def keys(count: int, start: int = 0) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(start, start + count)]


def other_run(terms: LookupTerms = TERMS, **changes: Any) -> LookupTerms:
    return replace(terms, **{"run_id": "run-2", "partition_key": "script_b"} | changes)


def claim_ids(ledger: Ledger, people: list[str], terms: LookupTerms = TERMS) -> list[str]:
    standings = ledger.claim(people, terms)
    assert all(isinstance(standing, Claimed) for standing in standings.values()), standings
    return [standings[person].lookup_id for person in people]  # type: ignore[union-attr]


def send(ledger: Ledger, *lookup_ids: str) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(ledger.writer().mark_sent(lookup_id) for lookup_id in lookup_ids))

    asyncio.run(all_of_them())


def settle(ledger: Ledger, settlement: Settlement, *lookup_ids: str) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(ledger.writer().settle(lookup_id, settlement) for lookup_id in lookup_ids))

    asyncio.run(all_of_them())


def look_up(ledger: Ledger, people: list[str], settlement: Settlement, terms: LookupTerms = TERMS) -> list[str]:
    """Claim, send and settle; returns the lookups' ids."""
    lookup_ids = claim_ids(ledger, people, terms)
    send(ledger, *lookup_ids)
    settle(ledger, settlement, *lookup_ids)
    return lookup_ids


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path, new_postgres_database: Callable[[], str]) -> str:
    """Where a new ledger can be made: a file, and a database on a server."""
    return str(tmp_path / "home" / "ledger.sqlite") if request.param == "sqlite" else new_postgres_database()


@pytest.fixture(name="where")
def where_one(request: pytest.FixtureRequest, tmp_path: Path, new_postgres_database: Callable[[], str]) -> str:
    """A file, unless the test is marked ``BOTH``; import it in place of ``where``."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return str(tmp_path / "home" / "ledger.sqlite")
    return new_postgres_database()


BOTH = pytest.mark.parametrize("where", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def open_ledger(where: str, clock: Clock) -> Iterator[Callable[..., Ledger]]:
    """Opens the ledger; each call is an owner of its own, as another process would be."""
    with ExitStack() as opened:

        def open_it(**changes: Any) -> Ledger:
            settings = {"kind": "demo", "answer_keys": [KEY], "clock": clock, "retry_seconds": (0.01,)} | changes
            return opened.enter_context(Ledger.open(where, **settings))

        yield open_it


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Ledger:
    return open_ledger()


__all__ = ["clock", "ledger", "new_postgres_database", "open_ledger", "where", "where_one"]
