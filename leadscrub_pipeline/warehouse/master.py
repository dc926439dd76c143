"""Publishing: one transaction that merges into MASTER_PROCESSED_DB, with flags taken from unexpired verdicts only.

How verdicts become flags stands in flags.py, how leads become rows in merging.py, and checking again what is published
in rescrub.py.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import orjson

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.domain.phones import mask_phone
from leadscrub_pipeline.domain.verdicts import CCC, DNC
from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.warehouse.flags import (
    flag_columns,
    flag_joins,
    flag_params,
    litigator_reason,
    row_flags,
    utc_text,
)
from leadscrub_pipeline.warehouse.merging import OWNED, Publication, merge
from leadscrub_pipeline.warehouse.protocol import Dialect, Session
from leadscrub_pipeline.warehouse.schema import (
    ENRICHED_CONTACTS,
    IDENTITY_COLUMNS,
    MASTER,
    PERSON_CACHE,
    PHONE_VERDICTS,
    PUBLISHED_IDENTITIES,
    RAW_LEADS,
)
from leadscrub_pipeline.warehouse.slices import LEADS_RUN, Slice, require_unchanged

_SLOTS: Final = (1, 2, 3)
_ALL: Final = 2**53
"""No lead has a number like this."""
_COUNTED_AT_A_TIME: Final = 100
"""Lead numbers whose texts are measured as one: no part divides them."""
_TEXT_AT_A_TIME: Final = 24_000_000
"""Bytes of additional data and contacts that are merged at a time; three times as many do not fit into 256 MB."""
_MASTER_ROWS: Final = "rows of the master table"
_DOUBLE_ROWS: Final = "rows with the record id of another"


@dataclass(frozen=True, slots=True)
class Published:
    """What became of the leads, and of the flags of the published ones."""

    published: int
    deferred: int
    held: int
    taken: int
    litigators: int
    litigator_unknown: int
    phones: int
    dnc_listed: int
    dnc_unknown: int
    master_rows: int
    query_id: str | None
    """Of the MERGE, where the engine names its statements."""
    double_rows: int
    """Record ids of rows that this run wrote and that other rows of the partition have, too; always 0."""

    @property
    def flags_unknown(self) -> int:
        """Flags that are NULL although there is a phone."""
        return self.litigator_unknown + self.dnc_unknown


_PHONES: Final = " UNION ".join(
    f"SELECT phone_{i} AS phone FROM {ENRICHED_CONTACTS.full_name} "
    "WHERE partition_key = ? AND run_id = ? AND lead_number > ? AND lead_number <= ?"
    for i in _SLOTS
)
_VERDICTS: Final = f"SELECT v.* FROM {PHONE_VERDICTS.full_name} AS v WHERE v.phone IN ({_PHONES})"

# A person published by this script before keeps that row, also after expiry and under another key. One
# person may have two such rows, when a new key rule made one of two: then the row that owns the person.
_KNOWN_IDS: Final = f"""
SELECT k.person_key, COALESCE(MAX(k.owned), MIN(k.stored)) AS record_id
FROM (
  SELECT i.person_key, i.record_id AS stored, CASE WHEN c.record_id = i.record_id THEN i.record_id END AS owned
  FROM {PUBLISHED_IDENTITIES.full_name} AS i
  LEFT JOIN {PERSON_CACHE.full_name} AS c
    ON c.person_key = i.person_key AND c.partition_key = i.partition_key
  WHERE i.partition_key = ? AND i.record_id IS NOT NULL AND i.person_key IN (
    SELECT person_key FROM {ENRICHED_CONTACTS.full_name}
    WHERE partition_key = ? AND run_id = ? AND lead_number > ? AND lead_number <= ?
  )
) AS k
GROUP BY k.person_key
"""

_SIZES: Final = f"""
SELECT CAST(FLOOR((lead_number - 1) / {_COUNTED_AT_A_TIME}) * {_COUNTED_AT_A_TIME} AS BIGINT) AS lowest,
  SUM(leads) AS leads, SUM(bytes) AS bytes
