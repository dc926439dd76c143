"""``leadscrub scripts`` and ``leadscrub preview``'s and ``run``'s way of naming scripts."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from leadscrub_pipeline.cli.app import app
from leadscrub_pipeline.cli.script_arguments import complete_script

GOOD = (
    "-- title: Good ones\n-- owner: someone\nSELECT first_name, last_name, address, zip_code FROM LEADS_DB.PUBLIC.T\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    monkeypatch.setenv("LEADSCRUB_ENV_FILE", "")
    monkeypatch.setenv("LEADSCRUB_SCRIPTS", str(folder))
    monkeypatch.setenv("LEADSCRUB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LEADSCRUB_ALLOWED_DATABASES", "LEADS_DB")
    return folder


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["scripts", *arguments])


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_scripts_are_listed_by_key_with_title_and_owner(folder: Path) -> None:
    (folder / "b.sql").write_text(GOOD)
    (folder / "a.sql").write_text("SELECT 1\n")
    listed = json.loads(command("list", "--json").stdout)
    assert [(script["script"], script["title"], script["owner"]) for script in listed] == [
        ("a", "a", None),
        ("b", "Good ones", "someone"),
    ]
    assert "Good ones" in command("list").stdout


def test_an_empty_folder_is_said_to_be_empty(folder: Path) -> None:
    result = command("list")
    assert result.exit_code == 0
    assert "scripts new KEY" in result.stderr


def test_a_folder_that_cannot_be_read_is_an_error_and_never_an_empty_list(folder: Path) -> None:
    folder.rmdir()
    result = command("list", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Cannot read the folder" in result.stderr


def test_show_prints_the_script_as_it_is_written(folder: Path) -> None:
    (folder / "good.sql").write_text(GOOD)
    assert GOOD in command("show", "good").stdout
    assert json.loads(command("show", "good", "--json").stdout)["sql"] == GOOD


def test_show_of_a_mistyped_key_offers_the_near_one(folder: Path) -> None:
    (folder / "homeowners.sql").write_text(GOOD)
    result = command("show", "homeowner")
    assert result.exit_code == 2
    assert "Did you mean homeowners?" in result.stderr


def test_lint_gives_one_object_a_script_with_every_finding(folder: Path) -> None:
    (folder / "good.sql").write_text(GOOD)
    (folder / "bad.sql").write_text("-- titel: typing error\nDELETE FROM LEADS_DB.PUBLIC.T\n")
    (folder / "worse.sql").write_text("DELETE FROM LEADS_DB.PUBLIC.T\n")
    result = command("lint", "--json")
    assert result.exit_code == 1
    bad, good, worse = objects(result)
    assert good == {"script": "good", "ok": True, "errors": []}
    assert (bad["script"], bad["ok"], worse["ok"]) == ("bad", False, False)
    assert any("titel" in error for error in bad["errors"])
    assert worse["errors"]


def test_lint_of_good_scripts_ends_with_0(folder: Path) -> None:
    (folder / "good.sql").write_text(GOOD)
    (folder / "bad.sql").write_text("DROP TABLE T\n")
    assert command("lint", "good").exit_code == 0
    assert "good: ok" in command("lint", "good").stdout


def test_lint_finds_a_purpose_that_is_not_configured(folder: Path) -> None:
    (folder / "good.sql").write_text("-- purpose: marketing\n" + GOOD)
    assert "marketing" in objects(command("lint", "--json"))[0]["errors"][0]


def test_a_new_script_passes_lint_once_its_table_is_named(folder: Path) -> None:
    assert command("new", "spring_mailing", "--title", "Spring mailing", "--owner", "marketing").exit_code == 0
    path = folder / "spring_mailing.sql"
    assert "-- title: Spring mailing" in path.read_text()
    path.write_text(path.read_text().replace("my_database.public.my_table", "leads_db.public.t"))
    assert command("lint", "spring_mailing").exit_code == 0


def test_a_new_script_never_overwrites_one(folder: Path) -> None:
    (folder / "mine.sql").write_text(GOOD)
    result = command("new", "mine")
    assert result.exit_code == 2
    assert (folder / "mine.sql").read_text() == GOOD


@pytest.mark.parametrize("key", ["A b", "../outside", "x" * 200, ""])
def test_a_new_script_needs_a_key_that_can_name_a_partition(folder: Path, key: str) -> None:
    assert command("new", key).exit_code == 2
    assert list(folder.parent.rglob("*.sql")) == []


@pytest.mark.parametrize("name", ["run", "preview"])
def test_without_a_script_the_usage_error_lists_what_there_is(folder: Path, name: str) -> None:
    (folder / "a.sql").write_text(GOOD)
    (folder / "b.sql").write_text(GOOD)
    result = CliRunner().invoke(app, [name])
    assert result.exit_code == 2
    assert "a, b" in result.stderr


@pytest.mark.parametrize("name", ["run", "preview"])
def test_all_of_an_empty_folder_is_a_usage_error(folder: Path, name: str) -> None:
    assert CliRunner().invoke(app, [name, "--all"]).exit_code == 2


@pytest.mark.parametrize("name", ["run", "preview"])
def test_two_files_with_one_key_are_refused_by_name(folder: Path, name: str) -> None:
    (folder / "leads.sql").write_text(GOOD)
    (folder / "leads.SQL").write_text(GOOD)
    result = CliRunner().invoke(app, [name, "leads"])
    assert result.exit_code == 2
    assert "leads.SQL" in result.stderr


def test_tab_completion_knows_the_keys(folder: Path) -> None:
    (folder / "april.sql").write_text(GOOD)
    (folder / "august.sql").write_text(GOOD)
    (folder / "may.sql").write_text(GOOD)
    assert complete_script("a") == ["april", "august"]
