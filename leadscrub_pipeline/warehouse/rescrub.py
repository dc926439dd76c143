"""Published rows whose flags are not what the verdicts make of them: found, and set.

The embedded engine first looks, phone by phone, which rows may be such, which is one pass over
rows and verdicts; only of those it works out the flags.

Which phones are asked about stands in published_phones.py. Asking the sources, and what a
row's provenance says afterwards, does not belong here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import pyarrow as pa

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.domain.verdicts import CCC, DNC
from leadscrub_pipeline.warehouse.flags import (
    NOT_HONOURED,
    digits_sql,
    flag_columns,
    flag_joins,
    flag_params,
    flag_sql,
    row_flags,
    utc_text,
)
from leadscrub_pipeline.warehouse.master import computed_record_id
from leadscrub_pipeline.warehouse.merging import added_columns
from leadscrub_pipeline.warehouse.protocol import Dialect, Session, Warehouse
from leadscrub_pipeline.warehouse.schema import MASTER, PHONE_VERDICTS, PUBLISHED_IDENTITIES

PAGE_ROWS: Final = 10_000
"""Rows that are rewritten at a time; their additional data may be long."""
CANDIDATES_AT_ONCE: Final = 300_000
"""Record ids of rows that may change, in memory at a time."""
COMPARED_AT_ONCE: Final = 30_000
"""Rows whose flags the embedded engine computes and compares in one statement."""
UPDATED_AT_ONCE: Final = 30_000
"""Rows that one transaction updates."""

_SLOTS: Final = (1, 2, 3)
_PHONES: Final = tuple(f"phone_{i}" for i in _SLOTS)
FLAGS: Final = ("in_litigator_list", *(f"phone_{i}_in_dnc" for i in _SLOTS))
REASONS: Final = ("litigator_reason", *(f"phone_{i}_dnc_reason" for i in _SLOTS))
_CHECKED_AT: Final = {f"phone_{i}_{name}_checked_at": f"{source}{i}" for name, source in
                      (("litigator", CCC), ("dnc", DNC)) for i in _SLOTS}  # fmt: skip
_LIST_VERSIONS: Final = {f"phone_{i}_dnc_list_version": f"{DNC}{i}" for i in _SLOTS}
_LISTS: Final = {f"phone_{i}_dnc_lists": f"{DNC}{i}" for i in _SLOTS}
PROVENANCE: Final = (*_CHECKED_AT, *_LIST_VERSIONS, *_LISTS)
"""Members of a row's provenance that tell of its phones' checks."""

KEY: Final = "COALESCE({alias}.record_id, '')"
_TEXT: Final = "CAST({alias}.additional_data AS VARCHAR)"

# A run that publishes the row anew changes the time, an erasure the phones; record ids need not be unique in rows
# of an older system.
_OLD_FLAGS: Final = tuple(f"old_{name}" for name in FLAGS)
_SAME_ROW: Final = " AND ".join(
    [
        f"{KEY.format(alias='m')} = s.record_key",
        *(f"m.{name} IS NOT DISTINCT FROM s.{name}" for name in ("processed_at", *_PHONES)),
        *(f"m.{name} IS NOT DISTINCT FROM s.{old}" for name, old in zip(FLAGS, _OLD_FLAGS, strict=True)),
    ]
)

_VERDICTS_OF: Final = f"SELECT v.* FROM {PHONE_VERDICTS.full_name} AS v WHERE v.phone IN ({{phones}})"
_PHONES_OF: Final = " UNION ".join(f"SELECT {digits_sql(f'm.{name}')} FROM {{rows}} AS m" for name in _PHONES)
_CHOSEN: Final = (
    f"SELECT {', '.join(f'm.{name}' for name in ('record_id', 'processed_at', *_PHONES, *FLAGS))} "
    f"FROM {MASTER.full_name} AS m WHERE {KEY.format(alias='m')} IN (SELECT w.record_key FROM {{wanted}} AS w)"
)


def _held(flag_of: Sequence[str]) -> str:
    """Every phone that a row has, beside the flag of its slot."""
    return " UNION ALL ".join(
        f"SELECT {KEY.format(alias='m')} AS record_key, {digits_sql(f'm.{phone}')} AS phone, m.{flag} AS old_flag "
        f"FROM {MASTER.full_name} AS m WHERE m.{phone} IS NOT NULL"
        for phone, flag in zip(_PHONES, flag_of, strict=True)
    )


def _doubtful(source: str, flag_of: Sequence[str]) -> str:
    """Rows with a phone for which a source says something else than their flag, and those whose flag says nothing."""
    return (
        f"SELECT h.record_key FROM ({_held(flag_of)}) AS h "
        f"LEFT JOIN (SELECT v.phone, {flag_sql('v', 'v.phone')} AS flag FROM {PHONE_VERDICTS.full_name} AS v "
        f"WHERE v.source = '{source}') AS v ON v.phone = h.phone "
        # No answer clears nothing: TRUE stays.
        "WHERE h.old_flag IS NULL OR COALESCE(v.flag, TRUE) <> h.old_flag"
    )


def _may_change(dialect: Dialect, now: datetime) -> tuple[str, list[object]]:
    """Record ids of all rows that may have to change, as a SELECT with its values; of some that need not, too.

    A litigator flag is looked at phone by phone as well: FALSE must be said of every phone, TRUE of one.
    """
    identity = _identity_record(dialect, "i")
    no_phone = " AND ".join(f"m.{name} IS NULL" for name in _PHONES)
    flag_without_phone = " OR ".join(
        [f"({no_phone} AND NOT m.{FLAGS[0]})"]
        + [f"(m.{phone} IS NULL AND NOT m.{flag})" for phone, flag in zip(_PHONES, FLAGS[1:], strict=True)]
    )
    selects = [
        _doubtful(CCC, FLAGS[:1] * len(_PHONES)),
        _doubtful(DNC, FLAGS[1:]),
        f"SELECT {KEY.format(alias='m')} AS record_key FROM {MASTER.full_name} AS m WHERE {flag_without_phone}",
        f"SELECT {KEY.format(alias='m')} AS record_key FROM {MASTER.full_name} AS m WHERE {NOT_HONOURED}",
        f"SELECT {identity} AS record_key FROM {PUBLISHED_IDENTITIES.full_name} AS i WHERE NOT i.settled",
    ]
    return " UNION ".join(selects), [now, now]


def _candidates(warehouse: Warehouse, now: datetime) -> Iterator[pa.ChunkedArray]:
    """Record ids of rows that may have to change, each once. Rows without an id are always among them."""
    select, params = _may_change(warehouse.dialect, now)
    keys: list[pa.Array] = [_NO_ID]
    for page in warehouse.pages(select, params, key="record_key", first="", rows=CANDIDATES_AT_ONCE):
        yield pa.chunked_array([*keys, *page.column("record_key").chunks])
        keys = []
    if keys:
        yield pa.chunked_array(keys)


def _state(rows: str, verdicts: str) -> str:
    """Each row: flags as they stand, and as publishing it now would set them."""
    phones = [digits_sql(f"m.{name}") for name in _PHONES]
    kept = ", ".join(f"m.{name}" for name in _PHONES)
    before = ", ".join(f"m.{name} AS old_{name}" for name in FLAGS)
    return f"""
