"""A whole deployment in a temporary folder, with runs over it: what the tests of the graph are written in.

Runs call the assets one after the other, as ``asset_calls`` does; where it is Dagster's part
that is tested, ``through_dagster`` runs the job, which takes twice as long.
"""

import csv
import sqlite3
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline.deployment import open_ledger, open_warehouse
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.simulators import Simulators
from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, MASTER
from leadscrub_pipeline_tests.asset_calls import ASSETS, BrokenClaim, call_asset, sentence_of
from leadscrub_pipeline_tests.empty_home import place_empty_home
from leadscrub_pipeline_tests.sums import check_sums

IDENTITY = ("FIRST_NAME", "LAST_NAME", "ADDRESS", "CITY", "STATE", "ZIP")


@dataclass
class Run:
    """One run: whether it went well, the numbers of its assets, and the first failure's sentence."""

    run_id: str
    success: bool
    metadata: dict[str, dict[str, Any]]
    failed_step: str | None = None
    error: str = ""
    told: str = ""
    """All that is kept of the run: log lines, metadata, errors with their causes."""

    @property
    def counts(self) -> dict[str, Any]:
        """The numbers of all assets, as ``run --json`` prints them."""
        raw, enriched = self.metadata.get("raw_leads", {}), self.metadata.get("enriched_contacts", {})
        master = self.metadata.get("master_processed_db", {})
        selection = ("selected", "rejected", "duplicate", "already_processed", "kept")
        return {
            **{name: raw.get(name) for name in selection},
            **{name: master.get(name) for name in ("published", "deferred", "held", "taken", "flags_unknown")},
            **{name: enriched.get(name) for name in ("lookups_paid", "lookups_reused", "lookups_unknown")},
        }


@dataclass
class Graph:
    """Scripts, source tables, a registry file and simulators, with the five assets over them."""

    folder: Path
    simulators: Simulators
    patch: pytest.MonkeyPatch
    through_dagster: bool = False
    whole: bool = False
    """Dagster's runs end with the report and look at the list's age, as in the UI; without it they are quicker."""
    _until_the_end: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        settings = {"concurrency": {"pools": {"granularity": "run"}}}
        return self._until_the_end.enter_context(dg.DagsterInstance.ephemeral(settings=settings))

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def registry(self) -> Path:
        return self.folder / "dnc.sqlite"

    def configure(self, **settings: object) -> None:
        """Change settings, as an operator would; they count from the next run on."""
        for name, value in settings.items():
            self.patch.setenv(name, str(value))

    def write_source(self, name: str, rows: Iterable[Sequence[object]], columns: Sequence[str] = IDENTITY) -> None:
        """A source table as CSV, by its name in three parts."""
        database, schema, table = name.split(".")
        path = self.folder / "sources" / database / schema / f"{table}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)

    def write_script(self, key: str, sql: str = "SELECT * FROM LEADS_DB.PUBLIC.LEADS", **header: str) -> Path:
        lines = "".join(f"-- {name}: {value}\n" for name, value in {"title": key.title(), **header}.items())
        path = self.folder / "scripts" / f"{key}.sql"
        path.write_text(lines + sql + "\n", encoding="utf-8")
        return path

    def write_registry(self, listed: Iterable[str] = (), area_codes: Iterable[int] = range(200, 990)) -> None:
        """A registry file in the old schema: each area code has one number of its own, and those listed."""
        self.registry.unlink(missing_ok=True)
        rows = [(str(code), "5550199", f"{code}5550199") for code in area_codes]
        rows += [(phone[:3], phone[3:], phone) for phone in listed]
        with sqlite3.connect(self.registry) as connection:
            connection.execute(
                "CREATE TABLE dnc_list(area_code TEXT, phone_number TEXT, full_phone TEXT, "
                "PRIMARY KEY(area_code, phone_number))"
            )
            connection.execute("CREATE INDEX full_phone ON dnc_list(full_phone)")
            connection.executemany("INSERT OR IGNORE INTO dnc_list VALUES (?, ?, ?)", rows)
        connection.close()

    def scrub(self, key: str, *, assets: Sequence[str] | None = None, check: bool = True, **config: object) -> Run:
        """Run all assets, or some of them, for one script; the sums are checked whenever it ends well."""
        if self.through_dagster or self.whole:
            run = self._run_job(key, assets or (None if self.whole else ASSETS), config)
        else:
            run = _call_assets(key, assets or ASSETS, config)
        if run.success and check and assets is None:
            check_sums(run.counts)
        return run

    def _run_job(self, key: str, selection: Sequence[str] | None, config: Mapping[str, object]) -> Run:
        self.instance.add_dynamic_partitions("lead_scripts", [key])
        result = defs.resolve_job_def("scrub_job").execute_in_process(
            partition_key=key,
            instance=self.instance,
            run_config={"ops": {"raw_leads": {"config": dict(config)}}} if config else {},
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in selection] if selection else None,
        )
        metadata = {
            event.asset_key.to_user_string(): {
                name: value.value for name, value in event.materialization.metadata.items()
            }
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        }
        told = "\n".join(repr(entry) for entry in self.instance.all_logs(result.run_id))
        run = Run(result.run_id, result.success, metadata, told=told)
        for failure in result.get_step_failure_events():
            data = failure.step_failure_data.user_failure_data
            run.failed_step = failure.step_key
            run.error = (data.description if data is not None else None) or str(failure.message)
            break
        return run

    @contextmanager
    def warehouse(self) -> Iterator[Session]:
        with open_warehouse(load_settings()).session() as session:
            yield session

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self.warehouse() as session:
            return session.rows(sql, params)

    def master(self) -> list[dict[str, Any]]:
        columns = MASTER.column_names
        return [
            dict(zip(columns, row, strict=True))
            for row in self.rows(f"SELECT {', '.join(columns)} FROM {MASTER.full_name} ORDER BY record_id")
        ]

    def callable_phones(self) -> set[str]:
        return {phone for (phone,) in self.rows(f"SELECT phone FROM {CALLABLE_PHONES}")}

    def ledger(self) -> Ledger:
        return open_ledger(load_settings())

    @property
    def billed(self) -> int:
        return len(self.simulators.idicore.bill.entries())


