"""Asset checks of what holds over all scripts together; each is named as its claim and can be run on its own.

What a single run must hold is evaluated by its steps, and stands in assets/claims.py.
"""

import dagster as dg

from leadscrub_pipeline.assets import callable_phones, dnc_registry, internal_dnc, lookup_ledger, scrub_evidence
from leadscrub_pipeline.assets.claims import claim
from leadscrub_pipeline.assets.common import named_failures
from leadscrub_pipeline.assets.options import stale_list_policy_of
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.partitions import failed_scripts
from leadscrub_pipeline.pools import keeps_place_to_the_end, limits_of
from leadscrub_pipeline.resources import LedgerResource, RegistryResource, SettingsResource, WarehouseResource


@dg.asset_check(
    asset=dnc_registry.key,
    pool="warehouse",
    description="The list is younger than DNC_WARN_AGE_DAYS. Past DNC_MAX_AGE_DAYS it is an error, or a warning where "
    "absent numbers are left unknown (on_stale_list: null).",
)
def registry_is_fresh(
    context: dg.AssetCheckExecutionContext, settings: SettingsResource, registry: RegistryResource
) -> dg.AssetCheckResult:
    """In every scrub, too, so that a list that grows old shows before it is too old."""
    try:
        current = settings.load()
        with registry.open() as opened:
            age, reason = opened.age_days, opened.age_reason()
    except LeadscrubError as error:
        # dnc_flags fails by it; the check only tells.
        return claim("registry_is_fresh", holds=False, text=str(error))
    policy, limit = stale_list_policy_of(context.run, current), current.dnc_max_age_days
    if age is None:
        text = "Nobody says when the list was obtained. Set DNC_LIST_DATE."
    elif reason is not None:
        text = f"The list is {age} days old and may be used for {limit} (16 CFR 310.4(b)(3)(iv)). Get a new one."
    else:
        text = f"The list is {age} days old; it may be used for {limit - age} more."
    return claim(
        "registry_is_fresh",
        holds=reason is None and age is not None and age < current.dnc_warn_age_days,
        severity="error" if reason is not None and policy == "fail" else "warning",
        text=text,
        figures={"age_days": age if age is not None else -1, "max_age_days": limit, "on_stale_list": policy},
    )


@dg.asset_check(
    asset=scrub_evidence.key,
    pool="warehouse",
    description="No row of evidence was edited, deleted, inserted or moved since the ledger sealed it, and every clear "
    "verdict is borne out. The same as leadscrub evidence verify.",
)
def evidence_is_as_sealed(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource, ledger: LedgerResource
) -> dg.AssetCheckResult:
    from leadscrub_pipeline.steps.evidence_verification import verify

    with named_failures(), ledger.open() as book:
        found = verify(warehouse.get(), book, report=context.log.info)
    outcome = "all are as they were written."
    if not found.is_sound:
        outcome = f"{found.kinds.total():,} findings. Run leadscrub evidence verify."
    return claim(
        "evidence_is_as_sealed",
        holds=found.is_sound,
        text=f"{found.rows:,} rows in {found.chains:,} chains were read: {outcome}",
        figures={
            "rows": found.rows,
            "chains": found.chains,
            "clear_verdicts": found.verdicts,
            "unsealed_rows": found.unsealed_rows,
            "findings": found.kinds.total(),
            "findings_by_kind": dict(found.kinds),
        },
    )


