"""Verification: whether the evidence in the warehouse is, row by row, what the ledger sealed.

Reads both and changes neither. How rows and chains are made stands in warehouse/evidence.py.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from leadscrub_pipeline.domain.chains import beginning, links
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.ledger import Chain, Ledger, Seal
from leadscrub_pipeline.ledger.evidence_roots import NO_SEAL
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.steps.evidence import EARLIER_ASSET, EARLIER_RUN, add_earlier, earlier_root, is_earlier
from leadscrub_pipeline.warehouse.evidence import ChainEnd, Extent, as_bytes, by_chain, canonical, extents, pages
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse
from leadscrub_pipeline.warehouse.schema import PHONE_VERDICTS, SCRUB_EVIDENCE

FINDINGS_KEPT: Final = 1_000
_EARLIER: Final = (EARLIER_RUN, EARLIER_ASSET)

Key = tuple[str, str]
"""Run and asset: the name of a chain."""

_NOT_BORNE_OUT: Final = f"""
SELECT v.source, v.checked_at, COUNT(*)
FROM {PHONE_VERDICTS.full_name} AS v
WHERE v.verdict = 'clear' AND v.valid_until > ?
  AND NOT EXISTS (
    SELECT 1 FROM {SCRUB_EVIDENCE.full_name} AS e
    WHERE e.phone = v.phone AND e.source = v.source AND e.verdict = 'clear'
      AND e.checked_at = v.checked_at AND e.valid_until = v.valid_until
  )
GROUP BY v.source, v.checked_at
ORDER BY v.source, v.checked_at
"""

_CLEAR: Final = f"SELECT COUNT(*) FROM {PHONE_VERDICTS.full_name} WHERE verdict = 'clear' AND valid_until > ?"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written. Holds no personal data."""

    kind: str
    run_id: str | None
    asset: str | None
    sequence: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Unsealed:
    """Rows that no root covers yet; the next run seals those of a run that ended."""

    run_id: str
    asset: str
    rows: int


@dataclass(slots=True)
class Verification:
    """What was read and what was found. ``findings`` are the first; ``kinds`` counts all of them."""

    rows: int = 0
    chains: int = 0
    seals: int = 0
    verdicts: int = 0
    """Clear, unexpired verdicts that were compared with the evidence."""
    earlier_rows: int = 0
    """Rows that were made before evidence was chained."""
    earlier_sealed: bool = True
    """Whether those are sealed as they were found; the next run does it."""
    pruned_chains: int = 0
    unsealed: list[Unsealed] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def is_sound(self) -> bool:
        return not self.kinds

    @property
    def unsealed_rows(self) -> int:
        return sum(one.rows for one in self.unsealed)

    def add(self, kind: str, text: str, key: tuple[str | None, str | None], sequence: int | None = None) -> None:
        self.kinds[kind] += 1
        if len(self.findings) < FINDINGS_KEPT:
            run_id, asset = key
            self.findings.append(Finding(kind, run_id, asset, sequence, text))


def verify(warehouse: Warehouse, ledger: Ledger, *, report: Callable[[str], None]) -> Verification:
    """Read all evidence once and hold it against the ledger's seals, and the clear verdicts against the evidence.

    Runs may be at work meanwhile: what they write after the count is left out. Memory is that of
    a page of rows, and a little for each chain and seal.

    Args:
        warehouse: where the rows are.
        ledger: where the seals are; one opened for reading will do.
        report: is given a line of progress now and then.
    """
    started = time.monotonic()
    result = Verification()
    sealed, seals = _read_ledger(ledger)
    with warehouse.session() as session:
        found = extents(session)
    # A chain is opened before its first row: what was counted is known to the ledger by now.
    chains = {(chain.run_id, chain.asset): chain for chain in ledger.chains()}
    result.seals = len(seals)
    _check_seals(seals, result)
    by_key = _seals_by_chain(seals)
    _check_chains(sealed, by_key, result)
    _check_prunings(chains.values(), {pruning.pruned_at for pruning in ledger.prunings()}, result)
    wanted = _check_extents(found, sealed, chains, result)
    _check_rows(warehouse, wanted, chains, by_key, result, report)
    with warehouse.session() as session:
        _check_verdicts(session, result)
    result.seconds = time.monotonic() - started
    return result


