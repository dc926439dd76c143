"""``leadscrub ledger``: the sums a controller compares with the bill, and what becomes of suspect misses."""

import asyncio
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from leadscrub_pipeline.ledger import Cached, Held, Ledger, LookupTerms, Settlement, ToAsk, tables
from leadscrub_pipeline_tests.command_line import demo_settings, leadscrub
from leadscrub_pipeline_tests.ledger_support import (
    FAILED,
    HIT,
    KEY,
    MISS,
    NOON,
    TERMS,
    UNKNOWN,
    Clock,
    claim_ids,
    keys,
    send,
)
from leadscrub_pipeline_tests.ledger_support import settle as settle_ids


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    demo_settings(monkeypatch, tmp_path)
    return tmp_path / "home" / "ledger.sqlite"


def settle(ledger: Ledger, people: list[str], how: Settlement, terms: LookupTerms = TERMS) -> None:
    async def _settle() -> None:
        writer = ledger.writer()
        for lookup_id in claim_ids(ledger, people, terms):
            await writer.mark_sent(lookup_id)
            await writer.settle(lookup_id, how)

    asyncio.run(_settle())


def lookups_of(ledger: Ledger) -> Sequence[Any]:
    with ledger._database.reading() as connection:
        return connection.execute(select(tables.lookups)).all()


@pytest.fixture
def spent(path: Path) -> Path:
    """Two hits, a miss, a failure and an unknown of one script; the next day a hit of another."""
    clock = Clock()
    with Ledger.open(path, kind="demo", clock=clock) as ledger:
        for people, how in ((keys(2), HIT), (keys(1, 2), MISS), (keys(1, 3), FAILED), (keys(1, 4), UNKNOWN)):
            settle(ledger, people, how)
        clock.turn(days=1)
        settle(ledger, keys(1, 5), HIT, replace(TERMS, run_id="run-2", partition_key="script_b"))
    return path


def test_a_summary_tells_requests_and_dollars_and_where_the_bill_lies(spent: Path) -> None:
    found = leadscrub("ledger", "summary", "--json").json
    assert (found["requests"], found["cost"], found["unknown_cost"]) == (6, "1.00", "0.25")
    assert found["bill"] == {"at_least": "1.00", "at_most": "1.25"}
    assert found["outcomes"] == {"failed": 1, "hit": 3, "miss": 1, "unknown": 1}
    assert {(row["script"], row["day"], row["outcome"], row["requests"], row["cost"]) for row in found["rows"]} == {
        ("script_a", "2026-11-21", "hit", 2, "0.50"),
        ("script_a", "2026-11-21", "miss", 1, "0.25"),
        ("script_a", "2026-11-21", "failed", 1, "0.00"),
        ("script_a", "2026-11-21", "unknown", 1, "0.00"),
        ("script_b", "2026-11-22", "hit", 1, "0.25"),
    }
    shown = leadscrub("ledger", "summary")
    assert "between 1.00 and 1.25 dollars" in shown.err
    assert "script_b" in shown.out


@pytest.mark.parametrize(
    ("arguments", "requests"),
    [
        (("--since", "2026-11-22"), 1),
        (("--until", "2026-11-22"), 5),
        (("--since", "2026-11-21T12:00:00", "--until", "2026-11-21T07:00:01-05:00"), 5),
        (("--since", "2027-01-01"), 0),
    ],
)
def test_a_summary_may_be_of_some_time_only(spent: Path, arguments: tuple[str, ...], requests: int) -> None:
    assert leadscrub("ledger", "summary", "--json", *arguments).json["requests"] == requests


def test_a_span_that_ends_before_it_begins_is_a_usage_error(spent: Path) -> None:
    assert leadscrub("ledger", "summary", "--since", "2026-11-22", "--until", "2026-11-22").code == 2


def test_without_a_ledger_nothing_was_spent_and_none_is_made(path: Path) -> None:
    answer = leadscrub("ledger", "summary", "--json")
    assert (answer.code, answer.json["requests"], answer.json["cost"]) == (0, 0, "0.00")
    assert "No lookups yet." in leadscrub("ledger", "summary").err
    assert not path.exists()


