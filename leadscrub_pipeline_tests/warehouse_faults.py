"""What goes wrong with the warehouse, made on a real file: see ``fault_makers.py``."""

import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import duckdb

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.warehouse import duckdb_engine
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, MASTER, PHONE_VERDICTS, SLICES
from leadscrub_pipeline_tests.asset_calls import ASSETS
from leadscrub_pipeline_tests.fault_makers import Make, as_nobody_special, meanwhile, settings
from leadscrub_pipeline_tests.fault_trial import KEY, Trial, people_of


def path_of(trial: Trial) -> Path:
    return trial.graph.home / "warehouse.duckdb"


_HOLD: Final = "import sys, duckdb; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def held(seconds: float | None) -> Make:
    """Another process has the file open, for so long or for longer than anybody waits."""

    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        command = [sys.executable, "-c", _HOLD, str(path_of(trial))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            timer = threading.Timer(seconds or 0.0, other.stdin.close)
            if seconds is not None:
                timer.start()
            with settings(LEADSCRUB_LOCK_WAIT="0.2" if seconds is None else "60")(trial):
                yield
            timer.cancel()
            other.stdin.close()
            other.wait()

    return made


def disk_full(size: int, *, point: str | None = None) -> Make:
    """No file may grow beyond so many bytes, from the start or from a point on: the write fails in the middle."""

    @contextmanager
    def made(_trial: Trial) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        def fill(reached: str | None) -> None:
            if reached == point:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

        fill(None)
        failpoints.arm(fill)
        try:
            yield
        finally:
            failpoints.arm(None)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            duckdb_engine._close_shared()

    return made


@contextmanager
def read_only(trial: Trial) -> Iterator[None]:
    path = path_of(trial)
    path.chmod(0o400)
    with as_nobody_special():
        yield
    path.chmod(0o600)


def content_of(change: Callable[[bytes], bytes]) -> Make:
    """A damaged file: it is left as it is found, and put back afterwards."""

    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        path = path_of(trial)
        whole = path.read_bytes()
        damaged = change(whole)
        path.write_bytes(damaged)
        yield
        assert path.read_bytes() == damaged
        duckdb_engine._close_shared()
        path.write_bytes(whole)

    return made


@contextmanager
def folder(trial: Trial) -> Iterator[None]:
    path = path_of(trial)
    aside = path.rename(path.with_name("aside"))
    path.mkdir()
    yield
    path.rmdir()
    aside.rename(path)


def sql(*statements: str) -> Make:
    """The first statement is the fault; a second one, past our own doors, puts things right for the judge."""

    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        with trial.graph.warehouse() as session:
            session.execute(statements[0])
        yield
        for statement in statements[1:]:
            _behind_our_back(trial, statement)

    return made


def _behind_our_back(trial: Trial, statement: str) -> None:
    with closing(duckdb.connect(":memory:")) as engine:
        engine.execute(f"ATTACH '{path_of(trial)}' AS PROCESSED_DATA_DB")
        engine.execute(statement)


@contextmanager
def slice_replaced_meanwhile(trial: Trial) -> Iterator[None]:
    """While CCC answers, the partition's contacts become another run's."""
    simulator = trial.graph.simulators.ccc
    simulator.latency = 0.5

    def replace() -> None:
        with trial.graph.warehouse() as session:
            session.execute(
                f"UPDATE {SLICES.full_name} SET run_id = 'another' WHERE partition_key = ? "
                "AND table_name = 'ENRICHED_CONTACTS'",
                [KEY],
            )

    with meanwhile(lambda: simulator.line.in_flight > 0, replace):
        yield
    simulator.latency = 0.0


@contextmanager
def leads_replaced(trial: Trial) -> Iterator[None]:
    """The leads are selected anew, in another order, after their contacts were found."""
    trial.graph.write_source("LEADS_DB.PUBLIC.LEADS", list(reversed(people_of(KEY))))
    run = trial.graph.scrub(KEY, assets=ASSETS[:1])
    assert run.success, run.error
    yield


def verdicts_gone(source: str) -> Make:
    return sql(f"DELETE FROM {PHONE_VERDICTS.full_name} WHERE source = '{source}' AND verdict = 'clear'")


def verdicts_run_out(source: str) -> Make:
    return sql(
        f"UPDATE {PHONE_VERDICTS.full_name} SET valid_until = checked_at "
        f"WHERE source = '{source}' AND verdict = 'clear'"
    )


view_dropped: Final = sql(f"DROP VIEW {CALLABLE_PHONES}")
view_loosened: Final = sql(
    f"CREATE OR REPLACE VIEW {CALLABLE_PHONES} AS SELECT phone_1 AS phone FROM {MASTER.full_name}"
)
