"""The sensor of the registry file, tick by tick: another list, a file that is written or gone, and foreign cursors."""

import os
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline.dnc import DncRegistry
from leadscrub_pipeline.resources import RegistryResource
from leadscrub_pipeline.sensors import dnc_registry_sensor
from leadscrub_pipeline.sensors.watched_files import QUIET_SECONDS
from leadscrub_pipeline.simulators.registry import make_registry


class Watched:
    """A registry file, an instance, and the cursor between ticks."""

    def __init__(self, path: Path, instance: dg.DagsterInstance, patch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.instance = instance
        self.cursor: str | None = None
        self.opened = 0
        whole = DncRegistry.open

        def counting(*args: object, **kwargs: object) -> object:
            self.opened += 1
            return whole(*args, **kwargs)  # type: ignore[arg-type]

        patch.setattr(DncRegistry, "open", counting)

    def write(self, listed: Iterable[str], *, seconds_ago: float = 2 * QUIET_SECONDS) -> None:
        make_registry(self.path, listed=listed)
        then = time.time() - seconds_ago
        os.utime(self.path, (then, then))

    def tick(self) -> dg.SensorResult:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"registry": RegistryResource()}
        )
        result = dnc_registry_sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return result


def requested(result: dg.SensorResult) -> list[str | None]:
    """The lists for which a run is requested; the rest of a run key tells a file from an earlier one of that list."""
    return [str(request.run_key).rsplit("-", 1)[0] for request in result.run_requests or []]


def observed(result: dg.SensorResult) -> list[object]:
    return [event.metadata["list_version"].value for event in result.asset_events]


def reason(result: dg.SensorResult) -> str:
    assert result.skip_reason is not None
    return str(result.skip_reason.skip_message)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    path = tmp_path / "dnc.sqlite"
    monkeypatch.setenv("DNC_DATABASE_PATH", str(path))
    monkeypatch.setenv("DNC_LIST_DATE", (datetime.now(UTC) - timedelta(days=3)).date().isoformat())
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(path, instance, monkeypatch)


def test_the_first_look_observes_and_launches_nothing_and_another_list_is_launched_once(watched: Watched) -> None:
    watched.write(["2015550100"])
    first = watched.tick()
    assert (requested(first), len(observed(first))) == ([], 2), "its version and what is in it"
    assert "First look" in reason(first)
    watched.write(["2015550100", "2015550101"])
    second = watched.tick()
    assert requested(second) == observed(second)[:1]
    assert second.asset_events[0].asset_key == dg.AssetKey("dnc_registry")
    again = watched.tick()
    assert (requested(again), again.asset_events) == ([], [])
    assert "as before" in reason(again)


def test_a_list_that_comes_back_is_requested_again(watched: Watched) -> None:
    """Two dated files, and a link that leads to one or the other: neither file is written again."""
    watched.write(["2015550100"])
    first = watched.path.rename(watched.path.with_name("first.sqlite"))
    watched.write(["2015550100", "2015550101"])
    second = watched.path.rename(watched.path.with_name("second.sqlite"))
    keys = []
    for target in (first, second, first, second):
        watched.path.unlink(missing_ok=True)
        watched.path.symlink_to(target)
        keys += [request.run_key for request in watched.tick().run_requests or []]
    assert len(keys) == len(set(keys)) == 3


def test_a_file_that_is_the_same_is_not_opened(watched: Watched) -> None:
    watched.write(["2015550100"])
    watched.tick()
    for _ in range(3):
        watched.tick()
    assert watched.opened == 1


def test_a_file_that_was_copied_anew_with_the_same_list_requests_nothing(watched: Watched) -> None:
    watched.write(["2015550100"])
    watched.tick()
    watched.write(["2015550100"], seconds_ago=5 * QUIET_SECONDS)
    copied = watched.tick()
    assert requested(copied) == []
    assert "was written and holds list" in reason(copied)
    assert watched.tick().asset_events == []


def test_a_file_that_is_being_written_is_left_alone_until_it_is_quiet(watched: Watched) -> None:
    watched.write(["2015550100"])
    watched.tick()
    cursor = watched.cursor
    watched.write(["2015550100", "2015550101"], seconds_ago=1)
    assert "being written" in reason(watched.tick())
    assert (watched.cursor, watched.opened) == (cursor, 1)
    then = time.time() - 2 * QUIET_SECONDS
    os.utime(watched.path, (then, then))
    assert len(requested(watched.tick())) == 1


@pytest.mark.parametrize("content", [None, b"", b"not a database, but long enough to be looked at" * 10])
def test_a_file_that_cannot_be_trusted_is_named_and_looked_at_again(watched: Watched, content: bytes | None) -> None:
    watched.write(["2015550100"])
    watched.tick()
    cursor = watched.cursor
    watched.path.unlink()
    if content is not None:
        watched.path.write_bytes(content)
    result = watched.tick()
    assert requested(result) == []
    assert "registry file" in reason(result)
    assert watched.cursor == cursor
    watched.write(["2015550100", "2015550101"])
    assert len(requested(watched.tick())) == 1


def test_a_list_that_gets_another_date_is_another_list(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.write(["2015550100"])
    watched.tick()
    monkeypatch.setenv("DNC_LIST_DATE", (datetime.now(UTC) - timedelta(days=1)).date().isoformat())
    assert len(requested(watched.tick())) == 1


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", "[]", '{"version":7,"stamp":"x","list_version":"y"}', '{"version":1}']
)
def test_a_foreign_cursor_means_a_first_look(watched: Watched, cursor: str) -> None:
    watched.write(["2015550100"])
    watched.cursor = cursor
    result = watched.tick()
    assert (requested(result), len(observed(result))) == ([], 2), "its version and what is in it"


def test_two_daemons_that_see_one_list_request_it_under_one_run_key(watched: Watched) -> None:
    watched.write(["2015550100"])
    watched.tick()
    before = watched.cursor
    watched.write(["2015550100", "2015550101"])
    first = watched.tick()
    watched.cursor = before
    assert requested(watched.tick()) == requested(first)


def test_without_a_file_in_the_settings_it_says_so(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DNC_DATABASE_PATH")
    assert "DNC_DATABASE_PATH" in reason(watched.tick())


def test_it_is_off_until_somebody_switches_it_on_and_launches_the_rescrub() -> None:
    sensor = defs.resolve_sensor_def("dnc_registry_sensor")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert sensor.minimum_interval_seconds == 60
    assert sensor.job_name == "rescrub_job"
