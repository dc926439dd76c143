"""``ledger rekey`` with a made-up second version of the keys: nobody is paid twice, published record ids stay."""

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from leadscrub_pipeline.deployment import lookup_terms, open_ledger, open_warehouse
from leadscrub_pipeline.domain.people import KEY_RULES, Person
from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.domain.scripts import find_script
from leadscrub_pipeline.errors import FailedError, RefusedError, UnavailableError
from leadscrub_pipeline.ledger import Cached, Claimed, Held, LookupTerms, Standing, ToAsk
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.steps import rekeying
from leadscrub_pipeline.steps.rebuilding import rebuild_person_cache
from leadscrub_pipeline.steps.rekeying import Rekeyed
from leadscrub_pipeline.vendors.idicore import endpoint_of
from leadscrub_pipeline.warehouse.contacts import STAGED, ContactStage
from leadscrub_pipeline.warehouse.leads import LeadSelection, require_current_keys
from leadscrub_pipeline.warehouse.master import publish
from leadscrub_pipeline.warehouse.merging import Publication
from leadscrub_pipeline.warehouse.schema import (
    ENRICHED_CONTACTS,
    MASTER,
    PERSON_CACHE,
    PUBLISHED_IDENTITIES,
    RAW_LEADS,
)
from leadscrub_pipeline.warehouse.slices import read_slice
from leadscrub_pipeline_tests import killed
from leadscrub_pipeline_tests.children import Order, Report, environment, scrub
from leadscrub_pipeline_tests.command_line import leadscrub
from leadscrub_pipeline_tests.graph import Graph, graph_in, people
from leadscrub_pipeline_tests.tallies import tally

HOUSEHOLD = [(name, "Example", "1 Main Street", "Springfield", "IL", "62701") for name in ("Bea", "Cid")]
EVERYBODY = [*people(6), *HOUSEHOLD]
"""Eight people; Ada0, Bea and Cid live in one house and are one person under the second version."""


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch) as made:
        made.write_source("LEADS_DB.PUBLIC.LEADS", EVERYBODY)
        yield made


def run(graph: Graph, key: str = "leads", **order: Any) -> Report:
    report = scrub(Order(key, f"run-{datetime.now(UTC).timestamp()}", environment(), **order))
    assert report.ok, (report.failure, report.defect)
    return report


def rekey(**changes: Any) -> Rekeyed:
    settings = load_settings()
    order = {"rules": killed.RULES, "version": 2, "page_rows": killed.PAGE} | changes
    with open_ledger(settings) as ledger:
        return rekeying.rekey(open_warehouse(settings), ledger, report=lambda _text: None, **order)


def terms(version: int) -> LookupTerms:
    settings = load_settings()
    made = lookup_terms(
        settings,
        endpoint=endpoint_of(settings),
        purpose=Purpose("default", settings.idicore_glba or "none", settings.idicore_dppa or "none"),
        run_id="after",
        partition_key="after",
    )
    return replace(made, key_version=version)


def standings(graph: Graph, version: int, leads: list[Any] = EVERYBODY) -> list[Standing]:
    keys = [killed.RULES[version](Person(*map(str, lead))) for lead in leads]
    with graph.ledger() as ledger:
        found = ledger.claim(keys, terms(version))
    return [found[key] for key in keys]


def state(graph: Graph) -> dict[str, Any]:
    with sqlite3.connect(graph.home / "ledger.sqlite") as connection:
        lookups = connection.execute(
            "SELECT lookup_id, person_key, key_version, is_current, state FROM ledger_lookups ORDER BY 1"
        ).fetchall()
        version = connection.execute("SELECT value FROM ledger_controls WHERE name = 'key_version'").fetchall()
        tombstones = connection.execute("SELECT person_key, key_version FROM ledger_tombstones ORDER BY 1").fetchall()
    connection.close()
    tables = {
        table.name: sorted(graph.rows(f"SELECT * FROM {table.full_name}"), key=repr)
        for table in (PERSON_CACHE, PUBLISHED_IDENTITIES, MASTER)
    }
    return {"lookups": lookups, "version": version, "tombstones": tombstones, **tables}


