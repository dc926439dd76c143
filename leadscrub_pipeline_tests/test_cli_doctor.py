"""``leadscrub doctor``: each trouble is named, with the exit code a script can act on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline_tests.cli_deployment import Deployment, Ended, deployment_in


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployment_in(tmp_path, leads=3) as made:
        yield made


def wrong(ended: Ended) -> dict[str, list[str]]:
    """What is not in order, by check."""
    found: dict[str, list[str]] = {}
    for finding in ended.json:
        if finding["state"] != "ok":
            found.setdefault(finding["check"], []).append(finding["what"])
    return found


def test_a_deployment_in_order_ends_with_0_and_nobody_was_looked_up(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json")
    assert wrong(ended) == {}
    assert ended.code == 0
    assert deployment.billed == 0


def test_a_look_before_the_first_run_makes_no_files(deployment: Deployment) -> None:
    deployment.command("doctor")
    assert not deployment.home.exists()


def test_a_missing_registry_is_unavailable_by_name(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", DNC_DATABASE_PATH="/nowhere/dnc.sqlite")
    assert ended.code == 3
    assert list(wrong(ended)) == ["registry"]


def test_a_stale_list_is_said_with_its_age(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", DNC_LIST_DATE="2020-01-01")
    assert ended.code == 3
    assert "days old" in wrong(ended)["registry"][0]


def test_a_sign_in_that_is_refused_is_said(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", IDICORE_CLIENT_SECRET="of somebody else")
    assert ended.code == 3
    assert list(wrong(ended)) == ["idiCORE"]
    assert "of somebody else" not in ended.out


def test_a_vendor_that_is_down_is_unavailable(deployment: Deployment) -> None:
    deployment.simulators.idicore.faults.add(Fault("server_error", operation="sign_in"))
    ended = deployment.command("doctor", "--json", IDICORE_RETRY_BASE_DELAY="0.01")
    assert ended.code == 3
    assert list(wrong(ended)) == ["idiCORE"]


def test_scripts_that_may_not_run_are_findings(deployment: Deployment) -> None:
    deployment.write_script("bad", "DROP TABLE LEADS_DB.PUBLIC.LEADS")
    ended = deployment.command("doctor", "--json")
    assert ended.code == 1
    assert wrong(ended)["scripts"][0].startswith("bad: ")


def test_a_purpose_that_is_not_configured_is_a_finding(deployment: Deployment) -> None:
    path = deployment.write_script("bad")
    path.write_text("-- purpose: marketing\n" + path.read_text())
    ended = deployment.command("doctor", "--json")
    assert ended.code == 1
    assert "marketing" in wrong(ended)["purposes"][0]


def test_mixed_vendors_are_refused_before_anything_else_is_asked(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", CCC_API_URL="https://vendor.example/scrub")
    assert ended.code == 1
    assert "CCC_API_URL" not in wrong(ended)["kind"][0]
    assert "never mixed" in wrong(ended)["kind"][0]


def test_a_live_deployment_without_key_and_controls_has_two_findings(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", LEADSCRUB_KIND="live", CCC_CONTROL_NUMBERS="")
    found = wrong(ended)
    assert ended.code == 1
    assert "LEADSCRUB_ANSWER_KEY" in found["answer key"][0]
    assert "CCC_CONTROL_NUMBERS" in found["CCC"][0]


def test_a_setting_that_cannot_be_read_is_the_only_finding(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", IDICORE_TIMEOUT="soon")
    assert ended.code == 1
    assert list(wrong(ended)) == ["settings"]


def test_a_home_that_others_can_enter_is_a_finding(deployment: Deployment) -> None:
    deployment.home.mkdir(mode=0o755)
    ended = deployment.command("doctor", "--json")
    assert ended.code == 1
    assert "chmod 700" in wrong(ended)["home"][0]


def test_a_person_reads_one_line_a_check(deployment: Deployment) -> None:
    ended = deployment.command("doctor")
    assert ended.code == 0
    assert all(line.startswith("ok ") for line in ended.out.splitlines())
