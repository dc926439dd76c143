"""Which lead scripts are new or changed since the last look, and what of that is remembered between looks.

Pure: reading the files and launching runs do not belong here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """A script as it was last seen."""

    stamp: str
    """Of the file: one that has the same is not read again."""
    script_hash: str
    changes: int = 0
    """How often the hash was another one. With it a script that returns to an earlier text is a change, too."""

    @property
    def run_key(self) -> str:
        """The same for everybody who sees this change, so that it is launched once."""
        return f"{self.script_hash[:16]}-{self.changes}"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a look leaves for the next one. Who was removed is remembered: back with its old text it is no change."""

    scripts: Mapping[str, Seen] = field(default_factory=dict)
    is_settled: bool = False
    """The folder was seen as a whole once. Until then nothing is launched: a first deployment would launch all."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found."""

    memory: Memory
    present: tuple[str, ...]
    to_run: tuple[str, ...]
    """New and changed scripts by key, as many as may be launched now; the others come at the next look."""
    waiting: int = 0


def look(memory: Memory, found: Mapping[str, Seen], *, is_whole: bool, at_most: int) -> Look:
    """Compare what is there with what was seen before.

    Args:
        memory: of the look before.
        found: each script that could be read; ``changes`` in it is of no account.
        is_whole: every script of the folder is in ``found``, or could not be read.
        at_most: runs to launch now.
    """
    changed = sorted(
        key
        for key, seen in found.items()
        if key not in memory.scripts or memory.scripts[key].script_hash != seen.script_hash
    )
    to_run = changed[:at_most] if memory.is_settled else []
    waiting = set(changed) - set(to_run) if memory.is_settled else set()
    scripts = dict(memory.scripts)
    for key, seen in found.items():
        before = memory.scripts.get(key)
        if key in waiting:
            continue  # as if it had not been seen
        if before is None or before.script_hash == seen.script_hash:
            scripts[key] = replace(seen, changes=0 if before is None else before.changes)
        else:
            scripts[key] = replace(seen, changes=before.changes + 1)
    return Look(
        Memory(scripts, is_settled=memory.is_settled or is_whole),
        present=tuple(sorted(found)),
        to_run=tuple(to_run),
        waiting=len(waiting),
    )


def to_cursor(memory: Memory) -> str:
    scripts = {key: [seen.stamp, seen.script_hash, seen.changes] for key, seen in sorted(memory.scripts.items())}
    return orjson.dumps({"version": _VERSION, "settled": memory.is_settled, "scripts": scripts}).decode()


def from_cursor(cursor: str | None) -> Memory:
    """What was remembered; nothing when the cursor is none of ours, so that nothing is launched by mistake."""
    try:
        held = orjson.loads(cursor or "")
        if held["version"] != _VERSION:
            return Memory()
        scripts = {
            key: Seen(str(stamp), str(digest), int(changes))
            for key, (stamp, digest, changes) in held["scripts"].items()
        }
        return Memory(scripts, is_settled=held["settled"] is True)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Memory()
