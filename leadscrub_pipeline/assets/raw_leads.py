"""raw_leads: the leads a script selects that are usable, not double, and not processed yet."""

from enum import Enum

import dagster as dg
from pydantic import Field

from leadscrub_pipeline.assets.common import (
    GROUP,
    OWNERS,
    TRY_AGAIN,
    counts_metadata,
    named_failures,
    reasons_metadata,
    table_metadata,
)
from leadscrub_pipeline.deployment import purpose_of
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.partitions import LEAD_SCRIPTS
from leadscrub_pipeline.resources import LedgerResource, ScriptsResource, SettingsResource, WarehouseResource
from leadscrub_pipeline.warehouse.schema import RAW_LEADS


class AlreadyProcessed(Enum):
    """What to do with people who are in the master table and need no second visit."""

    skip = "skip"
    include = "include"


class SelectionConfig(dg.Config):
    """How leads are selected in this run."""

    row_limit: int | None = Field(
        default=None, ge=0, description="Keep at most so many leads. For a first try of a new script."
    )
    already_processed: AlreadyProcessed = Field(
        default=AlreadyProcessed.skip,
        description="skip leaves out who is published already; include sends all through again with cached contacts.",
    )


@dg.asset(
    partitions_def=LEAD_SCRIPTS,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sql", "duckdb"},
    pool="warehouse",
    retry_policy=TRY_AGAIN,
    metadata=table_metadata(RAW_LEADS),
)
def raw_leads(
    context: dg.AssetExecutionContext,
    config: SelectionConfig,
    settings: SettingsResource,
    scripts: ScriptsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
) -> dg.MaterializeResult[None]:
    """Leads of one script: guarded, run in the warehouse, made unique by person, without those already processed.

    Rejected leads stand with their reason in LEADSCRUB.REJECTED_LEADS. No lead is lost:
    selected = rejected + duplicate + already processed + kept.
    """
    from leadscrub_pipeline.steps.adoption_guard import require_adopted
    from leadscrub_pipeline.warehouse.leads import LeadSelection

    with named_failures():
        script = scripts.find(context.partition_key)
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
                )
                selection = leads.run()
                leads.publish(context.run.run_id, selection)
    context.log.info(
        f"{selection.selected:,} leads selected: {selection.kept:,} kept, {selection.counts['rejected']:,} rejected, "
        f"{selection.duplicate:,} duplicate, {selection.already_processed:,} already processed."
    )
    return dg.MaterializeResult(
        metadata={
            **counts_metadata(selection.counts),
            "rejected_by_reason": reasons_metadata(selection.rejected),
            "script_hash": script.script_hash,
            "script": dg.MetadataValue.md(f"```sql\n{script.sql}\n```"),
            "dagster/partition_row_count": selection.kept,
        }
    )
