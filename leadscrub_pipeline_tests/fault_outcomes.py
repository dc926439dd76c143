"""What must hold when a fault comes: how the run ends, and what then stands in the tables.

Each outcome runs the script and looks at its own claim; ``common`` is looked at whatever the
claim. Which fault has which outcome stands in ``fault_matrix.py``.
"""

import json
import sqlite3
import uuid
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline_tests.bad_input import fails, phones_of, tells_nothing_private
from leadscrub_pipeline_tests.children import Kill, Order, environment, scrub
from leadscrub_pipeline_tests.fault_judge import Verdicts, cleared_by_ccc
from leadscrub_pipeline_tests.fault_trial import KEY, Tables, Trial, tables_of
from leadscrub_pipeline_tests.graph import Run, flags

LEADS = 12


class Outcome(Protocol):
    def run(self, trial: Trial) -> Run | None: ...

    def check(self, trial: Trial, run: Run | None, before: Tables, after: Tables) -> None: ...


@dataclass(frozen=True)
class Fails:
    """The step fails by name, and the master table and who may be called are as they were."""

    step: str
    words: tuple[str, ...]

    def run(self, trial: Trial) -> None:
        fails(trial.graph, KEY, self.step, *self.words, assets=trial.assets)

    def check(self, trial: Trial, _run: Run | None, before: Tables, after: Tables) -> None:
        assert after == before


class _Succeeds:
    def run(self, trial: Trial) -> Run:
        run = trial.graph.scrub(KEY, assets=trial.assets)
        assert run.success, run.error
        tells_nothing_private(run)
        return run


@dataclass(frozen=True)
class Answered(_Succeeds):
    """The fault does no harm: every lead is published and every flag is as the sources have it."""

    def check(self, trial: Trial, run: Run | None, _before: Tables, after: Tables) -> None:
        rows = after.published
        assert len(rows) == LEADS
        for row in rows:
            _flags_are_true_to_the_sources(trial, row)
            phones = phones_of(row)
            assert (row["in_litigator_list"] is None) == (not phones)
            assert all((row[f"phone_{slot}_in_dnc"] is None) == (row[f"phone_{slot}"] is None) for slot in (1, 2, 3))


@dataclass(frozen=True)
class Unknown(_Succeeds):
    """What the source did not answer is NULL with one of the reasons, and there is some of it."""

    source: str
    reasons: frozenset[str]

    def check(self, trial: Trial, _run: Run | None, _before: Tables, after: Tables) -> None:
        rows = after.published
        assert len(rows) == LEADS
        met = 0
        for row in rows:
            _flags_are_true_to_the_sources(trial, row)
            why = json.loads(row["additional_data"])["provenance"]["null_reasons"]
            columns = ["in_litigator_list"] if self.source == "ccc" else [f"phone_{slot}_in_dnc" for slot in (1, 2, 3)]
            others = {"in_litigator_list", *(f"phone_{slot}_in_dnc" for slot in (1, 2, 3))} - set(columns)
            for column in columns:
                reason = why[column]
                assert (row[column] is None) == (reason is not None)
                assert reason is None or reason == "no_phone" or reason in self.reasons, reason
                met += reason in self.reasons
            assert {why[column] for column in others} <= {None, "no_phone"}
        assert met > 0


@dataclass(frozen=True)
class NoContact(_Succeeds):
    """Nobody was found: the leads are published without contacts, and no flag says anything."""

    def check(self, trial: Trial, _run: Run | None, _before: Tables, after: Tables) -> None:
        rows = after.published
        assert len(rows) == LEADS
        for row in rows:
            assert phones_of(row) == []
            assert [row[f"email_{slot}"] for slot in (1, 2, 3)] == [None] * 3
            assert flags(row) == (None,) * 4
            assert set(json.loads(row["additional_data"])["provenance"]["null_reasons"].values()) == {"no_phone"}


@dataclass(frozen=True)
class Kept(_Succeeds):
    """Leads of uncertain outcome are held or deferred with the reason, and not published; the others are."""

    outcome: str
    reason: str
    leads: int | None
    """None: some, but not all."""

    def check(self, trial: Trial, run: Run | None, _before: Tables, after: Tables) -> None:
        assert run is not None
        kept = run.metadata["enriched_contacts"][self.outcome]
        assert run.metadata["enriched_contacts"]["deferred_or_held_by_reason"] == {self.reason: kept}
        assert 0 < kept < LEADS if self.leads is None else kept == self.leads
        rows = after.published
        assert len(rows) == LEADS - kept
        for row in rows:
            _flags_are_true_to_the_sources(trial, row)


@dataclass(frozen=True)
class Killed:
    """The process ends in the middle: nothing is published, and the next run publishes all as if nothing had been."""

    point: str

    def run(self, trial: Trial) -> None:
        order = Order(KEY, str(uuid.uuid4()), environment(), kill=Kill(self.point))
        if trial.assets is not None:
            order = Order(KEY, order.run_id, order.environment, trial.assets, kill=order.kill)
        report = scrub(order)
        assert report.killed, report

    def check(self, trial: Trial, _run: Run | None, before: Tables, after: Tables) -> None:
        assert after == before
        succeeds = Answered()
        run = succeeds.run(trial)
        succeeds.check(trial, run, before, common(trial))


def common(trial: Trial) -> Tables:
    """What holds after every fault: no FALSE that no source gave, nobody to call who was not cleared, no lost bill."""
    graph = trial.graph
    tables = tables_of(graph)
    verdicts = Verdicts(
        cleared_by_ccc([*trial.template.replies, *(graph.simulators.ccc.line.sent or [])]),
        dict.fromkeys(trial.template.runs, trial.template.listing),
        trial.listing,
    )
    assert verdicts.unanswered(tables.master, tables.evidence) == []
    assert [phone for phone in tables.callable_phones if not verdicts.clears(phone)] == []
    assert not any(graph.simulators.ccc.is_litigator(phone) for phone in tables.callable_phones)
    for row in tables.master:
        theirs = graph.simulators.idicore.contact_of(_person(row)).best_phones()
        assert not trial.phones_are_known or set(phones_of(row)) <= set(theirs)
    _the_ledger_has_the_bill(trial)
    return tables


def _person(row: dict[str, Any]) -> Person:
    return Person(*(row[name] for name in ("first_name", "last_name", "address", "city", "state", "zip_code")))


def _flags_are_true_to_the_sources(trial: Trial, row: dict[str, Any]) -> None:
    ccc, phones = trial.graph.simulators.ccc, phones_of(row)
    listed = trial.template.listing.listed | (trial.listing.listed if trial.listing else frozenset())
    if row["in_litigator_list"] is not None:
        assert row["in_litigator_list"] == any(ccc.is_litigator(phone) for phone in phones)
    for slot in (1, 2, 3):
        if row[f"phone_{slot}_in_dnc"] is True:
            assert row[f"phone_{slot}"] in listed


def _the_ledger_has_the_bill(trial: Trial) -> None:
    """Every billed request has a row of its own, and the bill lies between what is settled and what is unknown."""
    bill = trial.bill
    with closing(sqlite3.connect(trial.graph.home / "ledger.sqlite")) as connection:
        rows = {lookup_id for (lookup_id,) in connection.execute("SELECT lookup_id FROM ledger_lookups")}
    references = [entry.reference_id for entry in bill]
    assert set(references) <= rows
    assert len(references) == len(set(references))
    with trial.graph.ledger() as ledger:
        summary = ledger.summary()
    assert summary.cost <= sum(entry.cost for entry in bill) <= summary.cost + summary.unknown_cost
