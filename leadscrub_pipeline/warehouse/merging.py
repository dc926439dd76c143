"""How the leads of a stage become rows of the master table: who owns a person, the row, what the filter looks for.

The first script to publish a person owns the person. An engine that keeps in memory what an UPDATE changes, until
COMMIT, writes rows anew in the place of changing them: 150,000 rows that were published before did not fit into 256 MB.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from leadscrub_pipeline.warehouse.identity_numbers import identity_number
from leadscrub_pipeline.warehouse.protocol import Dialect, Session
from leadscrub_pipeline.warehouse.schema import MASTER, PERSON_CACHE, PUBLISHED_IDENTITIES


@dataclass(frozen=True, slots=True)
class Publication:
    """Under which names a run publishes a partition's leads."""

    partition_key: str
    title: str
    run_id: str
    job_name: str
    script_hash: str
    purpose: str


_PEOPLE_COLUMNS: Final = ", ".join(PERSON_CACHE.column_names)


def _kept(*names: str) -> str:
    """What PERSON_CACHE has of a person, or the lead when it has nobody."""
    return ", ".join(f"CASE WHEN t.person_key IS NULL THEN s.{name} ELSE t.{name} END AS {name}" for name in names)


# The first to publish owns a person; whoever comes later finds another record_id and is left out.
_CLAIM_PEOPLE: Final = f"""
MERGE INTO {PERSON_CACHE.full_name} AS t
USING ({{publishable}}) AS s
ON t.person_key = s.person_key
WHEN MATCHED AND (t.record_id IS NULL OR t.record_id = s.record_id) THEN UPDATE SET
  record_id = s.record_id, partition_key = ?, published_at = ?
WHEN NOT MATCHED THEN INSERT ({_PEOPLE_COLUMNS})
  VALUES (s.person_key, s.key_version, s.outcome, s.looked_up_at, s.expires_at, s.record_id, ?, ?)
"""

OWNED: Final = f"""
SELECT s.*, c.expires_at AS owned_until
FROM ({{publishable}}) AS s
JOIN {PERSON_CACHE.full_name} AS c ON c.person_key = s.person_key AND c.record_id = s.record_id
"""
"""Of publishable leads those whose people are this script's, when they were claimed."""

_MERGE_IDENTITIES: Final = f"""
MERGE INTO {PUBLISHED_IDENTITIES.full_name} AS t
USING (
  SELECT identity_hash, person_key, settled, record_id, {identity_number("identity_hash")} AS identity_number,
    owned_until
  FROM ({{owned}}) AS o
) AS s
ON t.identity_hash = s.identity_hash AND t.person_key = s.person_key AND t.partition_key = ?
WHEN MATCHED THEN UPDATE SET
  settled = s.settled, record_id = s.record_id, identity_number = s.identity_number, owned_until = s.owned_until
WHEN NOT MATCHED THEN INSERT
  (identity_hash, person_key, partition_key, settled, record_id, identity_number, owned_until)
  VALUES (s.identity_hash, s.person_key, ?, s.settled, s.record_id, s.identity_number, s.owned_until)
"""

# Other spellings of a person that needs a second visit must not be left out by the filter either.
_UNSETTLE: Final = f"""
UPDATE {PUBLISHED_IDENTITIES.full_name} SET settled = FALSE
WHERE partition_key = ? AND settled AND person_key IN (SELECT person_key FROM ({{owned}}) AS o WHERE NOT o.settled)
"""

# People, rows and identities for an engine that writes them anew. An older system may have given several rows one
# record id: they stay as many as they were, and columns that somebody added keep their values.
_CLAIMED: Final = f"""
SELECT s.person_key, {_kept("key_version", "outcome", "looked_up_at", "expires_at")}, s.record_id,
  CAST(? AS VARCHAR) AS partition_key, CAST(? AS TIMESTAMP) AS published_at
FROM ({{publishable}}) AS s
LEFT JOIN {PERSON_CACHE.full_name} AS t ON t.person_key = s.person_key
WHERE t.record_id IS NULL OR t.record_id = s.record_id
"""
_DELETE_PEOPLE: Final = f"""
DELETE FROM {PERSON_CACHE.full_name} AS t USING {{claimed}} AS s
WHERE t.person_key = s.person_key AND (t.record_id IS NULL OR t.record_id = s.record_id)
"""
_INSERT_PEOPLE: Final = f"""
INSERT INTO {PERSON_CACHE.full_name} ({_PEOPLE_COLUMNS}) SELECT {_PEOPLE_COLUMNS} FROM {{claimed}}
"""
_REPLACED: Final = f"""
SELECT t.record_id{{added}} FROM ({{owned}}) AS s JOIN {MASTER.full_name} AS t ON t.record_id = s.record_id
"""
_DELETE_ROWS: Final = f"""
DELETE FROM {MASTER.full_name} AS t WHERE t.record_id IN (SELECT record_id FROM {{replaced}})
"""
_DELETE_IDENTITIES: Final = f"""
DELETE FROM {PUBLISHED_IDENTITIES.full_name} AS t
USING ({{owned}}) AS s
WHERE t.identity_hash = s.identity_hash AND t.person_key = s.person_key AND t.partition_key = ?
"""
_INSERT_IDENTITIES: Final = f"""
INSERT INTO {PUBLISHED_IDENTITIES.full_name}
  (identity_hash, person_key, partition_key, settled, record_id, identity_number, owned_until)
SELECT identity_hash, person_key, ?, settled, record_id, {identity_number("identity_hash")}, owned_until
FROM ({{owned}}) AS s
"""


