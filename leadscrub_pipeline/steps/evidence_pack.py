"""A safe-harbour pack: the evidence of a period as files for a lender's counsel (16 CFR 310.4(b)(3)(iv), 310.5).

Writes the files, whole or not at all. What is in the tables is read by
warehouse/evidence_period.py; how the report reads stands in evidence_report.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.ledger.evidence_roots import Chain, Seal
from leadscrub_pipeline.ledger.pruning import Pruning
from leadscrub_pipeline.ledger.trace_reading import Lookup
from leadscrub_pipeline.progress import Progress, Report
from leadscrub_pipeline.steps.evidence import EARLIER_ASSET, EARLIER_RUN
from leadscrub_pipeline.steps.evidence_report import render
from leadscrub_pipeline.steps.pack_facts import PackFacts, ProcessLine, Told
from leadscrub_pipeline.steps.pack_files import Columns, PackWriter, Row, WrittenFile, new_folder
from leadscrub_pipeline.warehouse.evidence_period import (
    CHECK_COLUMNS,
    UNKNOWN_COLUMNS,
    Period,
    PeriodFacts,
    Process,
    Sealing,
    SealsOf,
    check_pages,
    read_period,
    unknown_pages,
)
from leadscrub_pipeline.warehouse.own_lists import OWN_LISTS, entries_between
from leadscrub_pipeline.warehouse.protocol import Warehouse

REPORT: Final = "report.html"
MANIFEST: Final = "MANIFEST.csv"

_LISTS: Final[Columns] = {
    "source": "text",
    "version": "text",
    "obtained_at": "timestamp",
    "obtained_last": "timestamp",
    "first_use": "timestamp",
    "last_use": "timestamp",
    "days_old_at_last_use": "text",
    "cleared_too_late": "bool",
    "checks": "int",
    "listed": "int",
    "clear": "int",
    "unknown": "int",
}
_PROCESS: Final[Columns] = {
    "run_id": "text",
    "asset": "text",
    "script": "text",
    "script_hash": "text",
    "purpose": "text",
    "source": "text",
    "started_at": "timestamp",
    "ended_at": "timestamp",
    "checks": "int",
    "listed": "int",
    "clear": "int",
    "unknown": "int",
    "root": "text",
    "row_count": "int",
    "unsealed": "int",
    "seal_entry": "int",
    "sealed_at": "timestamp",
    "pruned_at": "timestamp",
}
_REASONS: Final[Columns] = {
    "source": "text",
    "reason": "text",
    "checks": "int",
    "phones": "int",
    "answered_since": "int",
    "first_checked_at": "timestamp",
    "last_checked_at": "timestamp",
}
_FAILURES: Final[Columns] = {
    "kind": "text",
    "at": "timestamp",
    "run_id": "text",
    "script": "text",
    "where": "text",
    "reason": "text",
    "http_status": "int",
    "checks": "int",
    "dollars_at_risk": "text",
    "lookup_id": "text",
}
_ROOTS: Final = ("root", "row_hash")
"""A hash over few rows gives the masked digits away to whoever tries them all; a masked pack goes without."""


@dataclass(frozen=True, slots=True)
class Pack:
    folder: Path
    files: tuple[WrittenFile, ...]
    facts: PackFacts


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What the ledger knows of chains and seals."""

    chains: tuple[Chain, ...]
    seals: dict[tuple[str, str], list[Seal]]
    prunings: tuple[Pruning, ...]

    def of(self, run_id: str | None, asset: str | None) -> list[Seal]:
        return self.seals.get((run_id or "", asset or ""), [])

    def over(self, process: Process) -> list[Sealing]:
        """The seals over a process's rows; what was made before evidence was chained has one for all of it."""
        if process.with_hash:
            return [
                Sealing(seal.row_count, seal.entry, seal.sealed_at) for seal in self.of(process.run_id, process.asset)
            ]
        earlier = self.of(EARLIER_RUN, EARLIER_ASSET)[-1:]
        return [Sealing(process.last_sequence, seal.entry, seal.sealed_at) for seal in earlier]


