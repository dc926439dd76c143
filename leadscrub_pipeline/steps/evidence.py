"""A step's evidence between warehouse and ledger: its chain is opened before the first row and sealed at the end.

What runs that died left unsealed is sealed here, too. Whether sealed evidence is still what it
was is for evidence_verification.py to say.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.errors import FailedError, LeadscrubError
from leadscrub_pipeline.ledger import Chain, Ledger
from leadscrub_pipeline.warehouse.evidence import (
    ChainEnd,
    Extent,
    by_chain,
    extents,
    find_end,
    pages,
    pages_after,
)
from leadscrub_pipeline.warehouse.phone_verdicts import Check, store_answers
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse

EARLIER_RUN: Final = "before chains"
EARLIER_ASSET: Final = "scrub_evidence"
"""Under these names the ledger seals, once, what stood in the table before evidence was chained."""


@dataclass(frozen=True, slots=True)
class SealedLate:
    """What a step found unsealed when it began. ``broken`` chains do not follow from what is sealed of them."""

    chains: int = 0
    rows: int = 0
    broken: int = 0


class EvidenceChain:
    """The chain of one run and asset: it goes on where an earlier attempt of the step left it.

    Raises:
        FailedError: the warehouse has not what the ledger sealed of this chain.
    """

    def __init__(self, warehouse: Warehouse, ledger: Ledger, check: Check) -> None:
        self._warehouse = warehouse
        self._ledger = ledger
        self._check = check
        self._end_is_known = True
        self._is_open = False
        self.seal_entry = 0
        known = ledger.chain(check.run_id, check.asset)
        if known is None:
            self.end = ChainEnd.none_yet(check.run_id, check.asset)
            return
        with warehouse.session() as session:
            self.end = find_end(session, check.run_id, check.asset)
        if self.end.rows < known.row_count:
            raise FailedError(
                f"{known.row_count:,} rows of evidence of {check.asset} in run {check.run_id} are sealed and "
                f"{self.end.rows:,} are there. Run leadscrub evidence verify, and start a new run."
            )
        self._is_open = known.is_open

    def store(self, session: Session, answers: pa.Table) -> None:
        """Keep the answers and their evidence, both or neither."""
        self.extend(lambda end: store_answers(session, self._check, end, answers))

    def extend(self, write: Callable[[ChainEnd], ChainEnd]) -> None:
        """Have rows written that follow the chain's end, all or none of them; ``write`` gives the new end."""
        if not self._is_open:
            self._ledger.open_chain(self._check.run_id, self._check.asset, self._check.partition_key)
            self._is_open = True
        # An error or interrupt may come when the rows are committed already.
        self._end_is_known = False
        self.end = write(self.end)
        self._end_is_known = True

    def seal(self) -> None:
        """Set down the last hash in the ledger; a chain without a row needs none."""
        if not self._end_is_known:
            with self._warehouse.session() as session:
                self.end = find_end(session, self.end.run_id, self.end.asset)
        if self.end.rows or self._is_open:
            made = self._ledger.seal_chain(self.end.run_id, self.end.asset, self.end.rows, self.end.root)
            self.seal_entry = made.entry if made is not None else 0
            self._is_open = False


@contextmanager
def sealed_chain(warehouse: Warehouse, ledger: Ledger, check: Check) -> Iterator[EvidenceChain]:
    """The step's chain; it is sealed when the block ends, also by an error or interrupt, if the ledger answers."""
    chain = EvidenceChain(warehouse, ledger, check)
    try:
        yield chain
    except BaseException:
        with suppress(LeadscrubError):  # what ended the step matters more; the next run seals
            chain.seal()
        raise
    chain.seal()


def seal_what_is_left(warehouse: Warehouse, ledger: Ledger) -> SealedLate:
    """Seal what runs that ended by a kill left unsealed, and once what is older than the chains."""
    _seal_earlier(warehouse, ledger)
    count = rows = broken = 0
    for chain in ledger.abandoned_chains():
        try:
            end = _follow(warehouse, chain)
            ledger.seal_chain(chain.run_id, chain.asset, end.rows, end.root)
        except FailedError:
            broken += 1
            continue
        count += end.rows > chain.row_count
        rows += end.rows - chain.row_count
    return SealedLate(count, rows, broken)


def _follow(warehouse: Warehouse, chain: Chain) -> ChainEnd:
    """The end of a chain's rows behind the sealed ones, if each follows from the one before."""
    end = ChainEnd(chain.run_id, chain.asset, chain.row_count, chain.root)
    for page in pages_after(warehouse, chain.run_id, chain.asset, chain.row_count):
        linked, next_end = end.linked(page.drop_columns(["canonical", "row_hash"]))
        follow_on = list(range(end.rows + 1, end.rows + 1 + page.num_rows))
        if page.column("sequence").to_pylist() != follow_on or not linked.equals(page):
            raise FailedError(
                f"The evidence of {chain.asset} in run {chain.run_id} does not follow from what is sealed."
            )
        end = next_end
    return end


def _seal_earlier(warehouse: Warehouse, ledger: Ledger) -> None:
    """Evidence that an older release wrote has no hashes: its texts, as they are now, are sealed as one."""
    if ledger.chain(EARLIER_RUN, EARLIER_ASSET) is not None:
        return
    with warehouse.session() as session:
        old = [extent for extent in extents(session) if is_earlier(extent)]
    ends: dict[tuple[str, str], ChainEnd] = {}
    for page in pages(warehouse, old):
        add_earlier(ends, page)
    rows, root = earlier_root(ends.values())
    ledger.open_sealed_chain(EARLIER_RUN, EARLIER_ASSET, "*", row_count=rows, root=root)


def is_earlier(extent: Extent) -> bool:
    """Whether the rows were made before there were chains, as far as they say."""
    return extent.with_hash == 0 and extent.run_id is not None and extent.asset is not None


def add_earlier(ends: dict[tuple[str, str], ChainEnd], page: pa.Table) -> None:
    """Take a page of rows without hashes to what was read of each run and asset before."""
    plain = page.drop_columns(["canonical", "row_hash"])
    for run_id, asset, start, stop in by_chain(page):
        end = ends.get((run_id, asset)) or ChainEnd.none_yet(run_id, asset)
        _, ends[run_id, asset] = end.linked(plain.slice(start, stop - start))


def earlier_root(ends: Iterable[ChainEnd]) -> tuple[int, str]:
    """Rows, and one hash over the ends of all chains of rows without hashes, whatever their order."""
    ordered = sorted(ends, key=lambda end: (end.run_id, end.asset))
    if not ordered:
        nothing = ChainEnd.none_yet(EARLIER_RUN, EARLIER_ASSET)
        return 0, nothing.root
    lines = "".join(f"{end.run_id}|{end.asset}|{end.rows}|{end.root}\n" for end in ordered)
    return sum(end.rows for end in ordered), sha256(lines.encode()).hexdigest()
