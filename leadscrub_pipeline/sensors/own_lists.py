"""own_lists_sensor: a new file of requests or consents in its folder of imports requests that it is taken in."""

import dagster as dg

from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.run_tags import LAUNCHED_BY
from leadscrub_pipeline.sensors.watched_files import digest, is_being_written, stamp


@dg.sensor(
    job_name="own_lists_job",
    minimum_interval_seconds=30,
    description=(
        "Looks in INTERNAL_DNC_IMPORTS and CONSENTS_IMPORTS for CSV files that are new or were written to, and "
        "requests own_lists_job. A file that is still being copied is waited for."
    ),
)
def own_lists_sensor(settings: SettingsResource) -> dg.SkipReason | dg.RunRequest:
    """The key of the run is that of the files: the same ones are asked for once."""
    from leadscrub_pipeline.steps.own_list_files import import_files

    try:
        current = settings.load()
        folders = (current.internal_dnc_imports, current.consents_imports)
        state = [(str(folder), [stamp(file) for file in import_files(folder)]) for folder in folders]
    except LeadscrubError as error:
        return dg.SkipReason(str(error))
    except FileNotFoundError:
        return dg.SkipReason("A file of imports went while it was looked at.")
    stamps = [one for _, found in state for one in found]
    if not stamps:
        return dg.SkipReason("There is no file in INTERNAL_DNC_IMPORTS or CONSENTS_IMPORTS.")
    if any(is_being_written(written_ns / 1e9) for _, _, written_ns in stamps):
        return dg.SkipReason("A file of imports is being written. It is looked at when it has been quiet.")
    return dg.RunRequest(run_key=f"imports-{digest(state)}", tags={LAUNCHED_BY: "own_lists_sensor"})
