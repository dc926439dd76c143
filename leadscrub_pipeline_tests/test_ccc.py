import asyncio
import logging

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.domain.verdicts import CLEAR, LISTED, Reason, Verdict, unknown
from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.simulators import Fault, Simulators
from leadscrub_pipeline.simulators.phones import CONTROL_NUMBERS
from leadscrub_pipeline.vendors.breaker import BreakerExhaustedError, Health
from leadscrub_pipeline.vendors.ccc import BatchResult, CccClient, _Batch, ccc_workers
from leadscrub_pipeline.vendors.transport import AccessRefusedError, AttemptError, Reply
from leadscrub_pipeline_tests.wire import RESET, FakeTime, reply, until, wire

PHONES = [f"212555{line:04}" for line in range(100, 130)]
CONTROLS = ("2025550198", "3125550198")


@pytest.fixture
def sims():
    with Simulators(seed=1) as running:
        yield running


def settings_for(sims: Simulators, **changes) -> Settings:
    values = {name.lower(): value for name, value in sims.environment().items()}
    return Settings(_env_file=None, **(values | {"ccc_timeout": 2.0} | changes))


def check(sims: Simulators, phones=PHONES, **changes) -> BatchResult:
    async def run():
        async with CccClient(settings_for(sims, **changes), sleep=FakeTime().sleep) as client:
            return await client.check(phones)

    return asyncio.run(run())


def rows(*pairs: tuple[object, object]) -> bytes:
    return reply(200, orjson.dumps([{"Phone": phone, "IsLitigator": value} for phone, value in pairs]))


def check_wire(*answers: object, phones=("2125550101", "2125550102"), controls=(), **changes):
    """The result of one batch against scripted answers, and the bodies that were sent."""

    async def run():
        scripts = [answer if isinstance(answer, list) else [answer] for answer in answers]
        async with wire(*scripts) as server:
            values = {"ccc_api_url": server.url(), "ccc_api_key": "key", "ccc_control_numbers": ",".join(controls)}
            wired = Settings(_env_file=None, **(values | {"ccc_timeout": 0.5, "ccc_max_retries": 1} | changes))
            async with CccClient(wired, sleep=FakeTime().sleep) as client:
                result = await client.check(list(phones))
            return result, [orjson.loads(body) for _, body in server.requests]

    return asyncio.run(run())


def all_are(result: BatchResult, reason: Reason) -> bool:
    return bool(result.answers) and set(result.answers.values()) == {unknown(reason)}


# --- answers ---------------------------------------------------------------------------------


def test_every_phone_gets_the_vendors_answer_and_controls_are_not_among_them(sims):
    result = check(sims)
    assert list(result.answers) == PHONES
    for phone, answer in result.answers.items():
        assert answer == (LISTED if sims.ccc.is_litigator(phone) else CLEAR)
    assert (result.requests, result.controls, result.extra) == (1, "all", 0)
    assert all(sims.ccc.asked[control] == 1 for control in CONTROL_NUMBERS)


def test_the_key_travels_in_the_header_and_phones_as_ten_digits_joined_by_commas():
    async def run():
        async with wire([rows((2125550101, False))]) as server:
            values = {"ccc_api_url": server.url(), "ccc_api_key": "the-key", "ccc_control_numbers": CONTROLS[0]}
            async with CccClient(Settings(_env_file=None, **values)) as client:
                await client.check(["2125550101"])
            return server.requests[0]

    head, body = asyncio.run(run())
    assert head.startswith(b"POST /search HTTP/1.1\r\n")
    assert b"loginId: the-key\r\n" in head
    assert orjson.loads(body) == {"PhoneList": "2125550101,2025550198", "OutputFormat": "JsonArray"}


@pytest.mark.parametrize("value", [None, "false", "true", 0, 1, "", [], {}, "N"])
def test_only_true_and_false_are_answers(value):
    result, _ = check_wire(rows((2125550101, value), (2125550102, True)))
    assert result.answers == {"2125550101": unknown(Reason.WRONG_TYPE), "2125550102": LISTED}


def test_an_answer_without_the_mark_is_no_answer():
    result, _ = check_wire(reply(200, b'[{"Phone": 2125550101}, {"Phone": "2125550102", "isLitigator": false}]'))
    assert all_are(result, Reason.WRONG_TYPE)