def _read_ledger(ledger: Ledger) -> tuple[dict[Key, Chain], list[Seal]]:
    """Chains and seals of one moment."""
    chains = ledger.chains()
    while True:
        seals = ledger.roots()
        again = ledger.chains()
        if again == chains:
            return {(chain.run_id, chain.asset): chain for chain in chains}, seals
        chains = again


# --- the ledger by itself ----------------------------------------------------------------


def _check_seals(seals: Sequence[Seal], result: Verification) -> None:
    entry, previous = 0, NO_SEAL
    for seal in seals:
        key = (seal.run_id, seal.asset)
        if seal.entry != entry + 1:
            result.add("seal_missing", f"Between the ledger's entries {entry} and {seal.entry} seals are missing.", key)
        elif seal.previous != previous:
            result.add("seal_broken", f"The ledger's entry {seal.entry} does not hold the hash of the one before.", key)
        if not seal.is_intact:
            result.add("seal_edited", f"The ledger's entry {seal.entry} was changed: its hash is another one.", key)
        entry, previous = seal.entry, seal.entry_hash


def _seals_by_chain(seals: Iterable[Seal]) -> dict[Key, list[Seal]]:
    found: dict[Key, list[Seal]] = {}
    for seal in seals:
        found.setdefault((seal.run_id, seal.asset), []).append(seal)
    return found


def _check_chains(chains: Mapping[Key, Chain], seals: Mapping[Key, Sequence[Seal]], result: Verification) -> None:
    """What the ledger says of a chain is what its last seal says."""
    for key in seals:
        if key not in chains:
            result.add(
                "chain_missing", "The ledger has seals of this chain, and the chain itself is gone from it.", key
            )
    for key, chain in chains.items():
        last = seals.get(key, ())[-1:]
        expected = (last[0].row_count, last[0].root) if last else (0, beginning(*key))
        if (chain.row_count, chain.root) != expected:
            result.add(
                "chain_and_seal_differ",
                f"The ledger has {chain.row_count:,} rows of this chain as sealed, and its last seal says "
                f"{expected[0]:,}, or another root.",
                key,
            )


def _check_prunings(chains: Iterable[Chain], decided: set[object], result: Verification) -> None:
    for chain in chains:
        if chain.pruned_micros is not None:
            result.pruned_chains += 1
            if chain.pruned_at not in decided:
                key = (chain.run_id, chain.asset)
                result.add("pruned_by_nobody", "The chain is marked as pruned, and no pruning is recorded.", key)


# --- what the warehouse has, counted ------------------------------------------------------


def _check_extents(
    found: Sequence[Extent], sealed: Mapping[Key, Chain], chains: Mapping[Key, Chain], result: Verification
) -> list[Extent]:
    """Compare counts, and return what is to be read."""
    wanted = []
    present = set()
    for extent in found:
        if extent.run_id is None or extent.asset is None:
            result.add("nameless", f"{extent.rows:,} rows name no run or no asset.", (extent.run_id, extent.asset))
            continue
        key = (extent.run_id, extent.asset)
        present.add(key)
        chain = chains.get(key)
        if chain is None and not is_earlier(extent):
            result.add("not_in_ledger", f"The ledger knows no such chain, and {extent.rows:,} rows are there.", key)
            continue
        wanted.append(extent)
        if extent.in_sequence < extent.rows:
            count = extent.rows - extent.in_sequence
            result.add("out_of_place", f"{count:,} rows have no place: their sequence is no number from 1.", key)
        if chain is not None:
            _check_extent(extent, key, chain, sealed.get(key), result)
    for key, chain in sealed.items():
        if chain.row_count and key not in present and key != _EARLIER and not _is_pruned(chains.get(key)):
            result.add("rows_gone", f"{chain.row_count:,} rows are sealed, and none of them is there.", key)
    result.chains = len(wanted)
    return wanted


