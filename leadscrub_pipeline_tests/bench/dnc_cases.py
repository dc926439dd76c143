"""What is measured about the Do-Not-Call list: making it, indexing it, asking it, beside what SQLite does by hand."""

import ctypes
import mmap
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from leadscrub_pipeline_tests.bench.deployment import bench_folder
from leadscrub_pipeline_tests.bench.telling import tell

ROWS: Final = int(os.environ.get("LEADSCRUB_BENCH_DNC_ROWS", "50_000_000"))
"""The registry has 258 million; as many as fit the time."""
_CODES: Final = range(201, 501)
_ASKED: Final = (600, 2_000, 100_000, 3_000_000)
_BULK: Final = 100_000
"""Phones from which on the product asks the index, where there is one."""
_WARM_SHARE: Final = 0.01
_CHANGED_SHARE: Final = 0.001
DAY: Final = timedelta(days=1)


def dnc_list() -> dict[str, float]:
    """Text to list, index, changes and lookups, on one list of ``ROWS`` numbers.

    That is 50 million, or LEADSCRUB_BENCH_DNC_ROWS: a fifth of the registry. Lookups are warm and cold. Cold is with
    nothing of the files in this machine's memory, which is checked; a host or a disk may still hold them in its own,
    which ``read_cold_mb_a_second`` beside ``read_warm_mb_a_second`` shows.
    """
    with bench_folder() as folder:
        rows = write_text(folder / "full.txt", ROWS)
        figures: dict[str, float] = {"rows": rows}
        path = folder / "dnc.sqlite"
        tell(f"a list of {rows:,} numbers is built from text")
        figures |= _building(folder, path, rows)
        figures |= _indexing(path, rows)
        figures |= _asking(path)
        figures |= _updating(folder, path)
    return figures


def _building(folder: Path, path: Path, rows: int) -> dict[str, float]:
    """In a process of its own, whose peak memory is that of the build."""
    command = [sys.executable, "-m", "leadscrub_pipeline_tests.bench.dnc_cases", str(path), str(folder / "full.txt")]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "build_seconds": seconds,
        "build_rows_a_second": rows / seconds,
        "build_microseconds_a_row": seconds / rows * 1e6,
        "build_peak_mb": peak,
        "file_mb": path.stat().st_size / 1e6,
    }


def build_in_this_process(path: Path, source: Path) -> None:
    from leadscrub_pipeline.dnc.build_rules import Order  # noqa: PLC0415
    from leadscrub_pipeline.dnc.building import build  # noqa: PLC0415

    build(path, Order("full", (source,), obtained(3)), limits())


def _indexing(path: Path, rows: int) -> dict[str, float]:
    from leadscrub_pipeline.dnc.bulk_index import build_index, index_path  # noqa: PLC0415

    index_path(path).unlink()
    started = time.perf_counter()
    build_index(path, of_compact=True)
    ours = time.perf_counter() - started
    started = time.perf_counter()
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute("SELECT phone FROM dnc_numbers")
        while cursor.fetchmany(100_000):
            pass
    fetchmany = time.perf_counter() - started
    return {
        "index_seconds": ours,
        "index_rows_a_second": rows / ours,
        "fetchmany_seconds": fetchmany,
        "index_over_fetchmany": ours / fetchmany,
        "index_mb": index_path(path).stat().st_blocks * 512 / 1e6,
    }


def _asking(path: Path) -> dict[str, float]:
    """Warm: a first question does not count. Cold: the first one, of files of which nothing is in memory."""
    from leadscrub_pipeline.dnc import DncRegistry  # noqa: PLC0415
    from leadscrub_pipeline.dnc.bulk_index import index_path, open_index  # noqa: PLC0415

    figures = _reading(path)
    rng = np.random.default_rng(7)
    for count in _ASKED:
        numbers = _some(rng, count)
        texts = [str(number) for number in numbers.tolist()]
        tell(f"{count:,} phones are looked up")

        def opened_registry() -> DncRegistry:
            return DncRegistry.open(path, list_date=None, max_age_days=31)

        def opened_index() -> Any:
            index = open_index(path)
            assert index is not None
            return index

        def opened_by_hand() -> Any:
            return closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True))

        ways: dict[str, tuple[Any, Callable[[Any], object]]] = {
            "index": (opened_index, lambda index, n=numbers: index.holds(n)),
            "in_999": (opened_by_hand, lambda connection, n=numbers: _in_999(connection, n)),
            "sqlite": (opened_registry, lambda registry, t=texts: registry.look_up(t)),
        }
        for way, (opening, ask) in ways.items():
            if way != "sqlite" or count < _BULK:
                _forget(path, index_path(path))
                with opening() as opened:
                    figures[f"{way}_{count}_cold_ms"] = _once(partial(ask, opened))
            with opening() as opened:
                times = 7 if way == "index" else 3
                figures[f"{way}_{count}_ms"] = _warm(partial(ask, opened), times=times)
        bits = np.memmap(index_path(path), np.uint8, "r").view(np.ndarray)
        figures[f"gather_{count}_ms"] = _warm(lambda n=numbers, b=bits: b[n >> 3])
        del bits  # what is mapped stays in memory
        with opened_index() as index, opened_by_hand() as connection:
            assert _in_999(connection, numbers) == int(index.holds(np.unique(numbers)).sum())
        figures[f"index_over_in_999_{count}"] = figures[f"index_{count}_ms"] / figures[f"in_999_{count}_ms"]
        figures[f"index_over_gather_{count}"] = figures[f"index_{count}_ms"] / figures[f"gather_{count}_ms"]
    return figures


