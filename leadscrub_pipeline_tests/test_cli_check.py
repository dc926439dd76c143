"""``leadscrub check``: both lists about single numbers, and never "may be called" unless both are clear."""

import itertools
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leadscrub_pipeline.simulators import Simulators
from leadscrub_pipeline.simulators.faults import Fault
from leadscrub_pipeline_tests.command_line import NOBODY_LISTENS, demo_settings, leadscrub

SEED = 1
ANY = [f"21255501{n:02d}" for n in range(100)] + [f"97255501{n:02d}" for n in range(100)]


def day(ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=ago)).date().isoformat()


@pytest.fixture(scope="module")
def vendors() -> Iterator[Simulators]:
    with Simulators(seed=SEED) as simulators:
        yield simulators


@pytest.fixture
def simulators(vendors: Simulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulators]:
    """Vendors that answer, and a fresh registry file that holds ``LISTED`` and ``BOTH``."""
    demo_settings(
        monkeypatch,
        tmp_path,
        **vendors.environment(),
        DNC_DATABASE_PATH=registry(tmp_path / "dnc.sqlite", [LISTED, BOTH]),
        DNC_LIST_DATE=day(3),
        CCC_MAX_RETRIES=0,
        CCC_TIMEOUT=2,
    )
    yield vendors
    vendors.ccc.faults.clear()


def registry(path: Path, listed: list[str]) -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE dnc_list (area_code TEXT, phone_number TEXT, full_phone TEXT, "
            "PRIMARY KEY (area_code, phone_number))"
        )
        connection.execute("CREATE INDEX full_phone ON dnc_list (full_phone)")
        rows = [(number[:3], number[3:], number) for number in listed]
        connection.executemany("INSERT INTO dnc_list VALUES (?, ?, ?)", rows)
    connection.close()
    return path


_SIMULATORS = Simulators(seed=SEED)
_LITIGATORS = [number for number in ANY if _SIMULATORS.ccc.is_litigator(number) and number[6:] < "0190"]
_OTHERS = [number for number in ANY if not _SIMULATORS.ccc.is_litigator(number)]
LITIGATOR, BOTH = _LITIGATORS[:2]
CLEAR, LISTED = _OTHERS[:2]
MAY, MUST_NOT, UNKNOWN = "may be called", "must not be called", "unknown"


def conclusions(*arguments: object, code: int) -> dict[str, str]:
    answer = leadscrub("check", "--json", *arguments)
    assert answer.code == code, answer
    return {line["number"]: line["conclusion"] for line in answer.lines}


@pytest.mark.parametrize(
    ("number", "dnc", "litigator", "conclusion", "code"),
    [
        (CLEAR, "clear", "clear", MAY, 0),
        (LISTED, "listed", "clear", MUST_NOT, 1),
        (LITIGATOR, "clear", "listed", MUST_NOT, 1),
        (BOTH, "listed", "listed", MUST_NOT, 1),
    ],
)
def test_a_number_may_be_called_only_when_both_lists_are_clear(
    simulators: Simulators, number: str, dnc: str, litigator: str, conclusion: str, code: int
) -> None:
    answer = leadscrub("check", number, "--json")
    (line,) = answer.lines
    assert answer.code == code
    assert (line["phone"], line["dnc"], line["litigator"], line["conclusion"]) == (number, dnc, litigator, conclusion)
    assert line["list_version"].startswith("dnc-")
    assert line["list_age_days"] == 3
    shown = leadscrub("check", number)
    assert conclusion in shown.out
    assert line["list_version"] in shown.out


def test_numbers_are_understood_in_any_spelling_and_asked_about_once(simulators: Simulators) -> None:
    spelled = f"+1 ({CLEAR[:3]}) {CLEAR[3:6]}-{CLEAR[6:]}"
    before = simulators.ccc.asked[CLEAR]
    assert conclusions(CLEAR, spelled, CLEAR, code=0) == {CLEAR: MAY, spelled: MAY}
    assert simulators.ccc.asked[CLEAR] == before + 1


def test_numbers_come_from_standard_input_one_a_line(simulators: Simulators) -> None:
    spelled = f"({CLEAR[:3]}) {CLEAR[3:6]}-{CLEAR[6:]}"
    answer = leadscrub("check", "--json", "-", stdin=f"\ufeff{spelled}\r\n\n  {LISTED}  \n".encode())
    assert {line["number"]: line["conclusion"] for line in answer.lines} == {spelled: MAY, LISTED: MUST_NOT}
    assert leadscrub("check", "-", stdin="\n \n").code == 2
    assert leadscrub("check", "-", stdin=b"\xff\xfe\n").code == 2
    assert leadscrub("check").code == 2


@pytest.mark.parametrize("text", ["911", "0005550123", "2125550123 ext 5", "not a number", "8005550123", "٢١٢٥٥٥٠١٢٣"])
def test_what_is_no_number_is_said_and_the_others_are_answered(simulators: Simulators, text: str) -> None:
    answer = leadscrub("check", "--json", text, CLEAR)
    assert answer.code == 2
    wrong, right = answer.lines
    assert (wrong["phone"], wrong["conclusion"]) == (None, UNKNOWN)
    assert wrong["problem"]
    assert right["conclusion"] == MAY
    assert leadscrub("check", text).code == 2


