"""What a step that checks phones reports."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class FlagReport:
    """The numbers an operator asks for. ``verdicts`` counts the partition's phones, asked and reused."""

    phones: int = 0
    asked: int = 0
    reused: int = 0
    workers: int = 0
    requests: int = 0
    controls_partly_clear: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    vendor: dict[str, int | float] = field(default_factory=dict)
