"""What both warehouse engines promise: one suite, run on DuckDB and over HTTP through Snowflake's connector."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from leadscrub_pipeline.errors import FailedError, LeadscrubError, RefusedError, UsageError
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.identity_numbers import identity_number, shorten_ownership
from leadscrub_pipeline.warehouse.leads import LeadSelection, identity_hash
from leadscrub_pipeline.warehouse.preparation import pending_changes
from leadscrub_pipeline.warehouse.protocol import OutputColumn, Session, Warehouse
from leadscrub_pipeline.warehouse.schema import (
    CALLABLE_PHONES,
    MASTER,
    PUBLISHED_IDENTITIES,
    RAW_LEADS,
    REJECTED_LEADS,
    SLICES,
    TABLES,
)
from leadscrub_pipeline.warehouse.slices import Slice, read_slice, replace_slice, require_unchanged
from leadscrub_pipeline_tests.warehouse_contract import Engine, elsewhere, engine

ENGINES = ["duckdb", "snowflake", pytest.param("live", marks=pytest.mark.live)]
NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
VALUES = pa.schema([("number", pa.int64()), ("text", pa.string()), ("flag", pa.bool_()), ("time", pa.timestamp("us"))])
AWKWARD = [
    "",
    " ",
    "NULL",
    "null",
    'O\'Neil "Zoë" \\ back\\slash',
    "line\nend\r\n\ttab",
    "комп'ютер 電話 אב 😀 e\u0301",
    "a,b;c|d",
    "'; DROP TABLE x; --",
    "?",
    "%s :1 {x} @y $z",
    "x" * 20_000,
]


@pytest.fixture(scope="module", params=ENGINES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine for the tests of this module together; each works on keys of its own."""
    with engine(
        request.param, tmp_path_factory.mktemp("engine"), lambda: request.getfixturevalue("snowflake_port")
    ) as made:
        yield made


@pytest.fixture(scope="module")
def warehouse(shared: Engine) -> Any:
    return shared.open()