FROM (
  SELECT lead_number, 0 AS leads, BIT_LENGTH(additional) / 8 AS bytes FROM {RAW_LEADS.full_name} WHERE {{leads}}
  UNION ALL
  SELECT lead_number, 1 AS leads, BIT_LENGTH(contact) / 8 AS bytes FROM {ENRICHED_CONTACTS.full_name} WHERE {{contacts}}
) AS sizes
GROUP BY 1
ORDER BY 1
"""


class _LeadRange(NamedTuple):
    """Leads that are merged at a time."""

    after: int
    """The lead number before the first one."""
    last: int
    leads: int
    """Those whose people have an outcome of whatever kind."""

    @property
    def bounds(self) -> tuple[int, int]:
        """As parameters of a query."""
        return self.after, self.last


def publish(
    session: Session,
    dialect: Dialect,
    leads: Slice,
    contacts: Slice,
    publication: Publication,
    *,
    now: datetime,
    report: Callable[[str], None] = lambda _text: None,
) -> Published:
    """Merge the partition's leads into the master table, all or nothing.

    Raises:
        FailedError: a slice was replaced by another run in the meantime, or the leads since their contacts were found.
    """
    _require_contacts_of(leads, contacts)
    ranges = _lead_ranges(session, leads, contacts)
    given = (session, dialect, leads, contacts, publication)
    # On Snowflake a CREATE TABLE would end the transaction; here a stage of all leads would fill the memory.
    gathered = _gather_at_once(*given, ranges[0], now) if session.leads_at_a_time is None else None
    with session.transaction():
        require_unchanged(session, leads, contacts)
        query_id = None
        flags: Counter[str] = Counter()
        progress = Progress(report, noun="leads merged", total=contacts.row_count)
        for part in ranges:
            publishable = gathered or _gather(*given, part, now)
            query_id = merge(session, dialect, publication, publishable, now)
            failpoints.reached("master.merged_range")
            flags.update(_count_flags(session, publishable))
            if gathered is None:
                session.drop_stage(publishable)
            progress.add(part.leads)
        published = _count(session, contacts, publication, flags, query_id)
        failpoints.reached("master.before_commit")
    failpoints.reached("master.after_commit")
    if gathered is not None:
        session.drop_stage(gathered)
    return published


def _require_contacts_of(leads: Slice, contacts: Slice) -> None:
    """Leads that were selected anew have other numbers: their contacts would be other people's."""
    if contacts.details.get(LEADS_RUN, leads.run_id) != leads.run_id:
        raise FailedError(
            f"raw_leads of partition {leads.partition_key} was replaced by another run after its contacts were found. "
            "Nothing was published; materialize enriched_contacts and what comes after it again."
        )


def _lead_ranges(session: Session, leads: Slice, contacts: Slice) -> list[_LeadRange]:
    """So many leads each as the engine can take at a time; of wide ones these are fewer."""
    if session.leads_at_a_time is None:
        return [_LeadRange(0, _ALL, contacts.row_count)]
    ranges: list[_LeadRange] = []
    text = 0
    for lowest, count, size in session.rows(
        _SIZES.format(leads=leads.where, contacts=contacts.where), [*leads.params, *contacts.params]
    ):
        last = lowest + _COUNTED_AT_A_TIME
        text += size or 0
        if ranges and ranges[-1].leads + count <= session.leads_at_a_time and text <= _TEXT_AT_A_TIME:
            ranges[-1] = _LeadRange(ranges[-1].after, last, ranges[-1].leads + count)
        else:
            ranges.append(_LeadRange(lowest, last, count))
            text = size or 0
    return ranges or [_LeadRange(0, 0, 0)]


def _gather(
    session: Session,
    dialect: Dialect,
    leads: Slice,
    contacts: Slice,
    publication: Publication,
    part: _LeadRange,
    now: datetime,
) -> str:
    """The publishable leads of a range in a temporary stage."""
    verdicts = session.create_stage_as("slice_verdicts", _VERDICTS, [*contacts.params, *part.bounds] * len(_SLOTS))
    known_ids = session.create_stage_as(
        "known_ids", _KNOWN_IDS, [publication.partition_key, *contacts.params, *part.bounds]
    )
    query = publishable_query(dialect, verdicts, known_ids)
    publishable = session.create_stage_as(
        "publishable", query, _publishable_params(leads, contacts, publication, part, now)
    )
    session.drop_stage(verdicts)
    session.drop_stage(known_ids)
    failpoints.reached("master.gathered")
    return publishable


def _gather_at_once(
    session: Session,
    dialect: Dialect,
    leads: Slice,
    contacts: Slice,
    publication: Publication,
    part: _LeadRange,
    now: datetime,
) -> str:
    """The same in one statement, for an engine that has the memory."""
    query = publishable_query(dialect, "slice_verdicts", "known_ids").strip().removeprefix("WITH")
    publishable = session.create_stage_as(
        "publishable",
        f"WITH slice_verdicts AS ({_VERDICTS}), known_ids AS ({_KNOWN_IDS}), {query}",
        [
            *[*contacts.params, *part.bounds] * len(_SLOTS),
            publication.partition_key,
            *contacts.params,
            *part.bounds,
            *_publishable_params(leads, contacts, publication, part, now),
        ],
    )
    failpoints.reached("master.gathered")
    return publishable