def test_a_phone_missing_from_the_answer_is_not_clean():
    result, _ = check_wire(rows((2125550101, False)))
    assert result.answers == {"2125550101": CLEAR, "2125550102": unknown(Reason.MISSING_FROM_ANSWER)}


@pytest.mark.parametrize(
    "phone", [True, None, 2125550102.0, 212555010, 21255501022, "+12125550102", "212-555-0102", "\u0662125550102", {}]
)
def test_an_answer_about_no_readable_phone_serves_nobody(phone):
    result, _ = check_wire(rows(("2125550101", False), (phone, False)))
    assert result.answers["2125550101"] == CLEAR
    assert result.answers["2125550102"] == unknown(Reason.MISSING_FROM_ANSWER)
    assert result.extra == 1


def test_an_answer_for_another_phone_is_counted_and_serves_nobody():
    result, _ = check_wire(rows((2125550101, True), (2125550199, False)))
    assert result.answers == {"2125550101": LISTED, "2125550102": unknown(Reason.MISSING_FROM_ANSWER)}
    assert result.extra == 1


@pytest.mark.parametrize("values", [(True, False), (False, True), (False, None, False), (True, "x", True)])
def test_two_different_answers_for_one_phone_are_none(values):
    result, _ = check_wire(rows(*((2125550101, value) for value in values), (2125550102, False), (2125550102, False)))
    assert result.answers == {"2125550101": unknown(Reason.CONTRADICTORY_ANSWER), "2125550102": CLEAR}


def test_a_phone_that_is_not_ten_digits_is_not_sent_with_the_others():
    phones = ["2125550101", "1,2125550199", "212555010", "", "\u0662125550101", "2125550101"]
    result, sent = check_wire(rows((2125550101, False)), phones=phones)
    assert sent == [{"PhoneList": "2125550101", "OutputFormat": "JsonArray"}]
    assert result.answers.pop("2125550101") == CLEAR
    assert len(result.answers) == 4
    assert all_are(result, Reason.NOT_NANP)


def test_an_empty_batch_asks_nobody(sims):
    assert check(sims, []) == BatchResult({}, 0, "unanswered", 0, "loopback/v1.5/Scrub/litigator")
    assert sims.ccc.scrubs == 0


# --- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason", "requests"),
    [
        (Fault("html"), Reason.NOT_JSON, 3),
        (Fault("empty_body"), Reason.NOT_JSON, 3),
        (Fault("cut_body"), Reason.VENDOR_ERROR, 3),
        (Fault("reset_before_billing"), Reason.VENDOR_ERROR, 3),
        (Fault("timeout_before_billing"), Reason.TIMEOUT, 3),
        (Fault("slow_body", seconds=9), Reason.TIMEOUT, 3),
        (Fault("server_error", status=500), Reason.VENDOR_ERROR, 3),
        (Fault("server_error", status=404), Reason.VENDOR_ERROR, 1),
        (Fault("429", seconds=0), Reason.VENDOR_ERROR, 3),
        (Fault("429", seconds=3600), Reason.VENDOR_ERROR, 1),
    ],
    ids=lambda value: f"{value.kind}-{value.seconds}" if isinstance(value, Fault) else None,
)
def test_a_failed_batch_is_never_read_as_not_a_litigator(sims, fault, reason, requests):
    sims.ccc.faults.add(fault)
    result = check(sims, ccc_timeout=0.3, ccc_max_retries=2)
    assert list(result.answers) == PHONES
    assert all_are(result, reason)
    assert (result.requests, result.controls) == (requests, "unanswered")


@pytest.mark.parametrize("kind", ["html", "cut_body", "reset", "5xx", "429", "wrong_type"])
def test_a_failure_that_passes_is_repeated(sims, kind):
    sims.ccc.faults.add(Fault(kind, times=1, seconds=0 if kind == "429" else None))
    result = check(sims)
    verdicts = {answer.verdict for answer in result.answers.values()}
    assert verdicts <= {Verdict.CLEAR, Verdict.LISTED} or kind == "wrong_type"


