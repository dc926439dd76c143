"""Everything the warehouse holds about one person: found, read, and erased.

Evidence of checks is read but never erased. What the ledger holds does not belong here.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from leadscrub_pipeline.domain.people import KeyRules, NormalPerson, Person, could_be, normal_parts, unusable_reason
from leadscrub_pipeline.domain.phones import parse_phone
from leadscrub_pipeline.domain.verdicts import Reason
from leadscrub_pipeline.warehouse.adoption import known_record_ids
from leadscrub_pipeline.warehouse.leads import people_of
from leadscrub_pipeline.warehouse.master import computed_record_id
from leadscrub_pipeline.warehouse.person_cache import NEVER, NO_PARTITION
from leadscrub_pipeline.warehouse.protocol import Dialect, Session
from leadscrub_pipeline.warehouse.schema import (
    CONSENTS,
    DATABASE,
    DNC_FLAGS,
    ENRICHED_CONTACTS,
    ERASED,
    IDENTITY_COLUMNS,
    INTERNAL_DNC,
    LITIGATOR_FLAGS,
    MASTER,
    PERSON_CACHE,
    PHONE_VERDICTS,
    PUBLISHED_IDENTITIES,
    RAW_LEADS,
    REJECTED_LEADS,
    SCRUB_EVIDENCE,
    Table,
)

PAGE_ROWS: Final = 10_000

_PHONES: Final = ("phone_1", "phone_2", "phone_3")
_CONTACTS: Final = (*_PHONES, "email_1", "email_2", "email_3")
_FLAGS: Final = ("in_litigator_list", "phone_1_in_dnc", "phone_2_in_dnc", "phone_3_in_dnc")
_SAME_IDENTITY: Final = "(" + " AND ".join(f"{name} IS NOT DISTINCT FROM ?" for name in IDENTITY_COLUMNS) + ")"


@dataclass(slots=True)
class Traces:
    """Where a person stands in the warehouse."""

    keys: dict[str, int]
    """Keys with their versions."""
    record_ids: set[str] = field(default_factory=set)
    identities: set[Person] = field(default_factory=set)
    """Raw values of their rows in the master table and among the leads."""
    rejected: set[Person] = field(default_factory=set)
    """Raw values of rejected leads that may be theirs."""
    phones: set[str] = field(default_factory=set)
    """Ten digits."""


# --- finding ----------------------------------------------------------------------------


def keys_of_record(session: Session, dialect: Dialect, record_id: str, rules: KeyRules) -> dict[str, int]:
    """The person's keys with their versions, by a row of the master table; also after it was erased."""
    published = f"COALESCE(i.record_id, {computed_record_id(dialect, 'i.partition_key', 'i.person_key')})"
    newest = max(rules)
    found = session.rows(
        f"SELECT i.person_key, COALESCE(c.key_version, {newest}) FROM {PUBLISHED_IDENTITIES.full_name} AS i "
        f"LEFT JOIN {PERSON_CACHE.full_name} AS c ON c.person_key = i.person_key WHERE {published} = ?",
        [record_id],
    )
    keys = {key: int(version) for key, version in found}
    rows = session.table(
        f"SELECT {', '.join(IDENTITY_COLUMNS)} FROM {MASTER.full_name} WHERE record_id = ?", [record_id]
    )
    for person in people_of(rows):
        if unusable_reason(person) is None:
            keys |= keys_of(person, rules)
    return keys


def keys_of(person: Person, rules: KeyRules) -> dict[str, int]:
    return {rule(person): version for version, rule in rules.items()}


def holders_of_phone(session: Session, dialect: Dialect, phone: str, rules: KeyRules) -> dict[str, set[str]]:
    """Record ids of the published rows with this phone, by the newest key of the person; however it was written."""
    likely = " OR ".join(f"m.{name} LIKE ?" for name in _PHONES)
    columns = ", ".join((*IDENTITY_COLUMNS, "record_id", *_PHONES))
    table = session.table(
        f"SELECT {columns} FROM {MASTER.full_name} AS m WHERE {likely}", [f"%{phone[-4:]}%"] * len(_PHONES)
    )
    numbers = zip(*(table.column(name).to_pylist() for name in _PHONES), strict=True)
    found: dict[str, set[str]] = {}
    for person, record_id, texts in zip(people_of(table), table.column("record_id").to_pylist(), numbers, strict=True):
        if phone not in {digits_of(text) for text in texts}:
            continue
        keys = keys_of(person, rules) if unusable_reason(person) is None else {}
        if not keys and record_id is not None:
            keys = keys_of_record(session, dialect, record_id, rules)
        if keys:
            found.setdefault(max(keys, key=lambda key: keys[key]), set()).add(record_id or "")
    return found


