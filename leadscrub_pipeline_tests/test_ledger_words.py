"""What the ledger says when it refuses or fails: each sentence as an operator reads it, to the letter."""

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError

from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.errors import FailedError, LeadscrubError, RefusedError, UnavailableError, UsageError
from leadscrub_pipeline.ledger import Capped, Ledger, Settlement, database, reconciliation, stamping, tables
from leadscrub_pipeline.ledger.adoption import CacheLife
from leadscrub_pipeline.ledger.database import Database
from leadscrub_pipeline.ledger.invoices import Invoice, InvoiceColumns
from leadscrub_pipeline.ledger.sealing import Sealer
from leadscrub_pipeline.ledger.unknowns import Repeats, Wanted
from leadscrub_pipeline_tests.ledger_support import (
    FAILED,
    HIT,
    KEY,
    NOON,
    TERMS,
    UNKNOWN,
    Clock,
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

_ = (clock, ledger, new_postgres_database, open_ledger, where_one)  # fixtures
(JANE,) = keys(1)
READING_ONLY = "The ledger was opened for reading only."
MISSING_KEY = (
    "LEADSCRUB_ANSWER_KEY holds no key that this ledger was made with; its paid answers could not be read. "
    "Put the old key behind the new one, parted by a comma."
)


@contextmanager
def says(kind: type[LeadscrubError], sentence: str) -> Iterator[None]:
    """The block fails with this sentence and no other, and with no error behind it that would quote values."""
    with pytest.raises(kind) as caught:
        yield
    assert str(caught.value) == sentence
    assert caught.value.__cause__ is None


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the ledger logged; asyncio may speak at any time, of what an earlier test left behind."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("leadscrub_pipeline.ledger")]


# --- keys and answers -----------------------------------------------------------------------------


def test_a_key_that_is_none_is_described() -> None:
    with says(UsageError, "LEADSCRUB_ANSWER_KEY holds a value that is no Fernet key (32 bytes in url-safe base64)."):
        Sealer(["not a key"])


def test_an_answer_that_is_no_json_cannot_be_stored() -> None:
    with says(FailedError, "A vendor's answer cannot be written as JSON, so it cannot be stored."):
        Sealer([KEY]).seal({"x": {1, 2}})


def test_an_answer_that_no_key_opens_asks_for_the_key_it_was_sealed_with() -> None:
    sealed = Sealer([KEY]).seal({"x": 1})
    with says(
        UnavailableError,
        "No key in LEADSCRUB_ANSWER_KEY opens a stored answer. Add the key it was sealed with.",
    ):
        Sealer([Fernet.generate_key().decode()]).open(sealed)


def test_a_ledger_made_with_another_key_says_where_to_put_the_old_one(where: str) -> None:
    Ledger.open(where, kind="live", answer_keys=[KEY]).close()
    with says(RefusedError, MISSING_KEY):
        Ledger.open(where, kind="live", answer_keys=[Fernet.generate_key().decode()])


def test_a_live_ledger_without_a_key_says_how_to_make_one(where: str) -> None:
    with says(
        RefusedError,
        "A live ledger needs LEADSCRUB_ANSWER_KEY: stored answers hold personal data and are sealed with it. "
        "Make one: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'",
    ):
        Ledger.open(where, kind="live")


def test_a_demo_on_a_server_has_no_place_for_a_key_of_its_own() -> None:
    server = Database("postgresql://nobody@127.0.0.1:1/none")
    with says(
        RefusedError,
        "A demo ledger on PostgreSQL needs LEADSCRUB_ANSWER_KEY; only one in a file makes its own.",
    ):
        stamping.find_keys(server, kind="demo", configured=(), is_made=False)


def test_a_lost_key_file_of_a_demo_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path, kind="demo").close()
    (tmp_path / "ledger.sqlite.key").unlink()
    with says(
        RefusedError,
        f"The demo ledger's key file {path}.key is gone, so its answers cannot be read. "
        "Put it back, or start over with make reset-demo.",
    ):
        Ledger.open(path, kind="demo")


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    (tmp_path / "ledger.sqlite.key").mkdir()
    with says(UnavailableError, f"The demo ledger's key file {path}.key cannot be made or read (IsADirectoryError)."):
        Ledger.open(path, kind="demo")


# --- which ledger it is -----------------------------------------------------------------------------


def test_a_ledger_of_the_other_kind_says_what_to_set(where: str) -> None:
    Ledger.open(where, kind="demo", answer_keys=[KEY]).close()
    with says(
        RefusedError,
        "The ledger is stamped demo, and the vendors of this run are live. Answers of one never serve the other: "
        "set LEADSCRUB_HOME or LEADSCRUB_LEDGER_URL to a ledger of its own.",
    ):
        Ledger.open(where, kind="live", answer_keys=[KEY])


