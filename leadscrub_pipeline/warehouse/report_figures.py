"""The numbers of one partition that its tables hold: what became of its leads, and of the phones it has published.

Reads only, in five statements whatever the partition's size. What lookups cost, and how
numbers look on a page, does not belong here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from leadscrub_pipeline.domain.verdicts import SOURCES, Verdict
from leadscrub_pipeline.warehouse.flags import flag_sql, reason_sql
from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.schema import (
    CALLABLE_PHONES,
    DNC_FLAGS,
    ENRICHED_CONTACTS,
    LITIGATOR_FLAGS,
    MASTER,
    PERSON_CACHE,
    PHONE_VERDICTS,
    RAW_LEADS,
    SLICES,
)
from leadscrub_pipeline.warehouse.slices import LEADS_RUN

_NO_RUN: Final = ""
_SLOTS: Final = (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What became of the leads that the script selected. selected = rejected + duplicate + already_processed + kept."""

    run_id: str
    at: datetime
    selected: int
    rejected: int
    duplicate: int
    already_processed: int
    kept: int
    rejected_by_reason: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts:
    """What became of the kept leads. kept = published + deferred + held + taken + waiting."""

    run_id: str
    at: datetime
    hits: int = 0
    misses: int = 0
    deferred: int = 0
    held: int = 0
    reused: int = 0
    """Leads whose answer was paid for earlier."""
    published: int = 0
    taken: int = 0
    waiting: int = 0
    """Answered, and not published yet."""
    contacts_found: int = 0
    """Published people for whom a contact was found."""
    people_with_phone: int = 0
    """Published people with a phone."""
    put_off_by_reason: Mapping[str, int] = field(default_factory=dict)
    """Why leads were deferred or held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phones:
    """Distinct phones of everything the script has published, by any run, as they stand now."""

    people: int
    people_with_phone: int
    phones: int
    callable: int
    run_phones: int
    """Of people whom the latest run published."""
    run_callable: int
    verdicts: Mapping[str, Mapping[str, int]]
    """Phones by source and verdict, zeros included; a clear verdict that has expired is unknown."""
    unknown_by_reason: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class PartitionFigures:
    partition_key: str
    selection: Selection
    contacts: Contacts | None
    """None while enriched_contacts has not run for these leads."""
    phones: Phones
    pending: tuple[str, ...]
    """Assets that have not run since the leads were selected."""


class _SliceRow(NamedTuple):
    run_id: str
    at: datetime
    details: dict[str, Any]


# A publication of a slice's people is never older than the slice; an older one is of an earlier run.
_IS_PUBLISHED: Final = "e.outcome IN ('hit', 'miss') AND c.partition_key = e.partition_key AND c.published_at >= ?"

_PEOPLE: Final = f"""
SELECT p.outcome, p.standing, p.reason, COUNT(*), SUM(p.has_phone), SUM(p.reused)
FROM (
  SELECT
    e.outcome,
    CASE
      WHEN e.outcome NOT IN ('hit', 'miss') THEN 'none'
      WHEN {_IS_PUBLISHED} THEN 'published'
      WHEN c.record_id IS NOT NULL AND c.partition_key <> e.partition_key THEN 'taken'
      ELSE 'waiting'
    END AS standing,
    CASE WHEN e.outcome IN ('deferred', 'held') THEN COALESCE(e.reason, 'not_recorded') END AS reason,
    CASE WHEN COALESCE(e.phone_1, e.phone_2, e.phone_3) IS NULL THEN 0 ELSE 1 END AS has_phone,
    CASE WHEN e.reused THEN 1 ELSE 0 END AS reused
  FROM {ENRICHED_CONTACTS.full_name} AS e
  LEFT JOIN {PERSON_CACHE.full_name} AS c ON c.person_key = e.person_key
  WHERE e.partition_key = ? AND e.run_id = ?
) AS p
GROUP BY p.outcome, p.standing, p.reason
"""

_ALL_PEOPLE: Final = f"""
SELECT COUNT(*), COUNT(COALESCE(m.phone_1, m.phone_2, m.phone_3)) FROM {MASTER.full_name} AS m WHERE m.table_id = ?
"""

_ALL_PHONES: Final = " UNION ".join(
    f"SELECT phone_{i} AS phone FROM {MASTER.full_name} WHERE table_id = ? AND phone_{i} IS NOT NULL" for i in _SLOTS
)

_PHONES: Final = f"""
WITH published AS (
  SELECT e.phone_1, e.phone_2, e.phone_3
  FROM {ENRICHED_CONTACTS.full_name} AS e
  JOIN {PERSON_CACHE.full_name} AS c ON c.person_key = e.person_key
  WHERE {_IS_PUBLISHED} AND e.partition_key = ? AND e.run_id = ?
),
run_phones AS (
  {" UNION ".join(f"SELECT phone_{i} AS phone FROM published WHERE phone_{i} IS NOT NULL" for i in _SLOTS)}
)
SELECT COUNT(*), COUNT(k.phone), COUNT(r.phone), COUNT(CASE WHEN r.phone IS NOT NULL THEN k.phone END)
FROM ({_ALL_PHONES}) AS h
LEFT JOIN run_phones AS r ON r.phone = h.phone
LEFT JOIN (SELECT DISTINCT phone FROM {CALLABLE_PHONES}) AS k ON k.phone = h.phone
"""

_VERDICTS: Final = f"""
SELECT f.source, f.is_listed, f.reason, COUNT(*)
FROM (
  SELECT s.source, {flag_sql("v", "h.phone")} AS is_listed, {reason_sql("v", "h.phone")} AS reason
  FROM ({_ALL_PHONES}) AS h
  CROSS JOIN ({" UNION ALL ".join(f"SELECT '{source}' AS source" for source in SOURCES)}) AS s
  LEFT JOIN {PHONE_VERDICTS.full_name} AS v ON v.phone = h.phone AND v.source = s.source
) AS f
GROUP BY f.source, f.is_listed, f.reason
ORDER BY f.source, f.reason
"""


def read_figures(session: Session, partition_key: str, *, now: datetime) -> PartitionFigures | None:
    """The partition's numbers; None when its leads were never selected. Verdicts count as they stand at ``now``."""
    slices = _slices(session, partition_key)
    leads = slices.get(RAW_LEADS.name)
    if leads is None:
        return None
    found = slices.get(ENRICHED_CONTACTS.name)
    if found is not None and found.details.get(LEADS_RUN, leads.run_id) != leads.run_id:
        found = None
    contacts = None if found is None else _contacts(session, partition_key, found)
    return PartitionFigures(
        partition_key,
        _selection(leads),
        contacts,
        _phones(session, partition_key, found, now),
        tuple(_pending(slices, found, contacts)),
    )


