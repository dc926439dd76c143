"""One deployment in which a history happens: children, clock, registry file, sources, and simulators that remember.

What must hold afterwards stands in checker.py.
"""

import csv
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from aiohttp import web

from leadscrub_pipeline.assets.options import AlreadyProcessed
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.simulators import Simulators
from leadscrub_pipeline.simulators.idicore import SEARCH_PATH, IdicoreSimulator
from leadscrub_pipeline.simulators.phones import AREA_CODES, PhoneSpace
from leadscrub_pipeline_tests.asset_calls import ASSETS
from leadscrub_pipeline_tests.children import Child, Kill, Order, Report, Strike
from leadscrub_pipeline_tests.empty_home import place_empty_home
from leadscrub_pipeline_tests.histories import dagster_runs
from leadscrub_pipeline_tests.histories.cast import Oracle, Row
from leadscrub_pipeline_tests.histories.events import (
    EVERYONE,
    ClockStep,
    Event,
    History,
    Pause,
    Registry,
    Restock,
    Runs,
    Scrub,
    Settings,
)

PRICE: Final = Decimal("0.25")
LEASE: Final = timedelta(seconds=60)
_COLUMNS: Final = ("FIRST_NAME", "LAST_NAME", "ADDRESS", "CITY", "STATE", "ZIP")
_WIRE: Final = ("firstName", "lastName", "address", "city", "state", "zip")
_UNHURRIED: Final = {"IDICORE_TIMEOUT": "20", "CCC_TIMEOUT": "20"}


