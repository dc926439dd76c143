"""Owners: the processes that have lookups in flight, their leases, and what becomes of the lookups of a dead one.

An owner is one open ledger. It is alive while its lease runs and, seen from its own host,
while its process exists. The lease of a partition is another matter (partition_leases.py).
"""

import os
import platform
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import psutil
from sqlalchemy import Connection, Row, delete, insert, select, update

from leadscrub_pipeline.ledger import budgets, tables
from leadscrub_pipeline.ledger.tables import lookups, owners, partition_leases

OWNER_DIED: Final = "owner_died"


class SweepCounts(NamedTuple):
    released: int
    """Claims that were never sent: gone, and their reservation returned."""
    unknown: int
    """Requests that were sent and never settled."""


class Owner:
    """This process's entry among the owners; times in microseconds."""

    def __init__(self, *, lease: int) -> None:
        self.owner = uuid4().hex
        self.was_registered = False
        self._lease = lease
        self._renewed_at: int | None = None

    def renew(self, connection: Connection, now: int) -> None:
        """Extend the lease, or take a new one when there is none or a sweep took it."""
        lease_until = now + self._lease
        renewed = connection.execute(update(owners).where(owners.c.owner == self.owner).values(lease_until=lease_until))
        if renewed.rowcount == 0:
            connection.execute(
                insert(owners).values(owner=self.owner, host=this_host(), pid=os.getpid(), lease_until=lease_until)
            )
        self._renewed_at = now
        self.was_registered = True

    def renew_when_due(self, connection: Connection, now: int) -> None:
        if self._renewed_at is None or not 0 <= now - self._renewed_at < self._lease // 4:
            self.renew(connection, now)

    def forget_renewal(self) -> None:
        """The transaction of a renewal was rolled back, perhaps; the next one renews again."""
        self._renewed_at = None

    def leave(self, connection: Connection, now: int) -> SweepCounts:
        """Release what was not sent, own up to what was, and go."""
        return bury(connection, [self.owner], now)


def dead_owners(connection: Connection, now: int, *, us: Owner) -> frozenset[str]:
    """Other owners whose lease ran out or whose process is gone, and names in flight that are no owner's."""
    known = connection.execute(select(owners)).all()
    alive = {row.owner for row in known if _is_alive(row, now)}
    in_flight = connection.execute(select(lookups.c.owner).where(tables.IS_IN_FLIGHT).distinct()).scalars()
    return frozenset({row.owner for row in known}.union(in_flight) - alive - {us.owner})


def bury(connection: Connection, dead: Collection[str], now: int) -> SweepCounts:
    """Settle the estate of dead owners: claims go, sent requests become unknown, leases end."""
    if not dead:
        return SweepCounts(0, 0)
    theirs = lookups.c.owner.in_(sorted(dead))
    claimed = connection.execute(
        delete(lookups)
        .where(theirs, tables.IS_IN_FLIGHT, lookups.c.state == tables.CLAIMED)
        .returning(lookups.c.run_id, lookups.c.claimed_at, lookups.c.price_micros)
    ).all()
    budgets.give_back(connection, claimed)
    unknown = connection.execute(
        update(lookups)
        .where(theirs, tables.IS_IN_FLIGHT, lookups.c.state == tables.SENT)
        .values(state=tables.UNKNOWN, settled_at=now, reason=OWNER_DIED)
    ).rowcount
    connection.execute(delete(partition_leases).where(partition_leases.c.owner.in_(sorted(dead))))
    connection.execute(delete(owners).where(owners.c.owner.in_(sorted(dead))))
    return SweepCounts(len(claimed), unknown)


def _is_alive(row: Row[Any], now: int) -> bool:
    return bool(row.lease_until > now) and (row.host != this_host() or _process_exists(row.pid))


def _process_exists(pid: int) -> bool:
    """False only when it is certain: a number taken over by another process waits for the lease."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


@lru_cache(maxsize=1)
def this_host() -> str:
    """A name under which process numbers mean the same thing: containers may share a host name but not this."""
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - not a path but pid:[4026531836]
    except OSError:
        parts.append(str(int(psutil.boot_time()) // 60))
    return " ".join(parts)
