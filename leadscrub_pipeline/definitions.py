"""The whole system on one page: assets, checks, jobs, schedules, sensors and resources. Wiring only.

Nothing is opened here. Settings are read for one thing, the times of the schedules, which Dagster wants to know now.
"""

import dagster as dg

from leadscrub_pipeline.assets import (
    callable_phones,
    consents,
    dnc_flags,
    dnc_registry,
    enriched_contacts,
    internal_dnc,
    lead_scripts,
    litigator_flags,
    lookup_ledger,
    master_processed_db,
    raw_leads,
    scrub_evidence,
    scrub_report,
)
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
from leadscrub_pipeline.dnc_build import dnc_build_job
from leadscrub_pipeline.jobs import own_lists_job, preview_job, resilience_job, scrub_job, still_failed_job
from leadscrub_pipeline.rescrub import rescrub_job
from leadscrub_pipeline.resources import (
    LedgerResource,
    RegistryResource,
    ScriptsResource,
    SettingsResource,
    WarehouseResource,
)
from leadscrub_pipeline.schedules import load_schedules
from leadscrub_pipeline.sensors import (
    ALERT_SENSORS,
    dnc_downloads_sensor,
    dnc_registry_sensor,
    lead_scripts_sensor,
    own_lists_sensor,
)

defs = dg.Definitions(
    assets=[
        lead_scripts,
        raw_leads,
        enriched_contacts,
        lookup_ledger,
        litigator_flags,
        dnc_registry,
        internal_dnc,
        consents,
        dnc_flags,
        scrub_evidence,
        master_processed_db,
        callable_phones,
        scrub_report,
    ],
    asset_checks=[
        company_list_is_honoured,
        registry_is_fresh,
        evidence_is_as_sealed,
        every_false_flag_has_evidence,
        ledger_backup_can_be_read,
        no_person_is_published_twice,
        no_script_is_still_failed,
        pool_limits_are_set,
        tables_are_as_declared,
    ],
    jobs=[scrub_job, preview_job, rescrub_job, dnc_build_job, own_lists_job, resilience_job, still_failed_job],
    schedules=load_schedules(),
    sensors=[lead_scripts_sensor, dnc_downloads_sensor, dnc_registry_sensor, own_lists_sensor, *ALERT_SENSORS],
    resources={
        "settings": SettingsResource(),
        "scripts": ScriptsResource(),
        "warehouse": WarehouseResource(),
        "ledger": LedgerResource(),
        "registry": RegistryResource(),
    },
    # One process a run: the steps of a script are a chain, and a process a step costs seconds each.
    executor=dg.in_process_executor,
)