def _is_pruned(chain: Chain | None) -> bool:
    return chain is not None and chain.pruned_micros is not None


def _check_extent(extent: Extent, key: Key, chain: Chain, sealed: Chain | None, result: Verification) -> None:
    if chain.pruned_micros is not None:
        result.add(
            "pruned_and_present",
            f"The chain is marked as pruned, and {extent.rows:,} rows are there. Run leadscrub evidence prune again.",
            key,
        )
    if sealed is not None and extent.last < sealed.row_count:
        result.add(
            "cut",
            f"{sealed.row_count:,} rows are sealed, and the chain ends at {extent.last:,}.",
            key,
            extent.last + 1,
        )
    behind = extent.last - chain.row_count
    if behind > 0 and chain.is_open:
        result.unsealed.append(Unsealed(*key, behind))
    elif behind > 0:
        result.add(
            "behind_the_seal",
            f"The chain was closed with {chain.row_count:,} rows, and more stand behind them.",
            key,
            chain.row_count + 1,
        )
    if {extent.first_partition, extent.last_partition} != {chain.partition_key}:
        result.add("other_partition", "Rows of the chain name another partition than the ledger.", key)


# --- every row ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Page:
    """Columns of a page as lists; ``same`` says where the stored text is that of the columns."""

    chains: list[tuple[str, str, int, int]]
    """Run, asset, first row and end of each chain's rows."""
    sequences: list[int]
    texts: list[bytes]
    same: list[bool]
    hashes: list[str | None]
    is_whole: bool

    @classmethod
    def of(cls, page: pa.Table) -> "_Page":
        made = canonical(page)
        stored = page.column("canonical").combine_chunks()
        hashes = page.column("row_hash").combine_chunks()
        same = pc.fill_null(pc.equal(made, stored), False)
        is_whole = pc.all(same).as_py() and hashes.null_count == 0
        return cls(
            chains=list(by_chain(page)),
            sequences=page.column("sequence").to_numpy().tolist(),
            texts=as_bytes(made if is_whole else pc.coalesce(stored, made)),
            same=[] if is_whole else same.to_pylist(),
            hashes=hashes.to_numpy(zero_copy_only=False).tolist(),
            is_whole=is_whole,
        )


@dataclass(slots=True)
class _Reader:
    """How far one chain was read: the last sequence, and the hash that the next row follows."""

    key: Key
    result: Verification
    seals: list[Seal]
    sequence: int
    root: str | None

    def read(self, page: _Page, start: int, stop: int) -> None:
        sequences = page.sequences[start:stop]
        if not self._is_sound(page, start, stop, sequences):
            for index in range(start, stop):
                self._read_row(page, index)
        self._compare_seals(page, start, sequences)

    def _is_sound(self, page: _Page, start: int, stop: int, sequences: list[int]) -> bool:
        """All rows at once, as nearly all chains are."""
        if not page.is_whole or self.root is None:
            return False
        if sequences != list(range(self.sequence + 1, self.sequence + 1 + len(sequences))):
            return False
        expected = links(self.root, page.texts[start:stop])
        if expected != "".join(page.hashes[start:stop]):  # type: ignore[arg-type]  # a whole page has no NULL
            return False
        self.sequence, self.root = sequences[-1], expected[-64:]
        return True

    def _read_row(self, page: _Page, index: int) -> None:
        sequence, stored = page.sequences[index], page.hashes[index]
        if sequence <= self.sequence:
            self._add("doubled", f"There is more than one row {sequence}.", sequence)
            return
        if sequence > self.sequence + 1:
            missing = (
                f"row {sequence - 1}"
                if sequence == self.sequence + 2
                else f"rows {self.sequence + 1} to {sequence - 1}"
            )
            self._add("missing", f"The chain lacks {missing}.", self.sequence + 1)
            self.root = None  # what the next row follows is gone with them
        if not page.is_whole and not page.same[index]:
            self._add("edited", f"The columns of row {sequence} do not say what its text says.", sequence)
        expected = None if self.root is None else links(self.root, [page.texts[index]])
        if expected is not None and expected != stored:
            self._add("broken", f"The hash of row {sequence} is not that of its text and the row before.", sequence)
        self.sequence, self.root = sequence, stored if _is_hash(stored) else expected

    def _compare_seals(self, page: _Page, start: int, sequences: list[int]) -> None:
        """What is sealed up to here; where the row itself is missing, that was said."""
        while self.seals and self.seals[0].row_count <= self.sequence:
            seal = self.seals.pop(0)
            if seal.row_count in sequences:
                stored = page.hashes[start + sequences.index(seal.row_count)]
                if stored != seal.root:
                    text = (
                        f"The hash of row {seal.row_count} is not the root sealed as the ledger's entry {seal.entry}."
                    )
                    self._add("root_differs", text, seal.row_count)

    def _add(self, kind: str, text: str, sequence: int) -> None:
        self.result.add(kind, text, self.key, sequence)


