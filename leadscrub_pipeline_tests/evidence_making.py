"""Evidence without a run: chains of made-up checks in a real warehouse and ledger, as the steps write them."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from leadscrub_pipeline.domain.verdicts import CCC, CLEAR, DNC, LISTED, Reason, unknown
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.steps.evidence import seal_what_is_left, sealed_chain
from leadscrub_pipeline.warehouse.evidence import ChainEnd
from leadscrub_pipeline.warehouse.phone_verdicts import Check, Checked, store_answers, to_answers
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import SCRUB_EVIDENCE

ASSETS = {"litigator_flags": CCC, "dnc_flags": DNC}
START = datetime.now(UTC).replace(microsecond=0)


def check_of(run_id: str, asset: str = "litigator_flags", partition_key: str = "spring") -> Check:
    return Check(run_id, asset, partition_key, f"hash-of-{partition_key}", "default", ASSETS[asset])


def answers(count: int, *, first: int = 0, at: datetime = START) -> pa.Table:
    """Answers about phones that differ, of all three kinds."""
    return to_answers(checked(count, first=first, at=at))


def checked(count: int, *, first: int = 0, at: datetime = START) -> list[Checked]:
    """The same one by one."""
    return [_answer(number, at) for number in range(first, first + count)]


def _answer(number: int, at: datetime) -> Checked:
    kind = number % 10
    answer = LISTED if kind == 3 else unknown(Reason.TIMEOUT) if kind == 7 else CLEAR
    checked_at = at + timedelta(microseconds=number // 1000)
    return Checked(
        phone=str(2_000_000_000 + number * 7),
        answer=answer,
        list_version="loopback/v1.5/Scrub/litigator",
        obtained_at=checked_at - timedelta(days=1) if kind % 2 else None,
        checked_at=checked_at,
        valid_until=checked_at + timedelta(days=31) if answer.reason is None else checked_at,
    )


def write_chain(
    warehouse: Warehouse, ledger: Ledger, check: Check, count: int, *, rows: int = 20_000, first: int = 0,
    at: datetime = START,
) -> None:  # fmt: skip
    """A chain as a step writes it: opened, filled page by page, sealed."""
    seal_what_is_left(warehouse, ledger)
    with sealed_chain(warehouse, ledger, check) as chain:
        for start in range(0, count, rows):
            with warehouse.session() as session:
                chain.store(session, answers(min(rows, count - start), first=first + start, at=at))


def write_chains(warehouse: Warehouse, ledger: Ledger, counts: Sequence[int]) -> None:
    """Runs of both assets, with so many rows each, days apart."""
    for number, count in enumerate(counts):
        for asset in ASSETS:
            check = check_of(f"run-{number:04d}", asset, f"script_{number % 3}")
            write_chain(warehouse, ledger, check, count, first=random.Random(number).randint(0, 900_000))


def write_earlier(warehouse: Warehouse, count: int, run_id: str = "run-of-old") -> None:
    """Evidence as releases before chains wrote it: without text and hash, its verdicts beside it."""
    check = check_of(run_id)
    with warehouse.session() as session:
        store_answers(session, check, ChainEnd.none_yet(run_id, check.asset), answers(count, first=8_000_000 // 7))
        session.execute(
            f"UPDATE {SCRUB_EVIDENCE.full_name} SET canonical = NULL, row_hash = NULL WHERE run_id = ?", [run_id]
        )
