"""INTERNAL_DNC and CONSENTS in the warehouse: adding entries with their evidence, ending them, and who is on them.

An entry and its evidence are stored in one transaction. Entries are never changed and never
deleted: one that ended has the time of it, so that what stood at any moment can be told for ever.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.domain.consents import COMPANY, CONSENT
from leadscrub_pipeline.domain.verdicts import DNC
from leadscrub_pipeline.warehouse.arrow import stored
from leadscrub_pipeline.warehouse.callable_phones import standing_consent
from leadscrub_pipeline.warehouse.evidence import ChainEnd
from leadscrub_pipeline.warehouse.flags import COMPANY_LIST, NOT_HONOURED, digits_sql
from leadscrub_pipeline.warehouse.phone_verdicts import Check, Phones, evidence_rows
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse
from leadscrub_pipeline.warehouse.rescrub import KEY
from leadscrub_pipeline.warehouse.schema import (
    CONSENTS,
    INTERNAL_DNC,
    MASTER,
    PHONE_VERDICTS,
    SCRUB_EVIDENCE,
    Table,
)

PAGE_ROWS: Final = 20_000
_SLOTS: Final = (1, 2, 3)
_TOLD: Final = ("phone", "verdict", "reason", "list_version", "obtained_at", "valid_until")
"""Columns of evidence that an entry gives; the others are who found it, where and when."""


@dataclass(frozen=True, slots=True)
class OwnList:
    """One of the two tables, and what its entries say in the evidence."""

    table: Table
    asset: str
    source: str
    stands: str
    """Verdict of the evidence of an entry that is added or found."""
    ended: str
    """The same of one that ended."""
    ended_at: str
    why: str
    told: Mapping[str, str]
    """Columns of the evidence, from an entry ``r``."""

    @property
    def place(self) -> str:
        """What tells an entry ``r`` from every other, as one text."""
        return " || '|' || ".join(f"CAST(r.{name} AS VARCHAR)" for name in self.table.key)

    def evidence(self, entries: str, verdict: str) -> str:
        """A SELECT of what the evidence of these entries says of them, each once, with a ``place`` of its own."""
        told = {"phone": "r.phone", "verdict": f"'{verdict}'", **self.told}
        columns = ", ".join(f"{told[name]} AS {name}" for name in _TOLD)
        return f"SELECT DISTINCT {self.place} AS place, {columns} FROM {entries} AS r"


COMPANY_LIST_ENTRIES: Final = OwnList(
    table=INTERNAL_DNC,
    asset="internal_dnc",
    source=COMPANY,
    stands="listed",
    ended="withdrawn",
    ended_at="withdrawn_at",
    why="withdrawal",
    told={
        "reason": "CAST(NULL AS VARCHAR)",
        "list_version": "r.source",
        "obtained_at": "r.requested_at",
        "valid_until": "CAST(NULL AS TIMESTAMP)",
    },
)
CONSENTS_GIVEN: Final = OwnList(
    table=CONSENTS,
    asset="consents",
    source=CONSENT,
    stands="consented",
    ended="revoked",
    ended_at="revoked_at",
    why="revocation",
    told={
        "reason": "r.kind",
        "list_version": "r.proof",
        "obtained_at": "r.given_at",
        "valid_until": "r.expires_at",
    },
)
OWN_LISTS: Final = (COMPANY_LIST_ENTRIES, CONSENTS_GIVEN)


@dataclass(frozen=True, slots=True)
class ListCounts:
    """Entries of a list, those of them that stand, and the different phones of these."""

    entries: int
    standing: int
    phones: int
    ended: int
    """Withdrawn or revoked."""


def count_entries(session: Session, own: OwnList, now: datetime) -> ListCounts:
    stands, params = _standing(own, now)
    counted = session.rows(
        f"SELECT COUNT(*), COALESCE(SUM(CASE WHEN {stands} THEN 1 ELSE 0 END), 0), "
        f"COUNT(DISTINCT CASE WHEN {stands} THEN r.phone END), COUNT(r.{own.ended_at}) FROM {own.table.full_name} AS r",
        params * 2,
    )[0]
    return ListCounts(*map(int, counted))


def _standing(own: OwnList, now: datetime) -> tuple[str, list[object]]:
    if own is CONSENTS_GIVEN:
        return standing_consent("?"), [now]
    return f"{own.ended_at} IS NULL", []


# --- adding and ending --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """Entries that are to be added or ended, and what their evidence says of them; nothing is stored yet."""

    statement: str
    values: tuple[object, ...]
    evidence: pa.Table
    """The columns of evidence that the entries give."""
    stage: str | None = None
    """Entries that are to be added."""

    @property
    def count(self) -> int:
        return int(self.evidence.num_rows)


def adding(session: Session, own: OwnList, entries: pa.Table) -> Change:
    """Those of the entries that are not there. ``entries`` has the table's columns, and each key once."""
    same = " AND ".join(f"t.{name} = r.{name}" for name in own.table.key)
    with session.stage("given_entries", entries) as given:
        new = session.create_stage_as(
            "new_entries",
            f"SELECT r.* FROM {given} AS r WHERE NOT EXISTS (SELECT 1 FROM {own.table.full_name} AS t WHERE {same})",
        )
    found = session.table(own.evidence(new, own.stands)).drop_columns(["place"])
    if not found.num_rows:
        session.drop_stage(new)
    return Change(_copy(own.table, new), (), found, new)


