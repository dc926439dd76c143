"""The folder of lead scripts as Dagster's resource."""

from typing import TYPE_CHECKING

from leadscrub_pipeline.resources.settings import SettingsResource

if TYPE_CHECKING:
    from leadscrub_pipeline.domain.scripts import LeadScript


class ScriptsResource(SettingsResource):
    """Finds the lead script of a partition in LEADSCRUB_SCRIPTS."""

    def find(self, partition_key: str) -> "LeadScript":
        from leadscrub_pipeline.domain.scripts import find_script

        return find_script(self.load().leadscrub_scripts, partition_key)