# --- a source that is not there ---------------------------------------------------------


def test_without_ccc_the_registry_is_still_shown(simulators: Simulators, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCC_API_URL", f"{NOBODY_LISTENS}/scrub")
    answer = leadscrub("check", "--json", CLEAR, LISTED)
    assert answer.code == 3
    assert [(line["dnc"], line["conclusion"]) for line in answer.lines] == [("clear", UNKNOWN), ("listed", MUST_NOT)]
    assert "CCC did not answer" in answer.err


def test_a_refused_key_is_an_unavailable_source(simulators: Simulators, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCC_API_KEY", "another")
    answer = leadscrub("check", "--json", CLEAR)
    assert answer.code == 3
    assert answer.lines[0]["litigator_reason"] == "source_unavailable"
    assert "CCC_API_KEY" in answer.err


def test_without_a_registry_file_the_litigator_list_is_still_shown(
    simulators: Simulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNC_DATABASE_PATH", "/no/such/file.sqlite")
    answer = leadscrub("check", "--json", CLEAR, LITIGATOR)
    assert answer.code == 3
    first, second = answer.lines
    assert (first["litigator"], first["dnc_reason"], first["conclusion"]) == ("clear", "source_unavailable", UNKNOWN)
    assert second["conclusion"] == MUST_NOT


@pytest.mark.parametrize(("policy", "code"), [("fail", 3), ("null", 1)])
def test_absence_from_a_stale_list_is_unknown_and_presence_counts(
    simulators: Simulators, monkeypatch: pytest.MonkeyPatch, policy: str, code: int
) -> None:
    monkeypatch.setenv("DNC_LIST_DATE", day(40))
    monkeypatch.setenv("DNC_ON_STALE_LIST", policy)
    answer = leadscrub("check", "--json", CLEAR, LISTED)
    assert answer.code == code
    first, second = answer.lines
    assert (first["dnc_reason"], first["conclusion"]) == ("stale_list", UNKNOWN)
    assert (second["dnc"], second["conclusion"], second["list_age_days"]) == ("listed", MUST_NOT, 40)


def test_an_area_code_that_the_list_does_not_cover_is_unknown(simulators: Simulators) -> None:
    answer = leadscrub("check", "--json", "3105550123")
    assert answer.code == 1
    assert answer.lines[0]["dnc_reason"] == "area_code_not_covered"


@pytest.mark.parametrize("kind", ["all_false", "missing_control", "clear_control", "wrong_type", "contradiction"])
def test_an_answer_of_ccc_that_proves_nothing_makes_no_number_callable(simulators: Simulators, kind: str) -> None:
    simulators.ccc.faults.add(Fault(kind))
    assert conclusions(CLEAR, code=1) == {CLEAR: UNKNOWN}


@pytest.mark.parametrize("kind", ["html", "server_error", "timeout", "cut_body", "empty_body", "forbidden"])
def test_a_failing_ccc_is_an_unavailable_source(simulators: Simulators, kind: str) -> None:
    simulators.ccc.faults.add(Fault(kind))
    assert conclusions(CLEAR, LISTED, code=3) == {CLEAR: UNKNOWN, LISTED: MUST_NOT}


def test_a_number_that_ccc_leaves_out_is_unknown(simulators: Simulators, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCC_CONTROL_NUMBERS", "")
    simulators.ccc.faults.add(Fault("short_answer"))
    assert list(conclusions(*_OTHERS[2:5], code=1).values()) == [MAY, MAY, UNKNOWN]


# --- policy -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"CCC_API_URL": "https://dataapi.dncscrub.com/v1.5/Scrub/litigator"},
        {"LEADSCRUB_KIND": "demo", "IDICORE_AUTH_URL": "", "IDICORE_SEARCH_URL": "", "CCC_API_URL": ""},
        {"CCC_API_KEY": ""},
        {"DNC_LIST_DATE": "2999-01-01"},
    ],
)
def test_what_a_run_would_be_refused_is_refused_here(
    simulators: Simulators, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert leadscrub("check", CLEAR).code == 4


def test_nothing_is_stored(simulators: Simulators, tmp_path: Path) -> None:
    conclusions(CLEAR, code=0)
    assert not (tmp_path / "home").exists()


def test_a_missing_control_number_is_a_warning(simulators: Simulators, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCC_CONTROL_NUMBERS", f"{LITIGATOR},{_OTHERS[5]}")
    answer = leadscrub("check", "--json", CLEAR)
    assert (answer.code, answer.lines[0]["conclusion"]) == (0, MAY)
    assert "control numbers" in answer.err


def test_more_numbers_than_one_request_holds_are_all_answered(
    simulators: Simulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCC_BATCH_SIZE", "10")
    numbers = list(itertools.islice(_OTHERS, 30))
    answer = leadscrub("check", "--json", "-", stdin="\n".join(numbers))
    assert [line["phone"] for line in answer.lines] == numbers
    assert {line["litigator"] for line in answer.lines} == {"clear"}