class RememberingIdicore(IdicoreSimulator):
    """Remembers who was asked about under which id: the bill itself knows people by their key only."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.asked: dict[str, tuple[str | None, ...]] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == SEARCH_PATH:
            body = orjson.loads(await request.read())
            self.asked.setdefault(body["referenceId"], tuple(body.get(name) for name in _WIRE))
        return await super().handle(request)


@dataclass
class Ran:
    """One run as it went, with the settings it had."""

    run_id: str
    scrub: Scrub
    assets: tuple[str, ...]
    offset: timedelta
    settings: Mapping[str, str]
    rows: tuple[Row, ...]
    """What its script selects."""
    started: float
    report: Report
    calm: bool
    """Nothing was ordered to go wrong."""
    paused: bool

    @property
    def window(self) -> tuple[float, float]:
        return self.started, self.report.ended or self.started

    @property
    def is_whole(self) -> bool:
        return self.report.ok and self.assets == ASSETS

    @property
    def cap(self) -> int | None:
        value = self.settings.get("IDICORE_MAX_LOOKUPS_PER_RUN", "")
        return int(value) if value else None

    @property
    def budget(self) -> Decimal | None:
        value = self.settings.get("IDICORE_DAILY_BUDGET", "")
        return Decimal(value) if value else None

    @property
    def allowed_repeats(self) -> int:
        if self.settings["IDICORE_UNKNOWN_POLICY"] == "hold":
            return 0
        return int(self.settings["IDICORE_MAX_UNKNOWN_REPEATS"])

    def overlaps(self, other: "Ran") -> bool:
        return self.window[0] < other.window[1] and other.window[0] < self.window[1]

    def saw_another_clock(self, other: "Ran") -> bool:
        """Both ran at once with clocks further apart than a lease: either may have taken the other for dead."""
        return self.overlaps(other) and abs(self.offset - other.offset) > LEASE / 2


@dataclass(frozen=True)
class KnownList:
    """A registry file that says its version itself, and what it holds."""

    listed: frozenset[str]
    without: frozenset[str]


@dataclass
class World:
    history: History
    folder: Path
    simulators: Simulators
    idicore: RememberingIdicore
    oracle: Oracle
    say: Callable[[str], None]
    environment: dict[str, str] = field(default_factory=dict)
    rows: dict[str, tuple[Row, ...]] = field(default_factory=dict)
    offset: timedelta = timedelta(0)
    stepped_back: bool = False
    paused: bool = False
    runs: list[Ran] = field(default_factory=list)
    settled: Ran | None = None
    lists: dict[str, KnownList] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def happen(self, event: Event) -> None:
        self.say(f"{_told(event)}")
        match event:
            case Runs():
                self.run(event)
            case ClockStep(step):
                self.offset += step
                self.stepped_back = self.stepped_back or step < timedelta(0)
            case Registry():
                self.place_registry(event)
            case Settings(values):
                self.environment.update(values)
            case Restock(script, rows):
                self.stock(script, rows)
            case Pause(paused):
                self.paused = paused
                with self.ledger() as ledger:
                    if paused:
                        ledger.desk.pause("history")
                    else:
                        ledger.desk.resume()

    # --- runs --------------------------------------------------------------------------

    def run(self, event: Runs) -> list[Ran]:
        for vendor, fault in event.faults:
            simulator = self.idicore if vendor == "idicore" else self.simulators.ccc
            simulator.faults.add(fault)
        try:
            if self.history.through_dagster and len(event.scrubs) == 1 and not _needs_a_process(event.scrubs[0]):
                ran = [self.run_in_dagster(event.scrubs[0], calm=not event.faults)]
            else:
                ran = self.run_children(event.scrubs, calm=not event.faults)
        finally:
            self.idicore.faults.clear()
            self.simulators.ccc.faults.clear()
        for one in ran:
            self.say(f"    {one.run_id} {one.scrub.script}: {_outcome(one.report)}")
        self.runs += ran
        return ran

    def run_children(self, scrubs: tuple[Scrub, ...], *, calm: bool) -> list[Ran]:
        ran: list[Ran | None] = [None] * len(scrubs)
        problems: list[BaseException] = []
        began = time.monotonic()

        def work(at: int, scrub: Scrub) -> None:
            try:
                time.sleep(max(began + scrub.start_after - time.monotonic(), 0.0))
                order = self.order(scrub)
                started = time.monotonic()
                report = Child(order).wait(90.0)
                ran[at] = self.ran(scrub, order, started, report, calm=calm)
            except BaseException as problem:  # noqa: BLE001 - raised again in the test's thread
                problems.append(problem)

        threads = [threading.Thread(target=work, args=(at, scrub)) for at, scrub in enumerate(scrubs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]
        return [one for one in ran if one is not None]

    def order(self, scrub: Scrub) -> Order:
        config: dict[str, object] = {}
        if scrub.row_limit is not None:
            config["row_limit"] = scrub.row_limit
        if scrub.include:
            config["already_processed"] = AlreadyProcessed.include
        return Order(
            scrub.script,
            f"run-{next(self.numbers)}",
            self.settings(),
            assets=self.assets(scrub),
            config=config,
            kill=scrub.end if isinstance(scrub.end, Kill) else None,
            interrupt=scrub.interrupt,
            clock=self.offset + scrub.skew,
            strike=scrub.end if isinstance(scrub.end, Strike) else None,
            holds_lease=scrub.holds_lease,
        )

    def assets(self, scrub: Scrub) -> tuple[str, ...]:
        """All that were ordered, or those from where the last run of the script failed."""
        last = next((ran for ran in reversed(self.runs) if ran.scrub.script == scrub.script), None)
        if scrub.resume and last is not None and last.report.failed_asset in last.assets:
            return ASSETS[ASSETS.index(last.report.failed_asset) :]
        return scrub.assets

    def ran(self, scrub: Scrub, order: Order, started: float, report: Report, *, calm: bool) -> Ran:
        return Ran(
            order.run_id,
            scrub,
            tuple(order.assets),
            order.clock,
            order.environment,
            self.rows[scrub.script],
            started,
            report,
            calm=calm and scrub.end is None and scrub.interrupt is None,
            paused=self.paused,
        )

    def run_in_dagster(self, scrub: Scrub, *, calm: bool) -> Ran:
        order = self.order(scrub)
        started = time.monotonic()
        run_id, report = dagster_runs.execute(order, row_limit=scrub.row_limit, include=scrub.include)
        return self.ran(scrub, replace(order, run_id=run_id), started, report, calm=calm)

    def settings(self) -> dict[str, str]:
        return {name: value for name, value in self.environment.items() if value}

    # --- around them -------------------------------------------------------------------

    def stock(self, script: str, rows: tuple[Row, ...]) -> None:
        self.rows[script] = rows
        path = self.folder / "sources" / "LEADS_DB" / "PUBLIC" / f"{script.upper()}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(rows)

    def place_registry(self, event: Registry) -> None:
        """Put another file in place, or spoil the one that is there. Its dates are of the history's clock."""
        path = Path(self.environment["DNC_DATABASE_PATH"])
        if event.state == "gone":
            path.unlink(missing_ok=True)
            return
        if event.state == "truncated":
            with suppress(FileNotFoundError):
                os.truncate(path, path.stat().st_size // 2)
            return
        listed, without = self.draw_list(event)
        age = {"older": 20, "stale": 45}.get(event.state, 3)
        obtained_at = self.now - timedelta(days=age)
        self.environment["DNC_LIST_DATE"] = ""
        beside = path.with_suffix(".new")
        beside.unlink(missing_ok=True)
        with closing(sqlite3.connect(beside)) as connection:
            connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            if event.state in ("three_column", "undated"):
                if event.state == "three_column":
                    self.environment["DNC_LIST_DATE"] = obtained_at.date().isoformat()
                _fill_old(connection, listed, without)
            else:
                name = f"list-{next(self.numbers)}"
                self.lists[name] = KnownList(listed, without)
                _fill_compact(connection, listed, without, name, obtained_at)
            connection.commit()
        beside.replace(path)

    def draw_list(self, event: Registry) -> tuple[frozenset[str], frozenset[str]]:
        """So many of the people's phones, the same for the same event; and area codes that the list leaves out."""
        phones = sorted(
            {
                phone.digits
                for somebody in self.history.people
                for phone in self.idicore.contact_of(_person(somebody.plain())).phones
            }
        )
        step = round(1 / event.listed_share) if event.listed_share else 0
        listed = frozenset(phones[:: step or len(phones) + 1]) if step else frozenset({"2125550199"})
        without = frozenset(phone[:3] for phone in phones[::5]) if event.without_area_codes else frozenset()
        return frozenset(phone for phone in listed if phone[:3] not in without), without

    def ledger(self) -> Ledger:
        return Ledger.open(self.home / "ledger.sqlite", kind="demo", clock=lambda: self.now)

    @contextmanager
    def environment_in_place(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.settings().items():
                patch.setenv(name, value)
            yield

    # --- the end -----------------------------------------------------------------------

    def clear_up(self) -> None:
        """After the dead: what they had in flight is released or unknown."""
        self.offset += timedelta(minutes=11)
        with self.ledger() as ledger:
            ledger.desk.resume()
            ledger.sweep()
        self.paused = False

    def settle(self) -> Ran:
        """Clear up, then run everybody through once, undisturbed: nobody may be missing then."""
        self.clear_up()
        self.place_registry(Registry("fresh", 0.2))
        self.environment |= _UNHURRIED | {
            "IDICORE_UNKNOWN_POLICY": "retry",
            "IDICORE_MAX_UNKNOWN_REPEATS": "99",
            "IDICORE_MAX_LOOKUPS_PER_RUN": "",
            "IDICORE_DAILY_BUDGET": "",
            "LEADSCRUB_BREAKER_SECONDS": "5",
        }
        self.say("Everybody, undisturbed")
        (self.settled,) = self.run(Runs((Scrub(EVERYONE),)))
        return self.settled


@contextmanager
def world_of(history: History, folder: Path, *, say: Callable[[str], None] = lambda _: None) -> Iterator[World]:
    """The deployment of a history before its first event."""
    folder.mkdir(parents=True, exist_ok=True)
    simulators = Simulators(seed=history.seed % 1_000, latency=history.latency, price=PRICE)
    idicore = RememberingIdicore(
        seed=history.seed % 1_000, latency=history.latency, price=PRICE, token_seconds=900.0, space=PhoneSpace.FICTIONAL
    )
    simulators.idicore = idicore
    with simulators:
        world = World(history, folder, simulators, idicore, Oracle(history.spellings), say)
        world.environment = {
            "LEADSCRUB_ENV_FILE": "",
            "LEADSCRUB_HOME": str(world.home),
            "LEADSCRUB_SCRIPTS": str(folder / "scripts"),
            "LEADSCRUB_SOURCES": str(folder / "sources"),
            "LEADSCRUB_BREAKER_SECONDS": "0.05",
            "DNC_DATABASE_PATH": str(folder / "dnc.sqlite"),
            "IDICORE_TIMEOUT": "0.4",
            "CCC_TIMEOUT": "0.4",
            "IDICORE_RETRY_BASE_DELAY": "0.01",
            "IDICORE_RETRY_MAX_DELAY": "0.05",
            "CCC_RETRY_BASE_DELAY": "0.01",
            "CCC_RETRY_MAX_DELAY": "0.05",
            "CCC_MAX_RETRIES": "1",
            **simulators.environment(),
            **history.settings,
        }
        (folder / "scripts").mkdir(exist_ok=True)
        for script in (*history.scripts, EVERYONE):
            text = f"-- title: {script.title()}\nSELECT * FROM LEADS_DB.PUBLIC.{script.upper()}\n"
            (folder / "scripts" / f"{script}.sql").write_text(text, encoding="utf-8")
        for script, rows in {**history.first_rows, EVERYONE: history.everyone}.items():
            world.stock(script, rows)
        world.place_registry(Registry("fresh", 0.2))
        if not history.from_nothing:
            with world.environment_in_place():
                place_empty_home(world.home)
        yield world


def _fill_old(connection: sqlite3.Connection, listed: frozenset[str], without: frozenset[str]) -> None:
    connection.execute(
        "CREATE TABLE dnc_list (area_code TEXT, phone_number TEXT, full_phone TEXT, "
        "PRIMARY KEY (area_code, phone_number))"
    )
    numbers = {f"{code}5550199" for code in AREA_CODES if code not in without} | listed
    connection.executemany("INSERT INTO dnc_list VALUES (?, ?, ?)", [(n[:3], n[3:], n) for n in sorted(numbers)])
    connection.execute("CREATE INDEX full_phone ON dnc_list (full_phone)")


def _fill_compact(
    connection: sqlite3.Connection, listed: frozenset[str], without: frozenset[str], name: str, obtained_at: datetime
) -> None:
    connection.executescript(
        "CREATE TABLE dnc_numbers (phone INTEGER PRIMARY KEY); "
        "CREATE TABLE dnc_area_codes (area_code INTEGER PRIMARY KEY); "
        "CREATE TABLE dnc_version (version TEXT, obtained_at TEXT, row_count INTEGER);"
    )
    numbers = listed or {"2125550199"}
    connection.executemany("INSERT INTO dnc_numbers VALUES (?)", [(int(number),) for number in sorted(numbers)])
    codes = [(int(code),) for code in AREA_CODES if code not in without]
    connection.executemany("INSERT INTO dnc_area_codes VALUES (?)", codes)
    connection.execute("INSERT INTO dnc_version VALUES (?, ?, ?)", (name, obtained_at.isoformat(), len(numbers)))


def _person(row: Row) -> Any:
    from leadscrub_pipeline.domain.people import Person  # noqa: PLC0415 - the simulator's word, and only here

    return Person(*row)


def _needs_a_process(scrub: Scrub) -> bool:
    return scrub.end is not None or scrub.interrupt is not None or scrub.holds_lease


def _outcome(report: Report) -> str:
    if report.defect:
        return f"DEFECT in {report.failed_asset}: {report.defect}"
    if report.failure:
        return f"failed in {report.failed_asset}: {report.failure}"
    if not report.ok:
        return f"ended with {report.exit_code}"
    return " ".join(f"{name}={value}" for name, value in report.counts.items() if value)


def _told(event: Event) -> str:
    if not isinstance(event, Runs):
        return str(event)
    scrubs = " and ".join(_told_scrub(scrub) for scrub in event.scrubs)
    faults = ", ".join(f"{vendor} {_told_fault(fault)}" for vendor, fault in event.faults)
    return f"Run {scrubs}" + (f"; faults: {faults}" if faults else "")


def _told_scrub(scrub: Scrub) -> str:
    plain = Scrub(scrub.script)
    changed = [f"{name}={value}" for name, value in vars(scrub).items() if value != getattr(plain, name)]
    return f"{scrub.script}({', '.join(changed)})"


def _told_fault(fault: Any) -> str:
    amount = f"times={fault.times}" if fault.times else f"share={fault.share}"
    return f"{fault.operation or ''}{fault.kind} {amount}"
