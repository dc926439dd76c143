"""What goes wrong with Snowflake in the middle of a run: a clear error, nothing by halves, nothing left over."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.errors import FailedError, LeadscrubError, RefusedError, UnavailableError
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.warehouse.leads import LeadSelection
from leadscrub_pipeline.warehouse.schema import MASTER, RAW_LEADS, SLICES
from leadscrub_pipeline.warehouse.snowflake import SnowflakeWarehouse
from leadscrub_pipeline.warehouse.snowflake_connection import QueryTag
from leadscrub_pipeline_tests.graph import Graph, people
from leadscrub_pipeline_tests.snowflake_server import Account
from leadscrub_pipeline_tests.test_snowflake_pipeline import bring, leftovers, snowflake_graph
from leadscrub_pipeline_tests.test_warehouse_contract import NOW, VALUES, raw_leads, values
from leadscrub_pipeline_tests.warehouse_contract import DEMO, Engine, engine

PERSONAL = "5550100"
"""Stands in every error text of the emulator, as values do in Snowflake's."""


@pytest.fixture
def own(tmp_path: Path, snowflake_port: int) -> Iterator[Engine]:
    with engine("snowflake", tmp_path, lambda: snowflake_port) as made:
        yield made


@pytest.fixture
def trouble(own: Engine) -> Account:
    assert own.account is not None
    return own.account


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Account) -> Iterator[Graph]:
    with snowflake_graph(tmp_path / "snowflake", monkeypatch, account) as made:
        bring(made, people(12))
        yield made


def count(own: Engine, key: str) -> int:
    with own.open().session() as session:
        where = "WHERE partition_key = ?"
        return int(session.rows(f"SELECT COUNT(*) FROM {RAW_LEADS.full_name} {where}", [key])[0][0])


def fill(own: Engine, key: str, run: str, leads: int) -> None:
    with own.open().session() as session:
        raw_leads(session, key, run, leads)


# --- sessions ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["390112", "390114", "390195", "390111"])
def test_a_session_that_expired_between_transactions_is_opened_again(own: Engine, trouble: Account, code: str) -> None:
    warehouse = own.open()
    with warehouse.session() as session:
        session.rows("SELECT 1")
    logins = len(trouble.state()["logins"])
    trouble.fault("SELECT 'after the night'", "error", code=code)
    with warehouse.session() as session:
        assert session.rows("SELECT 'after the night'") == [("after the night",)]
    assert len(trouble.state()["logins"]) == logins + 1


def test_a_session_that_expired_within_a_transaction_is_not_opened_again(own: Engine, trouble: Account) -> None:
    fill(own, "leads", "run-1", 3)
    trouble.fault("INSERT INTO PROCESSED_DATA_DB.LEADSCRUB.RAW_LEADS", "error", code="390114")
    with pytest.raises(UnavailableError, match="expired in the middle"):
        fill(own, "leads", "run-2", 5)
    assert count(own, "leads") == 3


# --- a connection that breaks -----------------------------------------------------------


@pytest.mark.parametrize("statement", ["COPY INTO", "INSERT INTO .*RAW_LEADS", "MERGE INTO .*SLICES", "COMMIT"])
def test_a_connection_that_stays_broken_leaves_no_partial_slice(own: Engine, trouble: Account, statement: str) -> None:
    fill(own, "leads", "run-1", 3)
    trouble.fault(statement, "drop", times=99)
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        fill(own, "leads", "run-2", 5)
    assert time.monotonic() - started < 40
    trouble.control(faults=[])
    assert count(own, "leads") == 3
    fill(own, "leads", "run-3", 7)
    assert count(own, "leads") == 7


@pytest.mark.parametrize("after", [False, True])
def test_an_answer_that_is_lost_once_costs_nothing_and_repeats_nothing(
    own: Engine, trouble: Account, *, after: bool
) -> None:
    trouble.fault("INSERT INTO .*RAW_LEADS", "status", status=503, times=1, after=after)
    fill(own, "leads", "run-1", 4)
    assert trouble.state()["faults_left"] == 0
    assert count(own, "leads") == 4


