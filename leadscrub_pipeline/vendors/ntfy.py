"""ntfy: sends one alert, and never makes the work fail because an alert could not be sent.

When to alert and what to say does not belong here; callers put no personal data in, because
messages are read on lock screens.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx
import orjson
from pydantic import SecretStr

from leadscrub_pipeline.domain.alerts import Topic
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.vendors.transport import checked_url

MESSAGE_BYTES: Final = 4096
TITLE_BYTES: Final = 1024
TIMEOUT_SECONDS: Final = 5.0
ATTEMPTS: Final = 2
_log = logging.getLogger(__name__)


class NtfyClient:
    """Blocking, for sensors and the command line; each alert opens and closes its own connection."""

    def __init__(self, settings: Settings, *, transport: httpx.BaseTransport | None = None) -> None:
        self._enabled = settings.ntfy_enabled
        self._url = str(checked_url(settings.ntfy_base_url, setting="NTFY_BASE_URL"))
        self._token = settings.ntfy_token
        self._topics: dict[Topic, SecretStr | None] = {
            "jobs": settings.ntfy_topic_jobs,
            "errors": settings.ntfy_topic_errors,
            "system": settings.ntfy_topic_system,
        }
        self._transport = transport

    def has_topic(self, topic: Topic) -> bool:
        """Whether a message for it goes anywhere."""
        return self._enabled and self._topics[topic] is not None

    def send(
        self,
        topic: Topic,
        title: str,
        message: str,
        *,
        priority: int = 3,
        tags: Sequence[str] = (),
        click: str | None = None,
        actions: Sequence[Mapping[str, Any]] = (),
    ) -> bool:
        """Send one alert; True when the server took it.

        False when alerts are off, the topic is not configured, or the server cannot be reached
        or says no; the log then says so without the topic, which is as good as a password.
        Priority is 1 to 5. Title and message are cut to the server's limits.
        """
        name = self._topics[topic]
        if not self._enabled or name is None:
            return False
        body: dict[str, Any] = {
            "topic": name.get_secret_value(),
            "title": _cut(title, TITLE_BYTES),
            "message": _cut(message, MESSAGE_BYTES),
            "priority": min(max(priority, 1), 5),
        }
        body |= {
            key: value for key, value in (("tags", list(tags)), ("click", click), ("actions", list(actions))) if value
        }
        problem = self._post(orjson.dumps(body))
        if problem is not None:
            _log.warning("An alert for %s was not sent: %s.", topic, problem)
        return problem is None

    def _post(self, content: bytes) -> str | None:
        """What went wrong, in a word, or None."""
        headers = {"content-type": "application/json"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token.get_secret_value()}"
        problem = None
        with httpx.Client(transport=self._transport, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
            for _ in range(ATTEMPTS):
                try:
                    status = http.post(self._url, content=content, headers=headers).status_code
                except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                    problem = type(error).__name__
                    continue
                if 200 <= status < 300:
                    return None
                problem = f"status {status}"
                if status < 500:
                    break
        return problem


def require_alerts(settings: Settings) -> None:
    """Raise when nobody would get an alert.

    Raises:
        UsageError: alerts are off, or no topic is set.
    """
    if not settings.ntfy_enabled:
        raise UsageError("Alerts are off: NTFY_ENABLED is false.")
    if not (settings.ntfy_topic_jobs or settings.ntfy_topic_errors or settings.ntfy_topic_system):
        raise UsageError("Alerts go nowhere: set NTFY_TOPIC_ERRORS, NTFY_TOPIC_JOBS and NTFY_TOPIC_SYSTEM.")


def _cut(text: str, limit: int) -> str:
    """At most ``limit`` bytes of UTF-8, whole characters only."""
    encoded = text.encode("utf-8", "replace")
    return encoded[:limit].decode("utf-8", "ignore") if len(encoded) > limit else encoded.decode("utf-8")