@pytest.mark.parametrize("body", [b'{"error": "x"}', b"null", b"false", b'"ok"', b"0"])
def test_json_of_another_shape_is_no_answer(body):
    result, sent = check_wire(reply(200, body))
    assert all_are(result, Reason.WRONG_SHAPE)
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("answer", "reason", "repeatable", "health"),
    [
        (Reply(500, b"", None, 0.1), "status_500", True, Health.DOWN),
        (Reply(499, b"", None, 0.1), "status_499", False, Health.DOWN),
        (Reply(404, b"", None, 0.1), "status_404", False, Health.DOWN),
        (Reply(408, b"", 7.0, 0.1), "status_408", True, Health.DOWN),
        (Reply(425, b"", None, 0.1), "status_425", True, Health.DOWN),
        (Reply(429, b"", 3.0, 0.1), "status_429", True, Health.BUSY),
        (Reply(429, b"", None, 0.1), "status_429", True, Health.BUSY),
        (Reply(201, b"[]", None, 0.1), "status_201", False, Health.DOWN),
        (Reply(200, b"<html>", None, 0.1), "not_json", True, Health.DOWN),
        (Reply(200, b"{}", None, 0.1), "wrong_shape", True, Health.DOWN),
    ],
)
def test_an_answer_that_is_none_says_whether_it_may_be_asked_again_and_how_the_vendor_is(
    answer, reason, repeatable, health
):
    with pytest.raises(AttemptError) as caught:
        CccClient(Settings(_env_file=None))._judge(answer)
    error = caught.value
    assert (error.reason, error.repeatable, error.health) == (reason, repeatable, health)
    assert error.may_have_arrived is True
    assert (error.status, error.retry_after) == (answer.status, answer.retry_after)


def test_a_malformed_request_is_no_failure_and_an_empty_list_is_an_answer():
    client = CccClient(Settings(_env_file=None))
    assert client._judge(Reply(400, b"", None, 0.1)) is None
    assert client._judge(Reply(200, b"[]", None, 0.1)) == []
    assert client._judge(Reply(200, b'[{"Phone": 1}]', None, 0.1)) == [{"Phone": 1}]


@pytest.mark.parametrize(
    ("status", "wish", "paused"),
    [(429, 30.0, [30.0]), (429, 30.1, []), (429, 0.0, []), (429, None, []), (503, 5.0, [])],
)
def test_everybody_waits_when_the_vendor_is_busy_and_says_for_how_long_unless_that_is_too_long(
    monkeypatch, status, wish, paused
):
    client = CccClient(Settings(_env_file=None, ccc_retry_max_delay=30.0))
    pauses = []
    monkeypatch.setattr(client._pacer, "pause", pauses.append)
    with pytest.raises(AttemptError):
        client._judge(Reply(status, b"", wish, 0.1))
    assert pauses == paused


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_with_what_to_check(status):
    with pytest.raises(AccessRefusedError) as caught:
        CccClient(Settings(_env_file=None))._judge(Reply(status, b"", None, 0.1))
    assert str(caught.value) == f"CCC refuses the key ({status}). Check CCC_API_KEY and the plan."


@pytest.mark.parametrize("kind", ["401", "403"])
def test_a_refused_key_stops_at_once_for_every_batch(sims, kind):
    sims.ccc.faults.add(Fault(kind))

    async def run():
        async with CccClient(settings_for(sims)) as client:
            for _ in range(3):
                with pytest.raises(AccessRefusedError, match="CCC_API_KEY"):
                    await client.check(PHONES)

    asyncio.run(run())
    assert sims.ccc.scrubs == 1


def test_a_vendor_that_stays_down_ends_by_name(sims):
    sims.ccc.faults.add(Fault("5xx"))

    async def run():
        async with CccClient(settings_for(sims, ccc_max_retries=0), sleep=FakeTime().sleep) as client:
            results = [await client.check(PHONES) for _ in range(8)]
            with pytest.raises(BreakerExhaustedError, match="CCC did not recover"):
                await client.check(PHONES)
            return results, client.stats

    results, stats = asyncio.run(run())
    assert stats.requests == 8
    assert all(all_are(result, Reason.VENDOR_ERROR) for result in results)


