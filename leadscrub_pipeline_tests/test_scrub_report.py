"""The scrub report: its numbers beside an independent count of the tables, and a page that leaks and loads nothing."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from leadscrub_pipeline.assets.past_runs import past_runs
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.steps import report_charts, scrub_report_page, scrub_report_words
from leadscrub_pipeline.steps.scrub_report import PastRun, ScrubReport, Spent, gather
from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.report_figures import (
    Contacts,
    PartitionFigures,
    Phones,
    Selection,
    read_figures,
)
from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS, PHONE_VERDICTS, RAW_LEADS, REJECTED_LEADS
from leadscrub_pipeline_tests.asset_calls import ASSETS
from leadscrub_pipeline_tests.graph import Graph, Run, graph_in, people

pytestmark = pytest.mark.long

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
TITLE = 'Spring <script>alert(1)</script> & "homes" | *all*'
SLOTS = ("phone_1", "phone_2", "phone_3")
NO_NAME = ("", "Example", "1 Main Street", "Springfield", "IL", "62701")
NO_ADDRESS = ("Ada", "Example", "", "Springfield", "IL", "62701")


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch) as made:
        made.whole = True
        yield made


@dataclass
class History:
    """One script run three times: ten people, fifteen more and three that are no use, and nobody new."""

    graph: Graph
    leads: list[tuple[object, ...]]
    runs: list[Run]
    pages: list[str]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with pytest.MonkeyPatch.context() as patch, graph_in(tmp_path_factory.mktemp("history"), patch) as graph:
        graph.whole = True
        graph.write_script("leads", title=TITLE)
        made = History(graph, [*people(25), NO_NAME, NO_NAME, NO_ADDRESS], [], [])
        for leads in (people(10), made.leads, made.leads):
            graph.write_source("LEADS_DB.PUBLIC.LEADS", leads)
            run = graph.scrub("leads")
            assert run.success, run.error
            made.runs.append(run)
            made.pages.append(Path(run.metadata["scrub_report"]["report_file"]).read_text())
        yield made


def report_of(graph: Graph, key: str = "leads") -> ScrubReport:
    with graph.warehouse() as session:
        figures = read_figures(session, key, now=utc_now())
    assert figures is not None
    with graph.ledger() as ledger:
        return gather(
            figures,
            ledger,
            past_runs(graph.instance, key),
            title=TITLE,
            kind="demo",
            price=Decimal("0.25"),
            made_at=utc_now(),
        )


def counted(graph: Graph, run: Run) -> dict[str, int]:
    """The same numbers, counted row by row from the tables."""
    master = [row for row in graph.master() if row["table_id"] == "leads"]
    mine = [row for row in master if row["job_id"] == run.run_id]
    callable_phones = graph.callable_phones()
    contacts = graph.rows(f"SELECT person_key, outcome, phone_1, phone_2, phone_3 FROM {ENRICHED_CONTACTS.full_name}")
    outcomes = Counter(outcome for _, outcome, *_ in contacts)
    of_run = {row[slot] for row in mine for slot in SLOTS} - {None}
    of_script = {row[slot] for row in master for slot in SLOTS} - {None}
    verdicts = Counter(
        f"{source}_{verdict}"
        for phone, source, verdict in graph.rows(f"SELECT phone, source, verdict FROM {PHONE_VERDICTS.full_name}")
        if phone in of_script
    )
    return {
        "rejected": graph.rows(f"SELECT COUNT(*) FROM {REJECTED_LEADS.full_name}")[0][0],
        "kept": graph.rows(f"SELECT COUNT(*) FROM {RAW_LEADS.full_name}")[0][0],
        "hits": outcomes["hit"],
        "misses": outcomes["miss"],
        "deferred": outcomes["deferred"],
        "held": outcomes["held"],
        "published": len(mine),
        "people_with_phone": sum(any(row[slot] for slot in SLOTS) for row in mine),
        "phones": len(of_run),
        "callable": len(of_run & callable_phones),
        "script_people": len(master),
        "script_people_with_phone": sum(any(row[slot] for slot in SLOTS) for row in master),
        "script_phones": len(of_script),
        "callable_phones": len(of_script & callable_phones),
        **{f"{source}_{verdict}": verdicts[f"{source}_{verdict}"] for source in ("ccc", "dnc")
           for verdict in ("listed", "clear", "unknown")},
    }  # fmt: skip


def ends_add_up(report: ScrubReport) -> bool:
    return sum(count for _, count in scrub_report_words.leads_by_end(report)) == report.numbers()["selected"]


# --- numbers ----------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_tables_with_rejected_double_deferred_listed_and_unknown(graph: Graph) -> None:
    graph.scrub("leads")  # ten people, so that some are processed already
    rows = [*people(60), *people(4, start=40), NO_NAME, NO_NAME, NO_ADDRESS]
    graph.write_source("LEADS_DB.PUBLIC.LEADS", rows)
    graph.configure(IDICORE_MAX_LOOKUPS_PER_RUN=45)
    graph.scrub("leads", assets=ASSETS[:2])
    phones = sorted(
        phone for (phone,) in graph.rows(f"SELECT phone_1 FROM {ENRICHED_CONTACTS.full_name} WHERE phone_1 > ''")
    )
    graph.write_registry(listed=phones[:6], area_codes={int(phone[:3]) for phone in phones[: len(phones) // 2]})
    run = graph.scrub("leads", assets=[*ASSETS[2:], "scrub_report"])
    assert run.success, run.error
    report = report_of(graph)
    numbers, wanted = report.numbers(), counted(graph, run)
    assert {name: numbers[name] for name in wanted} == wanted
    assert numbers["selected"] == len(rows)
    assert report.figures.selection.rejected_by_reason == {"no_first_name": 2, "no_address": 1}
    assert report.figures.contacts is not None
    assert report.figures.contacts.put_off_by_reason == {"run_cap": numbers["deferred"]}
    assert report.figures.phones.unknown_by_reason["dnc"] == {"area_code_not_covered": numbers["dnc_unknown"]}
    assert numbers["published"] + numbers["deferred"] == numbers["kept"]
    assert numbers["dnc_listed"] >= 6
    for name in ("duplicate", "already_processed", "deferred", "callable", "dnc_unknown", "ccc_listed"):
        assert numbers[name] > 0, name
    assert numbers["callable"] < numbers["callable_phones"]
    assert ends_add_up(report)
    assert not report.figures.pending
    metadata = run.metadata["scrub_report"]
    assert {name: metadata[name] for name in numbers} == numbers
    told = f"{numbers['script_phones']:,} distinct phones of {numbers['script_people_with_phone']} people"
    assert told in Path(metadata["report_file"]).read_text()
    assert "the run's cap on lookups was reached" in metadata["report"]


def test_it_agrees_with_what_the_assets_said_of_the_same_run(history: History) -> None:
    run = history.runs[0]
    told = run.metadata["scrub_report"]
    for asset, names in {
        "raw_leads": ("selected", "rejected", "duplicate", "already_processed", "kept"),
        "master_processed_db": ("published", "deferred", "held", "taken"),
        "litigator_flags": {"listed": "ccc_listed", "clear": "ccc_clear", "unknown": "ccc_unknown"},
        "dnc_flags": {"listed": "dnc_listed", "clear": "dnc_clear", "unknown": "dnc_unknown", "phones": "phones"},
        "enriched_contacts": {"hit": "hits", "miss": "misses", "cost_dollars": "cost_dollars"},
    }.items():
        pairs = names.items() if isinstance(names, dict) else zip(names, names, strict=True)
        for theirs, ours in pairs:
            assert told[ours] == run.metadata[asset][theirs], (asset, theirs)
    assert told["callable_phones"] == told["callable"] > 0
    assert history.runs[-1].metadata["scrub_report"]["callable_phones"] == len(history.graph.callable_phones())


def test_a_run_that_keeps_nobody_still_tells_what_the_script_has_published(history: History) -> None:
    _, second, third = (run.metadata["scrub_report"] for run in history.runs)
    assert (third["already_processed"], third["published"], third["phones"], third["rejected"]) == (25, 0, 0, 3)
    assert third["callable_phones"] == second["callable_phones"] > second["callable"] > 0
    assert (second["cost_dollars"], third["cost_dollars"]) == (15 * 0.25, 0)
    assert second["script_cost_dollars"] == third["script_cost_dollars"] == 25 * 0.25


def test_people_of_another_script_are_taken_and_their_phones_are_not_this_scripts(history: History) -> None:
    graph = history.graph
    graph.write_script("others")
    run = graph.scrub("others", already_processed="include")
    report = report_of(graph, "others")
    assert (report.numbers()["taken"], report.numbers()["published"], report.numbers()["script_phones"]) == (25, 0, 0)
    assert ends_add_up(report)
    assert [past.run_id for past in report.past_runs] == [run.run_id]
    assert "This script has published no phone." in run.metadata["scrub_report"]["report"]
    assert report_of(graph).numbers()["script_people"] == 25


def test_what_a_vendor_left_unanswered_is_told_by_reason_and_a_lookup_that_may_be_billed_at_its_risk(
    graph: Graph,
) -> None:
    graph.simulators.ccc.faults.add(Fault("html", share=1.0))
    graph.simulators.idicore.faults.add(Fault("reset_after_billing", requests=[1]))
    run = graph.scrub("leads")
    report = report_of(graph)
    assert report.figures.phones.unknown_by_reason["ccc"] == {"not_json": report.numbers()["script_phones"]}
    assert run.metadata["scrub_report"]["ccc_unknown"] == report.numbers()["script_phones"] > 0
    assert report.numbers()["callable_phones"] == 0
    assert "the source's answer could not be read" in run.metadata["scrub_report"]["report"]
    with graph.ledger() as ledger:
        counts = ledger.lookups_of_run(run.run_id)
    assert report.run_spend.lookups == counts["hit"] + counts["miss"] + counts["unknown"]
    assert report.run_spend.unknown_cost == counts["unknown"] * graph.simulators.idicore.price > 0
    assert report.script_spend == report.run_spend


def test_a_clear_answer_that_has_expired_counts_as_unknown(history: History) -> None:
    with history.graph.warehouse() as session:
        now, later = (read_figures(session, "leads", now=utc_now() + timedelta(days=days)) for days in (0, 60))
    assert now is not None
    assert later is not None
    for source in ("ccc", "dnc"):
        assert now.phones.verdicts[source]["clear"] > 0
        assert later.phones.verdicts[source]["clear"] == 0
        assert later.phones.unknown_by_reason[source] == {"expired": now.phones.verdicts[source]["clear"]}
        assert later.phones.verdicts[source]["listed"] == now.phones.verdicts[source]["listed"]


class Counting:
    """A session that counts what is asked of it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.statements = 0

    def rows(self, sql: str, params: Any = ()) -> list[tuple[Any, ...]]:
        self.statements += 1
        return self.session.rows(sql, params)


