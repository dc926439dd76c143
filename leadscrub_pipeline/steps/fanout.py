"""Many requests in flight from a step that runs in the main thread.

The event loop has its own thread, so that an interrupt of the main thread cancels no
request: a cancelled request is one whose outcome is unknown, and may have been paid for.
What a worker does with an item does not belong here.
"""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import uvloop

from leadscrub_pipeline import failpoints, interrupts


class Stoppable(Protocol):
    """A vendor's client, as far as this module knows one."""

    def stop(self) -> None:
        """Start no further attempt, and end every wait before one; requests in flight go on."""


Item = TypeVar("Item")
Result = TypeVar("Result")
Client = TypeVar("Client", bound=Stoppable)
Value = TypeVar("Value")


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Spare the garbage collector the million objects of Dagster: they took a tenth of all time at 200 workers."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class Fanout(Generic[Item, Result, Client]):
    """So many workers over one client, in an event loop of their own thread.

    ``put`` waits while all workers are busy, ``taken`` gives the results so far, ``finish``
    waits for the rest. Leaving the block early, by an error or an interrupt, starts nothing
    new, lets what is in flight end, and leaves the items that were never started in ``left``.
    An error that a worker raises does the same and is raised again by the next call here.
    """

    def __init__(
        self,
        client: AbstractAsyncContextManager[Client],
        work: Callable[[Client, Item], Awaitable[Result]],
        *,
        workers: int,
    ) -> None:
        self._opening = client
        self._work = work
        self._workers = workers
        self._results: SimpleQueue[Result] = SimpleQueue()
        self._queue: asyncio.Queue[Item | None] = asyncio.Queue(maxsize=max(workers, 1))
        self._putting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: Exception | None = None
        self._stopping = False
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._collector = ExitStack()
        self.left: list[Item] = []

    def __enter__(self) -> Self:
        self._collector.enter_context(_quiet_collector())
        self._thread.start()
        try:
            self._client = self._call(self._start())
        except BaseException:
            self._close_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self._loop.call_soon_threadsafe(self._begin_stop)
            self._call(self._end())
        finally:
            self._close_loop()

    def put(self, items: Sequence[Item]) -> None:
        """Hand over items in order; waits while all workers are busy."""
        if items:
            self._wait_for(self._put(items))
            failpoints.reached("fanout.handed_over")
        self._raise_failure()

    def taken(self) -> list[Result]:
        """The results that are there now."""
        results = []
        while True:
            try:
                results.append(self._results.get_nowait())
            except Empty:
                return results

    def finish(self, *, report: Callable[[], None], every: float = 1.0) -> None:
        """Wait until every item is done, calling ``report`` now and then."""
        self._wait_for(self._join(), meanwhile=report, every=every)
        report()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _call(self, coroutine: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _wait_for(
        self, coroutine: Coroutine[Any, Any, None], *, meanwhile: Callable[[], None] = lambda: None, every: float = 60.0
    ) -> None:
        """As ``_call``, but an interrupt ends the waiting; what is waited for goes on."""
        ending = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        # A plain lock, because an interrupt in the middle of a future's own waiting may leave that locked.
        done = threading.Lock()
        done.acquire()
        ending.add_done_callback(lambda _: done.release())
        while True:
            with interrupts.at_once():
                is_done = done.acquire(timeout=every)
            if is_done:
                break
            meanwhile()
        ending.result()

    def _close_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._collector.close()

    # --- in the loop's thread ---------------------------------------------------------

    async def _start(self) -> Client:
        client = await self._opening.__aenter__()
        self._tasks = [asyncio.create_task(self._worker(client)) for _ in range(self._workers)]
        return client

    async def _put(self, items: Sequence[Item]) -> None:
        async with self._putting:
            for item in items:
                await self._queue.put(item)

    async def _join(self) -> None:
        await self._queue.join()

    async def _end(self) -> None:
        # An interrupted put is still under way here; what it puts must come before the end.
        async with self._putting:
            for _ in self._tasks:
                await self._queue.put(None)
        await asyncio.gather(*self._tasks)
        await self._opening.__aexit__(None, None, None)

    def _begin_stop(self) -> None:
        self._stopping = True
        self._client.stop()

    async def _worker(self, client: Client) -> None:
        while True:
            item = await self._queue.get()
            try:
                if item is None:
                    return
                if self._stopping:
                    self.left.append(item)
                    continue
                self._results.put(await self._work(client, item))
            except Exception as error:  # noqa: BLE001 - kept, and raised again in the step's thread
                self._failure = self._failure or error
                self._stopping = True
                client.stop()
            finally:
                self._queue.task_done()
