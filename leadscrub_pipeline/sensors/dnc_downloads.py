"""dnc_downloads_sensor: a new download in the folder of downloads requests that the next list is made of it."""

import dagster as dg

from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.run_tags import LAUNCHED_BY
from leadscrub_pipeline.sensors.watched_files import digest, is_being_written, stamp


@dg.sensor(
    job_name="dnc_build_job",
    minimum_interval_seconds=60,
    description=(
        "Looks in DNC_DOWNLOADS for downloads newer than the list in place, and requests dnc_build_job. One that is "
        "still being copied is waited for; one that was refused is not tried again until it changes."
    ),
)
def dnc_downloads_sensor(settings: SettingsResource) -> dg.SkipReason | dg.RunRequest:
    """The key of the run is that of the downloads: the same ones are asked for once."""
    from leadscrub_pipeline.steps.dnc_downloads import waiting_downloads

    try:
        found = waiting_downloads(settings.load())
    except LeadscrubError as error:
        return dg.SkipReason(str(error))
    if not found:
        return dg.SkipReason("No download is newer than the list in place.")
    if any(is_being_written(one.written_at) for one in found):
        return dg.SkipReason("A download is being written. It is looked at when it has been quiet.")
    state = [(one.name, [stamp(file) for file in one.files]) for one in found]
    return dg.RunRequest(run_key=f"{found[-1].name}-{digest(state)}", tags={LAUNCHED_BY: "dnc_downloads_sensor"})
