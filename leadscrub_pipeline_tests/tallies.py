"""What the tests counted (points killed, histories, faults), added up over all workers and printed at the end.

The printing is in ``conftest.py``; here is only the count.
"""

from collections import Counter

_counts: Counter[str] = Counter()


def tally(name: str, count: int = 1) -> None:
    """Add to a count that is printed after the tests, such as ``tally("histories", 60)``."""
    _counts[name] += count


def counted() -> Counter[str]:
    """All counts of this process, and of the workers that have ended."""
    return _counts
