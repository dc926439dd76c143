"""The scrub report in words and lines: what both its forms, the page and the Markdown twin, say alike.

Marking up for either form does not belong here; every text is plain and not escaped yet.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from leadscrub_pipeline.domain.verdicts import CCC, DNC, Reason, Verdict
from leadscrub_pipeline.steps.pack_facts import REASON_WORDS
from leadscrub_pipeline.steps.scrub_report import PastRun, ScrubReport, Spent

SOURCE_WORDS: Final = {CCC: "Litigator list", DNC: "Do-Not-Call registry"}

PAST_RUN_HEADS: Final = (
    "Run ended (UTC)", "Selected", "Kept", "Published", "Hit rate", "Litigators", "Do-Not-Call numbers", "Dollars",
)  # fmt: skip

_FUNNEL: Final = (
    ("selected", "Selected"),
    ("kept", "Kept"),
    ("published", "Published"),
    ("contacts_found", "Contacts found"),
    ("people_with_phone", "People with a phone"),
    ("phones", "Phones"),
    ("callable", "Callable now"),
)
_PHONE_STEPS: Final = frozenset({"phones", "callable"})

_LEFT: Final = (
    ("rejected", "Rejected: not usable for a lookup"),
    ("duplicate", "Duplicate of another lead of the script"),
    ("already_processed", "Already processed by an earlier run"),
    ("deferred", "Deferred: not asked about now, comes again by itself"),
    ("held", "Held: no further lookup is allowed"),
    ("taken", "Taken: another script published the person first"),
    ("waiting", "Waiting: not looked up, or not published yet"),
    ("published", "Published"),
)

_REASONS: Final = {
    "no_first_name": "no usable first name",
    "no_last_name": "no usable last name",
    "no_address": "no usable address",
    "no_place": "neither a ZIP nor city and state",
    "run_cap": "the run's cap on lookups was reached",
    "daily_budget": "the day's budget was reached",
}


class Step(NamedTuple):
    """One bar of the funnel."""

    label: str
    number: int
    counts_phones: bool


def funnel(report: ScrubReport) -> list[Step]:
    """From selected to callable, of the latest run."""
    numbers = report.numbers()
    return [Step(label, numbers[key], key in _PHONE_STEPS) for key, label in _FUNNEL]


def leads_by_end(report: ScrubReport) -> list[tuple[str, int]]:
    """Where each selected lead ended; the counts add up to selected."""
    numbers = report.numbers()
    return [(label, numbers[key]) for key, label in _LEFT]


def lead_reasons(report: ScrubReport) -> list[tuple[str, list[tuple[str, int]]]]:
    """Why leads were not looked up: a heading, and each reason with its leads. Headings without any are left out."""
    contacts = report.figures.contacts
    kinds = (
        ("Why leads were rejected", report.figures.selection.rejected_by_reason),
        ("Why leads were deferred or held", {} if contacts is None else contacts.put_off_by_reason),
    )
    return [
        (heading, [(_lead_reason(reason), count) for reason, count in _by_count(reasons)])
        for heading, reasons in kinds
        if reasons
    ]


def verdict_lines(report: ScrubReport) -> list[tuple[str, int, int, int, int]]:
    """A line a source: phones that are clear, listed, unknown, and all."""
    lines = []
    for source, words in SOURCE_WORDS.items():
        counts = report.figures.phones.verdicts[source]
        parts = (counts[Verdict.CLEAR], counts[Verdict.LISTED], counts[Verdict.UNKNOWN])
        lines.append((words, *parts, sum(parts)))
    return lines


def unknown_lines(report: ScrubReport) -> list[tuple[str, str, int]]:
    """Source, reason and phones, the most frequent reason of a source first."""
    return [
        (SOURCE_WORDS[source], _verdict_reason(reason), count)
        for source, reasons in report.figures.phones.unknown_by_reason.items()
        for reason, count in _by_count(reasons)
    ]


def spend_lines(report: ScrubReport) -> list[tuple[str, Spent]]:
    return [("The latest run", report.run_spend), ("All runs of this script", report.script_spend)]


def past_run_cells(run: PastRun) -> list[str]:
    counts = (run.selected, run.kept, run.published)
    rate = "-" if run.hit_rate is None else f"{run.hit_rate:.1%}"
    listed = (run.litigators, run.dnc_listed)
    return [f"{run.at:%Y-%m-%d %H:%M}", *map(_count, counts), rate, *map(_count, listed), dollars(run.cost)]


def dollars(amount: Decimal | None) -> str:
    """To the cent, and beyond where the amount goes beyond."""
    if amount is None:
        return "-"
    places = max(2, -int(amount.normalize().as_tuple().exponent))
    return f"{amount:,.{places}f}"


def price_sentence(report: ScrubReport) -> str:
    if report.price is None:
        return "No price is set (IDICORE_PRICE_PER_LOOKUP), so lookups count as free of charge here."
    return f"One lookup costs {dollars(report.price)} dollars."


def pending_sentence(report: ScrubReport) -> str | None:
    """What has not run for the leads that were selected last; None when all has."""
    pending = report.figures.pending
    if not pending:
        return None
    return f"Not run yet for these leads: {', '.join(pending)}. What they would add is not in the numbers."


def demo_sentence(report: ScrubReport) -> str | None:
    return "Demonstration: vendors, people and numbers are simulated." if report.kind == "demo" else None


def _by_count(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def _verdict_reason(reason: str) -> str:
    return REASON_WORDS[Reason(reason)] if reason in set(Reason) else _lead_reason(reason)


def _lead_reason(reason: str) -> str:
    return _REASONS.get(reason, reason.replace("_", " "))


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
