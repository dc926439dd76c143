"""litigator_flags: CCC's verdict about each phone of the partition."""

from typing import Any

import dagster as dg

from leadscrub_pipeline.assets.claims import (
    USUAL_LITIGATOR_RATE,
    claim,
    clear_phones_have_evidence,
    few_unknown,
    litigator_flags_checks,
    past_rates,
    usual_rate,
)
from leadscrub_pipeline.assets.common import (
    GROUP,
    OWNERS,
    TRY_AGAIN,
    counts_metadata,
    named_failures,
    reasons_metadata,
    table_metadata,
)
from leadscrub_pipeline.assets.enriched_contacts import enriched_contacts
from leadscrub_pipeline.assets.options import FlagConfig
from leadscrub_pipeline.deployment import deployment_kind, purpose_of
from leadscrub_pipeline.domain.verdicts import CCC, Reason
from leadscrub_pipeline.partitions import LEAD_SCRIPTS
from leadscrub_pipeline.resources import LedgerResource, ScriptsResource, SettingsResource, WarehouseResource
from leadscrub_pipeline.steps.flag_report import FlagReport
from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS, LITIGATOR_FLAGS


@dg.asset(
    partitions_def=LEAD_SCRIPTS,
    deps=[enriched_contacts],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "duckdb"},
    pool="ccc",
    retry_policy=TRY_AGAIN,
    metadata=table_metadata(LITIGATOR_FLAGS),
    check_specs=litigator_flags_checks(),
)
def litigator_flags(
    context: dg.AssetExecutionContext,
    config: FlagConfig,
    settings: SettingsResource,
    scripts: ScriptsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
) -> dg.MaterializeResult:
    """Whether each phone belongs to a known litigator: listed, clear, or unknown with a reason. Never guessed.

    Each answer is stored with its evidence. Unexpired verdicts are reused, not asked again.
    """
    from leadscrub_pipeline.steps.litigators import check_litigators
    from leadscrub_pipeline.vendors.ccc import ccc_workers_reason
    from leadscrub_pipeline.warehouse.phone_verdicts import Check
    from leadscrub_pipeline.warehouse.slices import read_slice

    with named_failures():
        script = scripts.find(context.partition_key)
        current = settings.load()
        check = Check(
            context.run.run_id, "litigator_flags", script.key, script.script_hash, purpose_of(current, script).name, CCC
        )
        engine = warehouse.get()
        with engine.session() as session:
            contacts = read_slice(session, ENRICHED_CONTACTS, script.key)
        with ledger.open() as book, book.partition_lease(script.key, holder=context.run.run_id):
            result = check_litigators(
                engine, book, contacts, check, current, renew=config.renew, report=context.log.info
            )
    if result.controls_partly_clear:
        context.log.warning(f"Some control numbers came back clear in {result.controls_partly_clear} batches.")
    if not current.ccc_control_numbers:
        context.log.warning(
            "CCC_CONTROL_NUMBERS is not set: an expired plan that answers false to all would not be seen."
        )
    log_verdicts(context, result)
    return dg.MaterializeResult(
        metadata=flag_metadata(result)
        | {
            "workers": result.workers,
            "workers_reason": ccc_workers_reason(result.asked, current),
            "controls_partly_clear": result.controls_partly_clear,
            **counts_metadata({f"ccc_{name}": value for name, value in result.vendor.items()}),
        },
        check_results=[
            *flag_checks(result, config),
            _controls_are_found(
                result, controls=len(current.ccc_control_numbers), is_live=deployment_kind(current) == "live"
            ),
            usual_rate(
                "litigator_rate_is_usual",
                part=result.verdicts["listed"],
                whole=result.phones,
                past=past_rates(context, part="listed", whole=("phones",)),
                fixed=USUAL_LITIGATOR_RATE,
                noun="phones are litigators'",
            ),
        ],
    )


def _controls_are_found(result: FlagReport, *, controls: int, is_live: bool) -> dg.AssetCheckResult:
    lost = result.reasons[Reason.CONTROL_FAILED]
    is_needed = is_live and not controls
    text = "All positive controls came back as litigators."
    if is_needed:
        text = "CCC_CONTROL_NUMBERS is not set: an expired plan that answers false to all would not be seen."
    elif lost:
        text = f"No control was found in requests about {lost:,} phones, which are unknown for it. Check the CCC plan."
    elif result.controls_partly_clear:
        text = f"Some controls came back clear in {result.controls_partly_clear:,} batches."
    elif not controls:
        text = "No positive control is configured, so none was asked about."
    elif not result.asked:
        text = "Nothing was asked of CCC in this run, so no positive control rode along."
    return claim(
        "positive_controls_are_found",
        holds=not (is_needed or lost or result.controls_partly_clear),
        severity="error" if is_needed or lost else "warning",
        text=text,
        figures={"phones_without_control": lost, "batches_partly_clear": result.controls_partly_clear},
    )


def flag_checks(result: FlagReport, config: FlagConfig) -> list[dg.AssetCheckResult]:
    """What both assets of flags claim."""
    return [
        clear_phones_have_evidence(result.verdicts["clear"], result.clear_without_evidence),
        few_unknown(result.phones, result.verdicts["unknown"], max_share=config.max_unknown_share),
    ]


def log_verdicts(context: dg.AssetExecutionContext, result: FlagReport) -> None:
    verdicts = result.verdicts
    context.log.info(
        f"{result.phones:,} phones: {verdicts['listed']:,} listed, {verdicts['clear']:,} clear, "
        f"{verdicts['unknown']:,} unknown; {result.asked:,} asked, {result.reused:,} verdicts reused."
    )
    if result.chains_sealed_late:
        context.log.info(
            f"Sealed what earlier runs left unsealed: {result.chains_sealed_late:,} chains, "
            f"{result.rows_sealed_late:,} rows of evidence."
        )
    if result.chains_broken:
        context.log.warning(
            f"{result.chains_broken:,} chains that earlier runs left do not follow from what is sealed of them and "
            "stay unsealed. Run leadscrub evidence verify."
        )


def flag_metadata(result: FlagReport) -> dict[str, Any]:
    """The numbers that both assets of flags report."""
    return {
        **counts_metadata({"phones": result.phones, "asked": result.asked, "reused": result.reused}),
        **counts_metadata(result.verdicts),
        "requests": result.requests,
        "unknown_by_reason": reasons_metadata(result.reasons),
        "evidence_rows": result.evidence_rows,
        "evidence_root": result.evidence_root,
        "evidence_seal": result.evidence_seal,
        "evidence_chains_sealed_late": result.chains_sealed_late,
        "evidence_rows_sealed_late": result.rows_sealed_late,
        "evidence_chains_broken": result.chains_broken,
        "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
        "dagster/partition_row_count": result.phones,
    }
