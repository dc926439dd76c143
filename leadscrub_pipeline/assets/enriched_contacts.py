"""enriched_contacts: phones and e-mails of each kept lead, paid for at most once a person."""

import dagster as dg

from leadscrub_pipeline.assets.common import (
    GROUP,
    OWNERS,
    counts_metadata,
    named_failures,
    reasons_metadata,
    table_metadata,
)
from leadscrub_pipeline.assets.raw_leads import raw_leads
from leadscrub_pipeline.deployment import lookup_terms, purpose_of
from leadscrub_pipeline.partitions import LEAD_SCRIPTS
from leadscrub_pipeline.resources import LedgerResource, ScriptsResource, SettingsResource, WarehouseResource
from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS, RAW_LEADS


@dg.asset(
    partitions_def=LEAD_SCRIPTS,
    deps=[raw_leads],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "duckdb"},
    pool="idicore",
    metadata=table_metadata(ENRICHED_CONTACTS),
)
def enriched_contacts(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    scripts: ScriptsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
) -> dg.MaterializeResult[None]:
    """Contacts of the partition's leads from idiCORE, each person paid for at most once within the cache's life.

    The ledger decides who is asked about and keeps every answer before anything else happens
    to it. Leads that are not answered now (cap, another run asking, unknown outcome) are
    deferred or held, and come again by themselves. Without a retry policy on purpose.
    """
    from leadscrub_pipeline.steps.adoption_guard import require_adopted
    from leadscrub_pipeline.steps.enrichment import enrich
    from leadscrub_pipeline.vendors.idicore import endpoint_of
    from leadscrub_pipeline.warehouse.leads import require_current_keys
    from leadscrub_pipeline.warehouse.slices import read_slice

    with named_failures():
        script = scripts.find(context.partition_key)
        current = settings.load()
        engine = warehouse.get()
        with engine.session() as session:
            leads = read_slice(session, RAW_LEADS, script.key)
            require_current_keys(session, leads)
        terms = lookup_terms(
            current,
            endpoint=endpoint_of(current),
            purpose=purpose_of(current, script),
            run_id=context.run.run_id,
            partition_key=script.key,
        )
        with ledger.open() as book, book.partition_lease(script.key, holder=context.run.run_id):
            require_adopted(engine, book)
            result = enrich(engine, book, leads, terms, current, report=context.log.info)
    outcomes = {name: result.outcomes[name] for name in ("hit", "miss", "deferred", "held")}
    context.log.info(
        f"{result.leads:,} leads: {outcomes['hit']:,} hits, {outcomes['miss']:,} misses, "
        f"{outcomes['deferred']:,} deferred, {outcomes['held']:,} held; "
        f"{result.lookups_paid:,} lookups paid ({result.cost} dollars), {result.lookups_reused:,} reused, "
        f"{result.lookups_unknown:,} of unknown outcome."
    )
    if outcomes["deferred"] or outcomes["held"]:
        context.log.warning(
            f"Not published now, and coming again by themselves: {dict(result.reasons)}. See leadscrub ledger summary."
        )
    answered = outcomes["hit"] + outcomes["miss"]
    return dg.MaterializeResult(
        metadata={
            "leads": result.leads,
            **counts_metadata(outcomes),
            "hit_rate": dg.MetadataValue.float(round(outcomes["hit"] / answered, 4) if answered else 0.0),
            "lookups_paid": result.lookups_paid,
            "lookups_reused": result.lookups_reused,
            "lookups_unknown": result.lookups_unknown,
            "cost_dollars": dg.MetadataValue.float(float(result.cost)),
            "workers": result.workers,
            "deferred_or_held_by_reason": reasons_metadata(result.reasons),
            "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
            **counts_metadata({f"idicore_{name}": value for name, value in result.vendor.items()}),
            "dagster/partition_row_count": result.leads,
        }
    )
