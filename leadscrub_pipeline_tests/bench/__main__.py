"""Measure speed and memory, or write the page: run the cases, print the table, leave the figures in bench-results/.

Each run of a case is a process of its own. ``--page`` runs nothing and prints BENCHMARKS.md from result files.
"""

import argparse
import json
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from leadscrub_pipeline_tests.bench.bounds import BOUNDS
from leadscrub_pipeline_tests.bench.cases import CASES, ONCE
from leadscrub_pipeline_tests.bench.deployment import peak_mb
from leadscrub_pipeline_tests.bench.page import number, page
from leadscrub_pipeline_tests.bench.results import FOLDER, Recorder, medians, read_newest
from leadscrub_pipeline_tests.bench.telling import MARK

console = Console(stderr=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m leadscrub_pipeline_tests.bench", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"which to run: {', '.join(CASES)}; all when none is named")
    parser.add_argument(
        "--repeat",
        type=int,
        default=3,
        help=f"runs of each case; the median counts (default 3). {', '.join(sorted(ONCE))} run once unless named",
    )
    parser.add_argument(
        "--page",
        nargs="*",
        type=Path,
        metavar="RESULTS.json",
        help="print BENCHMARKS.md from these files, or from all in bench-results/; the newest of each case wins",
    )
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        return _run_here(arguments.case)
    if arguments.page is not None:
        return _print_page(arguments.page or sorted(FOLDER.glob("*.json")))
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    return _run(arguments.cases, arguments.repeat)


def _run_here(case: str) -> int:
    figures = CASES[case]()
    # A case that also does what is not the product's says itself how much memory the product took.
    figures.setdefault("peak_mb", peak_mb())
    print(json.dumps(figures))  # noqa: T201 - the parent reads it
    return 0


def _print_page(paths: list[Path]) -> int:
    measured = read_newest(paths)
    if not measured:
        console.print("There are no result files. Run make bench first.")
        return 2
    print(page({case: measured[case] for case in CASES if case in measured}))  # noqa: T201 - what was asked for
    return 0


def _run(named: list[str], repeat: int) -> int:
    command = " ".join(["make bench", f'CASES="{" ".join(named)}"' if named else "", f"REPEAT={repeat}"])
    recorder = Recorder(" ".join(command.split()))
    failed: list[str] = []
    for turn in range(repeat):
        for case in named or CASES:
            if case in failed or (turn and case in ONCE and case not in named):
                continue
            console.print(f"{case}, {turn + 1} of {repeat}")
            figures = _figures_of(case)
            if figures is None:
                failed.append(case)
            else:
                recorder.add(case, figures)
    if recorder.runs:
        console.print(f"Figures of every run: {recorder.path}")
    missed = _show(medians(recorder.runs))
    if failed:
        console.print(f"Failed: {', '.join(failed)}")
    return 1 if missed or failed else 0


def _figures_of(case: str) -> Mapping[str, float] | None:
    """What a process of its own measured; None, and its last words, when it failed."""
    command = [sys.executable, "-m", "leadscrub_pipeline_tests.bench", "--case", case]
    last: deque[str] = deque(maxlen=40)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            last.append(line)
            if line.startswith(MARK):
                console.print(f"  {line.removeprefix(MARK).rstrip()}", markup=False)
        lines = process.stdout.read().splitlines()
    if process.returncode:
        console.print("".join(last), markup=False)
        return None
    figures: dict[str, float] = json.loads(lines[-1])
    return figures


def _show(figures: Mapping[str, Mapping[str, float]]) -> int:
    """Print what was measured; say how many bounds were missed."""
    table = Table(title="Bounds (medians)")
    for name in ("measured", "value", "at most", ""):
        table.add_column(name, justify="right" if name in ("value", "at most") else "left")
    missed = 0
    for bound in BOUNDS:
        value = bound.value(figures)
        if value is None:
            continue
        kept = value <= bound.at_most
        missed += not kept
        table.add_row(
            bound.what, f"{number(value)} {bound.unit}", f"{bound.at_most:g} {bound.unit}", "kept" if kept else "missed"
        )
    everything = Table(title="All figures (medians)")
    everything.add_column("case")
    everything.add_column("figure")
    everything.add_column("value", justify="right")
    for case, values in figures.items():
        for figure, value in values.items():
            everything.add_row(case, figure, number(value))
    out = Console()
    out.print(everything)
    if table.row_count:
        out.print(table)
    return missed


if __name__ == "__main__":
    sys.exit(main())