def _slices(session: Session, partition_key: str) -> dict[str, _SliceRow]:
    rows = session.rows(
        f"SELECT table_name, run_id, replaced_at, details FROM {SLICES.full_name} WHERE partition_key = ?",
        [partition_key],
    )
    return {
        name: _SliceRow(run_id, replaced_at.replace(tzinfo=UTC), orjson.loads(details))
        for name, run_id, replaced_at, details in rows
    }


def _selection(leads: _SliceRow) -> Selection:
    names = ("selected", "rejected", "duplicate", "already_processed", "kept")
    return Selection(
        run_id=leads.run_id,
        at=leads.at,
        rejected_by_reason=leads.details["rejected_by_reason"],
        **{name: leads.details[name] for name in names},
    )


def _pending(slices: Mapping[str, _SliceRow], found: _SliceRow | None, contacts: Contacts | None) -> list[str]:
    flags = {"litigator_flags": LITIGATOR_FLAGS, "dnc_flags": DNC_FLAGS}
    if found is None or contacts is None:
        return ["enriched_contacts", *flags, "master_processed_db"]
    pending = []
    for asset, table in flags.items():
        flagged = slices.get(table.name)
        if flagged is None or (flagged.run_id != found.run_id and flagged.at < found.at):
            pending.append(asset)
    return [*pending, "master_processed_db"] if contacts.waiting else pending


def _contacts(session: Session, partition_key: str, found: _SliceRow) -> Contacts:
    counts = dict.fromkeys(("hit", "miss", "deferred", "held", "published", "taken", "waiting", "none"), 0)
    reused = contacts_found = people_with_phone = 0
    reasons: dict[str, int] = {}
    for outcome, standing, reason, *sums in session.rows(_PEOPLE, [found.at, partition_key, found.run_id]):
        people, with_phone, served = (int(value) for value in sums)
        counts[outcome] += people
        counts[standing] += people
        reused += served
        if standing == "published":
            people_with_phone += with_phone
            contacts_found += people if outcome == "hit" else 0
        if reason is not None:
            reasons[reason] = reasons.get(reason, 0) + people
    return Contacts(
        run_id=found.run_id,
        at=found.at,
        hits=counts["hit"],
        misses=counts["miss"],
        reused=reused,
        contacts_found=contacts_found,
        people_with_phone=people_with_phone,
        put_off_by_reason=dict(sorted(reasons.items())),
        **{name: counts[name] for name in ("deferred", "held", "published", "taken", "waiting")},
    )


def _phones(session: Session, partition_key: str, found: _SliceRow | None, now: datetime) -> Phones:
    of_script = [partition_key] * len(_SLOTS)
    people, people_with_phone = session.rows(_ALL_PEOPLE, [partition_key])[0]
    of_run = [now if found is None else found.at, partition_key, _NO_RUN if found is None else found.run_id]
    phones, callable_phones, run_phones, run_callable = session.rows(_PHONES, [*of_run, *of_script])[0]
    verdicts = {source: dict.fromkeys((verdict.value for verdict in Verdict), 0) for source in SOURCES}
    reasons: dict[str, dict[str, int]] = {source: {} for source in SOURCES}
    for source, is_listed, reason, count in session.rows(_VERDICTS, [now, now, *of_script]):
        if is_listed is None:
            verdicts[source][Verdict.UNKNOWN.value] += count
            reasons[source][reason] = count
        else:
            verdicts[source][Verdict.LISTED.value if is_listed else Verdict.CLEAR.value] += count
    return Phones(
        people=people,
        people_with_phone=people_with_phone,
        phones=phones,
        callable=callable_phones,
        run_phones=run_phones,
        run_callable=run_callable,
        verdicts=verdicts,
        unknown_by_reason=reasons,
    )
