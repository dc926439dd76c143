"""Export and erasure of one person: nothing of her is left where it was, nobody else loses anything, evidence stays."""

import json
import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from leadscrub_pipeline.deployment import open_ledger, open_warehouse
from leadscrub_pipeline.domain.people import KEY_RULES, Person, person_key
from leadscrub_pipeline.domain.scripts import find_script
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.steps.rebuilding import rebuild_person_cache
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.contacts import STAGED, ContactStage
from leadscrub_pipeline.warehouse.leads import LeadSelection
from leadscrub_pipeline.warehouse.schema import (
    ENRICHED_CONTACTS,
    MASTER,
    PERSON_CACHE,
    PHONE_VERDICTS,
    RAW_LEADS,
    SCRUB_EVIDENCE,
    TABLES,
)
from leadscrub_pipeline.warehouse.slices import read_slice
from leadscrub_pipeline_tests.children import Kill, Order, Report, environment, scrub
from leadscrub_pipeline_tests.command_line import leadscrub
from leadscrub_pipeline_tests.graph import Graph, graph_in, people

HER = ("Zyxmarie", "Quandlesworth", "77 Larkspur Terrace", "Springfield", "IL", "62704")
HER_ARGUMENTS = ("--first-name", HER[0], "--last-name", HER[1], "--address", HER[2], "--zip", HER[5])
KEY = person_key(Person(*HER))
EVIDENCE_COLUMNS = ", ".join(SCRUB_EVIDENCE.column_names)


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch) as made:
        made.write_source("LEADS_DB.PUBLIC.LEADS", [HER, *people(4), ("Zyxmarie", "Quandlesworth", "", "", "", "")])
        yield made


def run(graph: Graph, key: str = "leads", **config: object) -> Report:
    report = scrub(Order(key, f"run-{datetime.now(UTC).timestamp()}", environment(), config=config))
    assert report.ok, (report.failure, report.defect)
    return report


def her_row(graph: Graph) -> dict[str, Any]:
    return next(row for row in graph.master() if row["last_name"] == HER[1])


def scrubbed_with_phones(graph: Graph) -> dict[str, Any]:
    """Her row after a run in which the vendor knew phones of hers."""
    run(graph)
    row = her_row(graph)
    assert row["phone_1"] is not None, "the simulator's answer for her name has a phone"
    return row


# --- export -------------------------------------------------------------------------------


def test_an_export_holds_everything_about_her_and_nothing_about_others(graph: Graph, tmp_path: Path) -> None:
    row = scrubbed_with_phones(graph)
    path = tmp_path / "her.json"
    path.write_text("older")
    path.chmod(0o644)
    answer = leadscrub("person", "export", *HER_ARGUMENTS, "--output", path)
    assert answer.code == 0, answer.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = json.loads(path.read_text())
    assert found["person_keys"] == [KEY]
    assert found["record_ids"] == [row["record_id"]]
    assert found["erased_at"] is None
    assert [lookup["state"] for lookup in found["ledger"]] == ["hit"]
    assert "result" in found["ledger"][0]["answer"]
    tables = found["warehouse"]
    assert [master["phone_1"] for master in tables["MASTER_PROCESSED_DB"]] == [row["phone_1"]]
    assert len(tables["RAW_LEADS"]) == len(tables["ENRICHED_CONTACTS"]) == len(tables["PERSON_CACHE"]) == 1
    assert len(tables["REJECTED_LEADS"]) == 1
    assert {evidence["phone"] for evidence in tables["SCRUB_EVIDENCE"]} >= {row["phone_1"]}
    assert {verdict["source"] for verdict in tables["PHONE_VERDICTS"]} == {"ccc", "dnc"}
    assert "Main Street" not in path.read_text(), "the others live there"


