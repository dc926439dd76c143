"""CCC (dnc.com): which phones belong to known litigators, answered for every phone that is asked.

A phone is clear only when the vendor said so in plain JSON and the positive controls of the
same request were found. How long an answer is good for, and where it is stored, does not
belong here.
"""

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Self

import httpx
import orjson

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.domain.phones import parse_phone
from leadscrub_pipeline.domain.verdicts import CLEAR, LISTED, Answer, Reason, Verdict, unknown
from leadscrub_pipeline.errors import FailedError, RefusedError
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.vendors.breaker import Breaker, Health
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

Controls = Literal["all", "some", "failed", "none_configured", "unanswered"]

BREAKER_FAILURES: Final = 5
REQUESTS_PER_SECOND: Final = 15.0
BURST: Final = 100
"""15 a second after a burst of 100 stays within the 1,000 a minute of VENDORS.md."""
MAX_REFUSALS_WITHOUT_ANSWER: Final = 40
"""After so many 400s and no 200 it is not a phone that is malformed, and halving stops."""
_REASONS: Final = {
    "timeout": Reason.TIMEOUT,
    "connect_timeout": Reason.TIMEOUT,
    "not_json": Reason.NOT_JSON,
    "wrong_shape": Reason.WRONG_SHAPE,
}
_SEVERITY: Final[tuple[Controls, ...]] = ("none_configured", "all", "some", "unanswered", "failed")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """An answer for every asked phone.

    ``controls`` is the worst of the batch's requests: ``some`` deserves a warning, ``failed``
    made every clear answer unknown. ``extra`` counts answers that nobody asked for.
    ``endpoint`` says whose answers these are.
    """

    answers: dict[str, Answer]
    requests: int
    controls: Controls
    extra: int
    endpoint: str


