"""The national Do-Not-Call registry as a local file. What an answer means for a lead does not belong here."""

from leadscrub_pipeline.dnc.list_version import ListVersion
from leadscrub_pipeline.dnc.registry import DncRegistry

__all__ = ["DncRegistry", "ListVersion"]