@dg.asset_check(
    asset=scrub_evidence.key,
    pool="warehouse",
    description="For every flag that is FALSE in the master table, of the five years that evidence is kept, the "
    "newest evidence that is not unknown says clear.",
)
def every_false_flag_has_evidence(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    from leadscrub_pipeline.domain.verdicts import utc_now
    from leadscrub_pipeline.steps.evidence_pruning import RETENTION_YEARS, years_before
    from leadscrub_pipeline.warehouse.standing_checks import false_flags_without_evidence

    with named_failures(), warehouse.get().session() as session:
        clear, without = false_flags_without_evidence(session, since=years_before(utc_now(), RETENTION_YEARS))
    return claim(
        "every_false_flag_has_evidence",
        holds=without == 0,
        text=f"{without:,} of {clear:,} phones that a flag calls clear have no evidence, or newer that says listed."
        + (" Do not call them; run leadscrub rescrub, then leadscrub evidence verify." if without else ""),
        figures={"clear_phones": clear, "without_evidence": without},
    )


@dg.asset_check(
    asset=internal_dnc.key,
    pool="warehouse",
    description="Every published row that holds a number on the company's list says so. CALLABLE_PHONES leaves such "
    "numbers out in any case.",
)
def company_list_is_honoured(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    from leadscrub_pipeline.warehouse.own_lists import rows_not_honoured

    with named_failures(), warehouse.get().session() as session:
        rows = len(rows_not_honoured(session))
    text = f"{rows:,} published rows do not say that somebody asked us not to call a number of theirs."
    return claim(
        "company_list_is_honoured",
        holds=rows == 0,
        text=text + (" Run leadscrub rescrub." if rows else ""),
        figures={"rows": rows},
    )


@dg.asset_check(
    asset=callable_phones.key,
    pool="warehouse",
    description="The first script to publish a person owns them: nobody else publishes them. "
    "Rows that an older system wrote do not count.",
)
def no_person_is_published_twice(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    from leadscrub_pipeline.warehouse.standing_checks import people_published_twice

    with named_failures():
        engine = warehouse.get()
        with engine.session() as session:
            twice = people_published_twice(session, engine.dialect)
    text = f"{twice:,} people were published under more than one script."
    return claim("no_person_is_published_twice", holds=twice == 0, text=text, figures={"people_published_twice": twice})


@dg.asset_check(
    asset=callable_phones.key,
    pool="warehouse",
    description="Tables and views are as this release declares them. The same as leadscrub db status.",
)
def tables_are_as_declared(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    from leadscrub_pipeline.warehouse.migration import read_status

    with named_failures():
        changes = read_status(warehouse.get()).changes
    text = " ".join(change.reason for change in changes) + " See leadscrub db plan." if changes else "All are."
    return claim("tables_are_as_declared", holds=not changes, text=text, figures={"differences": len(changes)})


@dg.asset_check(
    asset=callable_phones.key,
    description="The latest run of every script ended well. A script that is still failed is named here every day.",
)
def no_script_is_still_failed(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    failed = failed_scripts(context.instance)
    text = f"{len(failed)} scripts are failed: {', '.join(failed[:20])}." if failed else "None is."
    return claim(
        "no_script_is_still_failed",
        holds=not failed,
        severity="warning",
        text=text,
        figures={"failed": len(failed), "scripts": failed},
    )


@dg.asset_check(
    asset=lookup_ledger.key,
    description="Each pool of Dagster has a limit, and a run keeps its place to its end (granularity run). Without a "
    "limit every run goes in at once.",
)
def pool_limits_are_set(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    limits = limits_of(context.instance)
    missing = [name for name, limit in limits.items() if limit is None]
    by_run = keeps_place_to_the_end(context.instance)
    text = f"No limit: {', '.join(missing)}. Run leadscrub setup." if missing else "Every pool has its limit."
    if not by_run:
        text += " Set concurrency.pools.granularity to run in dagster.yaml."
    return claim(
        "pool_limits_are_set",
        holds=by_run and not missing,
        text=text,
        figures={f"pool_{k}": v for k, v in limits.items()},
    )


@dg.asset_check(
    asset=lookup_ledger.key,
    description="A backup of the ledger can be made and read back, with every request and every dollar. It is thrown "
    "away; keep real ones with leadscrub ledger backup.",
)
def ledger_backup_can_be_read(settings: SettingsResource, ledger: LedgerResource) -> dg.AssetCheckResult:
    from leadscrub_pipeline.steps.ledger_backup_check import check_backup

    with named_failures(), ledger.open() as book:
        found = check_backup(book, settings.load().leadscrub_home)
    return claim(
        "ledger_backup_can_be_read",
        holds=found.is_whole,
        text=f"{found.backed_up_lookups:,} of {found.lookups:,} requests came back, "
        f"{found.backed_up_cost} of {found.cost} dollars.",
        figures={"lookups": found.lookups, "backed_up_lookups": found.backed_up_lookups},
    )
