"""The whole story of one number, record or run: what the warehouse and the ledger know of it, put side by side.

Gives plain values, complete as JSON. It tells of the people who hold the number and of
nobody else, and no names: who may be called is decided in the warehouse, what was paid in
the ledger.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from leadscrub_pipeline.domain.phones import parse_phone
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.ledger.evidence_roots import Seal
from leadscrub_pipeline.ledger.trace_reading import Lookup, Seals
from leadscrub_pipeline.steps.evidence import EARLIER_ASSET, EARLIER_RUN
from leadscrub_pipeline.warehouse.arrow import aware
from leadscrub_pipeline.warehouse.evidence_reading import (
    CheckMade,
    PhoneStory,
    find_record,
    people_of_records,
    read_phone,
    read_run,
)
from leadscrub_pipeline.warehouse.protocol import Dialect, Session, Warehouse

Trace = dict[str, Any]

UNSEALED: Final = "unsealed"
_RECORD_ID: Final = re.compile(r"[0-9a-f]{32}")
_TEN_DIGITS: Final = re.compile(r"[0-9]{10}", re.ASCII)
"""A number that was valid when it was checked and no longer is keeps its story."""


def trace(warehouse: Warehouse, ledger: Ledger | None, name: str) -> Trace:
    """Tell the story of a phone in any usual spelling, a record id or a run's id.

    The result has ``kind`` (phone, record or run); a phone's and a record's have ``phones``,
    one story each.

    Raises:
        UsageError: it is none of the three, or nothing is known of it.
    """
    phone = parse_phone(name).digits
    with warehouse.session() as session:
        if phone is not None:
            return {"kind": "phone", "phones": [_phone(session, warehouse.dialect, ledger, phone)]}
        if _TEN_DIGITS.fullmatch(name):
            told: Trace = _phone(session, warehouse.dialect, ledger, name)
            if told["rows"] or told["checks"] or told["verdicts"] or told["own_entries"]:
                return {"kind": "phone", "phones": [told]}
        if _RECORD_ID.fullmatch(name):
            found = find_record(session, name)
            if found is not None:
                stories = [_phone(session, warehouse.dialect, ledger, each) for each in found.phones]
                return {"kind": "record", "record_id": name, "phones": stories}
        return _run(session, ledger, name)


# --- a number ---------------------------------------------------------------------------


def _phone(session: Session, dialect: Dialect, ledger: Ledger | None, phone: str) -> Trace:
    story = read_phone(session, dialect, phone)
    people = people_of_records(session, list(dict.fromkeys(holder.record_id for holder in story.holders)))
    runs = {EARLIER_RUN, *(check.run_id for check in story.checks)}
    seals = Seals(()) if ledger is None else ledger.seals_of_runs(sorted(runs))
    until = story.callable_until
    return {
        "phone": phone,
        "told_at": aware(story.now),
        "callable": {
            "is_callable": until is not None,
            "until": None if until is None else aware(until),
            "basis": story.basis,
            "conditions": [asdict(condition) for condition in story.conditions],
        },
        "verdicts": [_plain(asdict(verdict)) for verdict in story.verdicts],
        "own_entries": [_plain(asdict(entry)) for entry in story.own_entries],
        "rows": _rows(story, people, ledger),
        "checks": [{**_plain(asdict(check)), "seal": _seal(_covering(seals, check))} for check in story.checks],
    }


def _rows(story: PhoneStory, people: Mapping[str, set[str]], ledger: Ledger | None) -> list[Trace]:
    """Each row that holds the number, with the request that brought it and the others about the same person."""
    brought = [holder.lookup_id for holder in story.holders if holder.lookup_id is not None]
    named = {} if ledger is None else {lookup.lookup_id: lookup for lookup in ledger.lookups_with_ids(brought)}
    rows = []
    for holder in story.holders:
        lookup = named.get(holder.lookup_id or "")
        keys = people[holder.record_id] | ({lookup.person_key} if lookup is not None else set())
        all_of_person = [] if ledger is None else ledger.lookups_of_people(sorted(keys))
        row = _plain(asdict(holder))
        row["flags"] = {"in_litigator_list": row.pop("in_litigator_list"), "in_dnc": row.pop("in_dnc")}
        row["null_reasons"] = {"in_litigator_list": row.pop("litigator_reason"), "in_dnc": row.pop("dnc_reason")}
        row["lookup"] = None if lookup is None else _lookup(lookup)
        row["other_lookups"] = [_lookup(other) for other in all_of_person if other.lookup_id != holder.lookup_id]
        rows.append(row)
    return rows


def _lookup(lookup: Lookup) -> Trace:
    return asdict(lookup)


def _covering(seals: Seals, check: CheckMade) -> Seal | None:
    """What was made before evidence was chained has one seal for all of it."""
    if check.row_hash is None:
        return next(iter(seals.of(EARLIER_RUN, EARLIER_ASSET)), None)
    return seals.covering(check.run_id, check.asset, check.sequence)


def _seal(seal: Seal | None) -> Trace | str:
    if seal is None:
        return UNSEALED
    return {"entry": seal.entry, "rows": seal.row_count, "root": seal.root, "sealed_at": seal.sealed_at}


# --- a run ------------------------------------------------------------------------------


def _run(session: Session, ledger: Ledger | None, run_id: str) -> Trace:
    story = read_run(session, run_id)
    outcomes = [] if ledger is None else ledger.outcomes_of_run(run_id)
    chains = [] if ledger is None else [chain for chain in ledger.chains() if chain.run_id == run_id]
    if story.is_empty and not outcomes and not chains:
        raise UsageError(
            "Nothing is known of this. Give a phone number, the 32 digits of a record_id of the master table, "
            "or the whole id of a run; an area code or exchange that is not assigned makes a number none."
        )
    seals = Seals(()) if ledger is None else ledger.seals_of_runs([run_id])
    return {
        "kind": "run",
        "run_id": run_id,
        "slices": [_plain(each) for each in story.slices],
        "lookups": [asdict(outcome) for outcome in outcomes],
        "lookups_reused": 0 if ledger is None else ledger.reused_by_run(run_id),
        "checks": [_plain(each) for each in story.checks],
        "chains": [
            {
                "asset": chain.asset,
                "script": chain.partition_key,
                "opened_at": chain.opened_at,
                "rows_sealed": chain.row_count,
                "is_open": chain.is_open,
                "pruned_at": chain.pruned_at,
                "seals": [_seal(seal) for seal in seals.of(run_id, chain.asset)],
            }
            for chain in chains
        ],
        "published": list(story.published),
    }


def _plain(values: Mapping[str, Any]) -> Trace:
    """Times of the warehouse with their zone, for whoever reads on."""
    return {name: aware(value) if isinstance(value, datetime) else value for name, value in values.items()}
