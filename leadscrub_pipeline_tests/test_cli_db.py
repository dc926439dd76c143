"""``leadscrub db`` on both engines: what is missing is shown and made, what somebody changed is refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlglot import Dialect, TokenType

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.warehouse.preparation import checksum, declared_statements
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, MASTER, SCHEMA_CHANGES, SLICES, STAMP, TABLES
from leadscrub_pipeline.warehouse.snowflake import _declared_type as declared_type
from leadscrub_pipeline.warehouse.snowflake_dialect import SnowflakeDialect
from leadscrub_pipeline_tests import snowflake_setup
from leadscrub_pipeline_tests.cli_deployment import Deployment, Ended, deployment_in
from leadscrub_pipeline_tests.snowflake_server import Account

APPLIED = len(TABLES) + 3
"""Two schemas, the tables, the view."""


@pytest.fixture(params=["duckdb", "snowflake"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """One whose warehouse nobody has made yet."""
    with deployment_in(tmp_path, leads=3) as made:
        if request.param == "snowflake":
            account: Account = request.getfixturevalue("account")
            made.environment |= account.environment()
        yield made


@pytest.fixture
def on_snowflake(tmp_path: Path, account: Account) -> Iterator[Deployment]:
    with deployment_in(tmp_path, leads=3) as made:
        made.environment |= account.environment()
        yield made


def execute(deployment: Deployment, *statements: str) -> None:
    with deployment.warehouse().session(prepared=False) as session:
        for statement in statements:
            session.execute(statement)


def columns_of(deployment: Deployment) -> dict[Any, Any]:
    with deployment.warehouse().session(prepared=False) as session:
        return {name: dict(columns) for name, columns in session.found_columns().items()}


def db(deployment: Deployment, command: str) -> Ended:
    return deployment.command("db", command, "--json")


def test_an_empty_warehouse_is_planned_then_made_and_then_in_order(deployment: Deployment) -> None:
    ended = db(deployment, "status")
    assert (ended.code, ended.json["is_current"], ended.json["kind"]) == (1, False, None)
    planned = db(deployment, "plan")
    assert planned.code == 0
    assert len(planned.json["changes"]) == APPLIED
    assert db(deployment, "plan").json == planned.json, "a plan changes nothing"
    assert not (deployment.home / "warehouse.duckdb").exists()
    shown = deployment.command("db", "plan").out
    for change in planned.json["changes"]:
        assert change["statement"] in shown

    migrated = db(deployment, "migrate")
    assert migrated.code == 0
    assert [one["statement"] for one in migrated.json] == [one["statement"] for one in planned.json["changes"]]
    ended = db(deployment, "status")
    assert (ended.code, ended.json["kind"], ended.json["changes"]) == (0, "demo", [])
    assert ended.json["applied"] == migrated.json
    assert all(one["is_intact"] for one in ended.json["applied"])
    assert db(deployment, "migrate").json == []
    with deployment.warehouse().session() as session:
        assert session.rows(f"SELECT * FROM {CALLABLE_PHONES}") == []


def test_a_column_of_a_later_release_is_added_and_noted(deployment: Deployment) -> None:
    db(deployment, "migrate")
    execute(
        deployment,
        f"ALTER TABLE {SLICES.full_name} DROP COLUMN details",
        f"UPDATE {STAMP.full_name} SET value = '2' WHERE name = 'schema_version'",
    )
    (change,) = db(deployment, "plan").json["changes"]
    assert change["statement"] == f"ALTER TABLE {SLICES.full_name} ADD COLUMN details VARCHAR"
    assert change["additive"]
    (applied,) = db(deployment, "migrate").json
    assert applied["statement"] == change["statement"]
    assert applied["checksum"] == checksum(change["statement"])
    assert db(deployment, "status").code == 0


@pytest.mark.parametrize(
    ("by_hand", "put_right"),
    [
        (f"ALTER TABLE {SLICES.full_name} DROP COLUMN details", "ADD COLUMN details VARCHAR"),
        (
            f"ALTER TABLE {SLICES.full_name} ALTER COLUMN row_count SET DATA TYPE VARCHAR",
            r"(ALTER COLUMN row_count SET DATA TYPE BIGINT|RENAME COLUMN row_count TO row_count_before; ALTER)",
        ),
    ],
)
def test_what_somebody_changed_is_refused_with_the_statement_to_run_and_nothing_is_changed(
    deployment: Deployment, by_hand: str, put_right: str
) -> None:
    db(deployment, "migrate")
    execute(deployment, by_hand, f"DROP TABLE {TABLES[-1].full_name}")
    before = columns_of(deployment)
    status = db(deployment, "status")
    assert (status.code, status.json["is_current"]) == (1, False)
    planned = db(deployment, "plan")
    assert planned.code == 1
    assert [change["additive"] for change in planned.json["changes"]].count(False) == 1
    assert "-- By hand: " in deployment.command("db", "plan").out
    refused = deployment.command("db", "migrate")
    assert refused.code == 4
    assert re.search(rf"ALTER TABLE {SLICES.full_name} {put_right}", refused.err)
    assert columns_of(deployment) == before, "not even the table that is missing is made"
    (statement,) = [change["statement"] for change in planned.json["changes"] if not change["additive"]]
    execute(deployment, *statement.split("; "))
    assert db(deployment, "migrate").code == 0
    assert db(deployment, "status").code == 0


def test_a_view_that_somebody_loosened_is_planned_and_made_again(deployment: Deployment) -> None:
    db(deployment, "migrate")
    loosened = f"CREATE OR REPLACE VIEW {CALLABLE_PHONES} AS SELECT phone_1 AS phone FROM {MASTER.full_name}"
    execute(deployment, loosened)
    assert [change["target"] for change in db(deployment, "plan").json["changes"]] == [CALLABLE_PHONES]
    assert [one["target"] for one in db(deployment, "migrate").json] == [CALLABLE_PHONES]
    assert db(deployment, "status").code == 0


def test_a_record_that_somebody_edited_is_seen(deployment: Deployment) -> None:
    db(deployment, "migrate")
    execute(
        deployment,
        f"UPDATE {SCHEMA_CHANGES.full_name} SET statement = 'SELECT 1' WHERE target = '{STAMP.full_name}'",
    )
    ended = db(deployment, "status")
    assert ended.code == 1
    assert [one["target"] for one in ended.json["applied"] if not one["is_intact"]] == [STAMP.full_name]
    assert "edited" in deployment.command("db", "status").out


def test_columns_that_were_put_back_last_take_their_own_values(deployment: Deployment) -> None:
    db(deployment, "migrate")
    before = db(deployment, "status").json["applied"]
    for table, column, kind in ((STAMP, "name", "VARCHAR"), (SCHEMA_CHANGES, "target", "VARCHAR")):
        name = table.full_name
        execute(
            deployment,
            f"ALTER TABLE {name} RENAME COLUMN {column} TO other",
            f"ALTER TABLE {name} ADD COLUMN {column} {kind}",
            f"UPDATE {name} SET {column} = other",
            f"ALTER TABLE {name} DROP COLUMN other",
            f"DROP VIEW {CALLABLE_PHONES}",
        )
        assert db(deployment, "migrate").code == 0
    status = db(deployment, "status")
    assert (status.code, status.json["kind"]) == (0, "demo")
    applied = status.json["applied"]
    assert applied[: len(before)] == before
    assert {one["target"] for one in applied[len(before) :]} == {CALLABLE_PHONES}


def test_tables_of_a_newer_release_are_left_alone(deployment: Deployment) -> None:
    db(deployment, "migrate")
    execute(
        deployment,
        f"UPDATE {STAMP.full_name} SET value = '99' WHERE name = 'schema_version'",
        f"UPDATE {STAMP.full_name} SET value = 'other' WHERE name IN ('callable_phones', 'declared_schema')",
    )
    ended = deployment.command("db", "migrate")
    assert (ended.code, "newer release" in ended.err) == (4, True)
    with pytest.raises(RefusedError, match="newer release"), deployment.warehouse().session():
        pass


def test_a_warehouse_of_the_other_kind_is_not_migrated(deployment: Deployment) -> None:
    db(deployment, "migrate")
    live = deployment.command("db", "status", LEADSCRUB_KIND="live")
    assert (live.code, "stamped demo" in live.err) == (1, True)
    execute(deployment, f"DROP TABLE {SLICES.full_name}")
    ended = deployment.command("db", "migrate", LEADSCRUB_KIND="live")
    assert (ended.code, "stamped demo" in ended.err) == (4, True)
    assert ("LEADSCRUB", "SLICES") not in columns_of(deployment)


def test_a_migration_that_broke_off_is_gone_on_with_and_every_statement_is_noted_once(
    on_snowflake: Deployment, account: Account
) -> None:
    account.fault("CREATE TABLE .*PHONE_VERDICTS", "error", code="003001", sqlstate="42501")
    broken = on_snowflake.command("db", "migrate")
    assert broken.code == 4
    assert "sql/snowflake" in broken.err
    assert "5550100" not in broken.err
    noted = len(db(on_snowflake, "status").json["applied"])
    assert 0 < noted < APPLIED
    db(on_snowflake, "migrate")
    noted_now = [one["statement"] for one in db(on_snowflake, "status").json["applied"]]
    applied = [statement for statement in noted_now if not statement.startswith("CREATE SCHEMA")]
    assert len(applied) == len(set(applied))
    assert set(declared_statements(SnowflakeDialect())) <= set(applied)
    assert db(on_snowflake, "status").code == 0


def test_a_table_of_another_role_is_not_taken_for_made(on_snowflake: Deployment, account: Account) -> None:
    account.fault("CREATE TABLE .*MASTER_PROCESSED_DB", "error", code="002002", sqlstate="42710")
    ended = on_snowflake.command("db", "migrate")
    assert ended.code == 4
    assert "PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB could not be made" in ended.err
    assert "GRANT OWNERSHIP" in ended.err
    applied = {one["target"] for one in db(on_snowflake, "status").json["applied"]}
    assert MASTER.full_name not in applied


@pytest.mark.parametrize("command", ["status", "plan", "migrate"])
def test_a_database_that_is_not_there_is_named_with_the_file_that_makes_it(
    on_snowflake: Deployment, account: Account, command: str
) -> None:
    account.fault("INFORMATION_SCHEMA.COLUMNS", "error", code="002003", sqlstate="02000")
    ended = on_snowflake.command("db", command)
    assert ended.code == 4
    assert "sql/snowflake/2_database.sql" in ended.err


def test_a_column_too_short_for_ours_is_a_change_and_a_long_one_is_none() -> None:
    assert declared_type("TEXT", None, None, 16_777_216) == "VARCHAR"
    assert declared_type("TEXT", None, None, 134_217_728) == "VARCHAR"
    assert declared_type("TEXT", None, None, 2) == "VARCHAR(2)"
    statement = SnowflakeDialect().change_type("t", "state", "VARCHAR(2)", "VARCHAR")
    assert statement == "ALTER TABLE t ALTER COLUMN state SET DATA TYPE VARCHAR(16777216)"


# --- sql/snowflake ----------------------------------------------------------------------


def statements_of(path: Path) -> list[str]:
    """The file's statements, without its comments, which all begin a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("--"))
    tokens = Dialect.get_or_raise("snowflake").tokenize(text)
    ends = [token.end for token in tokens if token.token_type == TokenType.SEMICOLON]
    starts = [0, *(end + 1 for end in ends)]
    return [text[start:end].strip() for start, end in zip(starts, ends, strict=False)]


