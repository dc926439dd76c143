"""Lists of numbers as the tests of the Do-Not-Call list make them: texts, orders, and what must come of them."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from leadscrub_pipeline.dnc import DncRegistry
from leadscrub_pipeline.dnc.build_rules import Limits, Order
from leadscrub_pipeline.dnc.building import Built, build
from leadscrub_pipeline.domain.verdicts import Verdict

START: Final = datetime(2026, 6, 1, 8, tzinfo=UTC)
"""Long enough ago that no list of a test is of the future."""
LIMITS: Final = Limits(shrink_share=0.05, reject_share=0.001, gap=timedelta(hours=48), keep=timedelta(days=1827))


def full_text(path: Path, numbers: Iterable[int]) -> Path:
    path.write_text("".join(f"{number // 10**7},{number % 10**7:07}\n" for number in numbers))
    return path


def change_text(path: Path, changes: Iterable[tuple[int, datetime, str]]) -> Path:
    path.write_text("".join(f"{number},{at:%Y-%m-%dT%H:%M:%S},{action}\n" for number, at, action in changes))
    return path


def old_file(path: Path, numbers: Iterable[int]) -> Path:
    """As existing files are."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE dnc_list (area_code TEXT, phone_number TEXT, full_phone TEXT, "
            "PRIMARY KEY (area_code, phone_number))"
        )
        connection.execute("CREATE INDEX full ON dnc_list (full_phone)")
        rows = [(text[:3], text[3:], text) for text in map(str, numbers)]
        connection.executemany("INSERT INTO dnc_list VALUES (?, ?, ?)", rows)
    return path


def some_numbers(seed: int, *, codes: Iterable[int] = (212, 310), each: int = 3_000) -> list[int]:
    """Different numbers of some area codes, ascending."""
    rng = np.random.default_rng(seed)
    found = [
        code * 10**7 + rng.choice(8_000_000, each, replace=False) + 2_000_000 for code in sorted(codes)
    ]  # exchanges from 200 on
    return [int(number) for part in found for number in np.sort(part)]


def made(path: Path, kind: Any, *sources: Path, at: datetime = START, limits: Limits = LIMITS, **more: Any) -> Built:
    """A next version, with the clock at an hour after its download."""
    return build(path, Order(kind, sources, at, **more), limits, now=lambda: at + timedelta(hours=1))


def stored(path: Path) -> list[int]:
    """All numbers of a compact list as SQLite gives them."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return [number for (number,) in connection.execute("SELECT phone FROM dnc_numbers ORDER BY phone")]


def listed(path: Path, numbers: Iterable[int], *, now: datetime = START) -> dict[int, Verdict]:
    """What a reader is told of numbers."""
    with DncRegistry.open(path, list_date=None, max_age_days=31, now=lambda: now) as registry:
        answers = registry.look_up([str(number) for number in numbers])
    return {int(phone): answer.verdict for phone, answer in answers.items()}
