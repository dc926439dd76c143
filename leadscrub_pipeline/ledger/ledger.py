"""The ledger: who was looked up, who is being looked up, and what it cost. It alone decides on money.

This is the door that assets and commands use; each decision behind it has its own module.
Asking the vendor does not belong here.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from sqlalchemy import Connection

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.domain.people import KEY_VERSION
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import RefusedError, UnavailableError
from leadscrub_pipeline.ledger import claims, misses, owners, partition_leases, stamping
from leadscrub_pipeline.ledger import summary as summaries
from leadscrub_pipeline.ledger.database import DATABASE_ERRORS, Database, database_errors, error_code
from leadscrub_pipeline.ledger.desk import LedgerDesk
from leadscrub_pipeline.ledger.evidence_book import EvidenceBook
from leadscrub_pipeline.ledger.owners import Owner, SweepCounts
from leadscrub_pipeline.ledger.sealing import Sealer
from leadscrub_pipeline.ledger.stamping import Kind
from leadscrub_pipeline.ledger.standing import Preview, Standing
from leadscrub_pipeline.ledger.summary import RunCounts, Summary
from leadscrub_pipeline.ledger.terms import LookupTerms
from leadscrub_pipeline.ledger.units import time_to_micros
from leadscrub_pipeline.ledger.upkeep import Upkeep
from leadscrub_pipeline.ledger.writer import RETRY_SECONDS, GroupWriter

_log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=60)
HEARTBEAT: Final = timedelta(seconds=15)


class Ledger(EvidenceBook):
    """One open ledger is one owner of the lookups it claims. Close it; it is a context manager.

    Its methods may be called from any thread, but not on an event loop: they wait for the
    database. There, use the writer.
    """

    def __init__(
        self,
        database: Database,
        *,
        kind: Kind,
        sealer: Sealer | None,
        clock: Callable[[], datetime],
        lease: timedelta,
        heartbeat: timedelta,
        retry_seconds: Sequence[float],
        read_only: bool,
    ) -> None:
        self.kind: Kind = kind
        self.lease = lease
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._heartbeat_seconds = heartbeat.total_seconds()
        self._retry_seconds = retry_seconds
        self._read_only = read_only
        self._owner = Owner(lease=lease // timedelta(microseconds=1))
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None
        self._writer: GroupWriter | None = None
        self._leases: Counter[tuple[str, str]] = Counter()
        self._closed = False

    @classmethod
    def open(
        cls,
        where: str | Path,
        *,
        kind: Kind,
        answer_keys: Sequence[str] = (),
        clock: Callable[[], datetime] = utc_now,
        lease: timedelta = LEASE,
        heartbeat: timedelta = HEARTBEAT,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        key_version: int = KEY_VERSION,
    ) -> Self:
        """Open the ledger at a path (SQLite) or URL (PostgreSQL); it is made when there is none.

        Args:
            where: a file, or ``postgresql+psycopg2://...``.
            kind: what the vendors of the caller are.
            answer_keys: Fernet keys, the newest first. A demo in a file makes its own.
            clock: aware UTC.
            lease: how long an owner that is not heard of keeps its claims.
            heartbeat: how often the lease is renewed.
            retry_seconds: the writer's waits before it tries a failed group again.
            key_version: of the person keys that a new ledger will hold.

        Raises:
            RefusedError: the ledger is of the other kind or a newer version, or its keys are missing or do not fit.
            UsageError: the URL or a key cannot be understood.
            UnavailableError: the database cannot be used.
        """
        database = Database(where, create=True)
        try:
            database.require_common_clock()
            now = time_to_micros(clock())
            found = stamping.read_stamp(database)
            if found is not None:
                stamping.check(found, kind=kind, sealer=None)
                found = stamping.upgrade(database, found, code_key_version=key_version, now=now)
            keys = stamping.find_keys(database, kind=kind, configured=answer_keys, is_made=found is not None)
            sealer = Sealer(keys)
            if found is None:
                found = stamping.make(database, kind=kind, sealer=sealer, code_key_version=key_version, now=now)
            stamping.check(found, kind=kind, sealer=sealer)
        except BaseException:
            database.close()
            raise
        return cls(
            database,
            kind=kind,
            sealer=sealer,
            clock=clock,
            lease=lease,
            heartbeat=heartbeat,
            retry_seconds=retry_seconds,
            read_only=False,
        )

    @classmethod
    def open_existing(cls, where: str | Path, *, clock: Callable[[], datetime] = utc_now) -> Self | None:
        """Open for reading: ``peek``, ``summary`` and the like. None when no ledger was made here yet.

        It needs neither keys nor the right to write, and reads what an earlier release made, too.
        """
        if not _is_url(where) and not Path(where).exists():
            return None
        database = Database(where, read_only=True)
        try:
            found = stamping.read_stamp(database)
            if found is None:
                database.close()
                return None
            kind = stamping.check(found, kind=None, sealer=None)
            stamping.stand_in(database)
        except BaseException:
            database.close()
            raise
        return cls(
            database,
            kind=kind,
            sealer=None,
            clock=clock,
            lease=LEASE,
            heartbeat=HEARTBEAT,
            retry_seconds=(),
            read_only=True,
        )

    # --- lookups -----------------------------------------------------------------------

    def claim(self, keys: Sequence[str], terms: LookupTerms) -> dict[str, Standing]:
        """Where each person stands; who is ``Claimed`` is ours to ask about.

        Repeated keys are asked about once. Under a cap the first keys are served.
        """
        standings: dict[str, Standing] = {}
        sealer = self._require_sealer()
        self._beat()
        for chunk in _chunks(keys):
            with self._writing("claiming lookups") as connection:
                standings |= claims.claim(
                    connection, chunk, terms, owner=self._owner, now=self._now(), unseal=sealer.open
                )
                failpoints.reached("claim.before_commit")
            failpoints.reached("claim.after_commit")
        return standings

    def peek(self, keys: Sequence[str], terms: LookupTerms) -> dict[str, Preview]:
        """What a claim would find, caps aside. Writes nothing; ``Cached.answer`` is left out."""
        found: dict[str, Preview] = {}
        for chunk in _chunks(keys):
            with self._reading() as connection:
                found |= claims.peek(connection, chunk, terms, owner=self._owner, now=self._now())
        return found

    def release(self, lookup_ids: Sequence[str]) -> int:
        """Give up claims that were not sent; their reservation returns. Returns how many there were."""
        count = 0
        for chunk in _chunks(lookup_ids):
            with self._writing("releasing claims") as connection:
                count += claims.release(connection, chunk, owner=self._owner)
                failpoints.reached("release.before_commit")
            failpoints.reached("release.after_commit")
        return count

    def writer(self) -> GroupWriter:
        """The one writer that marks and settles lookups; it starts when first asked for."""
        sealer = self._require_sealer()
        with self._guard:
            if self._closed:
                raise UnavailableError("The ledger is closed.")
            if self._writer is None or self._writer.is_closed:
                self._writer = GroupWriter(
                    self._database,
                    owner=self._owner,
                    sealer=sealer,
                    now=self._now,
                    retry_seconds=self._retry_seconds,
                )
            return self._writer

    def sweep(self) -> SweepCounts:
        """Clear up after owners that died: claims go, sent requests become unknown."""
        with self._writing("sweeping") as connection:
            return self._bury_dead(connection)

    # --- misses in a row ---------------------------------------------------------------

    def recent_outcomes(self, terms: LookupTerms, *, limit: int = 100) -> list[Literal["hit", "miss"]]:
        """The newest outcomes at the terms' endpoint, of all runs, without those an operator decided about."""
        with self._reading() as connection:
            return misses.recent_outcomes(connection, provider=terms.provider, endpoint=terms.endpoint, limit=limit)

    def unmarked_misses(self, terms: LookupTerms, *, limit: int = 100) -> int:
        """How many misses there are among those outcomes that nobody has marked suspect."""
        with self._reading() as connection:
            return misses.unmarked(connection, provider=terms.provider, endpoint=terms.endpoint, limit=limit)

    def suspect_misses(self, terms: LookupTerms, *, limit: int = 100) -> int:
        """Mark the misses among those outcomes suspect: they are held, and serve nobody, until released."""
        with self._writing("marking misses") as connection:
            count = misses.suspect(connection, provider=terms.provider, endpoint=terms.endpoint, limit=limit)
            failpoints.reached("suspect.before_commit")
        failpoints.reached("suspect.after_commit")
        return count

    def release_suspects(self, *, provider: str, endpoint: str, believe: bool) -> int:
        """Believe suspect misses, or discard them so that the people are asked about again. Returns how many."""
        with self._writing("releasing misses") as connection:
            return misses.release_suspects(connection, provider=provider, endpoint=endpoint, believe=believe)

    # --- what an operator does ----------------------------------------------------------

    @property
    def desk(self) -> LedgerDesk:
        """Pausing, unknown outcomes, the vendor's invoice, backups."""
        return LedgerDesk(
            self._database, self._sealer, self._owner, kind=self.kind, writing=self._writing, now=self._now
        )

    @property
    def upkeep(self) -> Upkeep:
        """Adoption, rebuild, rekey, and what is held about one person."""
        return Upkeep(self._database, self._sealer, self._owner, writing=self._writing, now=self._now)

    # --- partitions and sums -----------------------------------------------------------

    @contextmanager
    def partition_lease(self, partition_key: str, *, holder: str) -> Iterator[None]:
        """Keep the partition for run ``holder``; its other steps and nested uses may hold it, too.

        Raises:
            RefusedError: another live run holds it; the message names that run.
        """
        self._beat()
        with self._guard:
            if self._leases[partition_key, holder] == 0:
                with self._writing("taking a partition's lease") as connection:
                    partition_leases.acquire(
                        connection, partition_key, holder=holder, owner=self._owner, now=self._now()
                    )
                    failpoints.reached("lease.before_commit")
                failpoints.reached("lease.after_commit")
            self._leases[partition_key, holder] += 1
        try:
            yield
        finally:
            with self._guard:
                self._leases[partition_key, holder] -= 1
                if self._leases[partition_key, holder] == 0:
                    self._let_go(partition_key)

    def summary(self, *, since: datetime | None = None, until: datetime | None = None) -> Summary:
        """Spend by script, day and outcome of lookups claimed from ``since`` to before ``until``."""
        with self._reading() as connection:
            return summaries.summary(connection, since=since, until=until)

    def lookups_of_run(self, run_id: str) -> RunCounts:
        return self.lookups_of_runs([run_id])

    def lookups_of_runs(self, run_ids: Sequence[str]) -> RunCounts:
        """Of at most some ten thousand runs together."""
        with self._reading() as connection:
            return summaries.lookups_of_runs(connection, run_ids)

    def lookups_of_script(self, partition_key: str) -> RunCounts:
        with self._reading() as connection:
            return summaries.lookups_of_script(connection, partition_key)

    # --- opening and closing -----------------------------------------------------------

    def close(self) -> None:
        """Commit what waits, release what was not sent, own up to what was sent and not settled."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            writer = self._writer
        if writer is not None:
            writer.close()
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
        try:
            if self._owner.was_registered:
                with self._database.writing() as connection:
                    self._owner.leave(connection, self._now())
                    failpoints.reached("sign_off.before_commit")
                failpoints.reached("sign_off.after_commit")
        except DATABASE_ERRORS as error:
            _log.warning("ledger: could not sign off (%s); a sweep will do it", error_code(error))
        finally:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _now(self) -> int:
        return time_to_micros(self._clock())

    @contextmanager
    def _writing(self, doing: str) -> Iterator[Connection]:
        if self._read_only:
            raise RefusedError("The ledger was opened for reading only.")
        try:
            with database_errors(doing), self._database.writing() as connection:
                yield connection
        except BaseException:
            self._owner.forget_renewal()
            raise

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with database_errors("reading"), self._database.reading() as connection:
            yield connection

    def _bury_dead(self, connection: Connection) -> SweepCounts:
        now = self._now()
        return owners.bury(connection, owners.dead_owners(connection, now, us=self._owner), now)

    def _let_go(self, partition_key: str) -> None:
        try:
            with self._database.writing() as connection:
                partition_leases.let_go(connection, partition_key, owner=self._owner)
                failpoints.reached("lease_end.before_commit")
            failpoints.reached("lease_end.after_commit")
        except DATABASE_ERRORS as error:  # what ended the work matters more; the lease ends with its owner
            _log.warning("ledger: could not end the lease of a partition (%s)", error_code(error))

    def _require_sealer(self) -> Sealer:
        if self._sealer is None:
            raise RefusedError("The ledger was opened for reading only.")
        return self._sealer

    def _beat(self) -> None:
        """Start the heartbeat, once there is something to keep alive."""
        with self._guard:
            if self._closed:
                raise UnavailableError("The ledger is closed.")
            if self._heart is None:
                self._heart = threading.Thread(target=self._keep_alive, name="ledger-heartbeat", daemon=True)
                self._heart.start()

    def _keep_alive(self) -> None:
        while not self._stop.wait(self._heartbeat_seconds):
            try:
                with self._database.writing() as connection:
                    self._owner.renew(connection, self._now())
            except DATABASE_ERRORS as error:
                _log.warning("ledger: heartbeat failed (%s); trying again", error_code(error))


def _is_url(where: str | Path) -> bool:
    return isinstance(where, str) and "://" in where


def _chunks(keys: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(dict.fromkeys(keys))
    while chunk := list(islice(rest, claims.CHUNK)):
        yield chunk
