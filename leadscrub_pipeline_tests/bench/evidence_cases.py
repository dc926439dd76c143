"""What is measured about evidence. A case like those of cases.py, in a module of its own."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROWS: Final = 1_000_000
_RUNS: Final = 5


def evidence_verify(rows: int = ROWS) -> dict[str, float]:
    """Verifying chains as runs leave them, verdicts and seals included: rows a second.

    It is done twice, and the second counts: the first one of a process also loads modules and the file.
    """
    from leadscrub_pipeline.ledger import Ledger  # noqa: PLC0415 - start_up must not have loaded it
    from leadscrub_pipeline.steps.evidence_verification import verify  # noqa: PLC0415
    from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse  # noqa: PLC0415
    from leadscrub_pipeline_tests.evidence_making import ASSETS, check_of, write_chain  # noqa: PLC0415

    each = rows // (_RUNS * len(ASSETS))
    with TemporaryDirectory(prefix="leadscrub-bench-") as name:
        folder = Path(name)
        warehouse = DuckdbWarehouse(folder / "warehouse.duckdb", kind="demo", sources_folder=None)
        with Ledger.open(folder / "ledger.sqlite", kind="demo") as ledger:
            for run in range(_RUNS):
                for asset in ASSETS:
                    write_chain(warehouse, ledger, check_of(f"run-{run}", asset), each, first=run * each)
            verify(warehouse, ledger, report=lambda _: None)
            processor = time.process_time()
            result = verify(warehouse, ledger, report=lambda _: None)
            processor = time.process_time() - processor
    if not result.is_sound or result.rows != each * _RUNS * len(ASSETS):
        raise SystemExit(f"evidence is not sound: {dict(result.kinds)}")
    return {
        "rows": result.rows,
        "seconds": result.seconds,
        "rows_a_second": result.rows / result.seconds,
        "microseconds_a_row": result.seconds / result.rows * 1e6,
        "processor_seconds": processor,
    }
