"""dnc_registry_sensor: a registry file that holds another list is observed, and requests a rescrub."""

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import dagster as dg
import orjson

from leadscrub_pipeline.assets.dnc_registry import list_version, observation
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.resources import RegistryResource
from leadscrub_pipeline.run_tags import LAUNCHED_BY
from leadscrub_pipeline.sensors.watched_files import is_being_written

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """What a tick leaves for the next one."""

    stamp: str | None = None
    """Of the file and the setting that dates it; None before the first look."""
    list_version: str | None = None
    changes: int = 0
    """How often the list was another one. With it a list that comes back is a change, too."""


@dg.sensor(
    # Dagster makes a sensor anew that is given a job of ops, and then warns of a parameter of its own.
    job_name="rescrub_job",
    minimum_interval_seconds=60,
    description=(
        "Looks whether DNC_DATABASE_PATH holds another list: observes it as dnc_registry and requests rescrub_job. Its "
        "first look observes and launches nothing. A file that is being written, or cannot be trusted, is left alone "
        "and looked at again."
    ),
)
def dnc_registry_sensor(context: dg.SensorEvaluationContext, registry: RegistryResource) -> dg.SensorResult:
    """Compare the file with what the cursor remembers of it; it is opened only when it is another one."""
    from leadscrub_pipeline.dnc.stamp import take_stamp
    from leadscrub_pipeline.errors import UnavailableError

    memory = from_cursor(context.cursor)
    try:
        settings = registry.load()
        if settings.dnc_database_path is None:
            raise UnavailableError("No registry file is configured. Set DNC_DATABASE_PATH.")
        taken = take_stamp(settings.dnc_database_path)
        stamp = _stamp(settings.dnc_database_path, settings.dnc_list_date, taken)
        if stamp == memory.stamp:
            return _skip(context, f"The registry file holds list {memory.list_version} as before.")
        last_write = max(taken.modified_ns, taken.wal_modified_ns) / 1e9
        if is_being_written(last_write):
            return _skip(context, "The registry file is being written. It is looked at when it has been quiet.")
        with registry.open() as opened:
            found = opened.version.name
            seen: list[dg.AssetMaterialization | dg.AssetObservation] = [list_version(opened), observation(opened)]
    except LeadscrubError as error:
        return _skip(context, str(error))
    is_new = memory.list_version not in (None, found)
    changes = memory.changes + is_new
    return dg.SensorResult(
        # What was made from an older list is stale from now on.
        asset_events=seen,
        run_requests=[
            dg.RunRequest(run_key=f"{found}-{stamp[:12]}.{changes}", tags={LAUNCHED_BY: "dnc_registry_sensor"})
        ]
        if is_new
        else [],
        skip_reason=None if is_new else _reason(memory, found),
        cursor=to_cursor(Memory(stamp, found, changes)),
    )


def _skip(context: dg.SensorEvaluationContext, text: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=text, cursor=context.cursor)


def _reason(memory: Memory, found: str) -> str:
    if memory.list_version is None:
        return f"First look: the registry file holds list {found}, and no rescrub is requested."
    return f"The registry file was written and holds list {found} as before."


def _stamp(path: Path, list_date: date | None, taken: tuple[int, ...]) -> str:
    """A three-column file's version has its date from a setting, so that is part of it."""
    return hashlib.sha256(repr((str(path), list_date, tuple(taken))).encode()).hexdigest()


def to_cursor(memory: Memory) -> str:
    values = {
        "version": _VERSION,
        "stamp": memory.stamp,
        "list_version": memory.list_version,
        "changes": memory.changes,
    }
    return orjson.dumps(values).decode()


def from_cursor(cursor: str | None) -> Memory:
    """What a cursor says; one that is not of this form means a first look."""
    try:
        values = orjson.loads(cursor or "null")
    except orjson.JSONDecodeError:
        return Memory()
    if not isinstance(values, dict) or values.get("version") != _VERSION:
        return Memory()
    stamp, found, changes = values.get("stamp"), values.get("list_version"), values.get("changes", 0)
    is_ours = isinstance(stamp, str) and isinstance(found, str) and isinstance(changes, int)
    return Memory(stamp, found, changes) if is_ours else Memory()