def write_pack(
    warehouse: Warehouse,
    ledger: Ledger | None,
    folder: Path,
    *,
    since: datetime,
    until: datetime,
    masked: bool,
    kind: str,
    verified: Told,
    report: Report,
) -> Pack:
    """Write the pack of a period; ``folder`` is there with every file, or as it was.

    Args:
        warehouse: where the evidence is.
        ledger: for lookups and seals; None when there never was one.
        folder: made, or there and empty. Mode 0700, its files 0600.
        since: aware; checks made from then on.
        until: aware; checks made before then.
        masked: no whole phone in any file, and no hash from which one could be found.
        kind: demo or live, for the report.
        verified: what verifying all evidence found, for the report.
        report: told of the progress.

    Raises:
        UsageError: the folder is not empty, or cannot be one.
        UnavailableError: a file cannot be written.
        FailedError: a run stored checks of this period meanwhile.
    """
    made_at = utc_now()
    period = Period(since, until)
    report("Reading sums")
    with warehouse.session() as session:
        facts = read_period(session, period)
    sealed = _read_seals(ledger)
    lookups = () if ledger is None else tuple(ledger.outcomes_between(since, until))
    lines = _process_lines(facts, sealed, period)
    with new_folder(folder) as beside:
        writer = PackWriter(beside)
        writer.csv("list_versions.csv", _LISTS, _list_rows(facts))
        checks = writer.pages(
            "checks.csv",
            [name for name in CHECK_COLUMNS if not (masked and name in _ROOTS)],
            _checks(warehouse, period, facts, sealed.over, masked=masked, report=report),
        )
        writer.csv("process_log.csv", _PROCESS, (_process_row(line, masked=masked) for line in lines))
        unknown_checks = sum(reason.checks for reason in facts.unknowns)
        if masked:
            writer.csv("unknowns.csv", _REASONS, _reason_rows(facts))
        else:
            counted = _Sum()
            writer.pages("unknowns.csv", UNKNOWN_COLUMNS, counted.over(unknown_pages(warehouse, period), "checks"))
            unknown_checks -= counted.total
        if checks.rows != facts.checks or (not masked and unknown_checks != 0):
            raise FailedError(
                "A run stored checks of this period while the pack was written, so its sums would not agree. "
                "Nothing was written; export again when the run is over."
            )
        for own in OWN_LISTS:
            entries = entries_between(warehouse, own, since, until)
            pages = map(_with_masked_phones, entries) if masked else entries
            writer.pages(f"{own.asset}.csv", own.table.column_names, pages)
        writer.csv("failures.csv", _FAILURES, _failure_rows(facts, lines, ledger, period))
        told = PackFacts(
            since=since,
            until=until,
            made_at=made_at,
            kind=kind,
            masked=masked,
            period=facts,
            process=tuple(lines),
            lookups=lookups,
            prunings=sealed.prunings,
            pruned_chains=tuple(chain for chain in sealed.chains if chain.pruned_at is not None),
            verified=verified,
            files=tuple(writer.files),
        )
        writer.text(REPORT, render(told))
        writer.csv(MANIFEST, {"file": "text", "sha256": "text", "rows": "int"}, _manifest_rows(writer.files))
        return Pack(folder, tuple(writer.files), told)


# --- what goes into the files -----------------------------------------------------------


def _read_seals(ledger: Ledger | None) -> _Sealed:
    if ledger is None:
        return _Sealed((), {}, ())
    seals: dict[tuple[str, str], list[Seal]] = {}
    for seal in ledger.roots():
        seals.setdefault((seal.run_id, seal.asset), []).append(seal)
    return _Sealed(tuple(ledger.chains()), seals, tuple(ledger.prunings()))


def _process_lines(facts: PeriodFacts, sealed: _Sealed, period: Period) -> list[ProcessLine]:
    """What each run and asset checked, and the chains of this time whose rows were deleted since."""
    chains = {(chain.run_id, chain.asset): chain for chain in sealed.chains}
    lines = [_process_line(process, chains, sealed) for process in facts.process]
    there = {(process.run_id, process.asset) for process in facts.process}
    for chain in sealed.chains:
        is_ours = period.since <= chain.opened_at < period.until
        if chain.pruned_at is not None and is_ours and (chain.run_id, chain.asset) not in there:
            lines.append(_pruned_line(chain, sealed))
    return lines


def _process_line(process: Process, chains: Mapping[tuple[str, str], Chain], sealed: _Sealed) -> ProcessLine:
    chain = chains.get((process.run_id or "", process.asset or ""))
    seals = sealed.over(process)
    covered = max((seal.rows for seal in seals), default=0)
    return ProcessLine(
        run_id=process.run_id,
        asset=process.asset,
        script=process.script,
        script_hash=process.script_hash,
        purpose=process.purpose,
        source=process.source,
        started_at=process.started_at,
        ended_at=process.ended_at,
        checks=process.checks,
        listed=process.listed,
        clear=process.clear,
        unknown=process.unknown,
        row_count=covered,
        unsealed=max(0, process.last_sequence - max(covered, process.first_sequence - 1)),
        root=chain.root if chain is not None and seals else None,
        seal_entry=seals[-1].entry if seals else None,
        sealed_at=seals[-1].sealed_at.replace(tzinfo=None) if seals else None,
        pruned_at=None if chain is None or chain.pruned_at is None else chain.pruned_at.replace(tzinfo=None),
    )