def test_everybody_is_still_paid_for_and_no_record_id_changes(graph: Graph) -> None:
    run(graph)
    before = state(graph)
    found = rekey()
    assert (found.moved, found.merged, found.unknown) == (8, 2, 0)
    assert all(isinstance(standing, Cached) for standing in standings(graph, 2))
    after = state(graph)
    assert after["MASTER_PROCESSED_DB"] == before["MASTER_PROCESSED_DB"]
    assert {row[4] for row in after["PUBLISHED_IDENTITIES"]} == {row[4] for row in before["PUBLISHED_IDENTITIES"]}
    assert {row[0] for row in after["PERSON_CACHE"]} == {killed.RULES[2](Person(*map(str, lead))) for lead in EVERYBODY}
    assert {row[1] for row in after["PERSON_CACHE"]} == {2}
    assert graph.billed == 8


def test_of_people_who_became_one_the_newest_answer_serves_and_one_request_is_current(graph: Graph) -> None:
    graph.write_source("LEADS_DB.PUBLIC.LEADS", EVERYBODY[:7])
    run(graph)
    graph.write_source("LEADS_DB.PUBLIC.LEADS", EVERYBODY)
    run(graph)
    with graph.ledger() as ledger:
        keys = [KEY_RULES[1](Person(*map(str, lead))) for lead in (EVERYBODY[0], *HOUSEHOLD)]
        newest = max((row for row in ledger.upkeep.history(keys)), key=lambda row: row["settled_at"])
    rekey()
    standing = standings(graph, 2, [EVERYBODY[0]])[0]
    assert isinstance(standing, Cached)
    assert standing.lookup_id == newest["lookup_id"]
    with graph.ledger() as ledger:
        rows = ledger.upkeep.history([killed.RULES[2](Person(*map(str, EVERYBODY[0])))])
    assert [row["is_current"] for row in rows if row["lookup_id"] == newest["lookup_id"]] == [True]
    assert sum(row["is_current"] for row in rows) == 1
    assert len(rows) == 3


def test_until_it_is_done_no_version_may_ask(graph: Graph) -> None:
    run(graph)
    with pytest.raises(RefusedError, match="rekey"):
        standings(graph, 2)
    with graph.ledger() as ledger:
        ledger.upkeep.begin_rekey(2)
    for version in (1, 2):
        with pytest.raises(RefusedError, match="rekey to its end"):
            standings(graph, version)
    rekey()
    assert standings(graph, 2)
    with pytest.raises(RefusedError, match="rekey"):
        standings(graph, 1)


def test_it_waits_for_runs_that_ask(graph: Graph) -> None:
    run(graph)
    with graph.ledger() as ledger:
        assert isinstance(ledger.claim(["f" * 32], terms(1))["f" * 32], Claimed)
        with pytest.raises(UnavailableError, match="right now"):
            rekey()
    assert standings(graph, 1), "nothing was begun"


def test_who_is_known_by_key_only_keeps_it_and_is_counted(graph: Graph) -> None:
    run(graph, assets=("raw_leads", "enriched_contacts"))
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(2, start=50))
    run(graph)
    found = rekey()
    assert (found.moved, found.unknown) == (2, 8)
    assert all(isinstance(standing, Cached) for standing in standings(graph, 2, people(2, start=50)))
    with graph.ledger() as ledger:
        keys = [KEY_RULES[1](Person(*map(str, lead))) for lead in EVERYBODY]
        assert {row["key_version"] for row in ledger.upkeep.history(keys)} == {1}


def test_leads_that_were_paid_for_and_not_published_are_known_by_the_last_selection(graph: Graph) -> None:
    run(graph, assets=("raw_leads", "enriched_contacts"))
    assert rekey().moved == 8
    assert all(isinstance(standing, Cached) for standing in standings(graph, 2))


def test_a_dry_run_counts_the_same_and_writes_nothing(graph: Graph) -> None:
    run(graph)
    before = state(graph)
    counted = rekey(dry_run=True)
    assert state(graph) == before
    done = rekey()
    assert replace(counted, seconds=0.0) == replace(done, seconds=0.0)


def test_the_same_again_does_nothing(graph: Graph) -> None:
    run(graph)
    rekey()
    before = state(graph)
    assert rekey().was_done
    assert state(graph) == before
    answer = leadscrub("ledger", "rekey", "--help")
    assert answer.code == 0


def test_with_the_version_of_this_release_the_command_has_nothing_to_do(graph: Graph) -> None:
    run(graph)
    assert leadscrub("ledger", "rekey", "--json").json["was_done"] is True


