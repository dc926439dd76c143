"""The command itself: help, mistakes, settings, and what must not be loaded or shown."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from leadscrub_pipeline.cli import app as application
from leadscrub_pipeline.cli.app import COMMANDS, app
from leadscrub_pipeline.settings import Settings

PROJECT = Path(__file__).parents[1]


def modules_after(*arguments: str, folder: Path) -> set[str]:
    """Which modules a command has loaded when it ends."""
    code = (
        "import sys, json\n"
        "from leadscrub_pipeline.cli import main\n"
        f"sys.argv = ['leadscrub', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(json.dumps(sorted(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PATH": "", "LEADSCRUB_ENV_FILE": "", "LEADSCRUB_SCRIPTS": str(PROJECT / "sql" / "leads")},
    )
    return set(json.loads(ended.stderr.splitlines()[-1]))


def test_help_waits_for_no_library(tmp_path: Path) -> None:
    loaded = modules_after("--help", folder=tmp_path)
    assert not loaded & {"dagster", "duckdb", "pydantic", "sqlglot", "pyarrow", "aiohttp", "rich.markdown"}


@pytest.mark.parametrize("arguments", [("scripts", "list"), ("settings",), ("run", "no_such_script")])
def test_what_needs_no_dagster_does_not_load_it(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert "dagster" not in modules_after(*arguments, folder=tmp_path)


def test_looking_around_makes_no_folder(tmp_path: Path) -> None:
    modules_after("scripts", "list", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_that_says_what_it_is_for(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"Usage: leadscrub {name}" in result.stdout


def test_the_list_of_commands_shows_each_with_its_purpose() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert all(f"  {name}" in shown for name in COMMANDS)
    assert "4 refused by policy" in shown


def test_a_mistyped_command_is_a_usage_error_with_what_was_perhaps_meant() -> None:
    result = CliRunner().invoke(app, ["prevew"])
    assert result.exit_code == 2
    assert "Did you mean 'preview'?" in result.stderr


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("leadscrub 0.")


def test_the_env_example_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(app, ["settings"]).stdout
    assert (PROJECT / ".env.example").read_text(encoding="utf-8") == printed, "run: leadscrub settings > .env.example"


def test_every_setting_is_listed_with_what_it_is_for() -> None:
    listed = json.loads(CliRunner().invoke(app, ["settings", "--json"]).stdout)
    assert [setting["name"] for setting in listed] == [name.upper() for name in Settings.model_fields]
    assert all(setting["description"] for setting in listed)


def test_the_env_example_can_be_used_as_it_stands(tmp_path: Path) -> None:
    """A default that is written out must be read as itself."""
    file = tmp_path / "all.env"
    text = (PROJECT / ".env.example").read_text(encoding="utf-8")
    file.write_text(
        "\n".join(
            line[1:] if line.startswith("#") and "=" in line.split(" ")[0] else line for line in text.splitlines()
        )
    )
    read, default = Settings(_env_file=file), Settings(_env_file=None)
    assert read == default


def test_a_setting_that_cannot_be_understood_is_named_and_its_value_is_not_shown() -> None:
    result = CliRunner().invoke(app, ["scripts", "list"], env={"LEADSCRUB_ENV_FILE": "", "IDICORE_TIMEOUT": "s3cret"})
    assert result.exit_code == 2
    assert "IDICORE_TIMEOUT" in result.stderr
    assert "s3cret" not in result.stderr


def test_a_defect_ends_in_one_line_without_the_text_of_the_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise ValueError("Duplicate key a: Jane Roe")

    monkeypatch.setattr(application, "app", broken)
    with pytest.raises(SystemExit) as ended:
        application.main()
    shown = capsys.readouterr().err
    assert ended.value.code == 1
    assert "ValueError" in shown
    assert "Jane Roe" not in shown
    assert shown.count("\n") == 1
