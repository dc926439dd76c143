"""The assets in a process of their own, without a Dagster run: what can be killed for real.

A fork server has the package loaded already, so that a child starts in some tens of
milliseconds. The child calls the very functions that Dagster would call.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any, Final

import dagster as dg
import time_machine

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.deployment import open_ledger
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline_tests.asset_calls import ASSETS, call_asset, sentence_of

_OURS: Final = ("LEADSCRUB_", "IDICORE_", "CCC_", "DNC_", "NTFY_", "ETL_", "SNOWFLAKE_", "LOG_LEVEL")


@dataclass(frozen=True)
class Kill:
    """End the process with SIGKILL when the point is reached for the so-many-th time."""

    point: str
    at: int = 1


@dataclass(frozen=True)
class Strike:
    """A signal so many seconds after the child began to work: SIGINT when orderly, else SIGKILL."""

    seconds: float
    orderly: bool


@dataclass(frozen=True)
class Order:
    """What a child does: the assets of one run for one script."""

    partition_key: str
    run_id: str
    environment: Mapping[str, str]
    assets: Sequence[str] = ASSETS
    config: Mapping[str, object] = field(default_factory=dict)
    kill: Kill | None = None
    interrupt: Kill | None = None
    """Where Ctrl-C is pressed, before the process is killed, if it is."""
    clock: timedelta = timedelta(0)
    """How far the child's clock is ahead."""
    strike: Strike | None = None
    holds_lease: bool = False
    """Hold the partition for the whole run, as ``leadscrub run`` does, and not a step at a time."""


@dataclass
class Report:
    """What a child said before it ended. ``failure`` is the sentence of an error of ours, and where it was raised."""

    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure: str | None = None
    failed_asset: str | None = None
    defect: str | None = None
    """The traceback of an error that is not ours."""
    points: Counter[str] = field(default_factory=Counter)
    logged: list[str] = field(default_factory=list)
    exit_code: int | None = None
    began: float | None = None
    """When the first step began, and when the child was seen to end, by the clock that all processes share."""
    ended: float | None = None
    held_from: float | None = None
    """When it got the partition's lease for the whole run, and when it was about to let it go."""
    held_until: float | None = None

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and self.failure is None and self.defect is None

    @property
    def killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL

    @property
    def counts(self) -> dict[str, Any]:
        """The numbers that the sums are about, as in ``graph.Run.counts``."""
        raw, enriched = self.metadata.get("raw_leads", {}), self.metadata.get("enriched_contacts", {})
        master = self.metadata.get("master_processed_db", {})
        selection = ("selected", "rejected", "duplicate", "already_processed", "kept")
        return {
            **{name: raw.get(name) for name in selection},
            **{name: master.get(name) for name in ("published", "deferred", "held", "taken", "flags_unknown")},
            **{name: enriched.get(name) for name in ("lookups_paid", "lookups_reused", "lookups_unknown")},
        }


class Child:
    """A child at work. ``terminate`` is an orderly stop, ``kill`` is not."""

    def __init__(self, order: Order) -> None:
        self._strike = order.strike
        self._here, there = multiprocessing.Pipe(duplex=False)
        self.process = _context().Process(target=_work, args=(order, there), daemon=True)
        self.process.start()
        there.close()
        self.report = Report()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def wait(self, seconds: float = 120.0) -> Report:
        """Wait for the end; a child that does not end in time is killed and the test fails."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                strike_in = self._strike_in()
                if self._here.poll(left if strike_in is None else min(left, strike_in)):
                    self._take(self._here.recv())
                elif strike_in is not None:
                    self._carry_out_strike()
        except (EOFError, ConnectionResetError):
            pass
        self.process.join(max(deadline - time.monotonic(), 1.0))
        if self.process.exitcode is None:
            self.kill()
            self.process.join()
            raise AssertionError("the child did not end in time")
        self.report.ended = time.monotonic()
        self.report.exit_code = self.process.exitcode
        return self.report

    def _strike_in(self) -> float | None:
        if self._strike is None or self.report.began is None:
            return None
        return max(self.report.began + self._strike.seconds - time.monotonic(), 0.0)

    def _carry_out_strike(self) -> None:
        strike, self._strike = self._strike, None
        if strike is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT if strike.orderly else signal.SIGKILL)

    def _take(self, message: tuple[Any, ...]) -> None:
        kind, *rest = message
        match kind:
            case "metadata":
                self.report.metadata[rest[0]] = rest[1]
            case "failure":
                self.report.failed_asset, self.report.failure = rest
            case "defect":
                self.report.failed_asset, self.report.defect = rest
            case "points":
                self.report.points = rest[0]
            case "log":
                self.report.logged.append(rest[0])
            case "began":
                self.report.began = rest[0]
            case "held_from":
                self.report.held_from = rest[0]
            case "held_until":
                self.report.held_until = rest[0]


def environment() -> dict[str, str]:
    """The settings of this process; a child gets them with its order, because its own are the fork server's."""
    return {name: value for name, value in os.environ.items() if name.startswith(_OURS)}


def scrub(order: Order, *, seconds: float = 120.0) -> Report:
    """Run an order to its end."""
    return Child(order).wait(seconds)


@functools.cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["leadscrub_pipeline_tests.children_preload"])
    return context


# --- in the child -----------------------------------------------------------------------


def _work(order: Order, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in environment():
        del os.environ[name]
    os.environ.update(order.environment)
    talking = threading.Lock()
    counted: Counter[str] = Counter()

    def say(*message: object) -> None:
        with talking:
            pipe.send(message)

    def at_point(point: str) -> None:
        counted[point] += 1
        if order.kill is not None and (point, counted[point]) == (order.kill.point, order.kill.at):
            os.kill(os.getpid(), signal.SIGKILL)
        if order.interrupt is not None and (point, counted[point]) == (order.interrupt.point, order.interrupt.at):
            os.kill(os.getpid(), signal.SIGINT)

    failpoints.arm(at_point)
    with _clock(order.clock):
        say("began", time.monotonic())
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with _lease(order, say):
                code = _run_assets(order, say)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        except KeyboardInterrupt:
            code = 130
        except LeadscrubError as error:
            say("failure", None, str(error))
            code = 1
    say("points", counted)
    pipe.close()
    sys.stdout.flush()
    os._exit(code)


def _clock(ahead: timedelta) -> Any:
    if not ahead:
        return contextlib.nullcontext()
    return time_machine.travel(datetime.now(UTC) + ahead, tick=True)


@contextlib.contextmanager
def _lease(order: Order, say: Any) -> Iterator[None]:
    if not order.holds_lease:
        yield
        return
    with open_ledger(load_settings()) as ledger, ledger.partition_lease(order.partition_key, holder=order.run_id):
        say("held_from", time.monotonic())
        try:
            yield
        finally:
            say("held_until", time.monotonic())


def _run_assets(order: Order, say: Any) -> int:
    for name in order.assets:
        try:
            metadata = call_asset(
                name, order.partition_key, order.run_id, config=order.config, say=lambda text: say("log", text)
            )
        except KeyboardInterrupt:
            return 130
        except (dg.Failure, LeadscrubError) as error:
            say("failure", name, sentence_of(error))
            return 1
        except Exception:  # noqa: BLE001 - the process's edge: the test is told
            say("defect", name, traceback.format_exc())
            return 70
        say("metadata", name, metadata)
    return 0