# --- positive controls -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["all_false", "clear_control", "missing_control"])
def test_an_account_that_no_longer_finds_known_litigators_clears_nobody(sims, kind):
    sims.ccc.faults.add(Fault(kind))
    result = check(sims)
    assert result.controls == "failed"
    assert Verdict.CLEAR not in {answer.verdict for answer in result.answers.values()}
    for phone, answer in result.answers.items():
        listed = kind != "all_false" and sims.ccc.is_litigator(phone)
        assert answer == (LISTED if listed else unknown(Reason.CONTROL_FAILED))


@pytest.mark.parametrize(
    ("first", "second", "state", "answer"),
    [
        (True, True, "all", CLEAR),
        (True, False, "some", CLEAR),
        (True, "x", "some", CLEAR),
        (False, False, "failed", unknown(Reason.CONTROL_FAILED)),
        (None, "true", "failed", unknown(Reason.CONTROL_FAILED)),
    ],
)
def test_some_controls_found_is_a_warning_and_none_found_makes_clear_unknown(first, second, state, answer):
    answers = rows((2025550198, first), (3125550198, second), (2125550101, False), (2125550102, True))
    result, _ = check_wire(answers, controls=CONTROLS)
    assert result.controls == state
    assert result.answers == {"2125550101": answer, "2125550102": LISTED}
    assert result.extra == 0


def test_a_control_that_is_asked_about_is_sent_once_and_never_clear():
    answers = rows((2025550198, False), (3125550198, True), (2125550101, False))
    result, sent = check_wire(answers, phones=["2125550101", "2025550198"], controls=CONTROLS)
    assert sent[0]["PhoneList"] == "2125550101,2025550198,3125550198"
    assert result.answers == {"2125550101": CLEAR, "2025550198": unknown(Reason.CONTROL_FAILED)}
    answers = rows((2025550198, True), (3125550198, True), (2125550101, False))
    result, _ = check_wire(answers, phones=["2125550101", "2025550198"], controls=CONTROLS)
    assert result.answers == {"2125550101": CLEAR, "2025550198": LISTED}


def test_without_controls_the_result_says_so():
    result, _ = check_wire(rows((2125550101, False), (2125550102, False)))
    assert result.controls == "none_configured"
    assert set(result.answers.values()) == {CLEAR}


@pytest.mark.parametrize(("numbers", "named"), [("2025550198,555", "entry 2"), ("8005550100", "entry 1")])
def test_a_control_that_is_no_phone_is_refused_without_repeating_it(numbers, named):
    with pytest.raises(RefusedError, match=named) as caught:
        CccClient(Settings(_env_file=None, ccc_control_numbers=numbers))
    assert numbers.rsplit(",", maxsplit=1)[-1] not in str(caught.value)


def test_controls_that_leave_no_room_for_phones_are_refused():
    with pytest.raises(RefusedError, match="CCC_BATCH_SIZE"):
        CccClient(Settings(_env_file=None, ccc_control_numbers=",".join(CONTROLS), ccc_batch_size=2))


def test_an_empty_batch_without_controls_says_that_there_are_none():
    client = CccClient(Settings(_env_file=None, ccc_control_numbers=""))
    assert asyncio.run(client.check([])).controls == "none_configured"


def test_what_bars_a_start_is_told_by_its_setting():
    def refusal(**changes):
        async def start():
            async with CccClient(Settings(_env_file=None, **changes)):
                raise AssertionError("it started")

        with pytest.raises(RefusedError) as caught:
            asyncio.run(start())
        return str(caught.value)

    assert refusal() == "CCC has no key. Set CCC_API_KEY."
    assert "CCC_API_URL" in refusal(ccc_api_url="http://vendor.example/x")
    assert refusal(ccc_control_numbers="2025550198,555") == "CCC_CONTROL_NUMBERS: entry 2 is no phone of ten digits."
    full = {"ccc_control_numbers": ",".join(CONTROLS), "ccc_batch_size": 2}
    assert refusal(**full) == "CCC_CONTROL_NUMBERS fill CCC_BATCH_SIZE: no room is left for phones."


def test_a_batch_that_is_too_large_and_a_client_outside_its_block_are_mistakes_of_the_caller():
    client = CccClient(Settings(_env_file=None, ccc_batch_size=12, ccc_control_numbers=",".join(CONTROLS)))
    with pytest.raises(ValueError, match=r"^a batch holds at most 10 phones besides the controls$"):
        asyncio.run(client.check(PHONES[:11]))
    with pytest.raises(RuntimeError, match=r"^CccClient is used outside its async with block$"):
        asyncio.run(client.check(PHONES[:10]))


