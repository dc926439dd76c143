"""What is measured about checking published rows again, after the Do-Not-Call list changed a little."""

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np

from leadscrub_pipeline_tests.bench.deployment import SCRIPT, bench_deployment, elsewhere, peak_mb
from leadscrub_pipeline_tests.bench.dnc_cases import limits, obtained, text_of
from leadscrub_pipeline_tests.bench.telling import tell
from leadscrub_pipeline_tests.bench.vendor_cases import phone_of, phone_sql

ROWS: Final = 333_334
"""Three phones each, no phone twice."""
_CODES: Final = range(201, 901)
_NUMBERS: Final = 18_000_000
"""What the list is drawn from; the first million of them are the published phones."""
_LISTED_EACH: Final = 9
"""One number of so many is on the list."""
_CHANGES: Final = 500
_APART: Final = 1_800
_REMOVED: Final = tuple(range(0, _CHANGES * _APART, _APART))
_ADDED: Final = tuple(range(904, _CHANGES * _APART, _APART))
"""Published numbers by their place, 0.1 % in all, each in a row of its own."""


def rescrub_after_list_change() -> dict[str, float]:
    """A rescrub of source dnc over a million published phones whose list then changed for 0.1 % of them.

    All verdicts stand but for the list's version, and CCC's stand altogether. The list has two million numbers. The
    case fails unless just the flags of the changed phones are other ones afterwards.
    """
    from leadscrub_pipeline.deployment import open_ledger, open_registry, open_warehouse  # noqa: PLC0415 - start_up must not have loaded it
    from leadscrub_pipeline.domain.verdicts import DNC  # noqa: PLC0415
    from leadscrub_pipeline.settings import load_settings  # noqa: PLC0415
    from leadscrub_pipeline.steps.rescrub import Rescrub, rescrub  # noqa: PLC0415

    with bench_deployment(leads=1, latency=0.0) as deployment:
        settings = load_settings()
        path = settings.dnc_database_path
        assert path is not None
        path.unlink()
        tell("the list and a million published phones are made")
        elsewhere(_build, path, "full", deployment.folder, 3)
        with open_registry(settings) as registry:
            version = registry.version
        assert version.obtained_at is not None
        warehouse = open_warehouse(settings)
        with warehouse.session():
            pass  # makes the tables
        elsewhere(_publish, settings.warehouse_path, version.name, version.obtained_at)
        elsewhere(_build, path, "changes", deployment.folder, 2)
        tell("the rescrub begins")
        with open_ledger(settings) as ledger:
            started = time.perf_counter()
            wanted = Rescrub("bench", (DNC,))
            result = rescrub(
                warehouse, ledger, settings, wanted, lambda: open_registry(settings), report=lambda _: None
            )
            seconds = time.perf_counter() - started
        result.raise_problems()
        peak = peak_mb()
        wrong = elsewhere(_wrong_flags, settings.warehouse_path)
    expected = {"dnc_false_to_true": _CHANGES, "dnc_true_to_false": _CHANGES, "rows_updated": 2 * _CHANGES}
    numbers = result.numbers()
    if wrong or any(numbers[name] != count for name, count in expected.items()):
        raise SystemExit(f"{wrong:,} rows have wrong flags; {numbers}")
    return {
        "rows": ROWS,
        "phones": numbers["phones"],
        "asked": numbers["dnc_asked"],
        "evidence_rows": numbers["dnc_evidence_rows"],
        "flags_changed": numbers["dnc_false_to_true"] + numbers["dnc_true_to_false"],
        "seconds": seconds,
        "asking_seconds": result.sources[DNC].seconds,
        "peak_mb": peak,
    }