def test_a_ledger_of_a_newer_release_says_which(where: str) -> None:
    newer = tables.SCHEMA_VERSION + 1
    with Ledger.open(where, kind="demo", answer_keys=[KEY]) as ledger, ledger._database.writing() as connection:
        connection.execute(update(tables.stamp).values(schema_version=newer))
    with says(
        RefusedError,
        f"The ledger has schema version {newer}, this release reads {tables.SCHEMA_VERSION}. "
        "Use the release that wrote it.",
    ):
        Ledger.open(where, kind="demo", answer_keys=[KEY])


def test_a_stamp_that_cannot_be_read_back_is_said(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamping, "_read", lambda _connection: None)
    with says(UnavailableError, "The ledger's stamp cannot be read back. See that its disk or server is sound."):
        Ledger.open(where, kind="demo", answer_keys=[KEY])


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("://x", "LEADSCRUB_LEDGER_URL is no database URL; expected postgresql+psycopg2://..."),
        ("mysql://h/x", "LEADSCRUB_LEDGER_URL names an engine other than PostgreSQL; for SQLite leave it unset."),
    ],
)
def test_a_url_that_is_none_says_what_is_expected(url: str, sentence: str) -> None:
    with says(UsageError, sentence):
        Ledger.open(url, kind="demo")


def test_a_file_that_cannot_be_opened_is_named_with_the_setting(tmp_path: Path) -> None:
    with says(
        UnavailableError,
        f"The ledger file {tmp_path} cannot be made or opened (IsADirectoryError). See LEADSCRUB_HOME.",
    ):
        Ledger.open(tmp_path, kind="demo")


class MakingWal:
    """A connection to a file; what it says of its journal is scripted, an error stands for a file that is taken."""

    def __init__(self, *modes: str | Exception) -> None:
        self.modes = list(modes)
        self.executed: list[str] = []

    def execute(self, statement: str) -> "MakingWal":
        self.executed.append(statement)
        if "journal_mode" in statement and isinstance(self.modes[0], Exception):
            raise self.modes.pop(0)  # type: ignore[misc]
        return self

    def fetchone(self) -> tuple[str | Exception]:
        return (self.modes.pop(0),)


def test_a_file_system_that_cannot_hold_a_log_says_where_the_ledger_can_be() -> None:
    with says(UnavailableError, "The ledger's file system cannot hold a SQLite WAL. Use a local disk or PostgreSQL."):
        database._set_up_sqlite(MakingWal("delete", "delete"), None)  # type: ignore[arg-type]


def test_a_file_that_another_process_is_making_is_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(database.time, "sleep", pauses.append)
    taken = sqlite3.OperationalError("taken")
    connection = MakingWal("delete", taken, "delete", taken, "delete", "wal", "wal")
    database._set_up_sqlite(connection, None)  # type: ignore[arg-type]
    assert pauses == [0.02, 0.02]
    assert connection.modes == []
    assert "PRAGMA synchronous=FULL" in connection.executed
    assert connection.executed[-1] == "PRAGMA foreign_keys=ON"
    moments = iter((0.0, 30.0, 30.1))
    monkeypatch.setattr(database.time, "monotonic", lambda: next(moments))
    with pytest.raises(sqlite3.OperationalError, match="taken"):
        database._set_up_sqlite(MakingWal("delete", taken, "delete", taken, "delete"), None)  # type: ignore[arg-type]
    assert len(pauses) == 3


def test_clocks_that_differ_are_told_with_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Database("postgresql://nobody@127.0.0.1:1/none")

    class Answering:
        def execute(self, _query: object) -> "Answering":
            return self

        def scalar_one(self) -> object:
            return NOON

    @contextmanager
    def reading() -> Iterator[Answering]:
        yield Answering()

    monkeypatch.setattr(server, "reading", reading)
    for seconds in (-5, 0, 5):
        monkeypatch.setattr(database, "utc_now", lambda seconds=seconds: NOON + timedelta(seconds=seconds))
        server.require_common_clock()
    for seconds in (-6, 6):
        monkeypatch.setattr(database, "utc_now", lambda seconds=seconds: NOON + timedelta(seconds=seconds))
        with says(
            UnavailableError,
            "This host's clock and the ledger server's differ by 6 s; at most 5 are safe, because a lease decides "
            "who may ask. Set the clocks, then run again.",
        ):
            server.require_common_clock()


# --- what failed in the database ----------------------------------------------------------------------

REPEATS = Repeats(allowed=1, within_days=180, across_purposes=False)
LIFE = CacheLife(hit=180, miss=30)


