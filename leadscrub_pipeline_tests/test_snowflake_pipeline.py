"""The five assets on the Snowflake backend, over HTTP, beside the same on DuckDB."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.domain.scripts import read_scripts
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.simulators.leads import make_demo_sources
from leadscrub_pipeline.warehouse.own_lists import COMPANY_LIST_ENTRIES, CONSENTS_GIVEN
from leadscrub_pipeline.warehouse.preparation import apply, pending_changes
from leadscrub_pipeline.warehouse.schema import MASTER, PHONE_VERDICTS
from leadscrub_pipeline_tests.asset_calls import ASSETS
from leadscrub_pipeline_tests.graph import IDENTITY, Graph, Run, graph_in, people
from leadscrub_pipeline_tests.snowflake_server import Account
from leadscrub_pipeline_tests.test_own_lists import assert_evidence_is_sound, consent, end, flag_of, request, take

PROJECT = Path(__file__).parent.parent
DDL = re.compile(r"\s*(CREATE|DROP|ALTER|TRUNCATE|GRANT|COMMENT)\b", re.IGNORECASE)
COMPUTED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|COPY|CREATE .* AS\s)", re.IGNORECASE | re.DOTALL)
"""Statements that need a virtual warehouse. PUT, BEGIN, COMMIT and plain DDL do not."""
TYPES = {
    "BIGINT": "NUMBER(38,0)",
    "DOUBLE": "FLOAT",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP_NTZ",
    "BOOLEAN": "BOOLEAN",
    "VARCHAR": "VARCHAR",
}


@contextmanager
def snowflake_graph(folder: Path, patch: pytest.MonkeyPatch, account: Account) -> Iterator[Graph]:
    with graph_in(folder, patch) as graph:
        graph.whole = True
        graph.configure(**account.environment())
        warehouse = open_warehouse(load_settings())
        with warehouse.session(prepared=False) as session:
            apply(session, warehouse.dialect, pending_changes(session, warehouse.dialect), kind="demo")
        yield graph


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Account) -> Iterator[Graph]:
    with snowflake_graph(tmp_path / "snowflake", monkeypatch, account) as made:
        yield made


def bring(graph: Graph, rows: Sequence[Sequence[object]]) -> None:
    """The leads as a table of the account."""
    values = ", ".join("(" + ", ".join(f"'{value}'" for value in row) + ")" for row in rows)
    with graph.warehouse() as session:
        session.execute(
            f"CREATE OR REPLACE TABLE LEADS_DB.PUBLIC.LEADS ({', '.join(f'{name} VARCHAR' for name in IDENTITY)})"
        )
        session.execute(f"INSERT INTO LEADS_DB.PUBLIC.LEADS VALUES {values}")


def by_person(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the master table without what differs from run to run."""
    found = []
    for row in rows:
        data = json.loads(row["additional_data"])
        provenance = data.pop("provenance")
        kept = {name: provenance[name] for name in ("outcome", "contact", "null_reasons", "purpose", "script_hash")}
        plain = {name: value for name, value in row.items() if name not in ("job_id", "processed_at")}
        found.append(plain | {"additional_data": data, "provenance": kept})
    return sorted(found, key=lambda row: str(row["record_id"]))


def numbers_of(run: Run) -> dict[str, int]:
    """The counts of the report."""
    return {name: value for name, value in run.metadata["scrub_report"].items() if isinstance(value, int)}


def test_the_pipeline_gives_the_same_rows_as_on_the_embedded_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Account
) -> None:
    leads = [*people(40), *people(3), ("", "Example", "1 Main Street", "X", "IL", "62701")]
    with pytest.MonkeyPatch.context() as patch, graph_in(tmp_path / "duckdb", patch) as embedded:
        embedded.whole = True
        embedded.write_source("LEADS_DB.PUBLIC.LEADS", leads)
        ended = embedded.scrub("leads")
        assert ended.success
        wanted, callable_there = by_person(embedded.master()), embedded.callable_phones()
    with snowflake_graph(tmp_path / "snowflake", monkeypatch, account) as graph:
        bring(graph, leads)
        run = graph.scrub("leads")
        assert run.success, run.error
        assert (run.counts["kept"], run.counts["duplicate"], run.counts["rejected"]) == (40, 3, 1)
        assert by_person(graph.master()) == wanted
        assert numbers_of(run) == numbers_of(ended)
        assert graph.callable_phones() == callable_there
        assert callable_there
        billed = graph.billed
        again = graph.scrub("leads")
        assert (again.counts["already_processed"], again.counts["lookups_paid"], graph.billed) == (40 + 3, 0, billed)
        limited = graph.scrub("leads", row_limit=5, already_processed="include")
        assert (limited.counts["kept"], limited.counts["published"]) == (5, 5)
        assert not leftovers(graph)


