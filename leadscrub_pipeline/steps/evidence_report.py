"""The readable part of a safe-harbour pack: one HTML page for a lender's counsel, with nothing loaded from elsewhere.

What it tells is handed in; no number is worked out here that is not in the pack's tables.
"""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from html import escape
from typing import Final

from leadscrub_pipeline.domain.consents import COMPANY, CONSENT
from leadscrub_pipeline.domain.verdicts import CCC, DNC, Reason
from leadscrub_pipeline.steps.pack_facts import REASON_WORDS, PackFacts, ProcessLine
from leadscrub_pipeline.steps.report_page import (
    bad,
    code,
    counted,
    moment,
    number,
    numbers_of,
    page,
    plain,
    table,
    time_cell,
)
from leadscrub_pipeline.warehouse.evidence_period import ListVersion

MOST_LINES: Final = 200
"""Of a table in the report; the CSV file beside it has all of them."""


_SOURCES: Final = {
    CCC: "Litigator list",
    DNC: "Do-Not-Call registry",
    COMPANY: "The company's own list",
    CONSENT: "Consents",
}
_OUTCOMES: Final = {
    "hit": "contacts found",
    "miss": "nobody found",
    "failed": "failed, not billed",
    "unknown": "outcome unknown, may have been billed",
    "sent": "not settled yet, may be billed",
    "claimed": "not sent yet",
}


def render(facts: PackFacts) -> str:
    """The page as text."""
    sections = (
        _heading(facts),
        _verification(facts),
        _process(),
        _lists(facts),
        _runs(facts),
        _unknowns(facts),
        _failures(facts),
        _lookups(facts),
        _retention(facts),
        _limits(facts),
        _files(facts),
    )
    return page(f"Call scrub evidence, {facts.since:%Y-%m-%d} to {facts.until:%Y-%m-%d}", sections)


# --- sections ---------------------------------------------------------------------------


def _heading(facts: PackFacts) -> str:
    period = facts.period
    runs = len({line.run_id for line in facts.process if line.checks})
    scripts = len({line.script for line in facts.process if line.checks})
    counts = Counter[str]()
    for line in facts.process:
        counts.update(listed=line.listed, clear=line.clear, unknown=line.unknown)
    if period.checks:
        told = (
            f"In this time {counted(runs, 'run')} of {counted(scripts, 'lead script')} made "
            f"{counted(period.checks, 'check')} of {counted(period.phones, 'telephone number')} against the national "
            "Do-Not-Call registry and a list of known litigators. "
            f"{counted(period.phones_listed, 'number')} {'was' if period.phones_listed == 1 else 'were'} found on at "
            f"least one of the two. {counted(counts['clear'], 'check')} came back clear; {counts['unknown']:,} stayed "
            "unknown, and an unknown answer is never treated as clear."
        )
    else:
        told = "In this time no telephone number was checked. Answers from earlier checks may still have counted."
    figures = (
        ("runs", runs),
        ("numbers checked", period.phones),
        ("checks", period.checks),
        ("answered listed", counts["listed"]),
        ("answered clear", counts["clear"]),
        ("stayed unknown", counts["unknown"]),
    )
    boxes = "".join(f"<div><b>{value:,}</b><span>{name}</span></div>" for name, value in figures)
    demo = (
        '<div class="box bad"><p><b>This is a demonstration.</b> Vendors, people and numbers are simulated. '
        "Nothing in it is evidence of anything.</p></div>"
        if facts.kind == "demo"
        else ""
    )
    running = (
        f'<p class="soft">The period ends after this pack was made: what is checked from {moment(facts.made_at)} on '
        "is not in it.</p>"
        if facts.until > facts.made_at
        else ""
    )
    hidden = (
        '<p class="soft">Masked: telephone numbers are shown by area code and last two digits, and hashes that '
        "would give the others away are left out.</p>"
        if facts.masked
        else ""
    )
    return (
        "<h1>Evidence of the call scrub</h1>\n"
        f'<p class="soft">Checks made from {moment(facts.since)} to before {moment(facts.until)}. '
        f"Written {moment(facts.made_at)}. All times are UTC.</p>{demo}<p>{told}</p>"
        f'<div class="figures">{boxes}</div>{running}{hidden}\n'
    )