class CccClient:
    """One deployment's line to CCC; an async context manager, for one event loop."""

    def __init__(self, settings: Settings, *, sleep: Sleep = asyncio.sleep) -> None:
        self._settings = settings
        self._url = checked_url(settings.ccc_api_url, setting="CCC_API_URL")
        self._controls = _control_numbers(settings)
        self._capacity = settings.ccc_batch_size - len(self._controls)
        if self._capacity < 1:
            raise RefusedError("CCC_CONTROL_NUMBERS fill CCC_BATCH_SIZE: no room is left for phones.")
        self._http: httpx.AsyncBaseTransport | None = None
        self._stop = Stop(sleep)
        self._breaker = Breaker(
            "CCC", failures=BREAKER_FAILURES, seconds=settings.leadscrub_breaker_seconds, sleep=self._sleep
        )
        self.stats = Stats(self._breaker)
        self._pacer = Pacer(REQUESTS_PER_SECOND, burst=BURST, sleep=self._sleep)
        self._repeats = Repeats(
            retries=settings.ccc_max_retries,
            base_delay=settings.ccc_retry_base_delay,
            max_delay=settings.ccc_retry_max_delay,
            sleep=self._sleep,
            stats=self.stats,
            if_it_may_have_arrived=True,
        )
        self._refused: str | None = None

    @property
    def is_loopback(self) -> bool:
        return is_loopback_url(self._settings.ccc_api_url)

    @property
    def endpoint(self) -> str:
        """Whose answers these are, for the evidence: the same on any loopback port."""
        return endpoint_name(self._url)

    @property
    def has_controls(self) -> bool:
        return bool(self._controls)

    async def __aenter__(self) -> Self:
        if self._settings.ccc_api_key is None:
            raise RefusedError("CCC has no key. Set CCC_API_KEY.")
        self._http = open_http()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.aclose()

    def batches(self, phones: Iterable[str]) -> list[list[str]]:
        """Distinct phones in their order, each batch with room for the controls."""
        distinct = list(dict.fromkeys(phones))
        return [distinct[at : at + self._capacity] for at in range(0, len(distinct), self._capacity)]

    async def check(self, batch: Sequence[str]) -> BatchResult:
        """Ask about at most one batch of phones; trouble with the vendor becomes unknown answers.

        A phone that is not ten digits is unknown (``not_nanp``) and is not sent: one such number
        fails a whole request.

        Raises:
            AccessRefusedError: the key is not accepted; all further checks raise it at once.
            BreakerExhaustedError: the vendor did not recover.
        """
        if len(batch) > self._capacity:
            raise ValueError(f"a batch holds at most {self._capacity} phones besides the controls")
        phones = [phone for phone in dict.fromkeys(batch) if _is_ten_digits(phone)]
        work = _Batch(answers={phone: unknown(Reason.NOT_NANP) for phone in batch if not _is_ten_digits(phone)})
        if phones:
            await self._check(phones, self._controls, work)
        # With no request accepted at all it is the vendor that refuses, not a number that is malformed.
        reason = Reason.MALFORMED_BY_VENDOR if work.accepted else Reason.VENDOR_ERROR
        work.answers.update(dict.fromkeys(work.culprits, unknown(reason)))
        worst = max(work.controls, key=_SEVERITY.index, default="unanswered" if self._controls else "none_configured")
        return BatchResult(work.answers, work.requests, worst, work.extra, self.endpoint)

    def stop(self) -> None:
        """Let requests on the wire finish; what waits, and what comes later, is unknown at once (``no_verdict``).

        For interrupts. Call it in the client's loop, from another thread by ``loop.call_soon_threadsafe``.
        """
        self._stop.set()

    async def _sleep(self, seconds: float) -> None:
        self._raise_if_stopped()
        await self._stop.sleep(seconds)
        self._raise_if_stopped()

    def _raise_if_stopped(self) -> None:
        if self._stop.is_set:
            raise _StoppedError("CCC was not asked: stopped.")

    async def _check(self, phones: list[str], controls: tuple[str, ...], work: "_Batch") -> None:
        try:
            if work.is_hopeless:
                raise AttemptError("refused_always", may_have_arrived=True, repeatable=False)
            if not await self._ask(phones, controls, work):
                await self._find_culprit(phones, controls, work)
        except _StoppedError:
            work.controls.append("unanswered")
            work.answers.update(dict.fromkeys(phones, unknown(Reason.NO_VERDICT)))
        except AttemptError as error:
            self.stats.failures += 1
            if error.health is Health.BUSY:
                self._breaker.count_failure()
            work.controls.append("unanswered")
            work.answers.update(dict.fromkeys(phones, unknown(_REASONS.get(error.reason, Reason.VENDOR_ERROR))))

    async def _find_culprit(self, phones: list[str], controls: tuple[str, ...], work: "_Batch") -> None:
        """Of a refused request: see that it is not the controls, then halve until the number stands alone."""
        if controls and work.controls_accepted is None:
            work.controls_accepted = await self._ask([], controls, work)
        if controls and not work.controls_accepted:
            await self._check(phones, (), work)
        elif len(phones) > 1:
            middle = len(phones) // 2
            await self._check(phones[:middle], controls, work)
            await self._check(phones[middle:], controls, work)
        else:
            work.culprits += phones

    async def _ask(self, phones: list[str], controls: tuple[str, ...], work: "_Batch") -> bool:
        """Send one request, with repeats, and take its answers in; False when it was refused as malformed."""
        numbers = list(dict.fromkeys((*phones, *controls)))
        rows = await self._repeats.run(self._attempt, numbers, work)
        if rows is None:
            work.refusals += 1
            return False
        work.accepted += 1
        self._take(rows, phones, controls, work)
        return True

    async def _attempt(self, numbers: list[str], work: "_Batch") -> list[object] | None:
        async with self._breaker.attempt() as attempt:
            await self._pacer.turn()
            while not attempt.is_current:
                await attempt.renew()
                await self._pacer.turn()
            try:
                rows = self._judge(await self._post(numbers, work))
            except AttemptError as error:
                attempt.health = error.health
                raise
            attempt.health = Health.UP
            return rows

    async def _post(self, numbers: list[str], work: "_Batch") -> Reply:
        if self._refused is not None:
            raise AccessRefusedError(self._refused)
        if self._http is None or self._settings.ccc_api_key is None:
            raise RuntimeError("CccClient is used outside its async with block")
        self._raise_if_stopped()
        headers = {"loginId": self._settings.ccc_api_key.get_secret_value()}
        content = orjson.dumps({"PhoneList": ",".join(numbers), "OutputFormat": "JsonArray"})
        self.stats.requests += 1
        work.requests += 1
        failpoints.reached("ccc.before_request")
        reply = await post(self._http, self._url, headers=headers, content=content, seconds=self._settings.ccc_timeout)
        failpoints.reached("ccc.after_answer")
        self.stats.record(reply.seconds)
        return reply

    def _judge(self, reply: Reply) -> list[object] | None:
        """The rows of the answer, or None when the request was refused as malformed."""
        if reply.status == 400:
            return None
        if reply.status in (401, 403):
            self._refused = f"CCC refuses the key ({reply.status}). Check CCC_API_KEY and the plan."
            raise AccessRefusedError(self._refused)
        if reply.status != 200:
            is_busy = reply.status == 429
            if is_busy and reply.retry_after and reply.retry_after <= self._settings.ccc_retry_max_delay:
                self._pacer.pause(reply.retry_after)
            raise AttemptError(
                f"status_{reply.status}",
                may_have_arrived=True,
                repeatable=is_busy or reply.status in (408, 425) or reply.status >= 500,
                health=Health.BUSY if is_busy else Health.DOWN,
                status=reply.status,
                retry_after=reply.retry_after,
            )
        try:
            rows = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            raise AttemptError("not_json", may_have_arrived=True, status=200) from None
        if not isinstance(rows, list):
            raise AttemptError("wrong_shape", may_have_arrived=True, status=200)
        return rows

    def _take(self, rows: list[object], phones: list[str], controls: tuple[str, ...], work: "_Batch") -> None:
        seen: dict[str, Answer] = {}
        asked = {*phones, *controls}
        for row in rows:
            phone, answer = _read_row(row)
            if phone is None or phone not in asked:
                work.extra += 1
            elif seen.setdefault(phone, answer) != answer:
                seen[phone] = unknown(Reason.CONTRADICTORY_ANSWER)
        state = self._control_state(seen, controls)
        work.controls.append(state)
        for phone in phones:
            answer = seen.get(phone, unknown(Reason.MISSING_FROM_ANSWER))
            if answer.verdict is Verdict.CLEAR and (state == "failed" or phone in self._controls):
                answer = unknown(Reason.CONTROL_FAILED)
            work.answers[phone] = answer

    def _control_state(self, seen: dict[str, Answer], controls: tuple[str, ...]) -> Controls:
        if not self._controls:
            return "none_configured"
        listed = sum(seen.get(control) == LISTED for control in controls)
        if listed == 0:
            return "failed"
        return "all" if listed == len(self._controls) else "some"


