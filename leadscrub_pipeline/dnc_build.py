"""dnc_build_job: makes the next version of the Do-Not-Call list from new downloads.

What starts it does not belong here.
"""

import dagster as dg
from pydantic import Field

from leadscrub_pipeline.assets.common import named_failures
from leadscrub_pipeline.assets.dnc_registry import built_metadata, list_version, observation
from leadscrub_pipeline.assets.versions import saw
from leadscrub_pipeline.resources import RegistryResource
from leadscrub_pipeline.run_tags import MODE


class DncBuildConfig(dg.Config):
    """What a next list may do in spite of the limits that are set, once somebody has looked at the download."""

    allow_shrink: bool = Field(
        default=False, description="Take a list that lost more numbers than DNC_MAX_SHRINK_SHARE allows."
    )
    allow_gap: bool = Field(
        default=False, description="Take change lists that do not follow the list in place, or are empty."
    )


@dg.op(
    out=dg.Out(dg.Nothing),
    description=(
        "Makes a version of each download in DNC_DOWNLOADS that is newer than the list in place. The list stays "
        "readable all the time; a build that was ended goes on where it was."
    ),
)
def build_list(context: dg.OpExecutionContext, config: DncBuildConfig, registry: RegistryResource) -> None:
    from leadscrub_pipeline.steps.dnc_downloads import build_from_downloads

    made = 0
    with named_failures():
        settings = registry.load()
        made_lists = build_from_downloads(
            settings, allow_shrink=config.allow_shrink, allow_gap=config.allow_gap, report=context.log.info
        )
        for download, built in made_lists:
            made += 1
            for warning in built.warnings:
                context.log.warning(warning)
            context.log.info(
                f"{download.name} made list {built.facts.version}: {built.facts.rows:,} numbers, "
                f"{built.added:,} came and {built.removed:,} went."
            )
            with registry.open() as opened:
                saw(context, list_version(opened, built_metadata(download.name, built)))
                context.log_event(observation(opened))
    context.add_output_metadata({"lists_made": made})
    if not made:
        context.log.info("No download is newer than the list in place.")


@dg.job(
    name="dnc_build_job",
    tags={MODE: "dnc_build"},
    description="Makes the next version of the Do-Not-Call list from new downloads. The flags follow by a rescrub.",
)
def dnc_build_job() -> None:
    build_list()