def test_the_figures_take_eight_statements_at_most_and_there_are_none_of_a_stranger(history: History) -> None:
    with history.graph.warehouse() as session:
        counting = Counting(session)
        assert read_figures(counting, "leads", now=utc_now()) is not None  # type: ignore[arg-type]
        assert counting.statements <= 8
        assert read_figures(session, "nobody", now=utc_now()) is None


def test_a_run_in_parts_tells_what_has_not_run_and_leaves_gaps_in_the_trend(graph: Graph) -> None:
    graph.scrub("leads")
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(25))
    graph.scrub("leads", assets=ASSETS[:1])
    report = report_of(graph)
    assert report.figures.pending == ("enriched_contacts", "litigator_flags", "dnc_flags", "master_processed_db")
    assert report.numbers()["waiting"] == report.numbers()["kept"] == 15
    assert report.numbers()["phones"] == 0
    assert ends_add_up(report)
    assert "Not run yet for these leads: enriched_contacts" in scrub_report_page.render(report)
    graph.scrub("leads", assets=ASSETS[1:2])
    half = report_of(graph)
    assert half.figures.pending == ("litigator_flags", "dnc_flags", "master_processed_db")
    assert (half.numbers()["waiting"], half.numbers()["published"]) == (15, 0)
    graph.scrub("leads", assets=ASSETS[2:])
    done = report_of(graph)
    assert done.figures.pending == ()
    assert (done.numbers()["waiting"], done.numbers()["published"]) == (0, 15)
    assert [run.selected for run in done.past_runs] == [10, 25, None, None]
    assert [run.published for run in done.past_runs] == [10, None, None, 15]