def computed_record_id(dialect: Dialect, partition_key: str, person_key: str) -> str:
    """The record id of a person whom a script publishes for the first time, from two SQL expressions."""
    return f"SUBSTR({dialect.sha256(f'{partition_key} || {person_key}')}, 1, 32)"


def publishable_query(dialect: Dialect, verdicts: str, known_ids: str) -> str:
    """Leads of a range with a hit or a miss: the rows to publish, and whether they need a second visit."""
    identity = ", ".join(f"r.{name}" for name in IDENTITY_COLUMNS)
    contacts = ", ".join(f"e.{kind}_{i}" for kind in ("phone", "email") for i in _SLOTS)
    phones = [f"e.phone_{i}" for i in _SLOTS]
    record_id = f"COALESCE(p.record_id, {computed_record_id(dialect, 'e.partition_key', 'e.person_key')})"
    return f"""
WITH f AS (
  SELECT e.lead_number, {record_id} AS record_id, r.key_version, r.identity_hash, r.additional, e.person_key, e.outcome,
    e.lookup_id, e.looked_up_at, e.expires_at, e.contact, {identity}, {contacts}, {flag_columns(phones)}
  FROM {ENRICHED_CONTACTS.full_name} AS e
  JOIN {RAW_LEADS.full_name} AS r
    ON r.partition_key = e.partition_key AND r.run_id = ? AND r.lead_number = e.lead_number
    AND r.person_key = e.person_key
  LEFT JOIN {known_ids} AS p ON p.person_key = e.person_key
  {flag_joins(verdicts, phones)}
  WHERE e.partition_key = ? AND e.run_id = ? AND e.lead_number > ? AND e.lead_number <= ?
    AND e.outcome IN ('hit', 'miss')
)
SELECT f.lead_number, f.record_id, f.person_key, f.key_version, f.identity_hash, f.outcome,
  f.looked_up_at, f.expires_at,
  {", ".join(f"f.{name}" for name in IDENTITY_COLUMNS)},
  {", ".join(f"f.{kind}_{i}" for kind in ("phone", "email") for i in _SLOTS)},
  {row_flags()},
  {_additional_data()} AS additional_data
FROM f
"""


def _publishable_params(
    leads: Slice, contacts: Slice, publication: Publication, part: _LeadRange, now: datetime
) -> list[object]:
    constants = orjson.dumps(
        {"script_hash": publication.script_hash, "purpose": publication.purpose, "run_id": publication.run_id}
    ).decode()
    return [
        *flag_params(now),
        leads.run_id,
        *contacts.params,
        *part.bounds,
        constants[1:-1],
    ]


def _additional_data() -> str:
    """The text of the row's JSON object: the script's further columns, then provenance.

    It is put together at once: of a chain of ``||`` the embedded engine keeps what each of them made, which grew to
    100 MB and more in every thread.
    """
    members = [
        "'\"lookup_id\":' || " + _json_string("f.lookup_id"),
        "'\"looked_up_at\":' || " + _json_time("f.looked_up_at"),
        "'\"outcome\":' || " + _json_string("f.outcome"),
        "'\"contact\":' || COALESCE(f.contact, 'null')",
        '\'"null_reasons":{"in_litigator_list":\' || ' + _json_string(litigator_reason()),
        *(f"'\"phone_{i}_in_dnc\":' || " + _json_string(f"f.{DNC}{i}_reason") for i in _SLOTS),
    ]
    tail = [
        *(f"'\"phone_{i}_litigator_checked_at\":' || " + _json_time(f"f.{CCC}{i}_checked_at") for i in _SLOTS),
        *(f"'\"phone_{i}_dnc_checked_at\":' || " + _json_time(f"f.{DNC}{i}_checked_at") for i in _SLOTS),
        *(f"'\"phone_{i}_dnc_list_version\":' || " + _json_string(f"f.{DNC}{i}_list_version") for i in _SLOTS),
        *(f"'\"phone_{i}_dnc_lists\":' || " + _json_string(f"f.{DNC}{i}_lists") for i in _SLOTS),
    ]
    comma = ", ',', "
    return (
        "CONCAT(SUBSTR(f.additional, 1, LENGTH(f.additional) - 1), CASE WHEN f.additional = '{}' THEN '' ELSE ',' END, "
        f"'\"provenance\":{{', ?, ',', {comma.join(members)}, '}},', {comma.join(tail)}, '}}}}')"
    )


def _json_string(expression: str) -> str:
    """A text we made ourselves, or NULL, as JSON. Quotes and backslashes cannot be in it; should one be, it goes."""
    # CHR(92) is the backslash, which within quotes is one character on one engine and half of one on the other.
    clean = f"REPLACE(REPLACE({expression}, CHR(92), ''), '\"', '')"
    return f"CASE WHEN {expression} IS NULL THEN 'null' ELSE '\"' || {clean} || '\"' END"


