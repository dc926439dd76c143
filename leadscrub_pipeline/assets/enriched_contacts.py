"""enriched_contacts: phones and e-mails of each kept lead, paid for at most once a person."""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import dagster as dg

from leadscrub_pipeline.assets.claims import (
    BUDGET_WARNED_OF,
    USUAL_HIT_RATE,
    claim,
    enriched_contacts_checks,
    past_rates,
    sums,
    usual_rate,
)
from leadscrub_pipeline.assets.common import (
    GROUP,
    OWNERS,
    counts_metadata,
    named_failures,
    reasons_metadata,
    table_metadata,
)
from leadscrub_pipeline.assets.options import require_valid_options
from leadscrub_pipeline.assets.raw_leads import raw_leads
from leadscrub_pipeline.deployment import lookup_terms, purpose_of
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.partitions import LEAD_SCRIPTS
from leadscrub_pipeline.resources import LedgerResource, ScriptsResource, SettingsResource, WarehouseResource
from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS, RAW_LEADS

if TYPE_CHECKING:
    from leadscrub_pipeline.steps.enrichment import Enrichment
    from leadscrub_pipeline.warehouse.contact_counts import ContactCounts

OUTCOMES: Final = ("hit", "miss", "deferred", "held")
CAPS: Final = ("run_cap", "daily_budget")


@dg.asset(
    partitions_def=LEAD_SCRIPTS,
    deps=[raw_leads],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "duckdb"},
    pool="idicore",
    metadata=table_metadata(ENRICHED_CONTACTS),
    check_specs=enriched_contacts_checks(),
)
def enriched_contacts(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    scripts: ScriptsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
) -> dg.MaterializeResult:
    """Contacts of the partition's leads from idiCORE, each person paid for at most once within the cache's life.

    The ledger decides who is asked about and keeps every answer before anything else happens
    to it. Leads that are not answered now (cap, another run asking, unknown outcome) are
    deferred or held, and come again by themselves. Without a retry policy on purpose.
    """
    from leadscrub_pipeline.steps.adoption_guard import require_adopted
    from leadscrub_pipeline.steps.enrichment import enrich
    from leadscrub_pipeline.vendors.idicore import endpoint_of, idicore_workers_reason
    from leadscrub_pipeline.warehouse.contact_counts import count_contacts
    from leadscrub_pipeline.warehouse.leads import require_current_keys
    from leadscrub_pipeline.warehouse.slices import read_slice

    with named_failures():
        require_valid_options(context.run)
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
            spent_today = book.summary(since=utc_now().replace(hour=0, minute=0, second=0, microsecond=0)).cost
        with engine.session() as session:
            stored = count_contacts(session, script.key, context.run.run_id)
    _log_outcomes(context, result)
    outcomes = result.outcomes
    answered = outcomes["hit"] + outcomes["miss"]
    return dg.MaterializeResult(
        metadata={
            "leads": result.leads,
            **counts_metadata({name: outcomes[name] for name in OUTCOMES}),
            "hit_rate": dg.MetadataValue.float(round(outcomes["hit"] / answered, 4) if answered else 0.0),
            "lookups_paid": result.lookups_paid,
            "lookups_reused": result.lookups_reused,
            "lookups_unknown": result.lookups_unknown,
            "cost_dollars": dg.MetadataValue.float(float(result.cost)),
            "workers": result.workers,
            "workers_reason": idicore_workers_reason(result.leads, current),
            "deferred_or_held_by_reason": reasons_metadata(result.reasons),
            "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
            **counts_metadata({f"idicore_{name}": value for name, value in result.vendor.items()}),
            "dagster/partition_row_count": sum(stored.outcomes.values()),
        },
        check_results=[
            sums("every_lead_has_one_outcome", leads.row_count, stored.outcomes, of="leads"),
            _phones_are_valid(stored),
            usual_rate(
                "hit_rate_is_usual",
                part=outcomes["hit"],
                whole=answered,
                past=past_rates(context, part="hit", whole=("hit", "miss")),
                fixed=USUAL_HIT_RATE,
                noun="answered leads are hits",
            ),
            _spend_is_within_budget(spent_today, current.idicore_daily_budget, result),
        ],
    )


def _log_outcomes(context: dg.AssetExecutionContext, result: "Enrichment") -> None:
    outcomes = result.outcomes
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


def _phones_are_valid(stored: "ContactCounts") -> dg.AssetCheckResult:
    text = f"{stored.invalid_phones:,} of {stored.phones:,} phones are no NANP numbers."
    figures = {"phones": stored.phones, "invalid_phones": stored.invalid_phones}
    return claim("phones_are_valid", holds=stored.invalid_phones == 0, text=text, figures=figures)


def _spend_is_within_budget(spent: Decimal, budget: Decimal | None, result: "Enrichment") -> dg.AssetCheckResult:
    capped = {reason: result.reasons[reason] for reason in CAPS if result.reasons[reason]}
    text = f"{spent} dollars were spent today (UTC)"
    text += " and no IDICORE_DAILY_BUDGET is set." if budget is None else f", of {budget}."
    if capped:
        text += f" {sum(capped.values()):,} leads were deferred: {', '.join(capped)}."
    share = float(spent / budget) if budget else 0.0
    return claim(
        "spend_is_within_budget",
        holds=not capped and share < BUDGET_WARNED_OF,
        severity="error" if share > 1 else "warning",
        text=text,
        figures={"spent_today_dollars": float(spent), "budget_share": share, **capped},
    )
