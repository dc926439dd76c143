"""What verifying evidence found, as sentences, each with what to do next.

What counts as a finding is decided in steps/evidence_verification.py.
"""

from collections.abc import Iterable
from typing import Any, Final

from leadscrub_pipeline.steps.evidence_verification import Finding

_ROWS: Final = (
    "Compare this chain with a backup of the warehouse and find out who wrote to SCRUB_EVIDENCE. Until it is "
    "explained, leadscrub results withdraw with the run's id keeps its rows from being called."
)
_LEDGER: Final = (
    "Compare the ledger with a backup (leadscrub ledger restore, into a folder of its own), and with the roots in the "
    "metadata of the runs' materializations in Dagster."
)
_STRANGER: Final = (
    "If the ledger was brought back from an older backup, bring back a newer one. Else somebody put these rows in: do "
    "not rely on them."
)
_NEXT_STEPS: Final = {
    "seal_missing": _LEDGER,
    "seal_broken": _LEDGER,
    "seal_edited": _LEDGER,
    "chain_missing": _LEDGER,
    "chain_and_seal_differ": _LEDGER,
    "pruned_by_nobody": _LEDGER,
    "no_ledger": "Set LEADSCRUB_HOME or LEADSCRUB_LEDGER_URL to the ledger that belongs to this warehouse.",
    "nameless": _STRANGER,
    "not_in_ledger": _STRANGER,
    "behind_the_seal": _STRANGER,
    "pruned_and_present": "",
    "not_borne_out": (
        "Withdraw the scripts that hold these numbers (leadscrub results withdraw), delete the verdicts from "
        "PHONE_VERDICTS, and run the scripts with --already-processed include: the numbers are asked about anew."
    ),
}


def sentence(finding: Finding, *, with_next_step: bool = False) -> str:
    """Where, what, and when asked for what to do."""
    place = f"{finding.asset} in run {finding.run_id}: " if finding.run_id and finding.asset else ""
    told = f"{place}{finding.text}"
    step = next_step(finding)
    return f"{told} {step}" if with_next_step and step else told


def next_step(finding: Finding) -> str:
    return _NEXT_STEPS.get(finding.kind, _ROWS)


def as_rows(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "kind": finding.kind,
            "run_id": finding.run_id,
            "asset": finding.asset,
            "sequence": finding.sequence,
            "text": finding.text,
            "next_step": next_step(finding) or None,
        }
        for finding in findings
    ]
