"""The ledger's part in evidence: chains and their seals, what was pruned, and the telling of what happened.

It is the half of ``Ledger`` that money does not pass through. Evidence itself is in the
warehouse, and each decision here has its own module.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from sqlalchemy import Connection

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.ledger import evidence_roots, pruning, trace_reading
from leadscrub_pipeline.ledger.evidence_roots import Chain, Seal
from leadscrub_pipeline.ledger.owners import SweepCounts
from leadscrub_pipeline.ledger.pruning import Pruning
from leadscrub_pipeline.ledger.trace_reading import Lookup, Outcome, Seals


class EvidenceBook(ABC):
    """What ``Ledger`` inherits; it brings the transactions."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]: ...

    @abstractmethod
    def _writing(self, doing: str) -> AbstractContextManager[Connection]: ...

    @abstractmethod
    def _now(self) -> int: ...

    @abstractmethod
    def _bury_dead(self, connection: Connection) -> SweepCounts: ...

    # --- telling what happened ---------------------------------------------------------

    def lookups_with_ids(self, lookup_ids: Sequence[str]) -> list[Lookup]:
        with self._reading() as connection:
            return trace_reading.lookups_with_ids(connection, lookup_ids)

    def lookups_of_people(self, person_keys: Sequence[str]) -> list[Lookup]:
        """All requests about these people, the oldest first."""
        with self._reading() as connection:
            return trace_reading.lookups_of_people(connection, person_keys)

    def outcomes_of_run(self, run_id: str) -> list[Outcome]:
        with self._reading() as connection:
            return trace_reading.outcomes(connection, run_id=run_id)

    def outcomes_between(self, since: datetime, until: datetime) -> list[Outcome]:
        """Requests claimed from ``since`` to before ``until``, by state, reason and purpose."""
        with self._reading() as connection:
            return trace_reading.outcomes(connection, since=since, until=until)

    def reused_by_run(self, run_id: str) -> int:
        with self._reading() as connection:
            return trace_reading.reused_by_run(connection, run_id)

    def failed_lookups(self, since: datetime, until: datetime) -> Iterator[list[Lookup]]:
        """Requests of a time that failed or whose outcome is not known, in pages."""
        after: Lookup | None = None
        while True:
            with self._reading() as connection:
                page = trace_reading.failed_page(connection, since=since, until=until, after=after)
            if not page:
                return
            yield page
            after = page[-1]

    def seals_of_runs(self, run_ids: Sequence[str]) -> Seals:
        with self._reading() as connection:
            return trace_reading.seals_of_runs(connection, run_ids)

    # --- evidence past its time --------------------------------------------------------

    def mark_pruned(self, chains: Sequence[tuple[str, str, int]], *, before: str, reason: str | None) -> Pruning:
        """Mark sealed chains (run, asset, rows) as deleted; delete their rows after that."""
        with self._writing("marking evidence as pruned") as connection:
            return pruning.mark_pruned(connection, chains, before=before, reason=reason, now=self._now())

    def prunings(self) -> list[Pruning]:
        with self._reading() as connection:
            return pruning.prunings(connection)

    # --- chains of evidence ------------------------------------------------------------

    def open_chain(self, run_id: str, asset: str, partition_key: str) -> Chain:
        """Say that evidence of a run and asset is about to be written; call it before the first row."""
        with self._writing("opening a chain of evidence") as connection:
            chain = evidence_roots.open_chain(connection, run_id, asset, partition_key, now=self._now())
            failpoints.reached("chain.before_commit")
        failpoints.reached("chain.after_commit")
        return chain

    def seal_chain(self, run_id: str, asset: str, row_count: int, root: str) -> Seal | None:
        """Set down the hash of a chain's last row as its root and close the chain.

        Returns:
            The entry; the one there is when the same was sealed before, None for a chain that never had a row.

        Raises:
            FailedError: the chain was never opened, or the ledger sealed more rows or another root of it.
        """
        with self._writing("sealing evidence") as connection:
            seal = evidence_roots.seal(connection, run_id, asset, row_count, root, now=self._now())
            failpoints.reached("seal.before_commit")
        failpoints.reached("seal.after_commit")
        return seal

    def open_sealed_chain(
        self, run_id: str, asset: str, partition_key: str, *, row_count: int, root: str
    ) -> Seal | None:
        """Both at once: for rows that were there before there were chains."""
        with self._writing("sealing evidence") as connection:
            now = self._now()
            evidence_roots.open_chain(connection, run_id, asset, partition_key, now=now)
            seal = evidence_roots.seal(connection, run_id, asset, row_count, root, now=now)
            failpoints.reached("seal_of_old.before_commit")
        failpoints.reached("seal_of_old.after_commit")
        return seal

    def chain(self, run_id: str, asset: str) -> Chain | None:
        with self._reading() as connection:
            return evidence_roots.find_chain(connection, run_id, asset)

    def chains(self) -> list[Chain]:
        """Every chain that was opened, the oldest first."""
        with self._reading() as connection:
            return evidence_roots.all_chains(connection)

    def abandoned_chains(self) -> list[Chain]:
        """Chains of runs that ended without sealing what they wrote, the oldest first."""
        with self._writing("looking for unsealed evidence") as connection:
            self._bury_dead(connection)
            return evidence_roots.abandoned(connection)

    def roots(self) -> list[Seal]:
        """Every seal in the order they were set."""
        with self._reading() as connection:
            return evidence_roots.all_seals(connection)
