"""idiCORE: sign-in and one paid search a person, with every failure sorted by whether it may have been billed.

It repeats by itself only what was certainly not billed. Who is asked, what is remembered and
what it costs is the ledger's business; what an answer means is read in ``idicore_answer``.
"""

import asyncio
import base64
import math
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, NamedTuple, NoReturn, Self

import httpx
import orjson

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.domain.people import Person, zip5
from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import FailedError, RefusedError, UnavailableError
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.vendors.breaker import Attempt, Breaker, Health
from leadscrub_pipeline.vendors.idicore_answer import WrongShapeError, kept_part
from leadscrub_pipeline.vendors.transport import (
    AccessRefusedError,
    AttemptError,
    Pacer,
    Repeats,
    Reply,
    Sleep,
    Stats,
    Stop,
    checked_url,
    endpoint_name,
    is_loopback_url,
    open_http,
    post,
)

PROVIDER: Final = "idicore"
TOKEN_LIFE: Final = timedelta(minutes=12)
"""Accounts differ between 15 and 28 minutes (VENDORS.md); a 401 is the safety net."""
BREAKER_FAILURES: Final = 10
FIELDS: Final = ("name", "phone", "email", "address", "isDead")
_TOKEN: Final = re.compile(r"[!#-;=?-z|~]{8,8192}")
"""One word of printable ASCII that is neither HTML nor JSON."""