def find_traces(
    session: Session, dialect: Dialect, keys: Mapping[str, int], rules: KeyRules, *, known_as: Collection[Person] = ()
) -> Traces:
    """Everything of the person under these keys. Rows that were never published here are read one by one."""
    traces = Traces(dict(keys), identities=set(known_as))
    marks, values = _list(keys)
    published = f"COALESCE(record_id, {computed_record_id(dialect, 'partition_key', 'person_key')})"
    traces.record_ids = {
        record_id
        for (record_id,) in session.rows(
            f"SELECT {published} FROM {PUBLISHED_IDENTITIES.full_name} WHERE person_key IN ({marks}) "
            f"UNION SELECT record_id FROM {PERSON_CACHE.full_name} WHERE person_key IN ({marks})",
            [*values, *values],
        )
        if record_id is not None and record_id != ERASED
    }
    traces.identities |= _identities(session, traces) | set(_unpublished(session, dialect, keys, rules))
    parts = {normal_parts(person) for person in traces.identities}
    traces.rejected = set(_rejected(session, parts))
    traces.phones = _phones(session, traces)
    return traces


def _identities(session: Session, traces: Traces) -> set[Person]:
    columns = ", ".join(IDENTITY_COLUMNS)
    ids, id_values = _list(traces.record_ids)
    marks, values = _list(traces.keys)
    rows = session.rows(
        f"SELECT {columns} FROM {MASTER.full_name} WHERE record_id IN ({ids}) "
        f"UNION SELECT {columns} FROM {RAW_LEADS.full_name} WHERE person_key IN ({marks})",
        [*id_values, *values],
    )
    return {Person(*row) for row in rows if unusable_reason(Person(*row)) is None}


def _unpublished(session: Session, dialect: Dialect, keys: Collection[str], rules: KeyRules) -> Iterator[Person]:
    """Raw identities of this person in rows that an older system wrote and nobody adopted."""
    stage = session.create_stage_as(
        "unpublished",
        f"SELECT {dialect.row_number()} AS row_number, {', '.join('m.' + name for name in IDENTITY_COLUMNS)} "
        f"FROM {MASTER.full_name} AS m "
        f"WHERE NOT EXISTS (SELECT 1 FROM ({known_record_ids(dialect)}) AS k WHERE k.record_id = m.record_id)",
    )
    for person in _people(session, stage):
        if unusable_reason(person) is None and any(rule(person) in keys for rule in rules.values()):
            yield person
    session.drop_stage(stage)


def _rejected(session: Session, parts: Collection[NormalPerson]) -> Iterator[Person]:
    if not parts:
        return
    stage = session.create_stage_as(
        "rejected",
        f"SELECT ROW_NUMBER() OVER (ORDER BY partition_key, lead_number) AS row_number, {', '.join(IDENTITY_COLUMNS)} "
        f"FROM {REJECTED_LEADS.full_name}",
    )
    for person in _people(session, stage):
        if any(could_be(person, part) for part in parts):
            yield person
    session.drop_stage(stage)


def _people(session: Session, stage: str) -> Iterator[Person]:
    count = session.rows(f"SELECT COUNT(*) FROM {stage}")[0][0]
    for first in range(0, count, PAGE_ROWS):
        yield from people_of(
            session.table(
                f"SELECT {', '.join(IDENTITY_COLUMNS)} FROM {stage} WHERE row_number > ? AND row_number <= ?",
                [first, first + PAGE_ROWS],
            )
        )


def _phones(session: Session, traces: Traces) -> set[str]:
    where, values = _theirs(traces)
    marks, keys = _list(traces.keys)
    columns = ", ".join(_PHONES)
    rows = session.rows(
        f"SELECT {columns} FROM {MASTER.full_name} WHERE {where} "
        f"UNION SELECT {columns} FROM {ENRICHED_CONTACTS.full_name} WHERE person_key IN ({marks})",
        [*values, *keys],
    )
    return {digits for row in rows for text in row if (digits := digits_of(text)) is not None}


