"""What a rescrub reports: per source what was asked and answered, per flag what it became."""

from dataclasses import dataclass, field
from typing import Any

from leadscrub_pipeline.domain.verdicts import CCC, DNC
from leadscrub_pipeline.errors import FailedError, LeadscrubError, RefusedError, StaleListError, UnavailableError
from leadscrub_pipeline.steps.flag_report import FlagReport
from leadscrub_pipeline.warehouse.rescrub import FLIPS, Updated


@dataclass(slots=True)
class RescrubReport:
    """The numbers an operator asks for, the same keys always.

    A source's ``verdicts`` and ``reasons`` are of all published phones as they stand at the
    end, expired answers as unknown.
    """

    sources: dict[str, FlagReport] = field(default_factory=lambda: {DNC: FlagReport(), CCC: FlagReport()})
    rows: Updated = field(default_factory=Updated)
    problems: dict[str, LeadscrubError] = field(default_factory=dict)
    """By source, what kept it from being asked in full."""
    seconds: float = 0.0

    def numbers(self) -> dict[str, int]:
        counts = {
            "rows": self.rows.rows,
            "rows_updated": self.rows.updated,
            "changed_meanwhile": self.rows.changed_meanwhile,
            "visits_changed": self.rows.visits_changed,
            "phones": max(source.phones for source in self.sources.values()),
            "problems": len(self.problems),
        }
        for name, source in self.sources.items():
            counts |= {f"{name}_asked": source.asked, f"{name}_reused": source.reused}
            counts |= {f"{name}_requests": source.requests, f"{name}_evidence_rows": source.evidence_rows}
            counts |= {f"{name}_{verdict}": source.verdicts.get(verdict, 0) for verdict in _VERDICTS}
        return counts | self.flips()

    def flips(self) -> dict[str, int]:
        """How often a flag became what, and from what: ``dnc_became_true``, ``dnc_null_to_true``."""
        became = {f"{name}_became_{after}": 0 for name in ("litigator", "dnc") for after in ("true", "false", "null")}
        for flip in FLIPS:
            became[f"{flip[0]}_became_{flip[2]}"] += self.rows.flips[flip]
        exact = {f"{name}_{before}_to_{after}": self.rows.flips[name, before, after] for name, before, after in FLIPS}
        return became | exact

    def unknown_by_reason(self) -> dict[str, int]:
        """Published phones without an answer that counts, by source and reason: ``ccc: timeout``."""
        found = {
            f"{name}: {reason}": count
            for name, source in self.sources.items()
            for reason, count in source.reasons.items()
        }
        return dict(sorted(found.items()))

    def seals(self) -> dict[str, dict[str, Any]]:
        """The evidence of each source: its rows, the hash of the last, and the ledger's entry."""
        return {
            name: {"rows": source.evidence_rows, "root": source.evidence_root, "seal": source.evidence_seal}
            for name, source in self.sources.items()
        }

    def sentence(self) -> str:
        flips = self.flips()
        asked = ", ".join(f"{source.asked:,} asked of {name}" for name, source in self.sources.items())
        return (
            f"{self.rows.rows:,} rows: {asked}; {self.rows.updated:,} rows updated. Litigator flags: "
            f"{flips['litigator_became_true']:,} became TRUE, {flips['litigator_became_false']:,} FALSE, "
            f"{flips['litigator_became_null']:,} NULL; Do-Not-Call flags: {flips['dnc_became_true']:,} became TRUE, "
            f"{flips['dnc_became_false']:,} FALSE, {flips['dnc_became_null']:,} NULL."
        )

    def raise_problems(self) -> None:
        """Raise what kept a source from being asked, as one error; it can be repeated when any of it can pass."""
        if not self.problems:
            return
        problems = list(self.problems.values())
        told = " ".join(str(problem) for problem in problems)
        # What can pass goes first. A stale list is unavailable, too, and does not become newer by another try.
        if any(one.may_pass for one in problems):
            raise UnavailableError(told)
        for kind in (StaleListError, RefusedError):
            if any(isinstance(one, kind) for one in problems):
                raise kind(told)
        raise FailedError(told)


_VERDICTS = ("listed", "clear", "unknown")