def compare(ledger: Ledger, path: Path) -> None:
    with Invoice(path) as invoice:
        ledger.desk.reconcile(invoice, provider="idicore")


FAILING: dict[str, tuple[str, Callable[[Ledger, Path], Any]]] = {
    "claim": ("claiming lookups", lambda ledger, _: ledger.claim([JANE], TERMS)),
    "peek": ("reading", lambda ledger, _: ledger.peek([JANE], TERMS)),
    "release": ("releasing claims", lambda ledger, _: ledger.release(["x"])),
    "sweep": ("sweeping", lambda ledger, _: ledger.sweep()),
    "recent_outcomes": ("reading", lambda ledger, _: ledger.recent_outcomes(TERMS)),
    "suspect_misses": ("marking misses", lambda ledger, _: ledger.suspect_misses(TERMS)),
    "release_suspects": (
        "releasing misses",
        lambda ledger, _: ledger.release_suspects(provider="idicore", endpoint="x", believe=True),
    ),
    "partition_lease": (
        "taking a partition's lease",
        lambda ledger, _: ledger.partition_lease("script_a", holder="run-1").__enter__(),
    ),
    "summary": ("reading", lambda ledger, _: ledger.summary()),
    "pause": ("pausing", lambda ledger, _: ledger.desk.pause("audit")),
    "resume": ("resuming", lambda ledger, _: ledger.desk.resume()),
    "paused": ("reading", lambda ledger, _: ledger.desk.paused()),
    "unknowns": ("reading", lambda ledger, _: ledger.desk.unknowns(Wanted(), REPEATS)),
    "resolve": ("resolving unknown outcomes", lambda ledger, _: ledger.desk.resolve(["x"], billed=True)),
    "resolve_before": (
        "resolving unknown outcomes",
        lambda ledger, _: ledger.desk.resolve_before(NOON, billed=True),
    ),
    "reconcile": ("reading", compare),
    "back_up": ("copying it", lambda ledger, path: ledger.desk.back_up(path.with_name("backup"))),
    "restore": ("restoring", lambda ledger, path: ledger.desk.restore(path.with_name("other.sqlite"))),
    "adopt": ("adopting lookups", lambda ledger, _: ledger.upkeep.adopt([], key_version=1, life=LIFE)),
    "adoption_state": ("reading", lambda ledger, _: ledger.upkeep.adoption_state()),
    "note_adoption": ("noting the adoption", lambda ledger, _: ledger.upkeep.note_adoption("none")),
    "begin_rekey": ("beginning to rekey", lambda ledger, _: ledger.upkeep.begin_rekey(2)),
    "move_keys": ("rekeying", lambda ledger, _: ledger.upkeep.move_keys({JANE: JANE}, version=2)),
    "end_rekey": ("ending the rekey", lambda ledger, _: ledger.upkeep.end_rekey(2)),
    "erase": ("erasing a person", lambda ledger, _: ledger.upkeep.erase({JANE: 1})),
    "outcomes_of_run": ("reading", lambda ledger, _: ledger.outcomes_of_run("run-1")),
    "mark_pruned": (
        "marking evidence as pruned",
        lambda ledger, _: ledger.mark_pruned([], before="2020-01-01", reason=None),
    ),
    "open_chain": ("opening a chain of evidence", lambda ledger, _: ledger.open_chain("run-1", "dnc_flags", "a")),
    "seal_chain": ("sealing evidence", lambda ledger, _: ledger.seal_chain("run-1", "dnc_flags", 1, "a" * 64)),
    "open_sealed_chain": (
        "sealing evidence",
        lambda ledger, _: ledger.open_sealed_chain("run-1", "dnc_flags", "a", row_count=1, root="a" * 64),
    ),
    "abandoned_chains": ("looking for unsealed evidence", lambda ledger, _: ledger.abandoned_chains()),
}


