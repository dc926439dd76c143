"""A deployment that is killed and run again, and what must be as if nothing had happened.

Two scripts overlap: the second selects some of the first one's people in other spellings,
and further people. Where to kill is the tests' business.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from leadscrub_pipeline.deployment import open_ledger, open_warehouse
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.simulators import Simulators
from leadscrub_pipeline.simulators.bill import BillEntry
from leadscrub_pipeline.simulators.contacts import contact_of
from leadscrub_pipeline.simulators.persons import person_at, respelled
from leadscrub_pipeline.steps.evidence_verification import verify
from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.schema import (
    DATABASE,
    MASTER,
    PERSON_CACHE,
    PHONE_VERDICTS,
    PUBLISHED_IDENTITIES,
    SCRUB_EVIDENCE,
    Table,
)
from leadscrub_pipeline_tests import children
from leadscrub_pipeline_tests.children import Kill, Report
from leadscrub_pipeline_tests.graph import graph_in
from leadscrub_pipeline_tests.sums import check_sums

SCRIPTS: Final = ("first", "second")
PEOPLE: Final = {"first": range(30), "second": range(18, 48), "many": range(100, 210)}
"""Numbers of the people that each script selects; the last one selects as many as the miss-share guard looks at."""
SEED: Final = 1

_TIMES: Final = frozenset(
    {
        "processed_at",
        "looked_up_at",
        "expires_at",
        "owned_until",
        "published_at",
        "checked_at",
        "valid_until",
    }
)
_OF_THE_RUN: Final = frozenset({"job_id", "run_id", "obtained_at", "lookup_id"})
"""What differs between two runs of the same work; an answer of CCC is obtained when it is asked for."""


@dataclass(frozen=True)
class Town:
    """What all deployments of a worker share: vendors, scripts, source tables and the registry file."""

    simulators: Simulators
    environment: Mapping[str, str]


@contextmanager
def town_in(folder: Path, *, latency: float = 0.004, **settings: object) -> Iterator[Town]:
    with pytest.MonkeyPatch.context() as patch, graph_in(folder, patch, latency=latency, from_nothing=True) as graph:
        for key, numbers in PEOPLE.items():
            people = [person_at(number, seed=SEED) for number in numbers]
            if key == "second":
                people = [respelled(person, way) for way, person in enumerate(people)]
            graph.write_source(f"LEADS_DB.PUBLIC.{key.upper()}", people)
            graph.write_script(key, f"SELECT * FROM LEADS_DB.PUBLIC.{key.upper()}")
        graph.write_registry(_some_phones(graph.simulators))
        graph.configure(
            IDICORE_MIN_WORKERS=20,
            CCC_BATCH_SIZE=8,
            ETL_BATCH_SIZE=10,
            IDICORE_NOT_BILLED_STATUSES="503",
            **settings,
        )
        environment = children.environment()
        patch.undo()  # other tests of this worker have settings of their own
        yield Town(graph.simulators, environment)


def _some_phones(simulators: Simulators) -> list[str]:
    phones = []
    for number in range(0, 48, 5):
        phones += contact_of(person_at(number, seed=SEED), seed=simulators.seed).best_phones()[:1]
    return phones


@dataclass
class Deployment:
    """One deployment in the town: its home, its bill, and what was in flight when it was killed."""

    town: Town
    environment: Mapping[str, str]
    billed_before: int
    in_flight: int = 0
    kills: int = 0

    def scrub(self, key: str, **order: Any) -> Report:
        report = children.scrub(children.Order(key, uuid4().hex, self.environment, **order))
        if report.killed:
            self.kills += 1
            self.in_flight += self.sent()
        return report

    def scrub_well(self, key: str) -> Report:
        """A run that nobody disturbs."""
        report = self.scrub(key)
        assert report.ok, (report.failure, report.defect, report.exit_code)
        check_sums(report.counts)
        return report

    def killed(self, key: str, kill: Kill, **order: Any) -> Report:
        report = self.scrub(key, kill=kill, **order)
        assert report.killed, f"{kill} was not reached: {report.exit_code} {report.failure} {report.defect}"
        return report

    def sent(self) -> int:
        """Requests that were on their way, or about to leave."""
        return sum(count for state, count in self.states().items() if state == "sent")

    def states(self) -> Counter[str]:
        path = load_settings().ledger_path
        if not path.exists():
            return Counter()
        connection = sqlite3.connect(path)
        try:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'ledger_lookups'").fetchone():
                return Counter()
            return Counter(state for (state,) in connection.execute("SELECT state FROM ledger_lookups"))
        finally:
            connection.close()

    def ledger_rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(load_settings().ledger_path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    @property
    def bill(self) -> list[BillEntry]:
        return self.town.simulators.idicore.bill.entries()[self.billed_before :]

    def facts(self) -> "Facts":
        with open_warehouse(load_settings()).session() as session:
            return Facts(
                master=_table(session, MASTER, "record_id"),
                person_cache=_table(session, PERSON_CACHE, "person_key"),
                verdicts=_table(session, PHONE_VERDICTS, "phone, source"),
                identities=_table(session, PUBLISHED_IDENTITIES, "identity_hash, person_key, partition_key"),
                evidence=Counter(session.rows(f"SELECT phone, source, verdict FROM {SCRUB_EVIDENCE.full_name}")),
                stages=session.rows(
                    "SELECT table_name FROM information_schema.tables "
                    f"WHERE table_catalog = '{DATABASE}' AND table_name LIKE 'STAGE%'"
                ),
                billed=len(self.bill),
            )


@contextmanager
def deployment_in(home: Path, town: Town, patch: pytest.MonkeyPatch, **settings: object) -> Iterator[Deployment]:
    """A new deployment; its settings are this process's, too, while it is used."""
    environment = {**town.environment, "LEADSCRUB_HOME": str(home)}
    environment |= {name: str(value) for name, value in settings.items()}
    for name, value in environment.items():
        patch.setenv(name, value)
    yield Deployment(town, environment, len(town.simulators.idicore.bill))
    town.simulators.idicore.faults.clear()
    patch.undo()


