"""The story of one number, record or run as the warehouse tells it: rows, checks, verdicts, and what may be called.

Reads only. What the ledger knows of the same is put beside it in steps/tracing.py; whether
the evidence is sound is for evidence.py to say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from leadscrub_pipeline.domain.consents import COMPANY, CONSENT
from leadscrub_pipeline.domain.verdicts import CCC, DNC
from leadscrub_pipeline.warehouse.callable_phones import standing_consent
from leadscrub_pipeline.warehouse.protocol import Dialect, Session
from leadscrub_pipeline.warehouse.schema import (
    CALLABLE_PHONES,
    CONSENTS,
    INTERNAL_DNC,
    MASTER,
    PERSON_CACHE,
    PHONE_VERDICTS,
    PUBLISHED_IDENTITIES,
    SCRUB_EVIDENCE,
    SLICES,
    WITHDRAWALS,
)

_SLOTS: Final = (1, 2, 3)
REQUEST: Final = "request"
"""Kind of an entry on the company's own list."""
SOURCE_NAMES: Final = {
    CCC: "the litigator list",
    DNC: "the Do-Not-Call registry",
    COMPANY: "the company's own list",
    CONSENT: "the consents",
}


@dataclass(frozen=True, slots=True)
class Holder:
    """A published row that holds the number. Times in UTC, without a zone, as everywhere in this module."""

    record_id: str
    column: str
    """phone_1, phone_2 or phone_3."""
    script: str
    run_id: str
    processed_at: datetime
    in_litigator_list: bool | None
    litigator_reason: str | None
    in_dnc: bool | None
    dnc_reason: str | None
    dnc_lists: str | None
    """Which lists have it: registry, company, or both."""
    is_dead: bool
    is_disconnected: bool
    withdrawn_at: datetime | None
    """Set while the row is withdrawn; a later publication lifts it."""
    withdrawn_by: str | None
    lookup_id: str | None
    script_hash: str | None
    purpose: str | None


@dataclass(frozen=True, slots=True)
class CheckMade:
    """One row of evidence."""

    run_id: str
    asset: str
    sequence: int
    script: str
    script_hash: str
    purpose: str
    source: str
    verdict: str
    reason: str | None
    list_version: str | None
    obtained_at: datetime | None
    checked_at: datetime
    valid_until: datetime
    row_hash: str | None


@dataclass(frozen=True, slots=True)
class VerdictNow:
    """The latest verdict of a source, as it counts now."""

    source: str
    verdict: str
    reason: str | None
    list_version: str | None
    obtained_at: datetime | None
    checked_at: datetime
    valid_until: datetime
    is_expired: bool


@dataclass(frozen=True, slots=True)
class OwnEntry:
    """A request not to be called, or a consent."""

    kind: str
    """request, or the kind of consent."""
    since: datetime
    until: datetime | None
    told_by: str
    """Where a request came from, or where a consent's proof is kept."""
    added_at: datetime
    run_id: str
    ended_at: datetime | None
    why: str | None
    stands: bool


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must hold before a number may be called."""

    rule: str
    is_met: bool
    told: str
    """How it stands, in words."""


@dataclass(frozen=True, slots=True)
class PhoneStory:
    """Everything the warehouse has on one number."""

    phone: str
    now: datetime
    holders: tuple[Holder, ...]
    checks: tuple[CheckMade, ...]
    verdicts: tuple[VerdictNow, ...]
    own_entries: tuple[OwnEntry, ...]
    conditions: tuple[Condition, ...]
    callable_until: datetime | None
    """From the view CALLABLE_PHONES, which alone decides; None when the number may not be called."""
    basis: str | None
    """From the view: not_listed, or the kind of the consent by which the number may be called."""


@dataclass(frozen=True, slots=True)
class RecordFound:
    """A published row's numbers, in the order of its columns."""

    record_id: str
    phones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunStory:
    """What one run left in the warehouse."""

    run_id: str
    slices: tuple[dict[str, Any], ...]
    checks: tuple[dict[str, Any], ...]
    published: tuple[dict[str, Any], ...]

    @property
    def is_empty(self) -> bool:
        return not (self.slices or self.checks or self.published)


