"""Schedules: what starts by the clock. All are off until somebody switches them on.

Cron and time zone are settings, read when the code location is loaded: Dagster wants them then.
What starts by an event is a sensor and does not belong here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Final

import dagster as dg

from leadscrub_pipeline.deployment import time_zone
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
    time_zone(settings)
    return [_scrub_all_scripts(settings), *_of_jobs(settings)]


@contextmanager
def _time_of(name: str) -> Iterator[None]:
    try:
        yield
    except dg.DagsterInvalidDefinitionError:
        raise UsageError(f"{name} is no cron expression of five fields, as 0 2 * * * is.") from None


def _scrub_all_scripts(settings: Settings) -> dg.ScheduleDefinition:
    def scrub_all_scripts(
        context: dg.ScheduleEvaluationContext, settings: SettingsResource
    ) -> dg.SkipReason | list[dg.RunRequest]:
        try:
            return _nightly_runs(context, settings.load())
        except LeadscrubError as error:
            return dg.SkipReason(str(error))

    with _time_of("LEADSCRUB_SCRUB_CRON"):
        return dg.schedule(
            cron_schedule=settings.leadscrub_scrub_cron,
            execution_timezone=settings.leadscrub_time_zone,
            name=_SCRUB_ALL,
            job=scrub_job,
            description="Scrubs every script whose header says: schedule: nightly. Nothing is paid for twice.",
        )(scrub_all_scripts)


def _nightly_runs(context: dg.ScheduleEvaluationContext, settings: Settings) -> dg.SkipReason | list[dg.RunRequest]:
    """A run for each nightly script; a file that cannot be read is named and keeps none of the others from running."""
    from leadscrub_pipeline.domain.scripts import read_script, sound_script_paths

    paths, problems = sound_script_paths(settings.leadscrub_scripts)
    keys = []
    for key, path in paths.items():
        try:
            if read_script(path).is_nightly:
                keys.append(key)
        except LeadscrubError as error:
            problems.append(str(error))
    for problem in problems:
        context.log.warning(problem)
    if not keys:
        return dg.SkipReason(f"None of {len(paths):,} scripts asks for it. Its header would say: -- schedule: nightly")
    register_scripts(context.instance, keys)
    # In UTC: of an hour that a change of clocks repeats, each has its own runs.
    night = f"{context.scheduled_execution_time.astimezone(UTC):%Y-%m-%dT%H:%M}"
    return [dg.RunRequest(run_key=f"{key}-{night}", partition_key=key, tags={LAUNCHED_BY: _SCRUB_ALL}) for key in keys]


def _of_jobs(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Those that launch one run of a job, whatever there is to do."""
    wanted = {
        "rescrub": "Checks published phones again whose answers are past their age or unknown. Pays for no lookup.",
        "resilience": "Verifies evidence, ledger, tables, pools and the list's age. Changes nothing.",
        "still_failed": "Names the scripts whose latest run failed.",
    }
    return [_of_job(name, description, settings) for name, description in wanted.items()]


def _of_job(name: str, description: str, settings: Settings) -> dg.ScheduleDefinition:
    setting = f"leadscrub_{name}_cron"
    with _time_of(setting.upper()):
        return dg.ScheduleDefinition(
            name=f"{name}_schedule",
            job_name=f"{name}_job",
            cron_schedule=str(getattr(settings, setting)),
            execution_timezone=settings.leadscrub_time_zone,
            tags={LAUNCHED_BY: f"{name}_schedule"},
            description=description,
        )
