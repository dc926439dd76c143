"""Do-Not-Call checks: ask the registry file about each phone without a verdict that stands, and keep the evidence."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from leadscrub_pipeline.dnc import DncRegistry
from leadscrub_pipeline.domain.verdicts import registry_valid_until, utc_now
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.steps.flag_report import FlagReport
from leadscrub_pipeline.steps.flag_step import FlagStep, flag_step
from leadscrub_pipeline.steps.own_entries import witness
from leadscrub_pipeline.warehouse.arrow import stored
from leadscrub_pipeline.warehouse.phone_verdicts import ANSWERS, Check, phones_of
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import DNC_FLAGS
from leadscrub_pipeline.warehouse.slices import Slice

PAGE_ROWS: Final = 20_000
STORED_AT_ONCE: Final = 120_000
"""Answers in one transaction. A kill loses no more than these, and asking again costs nothing."""


def check_registry(
    warehouse: Warehouse,
    ledger: Ledger,
    registry: DncRegistry,
    contacts: Slice,
    check: Check,
    *,
    on_stale_list: Literal["fail", "null"],
    max_age_days: int,
    batched: bool,
    report: Callable[[str], None],
    renew: bool = False,
) -> FlagReport:
    """Give every phone of the slice a Do-Not-Call verdict and publish the partition's flags.

    Raises:
        UnavailableError: the file cannot be trusted, or the list is stale and ``on_stale_list`` is fail.
        FailedError: the contacts were replaced by another run in the meantime.
    """
    if on_stale_list == "fail":
        registry.require_fresh()
    with flag_step(
        warehouse, ledger, contacts, check, DNC_FLAGS, renew=renew, report=report, rows_at_once=STORED_AT_ONCE
    ) as step:
        ask_registry(step, registry, max_age_days=max_age_days, batched=batched)
    step.result.own_entries = witness(warehouse, ledger, phones_of(contacts, utc_now(), renew=True), check, report)
    return step.result


def ask_registry(step: FlagStep, registry: DncRegistry, *, max_age_days: int, batched: bool) -> None:
    """Ask the registry about the step's phones.

    Raises:
        UnavailableError: the file cannot be read or changed; answers that it gave before are kept.
    """
    obtained_at = registry.version.obtained_at
    if batched:
        registry.expect(step.result.asked)
    for page in step.phones(rows=PAGE_ROWS):
        verdicts, reasons = registry.look_up_column(page, batched=batched)
        checked_at = utc_now()
        good_until = registry_valid_until(obtained_at, max_age_days) if obtained_at is not None else checked_at
        given = {
            "phone": page,
            "verdict": verdicts,
            "reason": reasons,
            "list_version": pa.repeat(registry.version.name, len(page)),
            "obtained_at": pa.repeat(_time(obtained_at), len(page)),
            "checked_at": pa.repeat(_time(checked_at), len(page)),
            "valid_until": pc.if_else(reasons.is_null(), _time(good_until), _time(checked_at)),
        }
        answers = pa.table([given[name] for name in ANSWERS.names], schema=ANSWERS)
        step.store(answers)
        step.answered(answers)
        step.result.requests += 1


def _time(value: datetime | None) -> pa.Scalar:
    return pa.scalar(stored(value), ANSWERS.field("checked_at").type)