@pytest.mark.parametrize("operation", FAILING)
def test_a_database_that_fails_is_told_with_what_was_being_done(
    operation: str, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doing, call = FAILING[operation]
    invoice = tmp_path / "invoice.csv"
    invoice.write_text("reference,amount\nx,1\n", encoding="utf-8")
    Ledger.open(tmp_path / "other.sqlite", kind="demo", answer_keys=[KEY]).close()

    @contextmanager
    def failing() -> Iterator[None]:
        raise OperationalError("SELECT Jane", None, sqlite3.OperationalError("Jane"))
        yield

    with monkeypatch.context() as patch:
        for name in ("reading", "writing", "snapshot"):
            patch.setattr(ledger._database, name, failing)
        with says(
            UnavailableError,
            f"The ledger's database failed while {doing} (OperationalError). Nothing of this step was written; "
            "see that it is reachable and its disk is not full, then run again.",
        ):
            call(ledger, invoice)


@pytest.mark.parametrize(
    ("doing", "method"),
    [("opening it", "reading"), ("making its tables", "writing"), ("upgrading its tables", "writing")],
)
def test_a_ledger_that_cannot_be_opened_is_told_with_what_was_being_done(
    doing: str, method: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if doing != "making its tables":
        with Ledger.open(where, kind="demo", answer_keys=[KEY]) as ledger, ledger._database.writing() as connection:
            connection.execute(update(tables.stamp).values(schema_version=1))

    @contextmanager
    def failing(_database: Database) -> Iterator[None]:
        raise OperationalError("SELECT Jane", None, sqlite3.OperationalError("Jane"))
        yield

    monkeypatch.setattr(Database, method, failing)
    with says(
        UnavailableError,
        f"The ledger's database failed while {doing} (OperationalError). Nothing of this step was written; "
        "see that it is reachable and its disk is not full, then run again.",
    ):
        Ledger.open(where, kind="demo", answer_keys=[KEY])


def test_a_log_that_cannot_be_emptied_after_erasing_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise sqlite3.OperationalError("Jane")

    monkeypatch.setattr(ledger._database.engine, "raw_connection", failing)
    with says(
        UnavailableError,
        "The ledger's database failed while emptying its log (OperationalError). Nothing of this step was written; "
        "see that it is reachable and its disk is not full, then run again.",
    ):
        ledger.upkeep.erase({JANE: 1})


def test_a_file_that_is_no_ledger_is_told_by_the_databases_own_code(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("no database " * 1_000, encoding="utf-8")
    with says(
        UnavailableError,
        "The ledger's database failed while opening it (DatabaseError SQLITE_NOTADB). Nothing of this step was "
        "written; see that it is reachable and its disk is not full, then run again.",
    ):
        Ledger.open(path, kind="demo")


def test_a_ledger_that_is_closed_or_read_only_says_so(ledger: Ledger, where: str, clock: Clock) -> None:
    with Ledger.open_existing(where, clock=clock) as reading:  # type: ignore[union-attr]
        for call in (
            lambda: reading.claim([JANE], TERMS),
            lambda: reading.release(["x"]),
            reading.writer,
            lambda: reading.upkeep.history([JANE]),
            reading.desk.pause,
        ):
            with says(RefusedError, READING_ONLY):
                call()
    ledger.close()
    for call in (lambda: ledger.claim([JANE], TERMS), ledger.writer):
        with says(UnavailableError, "The ledger is closed."):
            call()


# --- terms, versions of keys, partitions -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"price": Decimal(0), "daily_budget": Decimal(10)},
            "A daily budget needs a price above zero: set IDICORE_PRICE_PER_LOOKUP.",
        ),
        (
            {"price": Decimal("0.0000001")},
            "A price or budget has more than six decimals: see IDICORE_PRICE_PER_LOOKUP and IDICORE_DAILY_BUDGET.",
        ),
        (
            {"daily_budget": Decimal("0.0000001")},
            "A price or budget has more than six decimals: see IDICORE_PRICE_PER_LOOKUP and IDICORE_DAILY_BUDGET.",
        ),
    ],
)
def test_terms_that_make_no_sense_name_the_settings(changes: dict[str, Decimal], sentence: str) -> None:
    with says(RefusedError, sentence):
        replace(TERMS, **changes)  # type: ignore[arg-type]


def test_person_keys_of_another_version_say_which_and_what_to_run(ledger: Ledger) -> None:
    sentence = (
        "The ledger's person keys are of version 1 and this release makes version 2: people who are paid for would "
        "not be recognised. Run leadscrub ledger rekey, then run again."
    )
    for call in (ledger.claim, ledger.peek):
        with says(RefusedError, sentence):
            call([JANE], replace(TERMS, key_version=2))
    with says(
        RefusedError,
        "The ledger's person keys are of another version than this release makes, or a rekey was not finished. "
        "Run leadscrub ledger rekey first.",
    ):
        ledger.upkeep.require_key_version(2)
    ledger.upkeep.require_key_version(1)


def test_a_rekey_that_was_not_finished_says_to_finish_it(ledger: Ledger) -> None:
    assert ledger.upkeep.begin_rekey(2)
    with says(
        RefusedError,
        "The ledger's person keys are being carried over to another version, and that was not finished. "
        "Run leadscrub ledger rekey to its end, then run again.",
    ):
        ledger.claim([JANE], TERMS)


