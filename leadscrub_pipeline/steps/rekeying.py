"""Rekey: who was paid for is carried over to the person keys of a new version, so that nobody is paid for twice.

The rules of the keys stand in domain/people.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.domain.people import KEY_RULES, KEY_VERSION, KeyRules, unusable_reason
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.steps.rebuilding import rebuild_person_cache
from leadscrub_pipeline.warehouse.leads import people_of
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse
from leadscrub_pipeline.warehouse.rekeying import PAGE_ROWS, SOURCES, KnownIdentities, WouldMove, move_publications

KEYS_AT_A_TIME: Final = 2_000
"""In one transaction of the ledger, so that nobody waits long."""


@dataclass(slots=True)
class Rekeyed:
    version: int
    identities: int = 0
    """Raw identities read, of published and selected people."""
    moved: int = 0
    """People carried over to a new key."""
    merged: int = 0
    """Of them, those who became one with another."""
    unknown: int = 0
    """People of whom only the old key is known; they keep it, and are paid for again should they come."""
    was_done: bool = False
    """The ledger had this version already; nothing was done."""
    seconds: float = 0.0


def rekey(
    warehouse: Warehouse,
    ledger: Ledger,
    *,
    dry_run: bool = False,
    report: Callable[[str], None],
    rules: KeyRules = KEY_RULES,
    version: int = KEY_VERSION,
    page_rows: int = PAGE_ROWS,
) -> Rekeyed:
    """Carry ledger and warehouse over to the keys of ``version``; started again, it goes on.

    Raises:
        UnavailableError: a run is asking about people right now.
    """
    started = time.monotonic()
    result = Rekeyed(version)
    upkeep = ledger.upkeep
    if upkeep.key_version() == version:
        result.was_done = True
        return result
    if not dry_run:
        upkeep.begin_rekey(version)
    with warehouse.session() as session:
        counted = WouldMove(session) if dry_run else None
        for table in SOURCES:
            known = KnownIdentities(session, warehouse.dialect, table, page_rows=page_rows)
            result.identities += known.count
            progress = Progress(report, noun=f"identities of {table.name}", total=known.count)
            for page in known.pages():
                _carry_over(session, warehouse, ledger, _new_keys(page, rules, version), result, counted)
                progress.add(page.num_rows)
        result.unknown = upkeep.people_left(version)
        if counted is not None:
            result.moved, result.merged = counted.count()
            result.unknown -= result.moved
        else:
            rebuild_person_cache(session, warehouse.dialect, ledger)
            upkeep.end_rekey(version)
    result.seconds = time.monotonic() - started
    return result


def _new_keys(page: pa.Table, rules: KeyRules, version: int) -> dict[str, str]:
    """New key by old key, of every older version: a rekey that was never finished leaves keys of several."""
    older = [rule for number, rule in rules.items() if number < version]
    keys: dict[str, str] = {}
    for person in people_of(page):
        if unusable_reason(person) is None:
            new = rules[version](person)
            for rule in older:
                keys.setdefault(rule(person), new)
    return keys


def _carry_over(
    session: Session,
    warehouse: Warehouse,
    ledger: Ledger,
    keys: dict[str, str],
    result: Rekeyed,
    would_move: WouldMove | None,
) -> None:
    """The ledger first: it decides on money."""
    old_keys = list(keys)
    for first in range(0, len(old_keys), KEYS_AT_A_TIME):
        part = {key: keys[key] for key in old_keys[first : first + KEYS_AT_A_TIME]}
        upkeep = ledger.upkeep
        if would_move is not None:
            known = sorted(upkeep.would_move(part, version=result.version))
            would_move.add(known, [part[key] for key in known])
            continue
        moved = upkeep.move_keys(part, version=result.version)
        result.moved += moved.people
        result.merged += moved.merged
    if old_keys and would_move is None:
        move_publications(session, warehouse.dialect, old_keys, list(keys.values()))