class NotBilledError(FailedError):
    """The search did not happen, and certainly cost nothing. ``reason`` is a short code."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(f"idiCORE was not asked: {reason}. Nothing was billed.")
        self.reason = reason
        self.status = status


class OutcomeUnknownError(FailedError):
    """The search may have been billed, and there is no answer to show for it. ``reason`` is a short code."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(f"The outcome of a search at idiCORE is unknown: {reason}. It may have been billed.")
        self.reason = reason
        self.status = status


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The vendor's body less relatives and unasked fields; ``seconds`` is the last request's latency."""

    body: dict[str, Any]
    status: int
    reason: str | None
    billed: bool
    seconds: float


class IdicoreClient:
    """One deployment's line to idiCORE; an async context manager, for one event loop.

    Every error of ``search`` but ``OutcomeUnknownError`` (and cancellation, and whatever
    ``before_send`` raises) means that nothing was billed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        in_flight: int | None = None,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """``in_flight`` is the most searches on the wire at a time; who waits for a place holds nothing up."""
        self._settings = settings
        # A place is held on the wire only: one held while waiting for the breaker could keep out its probe.
        self._places: AbstractAsyncContextManager[None] = (
            nullcontext() if in_flight is None else asyncio.Semaphore(in_flight)
        )
        self._auth_url = checked_url(settings.idicore_auth_url, setting="IDICORE_AUTH_URL")
        self._search_url = checked_url(settings.idicore_search_url, setting="IDICORE_SEARCH_URL")
        if is_loopback_url(settings.idicore_auth_url) != is_loopback_url(settings.idicore_search_url):
            raise RefusedError(
                "IDICORE_AUTH_URL and IDICORE_SEARCH_URL must both be on loopback or both not: "
                "simulated and real answers must not mix."
            )
        self._http: httpx.AsyncBaseTransport | None = None
        self._now = now
        self._stop = Stop(sleep)
        self._breaker = Breaker(
            "idiCORE", failures=BREAKER_FAILURES, seconds=settings.leadscrub_breaker_seconds, sleep=self._sleep
        )
        self.stats = Stats(self._breaker)
        self._pacer = Pacer(settings.idicore_requests_per_second, sleep=self._sleep)
        self._repeats = Repeats(
            retries=settings.idicore_max_retries,
            base_delay=settings.idicore_retry_base_delay,
            max_delay=settings.idicore_retry_max_delay,
            sleep=self._sleep,
            stats=self.stats,
        )
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._sign_ins: dict[tuple[str, str], asyncio.Task[str]] = {}
        self._refused: str | None = None

    @property
    def is_loopback(self) -> bool:
        return is_loopback_url(self._settings.idicore_search_url)

    @property
    def endpoint(self) -> str:
        """Whose answers these are, for the ledger: the same on any loopback port."""
        return endpoint_of(self._settings)

    async def __aenter__(self) -> Self:
        if self._settings.idicore_client_id is None or self._settings.idicore_client_secret is None:
            raise RefusedError("idiCORE has no sign-in. Set IDICORE_CLIENT_ID and IDICORE_CLIENT_SECRET.")
        self._http = open_http()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sign_ins = list(self._sign_ins.values())
        for task in sign_ins:
            task.cancel()
        await asyncio.gather(*sign_ins, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()

    async def sign_in(self, purpose: Purpose) -> None:
        """Sign in and ask about nobody, which costs nothing.

        Raises:
            AccessRefusedError: sign-in or address not accepted.
            UnavailableError: no usable answer.
        """
        try:
            await self._token(purpose)
        except AttemptError as error:
            raise UnavailableError(f"idiCORE did not answer the sign-in: {error.reason}.") from None

    async def search(
        self, person: Person, *, reference_id: str, purpose: Purpose, before_send: Callable[[], Awaitable[None]]
    ) -> SearchAnswer:
        """Ask for one person's contacts.

        ``before_send`` is awaited once, after breaker, pace and sign-in and right before the
        first byte may leave; what it raises comes through, and then nothing left.

        Raises:
            NotBilledError: repeats of what was certainly not billed are used up, or would not help, or ``stop``.
            OutcomeUnknownError: it may have been billed.
            AccessRefusedError: sign-in or address not accepted; all further searches raise it at once.
            BreakerExhaustedError: the vendor did not recover.
        """
        search = _Search(_payload(person, reference_id), purpose, before_send)
        try:
            return await self._repeats.run(self._attempt, search)
        except AttemptError as error:
            self.stats.failures += 1
            if error.health is Health.BUSY:
                self._breaker.count_failure()
            failure = OutcomeUnknownError if error.may_have_arrived else NotBilledError
            raise failure(error.reason, status=error.status) from None

    def stop(self) -> None:
        """Let requests on the wire finish, and end all others with ``NotBilledError("stopped")``, those to come too.

        For interrupts: a search may wait minutes for breaker or pace with nothing on the wire.
        Call it in the client's loop, from another thread by ``loop.call_soon_threadsafe``.
        """
        self._stop.set()

    async def _sleep(self, seconds: float) -> None:
        self._raise_if_over()
        await self._stop.sleep(seconds)
        self._raise_if_over()

    async def _attempt(self, search: "_Search") -> SearchAnswer:
        async with self._breaker.attempt() as attempt:
            try:
                answer = self._judge(await self._ask(search, attempt))
            except AttemptError as error:
                attempt.health = error.health
                raise
            attempt.health = Health.UP
            return answer

    async def _ready(self, purpose: Purpose, attempt: Attempt) -> str:
        """Wait for the pace and the token, again when the breaker opened meanwhile; the token."""
        while True:
            await self._pacer.turn()
            token = await self._token(purpose)
            if attempt.is_current:
                return token
            await attempt.renew()

    async def _ask(self, search: "_Search", attempt: Attempt) -> Reply:
        token = await self._ready(search.purpose, attempt)
        if not search.announced:
            search.announced = True
            await search.before_send()
        reply = await self._post_search(search, token)
        if reply.status != 401:
            return reply
        token = await self._token(search.purpose, refused=token)
        await self._pacer.turn()
        reply = await self._post_search(search, token)
        if reply.status == 401:
            self._refuse("idiCORE refuses a token it has just given (401 twice).")
        return reply

    async def _post_search(self, search: "_Search", token: str) -> Reply:
        headers = {"Authorization": token}
        async with self._places:
            self._raise_if_over()
            self.stats.requests += 1
            failpoints.reached("idicore.before_request")
            reply = await post(
                self._open_http, self._search_url, headers=headers, content=search.payload, seconds=self._timeout
            )
        failpoints.reached("idicore.after_answer")
        self.stats.record(reply.seconds)
        return reply

    def _judge(self, reply: Reply) -> SearchAnswer:
        if reply.status == 200:
            return SearchAnswer(_read_body(reply.body), 200, None, billed=True, seconds=reply.seconds)
        if reply.status == 403:
            self._refuse("idiCORE refuses this machine's address (403).")
        if reply.status == 400:
            if _error_code(reply.body) == "TooManyMatches":
                return SearchAnswer({"result": []}, 400, "too_many_matches", billed=False, seconds=reply.seconds)
            raise AttemptError("bad_request", may_have_arrived=False, repeatable=False, health=Health.UP, status=400)
        if reply.status == 429:
            if reply.retry_after and reply.retry_after <= self._settings.idicore_retry_max_delay:
                self._pacer.pause(reply.retry_after)
            raise AttemptError(
                "rate_limited",
                may_have_arrived=False,
                health=Health.BUSY,
                status=429,
                retry_after=reply.retry_after,
            )
        raise AttemptError(
            f"status_{reply.status}",
            may_have_arrived=reply.status not in self._settings.idicore_not_billed_statuses,
            status=reply.status,
            retry_after=reply.retry_after,
        )

    def _refuse(self, what: str) -> NoReturn:
        self._refused = (
            f"{what} No further search is sent. Check IDICORE_CLIENT_ID, IDICORE_CLIENT_SECRET, the purpose's glba and "
            "dppa, and ask idiCORE whether this machine's address is allowed."
        )
        raise AccessRefusedError(self._refused)

    def _raise_if_over(self) -> None:
        if self._refused is not None:
            raise AccessRefusedError(self._refused)
        if self._stop.is_set:
            raise NotBilledError("stopped")

    @property
    def _timeout(self) -> float:
        return self._settings.idicore_timeout

    @property
    def _open_http(self) -> httpx.AsyncBaseTransport:
        if self._http is None:
            raise RuntimeError("IdicoreClient is used outside its async with block")
        return self._http

    # --- sign-in --------------------------------------------------------------------------

    async def _token(self, purpose: Purpose, *, refused: str | None = None) -> str:
        """The purpose's token; a new one when it is old or is the one just ``refused``.

        All who need one at the same time share one sign-in, its failure included. It is a
        task of its own, so that it outlives whoever of them is cancelled.
        """
        self._raise_if_over()
        pair = (purpose.glba, purpose.dppa)
        token = self._tokens.get(pair)
        if token and token.text != refused and timedelta(0) <= self._now() - token.asked_at < TOKEN_LIFE:
            return token.text
        task = self._sign_ins.get(pair)
        if task is None:
            task = self._sign_ins[pair] = asyncio.create_task(self._repeats.run(self._sign_in, pair))
            task.add_done_callback(lambda task: self._sign_in_ended(pair, task))
        token_text = await asyncio.shield(task)
        self._raise_if_over()
        return token_text

    def _sign_in_ended(self, pair: tuple[str, str], task: asyncio.Task[str]) -> None:
        self._sign_ins.pop(pair, None)
        if not task.cancelled():
            task.exception()  # all who waited may be gone; asyncio would log the failure as unseen

    async def _sign_in(self, pair: tuple[str, str]) -> str:
        asked_at = self._now()
        content = orjson.dumps({"glba": pair[0], "dppa": pair[1]})
        headers = {"Authorization": self._basic()}
        failpoints.reached("idicore.before_sign_in")
        try:
            reply = await post(self._open_http, self._auth_url, headers=headers, content=content, seconds=self._timeout)
        except AttemptError as error:
            raise _sign_in_error(error.reason, repeatable=error.repeatable) from None
        failpoints.reached("idicore.after_sign_in")
        if reply.status in (400, 401, 403):
            self._refuse(f"idiCORE refuses the sign-in ({reply.status}).")
        if reply.status != 200:
            repeatable = reply.status == 429 or reply.status >= 500
            raise _sign_in_error(f"status_{reply.status}", repeatable=repeatable, reply=reply)
        text = reply.body.decode("ascii", "replace").strip()
        if not _TOKEN.fullmatch(text):
            raise _sign_in_error("no_token", repeatable=True, reply=reply)
        self._tokens[pair] = _Token(text, asked_at)
        return text

    def _basic(self) -> str:
        user, password = self._settings.idicore_client_id, self._settings.idicore_client_secret
        if user is None or password is None:
            raise RefusedError("idiCORE has no sign-in. Set IDICORE_CLIENT_ID and IDICORE_CLIENT_SECRET.")
        joined = f"{user.get_secret_value()}:{password.get_secret_value()}"
        return "Basic " + base64.b64encode(joined.encode()).decode()


class _Token(NamedTuple):
    text: str
    asked_at: datetime


@dataclass(slots=True)
class _Search:
    """One search through all its attempts."""

    payload: bytes
    purpose: Purpose
    before_send: Callable[[], Awaitable[None]]
    announced: bool = False


def endpoint_of(settings: Settings) -> str:
    """``loopback/search`` on this machine whatever the port, else ``https://host/path``."""
    return endpoint_name(checked_url(settings.idicore_search_url, setting="IDICORE_SEARCH_URL"))


def idicore_workers(leads: int, settings: Settings) -> int:
    """Lookups in flight for so many leads (VENDORS.md, "Both")."""
    wanted = math.ceil(leads * settings.idicore_workers_scaling)
    return min(max(wanted, settings.idicore_min_workers), settings.idicore_max_workers)


def idicore_workers_reason(leads: int, settings: Settings) -> str:
    """Where the number of workers comes from, for who wonders about it."""
    return (
        f"{leads:,} leads x IDICORE_WORKERS_SCALING {settings.idicore_workers_scaling:g}, at least IDICORE_MIN_WORKERS "
        f"{settings.idicore_min_workers}, at most IDICORE_MAX_WORKERS {settings.idicore_max_workers}"
    )


def _payload(person: Person, reference_id: str) -> bytes:
    body: dict[str, object] = {
        "firstName": person.first_name,
        "lastName": person.last_name,
        "address": person.address,
        "city": person.city,
        "state": person.state,
        "zip": zip5(person.zip_code) or person.zip_code,
    }
    body = {key: _plain(str(value)) for key, value in body.items() if value is not None}
    return orjson.dumps({**body, "referenceId": reference_id, "fields": FIELDS})


def _plain(text: str) -> str:
    """Without half a surrogate pair, which no JSON can carry."""
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def _read_body(content: bytes) -> dict[str, Any]:
    try:
        return kept_part(orjson.loads(content))
    except orjson.JSONDecodeError:
        raise AttemptError("not_json", may_have_arrived=True, repeatable=False, status=200) from None
    except WrongShapeError:
        raise AttemptError("wrong_shape", may_have_arrived=True, repeatable=False, status=200) from None


def _error_code(content: bytes) -> str | None:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


def _sign_in_error(reason: str, *, repeatable: bool, reply: Reply | None = None) -> AttemptError:
    """A sign-in costs nothing, so it may always be repeated when that can help."""
    return AttemptError(
        f"sign_in_{reason}",
        may_have_arrived=False,
        repeatable=repeatable,
        status=reply.status if reply else None,
        retry_after=reply.retry_after if reply else None,
    )
