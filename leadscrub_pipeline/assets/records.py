"""What runs of all scripts leave behind together: the ledger, the evidence, and the phones that may be called.

External assets: no step makes one of them as a whole. They show in the graph where they come from, and carry the
checks of what holds over all scripts.
"""

from typing import Final

import dagster as dg

from leadscrub_pipeline.assets.common import GROUP, OWNERS, table_metadata
from leadscrub_pipeline.assets.dnc_flags import dnc_flags
from leadscrub_pipeline.assets.enriched_contacts import enriched_contacts
from leadscrub_pipeline.assets.litigator_flags import litigator_flags
from leadscrub_pipeline.assets.master_processed_db import master_processed_db
from leadscrub_pipeline.assets.own_lists import consents, internal_dnc
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, SCRUB_EVIDENCE

lookup_ledger: Final = dg.AssetSpec(
    "lookup_ledger",
    deps=[enriched_contacts],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sqlite"},
    description=(
        "Every request that was ever sent to idiCORE, what it cost and what came of it. It alone decides who is asked "
        "about. See leadscrub ledger summary."
    ),
)

scrub_evidence: Final = dg.AssetSpec(
    "scrub_evidence",
    deps=[litigator_flags, dnc_flags],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"table"},
    metadata=table_metadata(SCRUB_EVIDENCE),
    description=(
        "Every check of every phone, as it was answered, chained by hashes that are sealed in the ledger. Kept for "
        "five years. See leadscrub evidence export."
    ),
)

callable_phones: Final = dg.AssetSpec(
    "callable_phones",
    deps=[master_processed_db, internal_dnc, consents],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"view"},
    metadata={"dagster/table_name": CALLABLE_PHONES},
    description=(
        "The phones that may be called now, and until when: clear at every source, or consented to where the registry "
        "lists them; unexpired, asked about by nobody, and free of litigators in every published row."
    ),
)
