"""One deployment a fault: made from a copy of one that has published already, and looked at before and after.

Which faults there are stands in ``fault_matrix.py``, what counts as answered in
``fault_judge.py``.
"""

import contextlib
import functools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.simulators.bill import BillEntry
from leadscrub_pipeline.simulators.contacts import contact_of
from leadscrub_pipeline.simulators.line import Reply
from leadscrub_pipeline.simulators.phones import PhoneSpace, is_litigator
from leadscrub_pipeline.warehouse import duckdb_engine
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, MASTER, SCRUB_EVIDENCE
from leadscrub_pipeline_tests.asset_calls import ASSETS
from leadscrub_pipeline_tests.bad_input import deployment, private_people
from leadscrub_pipeline_tests.fault_judge import Listing, listing_of
from leadscrub_pipeline_tests.graph import Graph

PUBLISHED, CONTACTS, LITIGATORS, FLAGS = 0, 2, 3, 4
"""How many assets of ``leads`` are materialized when the fault comes."""

KEY: Final = "leads"
EARLIER: Final = "before"
SEED: Final = 1


def phones_of_person(row: Sequence[object]) -> tuple[str, ...]:
    return contact_of(Person(*map(str, row)), seed=SEED, space=PhoneSpace.FICTIONAL).best_phones()


@functools.cache
def people_of(key: str) -> list[tuple[object, ...]]:
    """Eleven people and one with a litigator's phone, so that TRUE is met too."""
    people = private_people(2000, start=0 if key == EARLIER else 5000)
    litigators = [row for row in people[11:] if any(is_litigator(phone, seed=SEED) for phone in phones_of_person(row))]
    return [*people[:11], litigators[0]]


@dataclass(frozen=True)
class Tables:
    """What is looked at, read in one session: opening one takes longer than reading it."""

    master: list[dict[str, Any]]
    callable_phones: set[str]
    evidence: list[tuple[str, str, str]] = field(compare=False)
    """Source, phone and run of every clear answer."""

    @property
    def published(self) -> list[dict[str, Any]]:
        return [row for row in self.master if row["table_id"] == KEY]


def tables_of(graph: Graph) -> Tables:
    names = MASTER.column_names
    with graph.warehouse() as session:
        rows = session.rows(f"SELECT {', '.join(names)} FROM {MASTER.full_name} ORDER BY record_id")
        phones = session.rows(f"SELECT phone FROM {CALLABLE_PHONES}")
        evidence = session.rows(f"SELECT source, phone, run_id FROM {SCRUB_EVIDENCE.full_name} WHERE verdict = 'clear'")
    master = [dict(zip(names, row, strict=True)) for row in rows]
    return Tables(master, {phone for (phone,) in phones}, [(row[0], row[1], row[2]) for row in evidence])


@dataclass
class Template:
    """A deployment with ``before`` published, and ``leads`` up to each of the stages."""

    folder: Path
    bill: dict[int, list[BillEntry]] = field(default_factory=dict)
    """What was billed up to each stage."""
    tables: dict[int, Tables] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    """What CCC said up to the last stage."""
    runs: set[str] = field(default_factory=set)

    def keep(self, graph: Graph, stage: int) -> None:
        shutil.copytree(graph.home, self.home(stage))
        self.tables[stage] = tables_of(graph)
        self.bill[stage] = graph.simulators.idicore.bill.entries()

    def home(self, stage: int) -> Path:
        return self.folder / f"home-{stage}"

    @property
    def listing(self) -> Listing:
        found = listing_of(self.folder / "dnc.sqlite", fresh=True)
        assert found is not None
        return found


def make_template(folder: Path) -> Template:
    template = Template(folder)
    with started(folder) as graph:
        graph.simulators.ccc.line.sent = template.replies
        run = graph.scrub(EARLIER)
        assert (run.success, run.counts["published"]) == (True, 12), run.error
        template.runs.add(run.run_id)
        template.keep(graph, PUBLISHED)
        for stage, asset in enumerate(ASSETS[:FLAGS], start=1):
            run = graph.scrub(KEY, assets=[asset])
            assert run.success, run.error
            template.runs.add(run.run_id)
            template.keep(graph, stage)
    return template


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Graph]:
    """Simulators, two scripts over twelve people each, and a registry that holds a phone of both."""
    with deployment(folder, from_nothing=True) as graph:
        earlier, people = people_of(EARLIER), people_of(KEY)
        graph.write_source("LEADS_DB.PUBLIC.BEFORE", earlier)
        graph.write_source("LEADS_DB.PUBLIC.LEADS", people)
        graph.write_script(EARLIER, "SELECT * FROM LEADS_DB.PUBLIC.BEFORE")
        graph.write_script(KEY)
        graph.write_registry(listed={next(filter(None, map(phones_of_person, rows)))[0] for rows in (earlier, people)})
        graph.configure(
            IDICORE_MIN_WORKERS=4,
            IDICORE_MAX_WORKERS=4,
            IDICORE_RETRY_BASE_DELAY="0.002",
            IDICORE_MAX_RETRIES="2",
            CCC_RETRY_BASE_DELAY="0.002",
            CCC_MAX_RETRIES="1",
            LEADSCRUB_BREAKER_SECONDS="0.02",
        )
        try:
            yield graph
        finally:
            duckdb_engine._close_shared()


@dataclass
class Trial:
    """A deployment that a fault comes to."""

    graph: Graph
    template: Template
    stage: int
    listing: Listing | None = None
    """The registry file as the fault leaves it, or None when nothing may be read as absent from it."""
    assets: Sequence[str] | None = None
    phones_are_known: bool = True
    """Whether a person's phones are the simulated contact's; a fault may have given them others."""

    @property
    def registry(self) -> Path:
        return self.graph.registry

    @property
    def bill(self) -> list[BillEntry]:
        return [*self.template.bill[self.stage], *self.graph.simulators.idicore.bill]

    def fault_met(self) -> int:
        vendors = (self.graph.simulators.idicore, self.graph.simulators.ccc)
        return sum(sum(vendor.line.faulted.values()) for vendor in vendors)


@contextlib.contextmanager
def trial_of(template: Template, folder: Path, *, stage: int) -> Iterator[Trial]:
    """A copy of the template at a stage, with vendors of its own; all that is left is still to be run."""
    with started(folder) as graph:
        shutil.copytree(template.home(stage), graph.home)
        graph.simulators.ccc.line.sent = []
        graph.through_dagster = stage == PUBLISHED
        assets = None if stage == PUBLISHED else ASSETS[stage:]
        yield Trial(graph, template, stage, listing_of(graph.registry, fresh=True), assets)
