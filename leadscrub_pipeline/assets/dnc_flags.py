"""dnc_flags: the Do-Not-Call registry's verdict about each phone of the partition."""

import dagster as dg

from leadscrub_pipeline.assets.claims import dnc_flags_checks
from leadscrub_pipeline.assets.common import GROUP, OWNERS, TRY_AGAIN, counts_metadata, named_failures, table_metadata
from leadscrub_pipeline.assets.dnc_registry import dnc_registry, list_version, observation
from leadscrub_pipeline.assets.enriched_contacts import enriched_contacts
from leadscrub_pipeline.assets.litigator_flags import flag_checks, flag_metadata, log_verdicts
from leadscrub_pipeline.assets.options import RegistryConfig, stale_list_policy
from leadscrub_pipeline.assets.own_lists import internal_dnc
from leadscrub_pipeline.assets.versions import saw
from leadscrub_pipeline.deployment import purpose_of
from leadscrub_pipeline.domain.verdicts import DNC
from leadscrub_pipeline.partitions import LEAD_SCRIPTS
from leadscrub_pipeline.resources import (
    LedgerResource,
    RegistryResource,
    ScriptsResource,
    SettingsResource,
    WarehouseResource,
)
from leadscrub_pipeline.warehouse.schema import DNC_FLAGS, ENRICHED_CONTACTS


@dg.asset(
    partitions_def=LEAD_SCRIPTS,
    deps=[enriched_contacts, dnc_registry, internal_dnc],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "sqlite", "duckdb"},
    pool="warehouse",
    retry_policy=TRY_AGAIN,
    metadata=table_metadata(DNC_FLAGS),
    check_specs=dnc_flags_checks(),
)
def dnc_flags(
    context: dg.AssetExecutionContext,
    config: RegistryConfig,
    settings: SettingsResource,
    scripts: ScriptsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
    registry: RegistryResource,
) -> dg.MaterializeResult:
    """Whether each phone is on the Do-Not-Call registry: listed, clear, or unknown with a reason. Never guessed.

    A number found on a stale list is listed; only absence from it is unknown. What a list
    past its age does to the step is the setting DNC_ON_STALE_LIST.
    """
    from leadscrub_pipeline.steps.registry import check_registry
    from leadscrub_pipeline.warehouse.phone_verdicts import Check
    from leadscrub_pipeline.warehouse.slices import read_slice

    with named_failures():
        script = scripts.find(context.partition_key)
        current = settings.load()
        check = Check(
            context.run.run_id, "dnc_flags", script.key, script.script_hash, purpose_of(current, script).name, DNC
        )
        engine = warehouse.get()
        with engine.session() as session:
            contacts = read_slice(session, ENRICHED_CONTACTS, script.key)
        with (
            ledger.open() as book,
            book.partition_lease(script.key, holder=context.run.run_id),
            registry.open() as opened,
        ):
            seen = saw(context, list_version(opened))
            context.log_event(observation(opened))
            result = check_registry(
                engine,
                book,
                opened,
                contacts,
                check,
                on_stale_list=stale_list_policy(config.on_stale_list, current),
                max_age_days=current.dnc_max_age_days,
                batched=current.dnc_use_batched_query,
                renew=config.renew,
                report=context.log.info,
            )
            described = opened.describe()
            version = opened.version.name
    log_verdicts(context, result)
    return dg.MaterializeResult(
        metadata=flag_metadata(result)
        | counts_metadata({f"{source}_entries": count for source, count in result.own_entries.items()})
        | {f"registry_{key}": value for key, value in described.items()},
        data_version=dg.DataVersion(f"{version}.{context.run.run_id[:8]}"),
        tags=seen,
        check_results=flag_checks(result, config),
    )
