"""The bench's page: what its readers see of result files, and bounds that name what is measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from leadscrub_pipeline_tests.bench.bounds import BOUNDS
from leadscrub_pipeline_tests.bench.cases import CASES, ONCE
from leadscrub_pipeline_tests.bench.page import page
from leadscrub_pipeline_tests.bench.results import Recorder, read_newest


def result(folder: Path, at: str, runs: dict[str, dict[str, list[float]]], **machine: Any) -> Path:
    path = folder / f"{at}.json"
    facts = {"processor": "a processor", "cores": 2, "memory_gb": 8.0, "system": "Linux", "python": "3.11.9"}
    content = {
        "at": f"{at}T12:00:00+00:00",
        "command": "make bench REPEAT=3",
        "machine": facts | machine,
        "versions": {"duckdb": "1.4.1"},
        "runs": runs,
    }
    path.write_text(json.dumps(content))
    return path


def lines_with(text: str, part: str) -> list[str]:
    return [line for line in text.splitlines() if part in line]


def test_every_bound_and_every_long_case_names_a_case_that_exists() -> None:
    named = {case for bound in BOUNDS for case in bound.cases} | ONCE
    assert named - set(CASES) == set()


def test_a_bound_is_shown_kept_or_missed_with_its_median_and_the_number_of_runs(tmp_path: Path) -> None:
    path = result(
        tmp_path,
        "2026-01-02",
        {"start_up": {"ratio": [0.9, 4.0, 1.1]}, "sensor_ticks": {"longest_seconds": [2.5, 2.4, 9.0]}},
    )
    text = page(read_newest([path]))
    assert lines_with(text, "loading the code location over import dagster | 1.1 x | 2 x | kept | 3 |")
    assert lines_with(text, "| 2.5 s | 2 s | **missed** | 3 |")


def test_the_newest_file_that_has_a_case_wins_whatever_order_they_come_in(tmp_path: Path) -> None:
    new = result(tmp_path, "2026-01-02", {"start_up": {"seconds": [1.5]}}, processor="a newer processor")
    old = result(tmp_path, "2026-01-01", {"start_up": {"seconds": [7.5]}, "overhead": {"seconds": [3.25, 3.5]}})
    for paths in ((new, old), (old, new)):
        text = page(read_newest(paths))
        assert lines_with(text, "`seconds` | 1.5 | 1.5 | 1.5 |")
        assert lines_with(text, "`seconds` | 3.38 | 3.25 | 3.5 |")
        assert not lines_with(text, "7.5")
        assert lines_with(text, "2026-01-02 12:00 UTC, 1 run, `make bench REPEAT=3`")
        assert lines_with(text, "2026-01-01 12:00 UTC, 2 runs")
        assert lines_with(text, "a newer processor, 2 cores")
        assert lines_with(text, "on: a processor, 2 cores, 8.0 GB of memory")


def test_a_bound_whose_case_was_not_run_or_on_a_smaller_scale_is_said_to_be_not_measured(tmp_path: Path) -> None:
    path = result(
        tmp_path,
        "2026-01-02",
        {
            "end_to_end_100k": {"peak_mb": [512.0]},
            "prefilter_50m": {"persons": [1_000_000], "prefilter_seconds": [0.1]},
        },
    )
    text = page(read_newest([path]))
    assert lines_with(text, "| 100,000 leads end to end: peak memory of the run | 512 MB | 700 MB | kept | 1 |")
    assert lines_with(text, "peak memory over that of 10,000 |  | 1.2 x | not measured | 0 |")
    assert lines_with(text, "against 50 million published persons: the filter |  | 1 s | not measured | 0 |")


def test_a_bench_that_is_broken_off_keeps_what_it_measured(tmp_path: Path) -> None:
    recorder = Recorder("make bench", tmp_path / "results")
    recorder.add("start_up", {"seconds": 1.5})
    recorder.add("start_up", {"seconds": 2.5})
    assert read_newest([recorder.path])["start_up"].runs == {"seconds": [1.5, 2.5]}


def test_a_result_file_has_neither_the_host_s_name_nor_a_path_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "host-of-somebody")
    recorder = Recorder("make bench", tmp_path / "results")
    recorder.add("start_up", {"seconds": 1.5})
    text = recorder.path.read_text() + page(read_newest([recorder.path]))
    assert "host-of-somebody" not in text
    assert str(tmp_path) not in text
