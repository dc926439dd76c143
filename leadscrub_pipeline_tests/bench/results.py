"""Result files in bench-results/: what was run, when, on which machine, and every figure of every run.

Neither the host's name nor a path of it is in them. How figures are shown does not belong here.
"""

import json
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path("bench-results")
_PACKAGES: Final = ("dagster", "duckdb", "httpx", "httpx-aiohttp", "aiohttp", "pyarrow", "sqlalchemy", "sqlglot")

Runs = Mapping[str, list[float]]
"""The figures of one case: each one's values, one a run."""


class Recorder:
    """One result file, written anew after each run: a bench that is broken off keeps what it measured."""

    def __init__(self, command: str, folder: Path = FOLDER) -> None:
        now = datetime.now(UTC)
        folder.mkdir(exist_ok=True)
        self.path = folder / f"{now:%Y%m%dT%H%M%SZ}.json"
        self.runs: dict[str, defaultdict[str, list[float]]] = {}
        self._facts = {
            "at": now.isoformat(timespec="seconds"),
            "command": command,
            "machine": {
                "processor": _processor(),
                "cores": os.cpu_count(),
                "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
                "system": platform.platform(),
                "python": platform.python_version(),
            },
            "versions": {name: version(name) for name in _PACKAGES},
        }

    def add(self, case: str, figures: Mapping[str, float]) -> None:
        kept = self.runs.setdefault(case, defaultdict(list))
        for figure, value in figures.items():
            kept[figure].append(value)
        result = {**self._facts, "runs": self.runs, "medians": medians(self.runs)}
        self.path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Measured:
    """One case as its newest result file has it."""

    at: datetime
    command: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    runs: Runs

    @property
    def repeats(self) -> int:
        return max(map(len, self.runs.values()), default=0)


def read_newest(paths: Iterable[Path]) -> dict[str, Measured]:
    """Each case of the files, by its name, as the newest of them that has it says."""
    newest: dict[str, Measured] = {}
    for path in paths:
        file = json.loads(path.read_text(encoding="utf-8"))
        at = datetime.fromisoformat(file["at"])
        for case, runs in file["runs"].items():
            if case not in newest or newest[case].at < at:
                newest[case] = Measured(at, file.get("command", ""), file["machine"], file["versions"], runs)
    return newest


def medians(runs: Mapping[str, Runs]) -> dict[str, dict[str, float]]:
    """By case and figure."""
    return {
        case: {figure: statistics.median(values) for figure, values in figures.items()}
        for case, figures in runs.items()
    }


def _processor() -> str:
    """Its model, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
