"""HTTP to a vendor: which addresses are allowed, one POST, how it failed, waiting and pacing.

The heart is ``post``: it tells a request that certainly never reached the vendor from one
that may have. What a status or a body means is each vendor module's own business.

aiohttp without httpx on top: httpx-aiohttp 0.2 maps a server that hung up after it had read
(and billed) a request to ``httpx.ConnectTimeout``, and httpx doubles the time a request takes.
"""

import asyncio
import functools
import ipaddress
import itertools
import random
import ssl
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, TypeVar

import aiohttp
from yarl import URL

from leadscrub_pipeline.errors import FailedError, RefusedError, UnavailableError
from leadscrub_pipeline.vendors.breaker import Breaker, Health

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
KEEP_ALIVE_SECONDS: Final = 4.0
"""Idle connections go before a usual server closes them (5 s and more): a request written to a
connection that the server is closing cannot be told from one that was served."""
CONNECT_SECONDS: Final = 10.0
MAX_LATENCIES: Final = 100_000

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
        host = URL(url).host
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def checked_url(url: str, *, setting: str) -> URL:
    """The address, if a request may go there.

    Raises:
        RefusedError: it is no full address, is plain HTTP off loopback, or carries a user, query or fragment.
    """
    try:
        parsed = URL(url)
    except ValueError:
        raise RefusedError(f"{setting} is not an address. Give it in full: https://host/path.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or any(c.isspace() or c == "\\" for c in url):
        raise RefusedError(f"{setting} is not an address. Give it in full: https://host/path.")
    if parsed.user is not None or parsed.password is not None or parsed.query_string or parsed.fragment:
        raise RefusedError(f"{setting} must be scheme, host and path only: no user, query or fragment.")
    if parsed.scheme == "http" and not is_loopback_url(url):
        raise RefusedError(f"{setting} is plain HTTP. That is allowed on loopback only; use https.")
    return parsed


def endpoint_name(url: URL) -> str:
    """Whose answers come from there: ``loopback/path`` on this machine whatever the port, else ``https://host/path``."""
    if is_loopback_url(str(url)):
        return f"loopback{url.path}"
    return f"{url.scheme}://{url.host_port_subcomponent}{url.path}"


# --- one request ------------------------------------------------------------------------


def open_session() -> aiohttp.ClientSession:
    """Connections of one client. Call it in the event loop that will use them.

    Their number is not bounded here. The workers bound it, so that no request waits in a pool
    after the ledger has marked it as sent.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=_tls()),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Content-Type": "application/json", "User-Agent": "leadscrub"},
    )


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def post(
    session: aiohttp.ClientSession, url: URL, *, headers: dict[str, str], content: bytes, seconds: float
) -> Reply:
    """One POST, without following redirects; any status is a reply.

    Raises:
        AttemptError: no whole answer within ``seconds``; ``may_have_arrived`` says whether it may be billed.
    """
    connect = min(CONNECT_SECONDS, seconds / 2)
    timeout = aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=connect)
    started = time.perf_counter()
    status, retry_after, body = 0, None, b""
    try:
        async with (
            asyncio.timeout(seconds),
            session.post(url, data=content, headers=headers, timeout=timeout, allow_redirects=False) as response,
        ):
            status, retry_after = response.status, _retry_after(response.headers.get("Retry-After"))
            body = await _read(response)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # A refusal whose body got lost is still a refusal.
        if status in (0, 200):
            raise _attempt_error(error) from None
    return Reply(status, body, retry_after, time.perf_counter() - started)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise aiohttp.ClientPayloadError("too large")
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
    for kind, reason in _NEVER_LEFT:
        if isinstance(error, kind):
            return AttemptError(reason, may_have_arrived=False, repeatable=reason != "certificate_refused")
    return AttemptError("timeout" if isinstance(error, TimeoutError) else "connection_lost", may_have_arrived=True)


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


@dataclass(frozen=True, slots=True)
class Repeats:
    """When an attempt that failed with a repeatable ``AttemptError`` is made again.

    Waits 1, 2, 4, 8 base delays, 20 % up or down, at most ``max_delay`` seconds. A Retry-After
    is honoured; one beyond ``max_delay`` ends the repeats, because an earlier try is bound to
    be refused. What may have arrived is repeated only with ``if_it_may_have_arrived``: for
    requests that cost nothing.
    """

    retries: int
    base_delay: float
    max_delay: float
    sleep: Sleep
    stats: "Stats"
    if_it_may_have_arrived: bool = False

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The first result of ``attempt``, or the last one's ``AttemptError``."""
        for number in itertools.count():
            try:
                return await attempt()
            except AttemptError as error:
                if number >= self.retries or not self._may_repeat(error):
                    raise
                delay = self._delay(number, error)
            self.stats.retries += 1
            await self.sleep(delay)
        raise AssertionError("itertools.count never ends")

    def _may_repeat(self, error: AttemptError) -> bool:
        if not error.repeatable or (error.may_have_arrived and not self.if_it_may_have_arrived):
            return False
        return (error.retry_after or 0.0) <= self.max_delay

    def _delay(self, number: int, error: AttemptError) -> float:
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads repeats, hides nothing
        return max(error.retry_after or 0.0, min(self.max_delay, self.base_delay * float(2**number) * jitter))


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
