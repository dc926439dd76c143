"""What makes a ledger open, and what makes it refuse: its kind, its keys, its file, its version."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import delete, event, insert, inspect, make_url, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from leadscrub_pipeline.errors import RefusedError, UnavailableError, UsageError
from leadscrub_pipeline.ledger import Cached, Ledger, tables
from leadscrub_pipeline.ledger.database import Database, _begin_postgresql, error_code
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    ANSWER,
    HIT,
    KEY,
    TERMS,
    Clock,
    claim_ids,
    clock,
    keys,
    look_up,
    new_postgres_database,
    open_ledger,
    other_run,
    where,
)

(JANE,) = keys(1)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("made", "asked"), [("demo", "live"), ("live", "demo")])
def test_a_ledger_of_the_other_kind_is_refused(where, made, asked):
    Ledger.open(where, kind=made, answer_keys=[KEY]).close()
    with pytest.raises(RefusedError, match=f"stamped {made}"):
        Ledger.open(where, kind=asked, answer_keys=[KEY])


def test_a_live_ledger_without_a_key_is_refused_and_nothing_is_made(where):
    with pytest.raises(RefusedError, match="LEADSCRUB_ANSWER_KEY"):
        Ledger.open(where, kind="live")
    assert Ledger.open_existing(where) is None


def test_a_ledger_is_refused_when_the_key_it_was_made_with_is_missing(where):
    Ledger.open(where, kind="live", answer_keys=[KEY]).close()
    with pytest.raises(RefusedError, match="no key that this ledger was made with"):
        Ledger.open(where, kind="live", answer_keys=[Fernet.generate_key().decode()])


def test_answers_stay_readable_when_a_new_key_is_put_before_the_old_one(open_ledger):
    look_up(open_ledger(), [JANE], HIT)
    cached = open_ledger(answer_keys=[Fernet.generate_key().decode(), KEY]).claim([JANE], TERMS)[JANE]
    assert isinstance(cached, Cached)
    assert cached.answer == ANSWER


def test_a_key_that_is_none_is_a_usage_error_that_does_not_show_it(where):
    with pytest.raises(UsageError) as caught:
        Ledger.open(where, kind="live", answer_keys=["not-a-key-but-secret"])
    assert "secret" not in str(caught.value)


def test_stored_answers_cannot_be_read_in_the_file(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite", kind="demo") as ledger:
        look_up(ledger, [JANE], HIT)
    for file in tmp_path.glob("ledger.sqlite*"):
        assert b"555-0123" not in file.read_bytes()


def test_the_demo_makes_its_own_key_once_and_only_the_owner_can_read_it(tmp_path):
    path = tmp_path / "home" / "ledger.sqlite"
    with Ledger.open(path, kind="demo") as ledger:
        look_up(ledger, [JANE], HIT)
        side_files = list(path.parent.iterdir())
        assert {mode(file) for file in side_files} == {0o600}, side_files
    key = path.with_name("ledger.sqlite.key").read_text()
    with Ledger.open(path, kind="demo") as ledger:
        assert isinstance(ledger.claim([JANE], TERMS)[JANE], Cached)
    assert path.with_name("ledger.sqlite.key").read_text() == key
    assert mode(path.parent) == 0o700


def test_a_lost_demo_key_is_named_and_not_made_anew(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path, kind="demo").close()
    path.with_name("ledger.sqlite.key").unlink()
    with pytest.raises(RefusedError, match=r"ledger\.sqlite\.key is gone"):
        Ledger.open(path, kind="demo")


def test_a_demo_on_a_server_needs_a_key(new_postgres_database):
    with pytest.raises(RefusedError, match="LEADSCRUB_ANSWER_KEY"):
        Ledger.open(new_postgres_database(), kind="demo")


def test_a_ledger_of_another_version_is_refused(open_ledger):
    with open_ledger() as ledger, ledger._database.writing() as connection:
        connection.execute(update(tables.stamp).values(schema_version=tables.SCHEMA_VERSION + 1))
    with pytest.raises(RefusedError, match=f"schema version {tables.SCHEMA_VERSION + 1}"):
        open_ledger()


def test_looking_into_a_ledger_that_was_never_made_finds_none_and_makes_none(where):
    assert Ledger.open_existing(where) is None
    if "://" not in where:
        assert not Path(where).parent.exists()


def test_a_ledger_opened_for_reading_shows_sums_and_writes_nothing(where, open_ledger, clock):
    look_up(open_ledger(), [JANE], HIT)
    with Ledger.open_existing(where, clock=clock) as reading:
        assert reading.kind == "demo"
        assert reading.summary().lookups == 1
        assert isinstance(reading.peek([JANE], TERMS)[JANE], Cached)
        for write in (
            lambda: reading.claim([JANE], TERMS),
            lambda: reading.release(["x"]),
            reading.sweep,
            reading.writer,
        ):
            with pytest.raises(RefusedError, match="reading only"):
                write()


def test_a_file_that_is_no_database_is_reported_by_name_without_its_content(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_text("Jane Roe, 212-555-0123 " * 100)
    with pytest.raises(UnavailableError) as caught:
        Ledger.open(path, kind="demo")
    assert "SQLITE_NOTADB" in str(caught.value)
    assert "Jane" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_folder_in_the_files_place_is_reported(tmp_path):
    with pytest.raises(UnavailableError, match="cannot be made or opened"):
        Ledger.open(tmp_path, kind="demo")


def test_a_server_that_is_not_there_is_reported_without_its_password():
    with pytest.raises(UnavailableError) as caught:
        Ledger.open("postgresql://jane:hunter2@127.0.0.1:1/x", kind="demo", answer_keys=[KEY])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/x", "://hunter2", "postgresql://u:hunter2@h:notaport/x"])
def test_a_url_that_is_none_is_a_usage_error_without_its_password(url):
    with pytest.raises(UsageError) as caught:
        Ledger.open(url, kind="demo")
    assert "hunter2" not in str(caught.value)


def test_a_host_whose_clock_is_off_may_not_take_part(new_postgres_database, monkeypatch):
    import leadscrub_pipeline.ledger.database as module  # noqa: PLC0415

    off = Clock()
    monkeypatch.setattr(module, "utc_now", off)
    with pytest.raises(UnavailableError, match="clock"):
        Ledger.open(new_postgres_database(), kind="demo", answer_keys=[KEY])


def test_the_file_keeps_its_promises_in_every_connection(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, kind="demo") as ledger, ledger._database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA cache_size").scalar() == -16_384
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 8_000
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()


def test_an_error_of_the_database_quotes_no_value(open_ledger):
    with pytest.raises(DBAPIError) as caught, open_ledger()._database.writing() as connection:
        connection.execute(insert(tables.controls), [{"name": "key_version", "value": "Jane Roe", "set_at": 0}])
    assert "Jane" not in str(caught.value)


def test_a_server_is_told_how_long_to_wait_and_what_a_commit_must_promise():
    server = Database("postgresql://nobody@127.0.0.1:1/none?options=-csearch_path%3Dother")
    told = {}

    def connect(_dialect, _record, _arguments, options):
        told.update(options)
        raise ConnectionRefusedError

    event.listen(server.engine, "do_connect", connect)
    with pytest.raises(ConnectionRefusedError):
        server.engine.connect()
    assert (told["connect_timeout"], told["application_name"]) == (10, "leadscrub-ledger")
    assert told["options"] == (
        "-c lock_timeout=30s -c idle_in_transaction_session_timeout=60s -c synchronous_commit=on "
        "-c default_transaction_isolation=read\\ committed -csearch_path=other"
    )
    assert server.engine.dialect.driver == "psycopg2"
    assert server.engine.pool._pre_ping, "a connection that broke is noticed before it is used"


def test_a_writer_on_a_server_takes_the_lock_of_all_writers_first_and_a_reader_does_not():
    class Connection:
        def __init__(self, **options):
            self.options, self.statements = options, []

        def get_execution_options(self):
            return self.options

        def exec_driver_sql(self, statement):
            self.statements.append(statement)

    server = Database("postgresql://nobody@127.0.0.1:1/none")
    writer, reader = Connection(**server._writing.get_execution_options()), Connection()
    for connection in (writer, reader):
        _begin_postgresql(connection)
    assert writer.statements == ["SELECT pg_advisory_xact_lock(7305122026)"]
    assert reader.statements == []


def test_an_error_is_told_by_its_type_and_its_code_on_either_engine():
    class DiskFull(Exception):  # noqa: N818 - named as the driver names it
        pgcode = "53100"

    assert error_code(DBAPIError("x", None, DiskFull("Jane"))) == "DiskFull 53100"
    assert error_code(DBAPIError("x", None, ValueError("Jane"))) == "ValueError"
    assert error_code(sqlite3.OperationalError("Jane")) == "OperationalError"
    assert error_code(SQLAlchemyError("Jane")) == "SQLAlchemyError"


def test_a_second_current_request_for_a_person_is_impossible_in_the_database_itself(open_ledger):
    ledger = open_ledger()
    (lookup_id,) = claim_ids(ledger, [JANE])
    columns = [column.name for column in tables.lookups.columns if column.name != "lookup_id"]
    with (
        pytest.raises(UnavailableError, match=r"IntegrityError|UniqueViolation"),
        ledger._writing("copying") as connection,
    ):
        connection.exec_driver_sql(
            f"INSERT INTO ledger_lookups (lookup_id, {', '.join(columns)}) "
            f"SELECT 'copy', {', '.join(columns)} FROM ledger_lookups WHERE lookup_id = '{lookup_id}'"
        )


# --- the version of the person keys -------------------------------------------------------------


def test_a_new_ledger_notes_the_version_of_its_keys_and_refuses_another(where, open_ledger):
    ledger = open_ledger(key_version=3)
    terms = replace(TERMS, key_version=3)
    look_up(ledger, [JANE], HIT, terms)
    for version in (2, 4):
        with pytest.raises(RefusedError, match=rf"version 3 .* version {version}.*leadscrub ledger rekey"):
            ledger.claim([JANE], replace(TERMS, key_version=version))
        with pytest.raises(RefusedError, match="leadscrub ledger rekey"):
            ledger.peek([JANE], replace(TERMS, key_version=version))
    assert ledger.summary().lookups == 1
    assert isinstance(open_ledger(key_version=4).claim([JANE], terms)[JANE], Cached)


@pytest.mark.parametrize(("rows", "found"), [((), "9"), ((5,), "5"), ((6, 5), "5")])
def test_a_ledger_without_a_note_of_its_key_version_gets_that_of_its_oldest_rows(open_ledger, rows, found):
    ledger = open_ledger()
    for number, version in enumerate(rows):
        look_up(ledger, keys(1, start=number), HIT)
        with ledger._database.writing() as connection:
            newest = tables.lookups.c.person_key == keys(1, start=number)[0]
            connection.execute(update(tables.lookups).where(newest).values(key_version=version))
    with ledger._database.writing() as connection:
        connection.execute(delete(tables.controls))
    again = open_ledger(key_version=9)
    with again._database.reading() as connection:
        (note,) = connection.execute(select(tables.controls)).all()
    assert (note.name, note.value) == ("key_version", found)


# --- a ledger of an earlier release -------------------------------------------------------------

NEW_IN_VERSION_2 = {"ledger_reuses", "ledger_controls", "ledger_tombstones", "ledger_chains", "ledger_roots"}


@pytest.fixture
def older(where, clock):
    """A ledger as version 1 made it, with a hit, in a file or on a server; the path or URL of it."""
    with Ledger.open(where, kind="demo", answer_keys=[KEY], clock=clock) as ledger:
        look_up(ledger, [JANE], HIT)
        with ledger._database.writing() as connection:
            connection.execute(update(tables.stamp).values(schema_version=1))
            for name in sorted(NEW_IN_VERSION_2):
                connection.exec_driver_sql(f"DROP TABLE {name}")
    return where


def tables_of(ledger):
    return set(inspect(ledger._database.engine).get_table_names())


def test_a_ledger_of_version_1_opens_with_its_rows_and_gets_what_it_lacks(older, clock):
    with Ledger.open(older, kind="demo", answer_keys=[KEY], clock=clock) as ledger:
        assert ledger.claim([JANE], other_run())[JANE].answer == ANSWER
        assert tables_of(ledger) == set(tables.metadata.tables)
        assert ledger.summary().reused == 1
        with ledger._database.reading() as connection:
            assert connection.execute(select(tables.stamp.c.schema_version)).scalar_one() == tables.SCHEMA_VERSION
            assert connection.execute(select(tables.controls.c.value)).scalars().all() == ["1"]
    with Ledger.open(older, kind="demo", answer_keys=[KEY], clock=clock) as ledger:
        assert ledger.summary().lookups == 1


def test_a_ledger_of_version_1_is_read_in_full_and_left_as_it_is(older, clock):
    with Ledger.open_existing(older, clock=clock) as reading:
        assert (reading.summary().lookups, reading.summary().reuses, reading.desk.paused()) == (1, (), None)
        assert isinstance(reading.peek([JANE], TERMS)[JANE], Cached)
        assert tables_of(reading).isdisjoint(NEW_IN_VERSION_2)
        with reading._database.reading() as connection:
            assert connection.execute(select(tables.stamp.c.schema_version)).scalar_one() == 1


def test_a_ledger_of_version_1_can_be_backed_up_without_upgrading_it(older, clock, tmp_path):
    with Ledger.open_existing(older, clock=clock) as reading:
        assert reading.desk.back_up(tmp_path / "backup.sqlite").lookups == 1
        assert tables_of(reading).isdisjoint(NEW_IN_VERSION_2)
    with Ledger.open(tmp_path / "other.sqlite", kind="demo", answer_keys=[KEY], clock=clock) as other:
        assert other.desk.restore(tmp_path / "backup.sqlite").added == 1
        assert isinstance(other.claim([JANE], other_run())[JANE], Cached)


def test_two_processes_may_upgrade_a_ledger_at_once(older, clock):
    program = (
        "import sys; from leadscrub_pipeline.ledger import Ledger\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "with Ledger.open(sys.argv[1], kind='demo', answer_keys=[sys.argv[2]]) as ledger:\n"
        "    assert ledger.summary().lookups == 1; ledger.sweep()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, older, KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        process.communicate(timeout=60)
    assert [process.returncode for process in started] == [0] * 3
    with Ledger.open_existing(older, clock=clock) as ledger:
        assert tables_of(ledger) == set(tables.metadata.tables)


def test_reading_changes_no_file_and_no_mode_and_needs_no_right_to_write(tmp_path, clock):
    path = tmp_path / "home" / "ledger.sqlite"
    with Ledger.open(path, kind="demo", clock=clock) as ledger:
        look_up(ledger, [JANE], HIT)
    path.chmod(0o440)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with Ledger.open_existing(path, clock=clock) as reading:
        assert reading.summary().lookups == 1
        with pytest.raises(DBAPIError), reading._database.writing() as connection:
            connection.execute(update(tables.stamp).values(schema_version=7))
    assert mode(path) == 0o440
    assert {file: file.read_bytes() for file in before} == before


def test_a_role_that_may_only_read_can_read_an_older_ledger_on_a_server(new_postgres_database, clock):
    url = make_url(new_postgres_database())
    schema = url.query["options"].removeprefix("-csearch_path=")
    role = f"reader_{schema}"
    with Ledger.open(url.render_as_string(hide_password=False), kind="demo", answer_keys=[KEY], clock=clock) as ledger:
        look_up(ledger, [JANE], HIT)
        with ledger._database.writing() as connection:
            connection.execute(update(tables.stamp).values(schema_version=1))
            connection.exec_driver_sql("DROP TABLE ledger_reuses")
            for statement in (
                f"CREATE ROLE {role} LOGIN PASSWORD 'reader'",
                f"GRANT USAGE ON SCHEMA {schema} TO {role}",
                f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
            ):
                connection.exec_driver_sql(statement)
    reader = url.set(username=role, password="reader").render_as_string(hide_password=False)
    with Ledger.open_existing(reader, clock=clock) as reading:
        assert (reading.summary().lookups, reading.summary().reuses) == (1, ())
        with pytest.raises(DBAPIError), reading._database.writing() as connection:
            connection.execute(update(tables.stamp).values(schema_version=7))