def test_the_person_cache_is_what_a_rebuild_would_make(graph: Graph) -> None:
    run(graph)
    rekey()
    warehouse = open_warehouse(load_settings())
    with graph.ledger() as ledger, warehouse.session() as session:
        found = rebuild_person_cache(session, warehouse.dialect, ledger, dry_run=True)
    assert (found.added, found.removed, found.changed) == (0, 0, 0)


def test_an_erased_person_stays_barred_whether_known_or_not(graph: Graph) -> None:
    run(graph)
    lead = EVERYBODY[3]
    names = ("--first-name", lead[0], "--last-name", lead[1], "--address", lead[2], "--zip", lead[5])
    assert leadscrub("person", "erase", "--yes", *names).code == 0
    assert rekey(dry_run=True).unknown == 1
    run(graph, config={"already_processed": "include"})  # the selection holds the source's values again
    assert rekey().unknown == 0
    assert standings(graph, 2, [lead]) == [Held("erased")]


@pytest.mark.parametrize(
    ("where", "step"),
    [
        ("warehouse_at", 13),
        ("ledger_at", 3),
        pytest.param("warehouse_at", 1, marks=pytest.mark.long),
        pytest.param("ledger_at", 1, marks=pytest.mark.long),
    ],
)
def test_killed_anywhere_it_comes_to_the_same_end_when_it_is_run_again(graph: Graph, where: str, step: int) -> None:
    run(graph)
    kept = graph.folder / "kept"
    shutil.copytree(graph.home, kept)
    rekey()
    undisturbed = state(graph)
    kills = 0
    for at in range(step, 400, step):
        shutil.rmtree(graph.home)
        shutil.copytree(kept, graph.home)
        was_killed = killed.killed(killed.rekey, **{where: at})
        kills += was_killed
        rekey()
        assert state(graph) == undisturbed, at
        if not was_killed:
            break
    tally("kills of an operator's work", kills)
    assert kills >= 3


def test_leads_selected_under_the_old_keys_are_refused_afterwards(graph: Graph) -> None:
    run(graph)
    with graph.warehouse() as session:
        leads = read_slice(session, RAW_LEADS, "leads")
        require_current_keys(session, leads, 1)
        with pytest.raises(FailedError, match="Materialize raw_leads"):
            require_current_keys(session, leads, 2)


def test_a_publication_under_the_new_keys_writes_the_rows_there_were(graph: Graph) -> None:
    run(graph)
    before = {row["record_id"] for row in graph.master()}
    rekey()
    settings = load_settings()
    warehouse = open_warehouse(settings)
    script = find_script(settings.leadscrub_scripts, "leads")
    now = datetime.now(UTC)
    with warehouse.session(scripts=True) as session:
        selection = LeadSelection(
            session,
            warehouse.dialect,
            script,
            now=now,
            already_processed="include",
            key_rules=killed.RULES,
            key_version=2,
        )
        selection.publish("new-run", selection.run())
        leads = read_slice(session, RAW_LEADS, "leads")
        kept = session.rows(f"SELECT lead_number, person_key FROM {RAW_LEADS.full_name}")
    assert len(kept) == 6, "the household is one person now"
    stage = ContactStage(warehouse, "leads")
    stage.append(
        [
            dict.fromkeys(STAGED)
            | {"lead_number": number, "person_key": key, "outcome": "miss", "reused": True}
            | {"looked_up_at": now - timedelta(days=1), "expires_at": now + timedelta(days=1)}
            for number, key in kept
        ]
    )
    stage.publish(leads, "new-run", key_version=2, details={}, now=now)
    publication = Publication("leads", "Leads", "new-run", "scrub_job", script.script_hash, "default")
    with warehouse.session() as session:
        contacts = read_slice(session, ENRICHED_CONTACTS, "leads")
        published = publish(session, warehouse.dialect, leads, contacts, publication, now=now)
    assert (published.published, published.taken) == (6, 0)
    assert {row["record_id"] for row in graph.master()} == before
    assert sum(row["job_id"] == "new-run" for row in graph.master()) == 6


def test_whoever_was_asked_about_by_nobody_is_still_to_be_asked_about(graph: Graph) -> None:
    run(graph)
    rekey()
    with graph.ledger() as ledger:
        stranger = killed.RULES[2](Person(*map(str, people(1, start=99)[0])))
        assert isinstance(ledger.peek([stranger], terms(2))[stranger], ToAsk)