@pytest.mark.parametrize("way", ["record", "phone", "name"])
def test_she_is_found_by_record_phone_and_name_alike(graph: Graph, way: str) -> None:
    row = scrubbed_with_phones(graph)
    arguments = {
        "record": ("--record-id", row["record_id"]),
        "phone": ("--phone", f"({row['phone_1'][:3]}) {row['phone_1'][3:6]}-{row['phone_1'][6:]}"),
        "name": ("--first-name", "ZYXMARIE ", "--last-name", HER[1], "--address", "77 larkspur ter.", "--zip", HER[5]),
    }[way]
    assert leadscrub("person", "export", *arguments).json["person_keys"] == [KEY]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Say who in one way"),
        (("--record-id", "x", "--phone", "2125550101"), "Say who in one way"),
        (("--record-id", "nobody"), "No row of the master table"),
        (("--phone", "2125550101"), "No published row has this phone"),
        (("--phone", "12"), "no telephone number"),
        (("--first-name", "Ada"), "no_last_name"),
    ],
)
def test_nobody_is_taken_for_another(graph: Graph, arguments: tuple[str, ...], says: str) -> None:
    run(graph)
    for command in (("export",), ("erase", "--yes")):
        answer = leadscrub("person", *command, *arguments)
        assert (answer.code, says in answer.err) == (2, True), answer.err


def test_a_phone_of_several_people_says_nobody(graph: Graph) -> None:
    row = scrubbed_with_phones(graph)
    other = next(other for other in graph.master() if other["last_name"] != HER[1])
    share_phone(graph, row["phone_1"], other["record_id"])
    answer = leadscrub("person", "erase", "--yes", "--phone", row["phone_1"])
    assert answer.code == 2
    assert row["record_id"] in answer.err
    assert other["record_id"] in answer.err
    assert row["phone_1"] not in answer.err
    assert her_row(graph) == row


def share_phone(graph: Graph, phone: str, record_id: str) -> None:
    with graph.warehouse() as session:
        session.execute(f"UPDATE {MASTER.full_name} SET phone_3 = ? WHERE record_id = ?", [phone, record_id])


# --- erasure ------------------------------------------------------------------------------


def everything_but_evidence(graph: Graph) -> str:
    """All rows of all tables as one text, in which nothing of hers may be found."""
    tables = [table for table in TABLES if table is not SCRUB_EVIDENCE]
    return repr([graph.rows(f"SELECT * FROM {table.full_name}") for table in tables])


def test_nothing_of_her_is_left_and_everybody_else_is_as_before(graph: Graph) -> None:
    row = scrubbed_with_phones(graph)
    others = [other for other in graph.master() if other["record_id"] != row["record_id"]]
    evidence = graph.rows(f"SELECT {EVIDENCE_COLUMNS} FROM {SCRUB_EVIDENCE.full_name} ORDER BY ALL")
    text = everything_but_evidence(graph)
    hers = [value for value in (*HER[:3], *(row[f"phone_{i}"] for i in (1, 2, 3)), row["email_1"]) if value]
    assert all(value in text for value in hers), "she was there"
    answer = leadscrub("person", "erase", "--yes", "--json", *HER_ARGUMENTS)
    assert answer.code == 0, answer.err
    assert answer.json["answers"] == 1
    text = everything_but_evidence(graph)
    assert [value for value in hers if value in text] == []
    master = graph.master()
    assert [other for other in master if other["record_id"] != row["record_id"]] == others
    blank = next(other for other in master if other["record_id"] == row["record_id"])
    assert [blank[name] for name in ("phone_1", "in_litigator_list", "phone_1_in_dnc", "last_name")] == [None] * 4
    assert graph.rows(f"SELECT {EVIDENCE_COLUMNS} FROM {SCRUB_EVIDENCE.full_name} ORDER BY ALL") == evidence
    with graph.ledger() as ledger:
        (lookup,) = ledger.upkeep.history([KEY])
        assert (lookup["state"], lookup["answer"], lookup["cost_micros"] > 0) == ("hit", None, True)


def test_her_bytes_are_gone_from_the_ledgers_files(graph: Graph) -> None:
    run(graph)
    with graph.ledger() as ledger:
        ledger.upkeep.history([KEY])
        sealed = raw_answers(graph)[KEY]
    ledger_files = list(graph.home.glob("ledger.sqlite*"))
    assert any(sealed in path.read_bytes() for path in ledger_files)
    leadscrub("person", "erase", "--yes", *HER_ARGUMENTS)
    assert not any(sealed in path.read_bytes() for path in graph.home.glob("ledger.sqlite*"))


def raw_answers(graph: Graph) -> dict[str, bytes]:
    with sqlite3.connect(graph.home / "ledger.sqlite") as connection:
        rows = connection.execute("SELECT person_key, answer FROM ledger_lookups WHERE answer IS NOT NULL").fetchall()
    connection.close()
    return dict(rows)


