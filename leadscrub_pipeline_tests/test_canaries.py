"""Marked names, phones, e-mails, addresses, keys and tokens through everything that can happen to a run.

None is found outside the tables meant for them. The same look finds one that is planted.
"""

import csv
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.warehouse.duckdb import DuckdbSession
from leadscrub_pipeline.warehouse.schema import MASTER, PHONE_VERDICTS
from leadscrub_pipeline_tests.canaries import (
    ANSWER_KEY,
    CHANNELS,
    FIRST,
    LAST,
    World,
    marked_people,
    readable_by_others,
)
from leadscrub_pipeline_tests.cli_deployment import deployment_in
from leadscrub_pipeline_tests.tallies import tally

COLUMNS = ("FIRST_NAME", "LAST_NAME", "ADDRESS", "CITY", "STATE", "ZIP", "LOAN_NOTE")

# Every command that is not meant to show a person. Those that are: results export, check,
# person export, evidence trace and evidence export, and results list with --unmask.
QUIET_COMMANDS = (
    ("preview", "success"),
    ("preview", "unreadable", "--json"),
    ("run", "success", "--json"),
    ("scripts", "list"),
    ("scripts", "show", "success"),
    ("scripts", "lint"),
    ("ledger", "summary"),
    ("ledger", "summary", "--json"),
    ("ledger", "unknown", "list"),
    ("ledger", "reconcile", "INVOICE"),
    ("results", "list"),
    ("results", "list", "--json"),
    ("results", "stats"),
    ("report", "success", "--output", "-"),
    ("report", "success", "--json"),
    ("evidence", "verify"),
    ("doctor",),
    ("settings",),
    ("pause",),
    ("resume",),
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    temp = tmp_path / "temp"
    temp.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temp))
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda _policy, _attempt: 0)
    with deployment_in(tmp_path / "deployment") as deployment:
        deployment.environment |= {
            "TMPDIR": str(temp),
            "LEADSCRUB_ANSWER_KEY": ANSWER_KEY,
            "NTFY_ENABLED": "true",
            "IDICORE_MAX_WORKERS": "4",
            "IDICORE_MIN_WORKERS": "4",
            "IDICORE_RETRY_BASE_DELAY": "0.01",
            "CCC_RETRY_BASE_DELAY": "0.01",
            "CCC_MAX_RETRIES": "1",
            "LEADSCRUB_BREAKER_SECONDS": "0.05",
        }
        for name, value in deployment.environment.items():
            monkeypatch.setenv(name, value)
        yield World(deployment, temp)


def new_script(world: World, key: str, select: str = "*") -> None:
    people = marked_people(8, start=1000 + len(world.people))
    world.people += people
    path = world.deployment.folder / "sources" / "LEADS_DB" / "PUBLIC" / f"{key.upper()}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *people])
    world.deployment.write_script(key, f"SELECT {select} FROM LEADS_DB.PUBLIC.{key.upper()}")


def command(world: World, *arguments: str, codes: tuple[int, ...] = (0,), **settings: str) -> str:
    with statements_recorded(world):
        ended = world.deployment.command(*arguments, **settings)
    assert ended.code in codes, (arguments, ended)
    world.outputs.append(ended.out + ended.err)
    return ended.out


