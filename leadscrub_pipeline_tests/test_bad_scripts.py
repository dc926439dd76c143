"""Bad scripts and bad source tables, each through a Dagster run: refused by name, or run right with nothing lost."""

import datetime as dt
import json
import math
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leadscrub_pipeline.domain.people import Person, unusable_reason
from leadscrub_pipeline.warehouse.schema import RAW_LEADS, REJECTED_LEADS
from leadscrub_pipeline_tests.bad_input import (
    deployment,
    fails,
    private_people,
    published,
    settled_again,
    state,
    tells_nothing_private,
)
from leadscrub_pipeline_tests.graph import IDENTITY, Graph

TABLE = "LEADS_DB.PUBLIC.LEADS"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A deployment whose script ``leads`` is published, with a second database that is there and not allowed."""
    with deployment(tmp_path_factory.mktemp("scripts")) as graph:
        graph.configure(LEADSCRUB_ALLOWED_DATABASES="LEADS_DB")
        graph.write_source(TABLE, private_people(4, start=0))
        graph.write_source("OTHER_DB.PUBLIC.LEADS", private_people(4, start=50))
        assert graph.scrub("leads").success
        yield graph


@pytest.fixture
def graph(whole: Graph, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with settled_again(whole, monkeypatch) as graph:
        yield graph


def write_parquet(graph: Graph, table: str, start: int, **columns: object) -> None:
    """Two private people as Parquet, with some columns given or replaced."""
    values = dict(zip(IDENTITY, map(list, zip(*private_people(2, start=start), strict=True)), strict=True))
    path = graph.folder / "sources" / "LEADS_DB" / "PUBLIC" / f"{table}.parquet"
    pq.write_table(pa.table({**values, **columns}), path)


def additional(row: dict[str, object]) -> dict[str, object]:
    """The row's additional_data as a strict reader takes it."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    value: dict[str, object] = json.loads(str(row["additional_data"]), parse_constant=refuse)
    return value


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (f"DELETE FROM {TABLE}", ["Line 2, column 1", "start with SELECT"]),
        (f"SELECT * FROM {TABLE}; SELECT 1", ["Line 2", "more than one statement"]),
        (f"SELECT * FROM {TABLE}; DROP TABLE {TABLE}", ["more than one statement"]),
        (f"SELECT * INTO X FROM {TABLE}", ["INTO is not allowed"]),
        ("-- only a remark", ["no statement"]),
        (f"SELECT * FROM {TABLE} WHERE (", ["Line 2"]),
        ("SELECT * FROM OTHER_DB.PUBLIC.LEADS", ["Line 2", "OTHER_DB", "allowed: LEADS_DB"]),
        ("SELECT * FROM PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB", ["PROCESSED_DATA_DB"]),
        ("SELECT * FROM LEADS_DB.INFORMATION_SCHEMA.TABLES", ["INFORMATION_SCHEMA"]),
        ("SELECT * FROM read_csv('/etc/passwd')", ["Only tables can be read"]),
        ("SELECT * FROM '/etc/passwd'", ["Only tables can be read"]),
        (f"SELECT *, getenv('HOME') AS H FROM {TABLE}", ["GETENV"]),
        (f"SELECT *, SYSTEM$WAIT(1) AS H FROM {TABLE}", ["SYSTEM$WAIT"]),
        (f"SELECT *, MY_UDF(ZIP) AS H FROM {TABLE}", ["MY_UDF"]),
        ("SELECT * FROM {{ source('leads') }}", ["Templates"]),
        (f"SELECT *, {'(' * 10_000}1{')' * 10_000} AS X FROM {TABLE}", ["nested more than"]),
        (f"SELECT * FROM {'(SELECT * FROM ' * 5_000}{TABLE}{')' * 5_000}", ["nested more than"]),
        (f"SELECT *, {'ABS(' * 10_000}1{')' * 10_000} AS X FROM {TABLE}", ["nested more than"]),
    ],
    ids=[
        "delete", "two_statements", "drop", "into", "nothing", "cut_off", "other_database", "own_results",
        "information_schema", "file_function", "file_as_table", "getenv", "system", "unknown_function",
        "template", "nested_brackets", "nested_queries", "nested_calls",
    ],
)  # fmt: skip
def test_a_script_that_may_not_run_is_refused_by_place_and_nothing_is_written(
    graph: Graph, sql: str, words: Sequence[str]
) -> None:
    before = state(graph)
    graph.write_script("leads", sql)
    error = fails(graph, "leads", "raw_leads", "leads.sql", *words).error
    assert "/etc/passwd" not in error
    assert state(graph) == before