def _verification(facts: PackFacts) -> str:
    told = facts.verified
    late = [version for version in facts.period.versions if version.has_cleared_too_late]
    read = f"{counted(told.rows, 'row')} of evidence in {counted(told.chains, 'chain')}, {counted(told.seals, 'seal')}"
    if told.count:
        findings = "".join(f"<li>{escape(text)}</li>" for text in told.findings[:MOST_LINES])
        left = len(told.findings) - MOST_LINES
        more = f"<p>And {left:,} chains more.</p>" if left > 0 else ""
        result = (
            f'<div class="box bad"><p><b>Not intact: {counted(told.count, "finding")}.</b> '
            f"All evidence there is was read ({read}). What a finding names should not be relied upon before it is "
            f"explained.</p><ul>{findings}</ul>{more}<p><code>leadscrub evidence verify</code> lists each.</p></div>"
        )
    else:
        result = (
            f'<div class="box"><p><b>Intact.</b> All evidence there is was read, of this period and of any other '
            f"({read}), and no row was found edited, deleted, inserted or moved.</p></div>"
        )
    unsealed = (
        f"<p>{counted(told.unsealed, 'row')} {'is' if told.unsealed == 1 else 'are'} not sealed yet: written by a run "
        "that is still at work or was cut off. The next run seals them; until then the last of them could be cut off "
        "unnoticed.</p>"
        if told.unsealed
        else ""
    )
    too_late = (
        f'<div class="box bad"><p><b>{counted(len(late), "registry version")} answered clear past its 31 days</b>, '
        "or without a known date. See the table of list versions.</p></div>"
        if late
        else ""
    )
    return (
        f"<h2>Is the evidence what was written?</h2>{result}{too_late}{unsealed}"
        "<p>Each row holds a hash over its own content and the hash of the row before it, so that the last hash of "
        "a run stands for all of its rows. When a run ends, that last hash and the number of rows go into a separate "
        "database, in an entry that holds the hash of the entry before. To change a row unnoticed, somebody would "
        "have to change the warehouse and every later entry of that database alike, and the copies of the hashes in "
        "the run log. Verification computes all of it again. It shows that rows are as they were written; it "
        "cannot show that a source told the truth.</p>\n"
    )


def _process() -> str:
    return (
        "<h2>What is done with each number</h2><ol>"
        "<li>Every number found for a lead is checked against the national Do-Not-Call registry "
        "and against a commercial list of known litigators, before it is released.</li>"
        "<li>The answer is stored with the version of the list, the time that version was obtained, the time of the "
        "check, the run, the script as it was run and the permissible purpose, before anything is released on its "
        "strength.</li>"
        "<li>An answer is clear only when the source said so. An error, a time-out, a number missing from an answer or "
        "a list too old leaves the number unknown, with the reason, and it is not released.</li>"
        "<li>A clear answer counts for a limited time: of the registry, until 31 days after that version was "
        "obtained; of the litigator list, for at most 31 days after the check. After that the number is no "
        "longer released until it is checked again.</li>"
        "<li>A number found listed stays barred until the source itself answers otherwise.</li></ol>\n"
    )


def _lists(facts: PackFacts) -> str:
    registry = [version for version in facts.period.versions if version.source == DNC]
    others = [version for version in facts.period.versions if version.source != DNC]
    text = (
        "<h2>Versions of the lists</h2><p>Calls may rest on a registry version for 31 days from the day it was obtained"
        " (16 CFR 310.4(b)(3)(iv); 47 CFR 64.1200(c)(2)(i)(D)). What counts is its age on the day of the call.</p>"
    )
    if registry:
        rows = [
            [
                code(version.version),
                time_cell(version.obtained_first) if version.obtained_first else bad("not known"),
                time_cell(version.first_use),
                time_cell(version.last_use),
                _age(version),
                *numbers_of(version.checks, version.listed, version.clear, version.unknown),
            ]
            for version in registry[-MOST_LINES:]
        ]
        heads = ("registry version", "obtained", "first use", "last use", "days old at last use", *_COUNTS)
        text += _shortened(len(registry), "list_versions.csv")
        text += table(heads, rows, total=["All registry versions", "", "", "", "", *_sums(registry)], numbers=5)
    else:
        text += "<p>The registry was not asked in this time.</p>"
    if others:
        rows = [
            [
                _source(version.source),
                code(version.version),
                time_cell(version.first_use),
                time_cell(version.last_use),
                *numbers_of(version.checks, version.listed, version.clear, version.unknown),
            ]
            for version in others[-MOST_LINES:]
        ]
        at_vendor = ("list", "asked at", "first use", "last use", *_COUNTS)
        text += "<p>The litigator list is asked anew for each check, so its answer is as old as the check.</p>"
        text += _shortened(len(others), "list_versions.csv")
        text += table(at_vendor, rows, total=["All", "", "", "", *_sums(others)], numbers=4)
    return text + "\n"