def test_a_rekey_and_an_erasure_say_that_a_run_is_asking(open_ledger: Callable[..., Ledger]) -> None:
    ours, theirs = open_ledger(), open_ledger()
    claim_ids(theirs, [JANE])
    with says(
        UnavailableError,
        "A run is asking about people right now. Wait until it has ended (or stop it), then start this again.",
    ):
        ours.upkeep.begin_rekey(2)
    with says(
        UnavailableError,
        "A run is asking about this person right now. Nothing was erased; try again when it ended.",
    ):
        ours.upkeep.erase({JANE: 1})


def test_a_partition_that_is_taken_names_itself_and_the_run(open_ledger: Callable[..., Ledger]) -> None:
    first, second = open_ledger(), open_ledger()
    with (
        first.partition_lease("script_a", holder="run-1"),
        says(
            RefusedError,
            "Partition 'script_a' is being worked on by run run-1. Wait for it or cancel it, then run again.",
        ),
        second.partition_lease("script_a", holder="run-2"),
    ):
        pass


# --- the writer --------------------------------------------------------------------------------------------


def test_a_mark_or_settlement_that_is_not_ours_says_why(open_ledger: Callable[..., Ledger]) -> None:
    first, second = open_ledger(), open_ledger()
    (lookup_id,) = claim_ids(first, [JANE])
    with says(
        FailedError,
        "A claimed lookup is no longer ours: the lease ran out and another run cleared it. It was not sent.",
    ):
        send(second, lookup_id)
    send(first, lookup_id)
    settle(first, HIT, lookup_id)
    with says(FailedError, "Only a lookup in flight can be settled; this one is settled or gone."):
        settle(first, FAILED, lookup_id)


def test_a_writer_that_is_closed_says_that_the_run_is_ending(ledger: Ledger) -> None:
    writer = ledger.writer()
    writer.close()
    with says(UnavailableError, "The ledger's writer is closed; the run is ending."):
        asyncio.run(writer.mark_sent("x"))


def test_a_group_that_cannot_be_written_is_told_and_each_repeat_is_logged(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="leadscrub_pipeline.ledger.writer")
    (lookup_id,) = claim_ids(ledger, [JANE])
    writer = ledger.writer()

    @contextmanager
    def failing() -> Iterator[None]:
        raise OperationalError("UPDATE Jane", None, sqlite3.OperationalError("Jane"))
        yield

    with monkeypatch.context() as patch:
        patch.setattr(ledger._database, "writing", failing)
        with says(UnavailableError, "The ledger could not be written (OperationalError); see its disk or server."):
            asyncio.run(writer.mark_sent(lookup_id))
    assert logged(caplog) == ["ledger writer: group of 1 waits 0.0 s: OperationalError"]
    send(ledger, lookup_id)


def test_a_group_that_fails_for_another_reason_is_told_by_the_kind_of_error_only(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="leadscrub_pipeline.ledger.writer")
    (lookup_id,) = claim_ids(ledger, [JANE])
    writer = ledger.writer()

    @contextmanager
    def failing() -> Iterator[None]:
        raise ZeroDivisionError("Jane")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(ledger._database, "writing", failing)
        with says(UnavailableError, "The ledger could not be written (ZeroDivisionError)."):
            asyncio.run(writer.mark_sent(lookup_id))
    assert logged(caplog) == ["ledger writer: group of 1 failed with ZeroDivisionError"]
    assert "CRITICAL" in {record.levelname for record in caplog.records}


