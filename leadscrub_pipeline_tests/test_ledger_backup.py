"""A ledger in a file, and back: nothing that either side knows is forgotten, and nobody is paid for twice."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

import sqlite3
import stat
import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import delete, insert, inspect, select, update

from leadscrub_pipeline.errors import RefusedError, UnavailableError, UsageError
from leadscrub_pipeline.ledger import Busy, Cached, Capped, Claimed, Held, Ledger, ToAsk, restoring, tables
from leadscrub_pipeline.ledger.restoring import NOT_RESTORED, finality, worth
from leadscrub_pipeline.ledger.units import time_to_micros
from leadscrub_pipeline.ledger.unknowns import Repeats, Wanted
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    ANSWER,
    BOTH,
    FAILED,
    HIT,
    KEY,
    MISS,
    NOON,
    TERMS,
    UNKNOWN,
    claim_ids,
    clock,
    keys,
    ledger,
    look_up,
    new_postgres_database,
    open_ledger,
    other_run,
    send,
    settle,
    where_one,
)

(JANE,) = keys(1)
HOLD = replace(TERMS, unknown_policy="hold")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "backup.sqlite"


@pytest.fixture
def open_other(tmp_path, clock):
    """Opens a second ledger, empty at first, in a file."""
    opened = []

    def open_it(**changes):
        settings = {"kind": "demo", "answer_keys": [KEY], "clock": clock, "retry_seconds": (0.01,)} | changes
        opened.append(Ledger.open(tmp_path / "other" / "ledger.sqlite", **settings))
        return opened[-1]

    yield open_it
    for one in opened:
        one.close()


@pytest.fixture
def other(open_other):
    return open_other()


def rows(ledger, table=tables.lookups):
    with ledger._database.reading() as connection:
        return [row._asdict() for row in connection.execute(select(table).order_by(*table.primary_key))]


def write(ledger, statement):
    with ledger._database.writing() as connection:
        connection.execute(statement)


def states(ledger):
    return {row["lookup_id"]: row["state"] for row in rows(ledger)}


def lookup(ledger, lookup_id):
    return next(row for row in rows(ledger) if row["lookup_id"] == lookup_id)


# --- the file ---------------------------------------------------------------------------------


@BOTH
def test_a_backup_holds_every_row_of_every_table_and_only_its_owner_can_read_it(ledger, path):
    look_up(ledger, keys(2), HIT)
    look_up(ledger, keys(1, start=2), UNKNOWN)
    ledger.claim(keys(1), other_run())
    ledger.desk.pause("audit")
    made = ledger.desk.back_up(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (made.path, made.lookups) == (path, 3)
    connection = sqlite3.connect(path)
    counted = {
        table.name: connection.execute(f"SELECT COUNT(*) FROM {table.name}").fetchone()[0]
        for table in tables.metadata.sorted_tables
    }
    connection.close()
    expected = {table.name: len(rows(ledger, table)) for table in tables.metadata.sorted_tables}
    assert counted == expected | {"ledger_controls": expected["ledger_controls"] + 1}
    assert made.rows == sum(expected.values())
    assert sorted(file.name for file in path.parent.iterdir() if "backup" in file.name) == ["backup.sqlite"]


def test_answers_stay_sealed_in_a_backup(ledger, path):
    look_up(ledger, [JANE], HIT)
    ledger.desk.back_up(path)
    assert b"555-0123" not in path.read_bytes()


def test_a_backup_is_not_overwritten_unless_it_is_said(ledger, path):
    ledger.desk.back_up(path)
    first = path.read_bytes()
    look_up(ledger, [JANE], HIT)
    with pytest.raises(UsageError, match="--force"):
        ledger.desk.back_up(path)
    assert path.read_bytes() == first
    assert ledger.desk.back_up(path, overwrite=True).lookups == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_ledger_itself_is_never_the_place_of_its_backup(tmp_path, clock):
    file = tmp_path / "ledger.sqlite"
    with Ledger.open(file, kind="demo", clock=clock) as ledger:
        (tmp_path / "link").symlink_to(file)
        for place in (file, tmp_path / "link"):
            with pytest.raises(UsageError, match="the ledger itself"):
                ledger.desk.back_up(place, overwrite=True)


def test_a_folder_that_is_not_there_is_said_and_nothing_is_left_behind(ledger, tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        ledger.desk.back_up(tmp_path / "none" / "backup.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises((UsageError, UnavailableError)):
        ledger.desk.back_up(tmp_path / "folder", overwrite=True)
    assert list((tmp_path / "folder").iterdir()) == []
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


@BOTH
def test_a_backup_is_of_one_moment_while_runs_go_on(open_ledger, path):
    """Each lookup reserves in the same transaction; a backup of two moments would show one without the other."""
    ledger, busy = open_ledger(), open_ledger()
    stop = threading.Event()

    def work():
        number = 0
        while not stop.is_set():
            busy.claim(keys(5, start=number), TERMS)
            number += 5

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(3):
            ledger.desk.back_up(path, overwrite=True)
            connection = sqlite3.connect(path)
            claimed = connection.execute("SELECT COUNT(*) FROM ledger_lookups").fetchone()[0]
            reserved = connection.execute("SELECT SUM(lookups) FROM ledger_budgets WHERE scope LIKE 'run:%'").fetchone()
            connection.close()
            assert claimed == (reserved[0] or 0)
    finally:
        stop.set()
        worker.join()


# --- into an empty ledger ---------------------------------------------------------------------


@BOTH
def test_a_restored_ledger_serves_the_same_answers_and_tells_the_same_sums(ledger, other, path, clock):
    look_up(ledger, keys(2), HIT)
    look_up(ledger, keys(1, start=2), MISS, other_run())
    look_up(ledger, keys(1, start=3), FAILED)
    look_up(ledger, keys(1, start=4), UNKNOWN)
    ledger.claim(keys(1), other_run())
    before = rows(ledger)
    ledger.desk.back_up(path)
    made_at = clock.now
    clock.turn(hours=2)
    result = other.desk.restore(path)
    assert (result.added, result.updated, result.unknown, result.backed_up_at) == (5, 0, 0, made_at)
    assert [row | {"answer": bytes(row["answer"] or b"")} for row in rows(other)] == [
        row | {"answer": bytes(row["answer"] or b"")} for row in before
    ]
    assert other.summary() == ledger.summary()
    for table in (tables.reuses, tables.budgets):
        assert [row for row in rows(other, table) if row["lookups"]] == [
            row for row in rows(ledger, table) if row["lookups"]
        ]
    served = other.claim([JANE], other_run(run_id="run-5"))[JANE]
    assert isinstance(served, Cached)
    assert served.answer == ANSWER


@BOTH
def test_a_backup_of_either_engine_goes_into_either_engine(ledger, new_postgres_database, clock, path):
    look_up(ledger, [JANE], HIT)
    ledger.desk.back_up(path)
    with Ledger.open(new_postgres_database(), kind="demo", answer_keys=[KEY], clock=clock) as other:
        assert other.desk.restore(path).added == 1
        assert other.claim([JANE], other_run())[JANE].answer == ANSWER


def test_what_was_in_flight_becomes_unknown_because_it_may_have_been_sent_later(ledger, other, path, clock):
    claimed, sent = claim_ids(ledger, keys(2), HOLD)
    send(ledger, sent)
    ledger.desk.back_up(path)
    clock.turn(hours=1)
    result = other.desk.restore(path)
    assert (result.added, result.unknown) == (2, 2)
    for lookup_id in (claimed, sent):
        row = lookup(other, lookup_id)
        assert (row["state"], row["reason"], row["cost_micros"], row["is_current"]) == (
            "unknown",
            "restored",
            None,
            True,
        )
        assert row["settled_at"] - row["sent_at"] == 3_600_000_000
    assert rows(other, tables.owners) == []
    assert other.claim(keys(2), HOLD) == dict.fromkeys(keys(2), Held("unknown_outcome"))
    repeats = Repeats(allowed=0, within_days=180, across_purposes=False)
    assert {unknown.lookup_id for unknown in other.desk.unknowns(Wanted(), repeats)} == {claimed, sent}


def test_caps_count_what_was_restored(ledger, other, path):
    look_up(ledger, keys(2), HIT)
    look_up(ledger, keys(1, start=2), UNKNOWN)
    look_up(ledger, keys(4, start=3), FAILED)
    ledger.desk.back_up(path)
    other.desk.restore(path)
    assert {row["scope"]: (row["lookups"], row["micros"]) for row in rows(other, tables.budgets)} == {
        "run:run-1": (3, 750_000),
        "day:2026-11-21": (3, 750_000),
    }
    person = keys(1, start=20)[0]
    budget = other_run(daily_budget=Decimal("0.75"))
    assert other.claim([person], budget)[person] == Capped("daily_budget")
    assert isinstance(other.claim([person], replace(budget, daily_budget=Decimal("1.00")))[person], Claimed)


def test_a_pause_comes_back_with_the_backup_into_an_empty_ledger_only(ledger, open_other, path):
    ledger.desk.pause("audit")
    ledger.desk.back_up(path)
    other = open_other()
    look_up(other, [JANE], HIT)
    other.desk.restore(path, merge=True)
    assert other.desk.paused() is None
    write(other, delete(tables.lookups))
    other.desk.restore(path)
    assert other.desk.paused().reason == "audit"


def test_the_mark_of_a_backup_is_not_carried_into_the_ledger(ledger, other, path):
    ledger.desk.back_up(path)
    other.desk.restore(path)
    assert {row["name"] for row in rows(other, tables.controls)} == {"key_version"}


def test_a_plain_copy_of_a_ledgers_file_can_be_restored_and_its_newest_request_dates_it(tmp_path, other, clock):
    file = tmp_path / "copied.sqlite"
    with Ledger.open(file, kind="demo", answer_keys=[KEY], clock=clock) as ledger:
        (lookup_id,) = claim_ids(ledger, [JANE])
        clock.turn(seconds=1)
        send(ledger, lookup_id)
        clock.turn(seconds=1)
        settle(ledger, HIT, lookup_id)
    newest = clock.now
    clock.turn(days=1)
    result = other.desk.restore(file)
    assert (result.added, result.backed_up_at) == (1, newest)


def test_an_empty_backup_has_no_date_of_requests(tmp_path, other):
    file = tmp_path / "copied.sqlite"
    Ledger.open(file, kind="demo", answer_keys=[KEY]).close()
    assert other.desk.restore(file).backed_up_at is None


# --- refusals -----------------------------------------------------------------------------------


def test_a_ledger_that_has_lookups_is_not_mixed_by_mistake(ledger, other, path):
    ledger.desk.back_up(path)
    look_up(other, [JANE], HIT)
    before = rows(other)
    with pytest.raises(RefusedError, match="--merge"):
        other.desk.restore(path)
    assert rows(other) == before


def test_a_backup_of_the_other_kind_is_refused(tmp_path, ledger, path):
    ledger.desk.back_up(path)
    with Ledger.open(tmp_path / "live.sqlite", kind="live", answer_keys=[KEY]) as live:
        with pytest.raises(RefusedError, match=r"backup does not fit.*stamped demo"):
            live.desk.restore(path)
        assert rows(live) == []


def test_a_backup_whose_key_is_missing_is_refused(ledger, open_other, path):
    look_up(ledger, [JANE], HIT)
    ledger.desk.back_up(path)
    stranger = open_other(answer_keys=[Fernet.generate_key().decode()])
    with pytest.raises(RefusedError, match=r"backup does not fit.*LEADSCRUB_ANSWER_KEY"):
        stranger.desk.restore(path)
    assert rows(stranger) == []


def test_a_backup_of_a_newer_release_is_refused(ledger, other, path):
    ledger.desk.back_up(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE ledger_stamp SET schema_version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(RefusedError, match="schema version 99"):
        other.desk.restore(path)


def test_what_is_no_backup_is_said(other, tmp_path):
    with pytest.raises(UsageError, match="no file"):
        other.desk.restore(tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match="holds no ledger"):
        other.desk.restore(tmp_path / "empty")
    (tmp_path / "text").write_text("Jane Roe " * 1000)
    with pytest.raises(UnavailableError, match="SQLITE_NOTADB"):
        other.desk.restore(tmp_path / "text")


def test_keys_of_another_version_are_refused_into_lookups_and_taken_over_by_an_empty_ledger(ledger, other, path):
    look_up(ledger, [JANE], HIT)
    write(ledger, update(tables.controls).values(value="7"))
    ledger.desk.back_up(path)
    look_up(other, [JANE], HIT)
    with pytest.raises(RefusedError, match=r"version 7, the ledger's of version 1.*rekey"):
        other.desk.restore(path, merge=True)
    write(other, delete(tables.lookups))
    other.desk.restore(path)
    with pytest.raises(RefusedError, match="rekey"):
        other.claim([JANE], TERMS)
    assert isinstance(other.claim([JANE], replace(TERMS, key_version=7))[JANE], Cached)


def test_a_copy_without_a_key_version_brings_that_of_its_rows(tmp_path, other):
    file = tmp_path / "copied.sqlite"
    with Ledger.open(file, kind="demo", answer_keys=[KEY]) as ledger:
        look_up(ledger, [JANE], HIT)
        write(ledger, delete(tables.controls))
        write(ledger, update(tables.lookups).values(key_version=3))
    other.desk.restore(file)
    assert [(row["name"], row["value"]) for row in rows(other, tables.controls)] == [("key_version", "3")]


# --- merging ------------------------------------------------------------------------------------


@BOTH
def test_merging_forgets_no_request_of_either_side_and_the_more_final_state_wins(open_ledger, open_other, path, clock):
    """A backup goes into a new ledger; both go on; the newer backup is merged."""
    first, second = open_ledger(), open_other()
    later_hit, later_failed, never = look_up(first, keys(3), UNKNOWN)
    first.desk.back_up(path)
    second.desk.restore(path)
    settle(first, HIT, later_hit)
    settle(first, FAILED, later_failed)
    (only_first,) = look_up(first, keys(1, start=5), HIT)
    first.desk.back_up(path, overwrite=True)
    (only_second,) = look_up(second, keys(1, start=6), MISS)
    second.desk.resolve([never], billed=True)
    result = second.desk.restore(path, merge=True)
    assert (result.added, result.updated, result.unknown) == (1, 2, 0)
    assert states(second) == {
        later_hit: "hit",
        later_failed: "failed",
        never: "unknown",
        only_first: "hit",
        only_second: "miss",
    }
    assert lookup(second, never)["reason"] == "resolved_billed"
    assert isinstance(second.claim([JANE], other_run())[JANE], Cached)
    assert second.summary().cost == Decimal("1.00")
    assert next(row["lookups"] for row in rows(second, tables.budgets) if row["scope"] == "run:run-1") == 4


def test_merging_the_same_backup_again_changes_nothing(ledger, other, path):
    look_up(ledger, keys(3), HIT)
    look_up(ledger, keys(1, start=3), UNKNOWN)
    ledger.claim(keys(1), other_run())
    claim_ids(ledger, keys(1, start=9))
    ledger.desk.back_up(path)
    other.desk.restore(path)
    before = [rows(other, table) for table in tables.metadata.sorted_tables]
    result = other.desk.restore(path, merge=True)
    assert (result.added, result.updated, result.unknown, result.tombstones, result.seals) == (0, 0, 0, 0, 0)
    assert [rows(other, table) for table in tables.metadata.sorted_tables] == before


def test_a_request_in_flight_in_the_ledger_is_left_to_its_process(open_ledger, path):
    ledger = open_ledger()
    claimed, sent = claim_ids(ledger, keys(2))
    send(ledger, sent)
    ledger.desk.back_up(path)
    result = ledger.desk.restore(path, merge=True)
    assert (result.added, result.updated) == (0, 0)
    assert states(ledger) == {claimed: "claimed", sent: "sent"}
    settle(ledger, HIT, sent)
    assert ledger.release([claimed]) == 1


@pytest.mark.parametrize("paid_side", ["backup", "ledger"])
def test_of_two_current_requests_about_a_person_the_paid_one_stays_current(open_ledger, open_other, path, paid_side):
    first, second = open_ledger(), open_other()
    (in_backup,) = look_up(first, [JANE], HIT if paid_side == "backup" else UNKNOWN)
    first.desk.back_up(path)
    (in_ledger,) = look_up(second, [JANE], UNKNOWN if paid_side == "backup" else HIT)
    second.desk.restore(path, merge=True)
    paid, unpaid = (in_backup, in_ledger) if paid_side == "backup" else (in_ledger, in_backup)
    assert (lookup(second, paid)["is_current"], lookup(second, unpaid)["is_current"]) == (True, False)
    assert isinstance(second.claim([JANE], other_run())[JANE], Cached)
    assert states(second) == {paid: "hit", unpaid: "unknown"}


@pytest.mark.parametrize("newer_side", ["backup", "ledger"])
def test_of_two_paid_requests_the_newer_stays_current(open_ledger, open_other, path, clock, newer_side):
    first, second = open_ledger(), open_other()
    (older,) = look_up(second if newer_side == "backup" else first, [JANE], HIT)
    clock.turn(hours=1)
    (newer,) = look_up(first if newer_side == "backup" else second, [JANE], MISS)
    first.desk.back_up(path)
    second.desk.restore(path, merge=True)
    assert (lookup(second, newer)["is_current"], lookup(second, older)["is_current"]) == (True, False)


def test_a_row_that_lost_its_place_to_a_repeat_and_the_repeat_merge_in_any_order(open_ledger, open_other, path):
    """Many people, so that ids of old and new requests come in both orders and over several chunks."""
    first, second = open_ledger(), open_other()
    people = keys(600)
    old = look_up(first, people, UNKNOWN)
    first.desk.back_up(path)
    second.desk.restore(path)
    new = look_up(first, people, HIT)
    settle(first, MISS, *old[:300])
    first.desk.back_up(path, overwrite=True)
    result = second.desk.restore(path, merge=True)
    assert (result.added, result.updated) == (600, 300)
    assert {row["lookup_id"] for row in rows(second) if row["is_current"]} == set(new)


def test_what_an_operator_thinks_of_a_miss_is_more_final_than_what_nobody_has_looked_at(ledger, other, path):
    (miss,) = look_up(ledger, [JANE], MISS)
    ledger.desk.back_up(path)
    other.desk.restore(path)
    ledger.suspect_misses(TERMS)
    ledger.release_suspects(provider=TERMS.provider, endpoint=TERMS.endpoint, believe=False)
    ledger.desk.back_up(path, overwrite=True)
    assert other.desk.restore(path, merge=True).updated == 1
    assert (lookup(other, miss)["suspicion"], lookup(other, miss)["is_current"]) == ("discarded", False)
    assert isinstance(other.peek([JANE], TERMS)[JANE], ToAsk)


ROW = {"lookup_id": "a", "state": "hit", "suspicion": None, "cost_micros": 1, "settled_at": 5}


def test_the_order_of_finality():
    order = [
        ROW | {"state": "claimed"},
        ROW | {"state": "sent"},
        ROW | {"state": "unknown", "cost_micros": None},
        ROW | {"state": "unknown"},
        ROW | {"state": "failed"},
        ROW,
        ROW | {"suspicion": "suspect"},
        ROW | {"suspicion": "believed"},
    ]
    assert sorted(order, key=finality) == order
    assert len({finality(row) for row in order}) == len(order)
    assert finality(ROW | {"state": "miss", "suspicion": "discarded"}) == finality(order[-1])


def test_the_order_of_worth():
    order = [
        ROW | {"state": "unknown", "settled_at": None},
        ROW | {"state": "unknown"},
        ROW | {"state": "miss", "suspicion": "discarded", "settled_at": 9},
        ROW | {"state": "claimed", "settled_at": None},
        ROW,
        ROW | {"lookup_id": "b"},
        ROW | {"state": "miss", "settled_at": 6},
    ]
    assert sorted(order, key=worth) == order


def test_reuses_of_both_sides_are_kept_and_none_is_counted_twice(ledger, other, path):
    look_up(ledger, keys(3), HIT)
    ledger.claim(keys(1), other_run())
    ledger.desk.back_up(path)
    other.desk.restore(path)
    ledger.claim(keys(2, start=1), other_run())
    ledger.claim(keys(1), other_run(run_id="run-7"))
    other.claim(keys(1), other_run(run_id="run-8"))
    ledger.desk.back_up(path, overwrite=True)
    other.desk.restore(path, merge=True)
    counted = {row["run_id"]: (row["lookups"], row["micros"]) for row in rows(other, tables.reuses)}
    assert counted == {"run-2": (3, 750_000), "run-7": (1, 250_000), "run-8": (1, 250_000)}
    older = other.desk.restore(path, merge=True)
    assert older.added == 0
    assert rows(other, tables.reuses)[0]["lookups"] == 3


def test_who_was_erased_stays_erased_when_an_older_backup_has_the_answer(ledger, other, path):
    erased, kept = look_up(ledger, keys(2), HIT)
    ledger.desk.back_up(path)
    tombstone = {"person_key": JANE, "key_version": 1, "erased_at": 1}
    write(other, insert(tables.tombstones).values(tombstone))
    assert other.desk.restore(path).tombstones == 0
    assert lookup(other, erased)["answer"] is None
    assert lookup(other, erased)["parser_version"] is None
    assert lookup(other, kept)["answer"] is not None
    assert rows(other, tables.tombstones) == [tombstone]


def test_tombstones_come_with_the_backup(ledger, other, path):
    look_up(other, [JANE], HIT)
    for person in keys(2):
        write(ledger, insert(tables.tombstones).values(person_key=person, key_version=1, erased_at=1))
    ledger.desk.back_up(path)
    assert other.desk.restore(path, merge=True).tombstones == 2
    assert rows(other)[0]["answer"] is None


def seal(ledger, run_id, count, text):
    ledger.open_chain(run_id, "dnc_flags", "script_a")
    ledger.seal_chain(run_id, "dnc_flags", count, text * 64)


@BOTH
def test_seals_of_evidence_come_with_the_backup_and_the_longer_chain_counts(ledger, other, path):
    seal(ledger, "run-1", 5, "a")
    ledger.open_chain("run-2", "dnc_flags", "script_a")
    ledger.desk.back_up(path)
    assert other.desk.restore(path).seals == 1
    seal(other, "run-1", 9, "b")
    seal(other, "run-3", 1, "c")
    assert other.desk.restore(path, merge=True).seals == 0, "the backup's are the beginning of ours"
    assert [row["entry"] for row in rows(other, tables.roots)] == [1, 2, 3]
    other.desk.back_up(path, overwrite=True)
    assert ledger.desk.restore(path, merge=True).seals == 2
    assert rows(ledger, tables.roots) == rows(other, tables.roots)
    assert rows(ledger, tables.chains) == rows(other, tables.chains)
    assert {row["run_id"]: (row["row_count"], row["root"][0]) for row in rows(ledger, tables.chains)} | {
        "run-2": None
    } == {"run-1": (9, "b"), "run-2": None, "run-3": (1, "c")}


def test_seals_that_part_ways_are_refused_by_name_and_nothing_is_changed(ledger, other, path):
    seal(ledger, "run-1", 5, "a")
    ledger.desk.back_up(path)
    other.desk.restore(path)
    seal(ledger, "run-2", 1, "b")
    look_up(ledger, [JANE], HIT)
    ledger.desk.back_up(path, overwrite=True)
    seal(other, "run-2", 1, "c")
    with pytest.raises(RefusedError, match="differ from entry 2 on"):
        other.desk.restore(path, merge=True)
    assert rows(other) == []
    assert len(rows(other, tables.roots)) == 2


def test_a_pruned_chain_stays_pruned(ledger, other, path):
    seal(ledger, "run-1", 5, "a")
    ledger.desk.back_up(path)
    other.desk.restore(path)
    write(ledger, update(tables.chains).values(pruned_at=77))
    ledger.desk.back_up(path, overwrite=True)
    other.desk.restore(path, merge=True)
    assert rows(other, tables.chains)[0]["pruned_at"] == 77
    write(ledger, update(tables.chains).values(pruned_at=None))
    ledger.desk.back_up(path, overwrite=True)
    other.desk.restore(path, merge=True)
    assert rows(other, tables.chains)[0]["pruned_at"] == 77


def test_every_table_is_brought_back_or_left_out_on_purpose(tmp_path):
    """A new table must be thought of: add it to restoring.py, or to what is not restored."""
    brought_back = {"lookups", "reuses", "controls", "tombstones", "chains", "roots"}
    assert {f"ledger_{name}" for name in brought_back} | set(NOT_RESTORED) == set(tables.metadata.tables)


def test_a_restored_ledger_has_the_tables_of_this_release(other, ledger, path):
    ledger.desk.back_up(path)
    other.desk.restore(path)
    assert set(inspect(other._database.engine).get_table_names()) == set(tables.metadata.tables)


def test_after_a_merge_nobody_paid_for_on_either_side_is_asked_about_again(open_ledger, open_other, path, clock):
    first, second = open_ledger(), open_other()
    look_up(first, keys(50), HIT)
    look_up(second, keys(50, start=25), MISS)
    claim_ids(first, keys(3, start=90))
    first.desk.back_up(path)
    second.desk.restore(path, merge=True)
    standings = second.claim(keys(75), other_run())
    assert all(isinstance(standing, Cached) for standing in standings.values())
    people = keys(3, start=90)
    assert not any(isinstance(found, Busy) for found in second.claim(people, other_run()).values())
    assert second.summary().lookups == 100 + 3 + 3


def test_a_restore_that_fails_midway_leaves_the_ledger_as_it_was(ledger, other, path):
    look_up(ledger, keys(3), HIT)
    ledger.desk.back_up(path)
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE ledger_reuses RENAME COLUMN micros TO dollars")
    connection.commit()
    connection.close()
    with pytest.raises(UnavailableError):
        other.desk.restore(path)
    assert rows(other) == []


def test_what_was_not_billed_is_reserved_for_nobody_after_a_restore(ledger, other, path):
    look_up(ledger, keys(1), replace(MISS, billed=False))
    look_up(ledger, keys(1, start=1), FAILED)
    look_up(ledger, keys(1, start=2), HIT)
    look_up(ledger, keys(1, start=3), UNKNOWN)
    ledger.desk.back_up(path)
    other.desk.restore(path)
    assert {row["scope"]: (row["lookups"], row["micros"]) for row in rows(other, tables.budgets)} == {
        "run:run-1": (2, 500_000),
        "day:2026-11-21": (2, 500_000),
    }


def test_a_restore_in_small_pages_counts_everything_once(open_ledger, open_other, path, monkeypatch):
    monkeypatch.setattr(restoring, "_ROWS", 2)
    first, second = open_ledger(), open_other()
    unknown = look_up(first, keys(5), UNKNOWN)
    first.desk.back_up(path)
    assert second.desk.restore(path).added == 5
    settle(first, HIT, *unknown)
    look_up(first, keys(3, start=10), HIT)
    claimed = claim_ids(first, keys(5, start=20))
    first.desk.back_up(path, overwrite=True)
    result = second.desk.restore(path, merge=True)
    assert (result.added, result.updated, result.unknown) == (8, 5, 5)
    assert {lookup(second, one)["state"] for one in claimed} == {"unknown"}
    for one in claimed:
        row = lookup(second, one)
        assert (row["reason"], row["sent_at"]) == ("restored", row["claimed_at"])
        assert row["settled_at"] == time_to_micros(NOON)


def test_restoring_leaves_the_backup_as_it_is(ledger, other, path):
    look_up(ledger, keys(3), HIT)
    ledger.desk.back_up(path)
    path.chmod(0o444)
    before = path.read_bytes()
    other.desk.restore(path)
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_the_moment_of_the_backup_is_told(ledger, other, path, clock):
    clock.turn(days=3)
    ledger.desk.back_up(path)
    clock.turn(days=3)
    assert other.desk.restore(path).backed_up_at == NOON + timedelta(days=3)