WITH f AS (
  SELECT {KEY.format(alias="m")} AS record_key, m.processed_at, {kept}, {before}, {flag_columns(phones)}
  FROM {rows} AS m
  {flag_joins(verdicts, phones)}
), g AS (
  SELECT f.record_key, f.processed_at, {", ".join(f"f.{name}" for name in _PHONES)},
  {", ".join(f"f.old_{name}" for name in FLAGS)},
  {row_flags()},
  {", ".join(f"{utc_text(f'f.{verdict}_checked_at')} AS {name}" for name, verdict in _CHECKED_AT.items())},
  {", ".join(f"f.{verdict}_list_version AS {name}" for name, verdict in _LIST_VERSIONS.items())},
  {", ".join(f"f.{verdict}_lists AS {name}" for name, verdict in _LISTS.items())}
  FROM f
)
SELECT DISTINCT g.record_key, g.processed_at, {", ".join(f"g.{name}" for name in _PHONES)},
  {", ".join(f"g.old_{name}" for name in FLAGS)},
  {", ".join(_kept_flag(flag, reason) for flag, reason in zip(FLAGS, REASONS, strict=True))},
  {", ".join(f"g.{name}" for name in PROVENANCE)}, g.settled
FROM g
"""


def _kept_flag(flag: str, reason: str) -> str:
    """No answer clears nothing: what was TRUE stays so until a source says clear, as with MERGE_VERDICTS."""
    stays = f"g.old_{flag} AND g.{flag} IS NULL"
    return (
        f"CASE WHEN {stays} THEN TRUE ELSE g.{flag} END AS {flag}, "
        f"CASE WHEN {stays} THEN NULL ELSE g.{reason} END AS {reason}"
    )


def _changed(dialect: Dialect, state: str) -> str:
    """Rows of a state whose flags, or whose reasons of NULL flags, are other ones; with what the row says beside."""
    flags = " OR ".join(f"s.{name} IS DISTINCT FROM s.old_{name}" for name in FLAGS)
    has_phone = {"in_litigator_list": "COALESCE(s.phone_1, s.phone_2, s.phone_3)"} | {
        f"phone_{i}_in_dnc": f"s.phone_{i}" for i in _SLOTS
    }
    reasons = " OR ".join(
        f"CASE WHEN s.{name} IS NULL AND {has_phone[name]} IS NOT NULL THEN "
        f"s.{reason} IS DISTINCT FROM {dialect.json_text('m.additional_data', 'provenance', 'null_reasons', name)} "
        "ELSE FALSE END"
        for name, reason in zip(FLAGS, REASONS, strict=True)
    )
    unknown = " OR ".join(f"(s.{name} IS NULL AND {has_phone[name]} IS NOT NULL)" for name in FLAGS)
    return f"""
