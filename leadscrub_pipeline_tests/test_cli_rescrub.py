"""``leadscrub rescrub`` as a user runs it: numbers, exit codes, a source that is down, and a run that was killed."""

import json
import sqlite3
from collections.abc import Iterator

import dagster as dg
import pytest

from leadscrub_pipeline.steps.rescrub import LEASE
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, MASTER
from leadscrub_pipeline_tests.cli_deployment import Deployment, deployment_in

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment_in(tmp_path_factory.mktemp("deployment")) as made:
        ended = made.command("run", "leads", "--json")
        assert ended.code == 0, ended.err
        yield made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda _policy, _attempt: 0)


def callable_phone(deployment: Deployment) -> str:
    with deployment.warehouse().session() as session:
        return str(session.rows(f"SELECT MIN(phone) FROM {CALLABLE_PHONES}")[0][0])


def list_phone(deployment: Deployment, phone: str) -> None:
    """One more number on the list, as a new delivery would have it."""
    with sqlite3.connect(deployment.folder / "dnc.sqlite") as connection:
        connection.execute("INSERT OR IGNORE INTO dnc_list VALUES (?, ?, ?)", (phone[:3], phone[3:], phone))
    connection.close()


def in_dnc(deployment: Deployment, phone: str) -> set[bool | None]:
    held = " UNION ".join(
        f"SELECT phone_{i}_in_dnc FROM {MASTER.full_name} WHERE phone_{i} = '{phone}'" for i in (1, 2, 3)
    )
    with deployment.warehouse().session() as session:
        return {flag for (flag,) in session.rows(held)}


def test_a_new_list_is_asked_and_what_became_of_the_flags_is_printed(deployment: Deployment) -> None:
    phone, billed = callable_phone(deployment), deployment.billed
    list_phone(deployment, phone)
    ended = deployment.command("rescrub", "--json")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    result = ended.json
    assert (result["status"], result["dnc_became_true"], result["litigator_became_true"]) == ("success", 1, 0)
    assert result["dnc_asked"] == result["phones"] > 0
    assert in_dnc(deployment, phone) == {True}
    assert callable_phone(deployment) != phone
    assert deployment.billed == billed
    with deployment.instance() as instance:
        run = instance.get_run_by_id(result["run_id"])
    assert run is not None
    assert (run.tags["leadscrub/mode"], run.tags["leadscrub/launched_by"]) == ("rescrub", "cli")


def test_a_user_sees_a_table(deployment: Deployment) -> None:
    ended = deployment.command("rescrub", "--sources", "ccc", "--renew")
    assert (ended.code, ended.err) == (0, "")
    assert "litigator became true" in ended.out
    assert "dagster" not in ended.out.lower()


def test_a_source_that_is_down_is_named_and_what_changed_is_told_all_the_same(deployment: Deployment) -> None:
    phone = callable_phone(deployment)
    list_phone(deployment, phone)
    ended = deployment.command("rescrub", "--renew", "--json", CCC_API_KEY="wrong")
    assert ended.code == 3
    assert "CCC refuses the key" in ended.json["error"]
    assert ended.json["error"] in ended.err
    assert "Traceback" not in ended.err
    assert (ended.json["status"], ended.json["dnc_became_true"]) == ("failed", 1)
    assert in_dnc(deployment, phone) == {True}


def test_a_rescrub_that_another_run_is_at_is_refused_by_name(deployment: Deployment) -> None:
    with deployment.ledger() as ledger, ledger.partition_lease(LEASE, holder="run-of-somebody-else"):
        ended = deployment.command("rescrub", "--json")
    assert (ended.code, ended.json["run_id"]) == (4, None)
    assert "run-of-somebody-else" in ended.json["error"]


def test_a_killed_rescrub_is_marked_failed_by_the_next_which_does_what_is_left(deployment: Deployment) -> None:
    phone = callable_phone(deployment)
    list_phone(deployment, phone)
    with deployment.struck("SIGKILL", "answers.after_commit", 1, "rescrub", "--json") as process:
        process.communicate(timeout=120)
    assert in_dnc(deployment, phone) == {False}
    ended = deployment.command("rescrub", "--json")
    assert ended.code == 0, ended.err
    assert "had lost its process" in ended.err
    assert json.loads(ended.out)["dnc_became_true"] == 1
    assert in_dnc(deployment, phone) == {True}
    assert deployment.command("evidence", "verify").code == 0
