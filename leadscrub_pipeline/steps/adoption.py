"""Adoption: people whom an older system paid for become paid for here, from its master table and its cache.

The rows of the older system stay as they are. Nothing is asked of a vendor.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from leadscrub_pipeline.domain.people import KEY_VERSION, Person, person_key, unusable_reason
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.ledger.adoption import NOTHING, UNDER_WAY, CacheLife, OldLookup
from leadscrub_pipeline.ledger.units import time_to_micros
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.steps.old_cache import CachedLookup, OldCache
from leadscrub_pipeline.steps.rebuilding import rebuild_person_cache
from leadscrub_pipeline.warehouse.adoption import (
    CONTACT_COLUMNS,
    NO_SCRIPT,
    PAGE_ROWS,
    PUBLISHED,
    OldRows,
)
from leadscrub_pipeline.warehouse.leads import people_of
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse

_NOTHING_THERE: Final = frozenset({"", "nan", "none", "null", "n/a", "na", "-", "0"})
"""What older systems wrote where there was no phone or e-mail."""


@dataclass(slots=True)
class Adopted:
    """What an adoption found. ``known`` rows were published or adopted here before."""

    rows: int = 0
    known: int = 0
    cache_rows: int = 0
    people: int = 0
    duplicates: int = 0
    expired: int = 0
    """People whose time is over already: they are looked up anew."""
    unusable: Counter[str] = field(default_factory=Counter)
    without_time: int = 0
    """Rows that do not say when; they count as looked up now."""
    seconds: float = 0.0


def adopt_nothing(ledger: Ledger) -> None:
    """The operator starts afresh: older rows count for nothing."""
    ledger.upkeep.note_adoption(NOTHING)


def adopt(
    warehouse: Warehouse,
    ledger: Ledger,
    settings: Settings,
    *,
    cache: Path | None = None,
    dry_run: bool = False,
    report: Callable[[str], None],
    page_rows: int = PAGE_ROWS,
) -> Adopted:
    """Adopt the master table's older rows and a cache file, page by page; started again, it goes on.

    Raises:
        UsageError: the cache file's columns do not say what is needed.
        UnavailableError: it cannot be read.
    """
    ledger.upkeep.require_key_version(KEY_VERSION)
    old_cache = None if cache is None else OldCache(cache)
    with warehouse.session() as session:
        adoption = _Adoption(session, warehouse, ledger, settings, dry_run=dry_run, report=report)
        adoption.run(old_cache, page_rows=page_rows)
        return adoption.result


class _Adoption:
    def __init__(
        self,
        session: Session,
        warehouse: Warehouse,
        ledger: Ledger,
        settings: Settings,
        *,
        dry_run: bool,
        report: Callable[[str], None],
    ) -> None:
        self._session = session
        self._dialect = warehouse.dialect
        self._ledger = ledger
        self._dry_run = dry_run
        self._report = report
        self._life = CacheLife(settings.idicore_cache_days, settings.idicore_miss_days)
        self._now = time_to_micros(utc_now())
        self.result = Adopted()

    def run(self, cache: OldCache | None, *, page_rows: int) -> None:
        started = time.monotonic()
        result = self.result
        old = OldRows(self._session, self._dialect)
        result.rows, result.known = old.count, old.known
        if not self._dry_run:
            self._ledger.upkeep.note_adoption(UNDER_WAY)
        progress = Progress(self._report, noun="rows of the master table", total=old.count)
        for page in old.pages(rows=page_rows):
            self._adopt_page(old, page)
            progress.add(page.num_rows)
        if cache is not None:
            for lookups in cache.pages():
                self._adopt_cache(old, lookups)
                self._report(f"{result.cache_rows:,} rows of the cache file")
        result.people, result.expired = old.people(now=self._now)
        result.duplicates = result.rows + result.cache_rows - result.unusable.total() - result.people
        if not self._dry_run:
            rebuild_person_cache(self._session, self._dialect, self._ledger)
            self._ledger.upkeep.note_adoption(utc_now().isoformat(timespec="seconds"))
        result.seconds = time.monotonic() - started

    def _adopt_page(self, old: OldRows, page: pa.Table) -> None:
        keys = [self._key(person) for person in people_of(page)]
        times = pc.cast(page.column("processed_at"), pa.int64()).to_pylist()
        partitions = page.column("partition_key").to_pylist()
        outcomes = _outcomes(page)
        found = [
            OldLookup(key, partition, time, outcome)
            for key, partition, time, outcome in zip(keys, partitions, times, outcomes, strict=True)
            if key is not None
        ]
        self._write(old, found)
        if not self._dry_run:
            rows = pa.table(
                [page.column("identity_hash"), pa.array(keys, pa.string()), *page.select(PUBLISHED.names[2:]).columns],
                schema=PUBLISHED,
            )
            old.note(rows.filter(pc.is_valid(rows.column("person_key"))))

    def _adopt_cache(self, old: OldRows, lookups: list[CachedLookup]) -> None:
        """A cache file knows no publication: its people count as paid for, and belong to no row."""
        self.result.cache_rows += len(lookups)
        found: list[OldLookup] = []
        for lookup in lookups:
            key = self._key(lookup.person)
            if key is None:
                continue
            if lookup.outcome is None:
                self.result.unusable["no_outcome"] += 1
                continue
            time = None if lookup.looked_up_at is None else time_to_micros(lookup.looked_up_at)
            found.append(OldLookup(key, NO_SCRIPT, time, lookup.outcome))
        self._write(old, found)

    def _key(self, person: Person) -> str | None:
        reason = unusable_reason(person)
        if reason is not None:
            self.result.unusable[reason] += 1
            return None
        return person_key(person)

    def _write(self, old: OldRows, found: list[OldLookup]) -> None:
        """The ledger first: what it does not know may be paid for."""
        self.result.without_time += sum(lookup.asked_at is None for lookup in found)
        ends = [self._life.end(lookup.outcome, min(lookup.asked_at or self._now, self._now)) for lookup in found]
        old.count_people([lookup.person_key for lookup in found], ends)
        if found and not self._dry_run:
            self._ledger.upkeep.adopt(found, key_version=KEY_VERSION, life=self._life)


def _outcomes(page: pa.Table) -> list[Literal["hit", "miss"]]:
    columns = [page.column(name).to_pylist() for name in CONTACT_COLUMNS]
    return [
        "hit" if any(value is not None and value.strip().lower() not in _NOTHING_THERE for value in row) else "miss"
        for row in zip(*columns, strict=True)
    ]
