"""The warehouse as Dagster's resource."""

from typing import TYPE_CHECKING

import dagster as dg

from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.resources.settings import SettingsResource

if TYPE_CHECKING:
    from leadscrub_pipeline.warehouse.protocol import Warehouse
    from leadscrub_pipeline.warehouse.snowflake_connection import QueryTag


class WarehouseResource(SettingsResource):
    """Gives the warehouse that LEADSCRUB_WAREHOUSE names. Connections are opened by its sessions."""

    def get(self) -> "Warehouse":
        settings = self.load()
        if settings.leadscrub_warehouse == "duckdb":
            return open_warehouse(settings)
        from leadscrub_pipeline.resources.snowflake import by_dagster

        return open_warehouse(settings, tag=_tag(), connect=by_dagster)


def _tag() -> "QueryTag":
    """Who asks: the step that is running."""
    from leadscrub_pipeline.warehouse.snowflake_connection import QueryTag

    try:
        context = dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return QueryTag()
    return QueryTag(
        run=context.run.run_id,
        asset=context.asset_key.to_user_string() if context.has_assets_def else context.op_execution_context.op.name,
        partition=context.partition_key if context.has_partition_key else None,
    )
