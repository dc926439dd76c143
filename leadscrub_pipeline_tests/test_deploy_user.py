"""Whose name a run carries: the run coordinator on a real instance, without a webserver."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

# A queued run needs to say where its code is, and there is no public name for that.
from dagster._core.remote_origin import (  # noqa: TID251
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from leadscrub_pipeline.run_coordinator import (
    NOT_SIGNED_IN,
    USER_HEADER,
    USER_TAG,
    UserRunCoordinator,
    signed_in_user,
)

ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__"), "nothing")


@dg.job
def nothing() -> None:
    """Has no step."""


@dataclass
class Launch:
    """What Dagster tells of a launch; a daemon's has no headers."""

    dagster_run: dg.DagsterRun
    headers: dict[str, str]

    def get_request_header(self, key: str) -> str | None:
        return self.headers.get(key)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    home = tmp_path_factory.mktemp("dagster")
    shutil.copy(Path(__file__).parents[1] / "dagster.yaml", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.get() as made:
            yield made


def launched(
    instance: dg.DagsterInstance, header: str | None, *, tag: str | None = None, parent: str | None = None
) -> dg.DagsterRun:
    run = instance.create_run_for_job(
        nothing,
        tags={USER_TAG: tag} if tag is not None else {},
        parent_run_id=parent,
        root_run_id=parent,
        remote_job_origin=ORIGIN,
    )
    launch = Launch(run, {USER_HEADER: header} if header is not None else {})
    return instance.run_coordinator.submit_run(launch)


def test_the_queue_is_still_dagsters_with_one_run_a_script_at_a_time(instance: dg.DagsterInstance):
    assert type(instance.run_coordinator) is UserRunCoordinator
    queue = instance.get_concurrency_config().run_queue_config
    assert queue.max_concurrent_runs == 4
    assert queue.tag_concurrency_limits == [
        {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
        {"key": "leadscrub/mode", "value": "rescrub", "limit": 1},
        {"key": "leadscrub/mode", "value": "dnc_build", "limit": 1},
    ]
    assert launched(instance, "alice").status is dg.DagsterRunStatus.QUEUED


def test_a_run_is_found_by_the_name_of_who_launched_it(instance: dg.DagsterInstance):
    run = launched(instance, "found@example.com")
    launched(instance, "victor")
    found = instance.get_runs(dg.RunsFilter(tags={USER_TAG: "found@example.com"}))
    assert [each.run_id for each in found] == [run.run_id]


def test_a_run_that_a_sensor_or_schedule_requests_has_no_user(instance: dg.DagsterInstance):
    assert USER_TAG not in launched(instance, None).tags


def test_a_name_that_the_client_puts_on_a_run_is_replaced_by_the_proxys(instance: dg.DagsterInstance):
    assert launched(instance, "victor", tag="alice").tags[USER_TAG] == "victor"


def test_a_name_that_nobody_vouches_for_does_not_stay(instance: dg.DagsterInstance):
    assert launched(instance, None, tag="alice").tags[USER_TAG] == NOT_SIGNED_IN
    assert launched(instance, "no such\nname", tag="alice").tags[USER_TAG] == NOT_SIGNED_IN


def test_a_retry_by_the_daemon_keeps_the_user_of_the_run_it_repeats(instance: dg.DagsterInstance):
    first = launched(instance, "alice")
    assert launched(instance, None, tag="alice", parent=first.run_id).tags[USER_TAG] == "alice"
    assert launched(instance, None, tag="bob", parent=first.run_id).tags[USER_TAG] == NOT_SIGNED_IN


def test_a_run_repeated_by_hand_carries_who_repeated_it(instance: dg.DagsterInstance):
    first = launched(instance, "alice")
    assert launched(instance, "bob", tag="alice", parent=first.run_id).tags[USER_TAG] == "bob"


def test_a_run_that_is_handed_in_twice_keeps_its_first_user(instance: dg.DagsterInstance):
    run = launched(instance, "alice")
    again = instance.run_coordinator.submit_run(Launch(run, {USER_HEADER: "bob"}))
    assert again.tags[USER_TAG] == "alice"


@pytest.mark.parametrize("name", ["a", "alice", "Alice.Smith-2", "alice+dagster@example.com", "0", "x" * 128])
def test_a_plain_name_or_address_is_taken_as_it_is(name: str):
    assert signed_in_user(name) == name


@pytest.mark.parametrize(
    "name",
    [
        None, "", " ", "alice ", " alice", "alice,bob", "alice\n", "alice\r\nbob", "a\x00b", "a\tb", "<b>alice</b>",
        "alice/admin", "al\u00efce", "\u202eecila", ".alice", "-alice", "@alice", "{{alice}}", "alice;drop", "'alice'",
        "x" * 129, "x" * 100_000, NOT_SIGNED_IN,
    ],
)  # fmt: skip
def test_a_header_that_is_no_plain_name_is_dropped(name: str | None):
    assert signed_in_user(name) is None