def test_a_broken_ledger_is_unavailable_and_no_traceback(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    assert leadscrub("ledger", "summary").code == 3


@pytest.fixture
def suspects(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with Ledger.open(path, kind="demo", clock=lambda: NOON) as ledger:
        settle(ledger, keys(3), MISS)
        assert ledger.suspect_misses(TERMS) == 3
    return path


def standings(path: Path) -> set[type]:
    with Ledger.open(path, kind="demo", clock=lambda: NOON) as ledger:
        return {type(standing) for standing in ledger.peek(keys(3), TERMS).values()}


@pytest.mark.parametrize(("decision", "after"), [("--believe", Cached), ("--discard", ToAsk)])
def test_suspect_misses_serve_again_or_are_asked_about_again(suspects: Path, decision: str, after: type) -> None:
    assert standings(suspects) == {Held}
    answer = leadscrub("ledger", "release-suspects", decision, "--json")
    assert answer.json == {"believed" if decision == "--believe" else "discarded": 3}
    assert standings(suspects) == {after}
    assert "0 suspect misses" in leadscrub("ledger", "release-suspects", decision).err


def test_what_becomes_of_suspects_must_be_said(suspects: Path) -> None:
    answer = leadscrub("ledger", "release-suspects")
    assert answer.code == 2
    assert "--discard" in answer.err
    assert standings(suspects) == {Held}


def test_suspects_of_another_address_stay(suspects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDICORE_SEARCH_URL", "http://127.0.0.1:9/other")
    assert leadscrub("ledger", "release-suspects", "--believe", "--json").json == {"believed": 0}
    assert standings(suspects) == {Held}


# --- reuse ------------------------------------------------------------------------------------


def test_a_summary_shows_who_was_served_by_whose_lookups_and_what_that_saved(spent: Path) -> None:
    assert leadscrub("ledger", "summary", "--json").json["reused"] == {"leads": 0, "saved": "0.00", "rows": []}
    assert "paid before" not in leadscrub("ledger", "summary").out
    with Ledger.open(spent, kind="demo", clock=lambda: NOON) as ledger:
        ledger.claim(keys(3), replace(TERMS, run_id="run-3", partition_key="script_c"))
    found = leadscrub("ledger", "summary", "--json").json
    row = {"script": "script_c", "paid_by": "script_a", "day": "2026-11-21", "leads": 3, "saved": "0.75"}
    assert found["reused"] == {"leads": 3, "saved": "0.75", "rows": [row]}
    assert found["cost"] == "1.00", "the first payer bears it, once"
    shown = leadscrub("ledger", "summary").out
    assert "paid before" in shown
    assert "script_c" in shown


# --- unknown outcomes ---------------------------------------------------------------------------


@pytest.fixture
def unknowns(path: Path) -> list[str]:
    """Two unknown outcomes of one script, and an hour later one of another."""
    clock = Clock()
    with Ledger.open(path, kind="demo", clock=clock) as ledger:
        found = claim_ids(ledger, keys(2))
        send(ledger, *found)
        settle_ids(ledger, UNKNOWN, *found)
        clock.turn(hours=1)
        later = claim_ids(ledger, keys(1, 2), replace(TERMS, run_id="run-2", partition_key="script_b"))
        send(ledger, *later)
        settle_ids(ledger, UNKNOWN, *later)
    return [*sorted(found), *later]


def test_unknown_outcomes_are_listed_with_what_the_vendor_knows_them_by(
    unknowns: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The unknowns are of a time that may be long ago.
    monkeypatch.setenv("IDICORE_CACHE_DAYS", "36500")
    found = leadscrub("ledger", "unknown", "list", "--json").json
    assert [row["lookup_id"] for row in found] == unknowns
    assert found[2] == {
        "lookup_id": unknowns[2],
        "sent_at": "2026-11-21T13:00:00Z",
        "script": "script_b",
        "run_id": "run-2",
        "reason": "read_timeout",
        "price": "0.25",
        "repeats_left": 1,
    }
    shown = leadscrub("ledger", "unknown", "list")
    assert unknowns[0] in shown.out
    assert "3 requests, at most 0.75 dollars" in shown.err
    monkeypatch.setenv("IDICORE_UNKNOWN_POLICY", "hold")
    assert {row["repeats_left"] for row in leadscrub("ledger", "unknown", "list", "--json").json} == {0}


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("--script", "script_a"), 2),
        (("--run", "run-2"), 1),
        (("--since", "2026-11-21T13:00"), 1),
        (("--until", "2026-11-21T13:00"), 2),
        (("--script", "none"), 0),
    ],
)
def test_unknown_outcomes_of_some_are_listed(unknowns: list[str], arguments: tuple[str, ...], count: int) -> None:
    assert len(leadscrub("ledger", "unknown", "list", "--json", *arguments).json) == count


def test_without_unknown_outcomes_the_list_says_so(path: Path) -> None:
    assert leadscrub("ledger", "unknown", "list", "--json").json == []
    assert "No requests of unknown outcome." in leadscrub("ledger", "unknown", "list").err
    assert leadscrub("ledger", "unknown", "list", "--since", "2026-11-22", "--until", "2026-11-22").code == 2
    assert not path.exists()


def test_unknown_outcomes_are_resolved_by_id_or_by_time(unknowns: list[str]) -> None:
    resolve = ("ledger", "unknown", "resolve")
    assert leadscrub(*resolve, unknowns[2], "--billed", "--json").json == {"billed": 1}
    summary = leadscrub("ledger", "summary", "--json").json
    assert (summary["cost"], summary["unknown_cost"]) == ("0.25", "0.50")
    assert leadscrub(*resolve, "--all-before", "2026-11-21T12:00", "--not-billed", "--json").json == {"not_billed": 0}
    answer = leadscrub(*resolve, "--all-before", "2026-11-21T14:00", "--not-billed")
    assert "2 requests resolved as not billed." in answer.err
    summary = leadscrub("ledger", "summary", "--json").json
    assert (summary["cost"], summary["unknown_cost"]) == ("0.25", "0.00")
    assert leadscrub("ledger", "unknown", "list", "--json").json == []


def test_resolving_wants_to_know_which_and_how(unknowns: list[str]) -> None:
    for arguments in ((unknowns[0],), ("--billed",), (unknowns[0], "--all-before", "2027-01-01", "--billed")):
        assert leadscrub("ledger", "unknown", "resolve", *arguments).code == 2
    answer = leadscrub("ledger", "unknown", "resolve", "no-such-lookup", "--billed")
    assert (answer.code, "no-such-lookup" in answer.err) == (2, True)
    assert len(leadscrub("ledger", "unknown", "list", "--json").json) == 3


# --- the invoice ------------------------------------------------------------------------------


@pytest.fixture
def invoice(tmp_path: Path, unknowns: list[str]) -> Path:
    """The first unknown charged, the others not, and a charge for nobody of ours."""
    path = tmp_path / "invoice.csv"
    path.write_text(f"Reference ID,Amount,Date\n{unknowns[0]},0.25,2026-11-21\n=cmd,9.00,2026-11-21\n")
    return path


def test_an_invoice_that_does_not_fit_ends_with_1_and_says_what(invoice: Path, unknowns: list[str]) -> None:
    answer = leadscrub("ledger", "reconcile", invoice, "--json")
    assert answer.code == 1
    found = answer.json
    assert found["counts"] == {"charged_not_asked": 1, "unknown_billed": 1, "unknown_not_billed": 2}
    assert found["invoice"] == {
        "charges": 2,
        "dollars": "9.25",
        "outside_the_period": 0,
        "rejected": {},
        "first_rejected_line": {},
    }
    assert found["ledger"] == {"requests": 3, "cost": "0.00", "unknown_cost": "0.75"}
    assert (found["difference"], found["applied"]) == ("9.25", None)
    assert found["period"] == {"since": "2026-11-21T00:00:00Z", "until": "2026-11-22T00:00:00Z"}
    assert found["findings"][0] == {
        "kind": "charged_not_asked",
        "reference": "=cmd",
        "line": 3,
        "script": None,
        "run_id": None,
        "outcome": None,
        "sent_at": None,
        "charged": "9.00",
        "expected": "0.00",
        "note": None,
    }
    shown = leadscrub("ledger", "reconcile", invoice)
    assert shown.code == 1
    assert unknowns[0] in shown.out
    assert "--apply" in shown.err
    assert "2026-11-21 00:00 UTC to before 2026-11-22 00:00 UTC" in shown.err


def test_applying_settles_what_the_invoice_decides_and_no_more(invoice: Path, unknowns: list[str]) -> None:
    answer = leadscrub("ledger", "reconcile", invoice, "--apply")
    assert answer.code == 1
    assert "1 unknown outcomes as billed, 0 as not billed" in answer.err
    assert "2 are missing from the invoice" in answer.err
    assert len(leadscrub("ledger", "unknown", "list", "--json").json) == 2
    bounds = ("--since", "2026-11-21", "--until", "2026-11-22")
    found = leadscrub("ledger", "reconcile", invoice, "--apply", "--json", *bounds)
    assert (found.code, found.json["applied"]) == (1, {"billed": 0, "not_billed": 2})
    assert leadscrub("ledger", "unknown", "list", "--json").json == []
    found = leadscrub("ledger", "reconcile", invoice, "--json", *bounds)
    assert (found.code, found.json["counts"]) == (1, {"charged_not_asked": 1})
    assert found.json["difference"] == "9.00"


def test_an_invoice_whose_only_findings_were_settled_ends_with_0(tmp_path: Path, unknowns: list[str]) -> None:
    path = tmp_path / "invoice.csv"
    path.write_text("id,paid,day\n" + "".join(f"{lookup_id},0.25,2026-11-21\n" for lookup_id in unknowns))
    named = ("--column-reference", "id", "--column-amount", "paid", "--column-date", "day")
    assert leadscrub("ledger", "reconcile", path, *named).code == 1
    assert leadscrub("ledger", "reconcile", path, *named, "--apply").code == 0
    answer = leadscrub("ledger", "reconcile", path, *named)
    assert (answer.code, "No findings." in answer.err) == (0, True)


def test_rows_that_cannot_be_read_are_told_and_end_with_1(tmp_path: Path, path: Path) -> None:
    with Ledger.open(path, kind="demo", clock=lambda: NOON) as ledger:
        settle(ledger, keys(1), HIT)
        (lookup_id,) = [row.lookup_id for row in lookups_of(ledger)]
    invoice = tmp_path / "invoice.csv"
    invoice.write_text(f"reference,amount\n{lookup_id},0.25\n{lookup_id},free\n")
    answer = leadscrub("ledger", "reconcile", invoice)
    assert answer.code == 1
    assert "1 rows could not be read (no_amount), the first in line 3." in answer.err
    invoice.write_text(f"reference,amount\n{lookup_id},0.25\n")
    assert leadscrub("ledger", "reconcile", invoice).code == 0


def test_all_findings_go_to_a_file_that_no_spreadsheet_runs(invoice: Path, tmp_path: Path) -> None:
    output = tmp_path / "findings.csv"
    answer = leadscrub("ledger", "reconcile", invoice, "--output", output, "--limit", "1")
    assert "The first 1 of 4 findings" in answer.err
    assert output.stat().st_mode & 0o777 == 0o600
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == [
        "charged_not_asked",
        "unknown_billed",
        "unknown_not_billed",
        "unknown_not_billed",
    ]
    assert (rows[0]["reference"], rows[0]["charged"], rows[0]["line"]) == ("'=cmd", "9.000000", "3")
    assert (rows[1]["sent_at"], rows[1]["script"]) == ("2026-11-21T12:00:00Z", "script_a")
    assert leadscrub("ledger", "reconcile", invoice, "--json", "--limit", "0").json["findings"] == []


def test_misses_that_were_charged_are_said_and_found_only_when_they_are_free(tmp_path: Path, path: Path) -> None:
    with Ledger.open(path, kind="demo", clock=lambda: NOON) as ledger:
        settle(ledger, keys(1), MISS)
        (lookup_id,) = [row.lookup_id for row in lookups_of(ledger)]
    invoice = tmp_path / "invoice.csv"
    invoice.write_text(f"reference,amount\n{lookup_id},0.25\n")
    answer = leadscrub("ledger", "reconcile", invoice)
    assert (answer.code, "1 charges (0.25 dollars) are for misses" in answer.err) == (0, True)
    found = leadscrub("ledger", "reconcile", invoice, "--misses-are-free", "--json")
    assert (found.code, found.json["counts"]) == (1, {"charged_for_a_miss": 1})


def test_an_invoice_needs_a_file_a_sound_span_and_a_ledger(tmp_path: Path, path: Path) -> None:
    invoice = tmp_path / "invoice.csv"
    assert leadscrub("ledger", "reconcile", invoice).code == 2
    invoice.write_text("reference,amount\n")
    assert leadscrub("ledger", "reconcile", invoice).code == 3
    assert leadscrub("ledger", "reconcile", invoice, "--since", "2026-11-22", "--until", "2026-11-21").code == 2
    assert not path.exists()


# --- backups ----------------------------------------------------------------------------------


def test_a_backup_says_which_key_it_needs_and_does_not_hold_it(spent: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.sqlite"
    made = leadscrub("ledger", "backup", file, "--json").json
    assert (made["file"], made["lookups"]) == (str(file), 6)
    assert made["key_needed"] == f"the key file {spent}.key"
    assert Path(f"{spent}.key").read_bytes() not in file.read_bytes()
    refused = leadscrub("ledger", "backup", file)
    assert (refused.code, "--force" in refused.err) == (2, True)
    answer = leadscrub("ledger", "backup", file, "--force")
    assert "6 lookups" in answer.err
    assert "ledger.sqlite.key" in answer.err


def test_a_backup_with_a_configured_key_names_the_setting(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LEADSCRUB_ANSWER_KEY", KEY)
    with Ledger.open(path, kind="demo", answer_keys=[KEY]):
        pass
    assert "LEADSCRUB_ANSWER_KEY" in leadscrub("ledger", "backup", tmp_path / "b", "--json").json["key_needed"]


def test_a_restore_brings_back_the_sums_and_says_what_may_be_lost(spent: Path, tmp_path: Path) -> None:
    before = leadscrub("ledger", "summary", "--json").json
    file = tmp_path / "backup.sqlite"
    leadscrub("ledger", "backup", file)
    refused = leadscrub("ledger", "restore", file)
    assert (refused.code, "--merge" in refused.err) == (4, True)
    for gone in spent.parent.glob("ledger.sqlite*"):
        if gone.suffix != ".key":
            gone.unlink()
    answer = leadscrub("ledger", "restore", file)
    assert answer.code == 0
    assert "6 lookups added" in answer.err
    assert "paid for, again" in answer.err
    assert "leadscrub ledger reconcile INVOICE.csv --since 20" in answer.err
    assert leadscrub("ledger", "summary", "--json").json == before
    merged = leadscrub("ledger", "restore", file, "--merge", "--json").json
    assert (merged["added"], merged["updated"], merged["seals"]) == (0, 0, 0)
    assert merged["backed_up_at"] is not None


def test_a_restore_without_the_key_is_refused_by_name(spent: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.sqlite"
    leadscrub("ledger", "backup", file)
    for gone in spent.parent.glob("ledger.sqlite*"):
        gone.unlink()
    answer = leadscrub("ledger", "restore", file)
    assert answer.code == 4
    assert "does not fit" in answer.err


def test_there_is_nothing_to_back_up_before_the_first_run(path: Path, tmp_path: Path) -> None:
    assert leadscrub("ledger", "backup", tmp_path / "backup.sqlite").code == 3
    assert leadscrub("ledger", "restore", tmp_path / "backup.sqlite").code == 2
