"""HTTP to a vendor: which addresses are allowed, one POST, how it failed, waiting and pacing.

The heart is ``post``: it tells a request that certainly never reached the vendor from one
that may have. What a status or a body means is each vendor module's own business.
"""

import asyncio
import functools
import ipaddress
import random
import ssl
import time
from array import array
from collections.abc import Awaitable, Callable, ItemsView
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, ParamSpec, TypeVar

import aiohttp
import httpx
import tenacity
from httpx_aiohttp import AiohttpTransport

from leadscrub_pipeline.errors import FailedError, RefusedError, UnavailableError
from leadscrub_pipeline.vendors.breaker import Breaker, Health

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
KEEP_ALIVE_SECONDS: Final = 4.0
"""Idle connections go before a usual server closes them (5 s and more): a request written to a
connection that the server is closing cannot be told from one that was served."""
CONNECT_SECONDS: Final = 10.0
MAX_LATENCIES: Final = 100_000

_HEADERS: Final = {
    "Accept-Encoding": "gzip, deflate",
    "Content-Type": "application/json",
    "User-Agent": "leadscrub",
}
"""aiohttp would also ask for what only it can decode, and httpx would hand that on compressed."""

P = ParamSpec("P")
T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


class AccessRefusedError(UnavailableError):
    """The vendor does not accept our sign-in or our address. Nothing was billed; repeating does not help."""


class AttemptError(FailedError):
    """One attempt at a request did not bring a usable answer.

    ``may_have_arrived`` is False only when the vendor certainly never got the request or
    certainly did not serve it. ``retry_after`` is the vendor's own wish, in seconds.
    """

    def __init__(
        self,
        reason: str,
        *,
        may_have_arrived: bool,
        repeatable: bool = True,
        health: Health = Health.DOWN,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_have_arrived = may_have_arrived
        self.repeatable = repeatable
        self.health = health
        self.status = status
        self.retry_after = retry_after


class Reply(NamedTuple):
    """A whole answer, whatever its status."""

    status: int
    body: bytes
    retry_after: float | None
    seconds: float


# --- addresses --------------------------------------------------------------------------


def is_loopback_url(url: str) -> bool:
    """Whether the address is on this machine, by its text alone: no name is looked up."""
    try:
        host = httpx.URL(url).host
    except (httpx.InvalidURL, ValueError):
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_url(url: str, *, setting: str) -> httpx.URL:
    """The address, if a request may go there.

    Raises:
        RefusedError: it is no full address, is plain HTTP off loopback, or carries a user, query or fragment.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise RefusedError(f"{setting} is not an address. Give it in full: https://host/path.") from None
    is_odd = any(c.isspace() or c == "\\" for c in url) or not 0 < (parsed.port or 1) < 65_536
    if parsed.scheme not in ("http", "https") or not parsed.host or is_odd:
        raise RefusedError(f"{setting} is not an address. Give it in full: https://host/path.")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise RefusedError(f"{setting} must be scheme, host and path only: no user, query or fragment.")
    if parsed.scheme == "http" and not is_loopback_url(url):
        raise RefusedError(f"{setting} is plain HTTP. That is allowed on loopback only; use https.")
    return parsed


def endpoint_name(url: httpx.URL) -> str:
    """Whose answers come from there: ``loopback/path`` on this machine whatever the port, else ``https://host/path``."""
    if is_loopback_url(str(url)):
        return f"loopback{url.path}"
    return f"{url.scheme}://{url.netloc.decode()}{url.path}"


# --- one request ------------------------------------------------------------------------


def open_http() -> httpx.AsyncBaseTransport:
    """A transport for the running event loop: httpx over aiohttp; its own pool is quadratic (VENDORS.md, "Both").

    No ``httpx.AsyncClient`` stands around it: that would add redirects, cookies and a
    sign-in, none of which a vendor's request may have, and a fifth of a request's CPU time.
    The number of connections is not bounded here. The workers bound it, so that no request
    waits in a pool after the ledger has marked it as sent. Headers that never change are added
    by aiohttp, once a client.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=_tls()),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
    )
    return AiohttpTransport(verify=_tls(), client=session)


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Headers(httpx.Headers):
    """Names reach the vendor as they are written; ``httpx.Headers`` hands them to aiohttp in lower case."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(headers)
        self._written = headers

    def items(self) -> ItemsView[str, str]:
        return self._written.items()


async def post(
    http: httpx.AsyncBaseTransport, url: httpx.URL, *, headers: dict[str, str], content: bytes, seconds: float
) -> Reply:
    """One POST, without following redirects; any status is a reply.

    Raises:
        AttemptError: no whole answer within ``seconds``; ``may_have_arrived`` says whether it may be billed.
    """
    connect = min(CONNECT_SECONDS, seconds / 2)
    extensions = {"timeout": {"connect": connect, "pool": connect}}
    # A request of a stream that is read at once has no headers but ours; aiohttp adds host and length itself.
    request = httpx.Request("POST", url, stream=httpx.ByteStream(content), extensions=extensions)
    request.read()
    request.headers = _Headers(headers)
    started = time.perf_counter()
    status, retry_after, body = 0, None, b""
    try:
        async with asyncio.timeout(seconds):
            response = await http.handle_async_request(request)
            try:
                status, retry_after = response.status_code, _retry_after(response.headers.get("Retry-After"))
                body = await _read(response)
            finally:
                if not response.is_closed:
                    await response.aclose()
    except (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError, ValueError) as error:
        # A refusal whose body got lost is still a refusal.
        if status in (0, 200):
            raise _attempt_error(error) from None
    return Reply(status, body, retry_after, time.perf_counter() - started)


async def _read(response: httpx.Response) -> bytes:
    if "," in response.headers.get("Content-Encoding", ""):
        # Each round of compression is a thousandfold: two of them make gigabytes of one chunk.
        raise httpx.DecodingError("compressed more than once")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise httpx.DecodingError("too large")
    return bytes(body)


_NEVER_LEFT: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aiohttp.ClientConnectorCertificateError, "certificate_refused"),
    (aiohttp.ClientSSLError, "tls_failed"),
    (aiohttp.ClientConnectorDNSError, "name_not_resolved"),
    (aiohttp.ClientConnectorError, "connect_failed"),
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
)
"""What aiohttp raises only before it has a connection. A server that hangs up is none of them."""


