"""Each guard is taken out of a copy of the project by hand, so to speak, and the tests that hold it must turn red."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from leadscrub_pipeline_tests.tallies import tally

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Guard:
    """One guard: the lines it stands in, the lines without it, and the tests that hold it."""

    name: str
    module: str
    guarded: str
    unguarded: str
    tests: tuple[str, ...]


GUARDS = (
    Guard(
        "claim",
        "ledger/standing.py",
        "        if row.state in (tables.CLAIMED, tables.SENT) and row.owner not in dead_owners:\n"
        "            return Busy(row.owner)\n",
        "        pass\n",
        ("test_ledger.py", "test_ledger_processes.py"),
    ),
    Guard(
        "sent mark",
        "steps/enrichment.py",
        "            await self._writer.mark_sent(claim.lookup_id)\n",
        "",
        ("test_graph.py", "test_bad_answers.py"),
    ),
    Guard(
        "reconciliation of asked and answered",
        "vendors/ccc.py",
        "seen.get(phone, unknown(Reason.MISSING_FROM_ANSWER))",
        "seen.get(phone, CLEAR)",
        ("test_ccc.py", "test_bad_answers.py"),
    ),
    Guard(
        "age check",
        "dnc/registry.py",
        "        return Reason.STALE_LIST if stale else None\n",
        "        return None\n",
        ("test_registry.py", "test_bad_registry.py"),
    ),
    Guard(
        "control number",
        "vendors/ccc.py",
        '            return "failed"\n        return "all"',
        '            return "all"\n        return "all"',
        ("test_ccc.py", "test_bad_answers.py"),
    ),
    Guard(
        "area-code check of a phone",
        "dnc/registry.py",
        "absent if phone[:3] in covered else _NOT_COVERED",
        "absent",
        ("test_registry.py", "test_bad_registry.py"),
    ),
    Guard(
        "area-code check of a column",
        "dnc/columns.py",
        "np.where(covered[asked.numbers // AREA], 1, 2)",
        "1",
        ("test_bad_registry.py", "test_dnc_runs.py"),
    ),
    Guard(
        "lease of an owner",
        "ledger/owners.py",
        "    return bool(row.lease_until > now) and (row.host != this_host() or _process_exists(row.pid))\n",
        "    return False\n",
        ("test_ledger.py", "test_ledger_processes.py"),
    ),
    Guard(
        "lease of a partition",
        "ledger/partition_leases.py",
        "    if other is not None:\n",
        "    if False:\n",
        ("test_ledger_processes.py",),
    ),
    Guard(
        "miss-share guard",
        "steps/miss_share.py",
        "        return len(self._misses) == WINDOW and sum(self._misses) > self._max_share * WINDOW\n",
        "        return False\n",
        ("test_bad_answers.py",),
    ),
)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name.replace(" ", "_"))
def test_each_guard_stands_in_its_module_as_it_is_told_here(guard: Guard) -> None:
    text = (ROOT / "leadscrub_pipeline" / guard.module).read_text(encoding="utf-8")
    assert text.count(guard.guarded) == 1, f"{guard.module} no longer holds these lines once"


@pytest.mark.long
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name.replace(" ", "_"))
def test_without_a_guard_at_least_one_test_is_red(guard: Guard, tmp_path: Path) -> None:
    for package in ("leadscrub_pipeline", "leadscrub_pipeline_tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "dagster.yaml", "workspace.yaml", ".env.example"):
        shutil.copy(ROOT / file, tmp_path / file)
    shutil.copytree(ROOT / "sql", tmp_path / "sql")
    module = tmp_path / "leadscrub_pipeline" / guard.module
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace(guard.guarded, guard.unguarded), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "-m", "not long and not live",
         *(f"leadscrub_pipeline_tests/{name}" for name in guard.tests)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    red = re.findall(r"^FAILED leadscrub_pipeline_tests/(\S+)", done.stdout, re.MULTILINE)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-2000:]
    assert red, done.stdout[-3000:]
    tally(f"tests red without the {guard.name}, first of them {red[0]}", len(red))
