"""The lease of a partition: one run at a time works on a script, also when it was started past the queue.

A run's steps are processes of their own and may hold the lease side by side. A lease ends
with its owner (owners.py), so a killed run keeps nobody out.
"""

from sqlalchemy import Connection, delete, insert, select

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.ledger.owners import Owner, bury, dead_owners
from leadscrub_pipeline.ledger.tables import partition_leases


def acquire(connection: Connection, partition_key: str, *, holder: str, owner: Owner, now: int) -> None:
    """Raises RefusedError naming the run that holds the partition."""
    owner.renew(connection, now)
    bury(connection, dead_owners(connection, now, us=owner), now)
    others = connection.execute(
        select(partition_leases.c.holder).where(
            partition_leases.c.partition_key == partition_key, partition_leases.c.holder != holder
        )
    ).scalars()
    other = next(iter(sorted(others)), None)
    if other is not None:
        raise RefusedError(
            f"Partition {partition_key!r} is being worked on by run {other}. Wait for it or cancel it, then run again."
        )
    let_go(connection, partition_key, owner=owner)
    connection.execute(insert(partition_leases).values(partition_key=partition_key, owner=owner.owner, holder=holder))


def let_go(connection: Connection, partition_key: str, *, owner: Owner) -> None:
    connection.execute(
        delete(partition_leases).where(
            partition_leases.c.partition_key == partition_key, partition_leases.c.owner == owner.owner
        )
    )