@pytest.mark.long
def test_requests_and_consents_count_as_on_the_embedded_engine(graph: Graph) -> None:
    bring(graph, people(20))
    graph.scrub("leads")
    before = graph.callable_phones()
    phone, other, consented = sorted(before)[:3]
    with graph.warehouse() as session:
        listed = f"UPDATE {PHONE_VERDICTS.full_name} SET verdict = 'listed' WHERE source = 'dnc' AND phone = ?"
        session.execute(listed, [consented])
    assert consented not in graph.callable_phones()
    assert take(CONSENTS_GIVEN, consent(consented), consent(phone)).added == 2
    result = take(COMPANY_LIST_ENTRIES, request(phone), request(other))
    assert (result.added, result.rows_set) == (2, 2)
    assert graph.callable_phones() == before - {phone, other}
    assert flag_of(graph, phone) == flag_of(graph, other) == {True}
    run = graph.scrub("leads", already_processed="include")
    assert run.success, run.error
    numbers = run.metadata["dnc_flags"]
    assert (numbers["company_entries"], numbers["consent_entries"]) == (2, 1)
    assert graph.callable_phones() == before - {phone, other}
    assert end(COMPANY_LIST_ENTRIES, phone, other) == (2, 2)
    assert graph.callable_phones() == before
    assert flag_of(graph, phone) == {False}
    assert end(CONSENTS_GIVEN, consented)[0] == 1
    assert graph.callable_phones() == before - {consented}
    assert_evidence_is_sound()
    assert not leftovers(graph)


def leftovers(graph: Graph) -> list[str]:
    with graph.warehouse() as session:
        return [name for _, name in session.found_columns() if name.startswith("STAGE_")]


def counted(graph: Graph, account: Account, leads: int) -> tuple[dict[str, int], dict[str, int], list[dict[str, Any]]]:
    bring(graph, people(leads, start=1_000 * leads))
    account.control(forget=True)
    run = graph.scrub("leads")
    assert run.success, run.error
    assert run.counts["published"] == leads
    statements = account.statements()
    for one in statements:
        one["asset"] = json.loads(one["tag"])["asset"]
    every = Counter(one["asset"] for one in statements)
    computed = Counter(one["asset"] for one in statements if COMPUTED.match(one["sql"]) and not one["describe"])
    return every, computed, statements


def test_the_number_of_statements_is_bounded_and_does_not_grow_with_the_leads(graph: Graph, account: Account) -> None:
    counted(graph, account, 10)  # the first run of a ledger looks at more
    few, computed, statements = counted(graph, account, 20)
    many, _, _ = counted(graph, account, 120)
    assert few == many
    assert set(computed) == {*ASSETS, "scrub_report"}
    assert max(computed.values()) <= 15, computed
    assert max(few.values()) <= 22, few
    run_ids = {json.loads(one["tag"])["run"] for one in statements}
    assert len(run_ids) == 1
    assert {json.loads(one["tag"])["partition"] for one in statements} == {"leads"}


def test_no_ddl_stands_between_begin_and_commit_and_scripts_run_under_the_reading_role(
    graph: Graph, account: Account
) -> None:
    _, _, statements = counted(graph, account, 20)
    open_sessions: set[int] = set()
    transactions = 0
    for one in statements:
        if one["sql"] == "BEGIN TRANSACTION":
            open_sessions.add(one["session"])
            transactions += 1
        elif one["sql"] in ("COMMIT", "ROLLBACK"):
            open_sessions.remove(one["session"])
        else:
            assert one["session"] not in open_sessions or not DDL.match(one["sql"]), one["sql"][:80]
    assert (transactions, open_sessions) == (7, set())
    of_scripts = [one for one in statements if "LEADS_DB.PUBLIC.LEADS" in one["sql"]]
    assert {one["role"] for one in of_scripts} == {"LEADSCRUB_READER"}
    others = [one for one in statements if one not in of_scripts]
    assert {one["role"] for one in others} == {"LEADSCRUB_WRITER"}
    assert all(login["secondary_roles"] == "NONE" for login in account.state()["logins"])


def test_every_lead_script_gives_the_same_rows_on_both_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Account
) -> None:
    sources = tmp_path / "sources"
    make_demo_sources(sources, leads=400)
    scripts = read_scripts(PROJECT / "sql" / "leads")
    with pytest.MonkeyPatch.context() as patch, graph_in(tmp_path / "duckdb", patch) as embedded:
        embedded.configure(LEADSCRUB_SOURCES=sources)
        wanted = {script.key: rows_of(script) for script in scripts}
    with snowflake_graph(tmp_path / "snowflake", monkeypatch, account) as graph:
        with graph.warehouse() as session:
            for path in sorted(sources.glob("*/*/*.*")):
                bring_file(session, path)
        for script in scripts:
            assert rows_of(script) == wanted[script.key], script.key
            assert wanted[script.key]


def bring_file(session: Any, path: Path) -> None:
    """A source file as a table of the account, with the columns that DuckDB reads in it."""
    reader = f"read_csv('{path}', header = true, sample_size = -1)" if path.suffix == ".csv" else f"'{path}'"
    found = duckdb.sql(f"SELECT * FROM {reader}")
    body = ", ".join(f'"{name}" {TYPES[str(kind)]}' for name, kind in zip(found.columns, found.types, strict=True))
    schema = f"{path.parent.parent.name}.{path.parent.name}"
    session.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    session.execute(f"CREATE TABLE {schema}.{path.stem} ({body})")
    session.load(f"{schema}.{path.stem}", found.to_arrow_table())


def rows_of(script: Any) -> list[str]:
    warehouse = open_warehouse(load_settings())
    with warehouse.session(scripts=True) as session:
        statement, _ = session.select_leads(script)
        stage = session.create_stage_as("rows_of_script", f"SELECT * FROM ({statement}) AS script", script=True)
        found = session.rows(f"SELECT * FROM {stage}")
        session.drop_stage(stage)
    return sorted(str([float(value) if isinstance(value, int) else value for value in row]) for row in found)


def test_a_master_table_that_readers_know_keeps_its_columns(graph: Graph) -> None:
    with graph.warehouse() as session:
        assert list(session.table(f"SELECT * FROM {MASTER.full_name}").column_names) == list(MASTER.column_names)