def _call_assets(key: str, assets: Sequence[str], config: Mapping[str, object]) -> Run:
    run = Run(str(uuid4()), success=True, metadata={})
    told: list[object] = [run.run_id]
    for name in assets:
        try:
            run.metadata[name] = call_asset(name, key, run.run_id, config=config, say=told.append, tries_again=True)
        except (dg.Failure, LeadscrubError, BrokenClaim) as error:
            run.success, run.failed_step = False, name
            run.error = sentence_of(error)
            told += traceback.format_exception(error)
            break
    run.told = "\n".join(map(str, [*told, run.metadata]))
    return run


def people(count: int, *, start: int = 0) -> list[tuple[object, ...]]:
    """Made-up people, all different, with every value that a lead needs."""
    return [
        (f"Ada{number}", "Example", f"{number + 1} Main Street", "Springfield", "IL", f"{62701 + number % 90}")
        for number in range(start, start + count)
    ]


def flags(row: Mapping[str, Any]) -> tuple[bool | None, ...]:
    return tuple(row[name] for name in ("in_litigator_list", "phone_1_in_dnc", "phone_2_in_dnc", "phone_3_in_dnc"))


@contextmanager
def graph_in(
    folder: Path,
    patch: pytest.MonkeyPatch,
    *,
    latency: float = 0.0,
    through_dagster: bool = False,
    from_nothing: bool = False,
) -> Iterator[Graph]:
    """A deployment with one script over ten people and a fresh registry.

    Ledger and warehouse are there and empty, unless it starts ``from_nothing``. A step that is
    tried again is so at once.
    """
    (folder / "scripts").mkdir(parents=True)
    with Simulators(latency=latency) as simulators, ExitStack() as until_the_end:
        graph = Graph(folder, simulators, patch, through_dagster, _until_the_end=until_the_end)
        patch.setattr(dg.RetryPolicy, "calculate_delay", lambda _policy, _attempt: 0)
        graph.configure(
            LEADSCRUB_ENV_FILE="",
            LEADSCRUB_HOME=graph.home,
            LEADSCRUB_SCRIPTS=folder / "scripts",
            LEADSCRUB_SOURCES=folder / "sources",
            DNC_DATABASE_PATH=graph.registry,
            DNC_LIST_DATE=(datetime.now(UTC) - timedelta(days=3)).date().isoformat(),
            IDICORE_RETRY_BASE_DELAY="0.01",
            IDICORE_RETRY_MAX_DELAY="0.05",
            CCC_RETRY_BASE_DELAY="0.01",
            CCC_RETRY_MAX_DELAY="0.05",
            LEADSCRUB_BREAKER_SECONDS="0.05",
            **simulators.environment(),
        )
        if not from_nothing:
            place_empty_home(graph.home)
        graph.write_source("LEADS_DB.PUBLIC.LEADS", people(10))
        graph.write_script("leads")
        graph.write_registry()
        yield graph
