"""Checking again what stands in the master table: ask both sources, then set the flags that are other ones now.

Nobody is looked up, so it costs no lookup. Which phones need asking and which rows change is
decided in the warehouse (warehouse/published_phones.py and rescrub.py).
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

import orjson
import pyarrow as pa

from leadscrub_pipeline.dnc import DncRegistry
from leadscrub_pipeline.domain.verdicts import CCC, DNC, utc_now
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.steps.flag_report import FlagReport
from leadscrub_pipeline.steps.flag_step import FlagStep, asking
from leadscrub_pipeline.steps.litigators import ask_litigators
from leadscrub_pipeline.steps.own_entries import witness
from leadscrub_pipeline.steps.registry import STORED_AT_ONCE, ask_registry
from leadscrub_pipeline.steps.rescrub_report import RescrubReport
from leadscrub_pipeline.vendors.ccc import CccClient
from leadscrub_pipeline.warehouse.phone_verdicts import Check
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.published_phones import published_phones, published_phones_of_list, standing
from leadscrub_pipeline.warehouse.rescrub import (
    FLAGS,
    PROVENANCE,
    REASONS,
    bring_up_to_date,
    count_rows,
)

LEASE: Final = "*rescrub*"
"""One rescrub at a time holds it; no script can have this key."""
EVERY_SCRIPT: Final = "*"
"""Partition of the evidence: a published phone may be of several scripts."""
LITIGATORS_AT_ONCE: Final = 100_000
"""Answers of CCC in one transaction. A kill loses no more than these, and asking again costs nothing."""
_Ask = Callable[..., AbstractContextManager[FlagStep]]

ASSETS: Final = {DNC: "rescrub_dnc", CCC: "rescrub_litigators"}


@dataclass(frozen=True, slots=True)
class Rescrub:
    """What is wanted of one rescrub."""

    run_id: str
    sources: tuple[str, ...] = (DNC, CCC)
    renew: bool = False
    """Ask about every phone, also where a verdict stands."""
    on_stale_list: Literal["fail", "null"] = "fail"


def rescrub(
    warehouse: Warehouse,
    ledger: Ledger,
    settings: Settings,
    wanted: Rescrub,
    open_registry: Callable[[], AbstractContextManager[DncRegistry]],
    *,
    report: Callable[[str], None],
) -> RescrubReport:
    """Ask about what needs asking, bring the flags up to date with what is known then, and tell what changed.

    A source that fails keeps neither the other from being asked nor the flags from being
    set: what failed is in the report's ``problems``, and ``raise_problems`` raises it.

    Raises:
        RefusedError: another rescrub is at work.
    """
    started = time.monotonic()
    result = RescrubReport()
    ask = partial(asking, warehouse, ledger, report=report)
    with ledger.partition_lease(LEASE, holder=wanted.run_id):
        if DNC in wanted.sources:
            with _problem_of(DNC, result), open_registry() as registry:
                _ask_registry(ask, settings, wanted, registry, result.sources[DNC])
            every_phone = published_phones(utc_now(), renew=True)
            result.sources[DNC].own_entries = witness(warehouse, ledger, every_phone, _check(wanted, DNC), report)
        if CCC in wanted.sources:
            with _problem_of(CCC, result):
                _ask_litigators(ask, settings, wanted, result.sources[CCC])
        _bring_up_to_date(warehouse, wanted, result, report)
    result.seconds = time.monotonic() - started
    return result


@contextmanager
def _problem_of(source: str, result: RescrubReport) -> Iterator[None]:
    try:
        yield
    except LeadscrubError as error:
        result.problems[source] = error


def _ask_registry(ask: _Ask, settings: Settings, wanted: Rescrub, registry: DncRegistry, result: FlagReport) -> None:
    if wanted.on_stale_list == "fail":
        registry.require_fresh()
    version = registry.version
    phones = published_phones_of_list(
        utc_now(), list_version=version.name, obtained_at=version.obtained_at, renew=wanted.renew
    )
    with ask(phones, _check(wanted, DNC), result=result, rows_at_once=STORED_AT_ONCE) as step:
        ask_registry(step, registry, max_age_days=settings.dnc_max_age_days, batched=settings.dnc_use_batched_query)


def _ask_litigators(ask: _Ask, settings: Settings, wanted: Rescrub, result: FlagReport) -> None:
    client = CccClient(settings)
    phones = published_phones(utc_now(), renew=wanted.renew)
    with ask(phones, _check(wanted, CCC), result=result, rows_at_once=LITIGATORS_AT_ONCE) as step:
        ask_litigators(step, client, settings)


def _check(wanted: Rescrub, source: str) -> Check:
    return Check(wanted.run_id, ASSETS[source], EVERY_SCRIPT, script_hash="", purpose="", source=source)


def _bring_up_to_date(
    warehouse: Warehouse, wanted: Rescrub, result: RescrubReport, report: Callable[[str], None]
) -> None:
    now = utc_now()
    with warehouse.session() as session:
        progress = Progress(report, noun="rows", total=count_rows(session))
    for sums in bring_up_to_date(warehouse, rewriting(wanted.run_id, now), now=now):
        progress.add(sums.rows - progress.done)
        result.rows = sums
    with warehouse.session() as session:
        for source, asked in result.sources.items():
            stands = standing(session, source, now)
            asked.verdicts, asked.phones = stands.verdicts, sum(stands.verdicts.values())
            asked.reasons = stands.reasons


def rewriting(run_id: str, now: datetime) -> Callable[[pa.Table], list[str]]:
    """What gives the additional data of a page of changed rows."""

    def rewrite(page: pa.Table) -> list[str]:
        return [rescrubbed_data(row, run_id, now) for row in page.to_pylist()]

    return rewrite


def rescrubbed_data(row: dict[str, Any], run_id: str, now: datetime) -> str:
    """A changed row's additional data with what its provenance says now; all other members stay to the letter."""
    # Numbers are kept as they are written: a script may give more digits than a float has.
    text = row["additional_data"]
    data = {} if text is None else json.loads(text, parse_float=orjson.Fragment, parse_int=orjson.Fragment)
    if not isinstance(data, dict):
        data = {"additional_data": data}
    before = data.get("provenance")
    reasons = {flag: row[reason] if row[flag] is None else None for flag, reason in zip(FLAGS, REASONS, strict=True)}
    data["provenance"] = {
        **(before if isinstance(before, dict) else {}),
        "null_reasons": reasons,
        **{name: row[name] for name in PROVENANCE},
        "rescrubbed": {"run_id": run_id, "at": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"},
    }
    return orjson.dumps(data).decode()
