"""Runs over a list of our own: the same flags by SQLite and by the bulk index, and none FALSE that nobody answered."""

import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leadscrub_pipeline.dnc import registry
from leadscrub_pipeline.dnc.build_rules import Order
from leadscrub_pipeline.dnc.building import build, versions_path
from leadscrub_pipeline.dnc.bulk_index import index_path, open_index
from leadscrub_pipeline.dnc.number_set import NumberSet
from leadscrub_pipeline.dnc.past import PastLists
from leadscrub_pipeline.simulators.phones import is_listed
from leadscrub_pipeline_tests.bad_input import (
    deployment,
    fails,
    no_flag_is_false_unanswered,
    phones_of,
    private_people,
    published,
    settled_again,
    verdicts,
)
from leadscrub_pipeline_tests.dnc_lists import LIMITS, change_text, full_text
from leadscrub_pipeline_tests.graph import Graph

PEOPLE = 8
"""Of each script; every area code that a list covers costs time."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    with deployment(tmp_path_factory.mktemp("own_list")) as graph:
        yield graph


@pytest.fixture
def graph(whole: Graph, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with settled_again(whole, monkeypatch) as graph:
        for file in graph.registry.parent.glob("dnc.sqlite*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        graph.configure(DNC_LIST_DATE="")
        yield graph


@pytest.fixture
def large_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "INDEX_FROM", 1)


def new_script(graph: Graph, key: str, start: int) -> list[str]:
    """A script with people of its own, looked up and asked about at CCC; their phones."""
    graph.write_source(f"LEADS_DB.PUBLIC.{key.upper()}", private_people(PEOPLE, start=start))
    graph.write_script(key, f"SELECT * FROM LEADS_DB.PUBLIC.{key.upper()}")
    for step in ("raw_leads", "enriched_contacts", "litigator_flags"):
        assert graph.scrub(key, assets=[step]).success
    rows = graph.rows(
        "SELECT phone_1, phone_2, phone_3 FROM PROCESSED_DATA_DB.LEADSCRUB.ENRICHED_CONTACTS WHERE partition_key = ?",
        [key],
    )
    answered = {phone for phone, (verdict, _) in verdicts(graph, "dnc").items() if verdict != "unknown"}
    return sorted({phone for row in rows for phone in row if phone} - answered)


def covering(phones: Iterable[str]) -> set[int]:
    """A number in each of their area codes that no simulated person has, so that a list covers it."""
    return {int(phone[:3]) * 10**7 + 5_550_199 for phone in phones}


def own_list(graph: Graph, numbers: Iterable[int], *, days_ago: float = 2) -> str:
    """A list built from text; its version."""
    source = full_text(graph.registry.with_name("full.txt"), sorted(numbers))
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=days_ago)
    return build(graph.registry, Order("full", (source,), at, allow_shrink=True), LIMITS).facts.version


def forget_answers(graph: Graph) -> None:
    """So that the next run asks about every phone again."""
    with graph.warehouse() as session:
        session.execute("DELETE FROM PROCESSED_DATA_DB.LEADSCRUB.PHONE_VERDICTS WHERE source = 'dnc'")


def flags(graph: Graph, key: str) -> list[tuple[object, ...]]:
    return [
        tuple(row[name] for name in ("record_id", "phone_1_in_dnc", "phone_2_in_dnc", "phone_3_in_dnc"))
        for row in published(graph, key)
    ]


def test_index_and_sqlite_publish_the_same_flags_and_the_run_says_which_was_asked(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    phones = new_script(graph, "both", 0)
    own_list(graph, [*covering(phones), *(int(phone) for phone in phones if is_listed(phone, seed=1))])
    run = graph.scrub("both", assets=["dnc_flags", "master_processed_db"])
    assert run.success, run.error
    by_sqlite, stored = flags(graph, "both"), verdicts(graph, "dnc")
    assert {verdict for verdict, _ in stored.values()} == {"listed", "clear"}
    monkeypatch.setattr(registry, "INDEX_FROM", 1)
    forget_answers(graph)
    again = graph.scrub("both", assets=["dnc_flags", "master_processed_db"])
    assert again.success, again.error
    assert (flags(graph, "both"), verdicts(graph, "dnc")) == (by_sqlite, stored)
    said = [one.metadata["dnc_flags"]["registry_lookups"] for one in (run, again)]
    assert said == ["sqlite", "index"]


@pytest.mark.usefixtures("large_questions")
def test_an_area_code_that_is_not_in_the_downloads_is_unknown_by_the_index_too(graph: Graph) -> None:
    phones = new_script(graph, "partly", 100)
    own_list(graph, [number for number in covering(phones) if number < 6_000_000_000])
    run = graph.scrub("partly", assets=["dnc_flags", "master_processed_db"])
    assert run.success, run.error
    stored = verdicts(graph, "dnc")
    assert {stored[phone] for phone in phones if phone >= "6"} == {("unknown", "area_code_not_covered")}
    assert {stored[phone] for phone in phones if phone < "6"} == {("clear", None)}
    assert not any(phone >= "6" for phone in graph.callable_phones() & set(phones))
    no_flag_is_false_unanswered(graph, "partly")


@pytest.mark.usefixtures("large_questions")
def test_a_list_that_is_replaced_while_it_is_asked_is_noticed_and_the_next_try_asks_the_new_one(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    phones = new_script(graph, "swapped", 200)
    own_list(graph, covering(phones), days_ago=3)
    holds, swapped = NumberSet.holds, []

    def replacing(self: NumberSet, numbers: object) -> object:
        found = holds(self, numbers)  # type: ignore[arg-type]
        if not swapped:
            swapped.append(own_list(graph, [*covering(phones), *map(int, phones)]))
        return found

    monkeypatch.setattr(NumberSet, "holds", replacing)
    run = graph.scrub("swapped", assets=["dnc_flags", "master_processed_db"])
    assert run.success, run.error
    stored = verdicts(graph, "dnc")
    assert {stored[phone] for phone in phones} == {("listed", None)}
    assert not graph.callable_phones() & set(phones)
    said = graph.rows("SELECT DISTINCT list_version FROM PROCESSED_DATA_DB.LEADSCRUB.SCRUB_EVIDENCE "
                      "WHERE source = 'dnc' AND partition_key = 'swapped'")  # fmt: skip
    assert said == [(swapped[0],)], "what the old one said meanwhile is no answer"


@pytest.mark.usefixtures("large_questions")
@pytest.mark.parametrize("what", ["of an older list", "cut off", "missing"])
def test_an_index_that_cannot_be_trusted_is_not_asked(what: str, graph: Graph, tmp_path: Path) -> None:
    key = what.replace(" ", "_")
    phones = new_script(graph, key, {"of an older list": 300, "cut off": 400, "missing": 500}[what])
    own_list(graph, covering(phones), days_ago=3)
    older = tmp_path / "older"
    older.hardlink_to(index_path(graph.registry))  # a copy would not be sparse
    own_list(graph, [*covering(phones), *map(int, phones)])
    if what == "missing":
        index_path(graph.registry).unlink()
    else:
        older.replace(index_path(graph.registry))
    if what == "cut off":
        with index_path(graph.registry).open("r+b") as file:
            file.truncate(1000)
    assert open_index(graph.registry) is None
    run = graph.scrub(key, assets=["dnc_flags", "master_processed_db"])
    assert run.success, run.error
    assert run.metadata["dnc_flags"]["registry_lookups"] == "sqlite"
    stored = verdicts(graph, "dnc")
    assert {stored[phone] for phone in phones} == {("listed", None)}


def test_past_answers_agree_with_the_evidence_of_runs(graph: Graph) -> None:
    phones = new_script(graph, "evidence", 600)
    own_list(graph, [*covering(phones), *map(int, phones[::3])], days_ago=3)
    assert graph.scrub("evidence", assets=["dnc_flags"]).success
    at = datetime.now(UTC) - timedelta(days=2)
    changes = [(int(phone), at, "D") for phone in phones[::6]] + [(int(phone), at, "A") for phone in phones[1::6]]
    source = change_text(graph.registry.with_name("changes.txt"), changes)
    build(graph.registry, Order("changes", (source,), at + timedelta(hours=1)), LIMITS)
    forget_answers(graph)
    assert graph.scrub("evidence", assets=["dnc_flags"]).success
    rows = graph.rows(
        "SELECT phone, verdict, list_version, checked_at FROM PROCESSED_DATA_DB.LEADSCRUB.SCRUB_EVIDENCE "
        "WHERE source = 'dnc' AND partition_key = 'evidence'"
    )
    assert len(rows) >= 2 * len(phones)
    with PastLists.open(graph.registry, versions_path(graph.registry)) as past:
        for phone, verdict, version, checked_at in rows:
            found = past.answer(phone, checked_at.replace(tzinfo=UTC), max_age_days=31)
            assert found is not None
            assert (found.answer.verdict, found.version.version) == (verdict, version)


def test_a_stored_number_that_is_no_phone_is_counted_and_clears_nobody(graph: Graph) -> None:
    phones = new_script(graph, "malformed", 700)
    own_list(graph, covering(phones))
    with closing(sqlite3.connect(graph.registry)) as connection, connection:
        connection.execute("INSERT INTO dnc_numbers VALUES (21255501)")
    fails(graph, "malformed", "dnc_flags", "not ten digits", assets=["dnc_flags", "master_processed_db"])
    assert not graph.callable_phones() & set(phones)


def test_flags_of_published_rows_hold_what_phones_they_have(graph: Graph) -> None:
    phones = new_script(graph, "held", 800)
    own_list(graph, [*covering(phones), *map(int, phones[:5])])
    assert graph.scrub("held", assets=["dnc_flags", "master_processed_db"]).success
    listed = {
        row[f"phone_{slot}"] for row in published(graph, "held") for slot in (1, 2, 3) if row[f"phone_{slot}_in_dnc"]
    }
    assert set(phones[:5]) <= listed
    assert not listed & set(phones[5:])
    assert {phone for row in published(graph, "held") for phone in phones_of(row)} >= set(phones)