def digits_of(text: str | None) -> str | None:
    """The ten digits of a phone, also as an older system wrote it: ``2125550101.0``."""
    if text is None:
        return None
    parsed = parse_phone(text.strip().removesuffix(".0")).digits
    if parsed is not None:
        return parsed
    digits = "".join(char for char in text.strip().removesuffix(".0") if char.isascii() and char.isdigit())
    return digits[-10:] if len(digits) in (10, 11) else None


# --- reading ----------------------------------------------------------------------------


def read(session: Session, traces: Traces) -> dict[str, list[dict[str, Any]]]:
    """Every row about the person, by table; of their phones also the verdicts and the evidence."""
    where, values = _theirs(traces)
    marks, keys = _list(traces.keys)
    phones, numbers = _list(traces.phones)
    by_key: list[tuple[Table, str, list[object]]] = [
        (table, f"person_key IN ({marks})", keys)
        for table in (RAW_LEADS, ENRICHED_CONTACTS, PERSON_CACHE, PUBLISHED_IDENTITIES)
    ]
    by_phone: list[tuple[Table, str, list[object]]] = [
        (table, f"phone IN ({phones})", numbers)
        for table in (LITIGATOR_FLAGS, DNC_FLAGS, PHONE_VERDICTS, SCRUB_EVIDENCE, INTERNAL_DNC, CONSENTS)
    ]
    rejected = _any_identity(traces.rejected)
    return {
        table.name: _rows(session, table, condition, params)
        for table, condition, params in [(MASTER, where, values), (REJECTED_LEADS, *rejected), *by_key, *by_phone]
    }


def _rows(session: Session, table: Table, where: str, params: Sequence[object]) -> list[dict[str, Any]]:
    names = table.column_names
    types = {column.name: column.type for column in table.columns}
    texts = {name for name, kind in types.items() if kind == "json"}
    # A number of 37 digits is none in JSON.
    columns = ", ".join(f"CAST({name} AS VARCHAR)" if types[name] in ("json", "number") else name for name in names)
    rows = session.rows(f"SELECT {columns} FROM {table.full_name} WHERE {where}", params)
    return [
        {
            name: orjson.loads(value) if name in texts and value is not None else value
            for name, value in zip(names, row, strict=True)
        }
        for row in rows
    ]


# --- erasing ----------------------------------------------------------------------------


def erase(session: Session, dialect: Dialect, traces: Traces, erased_at: Mapping[str, datetime]) -> dict[str, int]:
    """Blank every row about the person in one transaction, and bar the keys, each with the time it was erased.

    Returns:
        How many rows were blanked or deleted, by table.
    """
    counts: dict[str, int] = {}
    with session.transaction():
        counts[MASTER.name] = _blank_master(session, dialect, traces)
        marks, keys = _list(traces.keys)
        names = ", ".join(f"{name} = NULL" for name in IDENTITY_COLUMNS)
        counts[RAW_LEADS.name] = session.execute(
            f"UPDATE {RAW_LEADS.full_name} SET {names}, additional = '{{}}', identity_hash = '' "
            f"WHERE person_key IN ({marks})",
            keys,
        )
        where, values = _any_identity(traces.rejected)
        counts[REJECTED_LEADS.name] = session.execute(
            f"UPDATE {REJECTED_LEADS.full_name} SET {names} WHERE {where}", values
        )
        counts[ENRICHED_CONTACTS.name] = sum(
            _blank_contacts(session, table, traces.keys) for table in (ENRICHED_CONTACTS.full_name, *_stages(session))
        )
        counts[PUBLISHED_IDENTITIES.name] = _remove_hashes(session, traces.keys)
        counts[PERSON_CACHE.name] = _bar(session, traces.keys, erased_at)
        lonely = [phone for phone in sorted(traces.phones) if not _is_held(session, phone)]
        for table in (PHONE_VERDICTS, LITIGATOR_FLAGS, DNC_FLAGS):
            phones, numbers = _list(lonely)
            counts[table.name] = session.execute(f"DELETE FROM {table.full_name} WHERE phone IN ({phones})", numbers)
    session.compact()
    return counts


