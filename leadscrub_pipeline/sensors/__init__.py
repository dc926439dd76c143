"""What starts runs and speaks up by itself: Dagster's sensors. They touch no warehouse and no paid vendor."""

from leadscrub_pipeline.sensors.lead_scripts import lead_scripts_sensor

__all__ = ["lead_scripts_sensor"]
