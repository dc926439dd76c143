"""The warehouse as Dagster's resource."""

from typing import TYPE_CHECKING

from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.resources.settings import SettingsResource

if TYPE_CHECKING:
    from leadscrub_pipeline.warehouse.protocol import Warehouse


class WarehouseResource(SettingsResource):
    """Gives the warehouse that LEADSCRUB_WAREHOUSE names. Connections are opened by its sessions."""

    def get(self) -> "Warehouse":
        return open_warehouse(self.load())
