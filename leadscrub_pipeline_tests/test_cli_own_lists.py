"""``leadscrub internal-dnc`` and ``leadscrub consents``, and their assets: what they print, refuse and end with."""

import os
import time
from pathlib import Path

import dagster as dg
import pytest

from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.sensors import own_lists_sensor
from leadscrub_pipeline_tests.command_line import demo_settings, leadscrub

PHONE, OTHER = "2125550101", "2125550102"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    demo_settings(monkeypatch, tmp_path)
    return tmp_path


def test_numbers_are_added_counted_and_withdrawn(home: Path) -> None:
    added = leadscrub("internal-dnc", "add", "(212) 555-0101", OTHER, PHONE, "--source", "call", "--json")
    assert (added.code, added.json["added"], added.json["there_already"]) == (0, 2, 0)
    assert leadscrub("internal-dnc", "status", "--json").json == {"entries": 2, "standing": 2, "phones": 2}
    assert leadscrub("internal-dnc", "withdraw", PHONE, "--why", "asked to be called", "--json").json["ended"] == 1
    assert leadscrub("internal-dnc", "status", "--json").json == {"entries": 2, "standing": 1, "phones": 1}
    assert leadscrub("internal-dnc", "withdraw", PHONE, "--why", "again").code == 1
    shown = leadscrub("evidence", "trace", OTHER)
    assert "Nobody asked us not to call it: requested at" in shown.out
    assert "(call)" in shown.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("add", "555"), "argument 1 of 1"),
        (("add", PHONE, "--requested-at", "2999-01-01"), "in the future"),
        (("add", PHONE, "--source", "two\nlines"), "one line"),
        (("withdraw", PHONE, "--why", ""), "one line"),
    ],
)
def test_what_is_no_request_is_refused_and_nothing_is_stored(home: Path, arguments: tuple[str, ...], text: str) -> None:
    answer = leadscrub("internal-dnc", *arguments)
    assert answer.code == 2
    assert text in answer.err
    assert "555" not in answer.err
    assert leadscrub("internal-dnc", "status", "--json").json["entries"] == 0


def test_a_file_with_a_bad_line_is_taken_in_but_for_that_line(home: Path) -> None:
    file = home / "requests.csv"
    file.write_text(f"phone,requested_at\n{PHONE},2026-01-02\nnobody,2026-01-02\n{OTHER},2026-01-03\n")
    answer = leadscrub("internal-dnc", "import", file)
    assert answer.code == 1
    assert "requests.csv line 3: bad_phone" in answer.err
    again = leadscrub("internal-dnc", "import", file, "--json")
    assert (again.code, again.json["added"], again.json["there_already"]) == (1, 0, 2)
    assert again.json["rejected_by_reason"] == {"bad_phone": 1}


def test_consents_are_added_counted_and_revoked(home: Path) -> None:
    arguments = ("--kind", "transaction", "--given-at", "2026-09-01", "--proof", "contract 7")
    assert leadscrub("consents", "add", PHONE, OTHER, *arguments, "--json").json["added"] == 2
    expired = ("--kind", "inquiry", "--given-at", "2025-01-01", "--proof", "web form 3")
    assert leadscrub("consents", "add", PHONE, *expired).code == 0
    assert leadscrub("consents", "status", "--json").json == {"entries": 3, "standing": 2, "phones": 2}
    assert (
        leadscrub("consents", "revoke", PHONE, "--why", "by letter", "--kind", "inquiry", "--json").json["ended"] == 1
    )
    assert leadscrub("consents", "revoke", PHONE, "--why", "by letter", "--json").json["ended"] == 1
    assert leadscrub("consents", "status", "--json").json == {"entries": 3, "standing": 1, "phones": 1}
    assert leadscrub("consents", "add", PHONE, "--kind", "oral", "--given-at", "2026-09-01", "--proof", "x").code == 2


# --- as Dagster sees them -----------------------------------------------------------------


def test_the_assets_take_in_the_files_of_their_folders(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (
        ("requests", f"phone,requested_at\n{PHONE},2026-01-02\nnobody,2026-01-02\n"),
        ("consents", f"phone,kind,given_at,proof\n{OTHER},written_consent,2026-01-02,form 2\n"),
    ):
        (home / name).mkdir()
        (home / name / "1.csv").write_text(text)
    monkeypatch.setenv("INTERNAL_DNC_IMPORTS", str(home / "requests"))
    monkeypatch.setenv("CONSENTS_IMPORTS", str(home / "consents"))
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("own_lists_job")
        versions = []
        for _ in range(2):
            result = job.execute_in_process(instance=instance)
            made = {
                event.asset_key.to_user_string(): event
                for event in result.get_asset_materialization_events()
                if event.asset_key
            }
            versions.append({name: event.materialization.tags["dagster/data_version"] for name, event in made.items()})
        told = {name: value.value for name, value in made["internal_dnc"].materialization.metadata.items()}
        checks = {
            (check.asset_key.to_user_string(), check.check_name): check.passed
            for check in result.get_asset_check_evaluations()
        }
    assert (told["lines"], told["added"], told["there_already"], told["rejected"]) == (2, 0, 1, 1)
    assert checks == {
        ("internal_dnc", "every_line_is_taken"): False,
        ("internal_dnc", "company_list_is_honoured"): True,
        ("consents", "every_line_is_taken"): True,
    }
    assert versions[0] == versions[1] == {"internal_dnc": "1.0", "consents": "1.0"}


def test_the_sensor_asks_once_for_files_that_have_been_quiet(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tick() -> dg.RunRequest | str:
        found = own_lists_sensor(dg.build_sensor_context(resources={"settings": SettingsResource()}))
        if isinstance(found, dg.RunRequest):
            return found
        assert isinstance(found, dg.SkipReason)
        return str(found.skip_message)

    assert "no file" in str(tick())
    monkeypatch.setenv("INTERNAL_DNC_IMPORTS", str(home / "missing"))
    assert "cannot be read" in str(tick())
    monkeypatch.setenv("INTERNAL_DNC_IMPORTS", str(home))
    file = home / "new.csv"
    file.write_text("phone,requested_at\n")
    assert "being written" in str(tick())
    quiet = time.time() - 120
    os.utime(file, (quiet, quiet))
    first, second = tick(), tick()
    assert isinstance(first, dg.RunRequest)
    assert isinstance(second, dg.RunRequest)
    assert first.run_key == second.run_key
    file.write_text("phone,requested_at\n1,2\n")
    os.utime(file, (quiet, quiet))
    third = tick()
    assert isinstance(third, dg.RunRequest)
    assert third.run_key != first.run_key
