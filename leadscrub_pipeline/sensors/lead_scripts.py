"""lead_scripts_sensor: a script file that is new becomes a partition, and one that is new or changed gets a run."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dagster as dg

from leadscrub_pipeline.assets.lead_scripts import script_version
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.jobs import scrub_job
from leadscrub_pipeline.partitions import LEAD_SCRIPTS
from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.run_tags import LAUNCHED_BY

if TYPE_CHECKING:
    from leadscrub_pipeline.domain.script_changes import Seen

LAUNCHES: Final = 20
"""Runs that one tick requests: each may pay. A folder that was exchanged as a whole is launched bit by bit."""
READING_SECONDS: Final = 20.0
"""A tick has 60 seconds. What was not read by then is read at the next."""


@dg.sensor(
    job=scrub_job,
    minimum_interval_seconds=30,
    description=(
        "Makes a partition of each new script in LEADSCRUB_SCRIPTS, and requests a run of scripts that are new or "
        "whose statement or header changed; comments and blanks do not count. Its first look registers and launches "
        "nothing. A script that was removed keeps its partition and its past."
    ),
)
def lead_scripts_sensor(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult:
    """Compare the folder with what the cursor remembers of it."""
    from leadscrub_pipeline.domain.script_changes import from_cursor, look, to_cursor
    from leadscrub_pipeline.domain.scripts import sound_script_paths

    memory = from_cursor(context.cursor)
    try:
        paths, misnamed = sound_script_paths(settings.load().leadscrub_scripts)
    except LeadscrubError as error:
        # A folder that cannot be read is no empty one: nothing is concluded from it.
        return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
    found, unreadable, is_whole = _read(paths, memory.scripts)
    problems = [*misnamed, *unreadable]
    seen = look(memory, found, is_whole=is_whole, at_most=LAUNCHES)
    for problem in problems:
        context.log.warning(problem)
    known = set(context.instance.get_dynamic_partitions("lead_scripts"))
    new = sorted(set(seen.present) - known)
    requests = [
        dg.RunRequest(
            run_key=f"{key}-{seen.memory.scripts[key].run_key}",
            partition_key=key,
            tags={LAUNCHED_BY: "lead_scripts_sensor"},
        )
        for key in seen.to_run
    ]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[LEAD_SCRIPTS.build_add_request(new)] if new else [],
        skip_reason=None
        if requests
        else _reason(len(seen.present), len(new), problems, is_first=not memory.is_settled),
        cursor=to_cursor(seen.memory),
        # What was made from an older version is stale from now on, whatever becomes of the run.
        asset_events=[script_version(key, seen.memory.scripts[key].script_hash) for key in seen.to_run],
    )


def _read(paths: Mapping[str, Path], before: Mapping[str, "Seen"]) -> tuple[dict[str, "Seen"], list[str], bool]:
    """Scripts by key, what could not be read, and whether the time was enough for all."""
    from leadscrub_pipeline.domain.script_changes import Seen
    from leadscrub_pipeline.domain.scripts import read_script

    found: dict[str, Seen] = {}
    problems: list[str] = []
    deadline = time.monotonic() + READING_SECONDS
    for key, path in paths.items():
        if time.monotonic() > deadline:
            return found, problems, False
        try:
            stamp = _stamp(path)
            held = before.get(key)
            if held is None or held.stamp != stamp:
                held = Seen(stamp, read_script(path).script_hash)
            found[key] = held
        except (LeadscrubError, OSError) as error:
            problems.append(str(error) if isinstance(error, LeadscrubError) else f"{path.name}: {type(error).__name__}")
    return found, problems, True


def _stamp(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_mtime_ns}-{facts.st_size}-{facts.st_ino}"


def _reason(scripts: int, new: int, problems: list[str], *, is_first: bool) -> str:
    text = f"{scripts:,} scripts, none of them new or changed."
    if is_first:
        text = f"First look: {scripts:,} scripts, {new:,} of them registered as partitions, none launched."
    return " ".join([text, *problems[:3]])
