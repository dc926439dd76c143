"""Which backfills came to an end, and what became of them: from Dagster's storage and the ledger.

How a digest is worded, and whether it is sent, does not belong here.
"""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
import orjson

from leadscrub_pipeline.assets import master_processed_db
from leadscrub_pipeline.deployment import read_ledger
from leadscrub_pipeline.domain.alerts import BackfillFacts, Spending
from leadscrub_pipeline.errors import LeadscrubError

if TYPE_CHECKING:
    from leadscrub_pipeline.settings import Settings

LATEST: Final = 20
"""Backfills that one tick looks at: more do not begin within a minute."""
REMEMBERED: Final = 200
RUNS: Final = 5_000
_PAGE: Final = 500

Backfill = Any
"""Dagster exports no type of it."""

_ENDED: Final = frozenset({"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"})


class Backfills:
    """Which backfills were seen, and which of them have not come to an end: what the cursor holds."""

    def __init__(self, seen: Sequence[str] = (), waiting: Sequence[str] = (), *, is_first: bool = True) -> None:
        self._seen = list(seen)
        self._waiting = list(waiting)
        self._is_first = is_first

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Backfills":
        try:
            held = orjson.loads(cursor or "")
            return cls([str(key) for key in held["seen"]], [str(key) for key in held["waiting"]], is_first=False)
        except (ValueError, TypeError, KeyError):
            return cls()

    def to_cursor(self) -> str:
        return orjson.dumps({"seen": self._seen[-REMEMBERED:], "waiting": self._waiting[-REMEMBERED:]}).decode()

    def look(self, instance: dg.DagsterInstance) -> list[Backfill]:
        """Backfills that have come to an end since the last look; the first look finds none."""
        latest = {backfill.backfill_id: backfill for backfill in instance.get_backfills(limit=LATEST)}
        new = [key for key in reversed(latest) if key not in self._seen]
        candidates = [*self._waiting, *new]
        self._seen += new
        ended, self._waiting = [], []
        for key in candidates:
            backfill = latest.get(key) or instance.get_backfill(key)
            if backfill is None:
                continue
            if backfill.status.value not in _ENDED:
                self._waiting.append(key)
            elif not self._is_first:
                ended.append(backfill)
        self._is_first = False
        return ended


def facts_of(backfill: Backfill, instance: dg.DagsterInstance, settings: "Settings") -> BackfillFacts:
    mine = dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id})
    run_ids = set(instance.get_run_ids(mine, limit=RUNS))
    # The latest run of each partition: one that failed and was repeated counts as it ended.
    latest = {data.partition: data.status for data in instance.get_run_partition_data(mine)}
    failed = tuple(sorted(key for key, status in latest.items() if status is dg.DagsterRunStatus.FAILURE))
    succeeded = sum(status is dg.DagsterRunStatus.SUCCESS for status in latest.values())
    return BackfillFacts(
        backfill_id=backfill.backfill_id,
        title=backfill.title,
        status=backfill.status.value,
        succeeded=succeeded,
        failed=failed,
        canceled=len(latest) - succeeded - len(failed),
        not_started=max(_targeted(backfill) - len(latest), 0),
        leads_published=_published(instance, run_ids, since=backfill.backfill_timestamp),
        spending=_spending(settings, run_ids),
        ui_url=settings.leadscrub_ui_url,
    )


def _targeted(backfill: Backfill) -> int:
    """Partitions that the backfill was to run; 0 when it does not say."""
    if backfill.partition_names is not None:
        return len(backfill.partition_names)
    data = backfill.asset_backfill_data
    subsets: Mapping[Any, Collection[str]] = {} if data is None else data.target_subset.partitions_subsets_by_asset_key
    return max(map(len, subsets.values()), default=0)


def _published(instance: dg.DagsterInstance, run_ids: set[str], *, since: float) -> int:
    wanted = dg.AssetRecordsFilter(asset_key=master_processed_db.key, after_timestamp=since)
    total, read, cursor, more = 0, 0, None, bool(run_ids)
    while more and read < RUNS:
        page = instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
        cursor, more, read = page.cursor, page.has_more, read + len(page.records)
        for record in page.records:
            if record.run_id in run_ids and record.asset_materialization is not None:
                published = record.asset_materialization.metadata.get("published")
                if isinstance(published, dg.IntMetadataValue):
                    total += published.value or 0
    return total


def _spending(settings: "Settings", run_ids: set[str]) -> Spending | None:
    """Of all its runs, those that failed too; None when the ledger cannot be read."""
    try:
        with read_ledger(settings) as ledger:
            if ledger is None:
                return Spending(0, Decimal(0))
            spent = ledger.lookups_of_runs(sorted(run_ids))
    except (LeadscrubError, OSError):
        return None
    return Spending(spent["hit"] + spent["miss"], spent.cost, spent.unknown_cost)
