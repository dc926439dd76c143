"""dnc_registry: the national Do-Not-Call list as it lies on disk.

An external asset: nobody materializes it here. Whoever looks into the file reports what it
saw as an observation, and a version that nobody saw before as a materialization: by it
Dagster marks the flags of older lists as stale. Its own observable assets are in beta and say so at every import.
"""

from typing import TYPE_CHECKING, Final

import dagster as dg

from leadscrub_pipeline.assets.common import GROUP, OWNERS
from leadscrub_pipeline.assets.versions import DATA_VERSION

if TYPE_CHECKING:
    from leadscrub_pipeline.dnc import DncRegistry

dnc_registry: Final = dg.AssetSpec(
    "dnc_registry",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sqlite"},
    description="The Do-Not-Call registry's SQLite file: its version, when it was obtained, its area codes.",
)


def observation(registry: "DncRegistry") -> dg.AssetObservation:
    """The file as it is now: the version under which verdicts are stored, and its age."""
    return dg.AssetObservation(
        asset_key=dnc_registry.key,
        metadata=registry.describe(),
        tags={DATA_VERSION: registry.version.name},
    )


def list_version(registry: "DncRegistry") -> dg.AssetMaterialization:
    """The list as a version of its own; flags that were made from another one are stale from now on."""
    return dg.AssetMaterialization(
        asset_key=dnc_registry.key,
        metadata=registry.describe(),
        tags={DATA_VERSION: registry.version.name},
    )
