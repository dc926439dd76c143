"""raw_leads: the leads a script selects that are usable, not double, and not processed yet."""

import dagster as dg

from leadscrub_pipeline.assets.claims import claim, raw_leads_checks, sums
from leadscrub_pipeline.assets.common import (
    GROUP,
    OWNERS,
    TRY_AGAIN,
    counts_metadata,
    named_failures,
    query_metadata,
    reasons_metadata,
    table_metadata,
)
from leadscrub_pipeline.assets.lead_scripts import header_metadata, lead_scripts, script_version
from leadscrub_pipeline.assets.options import SelectionConfig, require_valid_options
from leadscrub_pipeline.assets.versions import saw
from leadscrub_pipeline.deployment import purpose_of
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.partitions import LEAD_SCRIPTS
from leadscrub_pipeline.resources import LedgerResource, ScriptsResource, SettingsResource, WarehouseResource
from leadscrub_pipeline.warehouse.schema import RAW_LEADS


@dg.asset(
    partitions_def=LEAD_SCRIPTS,
    deps=[lead_scripts],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sql", "duckdb"},
    pool="warehouse",
    retry_policy=TRY_AGAIN,
    metadata=table_metadata(RAW_LEADS),
    check_specs=raw_leads_checks(),
)
def raw_leads(
    context: dg.AssetExecutionContext,
    config: SelectionConfig,
    settings: SettingsResource,
    scripts: ScriptsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
) -> dg.MaterializeResult:
    """Leads of one script: guarded, run in the warehouse, made unique by person, without those already processed.

    Rejected leads stand with their reason in LEADSCRUB.REJECTED_LEADS. No lead is lost:
    selected = rejected + duplicate + already processed + kept.
    """
    from leadscrub_pipeline.steps.adoption_guard import require_adopted
    from leadscrub_pipeline.warehouse.leads import LeadSelection

    with named_failures():
        require_valid_options(context.run)
        script = scripts.find(context.partition_key)
        seen = saw(context, script_version(script.key, script.script_hash))
        current = settings.load()
        purpose_of(current, script)
        engine = warehouse.get()
        with ledger.open() as book, book.partition_lease(script.key, holder=context.run.run_id):
            require_adopted(engine, book)
            with engine.session(scripts=True) as session:
                leads = LeadSelection(
                    session,
                    engine.dialect,
                    script,
                    now=utc_now(),
                    already_processed=config.already_processed.value,
                    filter_in_sql=current.etl_use_database_filtering,
                    row_limit=config.row_limit,
                    report=context.log.info,
                )
                selection = leads.run()
                stored = leads.publish(context.run.run_id, selection)
    context.log.info(
        f"{selection.selected:,} leads selected: {selection.kept:,} kept, {selection.counts['rejected']:,} rejected, "
        f"{selection.duplicate:,} duplicate, {selection.already_processed:,} already processed."
    )
    return dg.MaterializeResult(
        metadata={
            **counts_metadata(selection.counts),
            "rejected_by_reason": reasons_metadata(selection.rejected),
            **query_metadata(leads.query_id),
            "script_hash": script.script_hash,
            "script_header": header_metadata(script),
            "script": dg.MetadataValue.md(f"```sql\n{script.sql}\n```"),
            "dagster/partition_row_count": selection.kept,
        },
        data_version=dg.DataVersion(f"{script.script_hash[:12]}.{context.run.run_id[:8]}"),
        tags=seen,
        check_results=[_no_lead_is_lost(selection.counts, stored)],
    )


def _no_lead_is_lost(counts: dict[str, int], stored: int) -> dg.AssetCheckResult:
    if stored != counts["kept"]:
        text = f"{counts['kept']:,} leads were kept, and {stored:,} are in the table."
        return claim("no_lead_is_lost", holds=False, text=text, figures={**counts, "stored": stored})
    parts = {name: value for name, value in counts.items() if name != "selected"}
    return sums("no_lead_is_lost", counts["selected"], parts, of="selected")
