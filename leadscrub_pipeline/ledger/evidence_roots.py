"""Roots of evidence: which chains were begun, and the seals set on them, each holding the one before.

A chain's rows stand in the warehouse; here is what says how many there are and the hash of the
last. Reading the rows and comparing does not belong here.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from leadscrub_pipeline.domain.chains import beginning
from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.ledger.tables import chains, partition_leases, roots
from leadscrub_pipeline.ledger.units import micros_to_time

NO_SEAL: Final = "0" * 64
"""What the first seal holds in place of one before it."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The evidence of one run and asset, as far as it is sealed. Times are microseconds since 1970, UTC."""

    run_id: str
    asset: str
    partition_key: str
    opened_micros: int
    row_count: int
    root: str
    is_open: bool
    """Rows may stand behind the sealed ones: its step is at work, or died."""
    pruned_micros: int | None

    @property
    def opened_at(self) -> datetime:
        return micros_to_time(self.opened_micros)

    @property
    def pruned_at(self) -> datetime | None:
        return None if self.pruned_micros is None else micros_to_time(self.pruned_micros)


@dataclass(frozen=True, slots=True)
class Seal:
    """One entry among the roots."""

    entry: int
    run_id: str
    asset: str
    row_count: int
    root: str
    sealed_micros: int
    previous: str
    entry_hash: str

    @property
    def sealed_at(self) -> datetime:
        return micros_to_time(self.sealed_micros)

    @property
    def is_intact(self) -> bool:
        """Whether the entry's hash is that of its own values."""
        return self.entry_hash == _entry_hash(
            self.entry, self.run_id, self.asset, self.row_count, self.root, self.sealed_micros, self.previous
        )


def open_chain(connection: Connection, run_id: str, asset: str, partition_key: str, *, now: int) -> Chain:
    """Say that rows are about to be written, before the first of them; a chain that is there goes on."""
    ours = (chains.c.run_id == run_id, chains.c.asset == asset)
    if connection.execute(update(chains).where(*ours).values(is_open=True)).rowcount == 0:
        connection.execute(
            insert(chains).values(
                run_id=run_id,
                asset=asset,
                partition_key=partition_key,
                opened_at=now,
                row_count=0,
                root=beginning(run_id, asset),
                is_open=True,
            )
        )
    return _chain(connection.execute(select(chains).where(*ours)).one())


def find_chain(connection: Connection, run_id: str, asset: str) -> Chain | None:
    found = connection.execute(select(chains).where(chains.c.run_id == run_id, chains.c.asset == asset)).one_or_none()
    return None if found is None else _chain(found)


def seal(connection: Connection, run_id: str, asset: str, row_count: int, root: str, *, now: int) -> Seal | None:
    """Set down the root of so many rows and close the chain; what is sealed already is no new entry.

    Returns:
        The chain's last entry; None when it never had a row.

    Raises:
        FailedError: the chain was never opened, or more rows or another root are sealed.
    """
    chain = find_chain(connection, run_id, asset)
    if chain is None:
        raise FailedError(
            f"The evidence of {asset} in run {run_id} has no chain in the ledger, so it cannot be sealed."
        )
    if row_count < chain.row_count or (row_count == chain.row_count and root != chain.root):
        raise FailedError(
            f"The evidence of {asset} in run {run_id} is not what the ledger sealed: {chain.row_count:,} rows are "
            f"sealed and {row_count:,} were found, or their last hash differs. Run leadscrub evidence verify."
        )
    ours = (chains.c.run_id == run_id, chains.c.asset == asset)
    connection.execute(update(chains).where(*ours).values(row_count=row_count, root=root, is_open=False))
    if row_count == chain.row_count:
        return _last_seal(connection, run_id, asset)
    before = connection.execute(select(roots).order_by(roots.c.entry.desc()).limit(1)).one_or_none()
    entry, previous = (1, NO_SEAL) if before is None else (before.entry + 1, before.entry_hash)
    made = Seal(
        entry=entry,
        run_id=run_id,
        asset=asset,
        row_count=row_count,
        root=root,
        sealed_micros=now,
        previous=previous,
        entry_hash=_entry_hash(entry, run_id, asset, row_count, root, now, previous),
    )
    connection.execute(
        insert(roots).values(
            entry=made.entry,
            run_id=made.run_id,
            asset=made.asset,
            row_count=made.row_count,
            root=made.root,
            sealed_at=made.sealed_micros,
            previous=made.previous,
            entry_hash=made.entry_hash,
        )
    )
    return made


def abandoned(connection: Connection) -> list[Chain]:
    """Open chains whose run works on no partition any more: it ended without sealing what it wrote."""
    at_work = select(partition_leases.c.holder)
    found = connection.execute(
        select(chains)
        .where(chains.c.is_open, chains.c.pruned_at.is_(None), chains.c.run_id.not_in(at_work))
        .order_by(chains.c.opened_at)
    )
    return [_chain(row) for row in found]


def all_chains(connection: Connection) -> list[Chain]:
    """Every chain, the oldest first."""
    found = connection.execute(select(chains).order_by(chains.c.opened_at, chains.c.run_id, chains.c.asset))
    return [_chain(row) for row in found]


def all_seals(connection: Connection) -> list[Seal]:
    """Every entry in its order."""
    return [Seal(*row) for row in connection.execute(select(roots).order_by(roots.c.entry))]


def _last_seal(connection: Connection, run_id: str, asset: str) -> Seal | None:
    found = connection.execute(
        select(roots).where(
            roots.c.entry
            == select(func.max(roots.c.entry)).where(roots.c.run_id == run_id, roots.c.asset == asset).scalar_subquery()
        )
    ).one_or_none()
    return None if found is None else Seal(*found)


def _chain(row: Row[Any]) -> Chain:
    return Chain(
        run_id=row.run_id,
        asset=row.asset,
        partition_key=row.partition_key,
        opened_micros=row.opened_at,
        row_count=row.row_count,
        root=row.root,
        is_open=row.is_open,
        pruned_micros=row.pruned_at,
    )


def _entry_hash(entry: int, run_id: str, asset: str, row_count: int, root: str, sealed_at: int, previous: str) -> str:
    text = f"{entry}|{run_id}|{asset}|{row_count}|{root}|{sealed_at}|{previous}"
    return sha256(text.encode()).hexdigest()
