"""master_processed_db: the table that calls are made from."""

from datetime import timedelta

import dagster as dg

from leadscrub_pipeline.assets.claims import claim, master_processed_db_checks, sums
from leadscrub_pipeline.assets.common import (
    GROUP,
    OWNERS,
    TRY_AGAIN,
    counts_metadata,
    named_failures,
    query_metadata,
    table_metadata,
)
from leadscrub_pipeline.assets.dnc_flags import dnc_flags
from leadscrub_pipeline.assets.litigator_flags import litigator_flags
from leadscrub_pipeline.assets.raw_leads import raw_leads
from leadscrub_pipeline.deployment import purpose_of
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.partitions import LEAD_SCRIPTS
from leadscrub_pipeline.resources import LedgerResource, ScriptsResource, SettingsResource, WarehouseResource
from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS, MASTER, RAW_LEADS


@dg.asset(
    partitions_def=LEAD_SCRIPTS,
    deps=[raw_leads, litigator_flags, dnc_flags],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sql", "duckdb", "table"},
    pool="warehouse",
    retry_policy=TRY_AGAIN,
    metadata=table_metadata(MASTER),
    check_specs=master_processed_db_checks(),
)
def master_processed_db(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    scripts: ScriptsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
) -> dg.MaterializeResult:
    """One row a person and script in PUBLIC.MASTER_PROCESSED_DB, with flags from unexpired verdicts only.

    A flag is FALSE only where the source said so; else it is NULL with its reason in
    additional_data. The first script to publish a person owns them; others count as taken.
    kept = published + deferred + held + taken.
    """
    from leadscrub_pipeline.warehouse.leads import require_current_keys
    from leadscrub_pipeline.warehouse.master import masked_sample, publish
    from leadscrub_pipeline.warehouse.merging import Publication
    from leadscrub_pipeline.warehouse.slices import read_slice

    with named_failures():
        script = scripts.find(context.partition_key)
        publication = Publication(
            partition_key=script.key,
            title=script.title,
            run_id=context.run.run_id,
            job_name=context.run.job_name,
            script_hash=script.script_hash,
            purpose=purpose_of(settings.load(), script).name,
        )
        engine = warehouse.get()
        with (
            ledger.open() as book,
            book.partition_lease(script.key, holder=context.run.run_id),
            engine.session() as session,
        ):
            leads = read_slice(session, RAW_LEADS, script.key)
            contacts = read_slice(session, ENRICHED_CONTACTS, script.key)
            require_current_keys(session, leads)
            result = publish(
                session, engine.dialect, leads, contacts, publication, now=utc_now(), report=context.log.info
            )
            sample = masked_sample(session, script.key)
    context.log.info(
        f"{result.published:,} rows published, {result.taken:,} taken by another script, {result.deferred:,} deferred, "
        f"{result.held:,} held; {result.litigators:,} litigators, {result.dnc_listed:,} Do-Not-Call numbers, "
        f"{result.flags_unknown:,} flags unknown."
    )
    today = utc_now().date()
    tomorrow = today + timedelta(days=1)
    return dg.MaterializeResult(
        metadata={
            **counts_metadata(
                {
                    "published": result.published,
                    "deferred": result.deferred,
                    "held": result.held,
                    "taken": result.taken,
                    "phones": result.phones,
                    "litigators": result.litigators,
                    "dnc_listed": result.dnc_listed,
                    "flags_unknown": result.flags_unknown,
                    "master_rows": result.master_rows,
                    "dagster/partition_row_count": result.published,
                }
            ),
            **query_metadata(result.query_id),
            "sample": dg.MetadataValue.md(sample),
            "evidence_export": dg.MetadataValue.md(
                f"`leadscrub evidence trace {context.run.run_id}` tells the story of this run; "
                f"`leadscrub evidence export --since {today} --until {tomorrow} --output pack` writes the day's pack."
            ),
        },
        check_results=[
            sums(
                "every_kept_lead_is_accounted_for",
                leads.row_count,
                {
                    "published": result.published,
                    "deferred": result.deferred,
                    "held": result.held,
                    "taken": result.taken,
                },
                of="kept",
            ),
            claim(
                "no_row_stands_twice",
                holds=result.double_rows == 0,
                text=f"{result.double_rows:,} record ids that this run wrote stand more than once.",
                figures={"double_rows": result.double_rows},
            ),
        ],
    )
