"""Schedules: what starts by the clock. All are off until somebody switches them on.

Cron and time zone are settings, read when the code location is loaded: Dagster wants them then.
What starts by an event is a sensor and does not belong here.
"""

from typing import Final

import dagster as dg

from leadscrub_pipeline.errors import LeadscrubError, UsageError
from leadscrub_pipeline.jobs import scrub_job
from leadscrub_pipeline.partitions import register_scripts
from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.run_tags import LAUNCHED_BY
from leadscrub_pipeline.settings import Settings, load_settings

_SCRUB_ALL: Final = "scrub_all_scripts_schedule"


def load_schedules() -> list[dg.ScheduleDefinition]:
    """The schedules with this deployment's times.

    Raises:
        UsageError: the settings cannot be read, or one is no cron expression or time zone; the message names it.
    """
    settings = load_settings()
    try:
        return [_scrub_all_scripts(settings), *_of_jobs(settings)]
    except dg.DagsterInvalidDefinitionError as error:
        raise UsageError(
            f"LEADSCRUB_TIME_ZONE or one of the settings LEADSCRUB_..._CRON cannot be used. {error}"
        ) from None


def _scrub_all_scripts(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        cron_schedule=settings.leadscrub_scrub_cron,
        execution_timezone=settings.leadscrub_time_zone,
        name=_SCRUB_ALL,
        job=scrub_job,
        description="Scrubs every script whose header says: schedule: nightly. What was paid for is not paid again.",
    )
    def scrub_all_scripts(
        context: dg.ScheduleEvaluationContext, settings: SettingsResource
    ) -> dg.SkipReason | list[dg.RunRequest]:
        return _nightly_runs(context, settings.load())

    return scrub_all_scripts


def _nightly_runs(context: dg.ScheduleEvaluationContext, settings: Settings) -> dg.SkipReason | list[dg.RunRequest]:
    """A run for each nightly script; one that cannot be read is named and keeps none of the others from running."""
    from leadscrub_pipeline.domain.scripts import read_script, script_paths

    try:
        paths = script_paths(settings.leadscrub_scripts)
    except LeadscrubError as error:
        return dg.SkipReason(str(error))
    keys = []
    for key, path in paths.items():
        try:
            if read_script(path).is_nightly:
                keys.append(key)
        except LeadscrubError as error:
            context.log.warning(str(error))
    if not keys:
        return dg.SkipReason(f"None of {len(paths):,} scripts asks for it. Its header would say: -- schedule: nightly")
    register_scripts(context.instance, keys)
    night = f"{context.scheduled_execution_time:%Y-%m-%dT%H:%M}"
    return [dg.RunRequest(run_key=f"{key}-{night}", partition_key=key, tags={LAUNCHED_BY: _SCRUB_ALL}) for key in keys]


def _of_jobs(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Those that launch one run of a job, whatever there is to do."""
    wanted = [
        (
            "rescrub_schedule",
            "rescrub_job",
            settings.leadscrub_rescrub_cron,
            "Checks published phones again whose answers are past their age or unknown. Pays for no lookup.",
        ),
        (
            "resilience_schedule",
            "resilience_job",
            settings.leadscrub_resilience_cron,
            "Verifies evidence, ledger, tables, pools and the list's age. Changes nothing.",
        ),
        (
            "still_failed_schedule",
            "still_failed_job",
            settings.leadscrub_still_failed_cron,
            "Names the scripts whose latest run failed.",
        ),
    ]
    return [
        dg.ScheduleDefinition(
            name=name,
            job_name=job,
            cron_schedule=cron,
            execution_timezone=settings.leadscrub_time_zone,
            tags={LAUNCHED_BY: name},
            description=description,
        )
        for name, job, cron, description in wanted
    ]
