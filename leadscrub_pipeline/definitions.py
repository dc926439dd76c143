"""The whole system on one page: assets, jobs, sensors and resources. Wiring only; nothing is opened or read here."""

import dagster as dg

from leadscrub_pipeline.assets import (
    dnc_flags,
    dnc_registry,
    enriched_contacts,
    litigator_flags,
    master_processed_db,
    raw_leads,
)
from leadscrub_pipeline.jobs import preview_job, scrub_job
from leadscrub_pipeline.rescrub import rescrub_job
from leadscrub_pipeline.resources import (
    LedgerResource,
    RegistryResource,
    ScriptsResource,
    SettingsResource,
    WarehouseResource,
)
from leadscrub_pipeline.sensors import dnc_registry_sensor, lead_scripts_sensor

defs = dg.Definitions(
    assets=[raw_leads, enriched_contacts, litigator_flags, dnc_flags, master_processed_db, dnc_registry],
    jobs=[scrub_job, preview_job, rescrub_job],
    sensors=[lead_scripts_sensor, dnc_registry_sensor],
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
