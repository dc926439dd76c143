"""What is usual for a rate: bounds from its own past, and fixed ones until there is enough of it.

Pure: where past rates come from and what happens to an unusual one does not belong here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

RUNS_NEEDED: Final = 10
_SPREADS: Final = 4.0
"""So many robust standard deviations away is unusual: one run in ten thousand if rates were normal."""
_NORMAL: Final = 1.4826
"""The median deviation of a normal distribution times this is its standard deviation."""
_LEAST_SPREAD: Final = 0.02
"""Rates that never moved would make any change unusual."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between ``low`` and ``high``, both included, a rate is usual."""

    low: float
    high: float
    basis: Literal["fixed", "history"]
    runs: int
    """Past runs that were looked at."""

    def holds(self, rate: float) -> bool:
        return self.low <= rate <= self.high


def usual_bounds(past: Sequence[float], *, fixed: tuple[float, float]) -> Bounds:
    """Bounds of a rate between 0 and 1, given those of past runs.

    Median and median deviation, so that one night's outage does not widen them.
    """
    if len(past) < RUNS_NEEDED:
        return Bounds(*fixed, "fixed", len(past))
    middle = median(past)
    spread = max(median(abs(rate - middle) for rate in past) * _NORMAL, _LEAST_SPREAD)
    return Bounds(max(middle - _SPREADS * spread, 0.0), min(middle + _SPREADS * spread, 1.0), "history", len(past))