# --- one number -------------------------------------------------------------------------

_HOLDER: Final = """
SELECT m.record_id, 'phone_{slot}', m.table_id, m.job_id, m.processed_at, m.in_litigator_list,
  CASE WHEN m.in_litigator_list IS NULL THEN {litigator_reason} END,
  m.phone_{slot}_in_dnc,
  CASE WHEN m.phone_{slot}_in_dnc IS NULL THEN {dnc_reason} END,
  CASE WHEN m.phone_{slot}_in_dnc THEN {dnc_lists} END,
  COALESCE({is_dead} = 'true', FALSE), COALESCE({disconnected} = 'true', FALSE), w.withdrawn_at, w.reason,
  {lookup_id}, {script_hash}, {purpose}
FROM {master} AS m
LEFT JOIN {withdrawals} AS w ON w.record_id = m.record_id AND w.withdrawn_at >= m.processed_at
WHERE m.phone_{slot} = ?
"""

_CHECKS: Final = f"""
SELECT run_id, asset, sequence, partition_key, script_hash, purpose, source, verdict, reason, list_version, obtained_at,
  checked_at, valid_until, row_hash
FROM {SCRUB_EVIDENCE.full_name}
WHERE phone = ?
ORDER BY checked_at, source, run_id, sequence
"""

_VERDICTS: Final = f"""
SELECT source, verdict, reason, list_version, obtained_at, checked_at, valid_until, {{now}} >= valid_until
FROM {PHONE_VERDICTS.full_name}
WHERE phone = ?
ORDER BY source
"""


def _own_entries(dialect: Dialect) -> str:
    return f"""
SELECT * FROM (
  SELECT '{REQUEST}' AS kind, requested_at AS since, CAST(NULL AS TIMESTAMP) AS ends, source AS told_by, added_at,
    run_id, withdrawn_at AS ended_at, withdrawal AS why, withdrawn_at IS NULL AS stands
  FROM {INTERNAL_DNC.full_name} WHERE phone = ?
  UNION ALL
  SELECT kind, given_at, expires_at, proof, added_at, run_id, revoked_at, revocation, {standing_consent(dialect.now())}
  FROM {CONSENTS.full_name} WHERE phone = ?
) AS e
ORDER BY since, kind, told_by
"""


def read_phone(session: Session, dialect: Dialect, phone: str) -> PhoneStory:
    """The story of one number of ten digits; one that nobody knows has an empty one."""
    now = session.rows(f"SELECT {dialect.now()}")[0][0]
    query = " UNION ALL ".join(_holder_query(dialect, slot) for slot in _SLOTS)
    found = session.rows(f"SELECT * FROM ({query}) AS h ORDER BY 5, 1, 2", [phone] * len(_SLOTS))
    holders = tuple(Holder(*row) for row in found)
    verdicts = tuple(VerdictNow(*row) for row in session.rows(_VERDICTS.format(now=dialect.now()), [phone]))
    entries = tuple(OwnEntry(*row) for row in session.rows(_own_entries(dialect), [phone, phone]))
    callable_rows = session.rows(f"SELECT valid_until, basis FROM {CALLABLE_PHONES} WHERE phone = ?", [phone])
    return PhoneStory(
        phone=phone,
        now=now,
        holders=holders,
        checks=tuple(CheckMade(*row) for row in session.rows(_CHECKS, [phone])),
        verdicts=verdicts,
        own_entries=entries,
        conditions=conditions(holders, verdicts, entries),
        callable_until=callable_rows[0][0] if callable_rows else None,
        basis=callable_rows[0][1] if callable_rows else None,
    )


