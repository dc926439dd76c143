"""What each ``leadscrub dnc`` command takes on a whole list: a process of its own, its start-up and its peak memory."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from leadscrub_pipeline_tests.bench.deployment import bench_folder, elsewhere
from leadscrub_pipeline_tests.bench.dnc_cases import ROWS, obtained, write_changes, write_text
from leadscrub_pipeline_tests.bench.telling import tell

_CHECKED = "202-555-0123"
_FOUND = (0, 1)
"""``check`` ends with 1 when the number is listed or unknown."""


class _Ended(NamedTuple):
    """What a command took and printed. Its peak counts from its fork on, so the parent has to stay small."""

    seconds: float
    peak_mb: float
    answer: Any


def dnc_commands() -> dict[str, float]:
    """build, status, verify, check, update, check --as-of, diff and import on one list of ``ROWS`` numbers.

    What ``import`` takes over is a file of the old kind with the same numbers: three columns of text, a primary key and
    an index on the third.
    """
    figures: dict[str, float] = {}
    with bench_folder() as folder:
        path = folder / "dnc.sqlite"
        environment = {**os.environ, "LEADSCRUB_HOME": str(folder / "home"), "DNC_DATABASE_PATH": str(path)}

        def run(name: str, *words: str, **changed: str) -> Any:
            tell(f"leadscrub dnc {words[0]}")
            ended = _leadscrub("dnc", *words, "--json", folder=folder, environment={**environment, **changed})
            figures[f"{name}_seconds"], figures[f"{name}_peak_mb"] = ended.seconds, ended.peak_mb
            return ended.answer

        figures["rows"] = rows = write_text(folder / "full.txt", ROWS)
        write_changes(folder / "changes.txt")
        run("build", "build", "full.txt", "--obtained-at", f"{obtained(3):%Y-%m-%d}")
        assert run("status", "status")["rows"] == rows
        assert run("verify", "verify")["numbers"] == rows
        before = run("check", "check", _CHECKED)
        then = datetime.now(UTC)
        run("update", "update", "changes.txt", "--obtained-at", f"{obtained(2):%Y-%m-%d}")
        assert run("check_as_of", "check", _CHECKED, "--as-of", then.isoformat()) == before
        changed = run("diff", "diff", before[0]["list_version"])["area_codes"]
        figures["changes"] = sum(code["added"] + code["removed"] for code in changed)
        tell("a file of the old kind is made")
        figures["old_file_mb"] = elsewhere(write_old_file, folder / "old.sqlite", path) / 1e6
        imported = {"DNC_DATABASE_PATH": str(folder / "imported.sqlite")}
        run("import", "import", "old.sqlite", "--obtained-at", f"{obtained(1):%Y-%m-%d}", **imported)
        figures["imported_file_mb"] = (folder / "imported.sqlite").stat().st_size / 1e6
        assert run("status", "status", **imported)["rows"] == rows + _more(changed)
    return figures


def _more(changed: list[dict[str, int]]) -> int:
    return sum(code["added"] - code["removed"] for code in changed)


def _leadscrub(*words: str, folder: Path, environment: dict[str, str]) -> _Ended:
    started = time.perf_counter()
    command = [str(Path(sys.executable).with_name("leadscrub")), *words]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in _FOUND:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return _Ended(time.perf_counter() - started, usage.ru_maxrss / 1024, json.loads(printed))


def write_old_file(path: Path, compact: Path) -> int:
    """The numbers of a list of ours as existing files have them; say how many bytes it has."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000;"
            "CREATE TABLE dnc_list (area_code TEXT, phone_number TEXT, full_phone TEXT, "
            "PRIMARY KEY (area_code, phone_number));"
        )
        connection.execute("ATTACH ? AS ours", [str(compact)])
        connection.execute(
            "INSERT INTO dnc_list SELECT SUBSTR(phone, 1, 3), SUBSTR(phone, 4), CAST(phone AS TEXT) "
            "FROM ours.dnc_numbers ORDER BY phone"
        )
        connection.execute("CREATE INDEX full ON dnc_list (full_phone)")
        connection.commit()
    return path.stat().st_size
