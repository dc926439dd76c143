"""HTTP to a vendor: which addresses are allowed, one POST, how it failed, waiting and pacing.

The heart is ``post``: it tells a request that certainly never reached the vendor from one
that may have. What a status or a body means is each vendor module's own business.
"""

import asyncio
import ipaddress
import random
import ssl
import time
from array import array
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

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
    except httpx.InvalidURL:
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
    if parsed.scheme not in ("http", "https") or not parsed.host or any(c.isspace() or c == "\\" for c in url):
        raise RefusedError(f"{setting} is not an address. Give it in full: https://host/path.")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise RefusedError(f"{setting} must be scheme, host and path only: no user, query or fragment.")
    if parsed.scheme == "http" and not is_loopback_url(url):
        raise RefusedError(f"{setting} is plain HTTP. That is allowed on loopback only; use https.")
    return parsed


# --- one request ------------------------------------------------------------------------


def open_http() -> httpx.AsyncClient:
    """A client over aiohttp: httpx's own pool is quadratic above 50 connections (VENDORS.md, "Both").

    The number of connections is not bounded here. The workers bound it, so no request waits
    in a pool after the ledger has marked it as sent.
    """
    context = httpx.create_ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=context)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return httpx.AsyncClient(transport=AiohttpTransport(verify=context, client=session), trust_env=False)


async def post(
    http: httpx.AsyncClient, url: httpx.URL, *, headers: list[tuple[str, str]], content: bytes, seconds: float
) -> Reply:
    """One POST, without following redirects; any status is a reply.

    Raises:
        AttemptError: no whole answer within ``seconds``; ``may_have_arrived`` says whether it may be billed.
    """
    connect = min(CONNECT_SECONDS, seconds / 2)
    timeouts = {"connect": connect, "pool": connect, "read": seconds, "write": seconds}
    request = httpx.Request("POST", url, headers=headers, content=content, extensions={"timeout": timeouts})
    started = time.perf_counter()
    response: httpx.Response | None = None
    body = b""
    try:
        async with asyncio.timeout(seconds):
            response = await http.send(request, stream=True)
            try:
                body = await _read(response)
            finally:
                await response.aclose()
    except (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError, ValueError) as error:
        # A refusal whose body got lost is still a refusal.
        if response is None or response.status_code == 200:
            raise _attempt_error(error) from None
    return Reply(response.status_code, body, _retry_after(response.headers), time.perf_counter() - started)


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise AttemptError("answer_too_large", may_have_arrived=True, status=response.status_code)
    return bytes(body)


_NEVER_LEFT: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aiohttp.ClientConnectorCertificateError, "certificate_refused"),
    (aiohttp.ClientSSLError, "tls_failed"),
    (aiohttp.ClientConnectorDNSError, "name_not_resolved"),
    (aiohttp.ClientConnectorError, "connect_failed"),
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
)
_NEVER_LEFT_HTTPX: Final[tuple[tuple[type[Exception], str], ...]] = (
    (httpx.ConnectTimeout, "connect_timeout"),
    (httpx.PoolTimeout, "connect_timeout"),
    (httpx.ConnectError, "connect_failed"),
)


def _attempt_error(error: Exception) -> AttemptError:
    """What a failed POST means, judged by aiohttp's own error where there is one.

    httpx-aiohttp 0.2 maps every ``ClientConnectionError`` to ``httpx.ConnectTimeout``, a server
    that hung up after it had read (and billed) the request among them.
    """
    cause = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
    table = _NEVER_LEFT if isinstance(cause, aiohttp.ClientError) else _NEVER_LEFT_HTTPX
    for kind, reason in table:
        if isinstance(cause, kind):
            return AttemptError(reason, may_have_arrived=False, repeatable=reason != "certificate_refused")
    is_timeout = isinstance(cause, (TimeoutError, httpx.TimeoutException))
    return AttemptError("timeout" if is_timeout else "connection_lost", may_have_arrived=True)


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds the vendor asks to wait, given as a number or as a date."""
    text = headers.get("retry-after")
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


def repeating(
    *,
    retries: int,
    base_delay: float,
    max_delay: float,
    sleep: Sleep,
    on_retry: Callable[[], None],
    also_what_may_have_arrived: bool = False,
) -> tenacity.AsyncRetrying:
    """Repeats an attempt that failed with a repeatable ``AttemptError`` and certainly did not arrive.

    With ``also_what_may_have_arrived`` the last condition falls: for requests that cost nothing.

    Waits 1, 2, 4, 8 base delays, 20 % up or down, at most ``max_delay`` seconds. A Retry-After
    is honoured; one beyond ``max_delay`` ends the repeats, because an earlier try is bound to
    be refused. Safe to share between tasks: nothing here suspends but the sleep.
    """

    def error_of(state: tenacity.RetryCallState) -> AttemptError | None:
        error = state.outcome.exception() if state.outcome else None
        return error if isinstance(error, AttemptError) else None

    def wait(state: tenacity.RetryCallState) -> float:
        error = error_of(state)
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads repeats, hides nothing
        delay: float = min(max_delay, base_delay * 2 ** (state.attempt_number - 1) * jitter)
        return max(delay, error.retry_after or 0.0) if error else delay

    def stop(state: tenacity.RetryCallState) -> bool:
        error = error_of(state)
        return state.attempt_number > retries or (error is not None and (error.retry_after or 0.0) > max_delay)

    def again(state: tenacity.RetryCallState) -> bool:
        error = error_of(state)
        if error is None or not error.repeatable:
            return False
        return also_what_may_have_arrived or not error.may_have_arrived

    def count(_: tenacity.RetryCallState) -> None:
        on_retry()

    return tenacity.AsyncRetrying(retry=again, stop=stop, wait=wait, sleep=sleep, before_sleep=count, reraise=True)


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

    def count_retry(self) -> None:
        self.retries += 1

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