def merge(session: Session, dialect: Dialect, publication: Publication, stage: str, now: datetime) -> str | None:
    """Publish the leads of a stage, which has no person and no record id twice.

    Returns:
        The id of the statement that did, where the engine names its statements.
    """
    publishable = f"SELECT * FROM {stage}"
    owned = OWNED.format(publishable=publishable)
    if session.replaces_by_delete:
        _replace_people(session, publishable, publication, now)
        _replace_rows(session, dialect, owned, publication, now)
        for statement in (_DELETE_IDENTITIES, _INSERT_IDENTITIES):
            session.execute(statement.format(owned=owned), [publication.partition_key])
        query_id = None
    else:
        session.execute(_CLAIM_PEOPLE.format(publishable=publishable), [publication.partition_key, now] * 2)
        session.execute(_merge_statement(dialect, owned), _row_params(publication, now))
        query_id = session.query_id
        session.execute(_MERGE_IDENTITIES.format(owned=owned), [publication.partition_key] * 2)
    session.execute(_UNSETTLE.format(owned=owned), [publication.partition_key])
    return query_id


def _replace_people(session: Session, publishable: str, publication: Publication, now: datetime) -> None:
    claimed = session.create_stage_as(
        "claimed", _CLAIMED.format(publishable=publishable), [publication.partition_key, now]
    )
    for statement in (_DELETE_PEOPLE, _INSERT_PEOPLE):
        session.execute(statement.format(claimed=claimed))
    session.drop_stage(claimed)


def _replace_rows(session: Session, dialect: Dialect, owned: str, publication: Publication, now: datetime) -> None:
    added = added_columns(session)
    kept = "".join(f", t.{name}" for name in added)
    replaced = session.create_stage_as("replaced", _REPLACED.format(owned=owned, added=kept))
    session.execute(_DELETE_ROWS.format(replaced=replaced))
    names = ", ".join([*MASTER.column_names, *added])
    session.execute(
        f"INSERT INTO {MASTER.full_name} ({names}) SELECT {_row_columns(dialect)}{kept} "
        f"FROM ({owned}) AS o LEFT JOIN {replaced} AS t ON t.record_id = o.record_id",
        _row_params(publication, now),
    )
    session.drop_stage(replaced)


def added_columns(session: Session) -> list[str]:
    """Columns of the master table that somebody added to ours, quoted."""
    found = session.found_columns().get((MASTER.schema, MASTER.name), {})
    return ['"' + name.replace('"', '""') + '"' for name in found if name not in MASTER.column_names]


def _row_columns(dialect: Dialect) -> str:
    """The master table's columns from a publishable lead ``o``; five of them are parameters."""
    given = {
        "job_id": "?",
        "job_name": "?",
        "table_id": "?",
        "table_title": "?",
        "processed_at": "?",
        "additional_data": dialect.to_json("o.additional_data"),
    }
    return ", ".join(f"{given.get(name, 'o.' + name)} AS {name}" for name in MASTER.column_names)


def _row_params(publication: Publication, now: datetime) -> list[object]:
    return [publication.run_id, publication.job_name, publication.partition_key, publication.title, now]


def _merge_statement(dialect: Dialect, owned: str) -> str:
    updates = ", ".join(f"{name} = s.{name}" for name in MASTER.column_names if name != "record_id")
    names = ", ".join(MASTER.column_names)
    values = ", ".join(f"s.{name}" for name in MASTER.column_names)
    return (
        f"MERGE INTO {MASTER.full_name} AS t USING (SELECT {_row_columns(dialect)} FROM ({owned}) AS o) AS s "
        f"ON t.record_id = s.record_id WHEN MATCHED THEN UPDATE SET {updates} "
        f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
    )
