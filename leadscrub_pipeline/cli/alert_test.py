"""``leadscrub alert-test``: one message to each ntfy topic, so that silence later means that all is well.

When there is something to announce is decided by the sensors.
"""

from typing import Final, Literal

from leadscrub_pipeline.cli.output import JsonOption, print_json, print_table
from leadscrub_pipeline.domain.alerts import Topic
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.vendors.ntfy import NtfyClient, require_alerts

_TOPICS: Final[dict[Topic, str]] = {
    "errors": "Here come runs and checks that failed, vendors that were down, and caps that were reached.",
    "jobs": "Here come digests of backfills.",
    "system": "Here come the daily message and the age of the Do-Not-Call list.",
}


def alert_test(*, as_json: JsonOption = False) -> None:
    """Send one message to each topic that is set, and say what came of it.

    Ends with 0 when each was taken, 2 when alerts are off or no topic is set, 3 when one was not taken.
    """
    settings = load_settings()
    require_alerts(settings)
    client = NtfyClient(settings)
    outcomes = {topic: _try(client, topic, text, settings.leadscrub_ui_url) for topic, text in _TOPICS.items()}
    rows = [{"topic": topic, "setting": f"NTFY_TOPIC_{topic.upper()}", "outcome": o} for topic, o in outcomes.items()]
    if as_json:
        print_json(rows)
    else:
        print_table("Alerts", rows)
    if "not taken" in outcomes.values():
        raise UnavailableError(
            "The ntfy server did not take a message. Look at NTFY_BASE_URL, NTFY_TOKEN and the topics' access rights."
        )


def _try(client: NtfyClient, topic: Topic, text: str, ui_url: str | None) -> Literal["sent", "not taken", "not set"]:
    if not client.has_topic(topic):
        return "not set"
    sent = client.send(topic, "leadscrub: a test", text, tags=("leadscrub", "alert_test"), click=ui_url)
    return "sent" if sent else "not taken"