def test_a_control_that_is_named_twice_in_any_spelling_is_one():
    client = CccClient(Settings(_env_file=None, ccc_batch_size=5, ccc_control_numbers="2025550198,202-555-0198"))
    assert [len(batch) for batch in client.batches(PHONES[:8])] == [4, 4]
    assert client.has_controls
    assert not CccClient(Settings(_env_file=None, ccc_control_numbers="")).has_controls


def test_a_control_among_the_phones_is_asked_once_and_a_batch_may_be_full():
    phones = PHONES[:3]
    result, sent = check_wire(
        rows(*((phone, False) for phone in phones), (CONTROLS[0], True)),
        phones=phones,
        controls=CONTROLS[:1],
        ccc_batch_size=4,
    )
    assert sent == [{"PhoneList": ",".join([*phones, CONTROLS[0]]), "OutputFormat": "JsonArray"}]
    assert (set(result.answers.values()), result.controls, result.extra) == ({CLEAR}, "all", 0)


# --- one malformed number fails a whole request ----------------------------------------------------


@pytest.mark.parametrize("culprits", [[0], [29], [13, 14], [3, 17, 28], list(range(10))])
@pytest.mark.parametrize("with_controls", [True, False])
def test_a_refused_batch_is_halved_until_the_culprit_stands_alone(sims, culprits, with_controls):
    bad = frozenset(PHONES[at] for at in culprits)
    sims.ccc.faults.add(Fault("malformed", phones=bad))
    result = check(sims, **({} if with_controls else {"ccc_control_numbers": ""}))
    assert set(result.answers) == set(PHONES)
    for phone, answer in result.answers.items():
        expected = LISTED if sims.ccc.is_litigator(phone) else CLEAR
        assert answer == (unknown(Reason.MALFORMED_BY_VENDOR) if phone in bad else expected)
    assert result.requests < 60


def test_a_single_malformed_phone_is_told_from_a_vendor_that_refuses_everything(sims):
    sims.ccc.faults.add(Fault("malformed", phones=frozenset(PHONES[:1])))
    assert all_are(check(sims, PHONES[:1]), Reason.MALFORMED_BY_VENDOR)
    assert all_are(check(sims, PHONES[:1], ccc_control_numbers=""), Reason.VENDOR_ERROR)


def test_a_malformed_control_is_the_culprit_itself_and_clears_nobody(sims):
    sims.ccc.faults.add(Fault("malformed", phones=frozenset(CONTROL_NUMBERS[:1])))
    result = check(sims)
    assert result.controls == "failed"
    for phone, answer in result.answers.items():
        assert answer == (LISTED if sims.ccc.is_litigator(phone) else unknown(Reason.CONTROL_FAILED))
    assert result.requests == 3


@pytest.mark.parametrize("with_controls", [True, False])
def test_a_vendor_that_refuses_everything_is_not_asked_for_every_phone(sims, with_controls):
    sims.ccc.faults.add(Fault("bad_request"))
    phones = [f"{area}555{line:04}" for area in (212, 312, 415) for line in range(100, 200)]
    result = check(sims, phones, **({} if with_controls else {"ccc_control_numbers": ""}))
    assert set(result.answers) == set(phones)
    assert all_are(result, Reason.VENDOR_ERROR)
    assert result.requests <= 60


def test_answers_of_all_halves_are_added_up_and_the_worst_state_of_the_controls_counts():
    """Asked: all (refused), the control (accepted), one half (a stranger too), the other half (control is clear)."""
    phones, control = PHONES[:2], CONTROLS[0]
    answers = [
        reply(400),
        rows((control, True)),
        rows((phones[0], False), (control, True), ("2125559999", False), ("x", True)),
        rows((phones[1], False), (control, False), ("2125559999", False)),
    ]
    result, sent = check_wire(*([answer] for answer in answers), phones=phones, controls=[control])
    assert [body["PhoneList"] for body in sent] == [
        f"{phones[0]},{phones[1]},{control}",
        control,
        f"{phones[0]},{control}",
        f"{phones[1]},{control}",
    ]
    assert result.answers == {phones[0]: CLEAR, phones[1]: unknown(Reason.CONTROL_FAILED)}
    assert (result.requests, result.controls, result.extra) == (4, "failed", 3)


