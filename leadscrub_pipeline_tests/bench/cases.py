"""What is measured. Each case runs in a process of its own and prints its figures as one JSON object."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from leadscrub_pipeline_tests.bench.deployment import bench_deployment, scrub


def overhead() -> dict[str, float]:
    """The five assets over 200 leads with no vendor latency, beside a Dagster run of five empty assets."""
    with bench_deployment(leads=200, latency=0.0):
        scrub()  # warm: the first run of a process also loads modules and makes tables
        _empty_run()
    with bench_deployment(leads=200, latency=0.0):
        started = time.perf_counter()
        scrub()
        ours = time.perf_counter() - started
    started = time.perf_counter()
    _empty_run()
    empty = time.perf_counter() - started
    return {"seconds": ours, "empty_seconds": empty, "over_seconds": ours - empty}


def start_up() -> dict[str, float]:
    """Loading the code location beside dagster alone, and the command line's help beside Python alone, all fresh.

    Each is a whole process, less what Python alone takes, and the shortest of three that take turns.
    """
    python, dagster, ours, shown = _shortest(
        [sys.executable, "-c", "pass"],
        [sys.executable, "-c", "import dagster"],
        [sys.executable, "-c", "import leadscrub_pipeline.definitions"],
        [str(Path(sys.executable).with_name("leadscrub")), "--help"],
    )
    return {
        "seconds": ours - python,
        "dagster_seconds": dagster - python,
        "ratio": (ours - python) / (dagster - python),
        "help_seconds": shown,
        "python_seconds": python,
        "help_over_python_seconds": shown - python,
    }


def _case_of(module: str, name: str, **given: Any) -> Callable[[], dict[str, float]]:
    """A case in a module of its own, imported when it is run: no case loads what another needs."""

    def case() -> dict[str, float]:
        figures: dict[str, float] = getattr(import_module(f"leadscrub_pipeline_tests.bench.{module}"), name)(**given)
        return figures

    return case


_vendor_case = partial(_case_of, "vendor_cases")

CASES: Final[Mapping[str, Callable[[], dict[str, float]]]] = {
    "enrichment_50": _vendor_case("enrichment", workers=50),
    "enrichment_200": _vendor_case("enrichment", workers=200),
    "enrichment_500": _vendor_case("enrichment", workers=500),
    "litigator_batches": _vendor_case("litigator_batches"),
    "prefilter_1m": _case_of("prefilter_cases", "prefilter", persons=1_000_000),
    "prefilter_50m": _case_of("prefilter_cases", "prefilter", persons=50_000_000),
    "ledger_and_evidence": _case_of("ledger_cases", "ledger_and_evidence"),
    "evidence_verify": _case_of("evidence_cases", "evidence_verify"),
    "duckdb_merge": _case_of("merge_cases", "duckdb_merge"),
    "snowflake_merge": _case_of("merge_cases", "snowflake_merge"),
    "dnc_list": _case_of("dnc_cases", "dnc_list"),
    "dnc_commands": _case_of("dnc_command_cases", "dnc_commands"),
    "rescrub_after_list_change": _case_of("rescrub_cases", "rescrub_after_list_change"),
    "sensor_ticks": _case_of("sensor_cases", "sensor_ticks"),
    "overhead": overhead,
    "end_to_end_200": _vendor_case("end_to_end", leads=200),
    "end_to_end_10k": _vendor_case("end_to_end", leads=10_000),
    "end_to_end_100k": _vendor_case("end_to_end", leads=100_000),
    "end_to_end_1m": _vendor_case("end_to_end", leads=1_000_000),
    "start_up": start_up,
}
ONCE: Final = frozenset({"end_to_end_1m", "prefilter_50m"})
"""Cases of many minutes: run once when nobody named them, however often the others are."""


def _empty_run() -> None:
    import dagster as dg  # noqa: PLC0415 - start_up must not have loaded it

    def asset(number: int) -> dg.AssetsDefinition:
        @dg.asset(name=f"empty_{number}", deps=[f"empty_{number - 1}"] if number else [])
        def empty() -> None:
            return

        return empty

    assets = [asset(number) for number in range(5)]
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(assets, instance=instance)


def _shortest(*commands: list[str]) -> list[float]:
    rounds = [[_seconds(command) for command in commands] for _ in range(3)]
    return [min(times) for times in zip(*rounds, strict=True)]


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