class _StoppedError(FailedError):
    """``stop`` came before a request was sent."""


@dataclass(slots=True)
class _Batch:
    """What the requests of one batch have brought so far."""

    answers: dict[str, Answer]
    controls: list[Controls] = field(default_factory=list)
    culprits: list[str] = field(default_factory=list)
    controls_accepted: bool | None = None
    requests: int = 0
    accepted: int = 0
    refusals: int = 0
    extra: int = 0

    @property
    def is_hopeless(self) -> bool:
        return self.accepted == 0 and self.refusals >= MAX_REFUSALS_WITHOUT_ANSWER


def ccc_workers(phones: int, settings: Settings) -> int:
    """Batches in flight for so many phones (VENDORS.md, "Both")."""
    wanted = math.ceil(phones / settings.ccc_batch_size * settings.ccc_workers_per_batch)
    return min(max(wanted, settings.ccc_min_workers), settings.ccc_max_workers)


def ccc_workers_reason(phones: int, settings: Settings) -> str:
    """Where the number of workers comes from, for who wonders about it."""
    return (
        f"{phones:,} phones / CCC_BATCH_SIZE {settings.ccc_batch_size} x CCC_WORKERS_PER_BATCH "
        f"{settings.ccc_workers_per_batch:g}, at least CCC_MIN_WORKERS {settings.ccc_min_workers}, at most "
        f"CCC_MAX_WORKERS {settings.ccc_max_workers}"
    )


def _control_numbers(settings: Settings) -> tuple[str, ...]:
    numbers = []
    for at, text in enumerate(settings.ccc_control_numbers, start=1):
        digits = parse_phone(text).digits
        if digits is None:
            raise RefusedError(f"CCC_CONTROL_NUMBERS: entry {at} is no phone of ten digits.")
        numbers.append(digits)
    return tuple(dict.fromkeys(numbers))


def _is_ten_digits(phone: str) -> bool:
    return len(phone) == 10 and phone.isascii() and phone.isdigit()


def _read_row(row: object) -> tuple[str | None, Answer]:
    """The phone a row is about, if it can be read, and what it says. Only JSON's true and false are answers."""
    if not isinstance(row, dict):
        return None, unknown(Reason.WRONG_SHAPE)
    phone, is_litigator = row.get("Phone"), row.get("IsLitigator")
    if isinstance(phone, int) and not isinstance(phone, bool):
        phone = str(phone)
    if not isinstance(phone, str) or not _is_ten_digits(phone):
        return None, unknown(Reason.WRONG_SHAPE)
    if is_litigator is True:
        return phone, LISTED
    return phone, CLEAR if is_litigator is False else unknown(Reason.WRONG_TYPE)