def _build(path: Path, kind: Any, folder: Path, days_ago: int) -> None:
    """The list as it was, or changed as the FTC tells of changes."""
    from leadscrub_pipeline.dnc.build_rules import Order  # noqa: PLC0415 - in a process of its own
    from leadscrub_pipeline.dnc.building import build  # noqa: PLC0415

    source = folder / f"{kind}.txt"
    if kind == "full":
        with source.open("wb") as file:
            for place, code in enumerate(_CODES):
                lines = np.arange(_NUMBERS // len(_CODES))
                file.write(text_of(code, 2_000_000 + lines[(place + len(_CODES) * lines) % _LISTED_EACH == 0]))
    else:
        at = f"{obtained(days_ago) - timedelta(hours=12):%Y-%m-%dT%H:%M:%S}"
        changes = [(number, "D") for number in _REMOVED] + [(number, "A") for number in _ADDED]
        source.write_text("".join(f"{phone_of(number)},{at},{change}\n" for number, change in changes))
    build(path, Order(kind, (source,), obtained(days_ago)), limits())


_IS_LISTED: Final = f"({{number}} % {_LISTED_EACH} = 0)"


def _publish(path: Path, list_version: str, obtained_at: datetime) -> None:
    """Rows as runs leave them, with the verdicts they were made of, and identities that need no second visit."""
    from leadscrub_pipeline.warehouse.schema import (  # noqa: PLC0415 - in a process of its own
        DATABASE,
        MASTER,
        PHONE_VERDICTS,
        PUBLISHED_IDENTITIES,
    )

    at = obtained_at.replace(tzinfo=None)
    numbers = {slot: f"(3 * n + {slot - 1})" for slot in (1, 2, 3)}
    flags = ("in_litigator_list", *(f"phone_{slot}_in_dnc" for slot in numbers))
    nulls = ", ".join(f'"{flag}": null' for flag in flags)
    members = ", ".join(
        f'"phone_{slot}_litigator_checked_at": "{at:%Y-%m-%dT%H:%M:%S}Z", '
        f'"phone_{slot}_dnc_checked_at": "{at:%Y-%m-%dT%H:%M:%S}Z", "phone_{slot}_dnc_list_version": "{list_version}"'
        for slot in numbers
    )
    master = {
        "record_id": "md5('record ' || n)",
        "job_id": "'earlier'",
        "job_name": "'scrub_job'",
        "table_id": f"'{SCRIPT}'",
        "table_title": "'Bench'",
        "processed_at": f"TIMESTAMP '{at}'",
        "first_name": "'Ada'",
        "last_name": "'Lead' || n",
        "address": "n || ' Oak Street'",
        "city": "'Dallas'",
        "state": "'TX'",
        "zip_code": "'75201'",
        "in_litigator_list": "FALSE",
        **{f"phone_{slot}": phone_sql(number) for slot, number in numbers.items()},
        **{f"phone_{slot}_in_dnc": _IS_LISTED.format(number=number) for slot, number in numbers.items()},
        "additional_data": (
            f"""'{{"loan_amount": ' || n || ', "provenance": {{"null_reasons": {{{nulls}}}, {members}}}}}'"""
        ),
    }
    verdict = {
        "phone": phone_sql("n"),
        "source": "'{source}'",
        "verdict": "CASE WHEN {listed} THEN 'listed' ELSE 'clear' END",
        "list_version": "'{version}'",
        "obtained_at": f"TIMESTAMP '{at}'",
        "checked_at": f"TIMESTAMP '{at}'",
        "valid_until": f"TIMESTAMP '{at + timedelta(days=31)}'",
    }
    identity = {
        "identity_hash": "sha256('identity ' || n)",
        "person_key": "sha256('person ' || n)",
        "partition_key": f"'{SCRIPT}'",
        "settled": "TRUE",
        "record_id": "md5('record ' || n)",
    }
    of_sources = {"ccc": ("loopback", "FALSE"), "dnc": (list_version, _IS_LISTED.format(number="n"))}
    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2}) as connection:
        connection.execute(f"ATTACH '{path}' AS {DATABASE}")
        _fill(connection, MASTER, master, ROWS)
        _fill(connection, PUBLISHED_IDENTITIES, identity, ROWS)
        for source, (version, listed) in of_sources.items():
            of_source = {
                name: value.format(source=source, version=version, listed=listed) for name, value in verdict.items()
            }
            _fill(connection, PHONE_VERDICTS, of_source, 3 * ROWS)
        connection.execute(f"CHECKPOINT {DATABASE}")


def _fill(connection: duckdb.DuckDBPyConnection, table: Any, given: dict[str, str], rows: int) -> None:
    columns = ", ".join(f"{given.get(name, 'NULL')} AS {name}" for name in table.column_names)
    connection.execute(
        f"INSERT INTO {table.full_name} ({', '.join(table.column_names)}) "
        f"SELECT {columns} FROM range({rows}) AS numbers(n)"
    )


def _wrong_flags(path: Path) -> int:
    """Rows of which a flag is not as the changed list has it."""
    from leadscrub_pipeline.warehouse.schema import DATABASE, MASTER  # noqa: PLC0415 - in a process of its own

    expected = {
        slot: f"({_IS_LISTED.format(number=f'(3 * n + {slot - 1})')} AND 3 * n + {slot - 1} NOT IN {_REMOVED}) "
        f"OR 3 * n + {slot - 1} IN {_ADDED}"
        for slot in (1, 2, 3)
    }
    wrong = " OR ".join(f"m.phone_{slot}_in_dnc IS DISTINCT FROM ({flag})" for slot, flag in expected.items())
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS {DATABASE} (READ_ONLY)")
        row = connection.execute(
            f"SELECT COUNT(*) FROM range({ROWS}) AS numbers(n) "
            f"LEFT JOIN {MASTER.full_name} AS m ON m.record_id = md5('record ' || n) "
            f"WHERE m.record_id IS NULL OR m.in_litigator_list IS DISTINCT FROM FALSE OR {wrong}"
        ).fetchone()
    assert row is not None
    return int(row[0])
