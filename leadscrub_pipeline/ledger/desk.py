"""What an operator does with a ledger: pause it, decide unknown outcomes, check the vendor's invoice, back it up.

Each task has its own module; this is the door to them, as ``Ledger.desk``. What runs do stands
in the ledger itself.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from leadscrub_pipeline.errors import RefusedError, UsageError
from leadscrub_pipeline.ledger import backups, controls, reconciliation, restoring, stamping, unknowns
from leadscrub_pipeline.ledger.backups import Backup
from leadscrub_pipeline.ledger.controls import Pause
from leadscrub_pipeline.ledger.database import Database, database_errors
from leadscrub_pipeline.ledger.invoices import Invoice
from leadscrub_pipeline.ledger.owners import Owner, bury, dead_owners
from leadscrub_pipeline.ledger.reconciliation import Reconciliation
from leadscrub_pipeline.ledger.restoring import Restored
from leadscrub_pipeline.ledger.sealing import Sealer
from leadscrub_pipeline.ledger.units import micros_to_time
from leadscrub_pipeline.ledger.unknowns import Repeats, Unknown, Wanted


class LedgerDesk:
    def __init__(
        self,
        database: Database,
        sealer: Sealer | None,
        owner: Owner,
        *,
        kind: stamping.Kind,
        writing: Callable[[str], AbstractContextManager[Connection]],
        now: Callable[[], int],
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._owner = owner
        self._kind = kind
        self._writing = writing
        self._now = now

    def require_writable(self) -> None:
        """Take the writers' lock and commit a change that changes nothing.

        Raises:
            UnavailableError: the database cannot be written, or the lock was held all the time.
        """
        with self._writing("looking whether it can be written") as connection:
            stamping.touch(connection)

    # --- pausing -----------------------------------------------------------------------

    def pause(self, reason: str | None = None) -> Pause:
        """Grant no new lookup to any run, from the next claim on; what is in flight goes on."""
        now = self._now()
        with self._writing("pausing") as connection:
            controls.set_control(connection, controls.PAUSED, reason or "", now=now)
        return Pause(micros_to_time(now), reason or None)

    def resume(self) -> bool:
        """Grant lookups again; whether they were paused."""
        with self._writing("resuming") as connection:
            return controls.end_pause(connection)

    def paused(self) -> Pause | None:
        with database_errors("reading"), self._database.reading() as connection:
            return controls.read_pause(connection)

    # --- unknown outcomes --------------------------------------------------------------

    def unknowns(self, wanted: Wanted, repeats: Repeats) -> list[Unknown]:
        """Requests that may have been billed and that nobody has decided, the oldest first."""
        with database_errors("reading"), self._database.reading() as connection:
            now = self._now()
            dead = dead_owners(connection, now, us=self._owner)
            return unknowns.unknowns(connection, wanted, repeats, dead_owners=dead, now=now)

    def resolve(self, lookup_ids: Sequence[str], *, billed: bool) -> int:
        """Settle by an operator's word whether these were billed; how many they were.

        Raises:
            UsageError: one of them is no request of unknown outcome; nothing is decided then.
        """
        with self._sweeping("resolving unknown outcomes") as connection:
            return unknowns.resolve(connection, lookup_ids, billed=billed, now=self._now())

    def resolve_before(self, moment: datetime, *, billed: bool) -> int:
        """Settle all that were sent before this time and that nobody has decided yet; how many they were."""
        with self._sweeping("resolving unknown outcomes") as connection:
            return unknowns.resolve_before(connection, moment, billed=billed, now=self._now())

    # --- the vendor's invoice ----------------------------------------------------------

    def reconcile(
        self,
        invoice: Invoice,
        *,
        provider: str,
        since: datetime | None = None,
        until: datetime | None = None,
        misses_are_free: bool = False,
    ) -> Reconciliation:
        """Compare an invoice with the ledger; changes nothing. The caller closes what it returns."""
        with database_errors("reading"), self._database.snapshot() as connection:
            return reconciliation.reconcile(
                connection,
                invoice,
                provider=provider,
                since=since,
                until=until,
                misses_are_free=misses_are_free,
                dead_owners=dead_owners(connection, self._now(), us=self._owner),
            )

    # --- backups -----------------------------------------------------------------------

    def back_up(self, path: Path, *, overwrite: bool = False) -> Backup:
        """Copy the ledger as it is at this moment into a SQLite file; runs may go on meanwhile."""
        if self._database.path is not None and path.resolve() == self._database.path.resolve():
            raise UsageError(f"{path} is the ledger itself. Name another file for its backup.")
        with database_errors("copying it"), self._database.snapshot() as connection:
            return backups.back_up(connection, path, overwrite=overwrite, now=self._now())

    def restore(self, path: Path, *, merge: bool = False) -> Restored:
        """Bring a backup in, all of it or nothing.

        Raises:
            UsageError: there is no such file, or no ledger in it.
            RefusedError: it is of the other kind, its keys are missing, it is no backup of this ledger, or this
                ledger has lookups and ``merge`` is not set.
        """
        if not path.is_file():
            raise UsageError(f"There is no file {path}.")
        source = Database(path, read_only=True)
        try:
            found = stamping.read_stamp(source)
            if found is None:
                raise UsageError(f"{path} holds no ledger.")
            try:
                stamping.check(found, kind=self._kind, sealer=self._sealer)
            except RefusedError as error:
                raise RefusedError(f"The backup does not fit this ledger. {error}") from None
            stamping.stand_in(source)
            with self._writing("restoring") as connection, source.snapshot() as theirs:
                return restoring.restore(connection, theirs, merge=merge, now=self._now())
        finally:
            source.close()

    @contextmanager
    def _sweeping(self, doing: str) -> Iterator[Connection]:
        """A writing transaction in which the requests of dead owners are of unknown outcome already."""
        with self._writing(doing) as connection:
            now = self._now()
            bury(connection, dead_owners(connection, now, us=self._owner), now)
            yield connection
