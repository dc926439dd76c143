"""``python -m leadscrub_pipeline_tests.histories SEED...``: run histories again, one line an event."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from leadscrub_pipeline_tests.histories.events import history_of
from leadscrub_pipeline_tests.histories.running import run_history


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m leadscrub_pipeline_tests.histories", description=__doc__)
    parser.add_argument("seeds", nargs="+", type=int, metavar="SEED")
    parser.add_argument("--count", type=int, default=1, help="so many from each seed on")
    parser.add_argument("--dagster", action="store_true", help="through Dagster where no process must die")
    parser.add_argument("--quiet", action="store_true", help="tell only what the checker complains of")
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("LEADSCRUB_", "IDICORE_", "CCC_", "DNC_", "ETL_"))]:
        del os.environ[name]
    os.environ["LEADSCRUB_ENV_FILE"] = ""
    red = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in [first + at for first in arguments.seeds for at in range(arguments.count)]:
            red += _replay(seed, Path(folder), through_dagster=arguments.dagster, quiet=arguments.quiet)
    sys.stdout.write(f"{red} with complaints\n")
    return 1 if red else 0


def _replay(seed: int, folder: Path, *, through_dagster: bool, quiet: bool) -> bool:
    def say(line: str) -> None:
        if not quiet:
            sys.stdout.write(f"  {line}\n")
            sys.stdout.flush()

    history = history_of(seed, through_dagster=through_dagster)
    say(f"{len(history.people)} people, scripts {', '.join(history.scripts)}, settings {history.settings}")
    started = time.monotonic()
    ending = run_history(seed, folder / f"seed-{seed}", through_dagster=through_dagster, say=say)
    seconds = time.monotonic() - started
    bill, rows = len(ending.books.bill), len(ending.books.lookups)
    if not quiet or ending.complaints:
        sys.stdout.write(f"seed {seed}: {seconds:.1f} s, {rows} lookups, {bill} billed\n")
    for rule, text in ending.complaints:
        sys.stdout.write(f"  COMPLAINT {rule}: {text}\n")
    sys.stdout.flush()
    return bool(ending.complaints)


if __name__ == "__main__":
    sys.exit(main())