def test_a_server_that_answers_500_for_minutes_is_given_up_after_the_time_that_is_set(
    own: Engine, trouble: Account
) -> None:
    trouble.fault("SELECT 'down'", "status", status=500, times=10_000)
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="SNOWFLAKE_NETWORK_TIMEOUT"), own.open().session() as session:
        session.rows("SELECT 'down'")
    assert 4 < time.monotonic() - started < 30


# --- errors by name ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("003001", RefusedError, "lacks a grant"),
        ("000606", RefusedError, "SNOWFLAKE_WAREHOUSE"),
        ("000608", UnavailableError, "suspended"),
        ("090073", UnavailableError, "resource monitor"),
        ("000625", UnavailableError, "lock"),
        ("000630", FailedError, "SNOWFLAKE_STATEMENT_TIMEOUT"),
        ("000904", RefusedError, "leadscrub db status"),
        ("002003", RefusedError, "leadscrub db migrate"),
        ("100038", FailedError, "none was kept"),
        ("001234", FailedError, "001234"),
    ],
)
def test_an_error_names_the_setting_or_grant_and_no_value(
    own: Engine, trouble: Account, code: str, kind: type[LeadscrubError], text: str
) -> None:
    warehouse = own.open()
    with warehouse.session() as session:
        trouble.fault("SELECT 'wrong'", "error", code=code, sqlstate="22000")
        with pytest.raises(kind, match=text) as error:
            session.rows("SELECT 'wrong'")
        assert session.rows("SELECT 1") == [(1,)]
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    assert PERSONAL not in str(error.value)


def test_tables_that_were_never_made_are_refused_with_the_command_that_makes_them(account: Account) -> None:
    own = Engine("snowflake", Path(), {**DEMO, **account.environment()}, account)
    with pytest.raises(RefusedError, match="leadscrub db migrate"), own.open().session():
        pass


def test_tables_of_another_release_are_refused(own: Engine) -> None:
    with own.open().session() as session:
        session.execute("UPDATE PROCESSED_DATA_DB.LEADSCRUB.STAMP SET value = 'x' WHERE name = 'declared_schema'")
    with pytest.raises(RefusedError, match="leadscrub db migrate"), own.open().session():
        pass


def test_a_script_that_reads_what_the_reading_role_may_not_see_names_table_and_grant(
    own: Engine, trouble: Account
) -> None:
    trouble.fault("LEADS_DB", "error", code="002003", role="LEADSCRUB_READER", times=9)
    script = own.script("SELECT * FROM LEADS_DB.PUBLIC.SECRET_LEADS")
    with pytest.raises(RefusedError, match=r"LEADS_DB\.PUBLIC\.SECRET_LEADS.*SNOWFLAKE_READER_ROLE"):
        select(own, script)


def select(own: Engine, script: object) -> None:
    warehouse = own.open()
    with warehouse.session(scripts=True) as session:
        LeadSelection(session, warehouse.dialect, script, now=NOW).run()  # type: ignore[arg-type]


@pytest.mark.parametrize(("action", "code"), [("error", "253003"), ("drop", "000000"), ("status", "000000")])
def test_a_stage_that_takes_no_file_leaves_the_slice_and_nothing_behind(
    own: Engine, trouble: Account, action: str, code: str
) -> None:
    fill(own, "leads", "run-1", 3)
    trouble.control(faults=[{"match": "^PUT", "action": action, "code": code, "times": 10_000}])
    with pytest.raises(LeadscrubError) as error:
        fill(own, "leads", "run-2", 5)
    assert PERSONAL not in str(error.value)
    trouble.control(faults=[])
    assert count(own, "leads") == 3
    fill(own, "leads", "run-3", 7)
    assert count(own, "leads") == 7


