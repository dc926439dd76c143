"""What past runs reported of one partition, read from Dagster's events: the trend of the scrub report.

What a trend shows does not belong here.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import dagster as dg

from leadscrub_pipeline.steps.scrub_report import MOST_PAST_RUNS, PastRun

_READ: Final[Mapping[str, Mapping[str, str]]] = {
    # asset -> its metadata -> field of PastRun
    "raw_leads": {"selected": "selected", "kept": "kept"},
    "enriched_contacts": {"hit_rate": "hit_rate", "cost_dollars": "cost"},
    "master_processed_db": {"published": "published", "litigators": "litigators", "dnc_listed": "dnc_listed"},
}


def past_runs(instance: dg.DagsterInstance, partition_key: str) -> list[PastRun]:
    """The newest runs that materialized the partition, the oldest first; what a run did not make is None."""
    ended: dict[str, float] = {}
    found: dict[str, dict[str, Any]] = {}
    for asset, fields in _READ.items():
        chosen = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition_key])
        for record in reversed(instance.fetch_materializations(chosen, limit=MOST_PAST_RUNS).records):
            materialization = record.asset_materialization
            if materialization is None:
                continue
            ended[record.run_id] = max(record.timestamp, ended.get(record.run_id, 0.0))
            values = {name: value.value for name, value in materialization.metadata.items() if name in fields}
            found.setdefault(record.run_id, {}).update({fields[name]: value for name, value in values.items()})
    newest = sorted(ended, key=ended.__getitem__)[-MOST_PAST_RUNS:]
    return [_past_run(run_id, ended[run_id], found[run_id]) for run_id in newest]


def _past_run(run_id: str, ended: float, values: dict[str, Any]) -> PastRun:
    # Dagster keeps a number with a point, not money: its shortest text is what was spent.
    cost = values.pop("cost", None)
    return PastRun(
        run_id=run_id,
        at=datetime.fromtimestamp(ended, UTC),
        cost=None if cost is None else Decimal(str(cost)),
        **values,
    )