def test_she_is_never_asked_about_again_and_her_answer_never_serves(graph: Graph) -> None:
    run(graph)
    billed = graph.billed
    leadscrub("person", "erase", "--yes", *HER_ARGUMENTS)
    counts = run(graph).counts
    assert (counts["already_processed"], counts["kept"]) == (5, 0)
    report = run(graph, already_processed="include")
    assert report.metadata["enriched_contacts"]["deferred_or_held_by_reason"] == {"erased": 1}
    assert report.counts["held"] == 1
    assets = ("raw_leads", "enriched_contacts")
    later = scrub(Order("leads", "run-later", environment(), assets=assets, clock=timedelta(days=2000)))
    assert later.ok, (later.failure, later.defect)
    assert later.counts["already_processed"] == 1, "she alone; the others' time is over"
    assert graph.billed == billed + 4


def test_her_phones_may_no_longer_be_called_and_a_shared_one_stays_the_others(graph: Graph) -> None:
    row = scrubbed_with_phones(graph)
    phones = [row[f"phone_{i}"] for i in (1, 2, 3) if row[f"phone_{i}"]]
    other = next(o for o in graph.master() if o["last_name"] != HER[1] and o["in_litigator_list"] is False)
    shared = phones[0]
    share_phone(graph, shared, other["record_id"])
    callable_before = graph.callable_phones()
    leadscrub("person", "erase", "--yes", "--record-id", row["record_id"])
    after = graph.callable_phones()
    assert after == callable_before - set(phones[1:])
    verdicts = {phone for (phone,) in graph.rows(f"SELECT phone FROM {PHONE_VERDICTS.full_name}")}
    assert shared in verdicts
    assert verdicts.isdisjoint(phones[1:])


def test_erasing_again_is_safe_also_by_record_id(graph: Graph) -> None:
    row = scrubbed_with_phones(graph)
    leadscrub("person", "erase", "--yes", "--record-id", row["record_id"])
    before = everything_but_evidence(graph)
    answer = leadscrub("person", "erase", "--yes", "--json", "--record-id", row["record_id"])
    assert (answer.code, answer.json["answers"]) == (0, 0), answer.err
    assert everything_but_evidence(graph) == before
    assert leadscrub("person", "export", "--record-id", row["record_id"]).json["erased_at"] is not None


def test_after_a_crash_between_ledger_and_warehouse_it_is_finished_by_doing_it_again(graph: Graph) -> None:
    row = scrubbed_with_phones(graph)
    with graph.ledger() as ledger:
        ledger.upkeep.erase({KEY: 1})
    counts = run(graph, already_processed="include").counts
    assert counts["held"] == 1, "the ledger bars her already"
    assert leadscrub("person", "erase", "--yes", *HER_ARGUMENTS).code == 0
    text = everything_but_evidence(graph)
    assert not [value for value in (*HER[:3], row["phone_1"]) if value in text]


def test_rows_that_an_older_system_wrote_are_erased_too(graph: Graph) -> None:
    run(graph)
    old = dict.fromkeys(MASTER.column_names) | {
        "first_name": "zyxmarie", "last_name": "QUANDLESWORTH", "address": "77 Larkspur Ter", "zip_code": "62704",
        "phone_1": "2175550142.0",
    }  # fmt: skip
    with graph.warehouse() as session:
        session.load(MASTER.full_name, to_table([old], arrow_schema(MASTER)))
    leadscrub("person", "erase", "--yes", *HER_ARGUMENTS)
    text = everything_but_evidence(graph).lower()
    assert "quandlesworth" not in text
    assert "2175550142" not in text


def test_who_runs_meanwhile_does_not_write_her_again(graph: Graph) -> None:
    """The contacts were gathered before the erasure and are published after it."""
    first = scrub(Order("leads", "run-1", environment(), kill=Kill("contacts.staged")))
    assert first.killed
    stages = graph.rows(
        "SELECT table_name FROM information_schema.tables WHERE UPPER(table_name) LIKE 'STAGE_CONTACTS_%'"
    )
    assert len(stages) == 1
    assert leadscrub("person", "erase", "--yes", *HER_ARGUMENTS).code == 0
    stage = f"PROCESSED_DATA_DB.LEADSCRUB.{stages[0][0]}"
    columns = "outcome, reason, phone_1, email_1, contact"
    staged = graph.rows(f"SELECT {columns} FROM {stage} WHERE person_key = ?", [KEY])
    assert staged == [("held", "erased", None, None, None)]
    run(graph)
    assert not [row for row in graph.master() if row["last_name"] == HER[1]]


