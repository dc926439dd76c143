"""The group-commit writer: one thread that gathers waiting marks and settlements into few transactions.

Event loops await it, so that the database never runs on one. Claims are made elsewhere, in
transactions of their own (claims.py).
"""

import asyncio
import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import Connection, bindparam, exists, select, update

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.errors import FailedError, LeadscrubError, UnavailableError
from leadscrub_pipeline.ledger import budgets, tables
from leadscrub_pipeline.ledger.database import DATABASE_ERRORS, Database, error_code
from leadscrub_pipeline.ledger.owners import Owner
from leadscrub_pipeline.ledger.sealing import Sealer
from leadscrub_pipeline.ledger.tables import lookups, tombstones
from leadscrub_pipeline.ledger.terms import Settlement
from leadscrub_pipeline.ledger.units import MICROS_PER_DAY, micros_to_time, time_to_micros

_log = logging.getLogger(__name__)

LINGER_SECONDS: Final = 0.050
"""How long a group waits for company while many write: a transaction costs a millisecond of CPU and more,
whatever its size. With 200 workers at 300 ms, enrichment took 9 % longer when groups waited for 20 ms."""
MANY_ROWS: Final = 8
"""So many in the last group are many; who writes nearly alone waits for nobody."""
COMPANY_ROWS: Final = 100
"""So many that wait already are company enough."""
GROUP_ROWS: Final = 500
RETRY_SECONDS: Final = (0.1, 0.5, 2.0)
"""Waits before a failed group is tried again: an answer that is paid for is worth some patience."""


class Settled(NamedTuple):
    """The times a settled request counts by; only a hit or a miss expires. A mark has none."""

    settled_at: datetime | None = None
    expires_at: datetime | None = None


NOT_SETTLED: Final = Settled()


@dataclass(slots=True, eq=False)
class _Write:
    """One waiting write; a settlement, or a mark when there is none. ``lookup_id`` is empty for a flush."""

    lookup_id: str
    settlement: Settlement | None
    done: "asyncio.Future[Settled] | Future[Settled]"
    loop: asyncio.AbstractEventLoop | None
    sealed: bytes | None = None
    times: "Settled" = NOT_SETTLED
    error: LeadscrubError | None = None