def test_a_write_whose_event_loop_was_closed_meanwhile_is_kept_and_logged(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (lookup_id,) = claim_ids(ledger, [JANE])
    writer, may_go_on = ledger.writer(), threading.Event()
    whole = ledger._database.writing

    @contextmanager
    def waiting() -> Iterator[Any]:
        may_go_on.wait(10)
        with whole() as connection:
            yield connection

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # the task is left behind on purpose
    with monkeypatch.context() as patch:
        patch.setattr(ledger._database, "writing", waiting)
        loop.call_soon(loop.stop)
        task = loop.create_task(writer.mark_sent(lookup_id))
        loop.run_forever()
        loop.close()
        may_go_on.set()
        writer.flush()
    assert not task.done()
    assert ledger.lookups_of_run("run-1").states == {"sent": 1}
    assert logged(caplog) == ["ledger writer: 1 waiting writes had no event loop to return to"]


def test_an_answer_that_cannot_be_written_fails_with_its_reason(ledger: Ledger) -> None:
    (lookup_id,) = claim_ids(ledger, [JANE])
    send(ledger, lookup_id)
    with says(FailedError, "A vendor's answer cannot be written as JSON, so it cannot be stored."):
        settle(ledger, Settlement(state="hit", answer={"x": {1}}), lookup_id)


# --- heartbeat, signing off, leases: what is only logged ------------------------------------------------------


@contextmanager
def broken_writing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    @contextmanager
    def failing() -> Iterator[None]:
        raise OperationalError("UPDATE Jane", None, sqlite3.OperationalError("Jane"))
        yield

    with monkeypatch.context() as patch:
        patch.setattr(ledger._database, "writing", failing)
        yield


def test_an_end_that_cannot_be_written_is_logged_and_left_to_a_sweep(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    claim_ids(ledger, [JANE])
    with broken_writing(ledger, monkeypatch):
        ledger.close()
    assert logged(caplog) == ["ledger: could not sign off (OperationalError); a sweep will do it"]


def test_a_lease_that_cannot_be_ended_is_logged_and_does_not_hide_what_ended_the_work(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lease = ledger.partition_lease("script_a", holder="run-1")
    lease.__enter__()
    with broken_writing(ledger, monkeypatch):
        assert not lease.__exit__(None, None, None)
    assert logged(caplog) == ["ledger: could not end the lease of a partition (OperationalError)"]
    with ledger.partition_lease("script_a", holder="run-1"):
        pass  # the lease that stayed bars nobody of its own run


def test_a_heartbeat_that_fails_is_logged_and_tried_again(
    open_ledger: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_ledger(heartbeat=timedelta(milliseconds=5))
    claim_ids(ledger, [JANE])
    with broken_writing(ledger, monkeypatch):
        while len(logged(caplog)) < 2:
            ledger._stop.wait(0.005)
    assert set(logged(caplog)) == {"ledger: heartbeat failed (OperationalError); trying again"}
    beating = [thread for thread in threading.enumerate() if thread.name == "ledger-heartbeat"]
    assert beating, "it goes on after a failure"
    assert all(thread.daemon for thread in beating), "and keeps no process that wants to end"


# --- unknown outcomes ------------------------------------------------------------------------------------------


def test_ids_that_are_no_unknown_outcomes_are_counted_and_the_first_is_named(ledger: Ledger) -> None:
    (lookup_id,) = look_up(ledger, [JANE], UNKNOWN)
    strangers = ["x" * 50, "y"]
    with says(
        UsageError,
        f"2 of 3 are no lookups of unknown outcome, the first is '{'x' * 40}'. Nothing was changed. "
        "See leadscrub ledger unknown list.",
    ):
        ledger.desk.resolve([lookup_id, *strangers], billed=True)


# --- backups ---------------------------------------------------------------------------------------------------


def test_a_backup_that_cannot_be_made_says_why(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, no_folder = tmp_path / "there", tmp_path / "none" / "backup"
    there.write_text("x", encoding="utf-8")
    with says(UsageError, f"{there} exists already. Give another name, or --force to overwrite it."):
        ledger.desk.back_up(there)
    with says(UsageError, f"There is no folder {no_folder.parent}. Make it first."):
        ledger.desk.back_up(no_folder)
    with says(UnavailableError, f"{there / 'backup'} cannot be written: Not a directory."):
        ledger.desk.back_up(there / "backup")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with says(UnavailableError, f"{tmp_path / 'full'} cannot be written: No space left on device."):
            ledger.desk.back_up(tmp_path / "full")

    def strange(_descriptor: int) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", strange)
        with says(UnavailableError, f"{tmp_path / 'strange'} cannot be written: OSError."):
            ledger.desk.back_up(tmp_path / "strange")
    assert {file.name for file in tmp_path.iterdir()} == {"home", "there"}, "no draft is left behind"


def test_a_file_that_came_while_the_backup_was_made_is_not_overwritten(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "backup"
    flush = os.fsync

    def meanwhile(descriptor: int) -> None:
        flush(descriptor)
        path.write_text("of somebody else", encoding="utf-8")

    with (
        monkeypatch.context() as patch,
        says(UsageError, f"{path} exists already. Give another name, or --force to overwrite it."),
    ):
        patch.setattr(os, "fsync", meanwhile)
        ledger.desk.back_up(path)
    assert path.read_text(encoding="utf-8") == "of somebody else"


def test_the_ledger_itself_is_no_place_for_its_backup(ledger: Ledger, where: str) -> None:
    with says(UsageError, f"{where} is the ledger itself. Name another file for its backup."):
        ledger.desk.back_up(Path(where), overwrite=True)


def test_a_restore_says_what_is_wrong_with_the_file(ledger: Ledger, tmp_path: Path) -> None:
    none, empty, live, strange = (tmp_path / name for name in ("none", "empty", "live", "strange"))
    empty.touch()
    Ledger.open(live, kind="live", answer_keys=[KEY]).close()
    Ledger.open(strange, kind="demo", answer_keys=[Fernet.generate_key().decode()]).close()
    with says(UsageError, f"There is no file {none}."):
        ledger.desk.restore(none)
    with says(UsageError, f"{empty} holds no ledger."):
        ledger.desk.restore(empty)
    with says(
        RefusedError,
        "The backup does not fit this ledger. The ledger is stamped live, and the vendors of this run are demo. "
        "Answers of one never serve the other: set LEADSCRUB_HOME or LEADSCRUB_LEDGER_URL to a ledger of its own.",
    ):
        ledger.desk.restore(live)
    with says(RefusedError, f"The backup does not fit this ledger. {MISSING_KEY}"):
        ledger.desk.restore(strange)


def test_a_restore_says_why_two_ledgers_are_not_brought_together(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with Ledger.open(path, kind="demo", answer_keys=[KEY]) as other:
        other.open_chain("run-1", "dnc_flags", "spring")
        other.seal_chain("run-1", "dnc_flags", 1, "b" * 64)
    look_up(ledger, [JANE], HIT)
    with says(RefusedError, "This ledger has lookups already. Say --merge to bring the backup's in as well."):
        ledger.desk.restore(path)
    ledger.open_chain("run-1", "dnc_flags", "spring")
    ledger.seal_chain("run-1", "dnc_flags", 1, "a" * 64)
    with says(
        RefusedError,
        "The backup does not belong to this ledger: its seals of evidence differ from entry 1 on. "
        "Restore it into an empty ledger of its own; nothing was changed.",
    ):
        ledger.desk.restore(path, merge=True)
    with Ledger.open(path, kind="demo", answer_keys=[KEY]) as other, other._database.writing() as connection:
        connection.execute(update(tables.controls).values(value="7"))
    with says(
        RefusedError,
        "The backup's person keys are of version 7, the ledger's of version 1: the same person would count as two. "
        "Restore it into an empty ledger and run leadscrub ledger rekey there first.",
    ):
        ledger.desk.restore(path, merge=True)


# --- evidence --------------------------------------------------------------------------------------------------


def test_a_seal_that_does_not_fit_says_what_is_sealed_and_what_was_found(ledger: Ledger) -> None:
    with says(
        FailedError, "The evidence of dnc_flags in run run-1 has no chain in the ledger, so it cannot be sealed."
    ):
        ledger.seal_chain("run-1", "dnc_flags", 1, "a" * 64)
    ledger.open_chain("run-1", "dnc_flags", "spring")
    ledger.seal_chain("run-1", "dnc_flags", 5_000, "a" * 64)
    for rows, found in ((4_999, "4,999"), (5_000, "5,000")):
        with says(
            FailedError,
            "The evidence of dnc_flags in run run-1 is not what the ledger sealed: 5,000 rows are sealed and "
            f"{found} were found, or their last hash differs. Run leadscrub evidence verify.",
        ):
            ledger.seal_chain("run-1", "dnc_flags", rows, "b" * 64)


def test_a_chain_that_changed_before_it_was_pruned_is_named(ledger: Ledger) -> None:
    with says(
        FailedError,
        "The chain of evidence of run run-1, asset dnc_flags, changed meanwhile. Nothing was pruned; try again.",
    ):
        ledger.mark_pruned([("run-1", "dnc_flags", 3)], before="2020-01-01", reason=None)


# --- the vendor's invoice ------------------------------------------------------------------------------------------


def test_a_file_that_is_no_invoice_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    none, path = tmp_path / "none.csv", tmp_path / "invoice.csv"
    with says(UsageError, f"There is no file {none}."):
        Invoice(none)
    with says(UsageError, f"{tmp_path} is a folder. Name the invoice's CSV file."):
        Invoice(tmp_path)
    path.touch()
    with says(UnavailableError, f"{path / 'below'} cannot be read (NotADirectoryError)."):
        Invoice(path / "below")
    with says(UsageError, f"{path} is empty or has no header in its first line."):
        Invoice(path)
    path.write_text('"' + "x" * 140_000 + "\n", encoding="utf-8")
    with says(
        UsageError,
        f"{path} has 1 columns in its first line and none of them is known to be the reference id. "
        "Name it by --column-reference, as it stands in the header.",
    ):
        Invoice(path)


@pytest.mark.parametrize(
    ("header", "columns", "sentence"),
    [
        (
            "name,phone",
            None,
            (
                " has 2 columns in its first line and none of them is known to be the reference id. "
                "Name it by --column-reference, as it stands in the header."
            ),
        ),
        (
            "reference,phone",
            None,
            (
                " has 2 columns in its first line and none of them is known to be the amount. "
                "Name it by --column-amount, as it stands in the header."
            ),
        ),
        (
            "reference,amount",
            InvoiceColumns(reference="Nr"),
            " has no column of the name given by --column-reference.",
        ),
        ("reference,amount", InvoiceColumns(amount="Nr"), " has no column of the name given by --column-amount."),
        ("reference,amount", InvoiceColumns(date="Nr"), " has no column of the name given by --column-date."),
        (
            "reference,amount,AMOUNT",
            None,
            " has 2 columns of the same name that could be meant by --column-amount. Rename one of them.",
        ),
        (
            "reference,amount,date,Date,DATE",
            None,
            " has 3 columns of the same name that could be meant by --column-date. Rename one of them.",
        ),
        (
            "reference,Reference,amount",
            None,
            " has 2 columns of the same name that could be meant by --column-reference. Rename one of them.",
        ),
    ],
)
def test_a_column_that_is_not_found_or_found_twice_names_the_option(
    tmp_path: Path, header: str, columns: InvoiceColumns | None, sentence: str
) -> None:
    path = tmp_path / "invoice.csv"
    path.write_text(header + "\n", encoding="utf-8")
    with says(UsageError, f"{path}{sentence}"):
        Invoice(path, columns)


def test_a_quotation_mark_that_does_not_fit_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "invoice.csv"
    path.write_text('reference,amount\na,1\n"b"x,2\nc,3\n', encoding="utf-8")
    with (
        says(
            UsageError,
            f"{path} is no sound CSV at line 3: a quotation mark there is missing or one too many. "
            "Nothing was compared.",
        ),
        Invoice(path) as invoice,
    ):
        list(invoice.charges())


def test_an_invoice_that_breaks_off_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "invoice.csv"
    path.write_text("reference,amount\na,1\n", encoding="utf-8")

    def breaking() -> Iterator[str]:
        raise OSError(5, "Input/output error")
        yield

    with Invoice(path) as invoice:
        whole, invoice._file = invoice._file, breaking()  # type: ignore[assignment]
        with says(UnavailableError, f"{path} cannot be read to its end (OSError)."):
            list(invoice.charges())
        invoice._file = whole


def test_a_comparison_that_cannot_be_stored_names_the_folder_for_temporary_files(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "invoice.csv"
    path.write_text("reference,amount\na,1\n", encoding="utf-8")
    monkeypatch.setattr(reconciliation, "_JOINED", ("SELECT no_such_function()",))
    with (
        Invoice(path) as invoice,
        says(
            UnavailableError,
            "The invoice could not be compared (OperationalError): the folder for temporary files may be full. "
            "Nothing was changed.",
        ),
    ):
        ledger.desk.reconcile(invoice, provider="idicore")


# --- what is told when all goes well ---------------------------------------------------------------------------------


def test_a_pause_is_told_with_its_reason_and_its_time(ledger: Ledger, clock: Clock) -> None:
    assert ledger.desk.paused() is None
    assert ledger.desk.pause("audit") == (clock.now, "audit")
    clock.turn(hours=1)
    assert ledger.desk.paused() == (NOON, "audit")
    assert ledger.desk.pause() == (clock.now, None)
    assert ledger.desk.paused() == (clock.now, None)
    assert ledger.claim([JANE], TERMS) == {JANE: Capped("paused")}
    assert ledger.desk.resume()
    assert ledger.desk.paused() is None
    assert not ledger.desk.resume()
    claim_ids(ledger, [JANE])


def test_adoption_is_undecided_until_something_was_asked_adopted_or_said(ledger: Ledger) -> None:
    upkeep = ledger.upkeep
    assert upkeep.adoption_state() == "undecided"
    upkeep.note_adoption("under_way")
    assert upkeep.adoption_state() == "under_way"
    upkeep.note_adoption("none")
    assert upkeep.adoption_state() == "decided"
    with ledger._database.writing() as connection:
        connection.execute(delete(tables.controls).where(tables.controls.c.name == "adopted"))
    assert upkeep.adoption_state() == "undecided"
    claim_ids(ledger, [JANE])
    assert upkeep.adoption_state() == "decided"
    upkeep.note_adoption("under_way")
    assert upkeep.adoption_state() == "under_way", "also when lookups are there already"


def test_terms_tell_their_price_budget_and_scope_as_the_ledger_stores_them() -> None:
    terms = replace(TERMS, price=Decimal("0.123456"), daily_budget=Decimal("2.5"))
    assert (terms.price_micros, terms.daily_budget_micros, terms.scope) == (123_456, 2_500_000, "default")
    shared = other_run(reuse_across_purposes=True, purpose=Purpose("collections", "debt", "3"))
    assert (shared.scope, shared.daily_budget_micros) == ("*", None)
    assert replace(TERMS, max_unknown_repeats=2).allowed_unknowns == 2
    assert replace(TERMS, max_unknown_repeats=2, unknown_policy="hold").allowed_unknowns == 0