def _pruned_line(chain: Chain, sealed: _Sealed) -> ProcessLine:
    seals = sealed.of(chain.run_id, chain.asset)
    opened = chain.opened_at.replace(tzinfo=None)
    return ProcessLine(
        run_id=chain.run_id,
        asset=chain.asset,
        script=chain.partition_key,
        script_hash=None,
        purpose=None,
        source=None,
        started_at=opened,
        ended_at=opened,
        checks=0,
        listed=0,
        clear=0,
        unknown=0,
        row_count=chain.row_count,
        unsealed=0,
        root=chain.root,
        seal_entry=seals[-1].entry if seals else None,
        sealed_at=seals[-1].sealed_at.replace(tzinfo=None) if seals else None,
        pruned_at=chain.pruned_at.replace(tzinfo=None) if chain.pruned_at is not None else None,
    )


def _process_row(line: ProcessLine, *, masked: bool) -> Row:
    row = {name: getattr(line, name) for name in _PROCESS}
    return {**row, "root": None} if masked else row


def _list_rows(facts: PeriodFacts) -> Iterator[Row]:
    for version in facts.versions:
        age = version.age_at_last_use
        yield {
            "source": version.source,
            "version": version.version,
            "obtained_at": version.obtained_first,
            "obtained_last": version.obtained_last,
            "first_use": version.first_use,
            "last_use": version.last_use,
            "days_old_at_last_use": None if age is None else f"{age.total_seconds() / 86_400:.2f}",
            "cleared_too_late": version.has_cleared_too_late,
            "checks": version.checks,
            "listed": version.listed,
            "clear": version.clear,
            "unknown": version.unknown,
        }


def _reason_rows(facts: PeriodFacts) -> Iterator[Row]:
    for reason in facts.unknowns:
        yield {
            "source": reason.source,
            "reason": reason.reason,
            "checks": reason.checks,
            "phones": reason.phones,
            "answered_since": reason.answered_since,
            "first_checked_at": reason.first,
            "last_checked_at": reason.last,
        }


def _checks(
    warehouse: Warehouse, period: Period, facts: PeriodFacts, seals_of: SealsOf, *, masked: bool, report: Report
) -> Iterator[pa.Table]:
    progress = Progress(report, noun="checks", total=facts.checks)
    for page in check_pages(warehouse, period, facts.process, seals_of):
        progress.add(page.num_rows)
        yield _masked(page) if masked else page


def _masked(page: pa.Table) -> pa.Table:
    """The same rows with masked phones, and without what would give them away."""
    return _with_masked_phones(page).drop_columns(["row_hash"])


def _with_masked_phones(page: pa.Table) -> pa.Table:
    """The same rows with phones as ``mask_phone`` shows them."""
    phones = page.column("phone")
    short = pc.binary_join_element_wise(
        pc.utf8_slice_codeunits(phones, 0, 3), "-***-**", pc.utf8_slice_codeunits(phones, 8, 10), ""
    )
    shown = pc.if_else(pc.equal(pc.utf8_length(phones), 10), short, pc.if_else(pc.is_valid(phones), "***", None))
    place = page.column_names.index("phone")
    return page.set_column(place, "phone", shown)


def _failure_rows(
    facts: PeriodFacts, lines: Sequence[ProcessLine], ledger: Ledger | None, period: Period
) -> Iterator[Row]:
    empty: dict[str, object] = dict.fromkeys(_FAILURES)
    for batch in facts.unanswered:
        yield empty | {
            "kind": "batch_unknown",
            "at": batch.checked_at,
            "run_id": batch.run_id,
            "script": batch.script,
            "where": f"{batch.asset} ({batch.source})",
            "reason": batch.reason,
            "checks": batch.checks,
        }
    for line in lines:
        if line.unsealed:
            yield empty | {
                "kind": "chain_unsealed",
                "at": line.ended_at,
                "run_id": line.run_id,
                "script": line.script,
                "where": line.asset,
                "reason": "the next run of any script seals it",
                "checks": line.unsealed,
            }
    for page in () if ledger is None else ledger.failed_lookups(period.since, period.until):
        for lookup in page:
            yield {**empty, **_lookup_row(lookup)}


def _lookup_row(lookup: Lookup) -> Row:
    failed = lookup.state == "failed"
    return {
        "kind": "lookup_failed" if failed else "lookup_unknown",
        "at": lookup.sent_at or lookup.claimed_at,
        "run_id": lookup.run_id,
        "script": lookup.script,
        "where": lookup.provider,
        "reason": lookup.reason or ("in flight" if lookup.state == "sent" else None),
        "http_status": lookup.http_status,
        "dollars_at_risk": None if failed else str(lookup.price),
        "lookup_id": lookup.lookup_id,
    }


def _manifest_rows(files: Iterable[WrittenFile]) -> list[Row]:
    return [{"file": file.name, "sha256": file.sha256, "rows": file.rows} for file in files]


class _Sum:
    """Adds up a column of pages that pass by."""

    def __init__(self) -> None:
        self.total = 0

    def over(self, pages: Iterable[pa.Table], name: str) -> Iterator[pa.Table]:
        for page in pages:
            self.total += pc.sum(page.column(name)).as_py() or 0
            yield page
