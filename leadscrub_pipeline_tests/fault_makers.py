"""How faults are made: what all makers share, and what goes wrong at the vendors.

A maker is a function of a trial that gives a ``with`` block; the fault ends with the block,
so that the tables can be looked at afterwards. What must hold does not belong here.
"""

import ctypes
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import pytest

from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.warehouse.schema import PHONE_VERDICTS
from leadscrub_pipeline_tests.bad_input import private_people
from leadscrub_pipeline_tests.fault_trial import KEY, Trial, people_of, phones_of_person

Make = Callable[[Trial], AbstractContextManager[Any]]


@contextmanager
def nothing(_trial: Trial) -> Iterator[None]:
    yield


def settings(**values: object) -> Make:
    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in values.items():
                patch.setenv(name, str(value))
            yield

    return made


def also(maker: Make, **values: object) -> Make:
    """Another fault under these settings."""

    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        with settings(**values)(trial), maker(trial):
            yield

    return made


@contextmanager
def meanwhile(condition: Callable[[], bool], action: Callable[[], None]) -> Iterator[None]:
    """Act from another thread as soon as the condition holds; the block fails when it never did."""
    over = threading.Event()
    acted: list[bool] = []

    def watch() -> None:
        while not over.is_set():
            if condition():
                action()
                acted.append(True)
                return
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert acted, "the moment never came"


_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2
_CAPABILITY_VERSION: Final = 0x20080522


@contextmanager
def as_nobody_special() -> Iterator[None]:
    """File rights count for root too, as they do for anybody else: without the two capabilities that pass them by."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(24)
    assert libc.capget(header, held) == 0
    words = list(struct.unpack("6I", held.raw))
    words[0] &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    assert libc.capset(header, struct.pack("6I", *words)) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held.raw) == 0


# --- vendors ----------------------------------------------------------------------------


def idicore(kind: str, values: Mapping[str, object] | None = None, **order: Any) -> Make:
    return _ordered("idicore", kind, values, order)


def ccc(kind: str, values: Mapping[str, object] | None = None, **order: Any) -> Make:
    return _ordered("ccc", kind, values, order)


def _ordered(vendor: str, kind: str, values: Mapping[str, object] | None, order: Mapping[str, Any]) -> Make:
    @contextmanager
    def made(trial: Trial) -> Iterator[None]:
        simulator = getattr(trial.graph.simulators, vendor)
        simulator.faults.add(Fault(kind, **order))
        with settings(**(values or {}))(trial):
            yield
        assert sum(simulator.line.faulted.values()) > 0, "the fault was never met"
        simulator.faults.clear()

    return made


@contextmanager
def thousand_phones(trial: Trial) -> Iterator[None]:
    """The answers give each person a thousand phones more, which are theirs then."""
    trial.phones_are_known = False
    with idicore("long_answer")(trial):
        yield


@contextmanager
def dead_tokens(trial: Trial) -> Iterator[None]:
    simulator = trial.graph.simulators.idicore
    life, simulator.token_seconds = simulator.token_seconds, -1.0
    yield
    simulator.token_seconds = life


@contextmanager
def suspended(trial: Trial) -> Iterator[None]:
    """An account that finds nobody, and enough leads for the guard to see it."""
    trial.graph.write_source("LEADS_DB.PUBLIC.LEADS", private_people(130, start=9000))
    with idicore("no_match")(trial):
        yield


@contextmanager
def malformed_phone(trial: Trial) -> Iterator[None]:
    """One of the numbers is called malformed, and with it every batch that holds it."""
    known = {phone for (phone,) in trial.graph.rows(f"SELECT phone FROM {PHONE_VERDICTS.full_name}")}
    phones = [phone for row in people_of(KEY) for phone in phones_of_person(row) if phone not in known]
    with ccc("malformed", phones=frozenset(phones[:1]))(trial):
        yield


def ccc_down_after(requests: int) -> Make:
    values = {"CCC_BATCH_SIZE": "5", "CCC_MIN_WORKERS": "1", "CCC_MAX_WORKERS": "1", "CCC_MAX_RETRIES": "6"}
    return ccc("server_error", values, requests=range(requests + 1, 10**9))