def test_a_partition_that_was_never_selected_fails_with_a_sentence(graph: Graph) -> None:
    run = graph.scrub("leads", assets=["scrub_report"])
    assert not run.success
    assert run.error == "raw_leads has no rows for partition leads. Materialize raw_leads for it first."
    assert not (graph.home / "reports").exists()


# --- trend ------------------------------------------------------------------------------


def test_the_trend_is_what_past_runs_said_and_starts_with_the_second(history: History) -> None:
    past = report_of(history.graph).past_runs
    assert [run.run_id for run in past] == [run.run_id for run in history.runs]
    assert [run.selected for run in past] == [10, 28, 28]
    assert [run.kept for run in past] == [run.published for run in past] == [10, 15, 0]
    assert [run.cost for run in past] == [Decimal("2.5"), Decimal("3.75"), Decimal(0)]
    for run, told in zip(history.runs, past, strict=True):
        assert told.hit_rate == run.metadata["enriched_contacts"]["hit_rate"]
        assert told.litigators == run.metadata["master_processed_db"]["litigators"]
        assert told.dnc_listed == run.metadata["master_processed_db"]["dnc_listed"]
    assert ["A trend is shown from the second run on." in page for page in history.pages] == [True, False, False]
    assert "| 28 | 15 | 15 |" in history.runs[-1].metadata["scrub_report"]["report"]