@contextmanager
def statements_recorded(world: World) -> Iterator[None]:
    """DuckDB keeps no list of what it was asked, so the statements are taken where our sessions hand them over."""

    def recording(method: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(session: DuckdbSession, sql: str, *params: Any) -> Any:
            world.statements.append(sql)
            return method(session, sql, *params)

        return recorded

    with pytest.MonkeyPatch.context() as patch:
        for name in ("execute", "rows", "table"):
            patch.setattr(DuckdbSession, name, recording(getattr(DuckdbSession, name)))
        yield


# --- what happens -------------------------------------------------------------------------------


def success(world: World) -> None:
    command(world, "run", "success")


def refusal(world: World) -> None:
    """Of the script by the guard, and of a lead that cannot be looked up."""
    world.deployment.write_script("refusal", f"DELETE FROM LEADS_DB.PUBLIC.REFUSAL WHERE LAST_NAME = '{LAST[:5]}'")
    command(world, "run", "refusal", codes=(4,))


def refusal_by_vendor(world: World) -> None:
    world.deployment.simulators.idicore.faults.add(Fault("bad_request", times=3), Fault("forbidden"))
    command(world, "run", "refusal_by_vendor", codes=(3,))
    world.deployment.simulators.idicore.faults.clear()


def vendor_failure(world: World) -> None:
    world.deployment.simulators.idicore.faults.add(Fault("wrong_shape", times=2), Fault("cut_json", times=2))
    world.deployment.simulators.ccc.faults.add(Fault("server_error"))
    command(world, "run", "vendor_failure", codes=(0, 3), CCC_BATCH_SIZE="5")
    world.deployment.simulators.idicore.faults.clear()
    world.deployment.simulators.ccc.faults.clear()


def warehouse_failure(world: World) -> None:
    """The engine quotes the value that it cannot convert; and it runs out of memory."""
    command(world, "run", "warehouse_failure", codes=(1,))
    command(world, "run", "success", "--already-processed", "include", codes=(3,), LEADSCRUB_DUCKDB_MEMORY="1MB")


def broken_source(world: World) -> None:
    """A source whose lines do not fit: the engine quotes the line."""
    path = world.deployment.folder / "sources" / "LEADS_DB" / "PUBLIC" / "BROKEN_SOURCE.csv"
    path.write_text(path.read_text() + f'"{FIRST},{LAST}\n{FIRST},{LAST},too,few\n', encoding="utf-8")
    command(world, "run", "broken_source", codes=(1,))


def time_out(world: World) -> None:
    world.deployment.simulators.idicore.faults.add(Fault("timeout", times=3))
    world.deployment.simulators.ccc.faults.add(Fault("timeout"))
    command(world, "run", "time_out", IDICORE_TIMEOUT="0.4", CCC_TIMEOUT="0.4")
    world.deployment.simulators.idicore.faults.clear()
    world.deployment.simulators.ccc.faults.clear()


def crash(world: World) -> None:
    """Killed while answers are on their way and some are stored; then run to its end."""
    simulator = world.deployment.simulators.idicore
    simulator.faults.add(Fault("timeout", requests=range(simulator.searches + 5, 10**9)))
    before = len(simulator.bill)
    with world.deployment.start("run", "crash") as process:
        deadline = time.monotonic() + 120
        while len(simulator.bill) < before + 6:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        world.outputs += process.communicate()
    simulator.faults.clear()


SITUATIONS: dict[str, Callable[[World], None]] = {
    situation.__name__: situation
    for situation in (
        success, refusal, refusal_by_vendor, vendor_failure, warehouse_failure, broken_source, time_out, crash,
    )
}  # fmt: skip


def test_no_marked_value_is_found_outside_the_tables_meant_for_it_and_a_planted_one_is(world: World) -> None:
    for key in SITUATIONS:
        new_script(world, key)
    columns = ", ".join(COLUMNS).replace("LAST_NAME", "CAST(LAST_NAME AS INTEGER) AS LAST_NAME")
    new_script(world, "warehouse_failure", columns)
    new_script(world, "unreadable")
    (world.deployment.scripts / "leads.sql").unlink()
    for situation in SITUATIONS.values():
        situation(world)
    for arguments in QUIET_COMMANDS:
        command(world, *(invoice(world) if word == "INVOICE" else word for word in arguments), codes=(0, 1))
    detector = world.detector()
    found = [(channel.name, what) for channel in CHANNELS for what in channel.findings(world, detector)]
    assert found == []
    assert readable_by_others(world) == []
    only_known_files(world)
    the_values_did_go_through(world)

    (world.home / "ledger.sqlite").chmod(0o640)
    assert readable_by_others(world) == ["ledger.sqlite"]
    for channel in CHANNELS:
        channel.plant(world)
        assert channel.findings(world, detector), f"a value in {channel.name} is not seen"
    tally("canaries", sum(len(values) for values in world.canaries().values()))
    tally("channels", len(CHANNELS) + 1)
    tally("situations of canaries", len(SITUATIONS) + 1)


def invoice(world: World) -> str:
    path = world.deployment.folder / "invoice.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = [(entry.reference_id, entry.cost) for entry in world.deployment.simulators.idicore.bill][1:]
        csv.writer(file).writerows([("reference_id", "amount"), *lines])
    return str(path)


def only_known_files(world: World) -> None:
    """Nothing lies in the home that nobody accounts for, and nothing is left in the folder for temporary files."""
    known = re.compile(
        r"(warehouse\.duckdb(\.wal|\.lock)?|ledger\.sqlite(-wal|-shm|\.lock)?|spill|dagster|reports)(/.*)?"
    )
    names = {str(path.relative_to(world.home)) for path in world.home.rglob("*")}
    assert {name for name in names if not known.fullmatch(name)} == set()
    assert [path for path in world.temp.rglob("*") if path.is_file()] == []


def the_values_did_go_through(world: World) -> None:
    """Else nothing would be found anywhere: the tables hold the people, and the vendors were asked about them."""
    with open_warehouse(load_settings()).session() as session:
        (published,) = session.rows(f"SELECT COUNT(*) FROM {MASTER.full_name} WHERE last_name = ?", [LAST])[0]
        phones = {phone for (phone,) in session.rows(f"SELECT phone FROM {PHONE_VERDICTS.full_name}")}
    assert published >= 16
    assert len(phones & world.phones()) >= 20
    assert len(world.deployment.simulators.idicore.bill) >= 30
    assert len(world.statements) > 100
    assert sum(len(text) for text in world.outputs) > 5_000
