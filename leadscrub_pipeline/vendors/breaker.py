"""The breaker between this process and a vendor that is down.

It opens after so many failures in a row and lets one probe through at a time. What counts
as a failure, and how long a request waits before it is repeated, does not belong here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.errors import UnavailableError

PROBES: Final = 3


class Health(StrEnum):
    """What an attempt says about the vendor."""

    UP = "up"
    """It answered, if only to refuse this one request."""
    BUSY = "busy"
    """It asked to come later: no failure while waiting helps, but no probe passes with it."""
    DOWN = "down"


class BreakerExhaustedError(UnavailableError):
    """Three probes in a row failed. Nothing that raises this was billed by the attempt it stopped."""


class Breaker:
    """Counts failures in a row; while open, callers of ``attempt`` wait and use up no attempts.

    ``seconds`` after it opened, one waiter goes through as the probe. Its success closes the
    breaker for all; its failure opens it for another ``seconds``. A probe that ends without
    saying anything about the vendor, a cancelled one for example, hands its turn on.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        seconds: float,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.openings = 0
        self._name = name
        self._limit = failures
        self._seconds = seconds
        self._sleep = sleep
        self._clock = clock
        self._failures = 0
        self._failed_probes = 0
        self._opened_at: float | None = None
        self._probing = False
        self._exhausted = False
        self._changed: asyncio.Event | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    def attempt(self) -> "Attempt":
        """``async with`` it: waits until an attempt may be made; the body sets how it went as ``health``.

        Raises:
            BreakerExhaustedError: on entering, when the vendor did not recover.
        """
        return Attempt(self)

    async def enter(self) -> bool:
        """Wait for a turn; True when it is the probe's."""
        while (opened_at := self._opened_at) is not None:
            if self._exhausted:
                raise BreakerExhaustedError(
                    f"{self._name} did not recover: {PROBES} probes in a row failed. "
                    "What was answered is stored; run again when the vendor is up."
                )
            if self._probing:
                await self._change()
                continue
            self._probing = True
            try:
                await self._sleep(max(0.0, opened_at + self._seconds - self._clock()))
            except BaseException:
                self._hand_on()
                raise
            return True
        return False

    def leave(self, attempt: "Attempt") -> None:
        if attempt.is_probe:
            self._judge_probe(attempt.health)
        elif attempt.health is Health.DOWN:
            self.count_failure()
        elif attempt.health is Health.UP and not self.is_open:
            self._failures = 0

    def count_failure(self) -> None:
        """One more failure in a row; while open it says nothing about now, and is ignored."""
        if self.is_open:
            return
        self._failures += 1
        if self._failures >= self._limit:
            self._open()

    def _judge_probe(self, health: Health | None) -> None:
        if health is Health.UP:
            self._opened_at = None
            self._failures = self._failed_probes = 0
            failpoints.reached("breaker.closed")
        elif health is not None:
            self._failed_probes += 1
            self._exhausted = self._failed_probes >= PROBES
            self._open()
        self._hand_on()

    def _open(self) -> None:
        self._opened_at = self._clock()
        self.openings += 1
        failpoints.reached("breaker.opened")

    def _hand_on(self) -> None:
        self._probing = False
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()


class Attempt:
    """One attempt that the breaker let through; ``health`` stays None when it told nothing."""

    __slots__ = ("_breaker", "health", "is_probe")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self.is_probe = False
        self.health: Health | None = None

    @property
    def is_current(self) -> bool:
        """False when the breaker has opened since this attempt was let through: ``renew`` it, and wait again."""
        return self.is_probe or not self._breaker.is_open

    async def renew(self) -> None:
        self.is_probe = await self._breaker.enter()

    async def __aenter__(self) -> Self:
        await self.renew()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._breaker.leave(self)
