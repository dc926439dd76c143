"""``leadscrub dnc``: what its commands print, refuse and end with."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from leadscrub_pipeline.cli.app import app
from leadscrub_pipeline.dnc.bulk_index import index_path
from leadscrub_pipeline_tests.dnc_lists import START, change_text, full_text, old_file, some_numbers

NUMBERS = some_numbers(1, each=2_000)
DAY = timedelta(days=1)
ABSENT = "2125550199"


class Desk:
    """A list's place and the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.list = folder / "home" / "dnc.sqlite"
        self.full = full_text(folder / "full.txt", NUMBERS)

    def run(self, *arguments: object, **settings: str) -> Result:
        environment = {"LEADSCRUB_ENV_FILE": "", "DNC_DATABASE_PATH": str(self.list), "DNC_SUBSCRIPTION": "12345-678"}
        return CliRunner().invoke(app, ["dnc", *map(str, arguments)], env=environment | settings)

    def json(self, *arguments: object) -> dict:
        result = self.run(*arguments, "--json")
        assert result.exit_code in (0, 1), result.output
        return json.loads(result.stdout)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    result = made.run("build", made.full, "--obtained-at", "2026-11-18T08:00")
    assert result.exit_code == 0, result.output
    return made


def test_build_tells_what_it_made_and_status_where_it_came_from(desk: Desk) -> None:
    found = desk.json("status")
    assert (found["rows"], found["area_codes"], found["kind"]) == (len(NUMBERS), 2, "full")
    assert found["subscription"] == "...78"
    assert found["index"] == "fits"
    assert not found["build_under_way"]
    (source,) = found["sources"]
    assert (source["name"], source["lines"], len(source["sha256"])) == ("full.txt", len(NUMBERS), 64)
    assert [version["numbers"] for version in found["versions"]] == [len(NUMBERS)]
    shown = desk.run("status").stdout
    assert found["list_version"] in shown
    assert "12345" not in shown


def test_update_and_diff_and_a_check_as_of_a_day(desk: Desk) -> None:
    at = START.replace(month=11, day=18, hour=20)
    changes = change_text(desk.folder / "c.txt", [(NUMBERS[0], at, "D"), (int(ABSENT), at, "A")])
    made = desk.json("update", changes, "--obtained-at", "2026-11-19T08:00")
    assert (made["added"], made["removed"]) == (1, 1)
    older = desk.json("status")["versions"][1]["version"]
    assert desk.json("diff", older)["area_codes"] == [{"area_code": "212", "added": 1, "removed": 1}]
    assert desk.run("diff", older, "--numbers").stdout.split() == [f"+{ABSENT}", f"-{NUMBERS[0]}"]
    assert desk.json("check", f"{ABSENT[:3]}-{ABSENT[3:6]}-{ABSENT[6:]}")[0]["verdict"] == "listed"
    too_early = desk.run("check", ABSENT, "--as-of", "2026-11-17")
    assert too_early.exit_code == 2
    assert "is kept" in too_early.output
    assert desk.run("diff", "dnc-2020").exit_code == 2


def test_what_is_refused_says_which_option_takes_it(desk: Desk) -> None:
    small = full_text(desk.folder / "small.txt", NUMBERS[::2])
    refused = desk.run("build", small, "--obtained-at", "2026-11-19T08:00")
    assert (refused.exit_code, "--allow-shrink" in refused.output) == (4, True)
    taken = desk.run("build", small, "--obtained-at", "2026-11-19T08:00", "--allow-shrink")
    assert taken.exit_code == 0, taken.output
    empty = change_text(desk.folder / "empty.txt", [])
    assert "--allow-gap" in desk.run("update", empty, "--obtained-at", "2026-11-20T08:00").output
    again = desk.run("build", small, "--obtained-at", "2026-11-19T08:00")
    assert (again.exit_code, "nothing was done" in again.output) == (0, True)
    future = desk.run("build", small, "--obtained-at", "2036-11-19")
    assert (future.exit_code, "in the future" in future.output) == (4, True)


def test_verify_makes_the_index_anew_and_finds_numbers_that_are_others(desk: Desk) -> None:
    index_path(desk.list).unlink()
    found = desk.json("verify")
    assert (found["numbers"], found["malformed"], found["as_built"]) == (len(NUMBERS), 0, True)
    assert index_path(desk.list).exists()
    with closing(sqlite3.connect(desk.list)) as connection, connection:
        connection.execute("DELETE FROM dnc_numbers WHERE phone = ?", (NUMBERS[0],))
    changed = desk.run("verify")
    assert (changed.exit_code, "was built with" in changed.output) == (3, True)


def test_an_old_file_is_shown_as_it_is_and_taken_over(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.list.parent.mkdir()
    old_file(desk.list, NUMBERS)
    status = desk.run("status", DNC_LIST_DATE="2026-11-18")
    assert (status.exit_code, "leadscrub dnc import" in status.output) == (0, True)
    assert desk.run("status").exit_code == 1, "of unknown age"
    assert desk.run("check", NUMBERS[0], "--as-of", "2026-11-18").exit_code == 2
    made = desk.json("import", "--obtained-at", "2026-11-18")
    assert (made["rows"], made["kind"]) == (len(NUMBERS), "import")
    assert desk.json("status")["schema"] == "compact"
    assert desk.list.with_name("dnc.sqlite.old").exists()


def test_without_a_place_for_the_list_every_command_says_which_setting_is_missing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for arguments in (
        ("status",),
        ("verify",),
        ("check", ABSENT),
        ("diff", "x"),
        ("import", "--obtained-at", "2026-11-18"),
    ):
        result = desk.run(*arguments, DNC_DATABASE_PATH="")
        assert (result.exit_code, "DNC_DATABASE_PATH" in result.output) in ((2, True), (3, True)), arguments


def test_a_text_that_is_no_number_is_usage_and_is_not_repeated(desk: Desk) -> None:
    result = desk.run("check", "no number", NUMBERS[0])
    assert result.exit_code == 2
    assert "1 of 2 texts" in result.output
