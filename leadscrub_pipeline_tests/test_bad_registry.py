"""Registry files that cannot be trusted, through Dagster runs: the step fails, or flags are NULL; none is FALSE."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from leadscrub_pipeline.simulators.registry import make_registry
from leadscrub_pipeline_tests.bad_input import (
    deployment,
    fails,
    no_flag_is_false_unanswered,
    phones_of,
    private_people,
    published,
    settled_again,
    state,
    verdicts,
)
from leadscrub_pipeline_tests.graph import Graph


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A deployment with contacts and litigator flags for ``leads``, whose registry was never asked."""
    with deployment(tmp_path_factory.mktemp("registry")) as graph:
        graph.write_source("LEADS_DB.PUBLIC.LEADS", private_people(12, start=0))
        for step in ("raw_leads", "enriched_contacts", "litigator_flags"):
            assert graph.scrub("leads", assets=[step]).success
        yield graph


@pytest.fixture
def graph(whole: Graph, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with settled_again(whole, monkeypatch) as graph:
        graph.write_registry()
        yield graph


def new_script(graph: Graph, key: str, start: int, count: int = 12) -> None:
    graph.write_source(f"LEADS_DB.PUBLIC.{key.upper()}", private_people(count, start=start))
    graph.write_script(key, f"SELECT * FROM LEADS_DB.PUBLIC.{key.upper()}")


def answered_before(graph: Graph) -> set[str]:
    """Phones that other tests' people share, whose verdicts are fresh and not asked for again."""
    return {phone for phone, (verdict, _) in verdicts(graph, "dnc").items() if verdict != "unknown"}


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).date().isoformat()


def _missing(graph: Graph) -> None:
    graph.registry.unlink()


def _no_bytes(graph: Graph) -> None:
    graph.registry.write_bytes(b"")


def _no_rows(graph: Graph) -> None:
    with closing(sqlite3.connect(graph.registry)) as connection, connection:
        connection.execute("DELETE FROM dnc_list")


