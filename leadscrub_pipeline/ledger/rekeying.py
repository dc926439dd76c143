"""Carrying people over to the keys of a new version, page by page; the same page again changes nothing.

While it goes on, no version of the program may claim. Finding out what a person's keys are
takes the person, whom the ledger does not know: that does not belong here.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, distinct, func, insert, select, update

from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.ledger import tables
from leadscrub_pipeline.ledger.controls import KEY_VERSION, UNDER_WAY, key_version, set_control
from leadscrub_pipeline.ledger.owners import Owner, bury, dead_owners
from leadscrub_pipeline.ledger.tables import lookups, tombstones

Keys = Mapping[str, str]
"""Old key to new key."""


class Moved(NamedTuple):
    people: int
    """Old keys of the page that the ledger knew."""
    merged: int
    """Old keys that joined another person's."""


def begin(connection: Connection, *, version: int, owner: Owner, now: int) -> bool:
    """Bar all claims until the end; False when the ledger has this version already.

    Raises:
        UnavailableError: a run is asking about people right now.
    """
    if key_version(connection) == version:
        return False
    require_nothing_in_flight(connection, owner=owner, now=now)
    set_control(connection, KEY_VERSION, str(UNDER_WAY), now=now)
    return True


def end(connection: Connection, *, version: int, now: int) -> None:
    set_control(connection, KEY_VERSION, str(version), now=now)


def require_nothing_in_flight(connection: Connection, *, owner: Owner, now: int) -> None:
    bury(connection, dead_owners(connection, now, us=owner), now)
    in_flight = select(lookups.c.lookup_id).where(tables.IS_IN_FLIGHT).limit(1)
    if connection.execute(in_flight).first() is not None:
        raise UnavailableError(
            "A run is asking about people right now. Wait until it has ended (or stop it), then start this again."
        )


def move(connection: Connection, keys: Keys, *, version: int, now: int) -> Moved:
    """Move what the ledger has under the old keys, at most a page of them, to the new ones."""
    rows = _rows(connection, keys)
    known, moved = _moved(rows, keys, version)
    _move_tombstones(connection, keys, version=version)
    if not known:
        return moved
    _keep_one_current(connection, rows, keys, now=now)
    connection.execute(
        _MOVE,
        [
            {"id": row.lookup_id, "new_key": keys[row.person_key], "new_version": version}
            for row in rows
            if row.person_key in known
        ],
    )
    return moved


def would_move(connection: Connection, keys: Keys, *, version: int) -> set[str]:
    """The old keys that ``move`` would move."""
    return _moved(_rows(connection, keys), keys, version)[0]


def people_left(connection: Connection, *, version: int) -> int:
    """People who are still under a key of another version."""
    count = select(func.count(distinct(lookups.c.person_key))).where(lookups.c.key_version != version)
    erased = select(func.count()).where(
        tombstones.c.key_version != version, tombstones.c.person_key.not_in(select(lookups.c.person_key))
    )
    return int(connection.execute(count).scalar_one()) + int(connection.execute(erased).scalar_one())


_MOVE: Final = (
    update(lookups)
    .where(lookups.c.lookup_id == bindparam("id"))
    .values(person_key=bindparam("new_key"), key_version=bindparam("new_version"))
)


def _moved(rows: list[Any], keys: Keys, version: int) -> tuple[set[str], Moved]:
    """The old keys that the ledger knows, and the counts."""
    known = {row.person_key for row in rows if row.person_key in keys and row.key_version != version}
    there: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        there[keys.get(row.person_key, row.person_key)].add(row.person_key)
    return known, Moved(len(known), sum(len(before) - 1 for before in there.values() if before & known))


def _rows(connection: Connection, keys: Keys) -> list[Any]:
    wanted = sorted({*keys, *keys.values()})
    return list(
        connection.execute(
            select(
                lookups.c.lookup_id,
                lookups.c.person_key,
                lookups.c.key_version,
                lookups.c.provider,
                lookups.c.endpoint,
                lookups.c.scope,
                lookups.c.state,
                lookups.c.suspicion,
                lookups.c.is_current,
                lookups.c.settled_at,
                lookups.c.expires_at,
            ).where(lookups.c.person_key.in_(wanted))
        )
    )


def _keep_one_current(connection: Connection, rows: list[Any], keys: Keys, *, now: int) -> None:
    """Of the current requests about what is now one person, the newest live answer stays current."""
    current: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
    for row in rows:
        if row.is_current:
            person = keys.get(row.person_key, row.person_key)
            current[person, row.provider, row.endpoint, row.scope].append(row)
    superseded = [
        row.lookup_id
        for several in current.values()
        if len(several) > 1
        for row in sorted(several, key=lambda row: _worth(row, now))[:-1]
    ]
    if superseded:
        connection.execute(update(lookups).where(lookups.c.lookup_id.in_(superseded)).values(is_current=False))


def _worth(row: Any, now: int) -> tuple[bool, int, str]:  # noqa: ANN401 - a row
    is_live = row.state in (tables.HIT, tables.MISS) and row.suspicion != tables.SUSPECT and row.expires_at > now
    return is_live, row.settled_at or 0, row.lookup_id


def _move_tombstones(connection: Connection, keys: Keys, *, version: int) -> None:
    found = connection.execute(select(tombstones).where(tombstones.c.person_key.in_([*keys, *keys.values()]))).all()
    old = [row for row in found if row.person_key in keys and row.key_version != version]
    if not old:
        return
    there = {row.person_key for row in found if row.key_version == version}
    new = {keys[row.person_key]: row.erased_at for row in old if keys[row.person_key] not in there}
    connection.execute(delete(tombstones).where(tombstones.c.person_key.in_([row.person_key for row in old])))
    if new:
        connection.execute(
            insert(tombstones),
            [{"person_key": key, "key_version": version, "erased_at": erased_at} for key, erased_at in new.items()],
        )
