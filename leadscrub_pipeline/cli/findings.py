"""What verifying evidence found, as sentences, each with what to do next.

What counts as a finding is decided in steps/evidence_verification.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
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


def sentence(finding: Finding) -> str:
    """Where and what."""
    place = f"{finding.asset} in run {finding.run_id}: " if finding.run_id and finding.asset else ""
    return f"{place}{finding.text}"


def lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Each finding as a sentence, and after those with the same next step what that is."""
    for step, alike in groupby(findings, key=next_step):
        yield from map(sentence, alike)
        if step:
            yield f"    Next: {step}"


def by_chain(findings: Sequence[Finding]) -> list[str]:
    """One sentence a chain, for somebody who wants to know which runs are concerned."""
    chains: dict[tuple[str | None, str | None], list[Finding]] = {}
    for finding in findings:
        chains.setdefault((finding.run_id, finding.asset), []).append(finding)
    return [
        sentence(found[0]) if len(found) == 1 else f"{sentence(found[0])} And {len(found) - 1:,} more of this chain."
        for found in chains.values()
    ]


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