def test_a_half_that_was_never_answered_makes_the_controls_of_the_batch_unanswered():
    phones, control = PHONES[:2], CONTROLS[0]
    answers = [reply(400), rows((control, True)), rows((phones[0], True), (control, True)), reply(404)]
    result, _ = check_wire(*([answer] for answer in answers), phones=phones, controls=[control])
    assert result.answers == {phones[0]: LISTED, phones[1]: unknown(Reason.VENDOR_ERROR)}
    assert (result.requests, result.controls) == (4, "unanswered")
    answers[2] = rows((phones[0], True), (control, False))
    result, _ = check_wire(*([answer] for answer in answers), phones=phones, controls=[control])
    assert result.controls == "failed", "a control that was not found weighs more than none that was asked"


def test_answers_between_failures_keep_the_breaker_closed():
    async def run():
        good = rows((PHONES[0], False))
        async with wire(*[[reply(500)]] * 4, [good], *[[reply(500)]] * 4, [good]) as server:
            values = {"ccc_api_url": server.url(), "ccc_api_key": "key", "ccc_control_numbers": ""}
            client = CccClient(Settings(_env_file=None, ccc_max_retries=0, **values), sleep=FakeTime().sleep)
            is_open = []
            async with client:
                for _ in range(10):
                    await client.check(PHONES[:1])
                    is_open.append(client._breaker.is_open)
            return is_open

    assert asyncio.run(run()) == [False] * 10


def test_a_request_passes_the_points_at_which_crashes_are_tried(monkeypatch):
    passed = []
    monkeypatch.setattr(failpoints, "reached", passed.append)
    check_wire(rows((PHONES[0], False)), phones=PHONES[:1])
    assert passed == ["ccc.before_request", "ccc.after_answer"]
    assert set(passed) <= set(failpoints.POINTS)


@pytest.mark.parametrize(("refusals", "hopeless"), [(39, False), (40, True), (41, True)])
def test_halving_ends_after_forty_refusals_without_one_answer(refusals, hopeless):
    work = _Batch(answers={}, refusals=refusals)
    assert work.is_hopeless is hopeless
    work.accepted = 1
    assert not work.is_hopeless


def test_a_vendor_that_is_busy_counts_against_its_breaker_and_each_failure_is_counted():
    async def run():
        async with wire(*[[reply(429)]] * 2) as server:
            values = {"ccc_api_url": server.url(), "ccc_api_key": "key", "ccc_control_numbers": ""}
            client = CccClient(Settings(_env_file=None, ccc_max_retries=0, **values), sleep=FakeTime().sleep)
            counted = []
            client._breaker.count_failure = lambda: counted.append(1)
            async with client:
                results = [await client.check(PHONES[:3]) for _ in range(2)]
            return results, counted, client.stats

    results, counted, stats = asyncio.run(run())
    assert all(all_are(result, Reason.VENDOR_ERROR) for result in results)
    assert (len(counted), stats.failures, stats.requests) == (2, 2, 2)


# --- stopping, endpoint --------------------------------------------------------------------------------


def test_stopping_ends_what_waits_as_unknown_and_lets_requests_on_the_wire_finish(sims):
    """An interrupt must not wait for a breaker, and must not throw away an answer that is on its way."""

    async def run():
        async with CccClient(settings_for(sims, ccc_timeout=30)) as client:
            sims.ccc.latency = 0.5
            on_the_wire = asyncio.create_task(client.check(PHONES))
            await until(lambda: client.stats.requests == 1)
            client._pacer.pause(60)
            waiting = [asyncio.create_task(client.check(PHONES[:5])) for _ in range(5)]
            await asyncio.sleep(0.05)
            client.stop()
            async with asyncio.timeout(0.3):
                stopped = await asyncio.gather(*waiting, client.check(PHONES))
            return await on_the_wire, stopped

    finished, stopped = asyncio.run(run())
    assert all(finished.answers[phone] == (LISTED if sims.ccc.is_litigator(phone) else CLEAR) for phone in PHONES)
    assert finished.controls == "all"
    for result in stopped:
        assert all_are(result, Reason.NO_VERDICT)
        assert (result.requests, result.controls) == (0, "unanswered")
    assert sims.ccc.scrubs == 1