def test_a_header_narrows_the_databases_and_never_widens_them(graph: Graph) -> None:
    graph.write_script("wide", "SELECT * FROM OTHER_DB.PUBLIC.LEADS", databases="OTHER_DB, LEADS_DB")
    fails(graph, "wide", "raw_leads", "OTHER_DB", "does not allow")
    graph.configure(LEADSCRUB_ALLOWED_DATABASES="LEADS_DB,OTHER_DB")
    graph.write_script("narrow", "SELECT * FROM OTHER_DB.PUBLIC.LEADS", databases="LEADS_DB")
    fails(graph, "narrow", "raw_leads", "OTHER_DB", "may not be read")


@pytest.mark.parametrize(
    ("sql", "words", "header"),
    [
        (
            "SELECT FIRST_NAME, LAST_NAME AS KIN, ADDRESS, ZIP FROM {}",
            ["last_name", "FIRST_NAME, KIN, ADDRESS, ZIP", "-- columns: last_name ="],
            "last_name = KIN",
        ),
        (
            "SELECT FIRST_NAME, LAST_NAME, ADDRESS, ZIP AS Z FROM {}",
            ["zip_code (or city and state)", "Z", "-- columns: zip_code ="],
            "zip_code = Z",
        ),
        (
            "SELECT *, 'Main Office' AS STREET FROM {}",
            ["ADDRESS and STREET both look like address", "-- columns: address = ADDRESS"],
            "address = ADDRESS",
        ),
    ],
    ids=["no_last_name", "no_zip", "two_addresses"],
)
def test_columns_that_say_too_little_or_too_much_are_refused_with_the_header_line_that_helps(
    graph: Graph, sql: str, words: Sequence[str], header: str
) -> None:
    before = state(graph)
    graph.write_script("leads", sql.format(TABLE))
    fails(graph, "leads", "raw_leads", *words)
    assert state(graph) == before
    graph.write_script("leads", sql.format(TABLE), columns=header)
    run = graph.scrub("leads", assets=["raw_leads"])
    assert run.success, run.error
    assert run.metadata["raw_leads"]["already_processed"] == 4


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("ZIP", ["more than one column named ZIP", "EXCLUDE"]),
        ("1 AS PROVENANCE", ["'provenance'", "Give it another name with AS"]),
        ('1 AS "x", 2 AS X', ["differ only by case"]),
    ],
)
def test_names_that_cannot_stand_side_by_side_are_refused(graph: Graph, extra: str, words: Sequence[str]) -> None:
    graph.write_script("names", f"SELECT *, {extra} FROM {TABLE}")
    fails(graph, "names", "raw_leads", *words)


def test_a_script_file_that_disappears_is_named(graph: Graph) -> None:
    path = graph.write_script("gone")
    path.unlink()
    fails(graph, "gone", "raw_leads", "'gone'", str(graph.folder / "scripts"), "leads")
    graph.write_script("gone")
    assert graph.scrub("gone", assets=["raw_leads"]).success
    before = state(graph)
    path.unlink()
    fails(graph, "gone", "enriched_contacts", "'gone'", assets=["enriched_contacts", "master_processed_db"])
    assert state(graph) == before


def test_a_folder_of_scripts_that_is_gone_is_an_error_and_no_empty_set(graph: Graph) -> None:
    graph.configure(LEADSCRUB_SCRIPTS=graph.folder / "nowhere")
    fails(graph, "leads", "raw_leads", "Cannot read the folder of lead scripts", "nowhere")


@pytest.mark.parametrize("twin", ["Leads.sql", "leads.SQL"])
def test_two_files_with_one_key_are_refused_by_both_names(graph: Graph, twin: str) -> None:
    path = graph.folder / "scripts" / twin
    path.write_text(f"SELECT * FROM {TABLE}", encoding="utf-8")
    before = state(graph)
    fails(graph, "leads", "raw_leads", "leads.sql", twin, "one key")
    assert state(graph) == before
    path.unlink()


