"""The national Do-Not-Call registry as a local file. What an answer means for a lead does not belong here."""

from leadscrub_pipeline.dnc.registry import DncRegistry, ListVersion

__all__ = ["DncRegistry", "ListVersion"]
