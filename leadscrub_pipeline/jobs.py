"""Jobs: the whole scrub of a script, and a preview of what it would find and cost."""

from typing import Final

import dagster as dg
from pydantic import Field

from leadscrub_pipeline.assets import (
    dnc_flags,
    enriched_contacts,
    litigator_flags,
    master_processed_db,
    raw_leads,
    scrub_report,
)
from leadscrub_pipeline.assets.common import named_failures
from leadscrub_pipeline.resources import LedgerResource, SettingsResource, WarehouseResource

scrub_job: Final = dg.define_asset_job(
    "scrub_job",
    selection=dg.AssetSelection.assets(
        raw_leads, enriched_contacts, litigator_flags, dnc_flags, master_processed_db, scrub_report
    ),
    description="Select, enrich, flag and publish the leads of one script, and report on it.",
)


class PreviewConfig(dg.Config):
    """Which scripts to look at."""

    scripts: list[str] = Field(
        default_factory=list, description="Keys of the scripts to preview, each alone and their union. Empty: all."
    )


@dg.op(
    out=dg.Out(dg.Nothing),
    pool="warehouse",
    description="Counts what the scripts would select and cost. Pays for nothing and writes nothing.",
)
def preview(
    context: dg.OpExecutionContext,
    config: PreviewConfig,
    settings: SettingsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
) -> None:
    from leadscrub_pipeline.steps.preview import preview_scripts

    with named_failures(), ledger.read() as book:
        result = preview_scripts(config.scripts, settings.load(), warehouse.get(), book)
    for script in result.scripts:
        context.log.info(script.sentence())
    context.log.info(result.union.sentence())
    context.add_output_metadata(
        {
            "union": dg.MetadataValue.json(result.union.as_dict()),
            "scripts": dg.MetadataValue.json([script.as_dict() for script in result.scripts]),
            "table": dg.MetadataValue.md(result.markdown()),
        }
    )


@dg.job(
    name="preview_job",
    description="What scripts would select and cost, without a paid call and without a write.",
)
def preview_job() -> None:
    preview()
