"""The scrub report as one HTML page: nothing is loaded from elsewhere, and no script runs.

What it tells is handed in; no number is worked out here.
"""

from html import escape
from typing import Final

from leadscrub_pipeline.steps import report_charts as charts
from leadscrub_pipeline.steps import scrub_report_words as words
from leadscrub_pipeline.steps.report_page import counted, moment, number, numbers_of, page, table
from leadscrub_pipeline.steps.scrub_report import ScrubReport

_STYLE: Final = """
body { max-width: 64rem; }
.figures { display: flex; flex-wrap: wrap; }
.figures div { flex: 1 1 auto; }
.figures span { display: block; max-width: 8.5rem; }
.box p { margin: 0; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .9em; overflow-wrap: anywhere; }
"""


def render(report: ScrubReport) -> str:
    """The page as text."""
    sections = (_heading(report), _leads(report), _phones(report), _spend(report), _trend(report))
    return page(f"Scrub report: {report.title}", sections, style=_STYLE + charts.CHART_STYLE)


def _heading(report: ScrubReport) -> str:
    numbers, selection = report.numbers(), report.figures.selection
    figures = (
        ("phones callable now, of all runs", number(numbers["callable_phones"])),
        ("leads selected", number(numbers["selected"])),
        ("people published by this run", number(numbers["published"])),
        ("dollars spent by this run", words.dollars(report.run_spend.cost)),
        ("dollars spent by all runs", words.dollars(report.script_spend.cost)),
    )
    boxes = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in figures)
    warnings = (words.demo_sentence(report), words.pending_sentence(report))
    told = "".join(f'<div class="box bad"><p>{escape(text)}</p></div>' for text in warnings if text is not None)
    return (
        f"<h1>{escape(report.title)}</h1>\n"
        f'<p class="soft">Scrub report of <code>{escape(report.script)}</code>, written {moment(report.made_at)}. '
        f"Leads selected {moment(selection.at)} by run <code>{escape(selection.run_id)}</code>. All times are UTC.</p>"
        f'{told}<div class="figures">{boxes}</div>\n'
    )


def _leads(report: ScrubReport) -> str:
    heading = "<h2>From selected to callable</h2>"
    selected = report.figures.selection.selected
    if not selected:
        return f"{heading}<p>The latest run selected no lead.</p>\n"
    steps = words.funnel(report)
    chart = charts.bar_chart(
        "funnel",
        [charts.Bar(step.label, step.number, step.counts_phones) for step in steps],
        title="From selected leads to callable phones",
        description="; ".join(f"{step.label}: {step.number:,}" for step in steps),
    )
    ends = [[escape(label), number(count)] for label, count in words.leads_by_end(report)]
    return (
        f"{heading}<p>The latest run. The last two bars count distinct phones, the others "
        f"people; a person has up to three phones.</p>{chart}"
        f"{table(('where the selected leads ended', 'leads'), ends, total=['Selected', number(selected)], numbers=1)}"
        f"{_reasons(report)}\n"
    )


def _reasons(report: ScrubReport) -> str:
    text = ""
    for heading, reasons in words.lead_reasons(report):
        rows = [[escape(reason), number(count)] for reason, count in reasons]
        total = ["All", number(sum(count for _, count in reasons))]
        text += f"<h3>{heading}</h3>{table(('why', 'leads'), rows, total=total, numbers=1)}"
    return text


def _phones(report: ScrubReport) -> str:
    phones = report.figures.phones
    heading = "<h2>Phones by verdict</h2>"
    if not phones.phones:
        return f"{heading}<p>This script has published no phone.</p>\n"
    lines = words.verdict_lines(report)
    names = ("clear", "listed", "unknown")
    chart = charts.stacked_chart(
        "verdicts",
        [line[0] for line in lines],
        [charts.Series(name, [int(line[place]) for line in lines]) for place, name in enumerate(names, start=1)],
        title="Phones by verdict and source",
        description="; ".join(
            f"{source}: {clear:,} clear, {listed:,} listed, {unknown:,} unknown"
            for source, clear, listed, unknown, _ in lines
        ),
    )
    rows = [[escape(source), *numbers_of(*counts)] for source, *counts in lines]
    return (
        f"{heading}<p>All that this script has published, by any run, as it stands now: "
        f"{counted(phones.phones, 'distinct phone')} of {number(phones.people_with_phone)} people, "
        f"{number(phones.callable)} of them callable. An unknown phone is never called, and "
        "a clear answer counts for a limited time.</p>"
        f"{chart}{table(('source', *names, 'phones'), rows, numbers=4)}{_unknowns(report)}\n"
    )


def _unknowns(report: ScrubReport) -> str:
    lines = words.unknown_lines(report)
    if not lines:
        return "<h3>Why phones are unknown</h3><p>Every phone was answered by both sources.</p>"
    rows = [[escape(source), escape(reason), number(count)] for source, reason, count in lines]
    return f"<h3>Why phones are unknown</h3>{table(('source', 'why', 'phones'), rows, numbers=1)}"


def _spend(report: ScrubReport) -> str:
    rows = [
        [escape(label), number(spent.lookups), words.dollars(spent.cost), words.dollars(spent.unknown_cost)]
        for label, spent in words.spend_lines(report)
    ]
    heads = ("spent on lookups", "lookups", "dollars", "dollars at risk")
    reused = 0 if report.figures.contacts is None else report.figures.contacts.reused
    return (
        f"<h2>Spend</h2><p>{escape(words.price_sentence(report))} "
        f"{counted(reused, 'lead')} of the run {'was' if reused == 1 else 'were'} served by answers paid for earlier. "
        "Dollars at risk are of requests whose outcome is not known; they may have been billed on top.</p>"
        f"{table(heads, rows, numbers=3)}\n"
    )


def _trend(report: ScrubReport) -> str:
    runs = report.past_runs
    if len(runs) < 2:
        return "<h2>Trend</h2><p>A trend is shown from the second run on.</p>\n"
    newest = runs[-1]
    chart = charts.line_chart(
        "trend",
        [f"{run.at:%m-%d %H:%M}" for run in runs],
        [
            charts.Series("selected", [run.selected for run in runs]),
            charts.Series("kept", [run.kept for run in runs]),
            charts.Series("published", [run.published for run in runs]),
        ],
        title=f"Leads selected, kept and published by the last {len(runs)} runs",
        description=(
            f"{len(runs)} runs from {moment(runs[0].at)} to {moment(newest.at)} UTC; the newest selected "
            f"{number(newest.selected)}, kept {number(newest.kept)} and published {number(newest.published)}."
        ),
    )
    rows = [words.past_run_cells(run) for run in reversed(runs)]
    return (
        f"<h2>Trend</h2><p>The last {len(runs)} runs, as each reported of itself when it ended. A dash is a step that "
        f"the run did not make.</p>{chart}"
        f"{table(words.PAST_RUN_HEADS, rows, numbers=len(words.PAST_RUN_HEADS) - 1)}\n"
    )
