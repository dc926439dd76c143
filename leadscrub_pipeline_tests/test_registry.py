"""The registry file: a phone is clear only when a fresh list that covers it does not hold it."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.dnc import DncRegistry
from leadscrub_pipeline.domain.verdicts import CLEAR, LISTED, Reason, unknown
from leadscrub_pipeline.errors import RefusedError, UnavailableError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LISTED_PHONES = ("2125550101", "2125550102", "3105550150", "9725550199")
ABSENT = "2125550103"
OTHER_AREA = "4155550101"
TODAY = date(2026, 11, 20)


def old_file(path: Path, phones: Iterable[str] = LISTED_PHONES, *, index: bool = True, key: bool = True) -> Path:
    with sqlite3.connect(path) as connection:
        primary = ", PRIMARY KEY (area_code, phone_number)" if key else ""
        connection.execute(f"CREATE TABLE dnc_list (area_code TEXT, phone_number TEXT, full_phone TEXT{primary})")
        if index:
            connection.execute("CREATE INDEX idx_full_phone ON dnc_list (full_phone)")
        connection.executemany("INSERT INTO dnc_list VALUES (?, ?, ?)", [(p[:3], p[3:], p) for p in phones])
    connection.close()
    return path


def compact_file(
    path: Path, phones: Iterable[str] = LISTED_PHONES, *, obtained_at: object = "2026-11-20T00:00:00+00:00"
) -> Path:
    phones = tuple(phones)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE dnc_numbers (phone INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE dnc_version (version TEXT, obtained_at TEXT, row_count INTEGER)")
        connection.execute("CREATE TABLE dnc_area_codes (area_code INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO dnc_numbers VALUES (?)", [(int(p),) for p in phones])
        connection.execute("INSERT INTO dnc_version VALUES ('2026-11', ?, ?)", (obtained_at, len(phones)))
        connection.executemany("INSERT INTO dnc_area_codes VALUES (?)", {(int(p[:3]),) for p in phones})
    connection.close()
    return path


def change(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def opened(
    path: Path | None,
    *,
    list_date: date | None = TODAY,
    max_age_days: int = 31,
    now: Callable[[], datetime] = lambda: NOW,
) -> DncRegistry:
    return DncRegistry.open(path, list_date=list_date, max_age_days=max_age_days, now=now)


@pytest.fixture(params=[old_file, compact_file])
def make(request: pytest.FixtureRequest) -> Callable[..., Path]:
    return request.param


@pytest.fixture
def file(make: Callable[..., Path], tmp_path: Path) -> Path:
    return make(tmp_path / "dnc.sqlite")


@pytest.mark.parametrize("batched", [True, False])
def test_a_fresh_list_answers_every_asked_phone(file: Path, batched: bool) -> None:
    with opened(file) as registry:
        answers = registry.look_up([*LISTED_PHONES, ABSENT, OTHER_AREA, ABSENT], batched=batched)
    assert answers == {
        **dict.fromkeys(LISTED_PHONES, LISTED),
        ABSENT: CLEAR,
        OTHER_AREA: unknown(Reason.AREA_CODE_NOT_COVERED),
    }


def test_nothing_asked_is_nothing_answered(file: Path) -> None:
    with opened(file) as registry:
        assert registry.look_up([]) == {}
        assert registry.look_up([], batched=False) == {}


@pytest.mark.parametrize(
    "text", ["", "212555010", "02125550103", "212-555-0103", "٢١٢٥٥٥٠١٠٣", "2125550103\n", "x' OR 1"]
)
def test_text_that_is_no_phone_is_never_clear(file: Path, text: str) -> None:
    with opened(file) as registry:
        for batched in (True, False):
            assert registry.look_up([text, ABSENT], batched=batched)[text] == unknown(Reason.NOT_NANP)


def test_a_stale_list_still_says_listed_but_never_clear(make: Callable[..., Path], tmp_path: Path) -> None:
    path = make(tmp_path / "dnc.sqlite")
    late = datetime(2026, 12, 21, tzinfo=UTC)  # obtained 20 November at 0:00, 31 days
    with opened(path, now=lambda: late) as registry:
        assert registry.age_days == 31
        assert registry.age_reason() is Reason.STALE_LIST
        answers = registry.look_up([LISTED_PHONES[0], ABSENT])
        with pytest.raises(UnavailableError, match="31 days old"):
            registry.require_fresh()
    assert answers == {LISTED_PHONES[0]: LISTED, ABSENT: unknown(Reason.STALE_LIST)}
    with opened(path, now=lambda: late - timedelta(seconds=1)) as registry:
        registry.require_fresh()
        assert registry.look_up([ABSENT]) == {ABSENT: CLEAR}


def test_a_list_that_grows_old_while_it_is_open_stops_saying_clear(file: Path) -> None:
    clock = [NOW]
    with opened(file, now=lambda: clock[0]) as registry:
        assert registry.look_up([ABSENT]) == {ABSENT: CLEAR}
        clock[0] += timedelta(days=31)
        assert registry.look_up([ABSENT]) == {ABSENT: unknown(Reason.STALE_LIST)}


def test_file_times_do_not_make_an_undated_list_fresh(tmp_path: Path) -> None:
    path = old_file(tmp_path / "dnc.sqlite")
    with opened(path, list_date=None, now=lambda: datetime.now(UTC)) as registry:
        assert registry.age_days is None
        assert registry.look_up([LISTED_PHONES[0], ABSENT]) == {
            LISTED_PHONES[0]: LISTED,
            ABSENT: unknown(Reason.LIST_OF_UNKNOWN_AGE),
        }
        with pytest.raises(UnavailableError, match="DNC_LIST_DATE"):
            registry.require_fresh()


def test_the_date_in_the_file_wins_over_the_setting(tmp_path: Path) -> None:
    path = compact_file(tmp_path / "dnc.sqlite", obtained_at="2026-10-01T08:00:00Z")
    with opened(path, list_date=TODAY) as registry:
        assert registry.version.obtained_at == datetime(2026, 10, 1, 8, tzinfo=UTC)
        assert registry.age_reason() is Reason.STALE_LIST


def test_a_compact_file_without_a_date_takes_the_setting(tmp_path: Path) -> None:
    path = compact_file(tmp_path / "dnc.sqlite", obtained_at=None)
    with opened(path) as registry:
        assert registry.version.obtained_at == datetime(2026, 11, 20, tzinfo=UTC)
    with opened(path, list_date=None) as registry:
        assert registry.age_reason() is Reason.LIST_OF_UNKNOWN_AGE


def test_a_list_date_in_the_future_is_refused(file: Path) -> None:
    with pytest.raises(RefusedError, match="future"):
        opened(file, list_date=date(2026, 11, 22))


@pytest.mark.parametrize("text", ["2026-11-22", "2026-11-21T12:00:01+00:00", "soon", "", 5, b"x"])
def test_a_date_in_the_file_that_cannot_be_is_refused(tmp_path: Path, text: object) -> None:
    with pytest.raises(UnavailableError):
        opened(compact_file(tmp_path / "dnc.sqlite", obtained_at=text))


def test_a_missing_setting_or_file_is_named_and_never_read_as_not_listed(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="DNC_DATABASE_PATH"):
        opened(None)
    with pytest.raises(UnavailableError, match="does not exist"):
        opened(tmp_path / "missing.sqlite")
    with pytest.raises(UnavailableError, match="does not exist"):
        opened(tmp_path)
    assert not (tmp_path / "missing.sqlite").exists()


def test_an_empty_file_or_list_is_named(make: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "zero").touch()
    with pytest.raises(UnavailableError, match="is empty"):
        opened(tmp_path / "zero")
    with pytest.raises(UnavailableError, match="holds no numbers"):
        opened(make(tmp_path / "dnc.sqlite", ()))


def test_a_file_that_is_not_sqlite_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("212,5550101\n" * 100)
    with pytest.raises(UnavailableError, match="no SQLite file"):
        opened(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
def test_a_truncated_file_is_named(make: Callable[..., Path], tmp_path: Path, share: float) -> None:
    path = make(tmp_path / "dnc.sqlite", [f"212555{n:04}" for n in range(5000)])
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(UnavailableError, match="truncated"):
        opened(path)


def test_a_file_with_a_broken_middle_never_answers_clear_from_it(make: Callable[..., Path], tmp_path: Path) -> None:
    phones = [f"212555{n:04}" for n in range(10_000)]
    path = make(tmp_path / "dnc.sqlite", phones)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096 * 4)
        file.write(b"\xff" * (size - 4096 * 8))

    def attempt() -> None:
        with opened(path) as registry:
            answers = registry.look_up(phones)
            assert CLEAR not in answers.values()

    with pytest.raises(UnavailableError):
        attempt()


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE numbers (phone TEXT)",),
        ("CREATE TABLE dnc_list (full_phone TEXT PRIMARY KEY)",),
        ("CREATE TABLE dnc_numbers (phone INTEGER PRIMARY KEY)",),
        ("CREATE VIEW dnc_list AS SELECT '212' AS area_code, '5550101' AS phone_number, '2125550101' AS full_phone",),
    ],
)
def test_a_file_of_another_schema_is_named(tmp_path: Path, statements: tuple[str, ...]) -> None:
    path = tmp_path / "dnc.sqlite"
    for statement in statements:
        change(path, statement)
    with pytest.raises(UnavailableError, match="another schema"):
        opened(path)


@pytest.mark.parametrize("missing", ["index", "key"])
def test_a_file_without_an_index_is_named_instead_of_scanned(tmp_path: Path, missing: str) -> None:
    path = old_file(tmp_path / "dnc.sqlite", **{missing: False})
    with pytest.raises(UnavailableError, match="index"):
        opened(path)


def test_a_partial_index_does_not_count(tmp_path: Path) -> None:
    path = old_file(tmp_path / "dnc.sqlite", index=False)
    change(path, "CREATE INDEX part ON dnc_list (full_phone) WHERE full_phone > '5'")
    with pytest.raises(UnavailableError, match="index"):
        opened(path)


def test_a_list_with_statistics_keeps_using_its_index(make: Callable[..., Path], tmp_path: Path) -> None:
    path = make(tmp_path / "dnc.sqlite")
    change(path, "ANALYZE")
    with opened(path) as registry:
        assert registry.look_up([ABSENT, LISTED_PHONES[1]]) == {ABSENT: CLEAR, LISTED_PHONES[1]: LISTED}


@pytest.mark.parametrize(
    "full", ["+12125550101", "212-555-0101", "12125550101", " 2125550101", "", None, b"2125550101"]
)
def test_a_list_in_another_spelling_is_refused_because_nothing_would_be_found(tmp_path: Path, full: object) -> None:
    path = old_file(tmp_path / "dnc.sqlite", ())
    change(path, "INSERT INTO dnc_list VALUES ('212', '5550101', ?)", full)
    with pytest.raises(UnavailableError, match=r"ten digits|without full_phone|holds no numbers"):
        opened(path)


def test_one_row_without_its_number_is_refused(tmp_path: Path) -> None:
    path = old_file(tmp_path / "dnc.sqlite")
    change(path, "INSERT INTO dnc_list VALUES ('212', '55501015', NULL)")
    with pytest.raises(UnavailableError, match="without full_phone"):
        opened(path)


def test_numbers_stored_as_integers_in_the_old_schema_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dnc.sqlite"
    change(path, "CREATE TABLE dnc_list (area_code TEXT, phone_number TEXT, full_phone INTEGER PRIMARY KEY)")
    change(path, "CREATE UNIQUE INDEX key ON dnc_list (area_code, phone_number)")
    change(path, "INSERT INTO dnc_list VALUES ('212', '5550101', 2125550101)")
    with pytest.raises(UnavailableError, match=r"ten digits|index"):
        opened(path)


@pytest.mark.parametrize("rows", [0, 2])
def test_a_compact_file_says_its_version_once(tmp_path: Path, rows: int) -> None:
    path = compact_file(tmp_path / "dnc.sqlite")
    change(path, "DELETE FROM dnc_version")
    for n in range(rows):
        change(path, "INSERT INTO dnc_version VALUES (?, '2026-11-20', 4)", str(n))
    with pytest.raises(UnavailableError, match="exactly one row"):
        opened(path)


def test_a_covered_area_code_without_any_listed_number_is_clear_in_a_compact_file(tmp_path: Path) -> None:
    path = compact_file(tmp_path / "dnc.sqlite")
    change(path, "INSERT INTO dnc_area_codes VALUES (415)")
    with opened(path) as registry:
        assert registry.look_up([OTHER_AREA]) == {OTHER_AREA: CLEAR}


def insert_one(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        old = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'dnc_list'").fetchone()
        connection.execute(
            "INSERT INTO dnc_list VALUES ('212', '5550103', '2125550103')"
            if old
            else "INSERT INTO dnc_numbers VALUES (2125550103)"
        )
    connection.close()


def insert_one_and_put_the_time_back(path: Path) -> None:
    before = path.stat()
    insert_one(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


CHANGES = [insert_one, insert_one_and_put_the_time_back, replace, cut, Path.unlink, Path.touch]


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("change_file", CHANGES)
def test_a_file_that_changes_during_the_lookup_gives_no_answer(
    file: Path, change_file: Callable[[Path], None], batched: bool
) -> None:
    with opened(file) as registry:
        changed = []

        def on_statement(_: str) -> None:
            if not changed:
                changed.append(True)
                change_file(file)

        registry._connection.set_trace_callback(on_statement)
        with pytest.raises(UnavailableError):
            registry.look_up([ABSENT], batched=batched)
        assert changed


@pytest.mark.parametrize("change_file", CHANGES)
def test_a_file_that_changed_after_opening_gives_no_answer(file: Path, change_file: Callable[[Path], None]) -> None:
    with opened(file) as registry:
        registry.look_up([ABSENT])
        change_file(file)
        with pytest.raises(UnavailableError):
            registry.look_up([ABSENT])


def test_a_write_that_sits_in_the_write_ahead_log_is_seen(make: Callable[..., Path], tmp_path: Path) -> None:
    path = make(tmp_path / "dnc.sqlite")
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    with opened(path) as registry:
        assert registry.look_up([ABSENT]) == {ABSENT: CLEAR}
        insert_one(path)
        with pytest.raises(UnavailableError, match="changed"):
            registry.look_up([ABSENT])
    with opened(path) as registry:
        assert registry.look_up([ABSENT]) == {ABSENT: LISTED}
    writer.close()


def test_a_locked_file_is_unavailable_and_quotes_no_foreign_text(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, timeout=0.05, **kwargs))
    writer = connect(file)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UnavailableError, match="SQLITE_BUSY") as caught:
        opened(file)
    assert caught.value.__cause__ is None
    writer.close()


def test_looking_up_never_writes_to_the_file(file: Path) -> None:
    before = file.read_bytes()
    with opened(file) as registry:
        registry.look_up([ABSENT])
        with pytest.raises(sqlite3.OperationalError):
            registry._connection.execute("CREATE TABLE t (x)")
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_path_with_signs_of_an_address_is_opened_as_it_is(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "a?mode=rwc#50%"
    folder.mkdir()
    with opened(make(folder / "dnc list.sqlite")) as registry:
        assert registry.look_up([ABSENT]) == {ABSENT: CLEAR}


def test_a_copy_of_the_file_has_the_same_version_and_another_list_another(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    path = make(tmp_path / "dnc.sqlite")
    shutil.copy(path, tmp_path / "copy.sqlite")
    with opened(path) as first, opened(tmp_path / "copy.sqlite") as second:
        assert first.version == second.version
    if make is old_file:
        with opened(old_file(tmp_path / "next.sqlite", ["2125550111", *LISTED_PHONES[1:]])) as other:
            assert other.version.name != first.version.name
        with opened(path, list_date=date(2026, 11, 1)) as other:
            assert other.version.name != first.version.name


def test_describe_has_the_same_keys_whatever_the_list(tmp_path: Path) -> None:
    with opened(old_file(tmp_path / "old"), list_date=None) as old, opened(compact_file(tmp_path / "new")) as new:
        assert old.describe().keys() == new.describe().keys()
        assert new.describe()["age_days"] == 1
        assert new.describe()["area_codes"] == 3
        assert old.describe()["age_reason"] == "list_of_unknown_age"


PHONES = st.builds(
    lambda area, number: f"{area}{number:07}",
    st.sampled_from(["212", "213", "310", "415"]),
    st.integers(5_550_100, 5_550_130),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(listed=st.sets(PHONES, min_size=1), asked=st.lists(PHONES))
def test_one_statement_and_one_a_phone_answer_the_same(tmp_path: Path, listed: set[str], asked: list[str]) -> None:
    areas = {phone[:3] for phone in listed}
    for make in (old_file, compact_file):
        path = tmp_path / f"{make.__name__}.sqlite"
        path.unlink(missing_ok=True)
        with opened(make(path, listed)) as registry:
            batched = registry.look_up(asked)
            assert batched == registry.look_up(asked, batched=False)
        assert batched == {
            phone: LISTED
            if phone in listed
            else (CLEAR if phone[:3] in areas else unknown(Reason.AREA_CODE_NOT_COVERED))
            for phone in asked
        }
