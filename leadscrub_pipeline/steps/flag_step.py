"""What all steps that check phones do alike: count, ask page by page, keep each answer with its evidence, publish.

Asking the source is what differs, and stands in litigators.py and registry.py.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.steps.evidence import EvidenceChain, seal_what_is_left, sealed_chain
from leadscrub_pipeline.steps.flag_report import FlagReport
from leadscrub_pipeline.warehouse.phone_verdicts import (
    Check,
    Phones,
    count_phones,
    phones_of,
    phones_to_ask,
    publish_flags,
    verdict_counts,
)
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import Table
from leadscrub_pipeline.warehouse.slices import Slice


class FlagStep:
    """A step at work: the phones that need asking, and where their answers go."""

    def __init__(
        self, warehouse: Warehouse, phones: Phones, check: Check, chain: EvidenceChain, *, result: FlagReport,
        report: Callable[[str], None], rows_at_once: int,
    ) -> None:  # fmt: skip
        self.result = result
        self._warehouse = warehouse
        self._phones = phones
        self._check = check
        self._chain = chain
        self._progress = Progress(report, noun="phones", total=result.asked)
        self._rows_at_once = max(rows_at_once, warehouse.load_rows)
        self._waiting: list[pa.Table] = []
        self._rows_waiting = 0

    def phones(self, *, rows: int) -> Iterator[pa.Array]:
        """The phones without a verdict that stands, ascending, in pages."""
        return phones_to_ask(self._warehouse, self._phones, self._check.source, rows=rows)

    def answered(self, answers: pa.Table) -> None:
        """Count answers; call it once for each, before or after it is stored."""
        for one in pc.value_counts(answers.column("reason").drop_null()).to_pylist():
            self.result.reasons[one["values"]] += one["counts"]
        self._progress.add(answers.num_rows)

    def store(self, answers: pa.Table) -> None:
        """Keep answers and evidence, both or neither; at once, or when there are enough of them for a load."""
        self._waiting.append(answers)
        self._rows_waiting += answers.num_rows
        if self._rows_waiting >= self._rows_at_once:
            self.flush()

    def flush(self) -> None:
        """Keep what waits: no answer may be lost by an error or interrupt that comes after it."""
        waiting, self._waiting = self._waiting, []
        rows, self._rows_waiting = self._rows_waiting, 0
        if rows:
            with self._warehouse.session() as session:
                self._chain.store(session, pa.concat_tables(waiting))


@contextmanager
def asking(
    warehouse: Warehouse,
    ledger: Ledger,
    phones: Phones,
    check: Check,
    *,
    result: FlagReport,
    report: Callable[[str], None],
    rows_at_once: int,
) -> Iterator[FlagStep]:
    """Ask about the phones within the block; their answers are kept and sealed, also when it ends by an error.

    ``result`` is filled as far as the step comes. So many answers as ``rows_at_once`` are
    stored in one transaction: where the embedded engine holds a million verdicts, it writes
    most of them anew for each.
    """
    started = time.monotonic()
    late = seal_what_is_left(warehouse, ledger)
    result.chains_sealed_late, result.rows_sealed_late, result.chains_broken = late.chains, late.rows, late.broken
    with warehouse.session() as session:
        result.phones, result.asked = count_phones(session, phones, check.source)
    result.reused = result.phones - result.asked
    try:
        with sealed_chain(warehouse, ledger, check) as chain:
            step = FlagStep(warehouse, phones, check, chain, result=result, report=report, rows_at_once=rows_at_once)
            try:
                yield step
            finally:
                step.flush()
                result.evidence_rows, result.evidence_root = chain.end.rows, chain.end.root
        result.evidence_seal = chain.seal_entry
    finally:
        result.seconds = time.monotonic() - started


@contextmanager
def flag_step(
    warehouse: Warehouse,
    ledger: Ledger,
    contacts: Slice,
    check: Check,
    table: Table,
    *,
    renew: bool,
    report: Callable[[str], None],
    rows_at_once: int,
) -> Iterator[FlagStep]:
    """Ask within the block; when it ends well the evidence is sealed, and then the partition's flags are published.

    Raises:
        FailedError: the contacts were replaced by another run in the meantime.
    """
    started = time.monotonic()
    result = FlagReport()
    with asking(
        warehouse,
        ledger,
        phones_of(contacts, utc_now(), renew=renew),
        check,
        result=result,
        report=report,
        rows_at_once=rows_at_once,
    ) as step:
        yield step
    with warehouse.session() as session:
        details = {"phones": result.phones, "asked": result.asked}
        publish_flags(session, table, contacts, check, details=details, now=utc_now())
        result.verdicts, result.clear_without_evidence = verdict_counts(session, table, check)
    result.seconds = time.monotonic() - started