def _truncated(graph: Graph) -> None:
    content = graph.registry.read_bytes()
    graph.registry.write_bytes(content[: len(content) // 2])


def _no_database(graph: Graph) -> None:
    graph.registry.write_text("area_code,phone_number\n", encoding="utf-8")


def _other_schema(graph: Graph) -> None:
    with closing(sqlite3.connect(graph.registry)) as connection, connection:
        connection.execute("ALTER TABLE dnc_list RENAME TO numbers")


def _no_index(graph: Graph) -> None:
    with closing(sqlite3.connect(graph.registry)) as connection, connection:
        connection.execute("DROP INDEX full_phone")


def _not_configured(graph: Graph) -> None:
    graph.configure(DNC_DATABASE_PATH="")


def _stale(graph: Graph) -> None:
    graph.configure(DNC_LIST_DATE=days_ago(32))


def _undated(graph: Graph) -> None:
    graph.configure(DNC_LIST_DATE="")
    graph.registry.touch()


def _future(graph: Graph) -> None:
    graph.configure(DNC_LIST_DATE=days_ago(-2))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing, ["registry file", "dnc.sqlite"]),
        (_no_bytes, ["dnc.sqlite"]),
        (_no_rows, ["holds no numbers", "Load the list again"]),
        (_truncated, ["dnc.sqlite"]),
        (_no_database, ["dnc.sqlite"]),
        (_other_schema, ["another schema", "dnc_list"]),
        (_no_index, ["lacks an index", "full_phone"]),
        (_not_configured, ["Set DNC_DATABASE_PATH"]),
        (_stale, ["32 days old", "limit is 31", "Load a newer list"]),
        (_undated, ["does not say when", "Set DNC_LIST_DATE"]),
        (_future, ["DNC_LIST_DATE", "in the future"]),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_registry_that_cannot_be_trusted_fails_the_step_by_name_and_nothing_is_published(
    graph: Graph, spoil: Callable[[Graph], None], words: list[str]
) -> None:
    before = state(graph)
    spoil(graph)
    fails(graph, "leads", "dnc_flags", *words, assets=["dnc_flags", "master_processed_db"])
    assert state(graph) == before
    assert published(graph, "leads") == []


def test_a_missing_registry_file_is_not_read_as_not_listed_even_where_null_is_allowed(graph: Graph) -> None:
    graph.configure(DNC_ON_STALE_LIST="null")
    graph.registry.unlink()
    new_script(graph, "missing", 100)
    fails(graph, "missing", "dnc_flags", "dnc.sqlite")
    paid = graph.billed
    assert published(graph, "missing") == []
    graph.write_registry()
    run = graph.scrub("missing")
    assert run.success, run.error
    assert run.counts["lookups_paid"] == 0
    assert graph.billed == paid
    no_flag_is_false_unanswered(graph, "missing")


@pytest.mark.parametrize(("age", "reason"), [(days_ago(40), "stale_list"), ("", "list_of_unknown_age")])
def test_on_a_stale_list_a_found_number_is_listed_and_an_absent_one_unknown_until_a_fresh_list_comes(
    graph: Graph, age: str, reason: str
) -> None:
    key = f"on_{reason}"
    new_script(graph, key, 200 if age else 300)
    for step in ("raw_leads", "enriched_contacts"):
        assert graph.scrub(key, assets=[step]).success
    found = graph.rows(
        "SELECT phone_1 FROM PROCESSED_DATA_DB.LEADSCRUB.ENRICHED_CONTACTS "
        "WHERE partition_key = ? AND phone_1 IS NOT NULL ORDER BY phone_1 LIMIT 2", [key],
    )  # fmt: skip
    listed = {phone for (phone,) in found}
    answered = answered_before(graph)
    graph.write_registry(listed=listed)
    graph.configure(DNC_ON_STALE_LIST="null", DNC_LIST_DATE=age)
    run = graph.scrub(key)
    assert run.success, run.error
    stored = verdicts(graph, "dnc")
    for row in published(graph, key):
        for slot in (1, 2, 3):
            phone, flag = row[f"phone_{slot}"], row[f"phone_{slot}_in_dnc"]
            if phone in answered:
                continue
            assert flag is (True if phone in listed else None)
            if phone and phone not in listed:
                assert stored[phone] == ("unknown", reason)
    ours = {phone for row in published(graph, key) for phone in phones_of(row)} - answered
    assert len(ours) > 10
    assert not ours & graph.callable_phones()
    graph.configure(DNC_LIST_DATE=days_ago(1))
    paid = graph.billed
    run = graph.scrub(key)
    assert run.counts["published"] > 0
    assert (run.counts["flags_unknown"], graph.billed) == (0, paid)
    no_flag_is_false_unanswered(graph, key)


def test_a_number_whose_area_code_is_not_on_the_list_is_unknown_and_never_clear(graph: Graph) -> None:
    new_script(graph, "partly", 400, count=20)
    graph.write_registry(area_codes=range(200, 600))
    answered = answered_before(graph)
    run = graph.scrub("partly")
    assert run.success, run.error
    stored = verdicts(graph, "dnc")
    phones = {phone for row in published(graph, "partly") for phone in phones_of(row)} - answered
    assert {stored[phone] for phone in phones if phone >= "6"} == {("unknown", "area_code_not_covered")}
    assert {stored[phone] for phone in phones if phone < "6"} == {("clear", None)}
    assert not any(phone >= "6" for phone in graph.callable_phones() & phones)
    no_flag_is_false_unanswered(graph, "partly")


def test_a_file_in_the_compact_form_says_its_own_age(graph: Graph) -> None:
    graph.configure(DNC_LIST_DATE="")
    make_registry(graph.registry, schema="compact", obtained_at=datetime.now(UTC) - timedelta(days=31, minutes=1))
    fails(graph, "leads", "dnc_flags", "31 days old", assets=["dnc_flags"])
    make_registry(graph.registry, schema="compact", obtained_at=datetime.now(UTC) - timedelta(days=2))
    assert graph.scrub("leads", assets=["dnc_flags"]).success