def _reading(path: Path) -> dict[str, float]:
    """How fast the file is read with nothing of it in memory, and again: whether cold is cold here."""
    _forget(path)
    size = path.stat().st_size / 1e6
    figures = {}
    for way in ("cold", "warm"):
        started = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
        figures[f"read_{way}_mb_a_second"] = size / (time.perf_counter() - started)
    return figures


def _updating(folder: Path, path: Path) -> dict[str, float]:
    from leadscrub_pipeline.dnc.build_rules import Order  # noqa: PLC0415
    from leadscrub_pipeline.dnc.building import build  # noqa: PLC0415

    write_changes(folder / "changes.txt")
    started = time.perf_counter()
    built = build(path, Order("changes", (folder / "changes.txt",), obtained(2)), limits())
    seconds = time.perf_counter() - started
    return {
        "update_seconds": seconds,
        "update_changes": built.added + built.removed,
        "kept_version_kb": path.with_name("dnc.sqlite.versions").stat().st_size / 1e3,
    }


def write_changes(path: Path) -> None:
    """A change list of the day after the full one: a thousandth of the numbers, half of them added."""
    rng = np.random.default_rng(8)
    at = f"{obtained(2) - DAY / 2:%Y-%m-%dT%H:%M:%S}"
    numbers = np.unique(_some(rng, int(ROWS * _CHANGED_SHARE)))
    path.write_text("".join(f"{number},{at},{'AD'[place % 2]}\n" for place, number in enumerate(numbers.tolist())))


def _in_999(connection: sqlite3.Connection, numbers: npt.NDArray[np.int64]) -> int:
    """What one would write by hand: sorted, 999 at a time."""
    ordered = np.unique(numbers).tolist()
    found = 0
    for start in range(0, len(ordered), 999):
        part = ordered[start : start + 999]
        marks = ",".join("?" * len(part))
        found += len(connection.execute(f"SELECT phone FROM dnc_numbers WHERE phone IN ({marks})", part).fetchall())
    return found


def _some(rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Numbers of the list's area codes, of which as many are on it as are on the list."""
    codes = rng.integers(_CODES.start, _CODES.stop, count)
    return codes * 10_000_000 + rng.integers(2_000_000, 10_000_000, count)


def write_text(path: Path, rows: int) -> int:
    """The list as the FTC hands it out: by area code, ascending. Say how many numbers it has: at least ``rows``."""
    rng = np.random.default_rng(6)
    each = -(-rows // len(_CODES))
    with path.open("wb") as file:
        for code in _CODES:
            drawn = rng.choice(8_000_000, each, replace=False, shuffle=False) + 2_000_000
            file.write(text_of(code, np.sort(drawn)))
    return each * len(_CODES)


def text_of(code: int, lines: npt.NDArray[np.int64]) -> bytes:
    """Numbers of an area code as the FTC writes them, one a line."""
    digits = np.empty((len(lines), 12), np.uint8)
    digits[:, :4] = np.frombuffer(f"{code},".encode(), np.uint8)
    for place in range(10, 3, -1):
        lines, digit = np.divmod(lines, 10)
        digits[:, place] = digit + 48
    digits[:, 11] = 10
    return digits.tobytes()


def _warm(ask: Callable[[], object], times: int = 7) -> float:
    """Milliseconds, the median of some times after a first that does not count."""
    ask()
    return statistics.median(_once(ask) for _ in range(times))


def _once(ask: Callable[[], object]) -> float:
    started = time.perf_counter()
    ask()
    return (time.perf_counter() - started) * 1e3


def _forget(*paths: Path) -> None:
    """Let the system drop what it holds of the files in memory, and see that it did: what is mapped somewhere stays."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
        share = _share_in_memory(path)
        if share > _WARM_SHARE:
            raise SystemExit(f"{share:.1%} of {path.name} stayed in memory: its lookups would not be cold")


def _share_in_memory(path: Path) -> float:
    """How much of a file's pages the system holds, as mincore(2) says."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        content = np.frombuffer(mapped, np.uint8)
        pages = np.zeros(-(-len(content) // mmap.PAGESIZE), np.uint8)
        failed = libc.mincore(
            ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(len(content)), ctypes.c_void_p(pages.ctypes.data)
        )
        del content
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return float((pages & 1).mean())


def obtained(days_ago: int) -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - days_ago * DAY


def limits() -> Any:
    from leadscrub_pipeline.dnc.build_rules import Limits  # noqa: PLC0415

    return Limits(shrink_share=0.05, reject_share=0.001, gap=2 * DAY, keep=1827 * DAY)


if __name__ == "__main__":
    build_in_this_process(Path(sys.argv[1]), Path(sys.argv[2]))
