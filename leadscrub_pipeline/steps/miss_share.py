"""The guard against buying nothing: a suspended account answers "no match" to everything."""

from collections import deque
from collections.abc import Iterable
from typing import Final

WINDOW: Final = 100


class MissShareGuard:
    """Watches the last 100 lookups that were paid for, over runs.

    ``recent`` are the outcomes before this run, newest first. With a ``max_share`` of 1 it
    never trips.
    """

    def __init__(self, max_share: float, recent: Iterable[str] = ()) -> None:
        self._max_share = max_share
        self._misses: deque[bool] = deque((outcome == "miss" for outcome in reversed(list(recent))), maxlen=WINDOW)

    def record(self, outcome: str) -> bool:
        """Count one more outcome and tell whether the share of misses is now too high."""
        self._misses.append(outcome == "miss")
        return self.is_tripped

    @property
    def is_tripped(self) -> bool:
        return len(self._misses) == WINDOW and sum(self._misses) > self._max_share * WINDOW
