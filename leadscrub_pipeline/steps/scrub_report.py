"""What the scrub report of one partition tells, gathered from the warehouse's figures, the ledger and past runs.

How it looks on a page does not belong here, nor how past runs are read from Dagster.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from leadscrub_pipeline.domain.verdicts import SOURCES, Verdict
from leadscrub_pipeline.ledger import Ledger, RunCounts
from leadscrub_pipeline.warehouse.report_figures import Contacts, PartitionFigures

MOST_PAST_RUNS: Final = 30

_NOT_ASKED: Final = frozenset({"claimed", "failed"})
"""States of requests that were not sent, or certainly not billed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """What one run reported of the partition. None where the run did not make that asset."""

    run_id: str
    at: datetime
    """When it ended, as far as is known."""
    selected: int | None = None
    kept: int | None = None
    published: int | None = None
    hit_rate: float | None = None
    litigators: int | None = None
    """Published people with a phone on the litigator list."""
    dnc_listed: int | None = None
    """Their phone columns that are on the Do-Not-Call registry."""
    cost: Decimal | None = None
    """Dollars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Lookups that were paid for, or may have been, and dollars. The bill lies between cost and cost + unknown_cost."""

    lookups: int = 0
    cost: Decimal = Decimal("0.00")
    unknown_cost: Decimal = Decimal("0.00")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubReport:
    """One partition at one time."""

    title: str
    kind: str
    """demo or live"""
    made_at: datetime
    figures: PartitionFigures
    price: Decimal | None
    """Dollars of one lookup; None when no price is set."""
    run_spend: Spent
    """Of the run that last looked for contacts."""
    script_spend: Spent
    past_runs: tuple[PastRun, ...]
    """The newest at most, the oldest first."""

    @property
    def script(self) -> str:
        return self.figures.partition_key

    def numbers(self) -> dict[str, int]:
        """Counts under stable keys, zeros included. Kept leads that were not looked up yet are waiting.

        Those up to ``callable`` are of the latest run, the others of all that the script has published.
        ``phones`` and ``callable`` count distinct phones, whosever they are.
        """
        selection, contacts, phones = self.figures.selection, self.figures.contacts, self.figures.phones
        found = Contacts(run_id="", at=selection.at, waiting=selection.kept) if contacts is None else contacts
        answered = ("published", "contacts_found", "people_with_phone", "hits", "misses", "reused")
        put_off = ("deferred", "held", "taken", "waiting")
        return {
            **{
                name: getattr(selection, name)
                for name in ("selected", "rejected", "duplicate", "already_processed", "kept")
            },
            **{name: getattr(found, name) for name in (*answered, *put_off)},
            "phones": phones.run_phones,
            "callable": phones.run_callable,
            "script_people": phones.people,
            "script_people_with_phone": phones.people_with_phone,
            "script_phones": phones.phones,
            "callable_phones": phones.callable,
            **{
                f"{source}_{verdict.value}": phones.verdicts[source][verdict.value]
                for source in SOURCES
                for verdict in Verdict
            },
        }

    def as_dict(self) -> dict[str, object]:
        """Everything the report tells, as plain values for JSON; money is text."""
        figures = self.figures
        return {
            "script": self.script,
            "title": self.title,
            "kind": self.kind,
            "made_at": self.made_at,
            "run_id": figures.selection.run_id,
            "selected_at": figures.selection.at,
            "pending": list(figures.pending),
            **self.numbers(),
            "rejected_by_reason": dict(figures.selection.rejected_by_reason),
            "deferred_or_held_by_reason": {} if figures.contacts is None else dict(figures.contacts.put_off_by_reason),
            "unknown_by_reason": {
                source: dict(reasons) for source, reasons in figures.phones.unknown_by_reason.items()
            },
            "price_per_lookup": self.price,
            "run_spend": asdict(self.run_spend),
            "script_spend": asdict(self.script_spend),
            "past_runs": [asdict(run) for run in self.past_runs],
        }


def gather(
    figures: PartitionFigures,
    ledger: Ledger | None,
    past_runs: Sequence[PastRun],
    *,
    title: str,
    kind: str,
    price: Decimal | None,
    made_at: datetime,
) -> ScrubReport:
    """Put a partition's figures together with what was spent on it; ``ledger`` is None when nobody was looked up."""
    run_id = figures.selection.run_id if figures.contacts is None else figures.contacts.run_id
    return ScrubReport(
        title=title,
        kind=kind,
        made_at=made_at,
        figures=figures,
        price=price,
        run_spend=Spent() if ledger is None else _spend(ledger.lookups_of_run(run_id)),
        script_spend=Spent() if ledger is None else _spend(ledger.lookups_of_script(figures.partition_key)),
        past_runs=tuple(sorted(past_runs, key=lambda run: run.at)[-MOST_PAST_RUNS:]),
    )


def _spend(counts: RunCounts) -> Spent:
    lookups = sum(number for state, number in counts.states.items() if state not in _NOT_ASKED)
    return Spent(lookups=lookups, cost=counts.cost, unknown_cost=counts.unknown_cost)