def test_of_many_runs_the_newest_thirty_are_told() -> None:
    runs = [PastRun(run_id=str(day), at=NOW - timedelta(days=day), selected=day) for day in range(40)]
    report = gather(figures_of(5), None, runs, title="t", kind="live", price=None, made_at=NOW)
    assert [run.run_id for run in report.past_runs] == [str(day) for day in range(29, -1, -1)]
    assert report.run_spend == Spent()


# --- the page ---------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser would find: tags, attributes, text, and the words of each chart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def figures_of(scale: int, *, phones: int | None = None) -> PartitionFigures:
    """Figures that add up, as large as wanted."""
    held = scale * 9 if phones is None else phones
    verdicts = {"listed": held // 9, "clear": held - held // 9 * 2, "unknown": held // 9}
    return PartitionFigures(
        "leads",
        Selection(
            run_id="run-1", at=NOW, selected=scale * 10, rejected=scale, duplicate=scale, already_processed=scale,
            kept=scale * 7, rejected_by_reason={"no_address": scale} if scale else {},
        ),
        Contacts(
            run_id="run-1", at=NOW, hits=scale * 6, misses=scale, published=scale * 7, contacts_found=scale * 6,
            people_with_phone=scale * 5,
        ),
        Phones(
            people=scale * 7, people_with_phone=scale * 5, phones=held, callable=held // 2, run_phones=held,
            run_callable=held // 2, verdicts={"ccc": verdicts, "dnc": verdicts},
            unknown_by_reason={"ccc": {"timeout": held // 9}, "dnc": {"stale_list": held // 9}} if held else {},
        ),
        (),
    )  # fmt: skip


def made_report(scale: int, *, runs: int = 0, phones: int | None = None) -> ScrubReport:
    past = [
        PastRun(
            run_id=str(n), at=NOW - timedelta(days=runs - n), selected=scale * n, kept=scale, published=None if n == 1
            else scale, hit_rate=0.5, litigators=1, dnc_listed=2, cost=Decimal("1.25"),
        )
        for n in range(runs)
    ]  # fmt: skip
    figures = figures_of(scale, phones=phones)
    return gather(figures, None, past, title=TITLE, kind="live", price=Decimal("0.125"), made_at=NOW)


def test_the_page_runs_and_loads_nothing_and_its_charts_are_told_to_screen_readers(history: History) -> None:
    text = history.pages[1]
    page = Page(text)
    assert page.tags["svg"] == 3
    for tag in ("script", "link", "img", "iframe", "object", "image", "use", "a", "foreignobject"):
        assert page.tags[tag] == 0, tag
    names = {name for name, _ in page.attributes}
    assert not names & {"href", "xlink:href", "src", "srcset", "style"}
    assert not [name for name in names if name.startswith("on")]
    assert "http:" not in text.lower()
    assert "https:" not in text.lower()
    assert "url(" not in text
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    assert [value for name, value in page.attributes if name == "role"] == ["img"] * 3
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    labels = [value or "" for name, value in page.attributes if name == "aria-labelledby"]
    assert len(labels) == 3
    assert {part for label in labels for part in label.split()} <= set(ids)
    assert "Selected: 28; Kept: 15" in page.text


def test_no_personal_value_of_any_lead_is_in_page_markdown_metadata_or_json(history: History) -> None:
    told = [str(run.metadata["scrub_report"]) for run in history.runs]
    text = "".join([*history.pages, *told, str(report_of(history.graph).as_dict())])
    for known in (*(run.run_id for run in history.runs), str(history.graph.folder)):
        text = text.replace(known, "")
    personal = {str(value) for row in history.leads for value in row if len(str(value)) > 3}
    for row in history.graph.master():
        personal |= {row[name] for name in (*SLOTS, "email_1", "email_2", "email_3") if row[name]}
    assert len(personal) > 60
    assert [value for value in personal if value in text] == []


def test_a_title_is_shown_as_it_is_written_and_marks_nothing_up(history: History) -> None:
    page = Page(history.pages[0])
    assert page.tags["script"] == 0
    assert page.text.count(TITLE) == 2
    first = history.runs[0].metadata["scrub_report"]["report"].splitlines()[0]
    assert first == r'### Spring &lt;script&gt;alert(1)&lt;/script&gt; &amp; "homes" \| \*all\*'


def test_the_file_is_private_and_another_run_takes_its_place_whole(history: History) -> None:
    path = Path(history.runs[0].metadata["scrub_report"]["report_file"])
    assert path == history.graph.home / "reports" / "leads.html"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_text() == history.pages[-1] != history.pages[0]
    assert [other for other in path.parent.iterdir() if other.suffix != ".html"] == []


def test_a_script_that_selects_nobody_has_a_page_without_a_chart(graph: Graph) -> None:
    graph.write_script("leads", "SELECT * FROM LEADS_DB.PUBLIC.LEADS WHERE CITY = 'Nowhere'")
    run = graph.scrub("leads")
    assert run.success, run.error
    text = Path(run.metadata["scrub_report"]["report_file"]).read_text()
    page = Page(text)
    assert page.tags["svg"] == 0
    assert "The latest run selected no lead." in page.text
    assert "This script has published no phone." in page.text
    assert {run.metadata["scrub_report"][name] for name in ("selected", "published", "callable_phones")} == {0}


def test_a_run_without_any_phone_has_no_chart_of_phones() -> None:
    page = Page(scrub_report_page.render(made_report(3, phones=0)))
    assert page.tags["svg"] == 1
    assert "This script has published no phone." in page.text


@pytest.mark.parametrize("scale", [1, 37, 1_234_567, 9_876_543_210])
def test_every_number_of_a_chart_stands_within_it(scale: int) -> None:
    text = scrub_report_page.render(made_report(scale, runs=30))
    assert f">{scale * 10:,}</text>" in text
    for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        wide = int(re.search(r'viewBox="0 0 (\d+) ', chart)[1])  # type: ignore[index]
        shift = int(re.search(r'translate\((\d+), \d+\)" class="plot"', chart)[1])  # type: ignore[index]
        is_bars = "horizontalbar-graph" in chart
        for x, words in re.findall(r'<text text-anchor="middle" x="([\d.]+)"[^>]*>([^<]+)<', chart):
            width = 8.5 * len(words)
            end = shift + float(x) + (width if is_bars else width / 2)
            assert end <= wide, words
        for x, words in re.findall(r'<text x="(-?[\d.]+)"[^>]*class="[^"]*">([\d,]+)<', chart):
            assert shift + float(x) - 8 * len(words) >= 0, words


def test_drawing_a_chart_leaves_imports_as_they_were() -> None:
    assert [type(finder).__module__ for finder in sys.meta_path if type(finder).__module__.startswith("pygal")] == []


def test_the_same_report_is_the_same_text() -> None:
    first, second = (scrub_report_page.render(made_report(37, runs=5)) for _ in range(2))
    assert first == second


def test_a_run_that_told_nothing_is_a_gap_and_not_a_zero() -> None:
    svg = report_charts.line_chart(
        "trend", ["a", "b", "c"], [report_charts.Series("kept", [5, None, 7])], title="t", description="d"
    )
    assert svg.count("<circle") == 2


def test_every_tick_is_a_whole_number_and_they_are_few() -> None:
    for most in (0, 1, 2, 5, 6, 7, 99, 12_345, 10**12):
        ticks = report_charts._ticks(most)
        assert ticks[0] == 0
        assert 2 <= len(ticks) <= 7, most
        assert all(isinstance(tick, int) for tick in ticks)