def _runs(facts: PackFacts) -> str:
    lines = [line for line in facts.process if line.checks]
    if not lines:
        return ""
    rows = [
        [
            time_cell(line.started_at),
            plain(line.script),
            _source(line.source),
            code(line.run_id),
            *numbers_of(line.checks, line.listed, line.clear, line.unknown),
            number(line.seal_entry) if line.seal_entry and not line.unsealed else bad("unsealed"),
        ]
        for line in lines[-MOST_LINES:]
    ]
    total = ["All runs", "", "", "", *_sums(lines), ""]
    heads = ("first check", "script", "list", "run", *_COUNTS, "seal")
    return (
        "<h2>Process log</h2><p>One line for each run and list. The seal is the number of the entry that fixes the "
        "run's evidence; process_log.csv has the last check, the purpose, the hash of each script as it was run, and "
        "that of the last row.</p>"
        f"{_shortened(len(lines), 'process_log.csv')}{table(heads, rows, total=total, numbers=5)}\n"
    )


def _unknowns(facts: PackFacts) -> str:
    reasons = facts.period.unknowns
    if not reasons:
        return "<h2>What is unknown, and why</h2><p>Every check of this time was answered.</p>\n"
    rows = [
        [
            _source(reason.source),
            _words(reason.reason),
            number(reason.checks),
            number(reason.phones),
            number(reason.answered_since),
        ]
        for reason in reasons
    ]
    total = ["All", "", number(sum(reason.checks for reason in reasons)), "", ""]
    heads = ("list", "why", "checks", "numbers", "answered since")
    return (
        "<h2>What is unknown, and why</h2><p>These checks brought no answer that can be relied upon. The "
        "numbers were not released on their strength, and are checked again by the next run that holds them, unless "
        "the source cannot know them. A number may stand in several lines, so numbers are not added up.</p>"
        f"{table(heads, rows, total=total, numbers=3)}\n"
    )


def _failures(facts: PackFacts) -> str:
    batches = facts.period.unanswered
    unsealed = [line for line in facts.process if line.unsealed]
    failed = [outcome for outcome in facts.lookups if outcome.state == "failed"]
    unsettled = [outcome for outcome in facts.lookups if outcome.state in ("unknown", "sent")]
    rows = [
        ["Batches, or parts of them, left unknown by the litigator list or the registry", number(len(batches))],
        ["Chains of evidence with rows not sealed yet", number(len(unsealed))],
        ["Paid lookups that failed and were not billed", number(sum(outcome.lookups for outcome in failed))],
        [
            "Paid lookups whose outcome is unknown, which may have been billed",
            number(sum(outcome.lookups for outcome in unsettled)),
        ],
    ]
    return f"<h2>Failures</h2><p>Each is a line of failures.csv.</p>{table(('what', 'how many'), rows, numbers=1)}\n"


def _lookups(facts: PackFacts) -> str:
    if not facts.lookups:
        return ""
    rows = [
        [
            plain(_OUTCOMES.get(outcome.state, outcome.state)),
            plain(outcome.reason),
            plain(outcome.purpose),
            number(outcome.lookups),
            f"{outcome.cost:,.2f}",
            f"{outcome.unknown_cost:,.2f}",
        ]
        for outcome in facts.lookups
    ]
    zero = Decimal("0.00")
    total = [
        "All",
        "",
        "",
        number(sum(outcome.lookups for outcome in facts.lookups)),
        f"{sum((outcome.cost for outcome in facts.lookups), zero):,.2f}",
        f"{sum((outcome.unknown_cost for outcome in facts.lookups), zero):,.2f}",
    ]
    heads = ("outcome", "detail", "purpose", "lookups", "dollars", "dollars at risk")
    return (
        "<h2>Where the numbers came from</h2><p>People are looked up at a data provider under the permissible purpose "
        "that the lead script names. Requests made in this time; numbers of people looked up earlier were used again "
        f"without a request.</p>{table(heads, rows, total=total, numbers=3)}\n"
    )


