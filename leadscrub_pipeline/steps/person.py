"""One person's data: who is meant, everything held about them as one document, and its erasure.

The ledger comes first: once it bars the person, nothing new is bought while the warehouse is
cleared, and a crash in between is put right by doing it again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from leadscrub_pipeline.domain.people import KEY_RULES, KEY_VERSION, KeyRules, Person, unusable_reason
from leadscrub_pipeline.domain.phones import parse_phone
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.ledger.units import micros_to_time
from leadscrub_pipeline.warehouse import person as stored
from leadscrub_pipeline.warehouse.person import Traces
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who is meant: by one of the three."""

    record_id: str | None = None
    phone: str | None = None
    person: Person | None = None


@dataclass(slots=True)
class Erased:
    """What was erased: answers in the ledger, rows of each table in the warehouse."""

    answers: int
    rows: dict[str, int] = field(default_factory=dict)


def find_person(session: Session, warehouse: Warehouse, wanted: Wanted, *, rules: KeyRules = KEY_RULES) -> Traces:
    """Where the person stands in the warehouse.

    Raises:
        UsageError: nobody is meant, or several people are.
    """
    dialect = warehouse.dialect
    if wanted.record_id is not None:
        keys = stored.keys_of_record(session, dialect, wanted.record_id, rules)
        if not keys:
            raise UsageError("No row of the master table has this record id, or its row does not say who it is.")
        return stored.find_traces(session, dialect, keys, rules)
    if wanted.phone is not None:
        return stored.find_traces(session, dialect, _keys_of_phone(session, warehouse, wanted.phone, rules), rules)
    if wanted.person is None:
        raise UsageError("Say who: --record-id, --phone, or --first-name, --last-name, --address and --zip.")
    reason = unusable_reason(wanted.person)
    if reason is not None:
        raise UsageError(
            f"These values do not say who is meant ({reason}). Give --first-name, --last-name, --address, and --zip or "
            "--city and --state."
        )
    keys = stored.keys_of(wanted.person, rules)
    return stored.find_traces(session, dialect, keys, rules, known_as=[wanted.person])


def _keys_of_phone(session: Session, warehouse: Warehouse, phone: str, rules: KeyRules) -> dict[str, int]:
    digits = parse_phone(phone).digits
    if digits is None:
        raise UsageError("This is no telephone number of ten digits.")
    holders = stored.holders_of_phone(session, warehouse.dialect, digits, rules)
    if not holders:
        raise UsageError("No published row has this phone. Say who by --first-name, --last-name, --address and --zip.")
    if len(holders) > 1:
        ids = sorted(record_id for ids in holders.values() for record_id in ids if record_id)
        raise UsageError(
            f"{len(holders)} people have this phone; which is meant? Give --record-id with one of: {', '.join(ids)}"
        )
    record_ids = next(iter(holders.values()))
    return {
        key: version
        for record_id in record_ids
        for key, version in stored.keys_of_record(session, warehouse.dialect, record_id, rules).items()
    } or dict.fromkeys(holders, KEY_VERSION)


def export_person(
    warehouse: Warehouse, ledger: Ledger, wanted: Wanted, *, rules: KeyRules = KEY_RULES
) -> dict[str, Any]:
    """Everything held about the person, answers opened, as plain values."""
    with warehouse.session() as session:
        traces = find_person(session, warehouse, wanted, rules=rules)
        lookups = ledger.upkeep.history(traces.keys)
        traces.phones |= {phone for row in lookups for phone in _phones_in(row["answer"])}
        tables = stored.read(session, traces)
    tombstones = ledger.upkeep.tombstones_of(traces.keys)
    return {
        "person_keys": sorted(traces.keys),
        "record_ids": sorted(traces.record_ids),
        "erased_at": _first_time([tombstone.erased_at for tombstone in tombstones]),
        "phones": sorted(traces.phones),
        "ledger": [dict(row) for row in lookups],
        "warehouse": tables,
    }


def erase_person(warehouse: Warehouse, ledger: Ledger, wanted: Wanted, *, rules: KeyRules = KEY_RULES) -> Erased:
    """Blank what is held about the person and bar new lookups; done again it does what is left.

    Raises:
        UnavailableError: a run is asking about this person right now.
    """
    upkeep = ledger.upkeep
    with warehouse.session() as session:
        traces = find_person(session, warehouse, wanted, rules=rules)
        traces.phones |= {phone for row in upkeep.history(traces.keys) for phone in _phones_in(row["answer"])}
        result = Erased(upkeep.erase(traces.keys))
        times = {found.person_key: micros_to_time(found.erased_at) for found in upkeep.tombstones_of(traces.keys)}
        result.rows = stored.erase(session, warehouse.dialect, traces, times)
    return result


def _first_time(moments: list[int]) -> datetime | None:
    return micros_to_time(min(moments)) if moments else None


def _phones_in(answer: object) -> Iterator[str]:
    """Every number in a vendor's answer, also those that were not chosen."""
    if isinstance(answer, dict):
        for value in answer.values():
            yield from _phones_in(value)
    elif isinstance(answer, list):
        for value in answer:
            yield from _phones_in(value)
    elif isinstance(answer, str) and (digits := parse_phone(answer).digits) is not None:
        yield digits