def test_a_missing_table_is_named_with_where_it_would_be(graph: Graph) -> None:
    graph.write_script("lost", "SELECT * FROM LEADS_DB.PUBLIC.LOST")
    fails(graph, "lost", "raw_leads", "LEADS_DB.PUBLIC.LOST", "LEADS_DB/PUBLIC/LOST.csv")
    graph.write_script("lost", f"SELECT WRONG, * FROM {TABLE}")
    fails(graph, "lost", "raw_leads", "'WRONG' does not exist")
    graph.configure(LEADSCRUB_SOURCES=graph.folder / "nowhere")
    fails(graph, "lost", "raw_leads", "LEADSCRUB_SOURCES", "nowhere")


@pytest.mark.parametrize(
    "values",
    [
        pa.array([62701.0, 62702.0]),
        pa.array([True, False]),
        pa.array([dt.date(2026, 1, 2)] * 2),
        pa.array([["62701"], ["62702"]]),
        pa.array([{"zip": "62701"}] * 2),
        pa.array([b"62701", b"62702"]),
    ],
    ids=["double", "boolean", "date", "list", "struct", "bytes"],
)
def test_an_identity_column_of_the_wrong_type_is_refused_by_name(graph: Graph, values: pa.Array) -> None:
    write_parquet(graph, "TYPED", 100, ZIP=values)
    graph.write_script("typed", "SELECT * FROM LEADS_DB.PUBLIC.TYPED")
    fails(graph, "typed", "raw_leads", "'ZIP' serves as zip_code", "CAST(ZIP AS INTEGER)")


def test_a_zip_may_be_a_whole_number_of_either_engine(graph: Graph) -> None:
    write_parquet(graph, "NUMBERS", 110, ZIP=pa.array([2134, 627011234]), CITY=pa.nulls(2))
    graph.write_script("numbers", "SELECT * FROM LEADS_DB.PUBLIC.NUMBERS")
    graph.write_script("cast", f"SELECT * EXCLUDE (ZIP), CAST(ZIP AS INTEGER) AS ZIP FROM {TABLE}")
    run = graph.scrub("numbers", assets=["raw_leads"])
    assert run.success, run.error
    kept = graph.rows(f"SELECT zip_code FROM {RAW_LEADS.full_name} WHERE partition_key = 'numbers' ORDER BY 1")
    assert kept == [("2134",), ("627011234",)]
    run = graph.scrub("cast", assets=["raw_leads"])
    assert run.metadata["raw_leads"]["already_processed"] == 4, run.error


@pytest.mark.parametrize(
    "expression",
    ["CAST(LAST_NAME AS INTEGER) AS X", "10 / (LENGTH(LAST_NAME) - 6) AS X", "CAST(ADDRESS AS DATE) AS X"],
)
def test_a_script_that_breaks_off_in_the_middle_quotes_no_value_and_leaves_the_slice(
    graph: Graph, expression: str
) -> None:
    before = state(graph)
    graph.write_script("leads", f"SELECT *, {expression} FROM {TABLE}")
    fails(graph, "leads", "raw_leads", "Script leads broke off", "TRY_CAST")
    assert state(graph) == before


def test_an_empty_result_is_a_run_with_zeros_that_takes_nothing_away(graph: Graph) -> None:
    before = state(graph)
    graph.write_script("leads", f"SELECT * FROM {TABLE} WHERE FALSE")
    run = graph.scrub("leads")
    assert run.success, run.error
    assert {run.counts[name] for name in ("selected", "kept", "published", "lookups_paid")} == {0}
    after = state(graph)
    assert (after["master"], after["billed"]) == (before["master"], before["billed"])


def test_one_lead_with_three_hundred_columns_keeps_them_all(graph: Graph) -> None:
    write_parquet(graph, "WIDE", 120, **{f"C{number}": [number, None] for number in range(294)})
    graph.write_script("wide", "SELECT * FROM LEADS_DB.PUBLIC.WIDE WHERE C0 = 0")
    run = graph.scrub("wide")
    assert run.success, run.error
    (row,) = published(graph, "wide")
    extra = additional(row)
    assert [extra[f"c{number}"] for number in range(294)] == list(range(294))
    tells_nothing_private(run)


