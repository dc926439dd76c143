"""``leadscrub evidence`` as a user meets it: the story of a number, and a pack for a lender's counsel."""

import csv
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from leadscrub_pipeline.deployment import open_ledger, open_warehouse
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, ENRICHED_CONTACTS, MASTER, SCRUB_EVIDENCE
from leadscrub_pipeline_tests.asset_calls import ASSETS
from leadscrub_pipeline_tests.children import Order, environment, scrub
from leadscrub_pipeline_tests.command_line import Answer, demo_settings, leadscrub
from leadscrub_pipeline_tests.evidence_making import check_of, write_chain
from leadscrub_pipeline_tests.graph import Graph, graph_in, people
from leadscrub_pipeline_tests.published import make_warehouse

NOW = datetime.now(UTC).replace(microsecond=0)
TODAY = NOW.date().isoformat()
TOMORROW = (NOW + timedelta(days=2)).date().isoformat()
YEAR = timedelta(days=365)
_TEN_DIGITS = re.compile(r"(?<![0-9a-zA-Z])[2-9]\d{9}(?![0-9a-zA-Z])")


@dataclass
class Scrubbed:
    """A deployment whose numbers are of every kind, and which number is of which."""

    graph: Graph
    run_id: str
    clear: str
    listed: str
    unknown: str
    withdrawn: str


@pytest.fixture(scope="module")
def scrubbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrubbed]:
    """One script with a number on the registry and one in an area that it does not cover, and a withdrawn script."""
    with (
        pytest.MonkeyPatch.context() as patch,
        graph_in(tmp_path_factory.mktemp("evidence"), patch) as graph,
    ):
        graph.configure(COLUMNS="300", CCC_CONTROL_NUMBERS="2025550198")
        run_id = run(graph, "leads", assets=ASSETS[:2])
        found = phones_of(graph, "leads")
        listed, unknown = found[0], next(phone for phone in found if phone[:3] != found[0][:3])
        graph.write_registry([listed], area_codes=set(range(200, 990)) - {int(unknown[:3])})
        run(graph, "leads", assets=ASSETS[2:], run_id=run_id)
        clear = min(callable_phones(graph))
        graph.write_source("LEADS_DB.PUBLIC.OTHERS", people(10, start=200))
        graph.write_script("others", "SELECT * FROM LEADS_DB.PUBLIC.OTHERS")
        run(graph, "others")
        withdrawn = min(callable_phones(graph) & set(phones_of(graph, "others")))
        assert leadscrub("results", "withdraw", "others", "--yes").code == 0
        yield Scrubbed(graph, run_id, clear, listed, unknown, withdrawn)


def run(graph: Graph, key: str, *, assets: Any = ASSETS, run_id: str | None = None) -> str:
    run_id = run_id or str(uuid4())
    report = scrub(Order(key, run_id, environment(), assets))
    assert report.ok, report
    return run_id


def phones_of(graph: Graph, key: str) -> list[str]:
    found = graph.rows(f"SELECT phone_1 FROM {ENRICHED_CONTACTS.full_name} WHERE partition_key = ?", [key])
    return sorted({phone for (phone,) in found if phone is not None})


def callable_phones(graph: Graph) -> set[str]:
    return {phone for (phone,) in graph.rows(f"SELECT phone FROM {CALLABLE_PHONES}")}


def story(phone: str) -> dict[str, Any]:
    answer = leadscrub("evidence", "trace", phone, "--json")
    assert answer.code == 0, answer.err
    (told,) = answer.json["phones"]
    assert told["phone"] == phone
    return told


def unmet(told: dict[str, Any]) -> list[str]:
    return [f"{each['rule']}: {each['told']}" for each in told["callable"]["conditions"] if not each["is_met"]]


