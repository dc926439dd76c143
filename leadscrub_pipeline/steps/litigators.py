"""Litigator checks: ask CCC about each phone without a verdict that stands, and keep verdict and evidence."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.domain.verdicts import litigator_valid_until, utc_now
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.steps.fanout import Fanout
from leadscrub_pipeline.steps.flag_report import FlagReport
from leadscrub_pipeline.steps.flag_step import FlagStep, flag_step
from leadscrub_pipeline.vendors.ccc import BatchResult, CccClient, ccc_workers
from leadscrub_pipeline.warehouse.phone_verdicts import Check, Checked, to_answers
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import LITIGATOR_FLAGS
from leadscrub_pipeline.warehouse.slices import Slice

PAGE_ROWS: Final = 10_000
STORED_AT_ONCE: Final = 20_000
"""Answers in one transaction: a kill loses no more than these."""


def check_litigators(
    warehouse: Warehouse,
    ledger: Ledger,
    contacts: Slice,
    check: Check,
    settings: Settings,
    *,
    report: Callable[[str], None],
    renew: bool = False,
) -> FlagReport:
    """Give every phone of the slice a litigator verdict and publish the partition's flags.

    Raises:
        UnavailableError: CCC is down or refuses access; verdicts that came in are stored.
        FailedError: the contacts were replaced by another run in the meantime.
    """
    client = CccClient(settings)
    with flag_step(
        warehouse, ledger, contacts, check, LITIGATOR_FLAGS, renew=renew, report=report, rows_at_once=STORED_AT_ONCE
    ) as step:
        ask_litigators(step, client, settings)
    return step.result


def ask_litigators(step: FlagStep, client: CccClient, settings: Settings) -> None:
    """Ask CCC about the step's phones.

    Raises:
        UnavailableError: CCC is down or refuses access; answers that came in are kept.
    """
    step.result.workers = ccc_workers(step.result.asked, settings)
    try:
        if step.result.asked:
            _ask(step, client, settings)
    finally:
        step.result.vendor = client.stats.metadata()


def _ask(step: FlagStep, client: CccClient, settings: Settings) -> None:
    fanout = Fanout(client, _check_batch, workers=step.result.workers)

    def keep() -> None:
        for batch, checked_at in fanout.taken():
            step.result.requests += batch.requests
            step.result.controls_partly_clear += batch.controls == "some"
            answers = _answers(batch, checked_at, settings.ccc_max_age_days)
            step.answered(answers)
            step.store(answers)

    try:
        with fanout:
            for phones in step.phones(rows=PAGE_ROWS):
                fanout.put(client.batches(phones.to_pylist()))
                keep()
            fanout.finish(report=keep)
    finally:
        # What was answered before an error is kept: asking again would cost another request.
        keep()


async def _check_batch(client: CccClient, phones: list[str]) -> tuple[BatchResult, datetime]:
    return await client.check(phones), utc_now()


def _answers(batch: BatchResult, checked_at: datetime, max_age_days: int) -> pa.Table:
    good_until = litigator_valid_until(checked_at, max_age_days)
    return to_answers(
        [
            Checked(
                phone=phone,
                answer=answer,
                list_version=batch.endpoint,
                obtained_at=checked_at,
                checked_at=checked_at,
                valid_until=good_until if answer.reason is None else checked_at,
            )
            for phone, answer in batch.answers.items()
        ]
    )