def test_an_answer_in_hand_is_not_published_after_an_erasure(graph: Graph) -> None:
    row: dict[str, object] = dict.fromkeys(STAGED) | {"lead_number": 1, "person_key": KEY, "reused": False}
    row |= {"outcome": "hit", "reason": "name", "phone_1": "2175550142", "contact": "{}"}
    now = datetime.now(UTC)
    row |= {"looked_up_at": now, "expires_at": now + timedelta(days=180)}
    assert scrub(Order("leads", "run-1", environment(), assets=("raw_leads",))).ok
    warehouse = open_warehouse(load_settings())
    stage = ContactStage(warehouse, "leads")
    leadscrub("person", "erase", "--yes", *HER_ARGUMENTS)
    stage.append([row])
    with warehouse.session() as session:
        leads = read_slice(session, RAW_LEADS, "leads")
    stage.publish(leads, "run-1", key_version=1, details={}, now=now)
    found = graph.rows(f"SELECT outcome, phone_1, contact FROM {ENRICHED_CONTACTS.full_name}")
    assert found == [("held", None, None)]
    assert graph.rows(f"SELECT outcome FROM {PERSON_CACHE.full_name} WHERE person_key = ?", [KEY]) == [("erased",)]


def test_it_asks_before_it_erases(graph: Graph) -> None:
    run(graph)
    answer = leadscrub("person", "erase", *HER_ARGUMENTS)
    assert answer.code == 2
    assert "--yes" in answer.err
    assert her_row(graph)


def test_at_a_terminal_the_word_itself_must_be_typed(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    run(graph)
    monkeypatch.setattr("leadscrub_pipeline.cli.person.stdin_is_terminal", lambda: True)
    refused = leadscrub("person", "erase", *HER_ARGUMENTS, stdin="yes\n")
    assert refused.code == 2
    assert "nothing was erased" in refused.err
    assert her_row(graph)["address"] == HER[2]
    erased = leadscrub("person", "erase", *HER_ARGUMENTS, stdin="erase\n")
    assert erased.code == 0, erased.err
    assert HER[1] not in {row["last_name"] for row in graph.master()}


def test_help_says_what_is_kept_and_what_backups_still_hold() -> None:
    text = " ".join(leadscrub("person", "erase", "--help").out.split())
    for word in ("16 CFR 310.5", "backups", "VACUUM", "evidence"):
        assert word in text


def test_who_was_erased_under_an_older_key_stays_barred_under_a_new_one(graph: Graph) -> None:
    run(graph)
    leadscrub("person", "erase", "--yes", *HER_ARGUMENTS)
    rules = {1: KEY_RULES[1], 2: lambda person: f"2{KEY_RULES[1](person)[1:]}"}
    settings = load_settings()
    warehouse = open_warehouse(settings)
    script = find_script(settings.leadscrub_scripts, "leads")
    with warehouse.session(scripts=True) as session:
        selection = LeadSelection(
            session,
            warehouse.dialect,
            script,
            now=datetime.now(UTC),
            filter_in_sql=False,
            key_rules=rules,
            key_version=2,
        )
        selection.run()
        kept = {key for (key,) in session.rows(f"SELECT person_key FROM {selection.kept}")}
    assert KEY not in kept
    assert len(kept) == 4, "the others have new keys, and she alone is known by the old one"


def test_a_rebuild_keeps_her_barred(graph: Graph) -> None:
    run(graph)
    leadscrub("person", "erase", "--yes", *HER_ARGUMENTS)
    before = sorted(graph.rows(f"SELECT * FROM {PERSON_CACHE.full_name}"), key=repr)
    warehouse = open_warehouse(load_settings())
    with open_ledger(load_settings()) as ledger, warehouse.session() as session:
        assert rebuild_person_cache(session, warehouse.dialect, ledger).changed == 0
    assert sorted(graph.rows(f"SELECT * FROM {PERSON_CACHE.full_name}"), key=repr) == before
