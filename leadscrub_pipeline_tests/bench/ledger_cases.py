"""What ledger and evidence cost: enriched_contacts with the ledger, and with a stand-in that keeps nothing."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from decimal import Decimal
from typing import Any, Self
from uuid import uuid4

from leadscrub_pipeline.deployment import lookup_terms, open_ledger, open_warehouse, purpose_of
from leadscrub_pipeline.domain.scripts import find_script
from leadscrub_pipeline.domain.verdicts import CCC, utc_now
from leadscrub_pipeline.ledger import Claimed, LookupTerms, RunCounts, Settlement
from leadscrub_pipeline.ledger.ledger import LEASE
from leadscrub_pipeline.ledger.writer import Settled
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.steps.enrichment import enrich
from leadscrub_pipeline.steps.litigators import check_litigators
from leadscrub_pipeline.vendors.idicore import endpoint_of
from leadscrub_pipeline.warehouse.evidence import PLAIN_COLUMNS, ChainEnd
from leadscrub_pipeline.warehouse.leads import LeadSelection
from leadscrub_pipeline.warehouse.phone_verdicts import Check
from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS, RAW_LEADS, SCRUB_EVIDENCE
from leadscrub_pipeline.warehouse.slices import read_slice
from leadscrub_pipeline_tests.bench.deployment import bench_deployment

WORKERS = 200
LATENCY = 0.3


def ledger_and_evidence(leads: int = 10_000) -> dict[str, float]:
    """Seconds of enriched_contacts with the ledger and without, and of chaining and storing the evidence of its phones.

    The evidence is taken from the run and stored once more, text, hash and seal included.
    """
    with bench_deployment(leads=leads, latency=LATENCY, IDICORE_MAX_WORKERS=str(WORKERS)):
        _enrich(_forgetful, leads=WORKERS)  # warm: the first one of a process also loads modules
        kept = _enrich(open_ledger, leads=leads)
        forgotten = _enrich(_forgetful, leads=leads)
        evidence = _store_evidence_again()
    return {
        "kept_seconds": kept,
        "forgotten_seconds": forgotten,
        "ledger_seconds": kept - forgotten,
        "evidence_seconds": evidence,
        "ratio": (kept - forgotten + evidence) / kept,
    }


def _enrich(opening: Callable[[Settings], AbstractContextManager[Any]], *, leads: int) -> float:
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
    with opening(settings) as ledger:
        started = time.perf_counter()
        enrich(warehouse, ledger, kept, terms, settings, report=lambda _: None)
        return time.perf_counter() - started


def _store_evidence_again() -> float:
    """Check the phones that were found, and store that evidence a second time in chains of their own."""
    settings = load_settings()
    warehouse = open_warehouse(settings)
    script = find_script(settings.leadscrub_scripts, "bench")
    check = Check("bench", "litigator_flags", script.key, script.script_hash, purpose_of(settings, script).name, CCC)
    seconds = 0.0
    with open_ledger(settings) as ledger:
        with warehouse.session() as session:
            contacts = read_slice(session, ENRICHED_CONTACTS, script.key)
        check_litigators(warehouse, ledger, contacts, check, settings, report=lambda _: None)
        with warehouse.session() as session:
            rows = session.table(f"SELECT {', '.join(PLAIN_COLUMNS)} FROM {SCRUB_EVIDENCE.full_name} ORDER BY sequence")
            for asset in ("again_litigator_flags", "again_dnc_flags"):
                started = time.perf_counter()
                ledger.open_chain("bench", asset, script.key)
                chained, end = ChainEnd.none_yet("bench", asset).linked(rows)
                with session.transaction():
                    session.load(SCRUB_EVIDENCE.full_name, chained)
                ledger.seal_chain("bench", asset, end.rows, end.root)
                seconds += time.perf_counter() - started
    return seconds


def _forgetful(_settings: Settings) -> AbstractContextManager[Any]:
    return nullcontext(ForgetfulLedger())


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
