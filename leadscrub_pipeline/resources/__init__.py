"""Dagster's resources: thin doors to the deployment's parts. Settings are read when one is opened, not before."""

from leadscrub_pipeline.resources.ledger import LedgerResource
from leadscrub_pipeline.resources.registry import RegistryResource
from leadscrub_pipeline.resources.scripts import ScriptsResource
from leadscrub_pipeline.resources.settings import SettingsResource
from leadscrub_pipeline.resources.warehouse import WarehouseResource

__all__ = ["LedgerResource", "RegistryResource", "ScriptsResource", "SettingsResource", "WarehouseResource"]
