"""``leadscrub report`` as a user meets it: a file, standard output, JSON, a browser, and scripts without a past."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from leadscrub_pipeline_tests.cli_deployment import LEADS, Deployment, deployment_in

pytestmark = pytest.mark.long

TERMINAL = "leadscrub_pipeline.cli.report.stdin_is_terminal"
BROWSER = "leadscrub_pipeline.cli.report.webbrowser.open"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One script, scrubbed once; its report is made anew by each test."""
    with deployment_in(tmp_path_factory.mktemp("report")) as made:
        ended = made.command("run", "leads")
        assert ended.code == 0, ended.err
        yield made


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a browser was sent to, on a terminal."""
    addresses: list[str] = []

    def open_browser(address: str) -> bool:
        addresses.append(address)
        return True

    monkeypatch.setattr(TERMINAL, lambda: True)
    monkeypatch.setattr(BROWSER, open_browser)
    return addresses


def test_the_page_is_written_to_the_reports_folder_and_opened_on_a_terminal(
    deployment: Deployment, opened: list[str]
) -> None:
    path = deployment.home / "reports" / "leads.html"
    path.unlink()  # the run's own
    ended = deployment.command("report", "leads")
    assert (ended.code, ended.out) == (0, "")
    assert f"Report of leads written to {path}." in ended.err
    assert path.read_text().startswith("<!doctype html>")
    assert path.stat().st_mode & 0o777 == 0o600
    assert opened == [path.as_uri()]


def test_no_browser_is_opened_without_a_terminal_or_when_not_wanted(
    deployment: Deployment, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deployment.command("report", "leads", "--no-open").code == 0
    monkeypatch.setattr(TERMINAL, lambda: False)
    assert deployment.command("report", "leads").code == 0
    assert opened == []


def test_a_browser_that_cannot_be_opened_is_said_and_is_no_error(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TERMINAL, lambda: True)
    monkeypatch.setattr(BROWSER, lambda _address: False)
    ended = deployment.command("report", "leads")
    assert ended.code == 0
    assert "No browser could be opened." in ended.err


def test_the_numbers_are_those_of_the_run_and_of_results_stats(deployment: Deployment) -> None:
    told = deployment.command("report", "leads", "--json").json
    stats = deployment.command("results", "stats", "--json").json["scripts"][0]
    assert told["selected"] == told["kept"] == told["published"] == told["script_people"] == stats["rows"] == LEADS
    assert told["script_phones"] == told["phones"] == stats["distinct_phones"]
    assert told["callable_phones"] == told["callable"] == stats["callable"] > 0
    assert told["script_people_with_phone"] == stats["rows"] - stats["without_phone"]
    assert told["run_spend"]["lookups"] == deployment.billed
    assert told["pending"] == []
    (past,) = told["past_runs"]
    assert (past["run_id"], past["selected"], past["published"]) == (told["run_id"], LEADS, LEADS)
    assert Decimal(past["cost"]) == Decimal(told["run_spend"]["cost"]) > 0


def test_standard_output_takes_the_page_or_its_markdown_twin_and_nothing_else(
    deployment: Deployment, opened: list[str]
) -> None:
    page = deployment.command("report", "leads", "--output", "-")
    assert page.err == ""
    assert page.out.startswith("<!doctype html>")
    assert page.out.endswith("</html>\n")
    twin = deployment.command("report", "leads", "--output", "-", "--format", "markdown")
    assert twin.out.startswith("### Leads\n")
    assert "<svg" not in twin.out
    assert opened == []


def test_another_file_is_written_whole_and_markdown_has_a_file_of_its_own(
    deployment: Deployment, tmp_path: Path, opened: list[str]
) -> None:
    page = tmp_path / "made" / "page.html"
    ended = deployment.command("report", "leads", "--output", str(page), "--json")
    assert ended.json["script"] == "leads"
    assert page.stat().st_mode & 0o777 == 0o600
    assert deployment.command("report", "leads", "--format", "markdown").code == 0
    assert (deployment.home / "reports" / "leads.md").read_text().startswith("### Leads")
    assert opened == []


def test_a_script_that_was_never_run_is_told_so_and_one_that_there_is_not_may_be_a_slip(deployment: Deployment) -> None:
    deployment.write_script("later")
    never = deployment.command("report", "later")
    assert never.code == 2
    assert "Script later was never run here. Run it first: leadscrub run later." in never.err
    slip = deployment.command("report", "leds")
    assert slip.code == 2
    assert "Did you mean leads?" in slip.err
    assert not (deployment.home / "reports" / "later.html").exists()


def test_json_and_a_page_cannot_share_standard_output(deployment: Deployment) -> None:
    ended = deployment.command("report", "leads", "--json", "--output", "-")
    assert (ended.code, ended.out) == (2, "")


def test_a_script_whose_file_was_taken_away_keeps_its_report(deployment: Deployment) -> None:
    script = deployment.scripts / "leads.sql"
    text = script.read_text()
    script.unlink()
    try:
        told = deployment.command("report", "leads", "--json").json
    finally:
        script.write_text(text)
    assert (told["title"], told["published"]) == ("leads", LEADS)
