"""The folder of lead scripts as Dagster's resource."""

from leadscrub_pipeline.domain.scripts import LeadScript, find_script
from leadscrub_pipeline.resources.settings import SettingsResource


class ScriptsResource(SettingsResource):
    """Finds the lead script of a partition in LEADSCRUB_SCRIPTS."""

    def find(self, partition_key: str) -> LeadScript:
        return find_script(self.load().leadscrub_scripts, partition_key)