def _attempt_error(error: Exception) -> AttemptError:
    """Judged by aiohttp's own exception; what has none may have arrived, whatever httpx calls it.

    httpx-aiohttp 0.2 makes ``httpx.ConnectTimeout`` of every lost connection, that of a server
    which hung up after it had read (and billed) the request among them.
    """
    cause = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
    for kind, reason in _NEVER_LEFT:
        if isinstance(cause, kind):
            return AttemptError(reason, may_have_arrived=False, repeatable=reason != "certificate_refused")
    return AttemptError("timeout" if isinstance(cause, TimeoutError) else "connection_lost", may_have_arrived=True)


def _retry_after(text: str | None) -> float | None:
    """Seconds the vendor asks to wait, given as a number or as a date."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


# --- waiting ----------------------------------------------------------------------------


class Pacer:
    """Starts at most ``per_second`` requests a second; ``burst`` of them may start together.

    Without a rate it holds nobody back but for ``pause``, with which a vendor's Retry-After
    slows all workers and not only the one that was told.
    """

    def __init__(
        self,
        per_second: float | None = None,
        *,
        burst: int = 1,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gap = 1.0 / per_second if per_second else 0.0
        self._slack = self._gap * (burst - 1)
        self._sleep = sleep
        self._clock = clock
        self._next = float("-inf")

    async def turn(self) -> None:
        """Return when a request may start."""
        now = self._clock()
        start = max(self._next, now - self._slack)
        self._next = start + self._gap
        if start > now:
            await self._sleep(start - now)

    def pause(self, seconds: float) -> None:
        """Let nobody start for so long; turns that were already given stand."""
        self._next = max(self._next, self._clock() + seconds)


class Stop:
    """Set once, it ends all of a client's sleeps early. Those are between requests only, so nothing is lost."""

    def __init__(self, sleep: Sleep) -> None:
        self._plain_sleep = sleep
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep so long or until ``set``."""
        waits = [asyncio.ensure_future(self._plain_sleep(seconds)), asyncio.ensure_future(self._event.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class Repeats:
    """When an attempt that failed with a repeatable ``AttemptError`` is made again.

    Waits 1, 2, 4, 8 base delays, 20 % up or down, at most ``max_delay`` seconds. A Retry-After
    is honoured; one beyond ``max_delay`` ends the repeats, because an earlier try is bound to
    be refused. What may have arrived is repeated only with ``if_it_may_have_arrived``: for
    requests that cost nothing.
    """

    def __init__(
        self,
        *,
        retries: int,
        base_delay: float,
        max_delay: float,
        sleep: Sleep,
        stats: "Stats",
        if_it_may_have_arrived: bool = False,
    ) -> None:
        self.stats = stats
        self._base_delay = base_delay
        self._max_delay = max_delay
        self._if_it_may_have_arrived = if_it_may_have_arrived
        # One for all tasks: its state of a step lives in the thread, and within a step nothing suspends.
        self._retrying = tenacity.AsyncRetrying(
            sleep=sleep,
            stop=tenacity.stop_after_attempt(retries + 1),
            wait=self._wait,
            retry=tenacity.retry_if_exception(self._may_repeat),
            before_sleep=self._count,
            reraise=True,
        )

    async def run(self, attempt: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The first result of ``attempt``, an ``async def``, or the last one's ``AttemptError``."""
        try:
            return await attempt(*args, **kwargs)
        except AttemptError as error:
            failures = [error]

        # Nearly every request needs one attempt, and tenacity costs 70 microseconds a call: it
        # is asked only now, and hears of the failure as of its own first attempt.
        async def again() -> T:
            if failures:
                raise failures.pop()
            return await attempt(*args, **kwargs)

        result: T = await self._retrying(again)
        return result

    def _may_repeat(self, error: BaseException) -> bool:
        if not isinstance(error, AttemptError) or not error.repeatable:
            return False
        if error.may_have_arrived and not self._if_it_may_have_arrived:
            return False
        return (error.retry_after or 0.0) <= self._max_delay

    def _wait(self, state: tenacity.RetryCallState) -> float:
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads repeats, hides nothing
        delay = min(self._max_delay, self._base_delay * float(2 ** (state.attempt_number - 1)) * jitter)
        error = state.outcome.exception() if state.outcome else None
        return max(delay, (error.retry_after or 0.0) if isinstance(error, AttemptError) else 0.0)

    def _count(self, _: tenacity.RetryCallState) -> None:
        self.stats.retries += 1


class Stats:
    """Counts of one client's life, for metadata."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self.requests = 0
        self.retries = 0
        self.failures = 0
        self._seconds = array("d")

    @property
    def breaker_openings(self) -> int:
        return self._breaker.openings

    def record(self, seconds: float) -> None:
        """Note one answered request; beyond 100,000 the oldest are overwritten."""
        if len(self._seconds) < MAX_LATENCIES:
            self._seconds.append(seconds)
        else:
            self._seconds[self.requests % MAX_LATENCIES] = seconds

    def percentile(self, share: float) -> float:
        """Seconds within which ``share`` of the requests were answered; 0.0 before the first."""
        ordered = sorted(self._seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def metadata(self) -> dict[str, int | float]:
        """The same keys on every run, zeros included."""
        return {
            "requests": self.requests,
            "retries": self.retries,
            "failures": self.failures,
            "breaker_openings": self.breaker_openings,
            "p50_seconds": round(self.percentile(0.5), 4),
            "p95_seconds": round(self.percentile(0.95), 4),
            "max_seconds": round(max(self._seconds, default=0.0), 4),
        }
