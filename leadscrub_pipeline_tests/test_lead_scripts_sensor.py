"""The sensor of the script folder, tick by tick: partitions, runs, what cannot be read, and a folder that is gone."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.sensors import lead_scripts_sensor
from leadscrub_pipeline.sensors.lead_scripts import LAUNCHES

SQL = "SELECT * FROM LEADS_DB.PUBLIC.LEADS"


class Folder:
    """A folder of scripts, an instance, and the cursor between ticks."""

    def __init__(self, path: Path, instance: dg.DagsterInstance) -> None:
        self.path = path
        self.instance = instance
        self.cursor: str | None = None

    def write(self, key: str, sql: str = SQL, title: str = "Leads") -> None:
        path = self.path / f"{key}.sql"
        path.write_text(f"-- title: {title}\n{sql}\n", encoding="utf-8")
        later = time.time_ns() + len(list(self.path.iterdir()))
        os.utime(path, ns=(later, later))

    def tick(self) -> dg.SensorResult:
        """One evaluation, with what the daemon does with its result."""
        resources = {"settings": SettingsResource()}
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources)
        result = lead_scripts_sensor(context)
        assert isinstance(result, dg.SensorResult)
        for request in result.dynamic_partitions_requests or []:
            assert isinstance(request, dg.AddDynamicPartitionsRequest)
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        self.cursor = result.cursor
        return result

    def launched(self) -> list[str]:
        requests = self.tick().run_requests or []
        return [str(request.partition_key) for request in requests]

    @property
    def partitions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions("lead_scripts"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.setenv("LEADSCRUB_SCRIPTS", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Folder(tmp_path, instance)


def test_the_first_look_registers_and_launches_nothing_and_a_new_script_is_launched(folder: Folder) -> None:
    folder.write("b")
    folder.write("a")
    first = folder.tick()
    assert (first.run_requests or [], folder.partitions) == ([], ["a", "b"])
    assert first.skip_reason is not None
    assert "First look: 2 scripts, 2 of them registered" in str(first.skip_reason.skip_message)
    folder.write("c")
    assert folder.launched() == ["c"]
    assert folder.partitions == ["a", "b", "c"]
    assert folder.launched() == []


def test_a_changed_statement_or_header_is_launched_once_and_layout_is_not(folder: Folder) -> None:
    folder.write("a")
    folder.tick()
    folder.write("a", sql=f"-- a word about it\n{SQL.lower()} ;")
    assert folder.launched() == [], "comments, blanks and case do not count"
    folder.write("a", sql=f"{SQL} WHERE state = 'IL'")
    assert folder.launched() == ["a"]
    folder.write("a", sql=f"{SQL} WHERE state = 'IL'", title="Other")
    assert folder.launched() == ["a"]
    assert folder.launched() == []


def test_a_script_that_returns_to_an_earlier_text_has_a_run_key_of_its_own(folder: Folder) -> None:
    folder.write("a")
    folder.tick()
    keys = []
    for text in (f"{SQL} LIMIT 1", SQL, f"{SQL} LIMIT 1"):
        folder.write("a", sql=text)
        (request,) = folder.tick().run_requests or []
        keys.append(request.run_key)
    assert len(set(keys)) == 3


def test_two_daemons_that_see_one_change_request_it_under_one_run_key(folder: Folder) -> None:
    folder.write("a")
    folder.tick()
    before = folder.cursor
    folder.write("a", sql=f"{SQL} LIMIT 1")
    first = folder.tick().run_requests or []
    folder.cursor = before
    second = folder.tick().run_requests or []
    assert [request.run_key for request in first] == [request.run_key for request in second]


def test_a_removed_script_keeps_its_partition_and_is_no_change_when_it_returns(folder: Folder) -> None:
    folder.write("a")
    folder.write("b")
    folder.tick()
    (folder.path / "a.sql").unlink()
    assert folder.launched() == []
    assert folder.partitions == ["a", "b"]
    folder.write("a")
    assert folder.launched() == []


def test_a_script_that_cannot_be_read_is_named_and_holds_up_nobody(folder: Folder) -> None:
    folder.write("a")
    folder.tick()
    folder.write("b")
    (folder.path / "c.sql").write_bytes(b"\xff\xfe")
    (folder.path / "a (copy).sql").write_text(SQL, encoding="utf-8")
    result = folder.tick()
    assert [request.partition_key for request in result.run_requests or []] == ["b"]
    again = folder.tick()
    assert again.skip_reason is not None
    assert "c.sql" in str(again.skip_reason.skip_message)
    assert "'a (copy).sql' cannot be the name" in str(again.skip_reason.skip_message)
    assert folder.partitions == ["a", "b"]
    folder.write("c")
    assert folder.launched() == ["c"]


def test_a_folder_that_cannot_be_read_is_no_empty_one(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("a")
    folder.tick()
    cursor = folder.cursor
    with monkeypatch.context() as patch:
        patch.setenv("LEADSCRUB_SCRIPTS", str(folder.path / "nowhere"))
        result = folder.tick()
    assert result.skip_reason is not None
    assert "Cannot read the folder" in str(result.skip_reason.skip_message)
    assert (folder.cursor, folder.partitions) == (cursor, ["a"])


def test_a_folder_that_was_exchanged_is_launched_bit_by_bit(folder: Folder) -> None:
    folder.write("a")
    folder.tick()
    for number in range(LAUNCHES + 5):
        folder.write(f"new{number:02}")
    first, second = folder.launched(), folder.launched()
    assert (len(first), len(second)) == (LAUNCHES, 5)
    assert not set(first) & set(second)
    assert folder.launched() == []


def test_a_tick_over_a_thousand_scripts_reads_only_what_changed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1_000):
        folder.write(f"script{number:04}")
    folder.tick()
    assert len(folder.partitions) == 1_000
    folder.write("script0500", sql=f"{SQL} LIMIT 1")
    read: list[str] = []
    from leadscrub_pipeline.domain import scripts  # noqa: PLC0415 - patched here only

    whole = scripts.read_script

    def counting(path: Path) -> scripts.LeadScript:
        read.append(path.stem)
        return whole(path)

    monkeypatch.setattr(scripts, "read_script", counting)
    assert folder.launched() == ["script0500"]
    assert read == ["script0500"]
