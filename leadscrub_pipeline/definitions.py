"""The whole system on one page: assets, jobs, sensors and resources. Wiring only; nothing is opened or read here."""

import dagster as dg

from leadscrub_pipeline.assets import (
    callable_phones,
    dnc_flags,
    dnc_registry,
    enriched_contacts,
    lead_scripts,
    litigator_flags,
    lookup_ledger,
    master_processed_db,
    raw_leads,
    scrub_evidence,
)
from leadscrub_pipeline.jobs import preview_job, scrub_job
from leadscrub_pipeline.resources import (
    LedgerResource,
    RegistryResource,
    ScriptsResource,
    SettingsResource,
    WarehouseResource,
)
from leadscrub_pipeline.sensors import lead_scripts_sensor

defs = dg.Definitions(
    assets=[
        lead_scripts,
        raw_leads,
        enriched_contacts,
        lookup_ledger,
        litigator_flags,
        dnc_registry,
        dnc_flags,
        scrub_evidence,
        master_processed_db,
        callable_phones,
    ],
    jobs=[scrub_job, preview_job],
    sensors=[lead_scripts_sensor],
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
