"""The sums of DESIGN.md section 2: no lead is lost. Every test that runs the graph checks them here."""

from collections.abc import Mapping
from typing import Any


def check_sums(counts: Mapping[str, Any]) -> None:
    """selected and kept are what became of them, in the words of ``run --json``."""
    assert counts["selected"] == sum(counts[name] for name in ("rejected", "duplicate", "already_processed", "kept")), (
        counts
    )
    assert counts["kept"] == sum(counts[name] for name in ("published", "deferred", "held", "taken")), counts
