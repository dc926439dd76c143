"""Which alerts were sent, so that one cause is announced once in a while and no alert is lost without a word.

What is held back or could not be sent is counted, and the next one under its key, or the
daily message, says how many. Where the memory is kept does not belong here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from leadscrub_pipeline.domain.alerts import Alert, count

ENTRIES: Final = 500
UNSENT: Final = 30
"""Alerts kept whole until the server can be reached again."""
KEPT: Final = timedelta(days=3)
"""Longer than any window."""
PAUSE: Final = timedelta(seconds=60)
"""After a server that could not be reached or was slow nothing is sent for so long: a tick has its limit."""
_VERSION: Final = 1
_PLAIN: Final = ("topic", "title", "message", "key", "tags", "priority", "click")


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of the alerts under one key."""

    touched_at: datetime
    sent_at: datetime | None = None
    untold: int = 0
    """Alerts that nothing sent has told of yet, besides ``unsent``."""
    unsent: Alert | None = None
    """The latest that could not be sent."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Immutable; each method gives the memory after it."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    untold: int = 0
    """Alerts of entries that were dropped."""
    pause_until: datetime | None = None

    def was_sent(self, key: str) -> bool:
        entry = self.entries.get(key)
        return entry is not None and entry.sent_at is not None

    def is_held_back(self, alert: Alert, now: datetime) -> bool:
        """Whether one under its key was sent within its window; a clock that was put back far holds back nothing."""
        entry = self.entries.get(alert.key)
        return entry is not None and entry.sent_at is not None and abs(now - entry.sent_at) < alert.window

    def is_paused(self, now: datetime) -> bool:
        """A pause that ends implausibly late is none, for the same reason."""
        return self.pause_until is not None and now < self.pause_until <= now + PAUSE

    def unsent(self) -> list[Alert]:
        """Alerts that wait for the server, the oldest first."""
        oldest = sorted(self.entries.values(), key=lambda entry: entry.touched_at)
        return [entry.unsent for entry in oldest if entry.unsent is not None]

    def all_untold(self) -> int:
        """Alerts that nothing sent has told of, besides those that wait."""
        return self.untold + sum(entry.untold for entry in self.entries.values())

    def worded(self, alert: Alert, *, again: bool = False) -> Alert:
        """The alert as it is to be sent: it says how many like it were not.

        ``again`` for one that waits: it does not count itself.
        """
        untold = self._untold_before(alert.key, again=again)
        if not untold:
            return alert
        held_back = f"{count(untold, 'more alert')} like it before, held back or not sent."
        return replace(alert, message=f"{alert.message}\n{held_back}")

    def after_sent(self, alert: Alert, now: datetime) -> "Memory":
        return self._with(alert.key, Entry(now, sent_at=now), now)

    def after_held_back(self, alert: Alert, now: datetime) -> "Memory":
        entry = self.entries[alert.key]
        return self._with(alert.key, replace(entry, touched_at=now, untold=entry.untold + 1), now)

    def after_unsent(self, alert: Alert, now: datetime, *, again: bool = False) -> "Memory":
        """It waits, in place of an earlier one under its key, which is counted."""
        entry = self.entries.get(alert.key, Entry(now))
        untold = self._untold_before(alert.key, again=again)
        return self._with(alert.key, replace(entry, touched_at=now, untold=untold, unsent=alert), now)

    def after_telling(self) -> "Memory":
        """The daily message told of all that were held back; what waits still waits."""
        entries = {key: replace(entry, untold=0) for key, entry in self.entries.items()}
        return replace(self, entries=entries, untold=0)

    def after_trouble(self, now: datetime) -> "Memory":
        """The server could not be reached or was slow."""
        return replace(self, pause_until=now + PAUSE)

    def _untold_before(self, key: str, *, again: bool) -> int:
        entry = self.entries.get(key)
        if entry is None:
            return 0
        return entry.untold + (entry.unsent is not None and not again)

    def _with(self, key: str, entry: Entry, now: datetime) -> "Memory":
        return _bounded(replace(self, entries={**self.entries, key: entry}), now)


def _bounded(memory: Memory, now: datetime) -> Memory:
    """Without what is old or too much; what is dropped is counted."""
    newest = sorted(memory.entries.items(), key=lambda item: item[1].touched_at, reverse=True)
    kept: dict[str, Entry] = {}
    untold, waiting = memory.untold, 0
    for key, entry in newest:
        waits = entry.unsent is not None
        waiting += waits
        if len(kept) >= ENTRIES or now - entry.touched_at > KEPT or (waits and waiting > UNSENT):
            untold += entry.untold + waits
        else:
            kept[key] = entry
    return replace(memory, entries=kept, untold=untold)


def to_value(memory: Memory) -> str:
    return orjson.dumps(
        {
            "version": _VERSION,
            "untold": memory.untold,
            "pause_until": memory.pause_until,
            "entries": {key: _entry_value(entry) for key, entry in memory.entries.items()},
        }
    ).decode()


def from_value(value: str | None) -> Memory:
    """What was remembered; nothing when the value is none of ours, so that an alert is sent rather than held back."""
    try:
        held = orjson.loads(value or "")
        if held["version"] != _VERSION:
            return Memory()
        return Memory(
            entries={str(key): _entry(entry) for key, entry in held["entries"].items()},
            untold=int(held["untold"]),
            pause_until=_time(held["pause_until"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return Memory()


def _entry_value(entry: Entry) -> dict[str, Any]:
    value: dict[str, Any] = {"touched_at": entry.touched_at, "sent_at": entry.sent_at, "untold": entry.untold}
    if entry.unsent is not None:
        alert = {name: getattr(entry.unsent, name) for name in _PLAIN}
        value["unsent"] = alert | {"window": entry.unsent.window.total_seconds()}
    return value


def _entry(value: Mapping[str, Any]) -> Entry:
    touched_at = _time(value["touched_at"])
    if touched_at is None:
        raise ValueError("touched_at")
    unsent = value.get("unsent")
    return Entry(
        touched_at,
        sent_at=_time(value["sent_at"]),
        untold=int(value["untold"]),
        unsent=None if unsent is None else _alert(unsent),
    )


def _alert(value: Mapping[str, Any]) -> Alert:
    given: dict[str, Any] = {name: value[name] for name in _PLAIN}
    tags: Iterable[str] = given.pop("tags")
    return Alert(**given, tags=tuple(tags), window=timedelta(seconds=value["window"]))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