SELECT DISTINCT s.*, {_TEXT.format(alias="m")} AS additional_data,
  {dialect.sha256(_TEXT.format(alias="m"))} AS text_hash
FROM (SELECT s.* FROM {state} AS s WHERE {flags} OR {unknown}) AS s
JOIN {MASTER.full_name} AS m ON {_SAME_ROW}
WHERE {flags} OR {reasons}
"""


def _numbered(dialect: Dialect, select: str) -> str:
    return f"SELECT {dialect.row_number()} AS row_number, c.* FROM ({select}) AS c"


def count_rows(session: Session) -> int:
    return int(session.rows(f"SELECT COUNT(*) FROM {MASTER.full_name}")[0][0])


# --- bringing rows up to date -------------------------------------------------------------

_KEYS: Final = pa.schema([("record_key", pa.string())])
_NO_ID: Final = pa.array([""], pa.string())
_STAGED: Final = pa.schema(
    [
        ("row_number", pa.int64()),
        ("record_key", pa.string()),
        ("processed_at", pa.timestamp("us")),
        *((name, pa.string()) for name in _PHONES),
        *((name, pa.bool_()) for name in (*_OLD_FLAGS, *FLAGS)),
        ("text_hash", pa.string()),
        ("additional_data", pa.string()),
    ]
)

_RENEWED: Final = (*FLAGS, "additional_data")
_WORDS: Final = {"true": "= TRUE", "false": "= FALSE", "null": "IS NULL"}
_COLUMNS_OF: Final = {"litigator": FLAGS[:1], "dnc": FLAGS[1:]}
FLIPS: Final = tuple(
    (name, before, after) for name in _COLUMNS_OF for before in _WORDS for after in _WORDS if before != after
)
"""What can become of a flag: whose, from what, to what."""


@dataclass(slots=True)
class Updated:
    """What became of the rows. A row counts in ``flips`` once a flag; phones in three columns count three times."""

    rows: int = 0
    """Rows that were looked at."""
    updated: int = 0
    changed_meanwhile: int = 0
    """Rows that another run published anew, or somebody erased, while this one wrote: they were left alone."""
    flips: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    visits_changed: int = 0
    """Published identities that need no second visit any more."""


def bring_up_to_date(
    warehouse: Warehouse, rewrite: Callable[[pa.Table], list[str]], *, now: datetime
) -> Iterator[Updated]:
    """Set the flags of all published rows as publishing them now would; yields the sums now and then.

    What is kept in memory besides a page is the record ids of rows that may change, so many at a time as
    ``CANDIDATES_AT_ONCE``. Of those all that change are gathered before any is updated: the embedded engine writes
    much of its file for a few rows.

    Args:
        warehouse: where the rows are.
        rewrite: gives the additional data of each row of a page, which has them as they stand with the columns
            ``FLAGS``, ``REASONS`` and ``PROVENANCE`` as they shall be.
        now: an answer that is good until then has expired.
    """
    total = Updated()
    with warehouse.session() as session:
        total.rows = count_rows(session)
        all_at_once = session.leads_at_a_time is None
    for candidates in [None] if all_at_once else _candidates(warehouse, now):
        found = _find_changed(warehouse, candidates, now)
        yield total
        for _ in update_in_lots(warehouse, found, rewrite, total, now=now):
            yield total


def update_in_lots(
    warehouse: Warehouse,
    keys: pa.ChunkedArray,
    rewrite: Callable[[pa.Table], list[str]],
    total: Updated,
    *,
    now: datetime,
) -> Iterator[None]:
    """``update_rows`` of any number of record ids, in as many transactions as it takes; yields after each."""
    for first in range(0, len(keys), UPDATED_AT_ONCE):
        with warehouse.session() as session:
            update_rows(session, warehouse.dialect, keys.slice(first, UPDATED_AT_ONCE), rewrite, total, now=now)
        yield


def _find_changed(warehouse: Warehouse, candidates: pa.ChunkedArray | None, now: datetime) -> pa.ChunkedArray:
    """The record ids of those rows whose flags, reasons or second visits are other ones; None asks of all at once."""
    if candidates is None:
        parts = [None]
    else:
        starts = range(0, len(candidates), COMPARED_AT_ONCE)
        parts = [candidates.slice(first, COMPARED_AT_ONCE) for first in starts]
    found: list[pa.Array] = []
    for keys in parts:
        with warehouse.session() as session, _gathered_state(session, keys, now) as state:
            changed = session.table(
                f"SELECT c.record_key FROM ({_changed(warehouse.dialect, state)}) AS c "
                f"UNION SELECT v.record_key FROM ({_changed_visits(warehouse.dialect, state)}) AS v"
            )
        found += changed.column("record_key").chunks
    return pa.chunked_array(found, pa.string())


def update_rows(
    session: Session,
    dialect: Dialect,
    keys: pa.ChunkedArray,
    rewrite: Callable[[pa.Table], list[str]],
    total: Updated,
    *,
    now: datetime,
) -> None:
    """Bring the rows of these record ids up to date in one transaction, and add to the sums what became of them."""
    with _gathered_state(session, keys, now) as state:
        changed = session.create_stage_as("changed_rows", _numbered(dialect, _changed(dialect, state)))
        visits = session.create_stage_as("changed_visits", _changed_visits(dialect, state))
        ((count,),) = session.rows(f"SELECT COUNT(*) FROM {changed}")
        staged = _rewritten(session, changed, count, rewrite)
        with session.transaction():
            # Before the flags are other ones: rows are recognised by those they had.
            visits_changed = session.execute(_merge_visits(dialect, visits))
            found = _merge(session, dialect, staged, total)
            failpoints.reached("master.before_commit")
        failpoints.reached("master.after_commit")
    total.changed_meanwhile += count - found
    total.visits_changed += visits_changed
    for stage in (changed, visits, staged):
        session.drop_stage(stage)


@contextmanager
def _gathered_state(session: Session, keys: pa.ChunkedArray | None, now: datetime) -> Iterator[str]:
    """Rows of these record ids, or all, in a stage: their flags as they stand and as they shall be."""
    if keys is None:
        state = _stage_state(session, MASTER.full_name, now)
    else:
        with session.stage("wanted_rows", pa.table([keys], schema=_KEYS)) as wanted:
            state = _stage_state(session, f"({_CHOSEN.format(wanted=wanted)})", now)
    yield state
    session.drop_stage(state)


def _stage_state(session: Session, rows: str, now: datetime) -> str:
    if session.leads_at_a_time is None:
        return session.create_stage_as("published_rows", _state(rows, PHONE_VERDICTS.full_name), flag_params(now))
    # Six joins hold six times what they join: of the verdicts only those of the rows.
    chosen = session.create_stage_as("chosen_rows", f"SELECT m.* FROM {rows} AS m")
    verdicts = session.create_stage_as("row_verdicts", _VERDICTS_OF.format(phones=_PHONES_OF.format(rows=chosen)))
    state = session.create_stage_as("published_rows", _state(chosen, verdicts), flag_params(now))
    for stage in (chosen, verdicts):
        session.drop_stage(stage)
    return state


def _rewritten(session: Session, changed: str, count: int, rewrite: Callable[[pa.Table], list[str]]) -> str:
    """The changed rows with their new additional data, in a stage."""
    staged = session.create_stage("rescrubbed", _STAGED)
    kept = [name for name in _STAGED.names if name != "additional_data"]
    for page in session.batches(f"SELECT * FROM {changed}", [], key="row_number", last=count, rows=PAGE_ROWS):
        texts = pa.array(rewrite(page), pa.string())
        session.load(staged, page.select(kept).append_column("additional_data", texts).cast(_STAGED))
    return staged


def _merge(session: Session, dialect: Dialect, staged: str, total: Updated) -> int:
    """Update rows that are still as they were read; return how many staged ones were found, twins once."""
    # As a condition of the join it would be computed for every row of the table: only rows without an id need it
    # there, as they would meet one another, each with each.
    text_hash = dialect.sha256(_TEXT.format(alias="m"))
    is_same = f"CASE WHEN {text_hash} IS NOT DISTINCT FROM s.text_hash THEN TRUE ELSE FALSE END"
    same_row = (
        f"{_SAME_ROW} AND CASE WHEN {KEY.format(alias='m')} = '' THEN {text_hash} END "
        "IS NOT DISTINCT FROM CASE WHEN s.record_key = '' THEN s.text_hash END"
    )
    sums = ", ".join(
        "COALESCE(SUM("
        + " + ".join(
            f"CASE WHEN j.is_same AND j.old_{flag} {_WORDS[before]} AND j.{flag} {_WORDS[after]} THEN 1 ELSE 0 END"
            for flag in _COLUMNS_OF[name]
        )
        + "), 0)"
        for name, before, after in FLIPS
    )
    flags = ", ".join(f"s.{name}" for name in (*_OLD_FLAGS, *FLAGS))
    ((found, updated, *counts),) = session.rows(
        "SELECT COUNT(DISTINCT CASE WHEN j.is_same THEN j.row_number END), "
        f"COALESCE(SUM(CASE WHEN j.is_same THEN 1 ELSE 0 END), 0), {sums} FROM ("
        f"SELECT {is_same} AS is_same, s.row_number, {flags} "
        f"FROM {staged} AS s JOIN {MASTER.full_name} AS m ON {same_row}) AS j"
    )
    names = ", ".join(f"s.{name}" for name in _STAGED.names if name not in ("row_number", "additional_data"))
    renewed = f"SELECT {names}, {dialect.to_json('s.additional_data')} AS additional_data FROM {staged} AS s"
    if session.replaces_by_delete:
        all_names = [*MASTER.column_names, *added_columns(session)]
        columns = ", ".join(f"{'s' if name in _RENEWED else 'm'}.{name}" for name in all_names)
        session.execute(
            f"INSERT INTO {MASTER.full_name} ({', '.join(all_names)}) "
            f"SELECT {columns} FROM ({renewed}) AS s JOIN {MASTER.full_name} AS m ON {same_row} WHERE {is_same}"
        )
        # What was inserted just now has another text.
        session.execute(f"DELETE FROM {MASTER.full_name} AS m USING {staged} AS s WHERE {same_row} AND {is_same}")
    else:
        session.execute(
            f"MERGE INTO {MASTER.full_name} AS m USING ({renewed}) AS s ON {same_row} "
            f"WHEN MATCHED AND {is_same} THEN UPDATE SET {', '.join(f'{name} = s.{name}' for name in _RENEWED)}"
        )
    for flip, count in zip(FLIPS, counts, strict=True):
        total.flips[flip] += int(count)
    total.updated += int(updated)
    return int(found)


def _identity_record(dialect: Dialect, alias: str) -> str:
    computed = computed_record_id(dialect, f"{alias}.partition_key", f"{alias}.person_key")
    return f"COALESCE({alias}.record_id, {computed})"


def _changed_visits(dialect: Dialect, state: str) -> str:
    """Rows of a state whose people wait for a second visit and need none any more.

    A rescrub asks for none: it is the second visit itself, and the next one asks again about what stays unknown. A
    row that a scrub publishes anew would lift its withdrawal, and its person might be paid for once more.
    """
    names = ", ".join(f"s.{name}" for name in ("record_key", "processed_at", *_PHONES, *_OLD_FLAGS))
    return (
        f"SELECT DISTINCT {names} FROM {state} AS s JOIN {PUBLISHED_IDENTITIES.full_name} AS i "
        f"ON {_identity_record(dialect, 'i')} = s.record_key WHERE s.settled AND NOT i.settled"
    )


def _merge_visits(dialect: Dialect, visits: str) -> str:
    return (
        f"MERGE INTO {PUBLISHED_IDENTITIES.full_name} AS t USING ("
        f"SELECT DISTINCT s.record_key FROM {visits} AS s JOIN {MASTER.full_name} AS m ON {_SAME_ROW}"
        f") AS s ON {_identity_record(dialect, 't')} = s.record_key "
        "WHEN MATCHED AND NOT t.settled THEN UPDATE SET settled = TRUE"
    )
