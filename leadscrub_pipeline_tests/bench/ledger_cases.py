"""What the ledger costs: enriched_contacts with it, and with a stand-in that keeps nothing."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal
from typing import Any, Self
from uuid import uuid4

from leadscrub_pipeline.deployment import lookup_terms, open_ledger, open_warehouse, purpose_of
from leadscrub_pipeline.domain.scripts import find_script
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.ledger import Claimed, LookupTerms, RunCounts, Settlement
from leadscrub_pipeline.ledger.ledger import LEASE
from leadscrub_pipeline.ledger.writer import Settled
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.steps.enrichment import enrich
from leadscrub_pipeline.vendors.idicore import endpoint_of
from leadscrub_pipeline.warehouse.leads import LeadSelection
from leadscrub_pipeline.warehouse.schema import RAW_LEADS
from leadscrub_pipeline.warehouse.slices import read_slice
from leadscrub_pipeline_tests.bench.deployment import bench_deployment

WORKERS = 200
LATENCY = 0.3


def ledger_share(leads: int = 10_000) -> dict[str, float]:
    """Seconds of enriched_contacts with the ledger and without, in turn; the difference is what the ledger costs."""
    with bench_deployment(leads=leads, latency=LATENCY, IDICORE_MAX_WORKERS=str(WORKERS)):
        _enrich(keep=False, leads=WORKERS)  # warm: the first one of a process also loads modules
        with_ledger, without = _enrich(keep=True, leads=leads), _enrich(keep=False, leads=leads)
    return {
        "with_seconds": with_ledger,
        "without_seconds": without,
        "ledger_seconds": with_ledger - without,
        "ratio": (with_ledger - without) / with_ledger,
    }


def _enrich(*, keep: bool, leads: int) -> float:
    settings = load_settings()
    warehouse = open_warehouse(settings)
    script = find_script(settings.leadscrub_scripts, "bench")
    run_id = str(uuid4())
    with warehouse.session(scripts=True) as session:
        selection = LeadSelection(
            session, warehouse.dialect, script, now=utc_now(), already_processed="include", row_limit=leads
        )
        selection.publish(run_id, selection.run())
    with warehouse.session() as session:
        kept = read_slice(session, RAW_LEADS, "bench")
    terms = lookup_terms(
        settings,
        endpoint=endpoint_of(settings),
        purpose=purpose_of(settings, script),
        run_id=run_id,
        partition_key="bench",
    )
    with open_ledger(settings) if keep else nullcontext(ForgetfulLedger()) as ledger:
        started = time.perf_counter()
        enrich(warehouse, ledger, kept, terms, settings, report=lambda _: None)  # type: ignore[arg-type]
        return time.perf_counter() - started


class ForgetfulLedger:
    """Grants every claim and keeps nothing: the least that enrichment can work with."""

    lease = LEASE

    def claim(self, keys: Sequence[str], _terms: LookupTerms) -> dict[str, Claimed]:
        return {key: Claimed(uuid4().hex, 1) for key in keys}

    def release(self, lookup_ids: Sequence[str]) -> int:
        return len(lookup_ids)

    def recent_outcomes(self, _terms: LookupTerms) -> list[Any]:
        return []

    def lookups_of_run(self, _run_id: str) -> RunCounts:
        return RunCounts(states={}, cost=Decimal(0), unknown_cost=Decimal(0))

    def writer(self) -> "ForgetfulWriter":
        return ForgetfulWriter()


class ForgetfulWriter(nullcontext["ForgetfulWriter"]):
    def __enter__(self) -> Self:
        return self

    async def mark_sent(self, _lookup_id: str) -> None:
        return

    async def settle(self, _lookup_id: str, _settlement: Settlement) -> Settled:
        now = utc_now()
        return Settled(now, now + timedelta(days=180))