def _holder_query(dialect: Dialect, slot: int) -> str:
    def provenance(*path: str) -> str:
        return dialect.json_text("m.additional_data", "provenance", *path)

    return _HOLDER.format(
        slot=slot,
        litigator_reason=provenance("null_reasons", "in_litigator_list"),
        dnc_reason=provenance("null_reasons", f"phone_{slot}_in_dnc"),
        dnc_lists=provenance(f"phone_{slot}_dnc_lists"),
        is_dead=provenance("contact", "is_dead"),
        disconnected=provenance("contact", f"phone_{slot}", "disconnected"),
        lookup_id=provenance("lookup_id"),
        script_hash=provenance("script_hash"),
        purpose=provenance("purpose"),
        master=MASTER.full_name,
        withdrawals=WITHDRAWALS.full_name,
    )


def conditions(
    holders: Sequence[Holder], verdicts: Sequence[VerdictNow], entries: Sequence[OwnEntry]
) -> tuple[Condition, ...]:
    """Each rule of the view CALLABLE_PHONES in words; a test holds the two together."""
    latest = {verdict.source: verdict for verdict in verdicts}
    return (
        _published(holders),
        _source_condition(CCC, latest.get(CCC)),
        _registry_condition(latest.get(DNC), entries),
        _nobody_asked(entries),
        _condition(
            "Every published row that holds it has in_litigator_list FALSE",
            holders,
            lambda holder: holder.in_litigator_list is not False,
            lambda holder: (
                "is TRUE"
                if holder.in_litigator_list
                else f"is NULL ({holder.litigator_reason or 'no reason recorded'})"
            ),
            met="in_litigator_list is FALSE in all of them",
        ),
        _condition(
            "No published row that holds it is of somebody marked dead",
            holders,
            lambda holder: holder.is_dead,
            lambda _: "is of somebody marked dead",
            met="nobody is",
        ),
        _condition(
            "No published row has it as disconnected",
            holders,
            lambda holder: holder.is_disconnected,
            lambda holder: f"has it as disconnected ({holder.column})",
            met="none has",
        ),
        _condition(
            "No published row that holds it is withdrawn",
            holders,
            lambda holder: holder.withdrawn_at is not None,
            lambda holder: (
                f"was withdrawn at {_time(holder.withdrawn_at)} UTC with {holder.withdrawn_by or 'no name recorded'}"
            ),
            met="none is",
        ),
    )


def _published(holders: Sequence[Holder]) -> Condition:
    rows = len({holder.record_id for holder in holders})
    told = f"{rows} published row{'s' if rows != 1 else ''}" if rows else "no published row holds it"
    return Condition("A published row holds it", bool(holders), told)


def _registry_condition(verdict: VerdictNow | None, entries: Sequence[OwnEntry]) -> Condition:
    """A consent will do where the registry lists the number, and nowhere else."""
    found = _source_condition(DNC, verdict)
    rule = f"{found.rule}; or it lists the number and a consent stands"
    consent = next((entry for entry in entries if entry.kind != REQUEST and entry.stands), None)
    if verdict is None or verdict.verdict != "listed" or consent is None:
        return Condition(rule, found.is_met, found.told)
    until = "it is revoked" if consent.until is None else f"{_time(consent.until)} UTC"
    return Condition(rule, True, f"{found.told}; {consent.kind} until {until}, proof {consent.told_by}")


def _nobody_asked(entries: Sequence[OwnEntry]) -> Condition:
    rule = "Nobody asked us not to call it"
    standing = [entry for entry in entries if entry.kind == REQUEST and entry.stands]
    if not standing:
        return Condition(rule, True, "the company's own list does not have it")
    return Condition(rule, False, f"requested at {_time(standing[0].since)} UTC ({standing[0].told_by})")


def _source_condition(source: str, verdict: VerdictNow | None) -> Condition:
    name = SOURCE_NAMES[source]
    rule = f"{name[0].upper()}{name[1:]} ({source}) answered clear, and the answer still counts"
    if verdict is None:
        return Condition(rule, False, "never asked")
    at = f"asked at {_time(verdict.checked_at)} UTC"
    if verdict.verdict == "listed":
        return Condition(rule, False, f"listed; {at}")
    if verdict.verdict == "unknown":
        return Condition(rule, False, f"unknown ({verdict.reason or 'no reason recorded'}); {at}")
    if verdict.is_expired:
        return Condition(
            rule, False, f"clear, but the answer counted until {_time(verdict.valid_until)} UTC only; {at}"
        )
    return Condition(rule, True, f"clear until {_time(verdict.valid_until)} UTC; {at}")