def _retention(facts: PackFacts) -> str:
    kept, oldest = facts.period.kept_checks, facts.period.oldest_check
    since = f" The oldest check that is kept was made on {oldest:%Y-%m-%d}." if oldest is not None else ""
    text = (
        "<h2>Retention</h2><p>Evidence is kept for five years and longer (16 CFR 310.5, as amended in 2024, 89 FR "
        "26760); nothing deletes it by itself. Deleting evidence younger than five years needs an explicit order "
        "with a reason, and what was deleted stays on record: the run, the number of rows, the last hash, the time "
        f"and the reason. {counted(kept, 'check')} {'is' if kept == 1 else 'are'} kept.{since}</p>"
    )
    if not facts.prunings:
        return text + "<p>No evidence was ever deleted.</p>\n"
    rows = [
        [
            time_cell(pruning.pruned_at),
            plain(pruning.before[:10]),
            number(pruning.chains),
            number(pruning.rows),
            plain(pruning.reason or "five years were over"),
        ]
        for pruning in facts.prunings
    ]
    heads = ("deleted", "made before", "chains", "rows", "reason")
    columns = [rows_[:2] + rows_[4:] + rows_[2:4] for rows_ in rows]
    return text + table((*heads[:2], heads[4], *heads[2:4]), columns, numbers=2) + "\n"


def _limits(facts: PackFacts) -> str:
    demo = " It was made from simulated data." if facts.kind == "demo" else ""
    return (
        "<h2>What this pack does not show</h2><ul>"
        "<li>Whether, when and by whom a number was called. What counts is the age of the registry version on that "
        "day: compare call records with the column valid_until of checks.csv.</li>"
        "<li>The company's own do-not-call list, written procedures, training, consents and business relationships "
        "(16 CFR 310.4(b)(3)(i) to (iii)).</li>"
        "<li>State lists, and numbers reassigned since.</li>"
        "<li>That a source was right. The pack shows what was asked and what was answered.</li></ul>"
        f'<p class="soft">This is a record, not legal advice.{demo}</p>\n'
    )


def _files(facts: PackFacts) -> str:
    rows = [
        [code(file.name), "-" if file.rows is None else number(file.rows), code(file.sha256)] for file in facts.files
    ]
    rows = [[name, digest, count] for name, count, digest in rows]
    return (
        "<h2>Files of this pack</h2><p>MANIFEST.csv has the same hashes, and that of this page.</p>"
        f"{table(('file', 'SHA-256', 'rows'), rows, numbers=1)}\n"
    )


# --- pieces -----------------------------------------------------------------------------

_COUNTS: Final = ("checks", "listed", "clear", "unknown")


def _sums(lines: Sequence[ListVersion] | Sequence[ProcessLine]) -> list[str]:
    return [number(sum(getattr(line, name) for line in lines)) for name in _COUNTS]


def _age(version: ListVersion) -> str:
    age = version.age_at_last_use
    if age is None:
        return bad("not known")
    days = f"{age.total_seconds() / 86_400:.1f}"
    return bad(days) if version.has_cleared_too_late else days


def _shortened(count: int, file: str) -> str:
    return "" if count <= MOST_LINES else f"<p>The last {MOST_LINES} of {count:,} lines; {file} has all of them.</p>"


def _words(reason: str | None) -> str:
    if reason is None:
        return bad("no reason recorded")
    known = reason in set(Reason)
    return (
        f"{escape(REASON_WORDS[Reason(reason)][:1].upper() + REASON_WORDS[Reason(reason)][1:])}"
        if known
        else escape(reason)
    )


def _source(name: str | None) -> str:
    return f'<td class="t">{escape(_SOURCES.get(name or "", name or "-"))}</td>'
