"""Tags of runs, to filter by in the UI: which script, what kind of run, who launched it."""

from collections.abc import Mapping
from typing import Final

PARTITION: Final = "dagster/partition"
SCRIPT: Final = "leadscrub/script"
MODE: Final = "leadscrub/mode"
"""scrub, rescrub, preview, dnc_build, own_lists, resilience, still_failed; assets when somebody picked them."""
LAUNCHED_BY: Final = "leadscrub/launched_by"
"""The sensor, the schedule, or cli."""
PICKED: Final = "assets"


def missing_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """What a run with these tags has not got, and can be told from them; jobs bring their mode themselves."""
    wanted = {MODE: PICKED}
    if PARTITION in tags:
        wanted[SCRIPT] = tags[PARTITION]
    return {name: value for name, value in wanted.items() if name not in tags}
