"""The Do-Not-Call registry file as Dagster's resource."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from leadscrub_pipeline.deployment import open_registry
from leadscrub_pipeline.resources.settings import SettingsResource

if TYPE_CHECKING:
    from leadscrub_pipeline.dnc import DncRegistry


class RegistryResource(SettingsResource):
    """Opens the file at DNC_DATABASE_PATH, read only, and checks that it can be trusted."""

    @contextmanager
    def open(self) -> Iterator["DncRegistry"]:
        with open_registry(self.load()) as registry:
            yield registry
