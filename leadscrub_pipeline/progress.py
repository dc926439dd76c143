"""Progress of a long step: counts and rate, once every few seconds, never a line a lead."""

import time
from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 5.0

Report = Callable[[str], None]


class Progress:
    """Says how far a step is, at most every few seconds."""

    def __init__(self, report: Report, *, noun: str, total: int | None, every: float = EVERY_SECONDS) -> None:
        self._report = report
        self._noun = noun
        self._total = total
        self._every = every
        self._started = time.monotonic()
        self._next = self._started + every
        self.done = 0

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        rate = self.done / (now - self._started)
        if self._total is None:  # nobody knows before the end
            self._report(f"{self.done:,} {self._noun}, {rate:,.0f} a second")
            return
        left = f", {(self._total - self.done) / rate:.0f} s left" if rate > 0 else ""
        self._report(f"{self.done:,} of {self._total:,} {self._noun}, {rate:,.0f} a second{left}")