@pytest.fixture(params=ENGINES[:2])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine for one test, which may break it."""
    with engine(request.param, tmp_path, lambda: request.getfixturevalue("snowflake_port")) as made:
        yield made


@pytest.fixture
def key() -> str:
    return f"script-{uuid4().hex[:10]}"


def bring_up_to_date(own: Engine) -> None:
    """What the embedded engine does by itself, and ``leadscrub db migrate`` on Snowflake."""
    own.migrate()
    with own.open().session():
        pass


def values(numbers: list[int | None], **columns: list[Any]) -> pa.Table:
    empty: list[Any] = [None] * len(numbers)
    given = {"number": numbers, "text": empty, "flag": empty, "time": empty} | columns
    return pa.table([pa.array(given[field.name], field.type) for field in VALUES], schema=VALUES)


def raw_leads(session: Session, key: str, run: str, count: int) -> int:
    stage = session.create_stage("contract_leads", VALUES)
    session.load(stage, values(list(range(1, count + 1))))
    with session.transaction():
        rows = replace_slice(
            session,
            RAW_LEADS,
            key,
            run,
            select=(
                f"SELECT ?, ?, number, 'person', 1, 'hash', 'Ada', 'Example', '1 Main St', NULL, 'IL', '62701', '{{}}' "
                f"FROM {stage}"
            ),
            params=[key, run],
            details={"selected": count, "text": 'it\'s \\ "so"'},
            now=NOW,
        )
    session.drop_stage(stage)
    return rows


def numbers_of(session: Session, key: str) -> list[int]:
    found = session.rows(f"SELECT lead_number FROM {RAW_LEADS.full_name} WHERE partition_key = ? ORDER BY 1", [key])
    return [number for (number,) in found]


# --- tables and drift -------------------------------------------------------------------


def test_every_table_and_the_view_are_as_declared_once_made(shared: Engine) -> None:
    warehouse = shared.open()
    with warehouse.session() as session:
        found = session.found_columns()
        assert {(table.schema, table.name) for table in TABLES} <= set(found)
        for table in TABLES:
            assert set(table.column_names) <= set(found[table.schema, table.name])
        assert pending_changes(session, warehouse.dialect) == []
        assert session.rows(f"SELECT * FROM {CALLABLE_PHONES} WHERE phone = 'none'") == []


def test_a_column_that_somebody_removed_is_named_with_the_statement_that_puts_it_back(own: Engine) -> None:
    with own.open().session() as session:
        session.execute(f"ALTER TABLE {SLICES.full_name} DROP COLUMN details")
    with pytest.raises(RefusedError) as refused:
        bring_up_to_date(own)
    assert f"ALTER TABLE {SLICES.full_name} ADD COLUMN details VARCHAR" in str(refused.value)


def test_a_view_that_somebody_loosened_is_made_again(own: Engine) -> None:
    with own.open().session() as session:
        session.execute(f"CREATE OR REPLACE VIEW {CALLABLE_PHONES} AS SELECT phone_1 AS phone FROM {MASTER.full_name}")
    own.migrate()
    with own.open().session() as session:
        assert "valid_until" in session.table(f"SELECT * FROM {CALLABLE_PHONES}").column_names


def test_a_warehouse_of_the_other_kind_is_refused(own: Engine) -> None:
    with own.open().session():
        pass
    live = Engine(own.name, own.folder, {**own.environment, "LEADSCRUB_KIND": "live"})
    with pytest.raises(RefusedError, match="stamped demo"), live.open().session():
        pass


# --- values -----------------------------------------------------------------------------


def test_values_come_back_as_they_went_in_through_a_load(warehouse: Warehouse) -> None:
    count = len(AWKWARD)
    times = [datetime(1, 1, 1), datetime(1899, 12, 31, 23, 59, 59, 999999), datetime(2026, 3, 8, 2, 30)]  # noqa: DTZ001 - naive UTC, as tables hold it
    sent = values(
        [*range(count - 3), 2**62, -(2**62), None],
        text=AWKWARD,
        flag=([True, False, None] * count)[:count],
        time=([*times, None] * count)[:count],
    )
    with warehouse.session() as session:
        stage = session.create_stage("values", VALUES)
        assert session.load(stage, sent) == count
        found = session.table(f"SELECT number, text, flag, time FROM {stage}")
        session.drop_stage(stage)
    assert found.schema.types == VALUES.types
    assert found.column_names == VALUES.names

    def ordered(table: pa.Table) -> list[dict[str, Any]]:
        return sorted(table.to_pylist(), key=lambda row: str(row["text"]))

    assert ordered(found) == ordered(sent)


def test_values_come_back_as_they_went_in_as_parameters(warehouse: Warehouse) -> None:
    with warehouse.session() as session:
        for text in AWKWARD:
            assert session.rows("SELECT ?", [text]) == [(text,)]
        stage = session.create_stage("parameters", VALUES)
        session.execute(f"INSERT INTO {stage} VALUES (?, ?, ?, ?)", [7, None, True, NOW])
        session.execute(f"INSERT INTO {stage} VALUES (?, ?, ?, ?)", [None, "text", None, None])
        assert session.rows(f"SELECT * FROM {stage} ORDER BY number NULLS LAST") == [
            (7, None, True, NOW.replace(tzinfo=None)),
            (None, "text", None, None),
        ]
        session.drop_stage(stage)


def test_text_inlined_into_a_stages_statement_is_what_it_was(warehouse: Warehouse) -> None:
    with warehouse.session() as session:
        # The emulator takes $z within quotes for a variable.
        texts = [text for text in AWKWARD if "$" not in text]
        for text in [*texts, "\\'", "\\\\'; SELECT 1; --"]:
            stage = session.create_stage_as("inlined", "SELECT ? AS text, ? AS number, ? AS flag", [text, 3, None])
            assert session.rows(f"SELECT text, number, flag FROM {stage}") == [(text, 3, None)]
            session.drop_stage(stage)


def test_a_time_is_the_same_whatever_zone_it_came_in_and_wherever_it_is_read(warehouse: Warehouse) -> None:
    in_new_york = NOW.astimezone(timezone(timedelta(hours=-5)))
    with elsewhere("America/New_York"), warehouse.session() as session:
        stage = session.create_stage("zones", VALUES)
        session.execute(f"INSERT INTO {stage} (number, time) VALUES (1, ?)", [in_new_york])
        schema = pa.schema([VALUES.field("number"), VALUES.field("time")])
        session.load(stage, to_table([{"number": 2, "time": in_new_york}], schema))
        assert {time for (time,) in session.rows(f"SELECT time FROM {stage}")} == {NOW.replace(tzinfo=None)}
        assert session.rows(f"SELECT COUNT(*) FROM {stage} WHERE time = ?", [NOW]) == [(2,)]
        now = session.rows(f"SELECT {warehouse.dialect.now()}")[0][0]
        session.drop_stage(stage)
    assert abs(now.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=2)


def test_hashes_are_those_of_the_exact_text(warehouse: Warehouse) -> None:
    with warehouse.session() as session:
        for text in ("", "Zoë O'Neil \\", "電話😀"):
            found = session.rows(f"SELECT {warehouse.dialect.sha256('t.x')} FROM (SELECT ? AS x) AS t", [text])
            assert found == [(sha256(text.encode()).hexdigest(),)]
        columns = "'Ada' AS first_name, NULL AS last_name, '' AS address, 'ë' AS city, 'IL' AS state, '1:2' AS zip_code"
        found = session.rows(f"SELECT {identity_hash(warehouse.dialect)} FROM (SELECT {columns}) AS t")
    assert found == [(sha256("3:Ada-0:1:ë2:IL3:1:2".encode()).hexdigest(),)]


def test_a_hash_has_the_same_number_everywhere_and_what_is_none_has_no_number(warehouse: Warehouse) -> None:
    hashes = [sha256(b"a").hexdigest(), sha256(b"b").hexdigest(), "0" * 64, "9" * 64, "f" * 64]
    numbers = [int(one[:37].translate(str.maketrans("abcdef", "012345"))) for one in hashes]
    with warehouse.session() as session:
        found = [
            session.rows(f"SELECT {identity_number('t.x')} FROM (SELECT ? AS x) AS t", [text])[0][0]
            for text in (*hashes, "", "erased")
        ]
    assert found == [*numbers, None, None]


def test_json_is_kept_and_read_by_path(warehouse: Warehouse, key: str) -> None:
    document = {
        "provenance": {"contact": {"is_dead": True, "phone_1": {"disconnected": False}}, "text": 'it\'s "ë" \\'},
        "none": None,
        "number": 1.5,
    }
    dialect = warehouse.dialect
    with warehouse.session() as session:
        source = f"SELECT ? AS record_id, {dialect.to_json('?')} AS additional_data"
        session.execute(
            f"MERGE INTO {MASTER.full_name} AS t USING ({source}) AS s ON t.record_id = s.record_id "
            "WHEN NOT MATCHED THEN INSERT (record_id, additional_data) VALUES (s.record_id, s.additional_data)",
            [key, json.dumps(document)],
        )
        paths = [
            dialect.json_text("m.additional_data", *path)
            for path in (
                ("provenance", "contact", "is_dead"),
                ("provenance", "contact", "phone_1", "disconnected"),
                ("provenance", "text"),
                ("provenance", "missing"),
                ("none",),
            )
        ]
        found = session.rows(
            f"SELECT {', '.join(paths)}, m.additional_data FROM {MASTER.full_name} AS m WHERE record_id = ?", [key]
        )[0]
        session.execute(f"DELETE FROM {MASTER.full_name} WHERE record_id = ?", [key])
    assert found[:5] == ("true", "false", 'it\'s "ë" \\', None, None)
    assert json.loads(found[5]) == document


# --- loads and pages --------------------------------------------------------------------


def test_an_empty_load_is_no_error_and_loads_nothing(warehouse: Warehouse) -> None:
    with warehouse.session() as session:
        stage = session.create_stage("empty", VALUES)
        assert session.load(stage, values([])) == 0
        assert session.rows(f"SELECT COUNT(*) FROM {stage}") == [(0,)]
        assert session.table(f"SELECT number, time FROM {stage}").num_rows == 0
        session.drop_stage(stage)


def test_ten_thousand_rows_go_in_at_once_and_come_out_in_pages(warehouse: Warehouse) -> None:
    with warehouse.session() as session:
        stage = session.create_stage("many", VALUES, temporary=False)
        sent = values(list(range(1, 10_001)), text=[f"text {number}" for number in range(1, 10_001)])
        assert session.load(stage, sent) == 10_000
    select = f"SELECT number, text FROM {stage} WHERE number > ?"
    pages = list(warehouse.pages(select, [10], key="number", first=0, rows=3_000))
    assert [page.num_rows for page in pages] == [3_000, 3_000, 3_000, 990]
    assert pa.concat_tables(pages).column("number").to_pylist() == list(range(11, 10_001))
    assert list(warehouse.pages(select, [10_000], key="number", first=0, rows=3_000)) == []
    with warehouse.session() as session:
        session.drop_stage(stage)


def test_whoever_reads_pages_may_take_their_time_and_write_meanwhile(warehouse: Warehouse) -> None:
    with warehouse.session() as session:
        stage = session.create_stage("read", VALUES, temporary=False)
        written = session.create_stage("written", VALUES, temporary=False)
        session.load(stage, values(list(range(1, 41))))
    for page in warehouse.pages(f"SELECT number FROM {stage}", [], key="number", first=0, rows=10):
        with warehouse.session() as session:
            session.load(written, values(page.column("number").to_pylist()))
    with warehouse.session() as session:
        assert session.rows(f"SELECT COUNT(DISTINCT number) FROM {written}") == [(40,)]
        session.drop_stage(stage)
        session.drop_stage(written)


def test_batches_of_one_session_leave_it_free_for_other_statements(warehouse: Warehouse) -> None:
    with warehouse.session() as session:
        stage = session.create_stage("batches", VALUES)
        session.load(stage, values(list(range(1, 26))))
        seen: list[int] = []
        select = f"SELECT number FROM {stage} WHERE number <> ?"
        for batch in session.batches(select, [7], key="number", last=25, rows=10):
            assert session.rows("SELECT 1") == [(1,)]
            seen += batch.column("number").to_pylist()
        session.drop_stage(stage)
    assert sorted(seen) == [number for number in range(1, 26) if number != 7]


# --- slices, merges, transactions -------------------------------------------------------


def test_a_slice_replaces_the_one_before_and_no_other_partitions(warehouse: Warehouse, key: str) -> None:
    with warehouse.session() as session:
        raw_leads(session, f"{key}-other", "run-0", 2)
        assert raw_leads(session, key, "run-1", 5) == 5
        assert raw_leads(session, key, "run-2", 3) == 3
        assert numbers_of(session, key) == [1, 2, 3]
        assert numbers_of(session, f"{key}-other") == [1, 2]
        found = read_slice(session, RAW_LEADS, key)
        where = "WHERE table_name = 'RAW_LEADS' AND partition_key = ?"
        assert session.rows(f"SELECT replaced_at FROM {SLICES.full_name} {where}", [key]) == [
            (NOW.replace(tzinfo=None),)
        ]
    assert (found.run_id, found.row_count) == ("run-2", 3)
    assert found.details == {"selected": 3, "text": 'it\'s \\ "so"'}


def test_a_slice_that_another_run_replaced_is_seen(warehouse: Warehouse, key: str) -> None:
    with warehouse.session() as session:
        raw_leads(session, key, "run-1", 1)
        before = read_slice(session, RAW_LEADS, key)
        require_unchanged(session, before)
        raw_leads(session, key, "run-2", 1)
        with pytest.raises(FailedError, match="replaced by another run"):
            require_unchanged(session, before)
        with pytest.raises(FailedError, match="replaced by another run"):
            require_unchanged(session, Slice(REJECTED_LEADS, key, "run-1", 0, {}))


def test_an_error_within_a_transaction_leaves_everything_as_it_was(warehouse: Warehouse, key: str) -> None:
    with warehouse.session() as session:
        raw_leads(session, key, "run-1", 4)
        with pytest.raises(ZeroDivisionError), session.transaction():
            delete_and(session, key, lambda: 1 / 0)
        assert numbers_of(session, key) == [1, 2, 3, 4]
    with warehouse.session() as session, pytest.raises(LeadscrubError), session.transaction():
        delete_and(session, key, lambda: session.rows("SELECT no_such_column FROM (SELECT 1 AS x) AS t"))
    with warehouse.session() as session:
        assert numbers_of(session, key) == [1, 2, 3, 4]


def delete_and(session: Session, key: str, then: Callable[[], object]) -> None:
    session.execute(f"DELETE FROM {RAW_LEADS.full_name} WHERE partition_key = ?", [key])
    assert numbers_of(session, key) == []
    then()


def test_a_merge_updates_adds_and_says_how_many(warehouse: Warehouse, key: str) -> None:
    with warehouse.session() as session:
        target = session.create_stage("target", VALUES)
        source = session.create_stage("source", VALUES)
        session.load(target, values([1, 2], text=["old", "kept"]))
        session.load(source, values([1, 3], text=["new", "added"]))
        changed = session.execute(
            f"MERGE INTO {target} AS t USING (SELECT number, text, ? AS flag FROM {source}) AS s "
            "ON t.number = s.number WHEN MATCHED AND t.text <> ? THEN UPDATE SET text = s.text, time = ? "
            "WHEN NOT MATCHED THEN INSERT (number, text, flag) VALUES (s.number, s.text, s.flag)",
            [True, "kept", NOW],
        )
        assert changed == 2
        assert session.rows(f"SELECT number, text, flag, time FROM {target} ORDER BY number") == [
            (1, "new", None, NOW.replace(tzinfo=None)),
            (2, "kept", None, None),
            (3, "added", True, None),
        ]
        assert session.execute(f"UPDATE {target} SET text = NULL WHERE number > ?", [1]) == 2
        assert session.execute(f"DELETE FROM {target} WHERE number = ?", [99]) == 0
        assert session.execute(f"DELETE FROM {target}") == 3
        session.drop_stage(target)
        session.drop_stage(source)


def test_two_writers_at_once_both_get_their_rows_in(shared: Engine, key: str) -> None:
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            warehouse = shared.open()
            for turn in range(3):
                with warehouse.session() as session:
                    stage = session.create_stage("writer", VALUES)
                    session.load(stage, values(list(range(100))))
                    names = ", ".join(REJECTED_LEADS.column_names[:4])
                    with session.transaction():
                        session.execute(
                            f"INSERT INTO {REJECTED_LEADS.full_name} ({names}) SELECT ?, ?, number, ? FROM {stage}",
                            [key, f"run-{number}", f"turn-{turn}"],
                        )
                    session.drop_stage(stage)
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's thread
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert failures == []
    with shared.open().session() as session:
        found = session.rows(
            f"SELECT run_id, COUNT(*) FROM {REJECTED_LEADS.full_name} WHERE partition_key = ? GROUP BY run_id", [key]
        )
    assert sorted(found) == [("run-1", 300), ("run-2", 300)]


# --- scripts ----------------------------------------------------------------------------

PERSON = dict.fromkeys(("FIRST_NAME", "LAST_NAME", "ADDRESS", "CITY", "STATE", "ZIP"), "VARCHAR")
ADA = ["Ada", "O'Neil", "1 Main St", "Springfield", "IL", "62701"]


def test_a_script_says_its_columns_before_it_runs_and_its_leads_are_numbered(shared: Engine, key: str) -> None:
    table = f"LEADS_{key[-10:].upper()}"
    name = shared.add_source(table, {**PERSON, "SCORE": "NUMBER(38,0)"}, [[*ADA, 700], ["Bob", *ADA[1:], 650]])
    warehouse = shared.open()
    sql = f"SELECT *, SCORE / 3.0 AS part, CAST(SCORE AS FLOAT) AS f FROM {name} -- no end of line; and no ';'"
    with warehouse.session(scripts=True) as session:
        statement, columns = session.select_leads(shared.script(sql))
        types = {column.name.upper(): column.type for column in columns}
        assert [types[one] for one in ("FIRST_NAME", "SCORE", "F")] == ["text", "int", "float"]
        stage = session.create_stage_as("selected", f"SELECT * FROM ({statement}) AS script", script=True)
        assert session.rows(f"SELECT COUNT(*) FROM {stage}") == [(2,)]
        session.drop_stage(stage)
        leads = LeadSelection(session, warehouse.dialect, shared.script(sql, key), now=NOW)
        selection = leads.run()
        leads.publish("run-1", selection)
        found = session.rows(
            f"SELECT lead_number, last_name, additional FROM {RAW_LEADS.full_name} WHERE partition_key = ? ORDER BY 1",
            [key],
        )
    assert (selection.selected, selection.kept) == (2, 2)
    assert [(number, name) for number, name, _ in found] == [(1, "O'Neil"), (2, "O'Neil")]
    assert {json.loads(extra)["score"] for *_, extra in found} == {700, 650}


def test_the_filter_leaves_out_whom_a_script_owns_and_has_settled_and_nobody_else(shared: Engine, key: str) -> None:
    """Nobody here is in PERSON_CACHE, so the check by key leaves nobody out."""
    later, earlier = NOW + timedelta(days=1), NOW - timedelta(days=1)
    noted = {
        "owned": (True, later),
        "over": (True, earlier),
        "over right now": (True, NOW),
        "of an older release": (True, None),
        "waits for a second visit": (False, later),
        "not published": None,
    }
    leads = [[*ADA[:2], f"{number} {key} St", *ADA[3:]] for number in range(1, len(noted) + 1)]
    name = shared.add_source(f"LEADS_{key[-10:].upper()}", PERSON, leads)
    warehouse = shared.open()

    def left(*, filter_in_sql: bool) -> list[tuple[Any, ...]]:
        with warehouse.session(scripts=True) as session:
            script = shared.script(f"SELECT * FROM {name} ORDER BY ADDRESS", key)
            selection = LeadSelection(session, warehouse.dialect, script, now=NOW, filter_in_sql=filter_in_sql)
            selection.publish("run-1", selection.run())
            return session.rows(
                f"SELECT lead_number, identity_hash FROM {RAW_LEADS.full_name} WHERE partition_key = ? ORDER BY 1",
                [key],
            )

    everybody = left(filter_in_sql=False)
    with warehouse.session() as session:
        for (_, one), row in zip(everybody, noted.values(), strict=True):
            if row is not None:
                session.execute(
                    f"INSERT INTO {PUBLISHED_IDENTITIES.full_name} "
                    "(identity_hash, person_key, partition_key, settled, identity_number, owned_until) "
                    f"SELECT t.x, ?, 'another', ?, {identity_number('t.x')}, ? FROM (SELECT ? AS x) AS t",
                    [key, row[0], row[1], one],
                )
    assert [number for number, _ in left(filter_in_sql=True)] == [2, 3, 4, 5, 6]


def test_an_identity_is_noted_no_longer_than_a_new_answer_holds(warehouse: Warehouse, key: str) -> None:
    ends = {"longer": NOW + timedelta(days=9), "shorter": NOW + timedelta(days=1), "none": None, "other": NOW}
    with warehouse.session() as session:
        for name, end in ends.items():
            session.execute(
                f"INSERT INTO {PUBLISHED_IDENTITIES.full_name} (identity_hash, person_key, partition_key, owned_until) "
                "VALUES (?, ?, ?, ?)",
                [name, f"{key} other" if name == "other" else key, key, end],
            )
        stage = session.create_stage("new_answers", arrow_schema(PUBLISHED_IDENTITIES, "person_key", "owned_until"))
        session.execute(f"INSERT INTO {stage} VALUES (?, ?)", [key, NOW + timedelta(days=2)])
        shorten_ownership(session, f"SELECT person_key, owned_until AS expires_at FROM {stage}")
        session.drop_stage(stage)
        found = session.rows(
            f"SELECT identity_hash, owned_until FROM {PUBLISHED_IDENTITIES.full_name} WHERE partition_key = ?", [key]
        )
    expected = ends | {"longer": NOW + timedelta(days=2)}
    assert dict(found) == {name: end and end.replace(tzinfo=None) for name, end in expected.items()}


def test_a_script_over_a_table_that_is_not_there_is_refused_by_name(shared: Engine) -> None:
    database = "PROCESSED_DATA_DB" if shared.name == "live" else "LEADS_DB"
    shared.add_source("SOMETHING", PERSON, [ADA])
    script = shared.script(f"SELECT * FROM {database}.PUBLIC.NOT_THERE")
    with pytest.raises((RefusedError, UsageError), match="NOT_THERE"), shared.open().session(scripts=True) as session:
        session.select_leads(script)


def test_a_script_that_writes_is_refused_before_it_reaches_the_engine(shared: Engine) -> None:
    shared.add_source("SOMETHING", PERSON, [ADA])
    script = shared.script("DELETE FROM LEADS_DB.PUBLIC.SOMETHING")
    with pytest.raises(RefusedError), shared.open().session(scripts=True) as session:
        session.select_leads(script)


def test_extras_become_one_json_object_whatever_their_names_and_values(warehouse: Warehouse) -> None:
    columns = (
        OutputColumn('Credit "Score"', "int"),
        OutputColumn("it's", "text"),
        OutputColumn("RATE", "float"),
        OutputColumn("NOTHING", "text"),
        OutputColumn("NOT_A_NUMBER", "float"),
    )
    source = (
        'SELECT 700 AS "Credit ""Score""", \'a "b" \' || CHR(92) AS "it\'s", CAST(1.5 AS FLOAT) AS "RATE", '
        'CAST(NULL AS VARCHAR) AS "NOTHING", CAST(\'NaN\' AS FLOAT) AS "NOT_A_NUMBER"'
    )
    with warehouse.session() as session:
        found = session.rows(f"SELECT {warehouse.dialect.json_object(columns)} FROM ({source}) AS script")[0][0]
        nothing = session.rows(f"SELECT {warehouse.dialect.json_object(())} FROM ({source}) AS script")[0][0]
    assert isinstance(found, str)
    extras = json.loads(found)
    assert extras == {
        'credit "score"': 700,
        "it's": 'a "b" \\',
        "rate": 1.5,
        "nothing": None,
        "not_a_number": None,
    }
    assert not any(isinstance(value, float) and math.isnan(value) for value in extras.values())
    assert json.loads(nothing) == {}