def test_stopping_ends_a_wait_for_the_next_repeat_and_asks_no_more(sims):
    sims.ccc.faults.add(Fault("server_error", status=500))

    async def run():
        async with CccClient(settings_for(sims, ccc_retry_base_delay=20.0)) as client:
            task = asyncio.create_task(client.check(PHONES))
            await until(lambda: client.stats.retries == 1)
            client.stop()
            return await task

    result = asyncio.run(run())
    assert all_are(result, Reason.NO_VERDICT)
    assert result.requests == 1


def test_a_stop_while_a_batch_is_halved_keeps_the_answers_that_came():
    async def run():
        async with wire([0.2, reply(400)], [0.2, rows((2125550101, True))]) as server:
            values = {"ccc_api_url": server.url(), "ccc_api_key": "key", "ccc_control_numbers": ""}
            async with CccClient(Settings(_env_file=None, **values)) as client:
                task = asyncio.create_task(client.check(["2125550101", "2125550102"]))
                await until(lambda: client.stats.requests == 2)
                client.stop()
                return await task

    result = asyncio.run(run())
    assert result.answers == {"2125550101": LISTED, "2125550102": unknown(Reason.NO_VERDICT)}


def test_the_endpoint_names_whose_answers_these_are(sims):
    assert check(sims).endpoint == "loopback/v1.5/Scrub/litigator"
    real = CccClient(Settings(_env_file=None, ccc_api_url="https://API.example.com:443/v1.5/Scrub/litigator"))
    assert real.endpoint == "https://api.example.com/v1.5/Scrub/litigator"


# --- batches, workers, property ----------------------------------------------------------------------


def test_batches_hold_distinct_phones_and_leave_room_for_the_controls():
    client = CccClient(Settings(_env_file=None, ccc_batch_size=12, ccc_control_numbers=",".join(CONTROLS)))
    batches = client.batches([*PHONES, *PHONES[:5]])
    assert [len(batch) for batch in batches] == [10, 10, 10]
    assert [phone for batch in batches for phone in batch] == PHONES
    assert client.batches([]) == []


@pytest.mark.parametrize(("phones", "workers"), [(0, 2), (1000, 2), (4000, 6), (1_000_000, 16)])
def test_workers_grow_with_the_batches_between_their_bounds(phones, workers):
    assert ccc_workers(phones, Settings(_env_file=None)) == workers


VALUES = st.sampled_from([True, False, None, 0, 1, "true", "false"])
ROWS = st.lists(st.tuples(st.sampled_from([2125550101, "2125550102", 2125550103, 2025550198, None, "x"]), VALUES))


@settings(max_examples=300, deadline=None)
@given(ROWS, st.booleans())
def test_clear_always_has_a_false_and_nothing_else_behind_it(pairs, with_controls):
    values = {"ccc_control_numbers": CONTROLS[0]} if with_controls else {}
    client = CccClient(Settings(_env_file=None, **values))
    phones = ["2125550101", "2125550102", "2125550103"]
    work = type("W", (), {"extra": 0, "controls": [], "answers": {}})()
    client._take([{"Phone": p, "IsLitigator": v} for p, v in pairs], phones, CONTROLS[:1] * with_controls, work)
    said = {phone: [v for p, v in pairs if str(p) == phone] for phone in [*phones, CONTROLS[0]]}
    assert set(work.answers) == set(phones)
    for phone, answer in work.answers.items():
        if answer == CLEAR:
            assert said[phone]
            assert all(value is False for value in said[phone])
            assert not with_controls or (said[CONTROLS[0]] and all(value is True for value in said[CONTROLS[0]]))
        if said[phone] and all(value is True for value in said[phone]):
            assert answer == LISTED


def test_no_phone_and_no_key_gets_into_logs_or_errors(caplog):
    caplog.set_level(logging.DEBUG)
    check_wire(RESET, rows((2125550101, False)), [], controls=CONTROLS)
    check_wire(reply(400), controls=CONTROLS)
    assert "212555" not in caplog.text
    assert "202555" not in caplog.text
