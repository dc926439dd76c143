"""The answer that counts for each person, as the warehouse's cache of people shows it: what a rebuild reads.

Answers that are held as suspect, or were discarded, count for nobody. Their contents stay sealed.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, or_, select

from leadscrub_pipeline.ledger import tables
from leadscrub_pipeline.ledger.tables import lookups, tombstones

PAGE_PEOPLE: Final = 5_000


class Answer(NamedTuple):
    """Times in microseconds."""

    person_key: str
    key_version: int
    outcome: str
    looked_up_at: int
    expires_at: int
    since: int
    """When the first answer came that had not expired when the next one came: a publication from then on counts."""
    is_adopted: bool


class Tombstone(NamedTuple):
    person_key: str
    key_version: int
    erased_at: int


_COUNTS: Final = (
    tables.IS_ANSWERED,
    or_(lookups.c.suspicion.is_(None), lookups.c.suspicion == tables.BELIEVED),
)


def answers_page(connection: Connection, *, after: str) -> list[Answer]:
    """The newest answer of each of the next people in the order of their keys."""
    keys = list(
        connection.execute(
            select(lookups.c.person_key)
            .where(lookups.c.person_key > after, *_COUNTS)
            .group_by(lookups.c.person_key)
            .order_by(lookups.c.person_key)
            .limit(PAGE_PEOPLE)
        ).scalars()
    )
    if not keys:
        return []
    rows = connection.execute(
        select(
            lookups.c.person_key,
            lookups.c.key_version,
            lookups.c.state,
            lookups.c.provider,
            lookups.c.settled_at,
            lookups.c.expires_at,
        )
        .where(lookups.c.person_key >= keys[0], lookups.c.person_key <= keys[-1], *_COUNTS)
        .order_by(lookups.c.settled_at, lookups.c.lookup_id)
    )
    people: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        people[row.person_key].append(row)
    return [_newest(people[key]) for key in keys]


def _newest(rows: Sequence[Any]) -> Answer:
    """Of all answers about one person, the oldest first."""
    newest = rows[-1]
    since = newest.settled_at
    for earlier in reversed(rows[:-1]):
        if earlier.expires_at <= since:
            break
        since = earlier.settled_at
    return Answer(
        newest.person_key,
        newest.key_version,
        newest.state,
        newest.settled_at,
        newest.expires_at,
        since,
        newest.provider == tables.ADOPTED,
    )


def tombstones_page(connection: Connection, *, after: str) -> list[Tombstone]:
    rows = connection.execute(
        select(tombstones).where(tombstones.c.person_key > after).order_by(tombstones.c.person_key).limit(PAGE_PEOPLE)
    )
    return [Tombstone(row.person_key, row.key_version, row.erased_at) for row in rows]