def _is_hash(text: str | None) -> bool:
    return text is not None and len(text) == 64 and set(text) <= set("0123456789abcdef")


def _check_rows(
    warehouse: Warehouse,
    wanted: Sequence[Extent],
    chains: Mapping[Key, Chain],
    seals: Mapping[Key, Sequence[Seal]],
    result: Verification,
    report: Callable[[str], None],
) -> None:
    progress = Progress(report, noun="rows of evidence", total=sum(extent.rows for extent in wanted))
    chained = [extent for extent in wanted if (extent.run_id, extent.asset) in chains]
    reader: _Reader | None = None
    for page in _ahead(map(_Page.of, pages(warehouse, chained))):
        for run_id, asset, start, stop in page.chains:
            key = (run_id, asset)
            if reader is None or reader.key != key:
                pending = sorted(seals.get(key, ()), key=lambda seal: seal.row_count)
                reader = _Reader(key, result, pending, 0, beginning(*key))
            reader.read(page, start, stop)
        result.rows += len(page.sequences)
        progress.add(len(page.sequences))
    ends: dict[Key, ChainEnd] = {}
    for table in pages(warehouse, [extent for extent in wanted if (extent.run_id, extent.asset) not in chains]):
        add_earlier(ends, table)
        result.rows += table.num_rows
        progress.add(table.num_rows)
    _check_earlier(ends.values(), chains.get(_EARLIER), result)


def _ahead(pages: Iterator[_Page]) -> Iterator[_Page]:
    """One page is read while the one before is hashed."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="evidence") as reading:
        following = reading.submit(next, pages, None)
        while (page := following.result()) is not None:
            following = reading.submit(next, pages, None)
            yield page


def _check_earlier(ends: Iterable[ChainEnd], sealed: Chain | None, result: Verification) -> None:
    rows, root = earlier_root(ends)
    result.earlier_rows, result.earlier_sealed = rows, sealed is not None
    if sealed is not None and (rows, root) != (sealed.row_count, sealed.root):
        result.add(
            "earlier_changed",
            f"{sealed.row_count:,} rows without a hash were sealed as made before evidence was chained; {rows:,} are "
            "there, or they are not the same.",
            _EARLIER,
        )


def _check_verdicts(session: Session, result: Verification) -> None:
    now = utc_now()
    result.verdicts = int(session.rows(_CLEAR, [now])[0][0])
    for source, checked_at, count in session.rows(_NOT_BORNE_OUT, [now]):
        result.add(
            "not_borne_out",
            f"{count:,} clear verdicts of {source}, checked at {checked_at} UTC, have no row of evidence.",
            (None, None),
        )
