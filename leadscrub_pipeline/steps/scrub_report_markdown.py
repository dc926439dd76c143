"""The scrub report as Markdown, short enough for the metadata of a materialization.

It says what the page says, without the charts; no number is worked out here.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from leadscrub_pipeline.steps import scrub_report_words as words
from leadscrub_pipeline.steps.scrub_report import ScrubReport

_MOST_RUNS: Final = 10
_SIGNS: Final = re.compile(r"([\\`*_\[\]#|~])")


def render(report: ScrubReport) -> str:
    """The report as text; only letters of scripts' titles and of reasons need escaping, and are."""
    numbers, selection = report.numbers(), report.figures.selection
    written = f"Scrub report of `{report.script}`, {report.made_at:%Y-%m-%d %H:%M} UTC."
    parts = [
        f"### {plain(report.title)}",
        f"{written} **{numbers['callable_phones']:,} phones callable now.**",
        *(plain(text) for text in (words.demo_sentence(report), words.pending_sentence(report)) if text is not None),
        _table(("Latest run", "Count"), [(step.label, f"{step.number:,}") for step in words.funnel(report)]),
        _table(
            ("Where the selected leads ended", "Leads"),
            [*((label, f"{count:,}") for label, count in words.leads_by_end(report)),
             ("**Selected**", f"**{selection.selected:,}**")],
        ),
    ]  # fmt: skip
    parts += [
        _table((heading, "Leads"), [(plain(reason), f"{count:,}") for reason, count in reasons])
        for heading, reasons in words.lead_reasons(report)
    ]
    parts += _phones(report)
    spend = [
        (label, f"{spent.lookups:,}", words.dollars(spent.cost), words.dollars(spent.unknown_cost))
        for label, spent in words.spend_lines(report)
    ]
    parts += [plain(words.price_sentence(report)), _table(("Spend", "Lookups", "Dollars", "At risk"), spend)]
    if len(report.past_runs) > 1:
        newest = report.past_runs[: -_MOST_RUNS - 1 : -1]
        parts.append(_table(words.PAST_RUN_HEADS, [words.past_run_cells(run) for run in newest]))
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """A text in which Markdown and HTML find nothing to mark up."""
    return _SIGNS.sub(r"\\\1", escape(" ".join(text.split()), quote=False))


def _phones(report: ScrubReport) -> list[str]:
    if not report.figures.phones.phones:
        return ["This script has published no phone."]
    lines = [(source, *(f"{count:,}" for count in counts)) for source, *counts in words.verdict_lines(report)]
    parts = [_table(("Phones of all that is published", "Clear", "Listed", "Unknown", "Phones"), lines)]
    unknown = [(source, plain(reason), f"{count:,}") for source, reason, count in words.unknown_lines(report)]
    return [*parts, _table(("Unknown at", "Why", "Phones"), unknown, texts=2)] if unknown else parts


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """A table; all but the first so many columns are numbers."""
    lines = [heads, [*["---"] * texts, *["---:"] * (len(heads) - texts)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
