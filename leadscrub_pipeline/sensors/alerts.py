"""The sensors that speak up: failed runs, what finished runs found, backfills, and the upkeep of every day.

They read Dagster's storage, the ledger and the registry file, and touch no warehouse. What
they say stands in domain/alerts.py and domain/heartbeat.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import dagster as dg

from leadscrub_pipeline.deployment import time_zone
from leadscrub_pipeline.domain.alerts import Alert, backfill_finished, list_expires
from leadscrub_pipeline.domain.heartbeat import ListFacts, day_of, heartbeat_alert, heartbeat_key
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.sensors.alert_delivery import Courier, open_courier
from leadscrub_pipeline.sensors.backfills import Backfills, facts_of
from leadscrub_pipeline.sensors.heartbeat_facts import gather, read_list
from leadscrub_pipeline.sensors.run_alerts import alerts_of_failed_run, alerts_of_finished_run, is_first_attempt

if TYPE_CHECKING:
    from leadscrub_pipeline.settings import Settings

RUNS_SECONDS: Final = 15
"""Dagster hands a sensor of runs five of them a tick at most."""
BACKFILLS_SECONDS: Final = 60
UPKEEP_SECONDS: Final = 300

_Find = Callable[[dg.DagsterInstance, dg.DagsterRun, str | None], list[Alert]]


@dg.run_failure_sensor(
    # Runs that were started by leadscrub run are of no code location, and fail as others do.
    monitor_all_code_locations=True,
    minimum_interval_seconds=RUNS_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Sends an alert of a run that failed, with its step and the first line of the error: of its first attempt "
        "only, and not of a run that somebody stopped. Runs that fail of one cause within an hour give one alert, and "
        "the next one says how many were held back."
    ),
)
def run_failure_alert_sensor(context: dg.RunFailureSensorContext, settings: SettingsResource) -> dg.SkipReason | None:
    """One failed run; Dagster calls it for each."""
    run = context.dagster_run
    if not is_first_attempt(run) or run.status is not dg.DagsterRunStatus.FAILURE:
        return None
    return _announce_run(context, settings, alerts_of_failed_run)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitor_all_code_locations=True,
    minimum_interval_seconds=RUNS_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Sends an alert of what a run that succeeded has found: checks that failed, a vendor's breaker that opened, "
        "leads that were deferred because a cap or the daily budget was reached."
    ),
)
def run_finished_alert_sensor(context: dg.RunStatusSensorContext, settings: SettingsResource) -> dg.SkipReason | None:
    """One run that succeeded; Dagster calls it for each."""
    return _announce_run(context, settings, alerts_of_finished_run)


@dg.sensor(
    minimum_interval_seconds=BACKFILLS_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Sends a digest of each backfill that came to an end: partitions that succeeded, failed and were canceled, "
        "leads published, lookups paid for and what they cost."
    ),
)
def backfill_alert_sensor(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult:
    """Compare the backfills with what the cursor remembers of them."""
    backfills = Backfills.from_cursor(context.cursor)
    ended = backfills.look(context.instance)
    cursor = backfills.to_cursor()
    try:
        current = settings.load()
        courier = open_courier(current, context.instance, lambda: context.log)
    except LeadscrubError as error:
        return dg.SensorResult(skip_reason=str(error), cursor=cursor)
    said = [
        f"{backfill.backfill_id}: {courier.deliver(backfill_finished(facts_of(backfill, context.instance, current)))}."
        for backfill in ended
    ]
    return dg.SensorResult(skip_reason=" ".join(said) or "No backfill has come to an end.", cursor=cursor)


@dg.sensor(
    minimum_interval_seconds=UPKEEP_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Sends, once a day, that all is well or what is not, at LEADSCRUB_HEARTBEAT_HOUR in LEADSCRUB_TIME_ZONE, and "
        "that the Do-Not-Call list is about to expire or has expired. Sends what waited while the ntfy server could "
        "not be reached."
    ),
)
def upkeep_alert_sensor(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SkipReason:
    """What waits, then the list, then the message of the day."""
    try:
        current = settings.load()
        courier = open_courier(current, context.instance, lambda: context.log)
        day = day_of(utc_now(), zone=time_zone(current), hour=current.leadscrub_heartbeat_hour)
    except LeadscrubError as error:
        return dg.SkipReason(str(error))
    said = []
    if resent := courier.resend():
        said.append(f"{resent} that waited: sent.")
    dnc_list = read_list(current)
    if outcome := _deliver_list(courier, current, dnc_list, day):
        said.append(f"Do-Not-Call list: {outcome}.")
    if outcome := _deliver_heartbeat(courier, context.instance, current, dnc_list, day):
        said.append(f"Daily message: {outcome}.")
    return dg.SkipReason(" ".join(said) or "Nothing to say.")


def _announce_run(context: dg.RunStatusSensorContext, settings: SettingsResource, find: _Find) -> dg.SkipReason | None:
    """Nothing is returned for a run that was looked at: after a reason Dagster would end the tick with it."""
    try:
        current = settings.load()
        courier = open_courier(current, context.instance, lambda: context.log)
    except LeadscrubError as error:
        return dg.SkipReason(str(error))
    for alert in find(context.instance, context.dagster_run, current.leadscrub_ui_url):
        courier.deliver(alert)
    return None


def _deliver_list(courier: Courier, settings: "Settings", dnc_list: ListFacts, day: str) -> str | None:
    age, limit = dnc_list.age_days, dnc_list.max_age_days
    if age is None or age < settings.dnc_warn_age_days:
        return None
    alert = list_expires(age, limit, day=day, ui_url=settings.leadscrub_ui_url)
    return courier.deliver_daily(alert.key, alert.topic, lambda _untold: alert, tells=False)


def _deliver_heartbeat(
    courier: Courier, instance: dg.DagsterInstance, settings: "Settings", dnc_list: ListFacts, day: str
) -> str | None:
    def make(untold: int) -> Alert:
        return heartbeat_alert(gather(instance, settings, dnc_list, utc_now()), day=day, untold=untold)

    return courier.deliver_daily(heartbeat_key(day), "system", make, tells=True)