def _blank_master(session: Session, dialect: Dialect, traces: Traces) -> int:
    where, values = _theirs(traces)
    blank = ", ".join(f"{name} = NULL" for name in (*IDENTITY_COLUMNS, *_CONTACTS, *_FLAGS))
    note = {"provenance": {ERASED: True, "null_reasons": dict.fromkeys(_FLAGS, Reason.NO_PHONE.value)}}
    return session.execute(
        f"UPDATE {MASTER.full_name} SET {blank}, additional_data = {dialect.to_json('?')} WHERE {where}",
        [orjson.dumps(note).decode(), *values],
    )


def _blank_contacts(session: Session, table: str, keys: Mapping[str, int]) -> int:
    marks, values = _list(keys)
    blank = ", ".join(f"{name} = NULL" for name in (*_CONTACTS, "contact"))
    return session.execute(
        f"UPDATE {table} SET outcome = 'held', reason = '{ERASED}', {blank} WHERE person_key IN ({marks})", values
    )


def _stages(session: Session) -> list[str]:
    """Contacts that a run gathered and did not publish (yet)."""
    found = session.rows(
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_catalog = ? AND UPPER(table_schema) = 'LEADSCRUB' AND UPPER(table_name) LIKE 'STAGE_CONTACTS_%'",
        [DATABASE],
    )
    return [f"{DATABASE}.LEADSCRUB.{name}" for (name,) in found]


def _remove_hashes(session: Session, keys: Mapping[str, int]) -> int:
    """The rows stay, one a script and record: they say which rows are theirs, should it be done again."""
    marks, values = _list(keys)
    columns = "person_key, partition_key, settled, record_id"
    session.execute(
        f"INSERT INTO {PUBLISHED_IDENTITIES.full_name} (identity_hash, {columns}) "
        f"SELECT DISTINCT '', person_key, partition_key, TRUE, record_id FROM {PUBLISHED_IDENTITIES.full_name} AS i "
        f"WHERE person_key IN ({marks}) AND identity_hash <> ''",
        values,
    )
    return session.execute(
        f"DELETE FROM {PUBLISHED_IDENTITIES.full_name} WHERE person_key IN ({marks}) AND identity_hash <> ''", values
    )


def _bar(session: Session, keys: Mapping[str, int], erased_at: Mapping[str, datetime]) -> int:
    marks, values = _list(keys)
    session.execute(f"DELETE FROM {PERSON_CACHE.full_name} WHERE person_key IN ({marks})", values)
    places = ", ".join("?" for _ in PERSON_CACHE.column_names)
    for key, version in keys.items():
        moment = erased_at[key]
        session.execute(
            f"INSERT INTO {PERSON_CACHE.full_name} ({', '.join(PERSON_CACHE.column_names)}) VALUES ({places})",
            [key, version, ERASED, moment, NEVER, ERASED, NO_PARTITION, moment],
        )
    return len(keys)


def _is_held(session: Session, phone: str) -> bool:
    """Whether any row still has the phone, however it is written."""
    likely = " OR ".join(f"{name} LIKE ?" for name in _PHONES)
    for table in (MASTER, ENRICHED_CONTACTS):
        rows = session.rows(
            f"SELECT {', '.join(_PHONES)} FROM {table.full_name} WHERE {likely}", [f"%{phone[-4:]}%"] * len(_PHONES)
        )
        if any(digits_of(text) == phone for row in rows for text in row):
            return True
    return False


def _theirs(traces: Traces) -> tuple[str, list[object]]:
    """Condition on the master table: rows by their record id, and rows by exactly their raw identity."""
    ids, values = _list(traces.record_ids)
    same, identities = _any_identity(traces.identities)
    return f"(record_id IN ({ids}) OR {same})", [*values, *identities]


def _any_identity(people: Collection[Person]) -> tuple[str, list[object]]:
    if not people:
        return "FALSE", []
    return f"({' OR '.join([_SAME_IDENTITY] * len(people))})", [value for person in people for value in person]


def _list(values: Collection[str]) -> tuple[str, list[object]]:
    """Placeholders of an IN, which may not be empty, and their values."""
    return ", ".join("?" for _ in values) or "NULL", list(values)
