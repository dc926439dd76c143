"""A deployment to measure: generated leads, a registry, simulators in a process of their own, all in a fresh folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from leadscrub_pipeline.simulators import SimulatorProcess
from leadscrub_pipeline.simulators.leads import make_leads_table
from leadscrub_pipeline.simulators.phones import PhoneSpace
from leadscrub_pipeline.simulators.registry import make_registry

SCRIPT = "-- title: Bench\nSELECT * FROM LEADS_DB.PUBLIC.LEADS\n"


@contextmanager
def bench_deployment(*, leads: int, latency: float, **settings: str) -> Iterator[Path]:
    """One script ``bench`` over so many leads; its settings are in the environment for the length of the block."""
    with TemporaryDirectory(prefix="leadscrub-bench-") as name:
        folder = Path(name)
        (folder / "scripts").mkdir()
        (folder / "scripts" / "bench.sql").write_text(SCRIPT)
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
            yield folder