def _condition(
    rule: str,
    holders: Sequence[Holder],
    fails: Callable[[Holder], bool],
    tell: Callable[[Holder], str],
    *,
    met: str,
) -> Condition:
    bad = [holder for holder in holders if fails(holder)]
    if not bad:
        return Condition(rule, True, met if holders else "no published row")
    return Condition(rule, False, "; ".join(f"row {holder.record_id} {tell(holder)}" for holder in bad))


def _time(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


# --- records and people -----------------------------------------------------------------


def find_record(session: Session, record_id: str) -> RecordFound | None:
    found = session.rows(f"SELECT phone_1, phone_2, phone_3 FROM {MASTER.full_name} WHERE record_id = ?", [record_id])
    if not found:
        return None
    phones = dict.fromkeys(phone for row in found for phone in row if phone is not None)
    return RecordFound(record_id, tuple(phones))


def people_of_records(session: Session, record_ids: Sequence[str]) -> dict[str, set[str]]:
    """Keys of the people whom each of these rows is about."""
    people: dict[str, set[str]] = {record_id: set() for record_id in record_ids}
    if not people:
        return people
    marks = ", ".join("?" for _ in people)
    for table in (PERSON_CACHE, PUBLISHED_IDENTITIES):
        for record_id, person_key in session.rows(
            f"SELECT record_id, person_key FROM {table.full_name} WHERE record_id IN ({marks})", list(people)
        ):
            people[record_id].add(person_key)
    return people


# --- one run ----------------------------------------------------------------------------

_RUN_SLICES: Final = ("table_name", "script", "replaced_at", "rows")
_RUN_CHECKS: Final = (
    "asset",
    "script",
    "script_hash",
    "purpose",
    "source",
    "list_version",
    "verdict",
    "reason",
    "checks",
    "first_checked_at",
    "last_checked_at",
)
_RUN_PUBLISHED: Final = ("script", "rows", "withdrawn")


def read_run(session: Session, run_id: str) -> RunStory:
    """What a run left: the slices that are still its own, its checks, and the rows that it wrote last."""
    slices = session.rows(
        f"SELECT table_name, partition_key, replaced_at, row_count FROM {SLICES.full_name} "
        "WHERE run_id = ? ORDER BY replaced_at, table_name",
        [run_id],
    )
    checks = session.rows(
        "SELECT asset, partition_key, script_hash, purpose, source, list_version, verdict, reason, COUNT(*), "
        f"MIN(checked_at), MAX(checked_at) FROM {SCRUB_EVIDENCE.full_name} WHERE run_id = ? "
        "GROUP BY asset, partition_key, script_hash, purpose, source, list_version, verdict, reason "
        "ORDER BY asset, verdict, reason, list_version",
        [run_id],
    )
    published = session.rows(
        "SELECT m.table_id, COUNT(*), SUM(CASE WHEN EXISTS ("
        f"SELECT 1 FROM {WITHDRAWALS.full_name} AS w WHERE w.record_id = m.record_id "
        "AND w.withdrawn_at >= m.processed_at) THEN 1 ELSE 0 END) "
        f"FROM {MASTER.full_name} AS m WHERE m.job_id = ? GROUP BY m.table_id ORDER BY m.table_id",
        [run_id],
    )
    return RunStory(
        run_id,
        tuple(dict(zip(_RUN_SLICES, row, strict=True)) for row in slices),
        tuple(dict(zip(_RUN_CHECKS, row, strict=True)) for row in checks),
        tuple({**dict(zip(_RUN_PUBLISHED, row, strict=True)), "withdrawn": int(row[2])} for row in published),
    )
