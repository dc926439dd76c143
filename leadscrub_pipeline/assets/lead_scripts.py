"""lead_scripts: the SQL files as Dagster sees them.

An external asset: people write the files. Whoever reads one notes which version it saw, so that leads selected by an
older one are marked as stale.
"""

from typing import TYPE_CHECKING, Final

import dagster as dg

from leadscrub_pipeline.assets.common import GROUP, OWNERS
from leadscrub_pipeline.assets.versions import DATA_VERSION
from leadscrub_pipeline.partitions import LEAD_SCRIPTS

if TYPE_CHECKING:
    from leadscrub_pipeline.domain.scripts import LeadScript

lead_scripts: Final = dg.AssetSpec(
    "lead_scripts",
    partitions_def=LEAD_SCRIPTS,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sql"},
    description=(
        "The SQL files in LEADSCRUB_SCRIPTS, one a partition. A version is the hash of statement and header; comments "
        "and layout do not count."
    ),
)


def script_version(key: str, script_hash: str) -> dg.AssetObservation:
    """The file as somebody saw it; what was made from another version is stale from now on."""
    return dg.AssetObservation(
        asset_key=lead_scripts.key,
        partition=key,
        metadata={"script_hash": script_hash},
        tags={DATA_VERSION: script_hash},
    )


def header_metadata(script: "LeadScript") -> dg.TableMetadataValue:
    """What the header says, as a table."""
    facts = {
        "title": script.title,
        "owner": script.owner,
        "description": script.description,
        "purpose": script.purpose,
        "databases": ", ".join(sorted(script.databases)) if script.databases is not None else None,
        "columns": ", ".join(f"{place} = {name.text}" for place, name in script.columns.items()) or None,
        "schedule": "nightly" if script.is_nightly else None,
    }
    return dg.MetadataValue.table(
        [dg.TableRecord({"key": key, "value": value}) for key, value in facts.items() if value is not None]
    )
