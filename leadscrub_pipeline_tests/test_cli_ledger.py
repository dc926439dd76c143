"""``leadscrub ledger``: the sums a controller compares with the bill, and what becomes of suspect misses."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from leadscrub_pipeline.ledger import Cached, Held, Ledger, LookupTerms, Settlement, ToAsk
from leadscrub_pipeline_tests.command_line import demo_settings, leadscrub
from leadscrub_pipeline_tests.ledger_support import FAILED, HIT, MISS, NOON, TERMS, UNKNOWN, Clock, claim_ids, keys


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