def ending(
    session: Session, own: OwnList, phones: Sequence[str], *, why: str, now: datetime, kind: str | None = None
) -> Change:
    """Every standing entry about the phones; of consents perhaps those of one kind only."""
    where = f"{own.ended_at} IS NULL AND phone IN ({', '.join('?' for _ in phones)})"
    values: list[object] = list(phones)
    if kind is not None:
        where, values = f"{where} AND kind = ?", [*values, kind]
    entries = f"(SELECT * FROM {own.table.full_name} WHERE {where})"
    found = session.table(own.evidence(entries, own.ended), values).drop_columns(["place"])
    update = f"UPDATE {own.table.full_name} SET {own.ended_at} = ?, {own.why} = ? WHERE {where}"
    return Change(update, (now, why, *values), found)


def carry_out(session: Session, change: Change, check: Check, end: ChainEnd, now: datetime) -> ChainEnd:
    """Store a change and its evidence, both or neither; return the chain's new end."""
    new_end = _store(session, change.evidence, check, end, now, (change.statement, change.values))
    if change.stage is not None:
        session.drop_stage(change.stage)
    return new_end


def store_found(session: Session, found: pa.Table, check: Check, end: ChainEnd, now: datetime) -> ChainEnd:
    """Append to its chain the evidence of entries that were found; return the chain's new end."""
    return _store(session, found, check, end, now)


def _store(
    session: Session,
    told: pa.Table,
    check: Check,
    end: ChainEnd,
    now: datetime,
    *statements: tuple[str, tuple[object, ...]],
) -> ChainEnd:
    checked_at = pa.repeat(pa.scalar(stored(now), pa.timestamp("us")), told.num_rows)
    answers = told.append_column("checked_at", checked_at)
    linked, new_end = end.linked(evidence_rows(check, answers, first=end.rows + 1))
    with session.stage("own_evidence", linked) as evidence, session.transaction():
        for statement, values in statements:
            session.execute(statement, values)
        session.execute(_copy(SCRUB_EVIDENCE, evidence))
    return new_end


def _copy(table: Table, stage: str) -> str:
    names = ", ".join(table.column_names)
    return f"INSERT INTO {table.full_name} ({names}) SELECT {names} FROM {stage}"


# --- who is on them -----------------------------------------------------------------------


def has_entries(session: Session) -> bool:
    """Whether there is anything to be looked for."""
    return bool(
        session.rows(
            f"SELECT 1 FROM (SELECT phone FROM {INTERNAL_DNC.full_name} UNION ALL "
            f"SELECT phone FROM {CONSENTS.full_name}) AS e LIMIT 1"
        )
    )


def who_asked_not_to_call(session: Session, phones: Sequence[str]) -> frozenset[str]:
    """Those of the phones that are on the company's list."""
    marks = ", ".join("?" for _ in phones)
    query = f"SELECT phone FROM {COMPANY_LIST} AS n WHERE phone IN ({marks})"
    return frozenset(phone for (phone,) in session.rows(query, phones))


def consents_of(session: Session, phones: Sequence[str], now: datetime) -> dict[str, str]:
    """The kind of a consent that stands, by phone."""
    marks = ", ".join("?" for _ in phones)
    stands, values = _standing(CONSENTS_GIVEN, now)
    query = f"SELECT r.phone, MIN(r.kind) FROM {CONSENTS.full_name} AS r WHERE r.phone IN ({marks}) AND {stands}"
    return dict(session.rows(f"{query} GROUP BY r.phone", [*phones, *values]))


def entries_of(warehouse: Warehouse, own: OwnList, phones: Phones, now: datetime) -> Iterator[pa.Table]:
    """What the evidence says of standing entries about some phones, in pages.

    Of consents those that are made use of: the registry lists the number, and nobody asked us not to call it.
    """
    stands, values = _standing(own, now)
    query = f"SELECT r.* FROM {own.table.full_name} AS r JOIN ({phones.select}) AS p ON p.phone = r.phone"
    if own is CONSENTS_GIVEN:
        query += (
            f" JOIN {PHONE_VERDICTS.full_name} AS v ON v.phone = r.phone AND v.source = '{DNC}' "
            f"AND v.verdict = 'listed' LEFT JOIN {COMPANY_LIST} AS n ON n.phone = r.phone"
        )
        stands += " AND n.phone IS NULL"
    entries = own.evidence(f"({query} WHERE {stands})", own.stands)
    for page in warehouse.pages(entries, [*phones.params, *values], key="place", first="", rows=PAGE_ROWS):
        yield page.drop_columns(["place"])


def entries_between(warehouse: Warehouse, own: OwnList, since: datetime, until: datetime) -> Iterator[pa.Table]:
    """Every entry that stood at some time from ``since`` to before ``until``, in pages."""
    select = (
        f"SELECT {own.place} AS place, r.* FROM {own.table.full_name} AS r "
        f"WHERE r.added_at < ? AND (r.{own.ended_at} IS NULL OR r.{own.ended_at} >= ?)"
    )
    for page in warehouse.pages(select, [until, since], key="place", first="", rows=PAGE_ROWS):
        yield page.select(own.table.column_names)


# --- rows that hold them ------------------------------------------------------------------


def rows_not_honoured(session: Session) -> pa.ChunkedArray:
    """Record ids of published rows that hold a number on the company's list and do not say so."""
    return _keys(session, NOT_HONOURED, ())


def rows_with(session: Session, phones: Sequence[str]) -> pa.ChunkedArray:
    """Record ids of published rows that hold one of the phones."""
    marks = ", ".join("?" for _ in phones)
    held = " OR ".join(f"{digits_sql(f'm.phone_{i}')} IN ({marks})" for i in _SLOTS)
    return _keys(session, held, [*phones] * len(_SLOTS))


def _keys(session: Session, condition: str, values: Sequence[object]) -> pa.ChunkedArray:
    query = f"SELECT DISTINCT {KEY.format(alias='m')} AS record_key FROM {MASTER.full_name} AS m WHERE {condition}"
    return session.table(query, values).column("record_key")
