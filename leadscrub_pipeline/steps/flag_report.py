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
    clear_without_evidence: int = 0
    """Clear phones of the partition for which there is no row of evidence of that answer; always 0."""
    evidence_rows: int = 0
    """Rows of the step's chain, those of earlier attempts included."""
    evidence_root: str = ""
    """Hash of the last of them."""
    evidence_seal: int = 0
    """The ledger's entry; 0 when there was nothing to seal."""
    chains_sealed_late: int = 0
    """What runs that ended by a kill had left unsealed."""
    rows_sealed_late: int = 0
    chains_broken: int = 0
    """Left unsealed by earlier runs, and not as they were written."""
    own_entries: dict[str, int] = field(default_factory=dict)
    """Entries of the company's list and of consents that decide about the phones, by source."""
    seconds: float = 0.0
    vendor: dict[str, int | float] = field(default_factory=dict)
