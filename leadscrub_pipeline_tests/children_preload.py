"""What the fork server loads once for all children: everything a step imports, and nothing that starts a thread."""

import gc
from importlib import import_module

for _module in (
    "pandas",  # pyarrow looks for it when it makes its first array
    "sqlglot.dialects.duckdb",
    "sqlglot.dialects.snowflake",
    "uvloop",
    "certifi",
    "encodings.ascii",
    "encodings.idna",
    "encodings.utf_8_sig",
    "phonenumbers.data.region_US",
    "leadscrub_pipeline.dnc",
    "leadscrub_pipeline.steps.adoption_guard",
    "leadscrub_pipeline.steps.enrichment",
    "leadscrub_pipeline.steps.litigators",
    "leadscrub_pipeline.steps.registry",
    "leadscrub_pipeline.warehouse.duckdb",
    "leadscrub_pipeline.warehouse.leads",
    "leadscrub_pipeline.warehouse.master",
    "leadscrub_pipeline_tests.children",
):
    import_module(_module)

# A collection in a child would walk, and so copy, everything that the fork server had loaded.
gc.collect()
gc.freeze()
