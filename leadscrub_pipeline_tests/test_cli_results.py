"""``leadscrub results`` as a user meets it: on the screen, in a pipe, in a file."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.schema import MASTER
from leadscrub_pipeline_tests.command_line import demo_settings, leadscrub
from leadscrub_pipeline_tests.graph import graph_in
from leadscrub_pipeline_tests.published import DAY, NOW, clear_rows, make_warehouse, master_row, phone, store

MAIN = "from leadscrub_pipeline.cli import main; main()"
WITH_EVERYTHING = {"email_1": "ada@example.com", "city": "Dallas"}


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckdbWarehouse:
    """The warehouse that the commands open."""
    demo_settings(monkeypatch, tmp_path)
    return make_warehouse(tmp_path / "home")


@pytest.fixture
def filled(warehouse: DuckdbWarehouse) -> DuckdbWarehouse:
    rows = [
        master_row(
            1, ["2125550101", "2125550102"], in_dnc=(False, True), processed_at=NOW - 3 * DAY, **WITH_EVERYTHING
        ),
        master_row(2, ["2125550103"], litigator=True, run="run-2"),
        master_row(3, ["2125550104"], litigator=None, script="summer", null_reasons={"in_litigator_list": "timeout"}),
    ]
    store(warehouse, rows, clear_rows("2125550101"))
    return warehouse


# --- list -------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_list_shows_nobody_by_name_and_no_whole_phone(filled: DuckdbWarehouse, arguments: tuple[str, ...]) -> None:
    answer = leadscrub("results", "list", *arguments)
    assert answer.code == 0
    assert "212-***-**01" in answer.out
    for personal in ("2125550101", "Lead1", "Oak Street", "Dallas", "75201", "ada@example.com"):
        assert personal not in answer.out
    assert "timeout" in answer.out


def test_personal_data_is_shown_when_asked_for(filled: DuckdbWarehouse) -> None:
    shown = leadscrub("results", "list", "--show-personal")
    assert "2125550101" in shown.out
    assert "Ada Lead1" in shown.out
    assert "ada@example.com" in shown.out
    rows = leadscrub("results", "list", "--show-personal", "--json").json
    assert list(rows[0]) == list(MASTER.column_names)
    assert rows[-1]["additional_data"]["provenance"]["contact"]["is_dead"] is False


def test_a_list_gives_the_newest_rows_of_a_script(filled: DuckdbWarehouse) -> None:
    rows = leadscrub("results", "list", "--script", "spring", "--limit", 1, "--json").json
    assert [(row["table_id"], row["job_id"]) for row in rows] == [("spring", "run-2")]
    since = (NOW - 2 * DAY).date().isoformat()
    assert len(leadscrub("results", "list", "--since", since, "--json").json) == 2


def test_an_empty_warehouse_says_so_and_is_no_error(warehouse: DuckdbWarehouse) -> None:
    answer = leadscrub("results", "list")
    assert (answer.code, answer.out) == (0, "")
    assert "Nothing is published yet." in answer.err
    assert leadscrub("results", "list", "--json").json == []
    assert leadscrub("results", "stats", "--json").json["total"]["rows"] == 0


def test_a_script_that_there_is_not_is_a_usage_error_and_one_not_yet_published_is_none(
    warehouse: DuckdbWarehouse, tmp_path: Path
) -> None:
    (tmp_path / "scripts" / "winter.sql").write_text("SELECT 1 AS one")
    assert leadscrub("results", "list", "--script", "wintr").code == 2
    assert leadscrub("results", "export", "--script", "wintr").code == 2
    assert leadscrub("results", "export", "--script", "winter").code == 0


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "0001-01-01T00:00+14:00", ""])
def test_a_time_that_cannot_be_understood_is_a_usage_error(warehouse: DuckdbWarehouse, since: str) -> None:
    answer = leadscrub("results", "list", "--since", since)
    assert answer.code == 2
    assert "2026-11-01" in answer.err


# --- stats ------------------------------------------------------------------------------


def test_stats_add_up(filled: DuckdbWarehouse) -> None:
    stats = leadscrub("results", "stats", "--json").json
    assert [script["script"] for script in stats["scripts"]] == ["spring", "summer"]
    for name in ("rows", "phones", "litigators", "litigator_unknown", "dnc_listed", "dnc_unknown"):
        assert stats["total"][name] == sum(script[name] for script in stats["scripts"]), name
    assert stats["total"]["callable"] == 1
    assert stats["scripts"][1]["unknown_by_reason"] == {"ccc: timeout": 1}
    shown = leadscrub("results", "stats")
    assert "ccc: timeout" in shown.out


# --- export -----------------------------------------------------------------------------


def test_an_export_is_csv_on_standard_output_and_nothing_else_is_there(filled: DuckdbWarehouse) -> None:
    answer = leadscrub("results", "export")
    rows = list(csv.DictReader(io.StringIO(answer.raw.decode(), newline="")))
    assert (answer.code, answer.err, len(rows)) == (0, "", 3)
    assert list(rows[0]) == list(MASTER.column_names)
    assert {row["phone_1"] for row in rows} == {"2125550101", "2125550103", "2125550104"}


def test_a_callable_export_blanks_out_what_may_not_be_called(filled: DuckdbWarehouse) -> None:
    (row,) = leadscrub("results", "export", "--callable", "--format", "jsonl").lines
    assert [row[f"phone_{i}"] for i in (1, 2, 3)] == ["2125550101", None, None]
    assert "2125550102" not in str(row)


def test_litigators_are_left_out_when_asked(filled: DuckdbWarehouse) -> None:
    rows = leadscrub("results", "export", "--exclude-litigators", "--json").lines
    assert {row["in_litigator_list"] for row in rows} == {False, None}


@pytest.mark.parametrize(
    ("name", "given"), [("a.csv", ()), ("a.jsonl", ()), ("a.parquet", ()), ("a", ("--format", "parquet"))]
)
def test_an_output_file_is_in_the_form_of_its_ending_and_private(
    filled: DuckdbWarehouse, tmp_path: Path, name: str, given: tuple[str, ...]
) -> None:
    path = tmp_path / name
    answer = leadscrub("results", "export", "--output", path, "--json", *given)
    assert answer.json["rows"] == 3
    assert path.stat().st_mode & 0o777 == 0o600
    if answer.json["format"] == "parquet":
        assert pq.read_table(path).num_rows == 3
    else:
        assert path.read_text().startswith("record_id," if name == "a.csv" else '{"record_id":')


def test_an_output_that_cannot_be_written_is_a_usage_error(filled: DuckdbWarehouse, tmp_path: Path) -> None:
    assert leadscrub("results", "export", "--output", tmp_path / "none" / "a.csv").code == 2
    assert leadscrub("results", "export", "--output", tmp_path).code == 2
    assert leadscrub("results", "export", "--format", "csv", "--json").code == 2


def test_a_reader_that_has_had_enough_sees_no_traceback(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(n, [phone(n)], extra={"note": "x" * 500}) for n in range(2_000)])
    for format_ in ("csv", "parquet"):
        command = [sys.executable, "-c", MAIN, "results", "export", "--format", format_]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(10)
            process.stdout.close()
            complaint = process.stderr.read()
        assert (process.returncode, complaint) == (0, b""), format_


def test_results_of_the_other_kind_are_refused(filled: DuckdbWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDICORE_AUTH_URL", "IDICORE_SEARCH_URL", "CCC_API_URL"):
        monkeypatch.delenv(name)
    assert leadscrub("results", "list").code == 4


# --- withdraw ---------------------------------------------------------------------------


def test_a_withdrawn_script_is_no_longer_callable_and_still_published(filled: DuckdbWarehouse) -> None:
    answer = leadscrub("results", "withdraw", "spring", "--yes", "--json")
    assert answer.json == {"script": "spring", "rows": 2, "phones": 3, "no_longer_callable": 1}
    assert leadscrub("results", "export", "--callable", "--json").lines == []
    assert len(leadscrub("results", "export", "--json").lines) == 3
    assert leadscrub("results", "stats", "--json").json["total"]["withdrawn"] == 2


def test_a_run_is_withdrawn_by_its_id(filled: DuckdbWarehouse) -> None:
    answer = leadscrub("results", "withdraw", "run-2", "--yes", "--json")
    assert answer.json == {"run": "run-2", "rows": 1, "phones": 1, "no_longer_callable": 0}
    assert len(leadscrub("results", "export", "--callable", "--json").lines) == 1


def test_an_unknown_script_or_run_is_a_usage_error(filled: DuckdbWarehouse) -> None:
    answer = leadscrub("results", "withdraw", "sprung", "--yes")
    assert answer.code == 2
    assert "spring, summer" in answer.err


@pytest.mark.parametrize(("reply", "left"), [("n\n", 1), ("y\n", 0)])
def test_on_a_terminal_a_withdrawal_is_confirmed(
    filled: DuckdbWarehouse, monkeypatch: pytest.MonkeyPatch, reply: str, left: int
) -> None:
    monkeypatch.setattr("leadscrub_pipeline.cli.results.stdin_is_terminal", lambda: True)
    answer = leadscrub("results", "withdraw", "spring", stdin=reply)
    assert answer.code == 0
    assert "2 rows" in answer.err
    assert len(leadscrub("results", "export", "--callable", "--json").lines) == left


def test_what_is_withdrawn_is_callable_again_once_it_is_published_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with graph_in(tmp_path, monkeypatch) as graph:
        graph.scrub("leads")
        before = graph.callable_phones()
        answer = leadscrub("results", "withdraw", "leads", "--yes", "--json").json
        assert answer["rows"] == 10
        assert answer["no_longer_callable"] == len(before) > 0
        assert graph.callable_phones() == set()
        graph.scrub("leads")
        assert graph.callable_phones() == set()
        graph.scrub("leads", already_processed="include")
        assert graph.callable_phones() == before
        exported = leadscrub("results", "export", "--callable", "--json").lines
        assert {row[f"phone_{i}"] for row in exported for i in (1, 2, 3)} - {None} == before