class GroupWriter:
    """Writes for one owner. Start it by ``Ledger.writer``; close it, or use it as a context manager."""

    def __init__(
        self,
        database: Database,
        *,
        owner: Owner,
        sealer: Sealer,
        now: Callable[[], int],
        retry_seconds: Sequence[float] = RETRY_SECONDS,
    ) -> None:
        self._database = database
        self._owner = owner
        self._sealer = sealer
        self._now = now
        self._retry_seconds = tuple(retry_seconds)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        self._last_rows = 0
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    async def mark_sent(self, lookup_id: str) -> None:
        """Commit that the request is about to leave. Only after this returns may it leave.

        Raises:
            FailedError: the claim is no longer ours; the request must not leave.
            UnavailableError: it could not be committed; the request must not leave.
        """
        await self._put(lookup_id, None)

    async def settle(self, lookup_id: str, settlement: Settlement) -> "Settled":
        """Commit how the request ended, before anything else happens to its answer; return its times.

        A late answer settles its row, too, after a sweep made it unknown. A claim that was
        never sent can be settled as failed.

        Raises:
            FailedError: there is no such request in flight, or it is settled already.
            UnavailableError: it could not be committed; the request stays sent and becomes unknown.
        """
        return await self._put(lookup_id, settlement)

    def flush(self) -> None:
        """Return when everything handed in before is committed or has failed."""
        done: Future[Settled] = Future()
        self._enqueue(_Write("", None, done, None))
        done.result()

    def close(self) -> None:
        """Commit what waits, then stop. Later writes raise UnavailableError."""
        with self._door:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _put(self, lookup_id: str, settlement: Settlement | None) -> "Settled":
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Settled] = loop.create_future()
        self._enqueue(_Write(lookup_id, settlement, done, loop))
        return await done

    def _enqueue(self, write: _Write) -> None:
        with self._door:
            if self._closed:
                raise UnavailableError("The ledger's writer is closed; the run is ending.")
            self._queue.put(write)

    def _run(self) -> None:
        more = True
        while more:
            group, more = self._next_group()
            if group:
                self._commit_or_fail(group)
                _resolve(group)

    def _next_group(self) -> tuple[list[_Write], bool]:
        first = self._queue.get()
        if first is None:
            return [], False
        group = [first]
        if self._last_rows >= MANY_ROWS and self._queue.qsize() < COMPANY_ROWS:
            time.sleep(LINGER_SECONDS)
        while len(group) < GROUP_ROWS:
            try:
                write = self._queue.get_nowait()
            except queue.Empty:
                break
            if write is None:
                return group, False
            group.append(write)
            if isinstance(write.done, Future):
                break  # somebody stands and waits for what came before
        self._last_rows = len(group)
        return group, True

    def _commit_or_fail(self, group: Sequence[_Write]) -> None:
        for write in group:
            self._seal(write)
        writes = [write for write in group if write.lookup_id and write.error is None]
        if not writes:
            return
        now = self._now()
        try:
            self._commit(writes, now)
        except DATABASE_ERRORS as error:
            _fail(writes, f"The ledger could not be written ({error_code(error)}); see its disk or server.")
        except Exception as error:  # noqa: BLE001 - the thread's edge: whoever waits is told, whatever it was
            _log.critical("ledger writer: group of %d failed with %s", len(writes), type(error).__name__)
            _fail(writes, f"The ledger could not be written ({type(error).__name__}).")

    def _seal(self, write: _Write) -> None:
        if write.settlement is not None and write.settlement.answer is not None:
            try:
                write.sealed = self._sealer.seal(write.settlement.answer)
            except LeadscrubError as error:
                write.error = error

    def _commit(self, writes: Sequence[_Write], now: int) -> None:
        """One transaction; tried again with the same times, by which it knows its own work after a lost commit."""
        for attempt, pause in enumerate((*self._retry_seconds, None)):
            try:
                with self._database.writing() as connection:
                    # A lease begins now: the group may have waited minutes for the server.
                    self._owner.renew_when_due(connection, self._now())
                    marks = [write for write in writes if write.settlement is None]
                    _mark(connection, marks, owner=self._owner.owner, now=now, again=attempt > 0)
                    settlements = [write for write in writes if write.settlement is not None]
                    _settle(connection, settlements, now=now, again=attempt > 0)
                    _reached("before_commit", marks, settlements)
            except DATABASE_ERRORS as error:
                self._owner.forget_renewal()
                for write in writes:
                    write.error = None
                if pause is None:
                    raise
                _log.warning("ledger writer: group of %d waits %.1f s: %s", len(writes), pause, error_code(error))
                time.sleep(pause)
            else:
                _reached("after_commit", marks, settlements)
                return


def _reached(when: str, marks: Sequence[_Write], settlements: Sequence[_Write]) -> None:
    if marks:
        failpoints.reached(f"mark.{when}")
    if settlements:
        failpoints.reached(f"settle.{when}")


def _mark(connection: Connection, marks: Sequence[_Write], *, owner: str, now: int, again: bool) -> None:
    if not marks:
        return
    wanted = [mark.lookup_id for mark in marks]
    moved = connection.execute(_MARK, {"wanted": wanted, "me": owner, "now": now}).scalars()
    ours = set(moved)
    if again and len(ours) < len(wanted):  # the commit that seemed lost may have happened
        ours.update(connection.execute(_MARKED_NOW, {"wanted": wanted, "me": owner, "now": now}).scalars())
    for mark in marks:
        if mark.lookup_id not in ours:
            mark.error = FailedError(
                "A claimed lookup is no longer ours: the lease ran out and another run cleared it. It was not sent."
            )


_MARK: Final = (
    update(lookups)
    .where(
        lookups.c.lookup_id.in_(bindparam("wanted", expanding=True)),
        lookups.c.state == tables.CLAIMED,
        lookups.c.owner == bindparam("me"),
    )
    .values(state=tables.SENT, sent_at=bindparam("now"))
    .returning(lookups.c.lookup_id)
)
_MARKED_NOW: Final = select(lookups.c.lookup_id).where(
    lookups.c.lookup_id.in_(bindparam("wanted", expanding=True)),
    lookups.c.state == tables.SENT,
    lookups.c.owner == bindparam("me"),
    lookups.c.sent_at == bindparam("now"),
)

