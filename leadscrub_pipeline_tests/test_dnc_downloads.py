"""New downloads become the next versions of the list: the sensor asks, the job builds, Dagster shows it."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.sensors import dnc_downloads_sensor
from leadscrub_pipeline_tests.dnc_lists import change_text, full_text, some_numbers, stored

NUMBERS = some_numbers(1, each=2_000)
NOW = datetime.now(UTC).replace(second=0, microsecond=0)
DAY = timedelta(days=1)


class Folder:
    """The folder of downloads, the list, and an instance."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        self.list = folder / "dnc.sqlite"
        self.instance = instance

    def place(self, kind: str, at: datetime, *, seconds_ago: float = 3600) -> Path:
        """An empty download."""
        folder = self.downloads / f"{kind}-{at:%Y%m%dT%H%M}Z"
        folder.mkdir()
        return self.age(folder, seconds_ago)

    def full(self, at: datetime, numbers: list[int], *, seconds_ago: float = 3600) -> Path:
        folder = self.place("full", at)
        full_text(folder / "all.txt", numbers)
        return self.age(folder, seconds_ago)

    def changes(self, at: datetime, *changes: tuple[int, datetime, str]) -> Path:
        folder = self.place("changes", at)
        change_text(folder / "changes.txt", changes)
        return self.age(folder, 3600)

    @staticmethod
    def age(folder: Path, seconds_ago: float) -> Path:
        then = time.time() - seconds_ago
        for one in (*folder.iterdir(), folder):
            os.utime(one, (then, then))
        return folder

    def tick(self) -> dg.RunRequest | str:
        context = dg.build_sensor_context(instance=self.instance, resources={"settings": SettingsResource()})
        found = dnc_downloads_sensor(context)
        if isinstance(found, dg.RunRequest):
            return found
        assert isinstance(found, dg.SkipReason)
        return str(found.skip_message)

    def run(self, **config: bool) -> dg.ExecuteInProcessResult:
        job = defs.resolve_job_def("dnc_build_job")
        run_config = {"ops": {"build_list": {"config": config}}}
        return job.execute_in_process(instance=self.instance, run_config=run_config, raise_on_error=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.setenv("LEADSCRUB_ENV_FILE", "")
    monkeypatch.setenv("DNC_DATABASE_PATH", str(tmp_path / "dnc.sqlite"))
    monkeypatch.setenv("DNC_DOWNLOADS", str(tmp_path / "downloads"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Folder(tmp_path, instance)


def versions(folder: Folder) -> list[str]:
    events = folder.instance.fetch_materializations(dg.AssetKey("dnc_registry"), limit=10).records
    return [str(record.asset_materialization.metadata["list_version"].value) for record in events]  # type: ignore[union-attr]


def test_downloads_become_versions_in_the_order_in_which_they_were_obtained(folder: Folder) -> None:
    folder.changes(NOW - DAY, (NUMBERS[0], NOW - 1.5 * DAY, "D"))
    folder.full(NOW - 3 * DAY, NUMBERS)
    folder.changes(NOW - 2 * DAY, (2_125_550_123, NOW - 2.5 * DAY, "A"))
    request = folder.tick()
    assert isinstance(request, dg.RunRequest)
    assert request.tags["leadscrub/launched_by"] == "dnc_downloads_sensor"
    assert folder.run().success
    assert stored(folder.list) == sorted({*NUMBERS[1:], 2_125_550_123})
    assert len(set(versions(folder))) == 3
    (latest, *_) = folder.instance.fetch_materializations(dg.AssetKey("dnc_registry"), limit=1).records
    metadata = latest.asset_materialization.metadata  # type: ignore[union-attr]
    assert (metadata["added"].value, metadata["removed"].value, metadata["rows"].value) == (0, 1, len(NUMBERS))
    assert folder.tick() == "No download is newer than the list in place."
    assert folder.run().success, "nothing to do is no failure"


def test_what_a_later_full_list_makes_needless_is_left_alone(folder: Folder) -> None:
    folder.full(NOW - 3 * DAY, NUMBERS[:100])
    folder.changes(NOW - 2 * DAY, (NUMBERS[0], NOW - 2.5 * DAY, "D"))
    folder.full(NOW - DAY, NUMBERS)
    assert folder.run().success
    assert (stored(folder.list), len(versions(folder))) == (NUMBERS, 1)


def test_a_download_that_is_being_copied_is_waited_for_and_one_that_was_refused_asked_for_once(folder: Folder) -> None:
    folder.full(NOW - 3 * DAY, NUMBERS, seconds_ago=5)
    assert "being written" in str(folder.tick())
    folder.age(next(folder.downloads.iterdir()), 3600)
    assert folder.run().success
    small = folder.full(NOW - DAY, NUMBERS[::2])
    first, second = folder.tick(), folder.tick()
    assert isinstance(first, dg.RunRequest)
    assert isinstance(second, dg.RunRequest)
    assert first.run_key == second.run_key, "Dagster launches one run for a key"
    assert not folder.run().success
    assert stored(folder.list) == NUMBERS
    full_text(small / "more.txt", [3_109_999_999])
    folder.age(small, 3000)
    third = folder.tick()
    assert isinstance(third, dg.RunRequest)
    assert third.run_key != first.run_key
    assert folder.run(allow_shrink=True).success


def test_names_that_are_no_download_are_left_alone_and_a_folder_that_is_missing_is_named(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("full-20269921T0800Z", "notes", "full-2026"):
        (folder.downloads / name).mkdir()
    (folder.downloads / "changes-20261121T0800Z").write_text("a file")
    assert folder.tick() == "No download is newer than the list in place."
    monkeypatch.setenv("DNC_DOWNLOADS", str(folder.downloads / "missing"))
    assert "Check DNC_DOWNLOADS" in str(folder.tick())
    monkeypatch.delenv("DNC_DOWNLOADS")
    assert "Set DNC_DOWNLOADS" in str(folder.tick())


def test_a_download_without_files_fails_by_its_reason(folder: Folder) -> None:
    folder.place("full", NOW - DAY)
    result = folder.run()
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "No source is given" in str(failure.step_failure_data.error)
