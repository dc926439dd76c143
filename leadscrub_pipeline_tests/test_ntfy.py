import logging

import httpx
import pytest

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.simulators import Fault, Simulators
from leadscrub_pipeline.vendors.ntfy import NtfyClient


@pytest.fixture
def sims():
    with Simulators(seed=1) as running:
        yield running


def client(sims: Simulators, **changes) -> NtfyClient:
    values = {name.lower(): value for name, value in sims.environment().items()}
    return NtfyClient(Settings(_env_file=None, **(values | changes)))


def test_an_alert_arrives_with_all_it_carries(sims):
    actions = [{"action": "view", "label": "Open", "url": "http://127.0.0.1:3000"}]
    assert client(sims).send(
        "errors", "A run failed", "spring leads", priority=9, tags=["warning"], click="http://x", actions=actions
    )
    assert sims.ntfy.messages == [
        {
            "topic": "simulated-errors",
            "title": "A run failed",
            "message": "spring leads",
            "priority": 5,
            "tags": ["warning"],
            "click": "http://x",
            "actions": actions,
        }
    ]


def test_what_is_not_given_is_not_sent(sims):
    assert client(sims).send("jobs", "t", "m")
    assert sims.ntfy.messages == [{"topic": "simulated-jobs", "title": "t", "message": "m", "priority": 3}]


@pytest.mark.parametrize("char", ["x", "\u00e9", "\u20ac", "\U0001f600"])
def test_a_long_text_is_cut_to_the_servers_bytes_and_never_inside_a_character(sims, char):
    assert client(sims).send("system", char * 5000, "a" + char * 5000)
    [sent] = sims.ntfy.messages
    assert 1024 - 4 < len(sent["title"].encode()) <= 1024
    assert 4096 - 4 < len(sent["message"].encode()) <= 4096
    assert set(sent["title"]) == {char}


def test_text_that_utf8_cannot_carry_is_sent_all_the_same(sims):
    assert client(sims).send("jobs", "half a pair \ud800", "m")
    assert sims.ntfy.messages[0]["title"] == "half a pair ?"


@pytest.mark.parametrize("kind", ["5xx", "reset", "cut_body"])
def test_a_failure_that_passes_costs_no_alert(sims, kind):
    sims.ntfy.faults.add(Fault(kind, times=1))
    assert client(sims).send("jobs", "t", "m")


@pytest.mark.parametrize("kind", ["5xx", "429", "401", "403", "bad_request", "reset"])
def test_a_server_that_does_not_take_the_alert_is_logged_without_the_topic(sims, kind, caplog):
    caplog.set_level(logging.WARNING)
    sims.ntfy.faults.add(Fault(kind))
    assert client(sims).send("jobs", "private title", "private message") is False
    [record] = caplog.records
    assert "jobs was not sent" in record.message
    assert [word for word in ("simulated-jobs", "tk_simulated", "private") if word in caplog.text] == []


def test_a_server_that_is_not_there_or_never_answers_stops_nothing(caplog):
    assert NtfyClient(_alone("http://127.0.0.1:1")).send("jobs", "t", "m") is False

    def hang(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("too slow")

    assert NtfyClient(_alone("http://127.0.0.1:1"), transport=httpx.MockTransport(hang)).send("jobs", "t", "m") is False


def _alone(url: str, **changes) -> Settings:
    return Settings(_env_file=None, **({"ntfy_enabled": True, "ntfy_base_url": url, "ntfy_topic_jobs": "t"} | changes))


@pytest.mark.parametrize("changes", [{"ntfy_enabled": False}, {"ntfy_topic_jobs": None}])
def test_alerts_that_are_off_or_have_no_topic_send_nothing(sims, changes):
    assert client(sims, **changes).send("jobs", "t", "m") is False
    assert sims.ntfy.messages == []


def test_a_topic_does_not_travel_in_plain_http():
    with pytest.raises(RefusedError, match="NTFY_BASE_URL"):
        NtfyClient(_alone("http://ntfy.example.com"))
