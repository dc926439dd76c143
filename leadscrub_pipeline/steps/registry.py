"""Do-Not-Call checks: ask the registry file about each phone without an unexpired verdict, and keep the evidence."""

import time
from collections.abc import Callable
from typing import Final, Literal

from leadscrub_pipeline.dnc import DncRegistry
from leadscrub_pipeline.domain.verdicts import registry_valid_until, utc_now
from leadscrub_pipeline.steps.flag_report import FlagReport
from leadscrub_pipeline.steps.progress import Progress
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
from leadscrub_pipeline.warehouse.schema import DNC_FLAGS
from leadscrub_pipeline.warehouse.slices import Slice, read_slice

PAGE_ROWS: Final = 20_000


def check_registry(
    warehouse: Warehouse,
    registry: DncRegistry,
    contacts: Slice,
    check: Check,
    *,
    on_stale_list: Literal["fail", "null"],
    max_age_days: int,
    batched: bool,
    report: Callable[[str], None],
) -> FlagReport:
    """Give every phone of the slice a Do-Not-Call verdict and publish the partition's flags.

    Raises:
        UnavailableError: the file cannot be trusted, or the list is stale and ``on_stale_list`` is fail.
        FailedError: the contacts were replaced by another run in the meantime.
    """
    started = time.monotonic()
    if on_stale_list == "fail":
        registry.require_fresh()
    now = utc_now()
    with warehouse.session() as session:
        phones = count_phones(session, contacts)
        to_ask = count_phones_to_ask(session, contacts, check.source, now)
    result = FlagReport(phones=phones, asked=to_ask, reused=phones - to_ask)
    progress = Progress(report, noun="phones", total=to_ask)
    obtained_at = registry.version.obtained_at
    if to_ask:
        for page in phones_to_ask(warehouse, contacts, check.source, now, rows=PAGE_ROWS):
            answers = registry.look_up(page, batched=batched)
            checked_at = utc_now()
            good_until = registry_valid_until(obtained_at, max_age_days) if obtained_at is not None else checked_at
            stored = []
            for phone in page:
                answer = answers[phone]
                if answer.reason is not None:
                    result.reasons[answer.reason.value] += 1
                valid_until = good_until if answer.reason is None else checked_at
                stored.append(Checked(phone, answer, registry.version.name, obtained_at, checked_at, valid_until))
            with warehouse.session() as session:
                store_answers(session, check, stored, first_sequence=next_sequence(session, check))
            result.requests += 1
            progress.add(len(page))
    with warehouse.session() as session:
        publish_flags(session, DNC_FLAGS, contacts, check, details={"phones": phones, "asked": to_ask}, now=utc_now())
        result.verdicts = verdict_counts(session, read_slice(session, DNC_FLAGS, check.partition_key))
    result.seconds = time.monotonic() - started
    return result
