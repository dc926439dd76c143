"""The company's own list and the consents: entries are taken in with evidence, and honoured at once.

A request counts in CALLABLE_PHONES from the moment it is stored. The flags of published rows are
set right after it; should that be cut short, the next entry, rescrub or import does it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.domain.consents import DncRequest
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.steps.evidence import seal_what_is_left, sealed_chain
from leadscrub_pipeline.steps.own_list_files import Entry, Rejected
from leadscrub_pipeline.steps.rescrub import EVERY_SCRIPT, rewriting
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.own_lists import (
    COMPANY_LIST_ENTRIES,
    OwnList,
    adding,
    carry_out,
    ending,
    rows_not_honoured,
    rows_with,
)
from leadscrub_pipeline.warehouse.phone_verdicts import Check
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.rescrub import Updated, update_in_lots

TAKEN_AT_ONCE: Final = 20_000
SHOWN_LINES: Final = 20


@dataclass(slots=True)
class Taken:
    """What became of the entries that were given."""

    read: int = 0
    added: int = 0
    there_already: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    lines: list[tuple[str, int, str]] = field(default_factory=list)
    """File, line and reason of the first rejected ones."""
    rows_set: int = 0
    """Published rows whose flags are other ones now."""


def take_in(
    warehouse: Warehouse,
    ledger: Ledger,
    own: OwnList,
    files: Iterable[tuple[str, Iterable[Entry | Rejected]]],
    *,
    run_id: str,
    report: Callable[[str], None] = lambda _text: None,
) -> Taken:
    """Store the entries that are not there yet, and set the flags of published rows that must not be called now."""
    result = Taken()
    seal_what_is_left(warehouse, ledger)
    progress = Progress(report, noun="entries", total=None)
    with sealed_chain(warehouse, ledger, _check(own, run_id)) as chain:
        for file, entries in files:
            for lot in _lots(entries):
                now = utc_now()
                sound = _sound(lot, result, file)
                with warehouse.session() as session:
                    change = adding(session, own, _table(own, sound, run_id, now))
                    if change.count:
                        chain.extend(partial(carry_out, session, change, _check(own, run_id), now=now))
                result.read += len(lot)
                result.added += change.count
                result.there_already += len(sound) - change.count
                progress.add(len(lot))
    if own is COMPANY_LIST_ENTRIES:
        result.rows_set = honour(warehouse, run_id)
    return result


def end_entries(
    warehouse: Warehouse,
    ledger: Ledger,
    own: OwnList,
    phones: Sequence[str],
    *,
    run_id: str,
    why: str,
    kind: str | None = None,
) -> tuple[int, int]:
    """Withdraw requests, or revoke consents: how many ended, and how many published rows have other flags by it."""
    now = utc_now()
    with sealed_chain(warehouse, ledger, _check(own, run_id)) as chain, warehouse.session() as session:
        change = ending(session, own, phones, why=why, now=now, kind=kind)
        if change.count:
            chain.extend(partial(carry_out, session, change, _check(own, run_id), now=now))
    if not change.count or own is not COMPANY_LIST_ENTRIES:
        return change.count, 0
    with warehouse.session() as session:
        keys = rows_with(session, phones)
    return change.count, _set_flags(warehouse, keys, run_id)


def honour(warehouse: Warehouse, run_id: str) -> int:
    """Set the flags of every published row that holds a number on the company's list; how many were other ones."""
    with warehouse.session() as session:
        keys = rows_not_honoured(session)
    return _set_flags(warehouse, keys, run_id)


def _check(own: OwnList, run_id: str) -> Check:
    return Check(run_id, own.asset, EVERY_SCRIPT, script_hash="", purpose="", source=own.source)


def _lots(entries: Iterable[Entry | Rejected]) -> Iterator[list[Entry | Rejected]]:
    rest = iter(entries)
    while lot := list(islice(rest, TAKEN_AT_ONCE)):
        yield lot


def _sound(lot: Sequence[Entry | Rejected], result: Taken, file: str) -> list[Entry]:
    """The entries of a lot; rejected lines are counted."""
    sound: list[Entry] = []
    for one in lot:
        if isinstance(one, Rejected):
            result.rejected[one.reason] += 1
            if len(result.lines) < SHOWN_LINES:
                result.lines.append((file, one.line, one.reason))
        else:
            sound.append(one)
    return sound


def _table(own: OwnList, entries: Iterable[Entry], run_id: str, now: datetime) -> pa.Table:
    """Entries as rows of their table, each key once."""
    added = {"added_at": now, "run_id": run_id, own.ended_at: None, own.why: None}
    rows = [{**_columns(entry), **added} for entry in entries]
    by_key = {tuple(row[name] for name in own.table.key): row for row in reversed(rows)}
    return to_table(list(by_key.values()), arrow_schema(own.table))


def _columns(entry: Entry) -> dict[str, object]:
    if isinstance(entry, DncRequest):
        return {"phone": entry.phone, "requested_at": entry.requested_at, "source": entry.source}
    return {
        "phone": entry.phone,
        "kind": entry.kind.value,
        "given_at": entry.given_at,
        "proof": entry.proof,
        "expires_at": entry.expires_at,
        "source": entry.source,
    }


def _set_flags(warehouse: Warehouse, keys: pa.ChunkedArray, run_id: str) -> int:
    """Bring the flags of rows up to date with what is known; how many changed."""
    now = utc_now()
    total = Updated()
    for _ in update_in_lots(warehouse, keys, rewriting(run_id, now), total, now=now):
        pass
    return total.updated