def _json_time(expression: str) -> str:
    return f"CASE WHEN {expression} IS NULL THEN 'null' ELSE '\"' || {utc_text(expression)} || '\"' END"


# An older system may have given several rows one record id, or none; they are not this run's.
_DOUBLE: Final = f"""
SELECT record_id FROM {MASTER.full_name}
WHERE table_id = ? AND record_id IS NOT NULL
GROUP BY record_id
HAVING COUNT(*) > 1 AND MAX(CASE WHEN job_id = ? THEN 1 ELSE 0 END) = 1
"""


def _count_flags(session: Session, publishable: str) -> dict[str, int]:
    """The leads of a stage that were published, and what their flags are; fields of ``Published``."""
    owned = OWNED.format(publishable=f"SELECT * FROM {publishable}")
    phones = [f"o.phone_{i}" for i in _SLOTS]
    no_phone = " AND ".join(f"{phone} IS NULL" for phone in phones)
    counted = {
        "litigators": "o.in_litigator_list",
        "litigator_unknown": f"o.in_litigator_list IS NULL AND NOT ({no_phone})",
    }
    counted_each = {
        "phones": "{phone} IS NOT NULL",
        "dnc_listed": "{phone}_in_dnc",
        "dnc_unknown": "{phone} IS NOT NULL AND {phone}_in_dnc IS NULL",
    }
    sums = {name: _ones(condition) for name, condition in counted.items()} | {
        name: " + ".join(_ones(condition.format(phone=phone)) for phone in phones)
        for name, condition in counted_each.items()
    }
    taken = (
        f"SELECT COUNT(*) FROM {publishable} AS s JOIN {PERSON_CACHE.full_name} AS c "
        "ON c.person_key = s.person_key AND c.record_id <> s.record_id"
    )
    row = session.rows(
        f"SELECT COUNT(*), ({taken}), {', '.join(f'COALESCE(SUM({sum_}), 0)' for sum_ in sums.values())} "
        f"FROM ({owned}) AS o"
    )[0]
    return dict(zip(("published", "taken", *sums), map(int, row), strict=True))


def _ones(condition: str) -> str:
    return f"CASE WHEN {condition} THEN 1 ELSE 0 END"


def _count(
    session: Session, contacts: Slice, publication: Publication, flags: Mapping[str, int], query_id: str | None
) -> Published:
    outcomes = dict(
        session.rows(
            f"SELECT outcome, COUNT(*) FROM {ENRICHED_CONTACTS.full_name} WHERE {contacts.where} GROUP BY outcome "
            f"UNION ALL SELECT '{_MASTER_ROWS}', COUNT(*) FROM {MASTER.full_name} "
            f"UNION ALL SELECT '{_DOUBLE_ROWS}', COUNT(*) FROM ({_DOUBLE}) AS d",
            [*contacts.params, publication.partition_key, publication.run_id],
        )
    )
    return Published(
        published=flags["published"],
        deferred=outcomes.get("deferred", 0),
        held=outcomes.get("held", 0),
        taken=flags["taken"],
        litigators=flags["litigators"],
        litigator_unknown=flags["litigator_unknown"],
        phones=flags["phones"],
        dnc_listed=flags["dnc_listed"],
        dnc_unknown=flags["dnc_unknown"],
        master_rows=outcomes[_MASTER_ROWS],
        query_id=query_id,
        double_rows=outcomes[_DOUBLE_ROWS],
    )


def masked_sample(session: Session, partition_key: str, *, rows: int = 10) -> str:
    """A few of the partition's rows for a reader of the UI: no name, no address, phones cut short."""
    found = session.rows(
        f"SELECT state, phone_1, phone_2, phone_3, in_litigator_list, phone_1_in_dnc, phone_2_in_dnc, phone_3_in_dnc "
        f"FROM {MASTER.full_name} WHERE table_id = ? ORDER BY record_id LIMIT {rows}",
        [partition_key],
    )
    lines = ["| state | phones | in_litigator_list | in_dnc |", "| --- | --- | --- | --- |"]
    for state, *rest in found:
        phones = ", ".join(f"`{mask_phone(phone)}`" for phone in rest[:3] if phone)
        in_dnc = ", ".join(_word(flag) for phone, flag in zip(rest[:3], rest[4:], strict=True) if phone)
        lines.append(f"| {(state or '')[:2]} | {phones or 'none'} | {_word(rest[3])} | {in_dnc} |")
    return "\n".join(lines)


def _word(flag: bool | None) -> str:
    return "unknown" if flag is None else "TRUE" if flag else "FALSE"
