"""dnc_registry: the national Do-Not-Call list as it lies on disk.

An external asset: nobody materializes it here. Whoever looks into the file reports what it
saw as an observation, and a version that nobody saw before as a materialization: by it
Dagster marks the flags of older lists as stale. Its own observable assets are in beta and say so at every import.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from leadscrub_pipeline.assets.common import GROUP, OWNERS
from leadscrub_pipeline.assets.versions import DATA_VERSION

if TYPE_CHECKING:
    from leadscrub_pipeline.dnc import DncRegistry
    from leadscrub_pipeline.dnc.building import Built

dnc_registry: Final = dg.AssetSpec(
    "dnc_registry",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sqlite"},
    # From when a list was first seen here; how old it is, to the day, registry_is_fresh says.
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=31), warn_window=timedelta(days=24)),
    description="The Do-Not-Call registry's SQLite file: its version, when it was obtained, its area codes.",
)


def observation(registry: "DncRegistry") -> dg.AssetObservation:
    """The file as it is now: the version under which verdicts are stored, and its age."""
    return dg.AssetObservation(
        asset_key=dnc_registry.key,
        metadata=registry.describe(),
        tags={DATA_VERSION: registry.version.name},
    )


def list_version(registry: "DncRegistry", more: Mapping[str, Any] | None = None) -> dg.AssetMaterialization:
    """The list as a version of its own; flags that were made from another one are stale from now on."""
    return dg.AssetMaterialization(
        asset_key=dnc_registry.key,
        metadata={**registry.describe(), **(more or {})},
        tags={DATA_VERSION: registry.version.name},
    )


def built_metadata(download: str, built: "Built") -> dict[str, Any]:
    """What came with a version that was made here: what changed, and which files it was made from."""
    sources = [
        dg.TableRecord(
            {
                "file": source.name,
                "lines": source.lines,
                "rejected": sum(source.rejected.values()),
                "sha256": source.sha256,
            }
        )
        for source in built.facts.sources
    ]
    return {
        "download": download,
        "added": built.added,
        "removed": built.removed,
        "sources": dg.MetadataValue.table(sources) if sources else None,
        "warnings": len(built.warnings),
    }
