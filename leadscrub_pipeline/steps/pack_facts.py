"""What a safe-harbour pack tells, gathered before it is written: the report and the files are made from these values.

How they look on a page or in a file does not belong here.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from leadscrub_pipeline.domain.verdicts import Reason
from leadscrub_pipeline.ledger.evidence_roots import Chain
from leadscrub_pipeline.ledger.pruning import Pruning
from leadscrub_pipeline.ledger.trace_reading import Outcome
from leadscrub_pipeline.steps.pack_files import WrittenFile
from leadscrub_pipeline.warehouse.evidence_period import PeriodFacts


@dataclass(frozen=True, slots=True)
class Told:
    """What verifying all evidence found. ``findings`` are sentences, one a chain."""

    rows: int
    chains: int
    seals: int
    unsealed: int
    findings: tuple[str, ...]
    count: int
    """Of single findings."""


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """What one asset of one run checked in the period, and the seal over its chain. Times as tables hold them."""

    run_id: str | None
    asset: str | None
    script: str | None
    script_hash: str | None
    purpose: str | None
    source: str | None
    started_at: datetime
    ended_at: datetime
    checks: int
    listed: int
    clear: int
    unknown: int
    row_count: int
    unsealed: int
    root: str | None
    seal_entry: int | None
    sealed_at: datetime | None
    pruned_at: datetime | None


@dataclass(frozen=True, slots=True)
class PackFacts:
    since: datetime
    until: datetime
    made_at: datetime
    kind: str
    masked: bool
    period: PeriodFacts
    process: tuple[ProcessLine, ...]
    lookups: tuple[Outcome, ...]
    prunings: tuple[Pruning, ...]
    pruned_chains: tuple[Chain, ...]
    verified: Told
    files: tuple[WrittenFile, ...]


REASON_WORDS: Final = {
    Reason.NO_PHONE: "there was no number",
    Reason.NOT_NANP: "the number is none of the North American plan",
    Reason.NO_VERDICT: "the source was not asked",
    Reason.EXPIRED: "the answer was too old to count",
    Reason.TIMEOUT: "the source did not answer in time",
    Reason.VENDOR_ERROR: "the source answered with an error",
    Reason.NOT_JSON: "the source's answer could not be read",
    Reason.WRONG_SHAPE: "the source's answer was not of the form agreed on",
    Reason.WRONG_TYPE: "the source's answer for the number was neither yes nor no",
    Reason.MISSING_FROM_ANSWER: "the number was missing from the source's answer",
    Reason.CONTRADICTORY_ANSWER: "the source's answer said both yes and no",
    Reason.MALFORMED_BY_VENDOR: "the source refused the number as malformed",
    Reason.CONTROL_FAILED: "a known litigator's number came back clear, so the whole batch was not believed",
    Reason.STALE_LIST: "the registry version was older than 31 days",
    Reason.LIST_OF_UNKNOWN_AGE: "it was not known when the registry version was obtained",
    Reason.AREA_CODE_NOT_COVERED: "the registry version does not cover the number's area code",
}
