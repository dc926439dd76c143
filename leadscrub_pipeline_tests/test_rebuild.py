"""``ledger rebuild``: PERSON_CACHE made again is what it was, whatever went before."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.schema import IDENTITY_COLUMNS, MASTER, PERSON_CACHE, PUBLISHED_IDENTITIES
from leadscrub_pipeline_tests.children import Kill, Order, Report, environment, scrub
from leadscrub_pipeline_tests.command_line import leadscrub
from leadscrub_pipeline_tests.graph import Graph, graph_in, people

COLUMNS = ", ".join(PERSON_CACHE.column_names)


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch) as made:
        yield made


def run(graph: Graph, key: str = "leads", *, days: float = 0, kill: Kill | None = None, **config: object) -> Report:
    graph.configure(DNC_LIST_DATE=(datetime.now(UTC) + timedelta(days=days - 3)).date().isoformat())
    run_id = f"run-{datetime.now(UTC).timestamp()}"
    report = scrub(Order(key, run_id, environment(), config=config, clock=timedelta(days=days), kill=kill))
    assert report.defect is None, report.defect
    return report


def cache(graph: Graph) -> list[tuple[Any, ...]]:
    return sorted(graph.rows(f"SELECT {COLUMNS} FROM {PERSON_CACHE.full_name}"), key=repr)


def rebuilt(graph: Graph) -> dict[str, int]:
    answer = leadscrub("ledger", "rebuild", "--json")
    assert answer.code == 0, answer.err
    found: dict[str, int] = answer.json
    return found


def test_a_rebuild_after_a_lively_time_gives_the_table_there_was(graph: Graph) -> None:
    """Adopted people, several scripts over the same ones, other spellings, caps, faults, expiry, an erased person."""
    old = [
        dict.fromkeys(MASTER.column_names)
        | dict(zip(IDENTITY_COLUMNS, person, strict=True))
        | {"record_id": f"old-{number}", "table_id": "old_table", "phone_1": "2125550101", "processed_at": when}
        for number, (person, when) in enumerate(
            zip(people(3), (datetime.now(UTC) - timedelta(days=days) for days in (5, 179, 300)), strict=True)
        )
    ]
    with graph.warehouse() as session:
        session.load(MASTER.full_name, to_table(old, arrow_schema(MASTER)))
    assert leadscrub("adopt").code == 0
    graph.write_source("LEADS_DB.PUBLIC.LEADS", [*people(8), ("Ada4 ", "EXAMPLE", "5 main st", "", "IL", "62705")])
    graph.write_source("LEADS_DB.PUBLIC.OTHERS", people(12, start=4))
    graph.write_script("others", "SELECT * FROM LEADS_DB.PUBLIC.OTHERS")
    graph.configure(IDICORE_MAX_LOOKUPS_PER_RUN=3)
    assert run(graph).counts["deferred"] > 0
    graph.simulators.idicore.faults.add(Fault("reset_after_billing", times=1))
    assert run(graph, "others").ok
    graph.configure(IDICORE_MAX_LOOKUPS_PER_RUN=100)
    assert run(graph).ok
    assert run(graph, "others", already_processed="include").counts["taken"] > 0
    assert run(graph, "leads", days=40).ok, "misses are over"
    assert run(graph, "others", days=200).ok, "hits are over, and change hands"
    assert run(graph, "leads", days=200, already_processed="include").ok
    erased = people(1, start=6)[0]
    names = ("--first-name", erased[0], "--last-name", erased[1], "--address", erased[2], "--zip", erased[5])
    assert leadscrub("person", "erase", "--yes", *names).code == 0
    before = cache(graph)
    outcomes = {row[2] for row in before}
    assert outcomes == {"hit", "miss", "erased"}
    assert len({row[6] for row in before}) >= 3, "owners of several scripts"
    found = rebuilt(graph)
    assert (found["added"], found["removed"], found["changed"]) == (0, 0, 0)
    assert cache(graph) == before


def test_a_lost_table_comes_back_whole(graph: Graph) -> None:
    run(graph)
    before = cache(graph)
    with graph.warehouse() as session:
        session.execute(f"DELETE FROM {PERSON_CACHE.full_name}")
    assert leadscrub("ledger", "rebuild", "--dry-run", "--json").json["added"] == 10
    assert cache(graph) == []
    assert rebuilt(graph) == {"people": 10, "owned": 10, "erased": 0, "added": 10, "removed": 0, "changed": 0}
    assert cache(graph) == before
    assert run(graph).counts["already_processed"] == 10


def identities(graph: Graph) -> list[tuple[Any, ...]]:
    columns = "identity_hash, person_key, identity_number, owned_until"
    return sorted(graph.rows(f"SELECT {columns} FROM {PUBLISHED_IDENTITIES.full_name}"), key=repr)


@pytest.mark.parametrize(
    "lost",
    [
        "owned_until = NULL, identity_number = NULL",
        "owned_until = owned_until + INTERVAL 9 DAY",
    ],
)
def test_identities_of_an_older_release_or_noted_wrongly_are_put_right(graph: Graph, lost: str) -> None:
    run(graph)
    before = identities(graph)
    assert len({number for _, _, number, _ in before} - {None}) == 10
    ends = dict(graph.rows(f"SELECT person_key, expires_at FROM {PERSON_CACHE.full_name}"))
    assert {key: end for _, key, _, end in before} == ends
    with graph.warehouse() as session:
        session.execute(f"UPDATE {PUBLISHED_IDENTITIES.full_name} SET {lost}")
    assert rebuilt(graph)["changed"] == 0
    assert identities(graph) == before


def test_an_identity_whose_script_does_not_own_the_person_is_noted_as_nobodys(graph: Graph) -> None:
    run(graph)
    with graph.warehouse() as session:
        session.execute(f"UPDATE {PUBLISHED_IDENTITIES.full_name} SET partition_key = 'others', record_id = 'x'")
    rebuilt(graph)
    assert {end for _, _, _, end in identities(graph)} == {None}


def test_people_of_an_older_release_are_left_out_by_their_key(graph: Graph) -> None:
    run(graph)
    with graph.warehouse() as session:
        session.execute(f"UPDATE {PUBLISHED_IDENTITIES.full_name} SET owned_until = NULL, identity_number = NULL")
    assert run(graph).counts["already_processed"] == 10


def test_a_warehouse_that_is_older_than_stored_record_ids_is_rebuilt_too(graph: Graph) -> None:
    run(graph)
    before = cache(graph)
    with graph.warehouse() as session:
        session.execute(f"UPDATE {PUBLISHED_IDENTITIES.full_name} SET record_id = NULL")
    assert rebuilt(graph)["changed"] == 0
    assert cache(graph) == before


def test_what_was_paid_for_and_not_gathered_when_a_run_died_is_in_the_rebuilt_table(graph: Graph) -> None:
    assert run(graph, kill=Kill("contacts.before_commit")).killed
    assert cache(graph) == []
    found = rebuilt(graph)
    assert (found["people"], found["owned"]) == (10, 0)
    assert run(graph).counts["published"] == 10
    assert graph.billed == 10


# --- record ids -----------------------------------------------------------------------------


def test_a_persons_record_id_stays_after_their_time_is_over(graph: Graph) -> None:
    run(graph)
    with graph.warehouse() as session:  # as an adoption would have left it
        session.execute(f"UPDATE {PUBLISHED_IDENTITIES.full_name} SET record_id = 'id-' || record_id")
        session.execute(f"UPDATE {MASTER.full_name} SET record_id = 'id-' || record_id")
    before = {row["record_id"] for row in graph.master()}
    assert run(graph, days=200).counts["published"] == 10
    assert {row["record_id"] for row in graph.master()} == before
    stored = {record_id for (record_id,) in graph.rows(f"SELECT record_id FROM {PUBLISHED_IDENTITIES.full_name}")}
    assert stored == before


def test_without_a_stored_record_id_it_is_computed_as_ever(graph: Graph) -> None:
    run(graph)
    before = {row["record_id"] for row in graph.master()}
    with graph.warehouse() as session:
        session.execute(f"UPDATE {PUBLISHED_IDENTITIES.full_name} SET record_id = NULL")
    assert run(graph, days=200).counts["published"] == 10
    assert {row["record_id"] for row in graph.master()} == before
    assert graph.rows(f"SELECT COUNT(*) FROM {PUBLISHED_IDENTITIES.full_name} WHERE record_id IS NULL") == [(0,)]