SETUP = sorted(snowflake_setup.FOLDER.glob("*.sql"))


def test_the_files_of_tables_and_views_are_what_is_declared() -> None:
    for name, text in snowflake_setup.files().items():
        written = (snowflake_setup.FOLDER / name).read_text(encoding="utf-8")
        assert written == text, f"{name}: run python -m leadscrub_pipeline_tests.snowflake_setup"


def test_every_statement_of_the_setup_may_be_run_again() -> None:
    assert [path.name[0] for path in SETUP] == ["1", "2", "3", "4", "5"]
    again = re.compile(
        r"(CREATE (ROLE|WAREHOUSE|DATABASE|SCHEMA|TABLE) IF NOT EXISTS|CREATE OR REPLACE VIEW \S+ COPY GRANTS|"
        r"GRANT|USE ROLE) ",
    )
    for path in SETUP:
        for statement in statements_of(path):
            assert again.match(statement), f"{path.name}: {statement[:60]}"
            assert "ACCOUNTADMIN" not in statement


def test_the_reading_role_gets_nothing_of_ours_but_a_place_for_stage_tables() -> None:
    granted = [
        " ".join(statement.split())
        for path in SETUP
        for statement in statements_of(path)
        if statement.startswith("GRANT") and statement.endswith("TO ROLE LEADSCRUB_READER")
    ]
    ours = [grant for grant in granted if "PROCESSED_DATA_DB" in grant]
    assert ours == [
        "GRANT USAGE ON DATABASE PROCESSED_DATA_DB TO ROLE LEADSCRUB_READER",
        "GRANT USAGE, CREATE TABLE ON SCHEMA PROCESSED_DATA_DB.LEADSCRUB TO ROLE LEADSCRUB_READER",
    ]
    for grant in set(granted) - set(ours):
        assert re.match(r"GRANT (USAGE|SELECT) ON ", grant), grant


def test_the_setup_run_twice_leaves_nothing_to_migrate_but_the_stamp(on_snowflake: Deployment) -> None:
    for _ in range(2):
        for path in SETUP:
            execute(on_snowflake, *(one for one in statements_of(path) if "WAREHOUSE" not in one.partition("\n")[0]))
    status = db(on_snowflake, "status")
    assert [change["target"] for change in status.json["changes"]] == [CALLABLE_PHONES], "whose checksum is not noted"
    assert status.json["kind"] is None
    assert db(on_snowflake, "migrate").code == 0
    status = db(on_snowflake, "status")
    assert (status.code, status.json["kind"]) == (0, "demo")
