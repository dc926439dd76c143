"""What starts runs and speaks up by itself: Dagster's sensors. They touch no warehouse and no paid vendor."""

from leadscrub_pipeline.sensors.alerts import (
    backfill_alert_sensor,
    run_failure_alert_sensor,
    run_finished_alert_sensor,
    upkeep_alert_sensor,
)
from leadscrub_pipeline.sensors.dnc_downloads import dnc_downloads_sensor
from leadscrub_pipeline.sensors.dnc_registry import dnc_registry_sensor
from leadscrub_pipeline.sensors.lead_scripts import lead_scripts_sensor
from leadscrub_pipeline.sensors.own_lists import own_lists_sensor

ALERT_SENSORS = [run_failure_alert_sensor, run_finished_alert_sensor, backfill_alert_sensor, upkeep_alert_sensor]
"""The only definitions that are on by default."""

__all__ = [
    "ALERT_SENSORS",
    "backfill_alert_sensor",
    "dnc_downloads_sensor",
    "dnc_registry_sensor",
    "lead_scripts_sensor",
    "own_lists_sensor",
    "run_failure_alert_sensor",
    "run_finished_alert_sensor",
    "upkeep_alert_sensor",
]