def test_extra_columns_of_any_type_and_name_are_strict_json(graph: Graph) -> None:
    write_parquet(
        graph,
        "ODD",
        130,
        score=[math.nan, math.inf],
        nested=[[math.nan, 1.0, -math.inf], []],
        struct=[{"a": math.nan, "b": 'NaN, "Infinity" \\'}] * 2,
        day=[dt.date(2026, 1, 2)] * 2,
        blob=[b"\xff\x00"] * 2,
        big=pa.array([2**64 - 1] * 2, pa.uint64()),
        **{"qu\"o'te": ['a"\\', "\x01\n"], "sp ace": ["NaN", "x"]},
    )
    graph.write_script("odd", "SELECT * FROM LEADS_DB.PUBLIC.ODD")
    run = graph.scrub("odd")
    assert run.success, run.error
    first, second = sorted((additional(row) for row in published(graph, "odd")), key=lambda extra: str(extra["sp ace"]))
    assert first["score"] is second["score"] is None
    assert first["nested"] == [None, 1.0, None]
    assert first["struct"] == {"a": None, "b": 'NaN, "Infinity" \\'}
    assert (first["day"], first["big"], first["sp ace"]) == ("2026-01-02", 2**64 - 1, "NaN")
    assert (first["qu\"o'te"], second["qu\"o'te"]) == ('a"\\', "\x01\n")


UNICODE: Sequence[tuple[str, str]] = [
    ("Ze\u0301be\u0301de\u0301e", "Vexley"),  # combining marks
    ("Zébédée", "O\u2019Vexley"),
    ("\u05d0\u05d1\u05d2", "\u0645\u062d\u0645\u062f"),  # right to left
    ("\u202eOttoline\u202c", "Vexley"),  # a mark that turns the direction
    ("Ot\x01to\x7fline", "Vex\tley"),
    ("\uff2f\uff54\uff54\uff4f", "\U0001d4e5exley"),  # wide and mathematical letters
    ("\U0001f600", "Vexley"),
    ("\u200b", "Vexley"),
    ("x" * 10_000, "Vexley"),
    ("Ottoline", "y" * 10_000),
]


def test_names_of_all_kinds_are_kept_unchanged_or_rejected_with_a_reason(graph: Graph) -> None:
    rows = [
        (first, last, f"{at + 1} Marrowbone Lane", "Springfield", "IL", "62701")
        for at, (first, last) in enumerate(UNICODE)
    ]
    graph.write_source("LEADS_DB.PUBLIC.UNICODE", rows)
    graph.write_script("unicode", "SELECT * FROM LEADS_DB.PUBLIC.UNICODE")
    run = graph.scrub("unicode")
    assert run.success, run.error
    reasons = {row[:2]: unusable_reason(Person(*row)) for row in rows}
    assert run.metadata["raw_leads"]["rejected_by_reason"] == {
        "first_name_too_long": 1,
        "last_name_too_long": 1,
        "no_first_name": 2,
    }
    assert {(row["first_name"], row["last_name"]) for row in published(graph, "unicode")} == {
        names for names, reason in reasons.items() if reason is None
    }
    rejected = graph.rows(
        f"SELECT first_name, last_name, reason FROM {REJECTED_LEADS.full_name} WHERE partition_key = 'unicode'"
    )
    assert {(first, last): reason for first, last, reason in rejected} == {n: r for n, r in reasons.items() if r}
    tells_nothing_private(run)


HEADER = b"FIRST_NAME,LAST_NAME,ADDRESS,ZIP\n"