@pytest.fixture
def own_copy(scrubbed: Scrubbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scrubbed:
    """The same deployment with a home that a test may spoil."""
    shutil.copytree(scrubbed.graph.home, tmp_path / "home")
    monkeypatch.setenv("LEADSCRUB_HOME", str(tmp_path / "home"))
    return scrubbed


# --- the story of a number --------------------------------------------------------------


def test_the_story_of_a_clear_number_says_until_when_it_may_be_called_and_what_shows_it(scrubbed: Scrubbed) -> None:
    told = story(scrubbed.clear)
    assert told["callable"]["is_callable"] is True
    assert unmet(told) == []
    dnc, ccc = (next(each for each in told["verdicts"] if each["source"] == source) for source in ("dnc", "ccc"))
    assert told["callable"]["until"] == min(dnc["valid_until"], ccc["valid_until"])
    (row,) = told["rows"]
    assert row["flags"] == {"in_litigator_list": False, "in_dnc": False}
    assert (row["script"], row["run_id"]) == ("leads", scrubbed.run_id)
    lookup = row["lookup"]
    assert (lookup["state"], lookup["run_id"], lookup["purpose"]) == ("hit", scrubbed.run_id, "default")
    assert lookup["sent_at"] <= lookup["settled_at"] < lookup["expires_at"]
    assert row["other_lookups"] == []
    assert {check["source"] for check in told["checks"]} == {"ccc", "dnc"}
    for check in told["checks"]:
        assert (check["verdict"], check["reason"], check["purpose"]) == ("clear", None, "default")
        assert check["script_hash"] == row["script_hash"]
        assert check["list_version"]
        assert check["obtained_at"] <= check["checked_at"]
        assert check["seal"]["rows"] >= check["sequence"]
        assert check["seal"]["sealed_at"] >= check["checked_at"]
    shown = leadscrub("evidence", "trace", scrubbed.clear).out
    assert f"{scrubbed.clear} may be called until" in shown
    assert lookup["lookup_id"] in shown
    assert told["checks"][0]["seal"]["root"] in shown


def test_the_story_of_a_listed_number_names_the_list(scrubbed: Scrubbed) -> None:
    told = story(scrubbed.listed)
    assert (told["callable"]["is_callable"], told["callable"]["until"]) == (False, None)
    assert any("registry (dnc)" in each and "listed; asked at" in each for each in unmet(told))
    assert told["rows"][0]["flags"]["in_dnc"] is True
    assert "may not be called" in leadscrub("evidence", "trace", scrubbed.listed).out


def test_the_story_of_an_unknown_number_gives_the_reason(scrubbed: Scrubbed) -> None:
    told = story(scrubbed.unknown)
    assert any("unknown (area_code_not_covered)" in each for each in unmet(told))
    assert told["rows"][0]["null_reasons"]["in_dnc"] == "area_code_not_covered"
    assert "NULL (area_code_not_covered)" in leadscrub("evidence", "trace", scrubbed.unknown).out


def test_the_story_of_a_withdrawn_number_says_so_and_nothing_else_against_it(scrubbed: Scrubbed) -> None:
    told = story(scrubbed.withdrawn)
    (against,) = unmet(told)
    assert "was withdrawn at" in against
    assert "script others" in against
    assert told["rows"][0]["withdrawn_at"] is not None


def test_a_number_is_understood_in_any_spelling(scrubbed: Scrubbed) -> None:
    phone = scrubbed.clear
    answer = leadscrub("evidence", "trace", f"+1 ({phone[:3]}) {phone[3:6]}-{phone[6:]}", "--json")
    assert answer.json["phones"][0]["phone"] == phone


def test_a_number_that_nobody_asked_about_has_an_empty_story(scrubbed: Scrubbed) -> None:
    told = story("2125550188")
    assert (told["rows"], told["checks"], told["verdicts"]) == ([], [], [])
    assert "A published row holds it: no published row holds it" in unmet(told)


def test_a_records_story_masks_its_numbers_until_they_are_asked_for(scrubbed: Scrubbed) -> None:
    record_id = story(scrubbed.clear)["rows"][0]["record_id"]
    hidden = leadscrub("evidence", "trace", record_id)
    assert f"{scrubbed.clear[:3]}-***-**{scrubbed.clear[-2:]}" in hidden.out
    assert not _TEN_DIGITS.search(hidden.out + leadscrub("evidence", "trace", record_id, "--json").out)
    whole = leadscrub("evidence", "trace", record_id, "--show-personal", "--json").json
    assert (whole["kind"], scrubbed.clear in [each["phone"] for each in whole["phones"]]) == ("record", True)


def test_a_story_tells_of_nobody_by_name_and_of_no_one_else(scrubbed: Scrubbed) -> None:
    (other,) = [each for each in [scrubbed.withdrawn] if each != scrubbed.clear]
    for name in (scrubbed.clear, scrubbed.run_id):
        answer = leadscrub("evidence", "trace", name, "--json")
        for personal in ("Ada", "Main Street", "Springfield", "@", other):
            assert personal not in answer.out, personal


def test_a_runs_story_adds_up(scrubbed: Scrubbed) -> None:
    told = leadscrub("evidence", "trace", scrubbed.run_id, "--json").json
    (evidence,) = scrubbed.graph.rows(
        f"SELECT COUNT(*) FROM {SCRUB_EVIDENCE.full_name} WHERE run_id = ?", [scrubbed.run_id]
    )[0]
    assert sum(each["checks"] for each in told["checks"]) == evidence > 0
    assert sum(chain["rows_sealed"] for chain in told["chains"]) == evidence
    assert all(len(chain["seals"]) == 1 for chain in told["chains"])
    assert sum(each["lookups"] for each in told["lookups"]) == 10
    assert {each["table_name"] for each in told["slices"]} >= {"RAW_LEADS", "DNC_FLAGS"}
    (published,) = scrubbed.graph.rows(f"SELECT COUNT(*) FROM {MASTER.full_name} WHERE job_id = ?", [scrubbed.run_id])[
        0
    ]
    assert told["published"] == [{"script": "leads", "rows": published, "withdrawn": 0}]
    assert any(each["reason"] == "area_code_not_covered" for each in told["checks"])
    assert "Chains of evidence" in leadscrub("evidence", "trace", scrubbed.run_id).out


@pytest.mark.parametrize("name", ["21255501", "f" * 32, "00000000-0000-4000-8000-000000000000", "1115550123"])
def test_what_nobody_knows_is_a_usage_error_that_does_not_repeat_it(scrubbed: Scrubbed, name: str) -> None:
    answer = leadscrub("evidence", "trace", name)
    assert answer.code == 2
    assert name not in answer.err
    assert "record_id" in answer.err


# --- verifying --------------------------------------------------------------------------


def test_evidence_as_it_was_written_verifies(scrubbed: Scrubbed) -> None:
    answer = leadscrub("evidence", "verify")
    assert (answer.code, answer.out) == (0, "")
    assert "Evidence is as it was written" in answer.err
    assert "rows a second" in answer.err
    told = leadscrub("evidence", "verify", "--json").json
    assert (told["is_sound"], told["findings"], told["unsealed"]) == (True, [], [])
    assert told["rows"] == scrubbed.graph.rows(f"SELECT COUNT(*) FROM {SCRUB_EVIDENCE.full_name}")[0][0]


def test_a_row_that_was_edited_is_found_and_the_next_step_is_named(own_copy: Scrubbed) -> None:
    with open_warehouse(load_settings()).session() as session:
        session.execute(
            f"UPDATE {SCRUB_EVIDENCE.full_name} SET verdict = 'clear' WHERE phone = ? AND source = 'dnc'",
            [own_copy.listed],
        )
    answer = leadscrub("evidence", "verify")
    assert answer.code == 1
    assert f"dnc_flags in run {own_copy.run_id}: The columns of row" in answer.out
    assert "Next: Compare this chain with a backup" in answer.out
    assert own_copy.listed not in answer.out
    told = leadscrub("evidence", "verify", "--json")
    assert (told.code, told.json["findings"][0]["kind"]) == (1, "edited")


def test_evidence_without_its_ledger_is_a_finding(own_copy: Scrubbed, tmp_path: Path) -> None:
    for file in (tmp_path / "home").glob("ledger.sqlite*"):
        file.unlink()
    answer = leadscrub("evidence", "verify")
    assert answer.code == 1
    assert "no ledger that sealed them" in answer.out


# --- a pack -----------------------------------------------------------------------------


def export(folder: Path, *options: str, since: str = TODAY, until: str = TOMORROW) -> Answer:
    return leadscrub("evidence", "export", "--since", since, "--until", until, "--output", folder, *options)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


FILES = {
    "MANIFEST.csv",
    "checks.csv",
    "consents.csv",
    "failures.csv",
    "internal_dnc.csv",
    "list_versions.csv",
    "process_log.csv",
    "report.html",
    "unknowns.csv",
}


def test_a_pack_has_every_check_and_its_sums_agree(scrubbed: Scrubbed, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    answer = export(pack, "--json")
    assert answer.code == 0, answer.err
    assert {path.name for path in pack.iterdir()} == FILES
    checks, log = rows_of(pack / "checks.csv"), rows_of(pack / "process_log.csv")
    (count,) = scrubbed.graph.rows(f"SELECT COUNT(*) FROM {SCRUB_EVIDENCE.full_name}")[0]
    assert len(checks) == count == sum(int(line["checks"]) for line in log)
    assert {(line["run_id"], line["asset"]) for line in log} == {(line["run_id"], line["asset"]) for line in checks}
    for line in log:
        own = [each for each in checks if (each["run_id"], each["asset"]) == (line["run_id"], line["asset"])]
        assert [int(each["sequence"]) for each in own] == list(range(1, len(own) + 1))
        assert own[-1]["row_hash"] == line["root"]
        assert {each["seal_entry"] for each in own} == {line["seal_entry"]} != {""}
        for verdict in ("listed", "clear", "unknown"):
            assert int(line[verdict]) == sum(each["verdict"] == verdict for each in own), verdict
    versions = rows_of(pack / "list_versions.csv")
    assert sum(int(version["checks"]) for version in versions) == count
    assert {version["cleared_too_late"] for version in versions} == {"false"}
    # Two scripts ran by two versions: the registry file was written anew in between.
    assert {version["source"] for version in versions} == {"ccc", "dnc"}
    unknowns = rows_of(pack / "unknowns.csv")
    assert sum(int(line["checks"]) for line in unknowns) == sum(each["verdict"] == "unknown" for each in checks) > 0
    assert scrubbed.unknown in {line["phone"] for line in unknowns}
    assert all(each["checked_at"].endswith("Z") for each in checks)


def test_a_packs_manifest_has_the_hash_and_rows_of_each_file(scrubbed: Scrubbed, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    export(pack)
    listed = rows_of(pack / "MANIFEST.csv")
    assert {line["file"] for line in listed} == FILES - {"MANIFEST.csv"}
    for line in listed:
        data = (pack / line["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == line["sha256"]
        expected = "" if line["file"] == "report.html" else str(len(rows_of(pack / line["file"])))
        assert line["rows"] == expected


def test_a_pack_is_private_and_there_whole_or_not_at_all(scrubbed: Scrubbed, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    export(pack)
    assert pack.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in pack.iterdir()} == {0o600}
    before = {path: path.read_bytes() for path in pack.iterdir()}
    answer = export(pack)
    assert answer.code == 2
    assert "is not empty" in answer.err
    assert {path: path.read_bytes() for path in pack.iterdir()} == before
    assert export(tmp_path / "none" / "pack").code == 2
    (tmp_path / "empty").mkdir()
    assert export(tmp_path / "empty").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"pack", "empty"}


def test_a_masked_pack_holds_no_whole_number_and_no_hash_that_gives_one_away(
    scrubbed: Scrubbed, tmp_path: Path
) -> None:
    pack = tmp_path / "pack"
    assert export(pack, "--masked").code == 0
    texts = {path.name: path.read_text(encoding="utf-8") for path in pack.iterdir()}
    stored = scrubbed.graph.rows(f"SELECT phone, row_hash FROM {SCRUB_EVIDENCE.full_name}")
    assert stored
    for name, text in texts.items():
        assert not _TEN_DIGITS.search(text), name
        for phone, row_hash in stored:
            assert phone not in text, name
            assert row_hash not in text, name
    checks = rows_of(pack / "checks.csv")
    phones = sorted(f"{phone[:3]}-***-**{phone[-2:]}" for phone, _ in stored)
    assert sorted(line["phone"] for line in checks) == phones
    (line,) = [line for line in rows_of(pack / "unknowns.csv") if line["reason"] == "area_code_not_covered"]
    assert int(line["checks"]) == int(line["phones"]) > 0
    assert "Masked:" in texts["report.html"]


def test_the_report_tells_the_totals_in_words_and_loads_nothing(scrubbed: Scrubbed, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    export(pack)
    report = (pack / "report.html").read_text(encoding="utf-8")
    checks = rows_of(pack / "checks.csv")
    text = re.sub(r"<[^>]+>", " ", report)
    numbers = len({line["phone"] for line in checks})
    assert f"2 runs of 2 lead scripts made {len(checks)} checks of {numbers} telephone numbers" in text
    assert "Intact." in text
    assert "This is a demonstration." in text
    assert "does not cover the number&#x27;s area code" in text
    assert "No evidence was ever deleted." in text
    assert not re.search(r"<(script|link|img|iframe|object)|https?:|url\(|@import", report)
    for name in FILES - {"MANIFEST.csv", "report.html"}:
        assert hashlib.sha256((pack / name).read_bytes()).hexdigest() in report
    assert "Ada" not in text


def test_a_pack_of_a_time_without_checks_says_so(scrubbed: Scrubbed, tmp_path: Path) -> None:
    answer = export(tmp_path / "pack", since="2020-01-01", until="2020-02-01")
    assert answer.code == 0
    assert rows_of(tmp_path / "pack" / "checks.csv") == []
    assert "no telephone number was checked" in (tmp_path / "pack" / "report.html").read_text(encoding="utf-8")
    assert export(tmp_path / "other", since="2020-02-01", until="2020-02-01").code == 2


def test_a_pack_of_evidence_that_was_changed_says_so_and_the_exit_code_too(own_copy: Scrubbed, tmp_path: Path) -> None:
    with open_warehouse(load_settings()).session() as session:
        session.execute(f"DELETE FROM {SCRUB_EVIDENCE.full_name} WHERE phone = ? AND source = 'dnc'", [own_copy.listed])
    answer = export(tmp_path / "pack")
    assert answer.code == 1
    report = (tmp_path / "pack" / "report.html").read_text(encoding="utf-8")
    assert "Not intact: " in report
    assert f"dnc_flags in run {own_copy.run_id}: " in report


def test_a_number_that_is_valid_no_longer_keeps_its_story(own_copy: Scrubbed) -> None:
    with open_warehouse(load_settings()).session() as session:
        session.execute(
            f"UPDATE {SCRUB_EVIDENCE.full_name} SET phone = '1115550123' WHERE phone = ?", [own_copy.listed]
        )
    assert len(story("1115550123")["checks"]) == 2


def test_failed_lookups_and_batches_of_the_vendor_are_lines_of_the_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with graph_in(tmp_path, monkeypatch) as graph:
        run(graph, "leads", assets=ASSETS[:2])
        graph.configure(CCC_CONTROL_NUMBERS="2125550177")  # no litigator: every answer is disbelieved
        run(graph, "leads")
        export(tmp_path / "pack")
        lines = rows_of(tmp_path / "pack" / "failures.csv")
        batches = [line for line in lines if line["kind"] == "batch_unknown"]
        assert {(line["reason"], line["script"]) for line in batches} == {("control_failed", "leads")}
        reasons = rows_of(tmp_path / "pack" / "unknowns.csv")
        assert sum(int(line["checks"]) for line in batches) == sum(
            int(line["checks"]) for line in reasons if line["reason"] == "control_failed"
        )
        assert "came back clear" in (tmp_path / "pack" / "report.html").read_text(encoding="utf-8")


def test_checks_of_an_older_release_are_covered_by_the_seal_over_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo_settings(monkeypatch, tmp_path)
    warehouse = make_warehouse(tmp_path / "home")
    with Ledger.open(tmp_path / "other.sqlite", kind="demo") as other:
        write_chain(warehouse, other, check_of("before"), 20)
    with warehouse.session() as session:
        session.execute(f"UPDATE {SCRUB_EVIDENCE.full_name} SET canonical = NULL, row_hash = NULL")
        (phone,) = session.rows(f"SELECT MIN(phone) FROM {SCRUB_EVIDENCE.full_name}")[0]
    with open_ledger(load_settings()) as ledger:
        write_chain(warehouse, ledger, check_of("after"), 20, first=500)
    assert export(tmp_path / "pack").code == 0
    log = {line["run_id"]: line for line in rows_of(tmp_path / "pack" / "process_log.csv")}
    assert (log["before"]["seal_entry"], log["before"]["unsealed"], log["before"]["root"]) == ("1", "0", "")
    assert (log["after"]["seal_entry"], log["after"]["row_count"]) == ("2", "20")
    assert {line["seal_entry"] for line in rows_of(tmp_path / "pack" / "checks.csv")} == {"1", "2"}
    assert story(phone)["checks"][0]["seal"]["entry"] == 1


def test_where_nothing_was_ever_scrubbed_there_is_nothing_to_find_or_to_hand_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo_settings(monkeypatch, tmp_path)
    answer = leadscrub("evidence", "verify", "--json")
    assert (answer.code, answer.json["rows"]) == (0, 0)
    assert export(tmp_path / "pack").code == 0
    assert rows_of(tmp_path / "pack" / "process_log.csv") == []
    assert leadscrub("evidence", "trace", "2125550188").code == 0
    assert not (tmp_path / "home" / "ledger.sqlite").exists()


# --- pruning ----------------------------------------------------------------------------


@dataclass
class Archive:
    warehouse: DuckdbWarehouse
    path: Path

    def add(self, run_id: str, age: timedelta, rows: int = 30) -> None:
        at = NOW - age
        with Ledger.open(self.path, kind="demo", clock=lambda: at) as ledger:
            write_chain(self.warehouse, ledger, check_of(run_id), rows, at=at)

    def runs(self) -> set[str]:
        with self.warehouse.session() as session:
            return {run_id for (run_id,) in session.rows(f"SELECT DISTINCT run_id FROM {SCRUB_EVIDENCE.full_name}")}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Evidence of six years ago, of four, and of today."""
    demo_settings(monkeypatch, tmp_path)
    made = Archive(make_warehouse(tmp_path / "home"), tmp_path / "home" / "ledger.sqlite")
    made.add("ancient", 6 * YEAR)
    made.add("old", 4 * YEAR)
    made.add("new", timedelta(0))
    return made


def prune(before: timedelta, *options: str, stdin: str | None = None) -> Answer:
    return leadscrub("evidence", "prune", "--before", (NOW - before).date().isoformat(), *options, stdin=stdin)


def test_evidence_younger_than_five_years_stays_unless_that_is_ordered_with_a_reason(archive: Archive) -> None:
    for options in ((), ("--less-than-five-years",), ("--reason", "a new policy")):
        answer = prune(3 * YEAR, *options)
        assert answer.code == 4
        assert "five years" in answer.err
    assert prune(3 * YEAR, "--less-than-five-years", "--reason", "  ").code == 2
    assert prune(-3 * YEAR).code == 2
    assert archive.runs() == {"ancient", "old", "new"}
    answer = prune(3 * YEAR, "--less-than-five-years", "--reason", "counsel said so", "--json")
    assert (answer.code, answer.json["rows"]) == (0, 60)
    assert archive.runs() == {"new"}


def test_what_is_past_five_years_goes_and_its_trace_stays(archive: Archive, tmp_path: Path) -> None:
    answer = prune(5 * YEAR + timedelta(days=30), "--yes", "--json")
    assert [(chain["run_id"], chain["rows"]) for chain in answer.json["chains"]] == [("ancient", 30)]
    assert archive.runs() == {"old", "new"}
    verified = leadscrub("evidence", "verify", "--json")
    assert (verified.code, verified.json["pruned_chains"]) == (0, 1)
    (chain,) = leadscrub("evidence", "trace", "ancient", "--json").json["chains"]
    assert (chain["rows_sealed"], chain["pruned_at"]) == (30, answer.json["pruned_at"])
    assert len(chain["seals"][0]["root"]) == 64
    assert prune(5 * YEAR + timedelta(days=30), "--json").json["chains"] == []
    since = (NOW - 7 * YEAR).date().isoformat()
    assert export(tmp_path / "pack", since=since).code == 0
    log = {line["run_id"]: line for line in rows_of(tmp_path / "pack" / "process_log.csv")}
    assert (log["ancient"]["checks"], log["ancient"]["row_count"]) == ("0", "30")
    assert log["ancient"]["pruned_at"]
    assert not log["old"]["pruned_at"]
    assert "five years were over" in (tmp_path / "pack" / "report.html").read_text(encoding="utf-8")


def test_the_reason_of_an_early_pruning_stands_in_the_report(archive: Archive, tmp_path: Path) -> None:
    prune(3 * YEAR, "--less-than-five-years", "--reason", "order of <counsel>")
    export(tmp_path / "pack")
    assert "order of &lt;counsel&gt;" in (tmp_path / "pack" / "report.html").read_text(encoding="utf-8")


def test_evidence_that_still_backs_an_answer_is_kept_whatever_is_ordered(archive: Archive) -> None:
    archive.add("a month ago", timedelta(days=40))
    archive.add("last week", timedelta(days=10))
    answer = prune(timedelta(days=2), "--less-than-five-years", "--reason", "all of it", "--json")
    assert answer.code == 0
    assert archive.runs() == {"last week", "new"}


def test_nothing_is_pruned_while_evidence_does_not_verify(archive: Archive) -> None:
    with archive.warehouse.session() as session:
        session.execute(f"UPDATE {SCRUB_EVIDENCE.full_name} SET verdict = 'clear' WHERE run_id = 'ancient'")
    answer = prune(5 * YEAR + timedelta(days=30))
    assert answer.code == 1
    assert "evidence verify" in answer.err
    assert archive.runs() == {"ancient", "old", "new"}


def test_a_pruning_that_was_cut_off_is_found_and_finished_by_the_next(archive: Archive) -> None:
    with open_ledger(load_settings()) as ledger:
        ledger.mark_pruned([("ancient", "litigator_flags", 30)], before="2021-01-01", reason=None)
    found = leadscrub("evidence", "verify", "--json")
    assert (found.code, found.json["findings_by_kind"]) == (1, {"pruned_and_present": 1})
    assert prune(5 * YEAR + timedelta(days=30), "--json").json["rows"] == 30
    assert leadscrub("evidence", "verify").code == 0
    assert archive.runs() == {"old", "new"}


@pytest.mark.parametrize(("reply", "left"), [("n\n", {"ancient", "old", "new"}), ("y\n", {"old", "new"})])
def test_on_a_terminal_a_pruning_is_confirmed(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, reply: str, left: set[str]
) -> None:
    monkeypatch.setattr("leadscrub_pipeline.cli.evidence.stdin_is_terminal", lambda: True)
    answer = prune(5 * YEAR + timedelta(days=30), stdin=reply)
    assert answer.code == 0
    assert "30 rows" in answer.err
    assert archive.runs() == left