@dataclass(frozen=True)
class Facts:
    """What a deployment holds, without run ids and times."""

    master: list[dict[str, Any]]
    person_cache: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]
    identities: list[dict[str, Any]]
    evidence: Counter[tuple[str, str, str]]
    stages: list[tuple[str]]
    billed: int


def _table(session: Session, table: Table, order: str) -> list[dict[str, Any]]:
    columns = [name for name in table.column_names if name not in _TIMES | _OF_THE_RUN]
    rows = session.rows(f"SELECT {', '.join(columns)} FROM {table.full_name} ORDER BY {order}")
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    for row in found:
        if row.get("additional_data") is not None:
            row["additional_data"] = _timeless(json.loads(row["additional_data"]))
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if not name.endswith("_at")}
        return {name: _timeless(item) for name, item in kept.items() if name not in _TIMES | _OF_THE_RUN}
    return value


def check_as_undisturbed(deployment: Deployment, undisturbed: Facts) -> None:
    """Nothing is lost, nothing doubled, and at most what was in flight was paid for again."""
    facts = deployment.facts()
    assert facts.master == undisturbed.master
    assert facts.person_cache == undisturbed.person_cache
    assert facts.verdicts == undisturbed.verdicts
    assert facts.identities == undisturbed.identities
    check_evidence(undisturbed, facts)
    assert facts.stages == []
    assert undisturbed.billed <= facts.billed <= undisturbed.billed + deployment.in_flight
    check_bill(deployment)


def check_bill(deployment: Deployment) -> None:
    """Every billed request has its row, the sums agree, and nothing is left in flight or held."""
    bill = deployment.bill
    rows = dict(deployment.ledger_rows("SELECT lookup_id, state FROM ledger_lookups"))
    assert {entry.reference_id for entry in bill} <= set(rows)
    assert len({entry.reference_id for entry in bill}) == len(bill)
    by_person = Counter(entry.person_key for entry in bill)
    assert sum(count - 1 for count in by_person.values()) <= deployment.in_flight
    assert set(rows.values()) <= {"hit", "miss", "failed", "unknown"}
    with open_ledger(load_settings()) as ledger:
        summary = ledger.summary()
    total = sum((entry.cost for entry in bill), Decimal(0))
    assert summary.cost <= total <= summary.cost + summary.unknown_cost
    (paid,) = deployment.ledger_rows("SELECT COALESCE(SUM(COALESCE(cost_micros, price_micros)), 0) FROM ledger_lookups")
    (reserved,) = deployment.ledger_rows("SELECT COALESCE(SUM(micros), 0) FROM ledger_budgets WHERE scope LIKE 'run:%'")
    assert reserved == paid, "reservations are not what was spent or may have been"
    assert deployment.ledger_rows("SELECT * FROM ledger_partition_leases") == []
    assert deployment.ledger_rows("SELECT * FROM ledger_owners") == []


def check_evidence(undisturbed: Facts, facts: Facts) -> None:
    """What an undisturbed run proves is proved here, and every row is sealed as it was written."""
    assert not undisturbed.evidence - facts.evidence, "evidence is missing"
    with open_ledger(load_settings()) as ledger:
        verification = verify(open_warehouse(load_settings()), ledger, report=lambda _text: None)
    assert verification.is_sound, verification.findings
    assert verification.unsealed_rows == 0


def check_settled(deployment: Deployment) -> None:
    """After an orderly stop: the outcome of every request is known, the bill is what was settled, nothing is held."""
    check_bill(deployment)
    assert set(deployment.states()) <= {"hit", "miss", "failed"}
    with open_ledger(load_settings()) as ledger:
        assert ledger.summary().cost == sum((entry.cost for entry in deployment.bill), Decimal(0))