# --- stages and interruption ------------------------------------------------------------


def test_stage_tables_of_a_session_that_broke_off_are_gone(own: Engine) -> None:
    warehouse = own.open()

    def break_off(session: Session) -> None:
        stage = session.create_stage("broken_off", VALUES)
        session.create_stage_as("broken_off_too", f"SELECT * FROM {stage}")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), warehouse.session() as session:
        break_off(session)
    with own.open().session() as session:
        assert not [name for _, name in session.found_columns() if name.startswith(("STAGE_", "BROKEN_OFF"))]


def test_stages_of_one_name_do_not_meet(shared: Engine) -> None:
    first, second = shared.open(), shared.open()
    with first.session() as session:
        one = session.create_stage("same", VALUES)
        session.load(one, values([1]))
        if shared.is_snowflake:
            with second.session() as other:
                two = other.create_stage("same", VALUES)
                assert other.rows(f"SELECT COUNT(*) FROM {two}") == [(0,)]
                other.drop_stage(two)
        assert session.rows(f"SELECT COUNT(*) FROM {one}") == [(1,)]
        session.drop_stage(one)


def test_an_interrupt_ends_a_statement_and_the_next_session_works(own: Engine) -> None:
    warehouse = own.open()
    long = "SELECT COUNT(*) FROM range(100000000000) AS a WHERE a.range % 7 = 3"
    with warehouse.session():
        pass
    if own.account is not None:
        long = "SELECT 'a long statement'"
        own.account.fault("a long statement", "wait", seconds=60)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    started = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt), warehouse.session() as session:
        session.rows(long)
    timer.join()
    assert time.monotonic() - started < 45
    with warehouse.session() as session:
        assert session.rows("SELECT 1") == [(1,)]


def test_the_schema_of_bulk_loads_fits_every_declared_table(warehouse: Warehouse) -> None:
    with warehouse.session() as session:
        for table in TABLES:
            stage = session.create_stage(f"as_{table.name}", arrow_schema(table))
            assert session.table(f"SELECT * FROM {stage}").column_names == list(table.column_names)
            session.drop_stage(stage)