def test_leftovers_are_those_of_the_same_work_and_old_ones_and_no_others(own: Engine) -> None:
    def opened(asset: str) -> SnowflakeWarehouse:
        given = own.environment
        settings = Settings(_env_file=None, **{name.lower(): value for name, value in given.items()})  # type: ignore[arg-type]
        tag = QueryTag(run="run", asset=asset, partition="leads")
        made = open_warehouse(settings, tag=tag)
        assert isinstance(made, SnowflakeWarehouse)
        return made

    def stages(warehouse: SnowflakeWarehouse) -> set[str]:
        with warehouse.session() as session:
            return {name for _, name in session.found_columns() if name.startswith("STAGE_")}

    mine, other = opened("mine"), opened("other")
    names = [mine.new_stage_name("mine"), other.new_stage_name("other")]
    today = names[1].split("_")[-3]
    old = names[1].replace(today, f"{datetime.now(UTC) - timedelta(days=5):%Y%m%d}")
    with own.open().session() as session:
        for name in (*names, old):
            session.execute(f"CREATE TRANSIENT TABLE {name} (value VARCHAR)")
    with opened("mine").session() as session:
        session.drop_stage(session.create_stage("new", VALUES))
    assert stages(mine) == {names[1].split(".")[-1]}, "another partition's own work of today stays"


def test_a_load_that_is_broken_off_by_snowflake_is_an_error(own: Engine, trouble: Account) -> None:
    warehouse = own.open()
    with warehouse.session() as session:
        stage = session.create_stage("lost", VALUES)
        trouble.control(faults=[{"match": "COPY INTO", "action": "error", "code": "100071"}])
        with pytest.raises(FailedError, match="none was kept"):
            session.load(stage, values([1, 2]))
        session.drop_stage(stage)


# --- whole runs -------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("asset", "statement"),
    [
        ("raw_leads", "COPY INTO .*STAGE_KEYED"),
        ("enriched_contacts", "COPY INTO .*STAGE_CONTACTS"),
        ("enriched_contacts", "MERGE INTO .*PERSON_CACHE"),
        ("litigator_flags", "MERGE INTO .*PHONE_VERDICTS"),
        ("master_processed_db", "MERGE INTO .*MASTER_PROCESSED_DB"),
    ],
)
def test_a_run_that_lost_its_warehouse_is_done_again_without_paying_again_and_leaves_nothing(
    graph: Graph, account: Account, asset: str, statement: str
) -> None:
    account.control(faults=[{"match": statement, "action": "status", "times": 100_000}])
    run = graph.scrub("leads")
    assert (run.success, run.failed_step) in {(False, asset), (False, "dnc_flags")}
    assert "SNOWFLAKE_NETWORK_TIMEOUT" in run.error
    account.control(faults=[])
    assert graph.rows(f"SELECT COUNT(*) FROM {MASTER.full_name}") == [(0,)]
    billed = graph.billed
    run = graph.scrub("leads")
    assert run.success, run.error
    assert run.counts["published"] == 12
    assert graph.billed == 12
    assert billed in (0, 12)
    assert leftovers(graph) == []


@pytest.mark.long
def test_a_table_changed_by_hand_fails_the_step_by_name_and_publishes_nothing(graph: Graph) -> None:
    assert graph.scrub("leads").success
    with graph.warehouse() as session:
        session.execute("ALTER TABLE PROCESSED_DATA_DB.LEADSCRUB.RAW_LEADS DROP COLUMN identity_hash")
    bring(graph, people(5, start=500))
    run = graph.scrub("leads")
    assert (run.success, run.failed_step) == (False, "raw_leads")
    assert "leadscrub db status" in run.error
    with graph.warehouse() as session:
        assert session.rows(f"SELECT row_count FROM {SLICES.full_name} WHERE table_name = 'RAW_LEADS'") == [(12,)]


def test_an_interrupt_cancels_the_statement_at_the_server_over_a_second_connection(
    own: Engine, trouble: Account
) -> None:
    warehouse = own.open()
    with warehouse.session() as session:
        session.rows("SELECT 1")
    trouble.fault("SELECT 'for hours'", "wait", seconds=100)
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), warehouse.session() as session:
        session.rows("SELECT 'for hours'")
    timer.join()
    assert time.monotonic() - started < 40
    statements = trouble.statements()
    cancels = [one for one in statements if "SYSTEM$CANCEL_ALL_QUERIES" in one["sql"]]
    assert len(cancels) == 1
    waiting = next(one["session"] for one in reversed(statements) if one["sql"] == "SELECT 1")
    assert f"({waiting})" in cancels[0]["sql"]
    assert cancels[0]["session"] != waiting
    assert json.loads(cancels[0]["tag"]).keys() == {"run", "asset", "partition"}
