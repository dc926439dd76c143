"""The assets of the scrub, and what they read and leave behind. Each reads as: get, transform, put, report."""

from leadscrub_pipeline.assets.dnc_flags import dnc_flags
from leadscrub_pipeline.assets.dnc_registry import dnc_registry
from leadscrub_pipeline.assets.enriched_contacts import enriched_contacts
from leadscrub_pipeline.assets.lead_scripts import lead_scripts
from leadscrub_pipeline.assets.litigator_flags import litigator_flags
from leadscrub_pipeline.assets.master_processed_db import master_processed_db
from leadscrub_pipeline.assets.own_lists import consents, internal_dnc
from leadscrub_pipeline.assets.raw_leads import raw_leads
from leadscrub_pipeline.assets.records import callable_phones, lookup_ledger, scrub_evidence
from leadscrub_pipeline.assets.scrub_report import scrub_report

__all__ = [
    "callable_phones",
    "consents",
    "dnc_flags",
    "dnc_registry",
    "enriched_contacts",
    "internal_dnc",
    "lead_scripts",
    "litigator_flags",
    "lookup_ledger",
    "master_processed_db",
    "raw_leads",
    "scrub_evidence",
    "scrub_report",
]
