"""Published results: which rows are read, what leaves in which form, what a withdrawal does."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.warehouse import results
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.exports import Format, json_value, whole_file, write_results
from leadscrub_pipeline.warehouse.results import EVERYTHING, Choice
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, MASTER, SCRUB_EVIDENCE, WITHDRAWALS
from leadscrub_pipeline_tests.published import (
    DAY,
    NOW,
    Row,
    clear_rows,
    clear_tables,
    make_warehouse,
    master_row,
    phone,
    record_id,
    store,
    verdict_row,
)


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckdbWarehouse:
    return make_warehouse(tmp_path)


def read(warehouse: DuckdbWarehouse, choice: Choice = EVERYTHING, *, rows: int = 3) -> list[Row]:
    return [row for page in results.read_pages(warehouse, choice, rows=rows) for row in page.to_pylist()]


def exported(warehouse: DuckdbWarehouse, format_: Format) -> bytes:
    stream = io.BytesIO()
    write_results(results.read_pages(warehouse, EVERYTHING), stream, format_)
    return stream.getvalue()


def written(rows: Sequence[Row], format_: Format) -> bytes:
    """Rows in pages of three, without a warehouse."""
    stream = io.BytesIO()
    pages = [to_table(rows[at : at + 3], arrow_schema(MASTER)) for at in range(0, len(rows), 3)]
    assert write_results(pages, stream, format_) == len(rows)
    return stream.getvalue()


def csv_rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def callable_phones(warehouse: DuckdbWarehouse) -> set[str]:
    with warehouse.session() as session:
        return {number for (number,) in session.rows(f"SELECT phone FROM {CALLABLE_PHONES}")}


# --- which rows -------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 10, 1000])
def test_every_row_is_read_once_and_in_order_whatever_the_page(warehouse: DuckdbWarehouse, rows: int) -> None:
    store(warehouse, [master_row(name, [phone(name)]) for name in range(10)])
    found = read(warehouse, rows=rows)
    assert [row["record_id"] for row in found] == sorted(record_id(name) for name in range(10))
    assert list(found[0]) == list(MASTER.column_names)
    assert len(MASTER.column_names) == 23


def test_pages_are_no_larger_than_asked_for(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(name) for name in range(10)])
    assert [page.num_rows for page in results.read_pages(warehouse, EVERYTHING, rows=4)] == [4, 4, 2]


def test_a_run_can_write_between_two_pages(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(name) for name in range(4)])
    pages = results.read_pages(warehouse, EVERYTHING, rows=2)
    assert next(pages).num_rows == 2
    store(make_warehouse(warehouse.path.parent), [master_row("later")])
    assert next(pages).num_rows == 2


def test_script_and_since_choose_rows(warehouse: DuckdbWarehouse) -> None:
    store(
        warehouse,
        [
            master_row("old", script="spring", processed_at=NOW - 5 * DAY),
            master_row("edge", script="spring", processed_at=NOW - 2 * DAY),
            master_row("new", script="summer", processed_at=NOW - DAY),
        ],
    )
    since = (NOW - 2 * DAY).astimezone(tz=None)
    assert {row["last_name"] for row in read(warehouse, Choice(since=since))} == {"Leadedge", "Leadnew"}
    assert [row["last_name"] for row in read(warehouse, Choice(since=since, script="spring"))] == ["Leadedge"]


def test_excluding_litigators_leaves_unknown_rows_in(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(flag, [phone(1)], litigator=flag) for flag in (True, False, None)])
    flags = {row["in_litigator_list"] for row in read(warehouse, Choice(exclude_litigators=True))}
    assert flags == {False, None}


def test_the_newest_rows_come_first(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(age, processed_at=NOW - age * DAY) for age in range(1, 6)])
    with warehouse.session() as session:
        newest = results.newest_rows(session, EVERYTHING, limit=2).to_pylist()
    assert [row["last_name"] for row in newest] == ["Lead1", "Lead2"]


# --- what may be called -----------------------------------------------------------------


def test_a_callable_export_shows_no_phone_that_may_not_be_called(warehouse: DuckdbWarehouse) -> None:
    verdicts = [*clear_rows(phone(1), phone(3)), verdict_row(phone(2), "ccc"), verdict_row(phone(2), "dnc", "listed")]
    rows = [
        master_row("mixed", [phone(1), phone(2), phone(3)], in_dnc=(False, True, False)),
        master_row("only listed", [phone(2)], in_dnc=(True,)),
        master_row("none"),
    ]
    store(warehouse, rows, verdicts)
    (row,) = read(warehouse, Choice(only_callable=True))
    assert [row[f"phone_{i}"] for i in (1, 2, 3)] == [phone(1), None, phone(3)]
    assert [row[f"phone_{i}_in_dnc"] for i in (1, 2, 3)] == [False, None, False]
    assert row["in_litigator_list"] is False
    assert row["address"] == "mixed Oak Street"


def test_a_phone_that_comes_into_a_row_during_an_export_is_not_shown(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(n, [phone(n)]) for n in (1, 2)], clear_rows(phone(1), phone(2)))
    first, second = sorted((1, 2), key=record_id)
    pages = results.read_pages(warehouse, Choice(only_callable=True), rows=1)
    assert next(pages).column("phone_1").to_pylist() == [phone(first)]
    with warehouse.session() as session:
        session.execute(f"UPDATE {MASTER.full_name} SET phone_1 = ? WHERE phone_1 = ?", [phone(9), phone(second)])
    assert next(pages).num_rows == 0


_SLOT = st.integers(0, 8).map(lambda n: None if n == 0 else phone(n))
_ROW = st.tuples(_SLOT, _SLOT, _SLOT, st.sampled_from((False, False, False, True, None)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(_ROW, max_size=12), clear=st.sets(st.integers(1, 8)), rows=st.integers(1, 5))
def test_a_callable_export_holds_exactly_the_callable_phones_and_where_they_stand(
    warehouse: DuckdbWarehouse, drawn: Sequence[tuple[str | None, str | None, str | None, bool | None]],
    clear: set[int], rows: int,
) -> None:  # fmt: skip
    clear_tables(warehouse)
    stored = [master_row(n, phones, litigator=flag) for n, (*phones, flag) in enumerate(drawn)]
    store(warehouse, stored, clear_rows(*map(phone, clear)))
    allowed = callable_phones(warehouse)
    expected = {
        row["record_id"]: [row[f"phone_{i}"] if row[f"phone_{i}"] in allowed else None for i in (1, 2, 3)]
        for row in stored
        if not allowed.isdisjoint({row["phone_1"], row["phone_2"], row["phone_3"]})
    }
    found = read(warehouse, Choice(only_callable=True), rows=rows)
    assert {row["record_id"]: [row[f"phone_{i}"] for i in (1, 2, 3)] for row in found} == expected
    assert all(row["in_litigator_list"] is False for row in found)


# --- forms ------------------------------------------------------------------------------


def test_all_three_forms_hold_the_same_23_columns_and_values(warehouse: DuckdbWarehouse) -> None:
    store(
        warehouse,
        [
            master_row(
                n,
                [phone(n), None, phone(n + 50)],
                litigator=flag,
                in_dnc=(flag, None, False),
                email_1="a@x.com",
                extra={"loan_amount": n, "note": 'say "hi", twice'},
            )
            for n, flag in enumerate((True, False, None) * 3)
        ],
    )
    as_csv = csv_rows(exported(warehouse, Format.CSV))
    as_json = [json.loads(line) for line in exported(warehouse, Format.JSONL).splitlines()]
    as_parquet = pq.read_table(pa.BufferReader(exported(warehouse, Format.PARQUET))).to_pylist()
    for flat, line, typed in zip(as_csv, as_json, as_parquet, strict=True):
        assert list(flat) == list(line) == list(typed) == list(MASTER.column_names)
        for name, value in typed.items():
            if name == "additional_data":
                assert line[name] == json.loads(value) == json.loads(flat[name])
            elif name == "processed_at":
                assert value.tzinfo is not None
                assert line[name] == flat[name] == value.strftime("%Y-%m-%dT%H:%M:%SZ")
            elif isinstance(value, bool):
                assert line[name] is value
                assert flat[name] == ("true" if value else "false")
            else:
                assert line[name] == value
                assert flat[name] == (value or "")


def test_parquet_has_nullable_booleans_also_when_every_flag_is_unknown() -> None:
    stored = [master_row(1, [phone(1)], litigator=None, in_dnc=(None,))]
    table = pq.read_table(pa.BufferReader(written(stored, Format.PARQUET)))
    flags = ["in_litigator_list", "phone_1_in_dnc", "phone_2_in_dnc", "phone_3_in_dnc"]
    assert [table.schema.field(name).type for name in flags] == [pa.bool_()] * 4
    assert table.schema.field("phone_1").type == pa.string()
    assert table.column("in_litigator_list").to_pylist() == [None]


def test_an_empty_result_is_a_header_no_line_and_an_empty_table() -> None:
    assert written([], Format.CSV) == (",".join(MASTER.column_names) + "\r\n").encode()
    assert written([], Format.JSONL) == b""
    table = pq.read_table(pa.BufferReader(written([], Format.PARQUET)))
    assert (table.num_rows, table.column_names) == (0, list(MASTER.column_names))


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\N{FULLWIDTH EQUALS SIGN}1", "-", '=HYPERLINK("x")'],
)
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    stored = [master_row(1, [phone(1)], first_name=text, email_1=text, city=f"a{text}")]
    (row,) = csv_rows(written(stored, Format.CSV))
    assert row["first_name"] == row["email_1"] == f"'{text}"
    assert row["city"] == f"a{text}"
    assert row["phone_1"] == phone(1)
    assert json.loads(written(stored, Format.JSONL))["first_name"] == text


_RISKY = st.sampled_from("=+-@\t\r\n,;'\"\uff1d")
_TEXT = st.text(_RISKY | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(texts=st.lists(_TEXT, min_size=1, max_size=8))
def test_any_text_comes_out_of_csv_as_it_went_in_but_for_the_apostrophe(texts: list[str]) -> None:
    data = written([master_row(n, first_name=text, address=text) for n, text in enumerate(texts)], Format.CSV)
    for text, row in zip(texts, csv_rows(data), strict=True):
        assert row["first_name"] == row["address"]
        assert row["first_name"] in (text, f"'{text}")
        assert not row["first_name"].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert not row["first_name"].startswith("'") or text[0] in "'=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"


def test_json_lines_keep_long_numbers_and_stay_one_line_a_row() -> None:
    text = '{"big": 123456789012345678901234567890,\n "sum": 0.10000000000000000001,\r\n "text": "a\\nb"}'
    data = written([master_row(1, additional_data=text)], Format.JSONL)
    assert data.count(b"\n") == 1
    assert b"123456789012345678901234567890" in data
    assert b"0.10000000000000000001" in data
    assert json.loads(data)["additional_data"]["text"] == "a\nb"


def test_numbers_that_json_does_not_have_become_null(warehouse: DuckdbWarehouse) -> None:
    with warehouse.session() as session:
        text = session.rows("SELECT CAST(json_object('x', [1.5, 'nan'::DOUBLE, '-inf'::DOUBLE]) AS VARCHAR)")[0][0]
    store(warehouse, [master_row(1, additional_data=text)])
    assert orjson.loads(exported(warehouse, Format.JSONL))["additional_data"] == {"x": [1.5, None, None]}
    assert json_value("{not json") == "{not json"


# --- the file ---------------------------------------------------------------------------


def test_an_output_file_is_private_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    path.chmod(0o644)
    with whole_file(path) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_export_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as stream:  # noqa: PT012 - it fails between two pages
        stream.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="No space left"), whole_file(tmp_path / "out.csv"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "/dev/null", "no/such/folder/out.csv"])
def test_only_a_file_in_a_folder_that_is_there_is_written_to(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError), whole_file(tmp_path / name):
        raise AssertionError("nothing must be written")


# --- counts -----------------------------------------------------------------------------


def test_counts_tell_rows_phones_flags_and_reasons_by_script_and_in_all(warehouse: DuckdbWarehouse) -> None:
    rows = [
        master_row(1, [phone(1), phone(2)], in_dnc=(False, True)),
        master_row(2, [phone(3)], litigator=True),
        master_row(3, [phone(4)], litigator=None, in_dnc=(None,),
                   null_reasons={"in_litigator_list": "timeout", "phone_1_in_dnc": "stale_list"}),
        master_row(4, null_reasons={"in_litigator_list": "no_phone"}),
        master_row(5, [phone(1), phone(5)], script="summer", in_dnc=(False, None)),
    ]  # fmt: skip
    store(warehouse, rows, clear_rows(phone(1), phone(5)))
    with warehouse.session() as session:
        results.withdraw(session, results.find_withdrawal(session, "summer"))
        by_script, total = results.count_results(session, warehouse.dialect)
    spring, summer = by_script["spring"], by_script["summer"]
    assert (spring.rows, spring.without_phone, spring.phones, spring.distinct_phones) == (4, 1, 4, 4)
    assert (spring.litigators, spring.litigator_unknown, spring.dnc_listed, spring.dnc_unknown) == (1, 1, 1, 1)
    assert spring.unknown_by_reason == {"ccc: timeout": 1, "dnc: stale_list": 1}
    assert summer.unknown_by_reason == {"dnc: not_recorded": 1}
    assert (spring.withdrawn, summer.withdrawn, spring.callable, summer.callable) == (0, 1, 0, 0)
    assert (total.rows, total.phones, total.distinct_phones, total.withdrawn) == (5, 6, 5, 1)


def test_a_phone_of_two_scripts_is_callable_once_in_all(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(s, [phone(1)], script=s) for s in ("spring", "summer")], clear_rows(phone(1)))
    with warehouse.session() as session:
        by_script, total = results.count_results(session, warehouse.dialect)
    assert [by_script["spring"].callable, by_script["summer"].callable, total.callable] == [1, 1, 1]


def test_an_empty_warehouse_counts_nothing(warehouse: DuckdbWarehouse) -> None:
    with warehouse.session() as session:
        by_script, total = results.count_results(session, warehouse.dialect)
    assert (by_script, total.rows, total.callable) == ({}, 0, 0)


# --- withdrawing ------------------------------------------------------------------------


def withdraw(warehouse: DuckdbWarehouse, name: str) -> int:
    with warehouse.session() as session:
        return results.withdraw(session, results.find_withdrawal(session, name))


def test_a_withdrawn_script_is_not_callable_and_keeps_rows_and_evidence(warehouse: DuckdbWarehouse) -> None:
    rows = [master_row(1, [phone(1)]), master_row(2, [phone(2)]), master_row(3, [phone(3)], script="summer")]
    store(warehouse, rows, clear_rows(phone(1), phone(2), phone(3)))
    with warehouse.session() as session:
        session.execute(f"INSERT INTO {SCRUB_EVIDENCE.full_name} (run_id, phone) VALUES ('run-1', ?)", [phone(1)])
    assert withdraw(warehouse, "spring") == 2
    assert callable_phones(warehouse) == {phone(3)}
    assert len(read(warehouse)) == 3
    with warehouse.session() as session:
        assert session.rows(f"SELECT COUNT(*) FROM {SCRUB_EVIDENCE.full_name}") == [(1,)]


def test_a_withdrawn_run_takes_only_the_rows_that_it_wrote_last(warehouse: DuckdbWarehouse) -> None:
    rows = [master_row(n, [phone(n)], run=f"run-{n}") for n in (1, 2)]
    store(warehouse, rows, clear_rows(phone(1), phone(2)))
    assert withdraw(warehouse, "run-2") == 1
    assert callable_phones(warehouse) == {phone(1)}


def test_withdrawing_one_script_takes_the_phone_away_from_the_other_that_holds_it(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(s, [phone(1)], script=s) for s in ("spring", "summer")], clear_rows(phone(1)))
    withdraw(warehouse, "spring")
    assert callable_phones(warehouse) == set()


def test_withdrawing_twice_keeps_one_mark_a_row_and_names_the_last_reason(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(1, [phone(1)])], clear_rows(phone(1)))
    withdraw(warehouse, "spring")
    withdraw(warehouse, "run-1")
    with warehouse.session() as session:
        assert session.rows(f"SELECT record_id, reason FROM {WITHDRAWALS.full_name}") == [(record_id(1), "run run-1")]


def test_publishing_again_lifts_a_withdrawal(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(1, [phone(1)])], clear_rows(phone(1)))
    withdraw(warehouse, "spring")
    with warehouse.session() as session:
        later = datetime.now(UTC) + timedelta(seconds=1)
        session.execute(f"UPDATE {MASTER.full_name} SET processed_at = ?", [later])
    assert callable_phones(warehouse) == {phone(1)}


def test_a_row_written_by_a_host_whose_clock_is_ahead_is_withdrawn_all_the_same(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(1, [phone(1)], processed_at=NOW + DAY)], clear_rows(phone(1)))
    withdraw(warehouse, "spring")
    assert callable_phones(warehouse) == set()


def test_a_withdrawal_tells_beforehand_what_it_is_about(warehouse: DuckdbWarehouse) -> None:
    rows = [master_row(n, [phone(n), phone(7)], in_dnc=(n == 1, False)) for n in (1, 2)]
    store(warehouse, rows, clear_rows(phone(2), phone(7)))
    with warehouse.session() as session:
        found = results.find_withdrawal(session, "spring")
    assert (found.kind, found.rows, found.phones, found.callable) == ("script", 2, 3, 2)


def test_nothing_published_under_a_name_is_said_with_the_names_there_are(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(1), master_row(2, script="summer")])
    with warehouse.session() as session, pytest.raises(UsageError, match=r"'springg'.*spring, summer"):
        results.find_withdrawal(session, "springg")
