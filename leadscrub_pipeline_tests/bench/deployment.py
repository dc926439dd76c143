"""A deployment to measure: generated leads, a registry, simulators in a process of their own, all in a fresh folder."""

import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from leadscrub_pipeline.simulators import SimulatorProcess
from leadscrub_pipeline.simulators.leads import make_leads_table
from leadscrub_pipeline.simulators.phones import PhoneSpace
from leadscrub_pipeline.simulators.registry import make_registry

Result = TypeVar("Result")
SCRIPT: Final = "bench"
_SQL: Final = "-- title: Bench\nSELECT * FROM LEADS_DB.PUBLIC.LEADS\n"


@dataclass(frozen=True, slots=True)
class Deployment:
    folder: Path
    simulators: SimulatorProcess


@contextmanager
def bench_folder() -> Iterator[Path]:
    """A fresh folder, under LEADSCRUB_BENCH_FOLDER when that is set: some cases write many gigabytes."""
    with TemporaryDirectory(prefix="leadscrub-bench-", dir=os.environ.get("LEADSCRUB_BENCH_FOLDER")) as name:
        yield Path(name)


def elsewhere(work: Callable[..., Result], *given: Any) -> Result:
    """Do something in a fresh process, whose memory is not counted as the product's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


@contextmanager
def bench_deployment(*, leads: int, latency: float, **settings: str) -> Iterator[Deployment]:
    """One script ``bench`` over so many leads; its settings are in the environment for the length of the block."""
    with bench_folder() as folder:
        (folder / "scripts").mkdir()
        (folder / "scripts" / f"{SCRIPT}.sql").write_text(_SQL)
        table = folder / "sources" / "LEADS_DB" / "PUBLIC" / "LEADS.parquet"
        table.parent.mkdir(parents=True)
        make_leads_table(table, leads=leads)
        make_registry(folder / "dnc.sqlite", listed=["2125550199"])
        with SimulatorProcess(seed=1, latency=latency, space=PhoneSpace.LARGE) as simulators:
            os.environ.update(
                {
                    "LEADSCRUB_ENV_FILE": "",
                    "LEADSCRUB_HOME": str(folder / "home"),
                    "LEADSCRUB_SCRIPTS": str(folder / "scripts"),
                    "LEADSCRUB_SOURCES": str(folder / "sources"),
                    "DNC_DATABASE_PATH": str(folder / "dnc.sqlite"),
                    "DNC_LIST_DATE": datetime.now(UTC).date().isoformat(),
                    "IDICORE_MAX_MISS_SHARE": "1",
                    **simulators.environment(),
                    **settings,
                }
            )
            yield Deployment(folder, simulators)


def scrub() -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Run the job for the bench script; seconds and numbers by asset."""
    import dagster as dg  # noqa: PLC0415 - start_up must not have loaded it

    from leadscrub_pipeline.definitions import defs  # noqa: PLC0415

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("lead_scripts", [SCRIPT])
        result = defs.resolve_job_def("scrub_job").execute_in_process(partition_key=SCRIPT, instance=instance)
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


def peak_mb() -> float:
    """The most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
