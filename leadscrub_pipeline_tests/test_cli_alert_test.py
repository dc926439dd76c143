"""``leadscrub alert-test``: each topic gets a message, and one that did not is told with an exit code."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline_tests.cli_deployment import Deployment, Ended, deployment_in


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployment_in(tmp_path, leads=1) as made:
        made.environment["NTFY_ENABLED"] = "true"
        yield made


def outcomes(ended: Ended) -> dict[str, str]:
    return {row["topic"]: row["outcome"] for row in ended.json}


def topics(deployment: Deployment) -> list[object]:
    return [message["topic"] for message in deployment.simulators.ntfy.messages]


def test_each_topic_gets_one_message(deployment: Deployment) -> None:
    ended = deployment.command("alert-test", "--json")
    assert (ended.code, outcomes(ended)) == (0, {"errors": "sent", "jobs": "sent", "system": "sent"})
    assert topics(deployment) == ["simulated-errors", "simulated-jobs", "simulated-system"]


def test_a_topic_that_is_not_set_is_told_and_its_name_is_never_shown(deployment: Deployment) -> None:
    del deployment.environment["NTFY_TOPIC_JOBS"]
    ended = deployment.command("alert-test")
    assert ended.code == 0
    assert "not set" in ended.out
    assert topics(deployment) == ["simulated-errors", "simulated-system"]
    assert "simulated-" not in ended.out + ended.err


@pytest.mark.parametrize("kind", ["403", "5xx"])
def test_a_server_that_takes_no_message_ends_with_3(
    deployment: Deployment, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    deployment.simulators.ntfy.faults.add(Fault(kind))
    ended = deployment.command("alert-test", "--json")
    assert ended.code == 3
    assert set(outcomes(ended).values()) == {"not taken"}
    assert "NTFY_TOKEN" in ended.err
    assert "status" in caplog.text


def test_alerts_that_are_off_or_go_nowhere_end_with_2(deployment: Deployment) -> None:
    off = deployment.command("alert-test", NTFY_ENABLED="false")
    assert (off.code, "NTFY_ENABLED is false" in off.err) == (2, True)
    for name in ("ERRORS", "JOBS", "SYSTEM"):
        del deployment.environment[f"NTFY_TOPIC_{name}"]
    nowhere = deployment.command("alert-test")
    assert (nowhere.code, "NTFY_TOPIC_ERRORS" in nowhere.err) == (2, True)
    assert deployment.simulators.ntfy.messages == []
