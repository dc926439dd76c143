"""Which version of a file outside Dagster a step saw, so that what was made from an older one is marked as stale.

What a version is belongs to the file's own module.
"""

from typing import Final

import dagster as dg

Context = dg.AssetExecutionContext | dg.OpExecutionContext
Version = dg.AssetObservation | dg.AssetMaterialization

DATA_VERSION: Final = "dagster/data_version"


def saw(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, event: dg.AssetObservation | dg.AssetMaterialization
) -> dict[str, str]:
    """Report the version that this step saw, unless it is the last known one; return the tags for the step's result.

    Dagster reads the versions of what a step depends on when the step begins. For one that is
    reported later the tags put that right; without them the result would be stale at once.
    Versions of a partitioned file are observations and those of another one materializations,
    because Dagster compares only these (1.13.27).
    """
    key, seen = event.asset_key, (event.tags or {})[DATA_VERSION]
    version, _ = _last(context, event)
    if version == seen:
        return {}
    context.log_event(event)
    _, storage_id = _last(context, event)
    name = key.to_user_string()
    return {f"dagster/input_data_version/{name}": seen, f"dagster/input_event_pointer/{name}": str(storage_id)}


def _last(context: Context, event: Version) -> tuple[str | None, int | None]:
    """The last known version, and the place of its event in Dagster's storage."""
    records_filter = dg.AssetRecordsFilter(
        asset_key=event.asset_key, asset_partitions=[event.partition] if event.partition else None
    )
    if isinstance(event, dg.AssetObservation):
        records = context.instance.fetch_observations(records_filter, limit=1).records
        found = records[0].event_log_entry.asset_observation if records else None
    else:
        records = context.instance.fetch_materializations(records_filter, limit=1).records
        found = records[0].event_log_entry.asset_materialization if records else None
    if found is None:
        return None, None
    return (found.tags or {}).get(DATA_VERSION), records[0].storage_id
