"""What starts runs and speaks up by itself: Dagster's sensors. They touch no warehouse and no paid vendor."""

from leadscrub_pipeline.sensors.dnc_registry import dnc_registry_sensor
from leadscrub_pipeline.sensors.lead_scripts import lead_scripts_sensor

__all__ = ["dnc_registry_sensor", "lead_scripts_sensor"]
