"""Litigator checks: ask CCC about each phone without an unexpired verdict, and keep verdict and evidence."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from leadscrub_pipeline.domain.verdicts import litigator_valid_until, utc_now
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.steps.fanout import Fanout
from leadscrub_pipeline.steps.flag_report import FlagReport
from leadscrub_pipeline.steps.progress import Progress
from leadscrub_pipeline.vendors.ccc import BatchResult, CccClient, ccc_workers
from leadscrub_pipeline.warehouse.phone_verdicts import (
    Check,
    Checked,
    count_phones,
    count_phones_to_ask,
    next_sequence,
    phones_to_ask,
    publish_flags,
    store_answers,
    verdict_counts,
)
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import LITIGATOR_FLAGS
from leadscrub_pipeline.warehouse.slices import Slice, read_slice

PAGE_ROWS: Final = 10_000
FLUSH_ROWS: Final = 20_000


def check_litigators(
    warehouse: Warehouse, contacts: Slice, check: Check, settings: Settings, *, report: Callable[[str], None]
) -> FlagReport:
    """Give every phone of the slice a litigator verdict and publish the partition's flags.

    Raises:
        UnavailableError: CCC is down or refuses access; verdicts that came in are stored.
        FailedError: the contacts were replaced by another run in the meantime.
    """
    started = time.monotonic()
    now = utc_now()
    with warehouse.session() as session:
        phones = count_phones(session, contacts)
        to_ask = count_phones_to_ask(session, contacts, check.source, now)
    result = FlagReport(phones=phones, asked=to_ask, reused=phones - to_ask, workers=ccc_workers(to_ask, settings))
    client = CccClient(settings)
    result.vendor = client.stats.metadata()
    if to_ask:
        _ask(warehouse, contacts, check, settings, client, now, result, Progress(report, noun="phones", total=to_ask))
    with warehouse.session() as session:
        details = {"phones": phones, "asked": to_ask}
        publish_flags(session, LITIGATOR_FLAGS, contacts, check, details=details, now=utc_now())
        result.verdicts = verdict_counts(session, read_slice(session, LITIGATOR_FLAGS, check.partition_key))
    result.seconds = time.monotonic() - started
    return result


def _ask(
    warehouse: Warehouse,
    contacts: Slice,
    check: Check,
    settings: Settings,
    client: CccClient,
    now: datetime,
    result: FlagReport,
    progress: Progress,
) -> None:
    store = _Store(warehouse, check, settings.ccc_max_age_days, result, progress)
    fanout = Fanout(client, _check_batch, workers=result.workers)
    try:
        with fanout:
            for phones in phones_to_ask(warehouse, contacts, check.source, now, rows=PAGE_ROWS):
                fanout.put(client.batches(phones))
                store.add(fanout.taken())
            fanout.finish(report=lambda: store.add(fanout.taken()))
    finally:
        # What was answered before an error is kept: asking again would cost another request.
        store.add(fanout.taken())
        store.flush()
        result.vendor = client.stats.metadata()


async def _check_batch(client: CccClient, phones: list[str]) -> tuple[BatchResult, datetime]:
    return await client.check(phones), utc_now()


class _Store:
    """Gathers answers and stores them with their evidence in bounded transactions."""

    def __init__(
        self, warehouse: Warehouse, check: Check, max_age_days: int, result: FlagReport, progress: Progress
    ) -> None:
        self._warehouse = warehouse
        self._check = check
        self._max_age_days = max_age_days
        self._result = result
        self._progress = progress
        self._answers: list[Checked] = []

    def add(self, batches: list[tuple[BatchResult, datetime]]) -> None:
        for batch, checked_at in batches:
            self._result.requests += batch.requests
            self._result.controls_partly_clear += batch.controls == "some"
            for phone, answer in batch.answers.items():
                if answer.reason is not None:
                    self._result.reasons[answer.reason.value] += 1
                valid_until = (
                    litigator_valid_until(checked_at, self._max_age_days) if answer.reason is None else checked_at
                )
                self._answers.append(Checked(phone, answer, batch.endpoint, checked_at, checked_at, valid_until))
            self._progress.add(len(batch.answers))
        if len(self._answers) >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        answers, self._answers = self._answers, []
        if answers:
            with self._warehouse.session() as session:
                first = next_sequence(session, self._check)
                store_answers(session, self._check, answers, first_sequence=first)
