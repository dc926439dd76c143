"""Sends alerts by ntfy and remembers in Dagster's own storage which were sent.

What an alert says, and which ones are the same, is decided in domain/.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

import dagster as dg

from leadscrub_pipeline.domain.alert_memory import Memory, from_value, to_value
from leadscrub_pipeline.domain.alerts import Alert, Topic
from leadscrub_pipeline.domain.verdicts import utc_now

if TYPE_CHECKING:
    from leadscrub_pipeline.settings import Settings
    from leadscrub_pipeline.vendors.ntfy import NtfyClient

MEMORY: Final = "leadscrub/alerts"
"""The key in Dagster's storage."""
SLOW_SECONDS: Final = 2.0
RESENDING_SECONDS: Final = 10.0

_one_at_a_time: Final = threading.Lock()
"""A code server may evaluate several sensors at once, and the memory is read, changed and written."""

Outcome = Literal["sent", "held back", "waiting", "without a topic"]


class Courier:
    """Delivers alerts of one deployment; never raises for a server that cannot be reached."""

    def __init__(self, client: "NtfyClient", instance: dg.DagsterInstance, log: Callable[[], logging.Logger]) -> None:
        self._client = client
        self._instance = instance
        self._log = log

    def deliver(self, alert: Alert) -> Outcome:
        """Send it, unless one like it was sent lately; what cannot be sent now waits for ``resend``."""
        with _one_at_a_time:
            memory, now = self._memory(), utc_now()
            if not self._has_topic(alert):
                return "without a topic"
            if memory.is_held_back(alert, now):
                self._keep(memory.after_held_back(alert, now))
                self._log().info(f"Held back, as one like it was sent lately: {alert.title}")
                return "held back"
            sent, memory = self._send(memory, memory.worded(alert))
            self._keep(memory.after_sent(alert, now) if sent else memory.after_unsent(alert, now))
        if not sent:
            self._log().warning(f"Could not be sent now, and waits: {alert.title}")
        return "sent" if sent else "waiting"

    def deliver_daily(self, key: str, topic: Topic, make: Callable[[int], Alert], *, tells: bool) -> Outcome | None:
        """Make and send the alert of a day; None when it was sent. One that cannot be sent is made anew next time.

        ``make`` gets the count of alerts that nothing sent has told of; with ``tells`` the alert tells of them.
        """
        memory = self._memory()
        if memory.was_sent(key):
            return None
        if not self._client.has_topic(topic):
            return "without a topic"
        if memory.is_paused(utc_now()):
            return "waiting"
        alert = make(memory.all_untold())
        with _one_at_a_time:
            memory = self._memory()
            if memory.was_sent(key):
                return None
            sent, memory = self._send(memory, alert)
            if sent:
                memory = memory.after_sent(alert, utc_now())
                memory = memory.after_telling() if tells else memory
            self._keep(memory)
        return "sent" if sent else "waiting"

    def resend(self) -> int:
        """Send what waits, the oldest first, for as long as the server takes it; how many went."""
        deadline = time.monotonic() + RESENDING_SECONDS
        went = 0
        with _one_at_a_time:
            memory = self._memory()
            for alert in memory.unsent():
                sent, memory = self._send(memory, memory.worded(alert, again=True))
                if sent:
                    memory = memory.after_sent(alert, utc_now())
                    went += 1
                self._keep(memory)
                if not sent or time.monotonic() > deadline:
                    break
        return went

    def _has_topic(self, alert: Alert) -> bool:
        has = self._client.has_topic(alert.topic)
        if not has:
            self._log().warning(f"NTFY_TOPIC_{alert.topic.upper()} is not set, so nobody gets: {alert.title}")
        return has

    def _send(self, memory: Memory, alert: Alert) -> tuple[bool, Memory]:
        if memory.is_paused(utc_now()):
            return False, memory
        started = time.monotonic()
        sent = self._client.send(
            alert.topic, alert.title, alert.message, priority=alert.priority, tags=alert.tags, click=alert.click
        )
        if not sent or time.monotonic() - started > SLOW_SECONDS:
            memory = memory.after_trouble(utc_now())
        return sent, memory

    def _memory(self) -> Memory:
        return from_value(self._instance.run_storage.get_cursor_values({MEMORY}).get(MEMORY))

    def _keep(self, memory: Memory) -> None:
        self._instance.run_storage.set_cursor_values({MEMORY: to_value(memory)})


def open_courier(settings: "Settings", instance: dg.DagsterInstance, log: Callable[[], logging.Logger]) -> Courier:
    """The deployment's. A tick's ``log`` is asked for when there is something to say: Dagster makes a file of it.

    Raises:
        UsageError: alerts are off, or no topic is set.
        RefusedError: topics would travel in plain HTTP.
    """
    from leadscrub_pipeline.vendors.ntfy import NtfyClient, require_alerts

    require_alerts(settings)
    return Courier(NtfyClient(settings), instance, log)
