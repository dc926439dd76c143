"""The three simulators on free loopback ports, in a thread of their own or in the foreground.

Starting, stopping and addresses; what a vendor answers does not belong here.
"""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.simulators import ccc, idicore, ntfy
from leadscrub_pipeline.simulators.ccc import CccSimulator
from leadscrub_pipeline.simulators.idicore import IdicoreSimulator
from leadscrub_pipeline.simulators.ntfy import NtfySimulator
from leadscrub_pipeline.simulators.phones import CONTROL_NUMBERS, PhoneSpace

HOST: Final = "127.0.0.1"
GLBA: Final = "otheruse"
DPPA: Final = "none"
PRICE: Final = Decimal("0.25")
_IDLE_SECONDS: Final = 3600.0
"""A server that closes an idle connection while a request is on its way makes an unknown outcome of its own."""


Vendor = IdicoreSimulator | CccSimulator | NtfySimulator


class Simulators:
    """idiCORE, CCC and ntfy for the length of a ``with`` block, each on its own port.

    ``latency`` is in seconds, for idiCORE and CCC. ``ports`` are those of idiCORE, CCC and
    ntfy; 0 is any free one. With ``bill_path`` the bill is a file of JSON lines that several
    simulators may add to.

    Raises:
        UnavailableError: a port cannot be had.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        latency: float = 0.0,
        bill_path: Path | None = None,
        ports: tuple[int, int, int] = (0, 0, 0),
        price: Decimal = PRICE,
        token_seconds: float = 900.0,
        space: PhoneSpace = PhoneSpace.FICTIONAL,
    ) -> None:
        self.seed = seed
        self.space = space
        self.ports = ports
        self.idicore = IdicoreSimulator(
            seed=seed, latency=latency, price=price, token_seconds=token_seconds, space=space, bill_path=bill_path
        )
        self.ccc = CccSimulator(seed=seed, latency=latency)
        self.ntfy = NtfySimulator(seed=seed)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._problem: Exception | None = None

    def environment(self) -> dict[str, str]:
        """The settings that point the pipeline at these simulators."""
        idicore_url, ccc_url, ntfy_url = self.addresses()
        return {
            "IDICORE_AUTH_URL": idicore_url + idicore.AUTH_PATH,
            "IDICORE_SEARCH_URL": idicore_url + idicore.SEARCH_PATH,
            "IDICORE_CLIENT_ID": idicore.CLIENT_ID,
            "IDICORE_CLIENT_SECRET": idicore.CLIENT_SECRET,
            "IDICORE_GLBA": GLBA,
            "IDICORE_DPPA": DPPA,
            "IDICORE_PRICE_PER_LOOKUP": str(self.idicore.price),
            "CCC_API_URL": ccc_url + ccc.SCRUB_PATH,
            "CCC_API_KEY": ccc.LOGIN_ID,
            "CCC_CONTROL_NUMBERS": ",".join(CONTROL_NUMBERS),
            "NTFY_ENABLED": "true",
            "NTFY_BASE_URL": ntfy_url,
            "NTFY_TOKEN": ntfy.TOKEN,
            "NTFY_TOPIC_JOBS": "simulated-jobs",
            "NTFY_TOPIC_ERRORS": "simulated-errors",
            "NTFY_TOPIC_SYSTEM": "simulated-system",
        }

    def addresses(self) -> list[str]:
        """Of idiCORE, CCC and ntfy, without a path."""
        return [f"http://{HOST}:{port}" for port in self.ports]

    def start(self) -> Self:
        """Serve from a thread of its own until ``stop``."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="simulators", daemon=True)
        self._thread.start()
        ready.wait()
        if self._problem is not None:
            self._thread.join()
            raise self._problem
        return self

    def stop(self) -> None:
        """Close all connections, those of requests in flight too, and the bill's file."""
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Serve on the running event loop for the length of the block."""
        vendors: tuple[Vendor, ...] = (self.idicore, self.ccc, self.ntfy)
        async with AsyncExitStack() as stack:
            stack.callback(self.idicore.bill.close)
            taken = []
            for vendor, port in zip(vendors, self.ports, strict=True):
                taken.append(await stack.enter_async_context(_listening(vendor, port)))
                stack.callback(vendor.line.closing.set)
            self.ports = (taken[0], taken[1], taken[2])
            yield self

    def serve(self, announce: Callable[[Self], None]) -> None:
        """Serve in the foreground until SIGINT, SIGTERM or ``stop``; ``announce`` is called once all ports are open."""
        asyncio.run(self._until_stopped(lambda: announce(self), with_signals=True))

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._until_stopped(ready.set, with_signals=False))
        except UnavailableError as error:
            self._problem = error
        finally:
            ready.set()

    async def _until_stopped(self, announce: Callable[[], None], *, with_signals: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        if with_signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self._stop.set)
        async with self.serving():
            announce()
            await self._stop.wait()


@asynccontextmanager
async def _listening(vendor: Vendor, port: int) -> AsyncIterator[int]:
    """A server on a port of this machine; gives the port."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        vendor.line.targets[request.path_qs] += 1
        return await vendor.handle(request)

    # The plain server: an application's router and middlewares halve the requests a second.
    server = web.Server(handle, access_log=None, keepalive_timeout=_IDLE_SECONDS, tcp_keepalive=False)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise UnavailableError(f"Port {port} cannot be had for a simulator: {error.strerror}.") from None
        listening = runner.addresses[0][1]
        yield listening
    finally:
        await runner.cleanup()
