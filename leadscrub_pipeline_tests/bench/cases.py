"""What is measured. Each case runs in a process of its own and prints its figures as one JSON object."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from leadscrub_pipeline_tests.bench.deployment import bench_deployment

WORKERS: Final = 200
LATENCY: Final = 0.3


def enrichment(leads: int = 10_000) -> dict[str, float]:
    """enriched_contacts at 200 workers against 300 ms, ledger and tables written, beside the ideal."""
    with bench_deployment(leads=leads, latency=LATENCY, IDICORE_MAX_WORKERS=str(WORKERS)):
        steps, numbers = _scrub()
    ideal = numbers["enriched_contacts"]["lookups_paid"] * LATENCY / WORKERS
    return {"seconds": steps["enriched_contacts"], "ideal_seconds": ideal, "ratio": steps["enriched_contacts"] / ideal}


def overhead() -> dict[str, float]:
    """The five assets over 200 leads with no vendor latency, beside a Dagster run of five empty assets."""
    with bench_deployment(leads=200, latency=0.0):
        _scrub()  # warm: the first run of a process also loads modules and makes tables
        _empty_run()
    with bench_deployment(leads=200, latency=0.0):
        started = time.perf_counter()
        _scrub()
        ours = time.perf_counter() - started
    started = time.perf_counter()
    _empty_run()
    empty = time.perf_counter() - started
    return {"seconds": ours, "empty_seconds": empty, "over_seconds": ours - empty}


def end_to_end(leads: int) -> dict[str, float]:
    """The five assets with no vendor latency: time, and the peak memory of this very process."""
    with bench_deployment(leads=leads, latency=0.0):
        started = time.perf_counter()
        steps, _ = _scrub()
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds,
        "leads_a_second": leads / seconds,
        "peak_mb": peak,
        **{f"{name}_seconds": value for name, value in steps.items()},
    }


def start_up() -> dict[str, float]:
    """Loading the code location beside loading dagster alone, each in a fresh interpreter."""
    dagster = _import_seconds("dagster")
    ours = _import_seconds("leadscrub_pipeline.definitions")
    return {"seconds": ours, "dagster_seconds": dagster, "ratio": ours / dagster}


def _case_of(module: str, name: str) -> Callable[[], dict[str, float]]:
    """A case in a module of its own, imported when it is run: start_up must not have loaded what it needs."""

    def case() -> dict[str, float]:
        figures: dict[str, float] = getattr(import_module(f"leadscrub_pipeline_tests.bench.{module}"), name)()
        return figures

    return case


CASES: Final[Mapping[str, Callable[[], dict[str, float]]]] = {
    "enrichment": enrichment,
    "ledger_and_evidence": _case_of("ledger_cases", "ledger_and_evidence"),
    "evidence_verify": _case_of("evidence_cases", "evidence_verify"),
    "duckdb_merge": _case_of("merge_cases", "duckdb_merge"),
    "snowflake_merge": _case_of("merge_cases", "snowflake_merge"),
    "dnc_list": _case_of("dnc_cases", "dnc_list"),
    "sensor_ticks": _case_of("sensor_cases", "sensor_ticks"),
    "overhead": overhead,
    "end_to_end_10k": lambda: end_to_end(10_000),
    "end_to_end_100k": lambda: end_to_end(100_000),
    "start_up": start_up,
}


def _scrub() -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Run the job for the bench script; seconds and numbers by asset."""
    import dagster as dg  # noqa: PLC0415 - start_up must not have loaded it

    from leadscrub_pipeline.definitions import defs  # noqa: PLC0415

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("lead_scripts", ["bench"])
        result = defs.resolve_job_def("scrub_job").execute_in_process(partition_key="bench", instance=instance)
        numbers = {
            event.asset_key.to_user_string(): {k: v.value for k, v in event.materialization.metadata.items()}
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        }
        seconds = {
            stats.step_key: stats.end_time - stats.start_time
            for stats in instance.get_run_step_stats(result.run_id)
            if stats.end_time is not None and stats.start_time is not None
        }
    return seconds, numbers


def _empty_run() -> None:
    import dagster as dg  # noqa: PLC0415

    def asset(number: int) -> dg.AssetsDefinition:
        @dg.asset(name=f"empty_{number}", deps=[f"empty_{number - 1}"] if number else [])
        def empty() -> None:
            return

        return empty

    assets = [asset(number) for number in range(5)]
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(assets, instance=instance)


def _import_seconds(module: str) -> float:
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)
