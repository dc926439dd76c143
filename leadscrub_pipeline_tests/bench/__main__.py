"""Run the cases, print the table, and leave the figures as JSON in bench-results/."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from leadscrub_pipeline_tests.bench.bounds import BOUNDS
from leadscrub_pipeline_tests.bench.cases import CASES

PACKAGES = ("dagster", "duckdb", "httpx", "httpx-aiohttp", "aiohttp", "pyarrow", "sqlalchemy", "sqlglot")
console = Console(stderr=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"which to run: {', '.join(CASES)}; all when none is named")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each case; the median counts (default 3)")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(CASES[arguments.case]()))  # noqa: T201 - the parent reads it
        return 0
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    runs = _run(arguments.cases or list(CASES), arguments.repeat)
    medians = {
        case: {figure: statistics.median(values) for figure, values in figures.items()}
        for case, figures in runs.items()
    }
    _write(runs, medians)
    return _show(medians)


def _run(cases: list[str], repeat: int) -> dict[str, dict[str, list[float]]]:
    runs: dict[str, dict[str, list[float]]] = {case: defaultdict(list) for case in cases}
    for turn in range(repeat):
        for case in cases:
            console.print(f"{case}, {turn + 1} of {repeat}")
            command = [sys.executable, "-m", "leadscrub_pipeline_tests.bench", "--case", case]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                console.print(done.stderr[-3000:], markup=False)
                raise SystemExit(f"case {case} failed")
            for figure, value in json.loads(done.stdout.splitlines()[-1]).items():
                runs[case][figure].append(value)
    return runs


def _write(runs: dict[str, dict[str, list[float]]], medians: dict[str, dict[str, float]]) -> None:
    now = datetime.now(UTC)
    result = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in PACKAGES},
        "runs": runs,
        "medians": medians,
    }
    folder = Path("bench-results")
    folder.mkdir(exist_ok=True)
    path = folder / f"{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    console.print(f"Figures of every run: {path}")


def _show(medians: dict[str, dict[str, float]]) -> int:
    table = Table(title="Medians")
    for name in ("measured", "value", "at most", ""):
        table.add_column(name, justify="right" if name in ("value", "at most") else "left")
    missed = 0
    for bound in BOUNDS:
        value = bound.value(medians)
        if value is None:
            continue
        kept = value <= bound.at_most
        missed += not kept
        table.add_row(
            bound.what, f"{value:.2f} {bound.unit}", f"{bound.at_most:g} {bound.unit}", "kept" if kept else "missed"
        )
    figures = Table(title="All figures (medians)")
    figures.add_column("case")
    figures.add_column("figure")
    figures.add_column("value", justify="right")
    for case, values in medians.items():
        for figure, value in values.items():
            figures.add_row(case, figure, f"{value:,.3f}")
    out = Console()
    out.print(figures)
    out.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