_FLIGHT: Final = select(
    lookups.c.lookup_id,
    lookups.c.state,
    lookups.c.run_id,
    lookups.c.is_current,
    lookups.c.claimed_at,
    lookups.c.settled_at,
    lookups.c.price_micros,
    lookups.c.hit_days,
    lookups.c.miss_days,
    # A late answer about a person who was erased meanwhile is not kept.
    exists().where(tombstones.c.person_key == lookups.c.person_key).label("is_erased"),
).where(lookups.c.lookup_id.in_(bindparam("wanted", expanding=True)))

_SETTLED_COLUMNS: Final = (
    "state",
    "is_current",
    "cost_micros",
    "settled_at",
    "expires_at",
    "reason",
    "http_status",
    "parser_version",
    "answer",
)
_SETTLE: Final = (
    update(lookups)
    .where(lookups.c.lookup_id == bindparam("wanted"))
    .values({lookups.c[name]: bindparam(f"new_{name}") for name in _SETTLED_COLUMNS})
)

_MAY_BECOME: Final = {
    tables.CLAIMED: {tables.FAILED},
    tables.SENT: {tables.HIT, tables.MISS, tables.FAILED, tables.UNKNOWN},
    tables.UNKNOWN: {tables.HIT, tables.MISS, tables.FAILED, tables.UNKNOWN},
}


def _settle(connection: Connection, writes: Sequence[_Write], *, now: int, again: bool) -> None:
    if not writes:
        return
    found = connection.execute(_FLIGHT, {"wanted": [write.lookup_id for write in writes]})
    flight = {row.lookup_id: row for row in found}
    values: list[dict[str, Any]] = []
    returned = []
    for write in writes:
        row, settlement = flight.pop(write.lookup_id, None), write.settlement
        if settlement is None:
            continue
        if row is not None:
            write.times = _times(row, settlement, now)
        if again and row is not None and row.state == settlement.state and row.settled_at == now:
            continue
        if row is None or settlement.state not in _MAY_BECOME.get(row.state, ()):
            write.error = FailedError("Only a lookup in flight can be settled; this one is settled or gone.")
            continue
        values.append(_settled(row, settlement, write, now))
        if values[-1]["new_cost_micros"] == 0 and (settlement.state == tables.FAILED or not settlement.billed):
            returned.append(row)
    if values:
        connection.execute(_SETTLE, values)
        budgets.give_back(connection, returned)


def _times(row: Any, settlement: Settlement, now: int) -> Settled:  # noqa: ANN401 - a row
    days = {tables.HIT: row.hit_days, tables.MISS: row.miss_days}.get(settlement.state)
    return Settled(
        settled_at=micros_to_time(now),
        expires_at=None if days is None else micros_to_time(now + days * MICROS_PER_DAY),
    )


def _settled(row: Any, settlement: Settlement, write: _Write, now: int) -> dict[str, Any]:  # noqa: ANN401 - a row
    expires_at = write.times.expires_at
    billed = settlement.billed and settlement.state != tables.FAILED
    return {
        "wanted": row.lookup_id,
        "new_state": settlement.state,
        "new_is_current": row.is_current and settlement.state != tables.FAILED,
        "new_cost_micros": None if settlement.state == tables.UNKNOWN else row.price_micros if billed else 0,
        "new_settled_at": now,
        "new_expires_at": None if expires_at is None else time_to_micros(expires_at),
        "new_reason": settlement.reason,
        "new_http_status": settlement.http_status,
        "new_parser_version": settlement.parser_version,
        "new_answer": None if row.is_erased else write.sealed,
    }


def _fail(writes: Iterable[_Write], message: str) -> None:
    for write in writes:
        write.error = UnavailableError(message)


def _resolve(group: Sequence[_Write]) -> None:
    """Wake the waiters: one call into each event loop for the whole group, and then whoever waits for all of it."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Write]] = defaultdict(list)
    for write in group:
        if write.loop is not None:
            by_loop[write.loop].append(write)
    for loop, writes in by_loop.items():
        try:
            loop.call_soon_threadsafe(_wake, writes)
        except RuntimeError:  # the loop was closed meanwhile; what was written stays written
            _log.warning("ledger writer: %d waiting writes had no event loop to return to", len(writes))
    for write in group:
        if write.loop is None:
            write.done.set_result(NOT_SETTLED)


def _wake(writes: Sequence[_Write]) -> None:
    for write in writes:
        if write.done.done():
            continue  # its task was cancelled while it waited
        if write.error is None:
            write.done.set_result(write.times)
        else:
            write.done.set_exception(write.error)