@pytest.mark.parametrize(
    "content",
    [
        HEADER + b'Ottoline,Vexley,"1 Marrowbone Lane,62701\nOttoline,Vexley,2 Marrowbone Lane,62701\n',
        HEADER + b'Ottoline,Vexley,"1" Marrowbone Lane,62701\n',
        HEADER + b"Ottoline,Vexley,1 Marrowbone Lane,62701\n" * 30 + b"Ottoline,Vexley\n",
        HEADER
        + b"Ottoline,Vexley,1 Marrowbone Lane,62701\n" * 30
        + b"Ottoline,Vexley,1 Marrowbone Lane,Unit 2,62701\n",
        HEADER + b"Zo\xeb,Vexley,1 Marrowbone Lane,62701\n",
        HEADER.decode().encode("utf-16"),
    ],
    ids=["open_quote", "text_after_quote", "short_line", "long_line", "latin_1", "utf_16"],
)
def test_a_broken_csv_file_is_refused_whole(graph: Graph, content: bytes) -> None:
    before = state(graph)
    (graph.folder / "sources" / "LEADS_DB" / "PUBLIC" / "BROKEN.csv").write_bytes(content)
    graph.write_script("broken", "SELECT * FROM LEADS_DB.PUBLIC.BROKEN")
    fails(graph, "broken", "raw_leads", "LEADS_DB.PUBLIC.BROKEN", "BROKEN.csv", "UTF-8", "quotes closed")
    assert state(graph) == before


def test_a_broken_csv_file_keeps_no_script_over_other_tables_from_running(graph: Graph) -> None:
    (graph.folder / "sources" / "LEADS_DB" / "PUBLIC" / "BROKEN.csv").write_bytes(HEADER + b"Zo\xeb\n")
    graph.write_script("leads")
    assert graph.scrub("leads", assets=["raw_leads"]).success


def test_a_line_that_breaks_far_down_a_long_file_is_refused_too(graph: Graph) -> None:
    path = graph.folder / "sources" / "LEADS_DB" / "PUBLIC" / "LONG.csv"
    path.write_bytes(HEADER + b"Ottoline,Vexley,1 Marrowbone Lane,62701\n" * 5000 + b"Ottoline,Vexley\n")
    graph.write_script("long", "SELECT * FROM LEADS_DB.PUBLIC.LONG")
    fails(graph, "long", "raw_leads", "a line of a source file is broken further down")


@pytest.mark.parametrize("line", ["Ottoline,Vexley,1 Marrowbone Lane,62701", "Ottoline,Vexley,,62701-1234"])
def test_a_file_without_a_header_is_refused_and_its_first_lead_is_not_told_as_columns(graph: Graph, line: str) -> None:
    path = graph.folder / "sources" / "LEADS_DB" / "PUBLIC" / "HEADLESS.csv"
    path.write_text(f"{line}\n" * 3, encoding="utf-8")
    graph.write_script("headless", "SELECT * FROM LEADS_DB.PUBLIC.HEADLESS")
    fails(graph, "headless", "raw_leads", "HEADLESS.csv", "no header")


def test_a_file_without_a_table_in_it_is_refused(graph: Graph) -> None:
    folder = graph.folder / "sources" / "LEADS_DB" / "PUBLIC"
    graph.write_script("broken", "SELECT * FROM LEADS_DB.PUBLIC.BROKEN")
    (folder / "BROKEN.csv").write_bytes(b"")
    fails(graph, "broken", "raw_leads", "no column that is plainly")
    (folder / "BROKEN.csv").unlink()
    (folder / "BROKEN.parquet").write_bytes(b"PAR1 and no more")
    fails(graph, "broken", "raw_leads", "BROKEN.parquet", "a whole Parquet file")
    (folder / "BROKEN.csv").write_bytes(HEADER)
    fails(graph, "leads", "raw_leads", "two files for LEADS_DB.PUBLIC.BROKEN")
    (folder / "BROKEN.csv").unlink()


def test_dates_in_a_csv_file_are_not_guessed_and_zips_keep_their_zeros(graph: Graph) -> None:
    graph.write_source(
        "LEADS_DB.PUBLIC.DATES",
        [("Ottoline", "Vexley", "300 Marrowbone Lane", "Springfield", "IL", "02134", "3/4/2026", "2026-03-04")],
        (*IDENTITY, "SLASHES", "ISO"),
    )
    graph.write_script("dates", "SELECT * FROM LEADS_DB.PUBLIC.DATES WHERE ISO >= '2026-03-01'::DATE")
    run = graph.scrub("dates")
    assert run.success, run.error
    (row,) = published(graph, "dates")
    assert row["zip_code"] == "02134"
    assert {name: additional(row)[name] for name in ("slashes", "iso")} == {"slashes": "3/4/2026", "iso": "2026-03-04"}
