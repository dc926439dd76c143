"""Jobs: the whole scrub of a script, a preview of what it would find and cost, and checks over all scripts."""

from typing import Final

import dagster as dg
from pydantic import Field

from leadscrub_pipeline.assets import (
    consents,
    dnc_flags,
    enriched_contacts,
    internal_dnc,
    litigator_flags,
    master_processed_db,
    raw_leads,
    scrub_report,
)
from leadscrub_pipeline.assets.common import named_failures
from leadscrub_pipeline.checks import (
    company_list_is_honoured,
    every_false_flag_has_evidence,
    evidence_is_as_sealed,
    ledger_backup_can_be_read,
    no_person_is_published_twice,
    no_script_is_still_failed,
    pool_limits_are_set,
    registry_is_fresh,
    tables_are_as_declared,
)
from leadscrub_pipeline.resources import LedgerResource, SettingsResource, WarehouseResource
from leadscrub_pipeline.run_tags import MODE

scrub_job: Final = dg.define_asset_job(
    "scrub_job",
    selection=dg.AssetSelection.assets(
        raw_leads, enriched_contacts, litigator_flags, dnc_flags, master_processed_db, scrub_report
    )
    | dg.AssetSelection.checks(registry_is_fresh),
    description="Select, enrich, flag and publish the leads of one script, and report on it.",
    tags={MODE: "scrub"},
)

own_lists_job: Final = dg.define_asset_job(
    "own_lists_job",
    selection=dg.AssetSelection.assets(internal_dnc, consents),
    description="Takes in requests not to be called and consents from their folders of imports. Pays for nothing.",
    tags={MODE: "own_lists"},
)

resilience_job: Final = dg.define_asset_job(
    "resilience_job",
    selection=dg.AssetSelection.checks(
        company_list_is_honoured,
        evidence_is_as_sealed,
        every_false_flag_has_evidence,
        ledger_backup_can_be_read,
        no_person_is_published_twice,
        pool_limits_are_set,
        registry_is_fresh,
        tables_are_as_declared,
    ),
    description="What must hold over all scripts: evidence against its seals, the ledger against a backup, tables, "
    "pools, the list's age. Reads everything, pays for nothing, changes nothing.",
    tags={MODE: "resilience"},
)

still_failed_job: Final = dg.define_asset_job(
    "still_failed_job",
    selection=dg.AssetSelection.checks(no_script_is_still_failed),
    description="Names the scripts whose latest run failed.",
    tags={MODE: "still_failed"},
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
    tags={MODE: "preview"},
)
def preview_job() -> None:
    preview()
