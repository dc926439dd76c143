"""What a client of the simulated idiCORE sees, and that the bill is exact whatever goes wrong."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import orjson
import pytest

from leadscrub_pipeline.domain.people import person_key
from leadscrub_pipeline.domain.phones import parse_phone
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.simulators import Fault, Simulators, parse_fault, read_bill
from leadscrub_pipeline.simulators.contacts import Match, contact_of
from leadscrub_pipeline.simulators.faults import IDICORE_KINDS, Kind, fault_from, fault_values
from leadscrub_pipeline.simulators.persons import person_at, respelled
from leadscrub_pipeline.simulators.phones import CONTROL_NUMBERS, is_relatives_phone
from leadscrub_pipeline.vendors.idicore_answer import read_answer
from leadscrub_pipeline_tests.simulators_client import PERSON, Caller


@pytest.fixture
def sims():
    with Simulators(seed=1) as running:
        yield running


@pytest.fixture
def caller(sims):
    with Caller(sims.environment()) as client:
        client.sign_in()
        yield client


# --- idiCORE's wire -----------------------------------------------------------------------


def test_signing_in_gives_the_raw_token_as_text(caller):
    answer = caller.sign_in()
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.isalnum()


def test_a_wrong_secret_or_a_missing_purpose_gets_no_token(caller):
    assert caller.sign_in(secret="guess").status_code == 401
    assert caller.sign_in(body={"glba": "otheruse"}).status_code == 400
    assert caller.sign_in(body=["x"]).status_code == 400


def test_a_search_without_a_good_token_is_refused_and_not_billed(sims, caller):
    assert caller.search(token="").status_code == 401
    assert caller.search(token=f"Bearer {caller.token}").status_code == 401
    sims.idicore.revoke_tokens()
    assert caller.search().status_code == 401
    assert len(sims.idicore.bill) == 0


def test_a_token_expires():
    with Simulators(token_seconds=0.2) as sims, Caller(sims.environment()) as caller:
        caller.sign_in()
        assert caller.search().status_code == 200
        time.sleep(0.25)
        assert caller.search().status_code == 401
        assert len(sims.idicore.bill) == 1


@pytest.mark.parametrize(
    "changes",
    [{"referenceId": ""}, {"referenceId": None}, {"firstName": ""}, {"zip": 2118}, {"fields": []}, {"fields": ["ssn"]}],
)
def test_a_search_of_another_shape_is_refused_and_not_billed(sims, caller, changes):
    assert caller.search(**changes).status_code == 400
    assert len(sims.idicore.bill) == 0


def test_every_billed_search_stands_in_the_bill_with_its_reference(sims, caller):
    caller.search(reference="one")
    caller.search(reference="two")
    caller.search(reference="two")
    by_reference = sims.idicore.bill.by_reference()
    assert {key: len(entries) for key, entries in by_reference.items()} == {"one": 1, "two": 2}
    (entry,) = by_reference["one"]
    assert entry.person_key == person_key(PERSON)
    assert entry.purpose == "otheruse/none"
    assert entry.outcome == "found"
    assert entry.at.tzinfo is not None
    assert sims.idicore.bill.total() == Decimal("0.75")
    assert sims.idicore.bill.by_person() == {person_key(PERSON): 3}


def test_all_spellings_of_a_person_get_the_same_phones(caller):
    def phones(person):
        (record,) = caller.search(person).json()["result"]
        return record.get("phone")

    assert [phones(respelled(PERSON, way)) for way in range(8)] == [phones(PERSON)] * 8


def test_another_seed_gives_other_contacts():
    people = [person_at(i, seed=1) for i in range(50)]
    one, two = ([contact_of(person, seed=seed).best_phones() for person in people] for seed in (1, 2))
    assert one != two
    assert one == [contact_of(person, seed=1).best_phones() for person in people]


def test_answers_vary_in_shape_as_real_ones_do(caller):
    seen = Counter()
    for index in range(600):
        person = person_at(index, seed=1)
        contact = contact_of(person, seed=1)
        answer = caller.search(person)
        seen[contact.match] += 1
        if contact.match is Match.TOO_MANY:
            assert answer.status_code == 400
            assert answer.json() == {"error": {"code": "TooManyMatches"}}
            continue
        result = answer.json()["result"]
        assert (len(result) == 0) == (contact.match is Match.NONE)
        for record in result:
            for phone in record.get("phone", []):
                seen[f"number is {type(phone['number']).__name__}"] += 1
                seen["no disconnected"] += "disconnected" not in phone
                seen["disconnected"] += phone.get("disconnected") is True
                seen["unusable"] += parse_phone(phone["number"]).digits is None
            seen["relatives"] += "relationship" in record
            seen["dead"] += record.get("isDead") is True
            for section in ("phone", "email", "isDead"):
                seen[f"no {section}"] += section not in record
            for email in record.get("email", []):
                seen[f"email under {'data' if 'data' in email else 'address'}"] += 1
                seen["no meta"] += "meta" not in email
            for address in record["address"]:
                seen[f"zip is {type(address['zip']).__name__}"] += 1
    assert {match for match in Match if not seen[match]} == set()
    wanted = {
        "number is str", "number is int", "no disconnected", "disconnected", "unusable", "relatives", "dead",
        "no phone", "no email", "no isDead", "email under data", "email under address", "no meta",
        "zip is str", "zip is int",
    }  # fmt: skip
    assert {shape for shape in wanted if not seen[shape]} == set()


def test_contacts_up_to_demo_size_are_fictional_numbers_that_a_lead_may_have():
    for index in range(2_000):
        for phone in contact_of(person_at(index, seed=1), seed=1).phones:
            assert phone.digits[3:8] == "55501"
            assert parse_phone(phone.digits).digits == phone.digits
            assert not is_relatives_phone(phone.digits)
            assert phone.digits not in CONTROL_NUMBERS


def test_the_pipelines_own_parser_gets_the_phones_that_the_simulator_meant(caller):
    for index in range(400):
        person = person_at(index, seed=1)
        contact = contact_of(person, seed=1)
        if contact.match is Match.TOO_MANY:
            continue
        read = read_answer(caller.search(respelled(person, index)).json(), person, rank_best="lowest")
        assert (read.outcome == "hit") == contact.is_hit
        assert tuple(phone.digits for phone in read.phones) == contact.best_phones()


# --- the bill ---------------------------------------------------------------------------------


def search_all(caller, count, workers=32):
    """References by what became of the request: a status, or the name of the client's error."""

    def one(number):
        try:
            return caller.search(person_at(number, seed=1), reference=f"n{number}").status_code
        except httpx.TransportError as error:
            return type(error).__name__

    with ThreadPoolExecutor(workers) as pool:
        return dict(zip((f"n{number}" for number in range(count)), pool.map(one, range(count)), strict=True))


def test_the_bill_is_exact_when_many_ask_at_once_and_much_fails(sims, caller):
    sims.idicore.faults.add(
        Fault("reset_after_billing", share=0.1),
        Fault("reset_before_billing", share=0.1),
        Fault("server_error", share=0.1),
        Fault("server_error", share=0.1, billed=True),
        Fault("html", share=0.1),
        Fault("too_many_requests", share=0.1),
        Fault("cut_body", share=0.05),
    )
    outcomes = search_all(caller, 600)
    faulted = sims.idicore.line.faulted
    assert min(faulted.values()) > 10
    bill = sims.idicore.bill
    assert max(Counter(entry.reference_id for entry in bill).values()) == 1
    assert len({entry.request_number for entry in bill}) == len(bill)
    by_outcome = Counter(entry.outcome for entry in bill)
    assert by_outcome["reset_after_billing"] <= faulted["reset_after_billing"]
    assert by_outcome.keys() >= {"reset_after_billing", "html", "cut_body", "server_error", "found", "no_match"}
    assert by_outcome.keys() & {"reset_before_billing", "too_many_requests"} == set()
    billed = bill.by_reference().keys()
    assert {key for key, outcome in outcomes.items() if outcome == 200} <= billed
    assert {key for key, outcome in outcomes.items() if outcome in {400, 401, 429}} & billed == set()
    assert sims.idicore.searches == 600


def test_a_search_is_on_the_bill_before_its_answer_leaves(tmp_path):
    path = tmp_path / "bill.jsonl"
    with Simulators(bill_path=path) as sims, Caller(sims.environment(), timeout=0.3) as caller:
        caller.sign_in()
        sims.idicore.latency = 5.0
        with pytest.raises(httpx.ReadTimeout):
            caller.search(reference="waiting")
        assert [entry.reference_id for entry in read_bill(path)] == ["waiting"]


def test_several_simulators_and_sessions_add_up_to_one_bill(tmp_path):
    path = tmp_path / "bill.jsonl"
    for _ in range(2):
        with (
            Simulators(bill_path=path) as one,
            Simulators(bill_path=path) as two,
            Caller(one.environment()) as first,
            Caller(two.environment()) as second,
        ):
            first.sign_in()
            second.sign_in()
            threads = [threading.Thread(target=search_all, args=(caller, 50, 8)) for caller in (first, second)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            so_far = len(one.idicore.bill)
            assert so_far == len(two.idicore.bill)
    assert len(list(read_bill(path))) == so_far
    assert len(one.idicore.bill) == so_far
    refused = sum(contact_of(person_at(i, seed=1), seed=1).match is Match.TOO_MANY for i in range(50))
    assert so_far == 4 * (50 - refused)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_still_being_written_is_not_read(tmp_path):
    path = tmp_path / "bill.jsonl"
    with Simulators(bill_path=path) as sims, Caller(sims.environment()) as caller:
        caller.sign_in()
        caller.search()
    with path.open("ab") as file:
        file.write(b'{"reference_id": "ha')
    assert len(list(read_bill(path))) == 1


# --- faults at idiCORE ------------------------------------------------------------------------

# What the client sees: a status, or an error of its transport. And whether it is billed.
SEEN = {
    Kind.TIMEOUT_BEFORE_BILLING: (httpx.ReadTimeout, False),
    Kind.TIMEOUT_AFTER_BILLING: (httpx.ReadTimeout, True),
    Kind.RESET_BEFORE_BILLING: (httpx.ReadError, False),
    Kind.RESET_AFTER_BILLING: (httpx.ReadError, True),
    Kind.BAD_REQUEST: (400, False),
    Kind.UNAUTHORIZED: (401, False),
    Kind.FORBIDDEN: (403, False),
    Kind.TOO_MANY_REQUESTS: (429, False),
    Kind.SERVER_ERROR: (503, False),
    Kind.HTML: (200, True),
    Kind.NOT_JSON: (200, True),
    Kind.REDIRECT: (302, False),
    Kind.CUT_JSON: (200, True),
    Kind.HUGE_BODY: (200, True),
    Kind.WRONG_SHAPE: (200, True),
    Kind.RELATIVES: (200, True),
    Kind.EMPTY_BODY: (200, True),
    Kind.CUT_BODY: (httpx.RemoteProtocolError, True),
    Kind.SLOW_BODY: (200, True),
    Kind.WRONG_TYPE: (200, True),
    Kind.SHORT_ANSWER: (200, True),
    Kind.LONG_ANSWER: (200, True),
    Kind.NO_MATCH: (200, True),
    Kind.TOO_MANY_MATCHES: (400, False),
    Kind.OTHER_PERSON: (200, True),
}


def test_every_fault_of_idicore_is_tried_here():
    assert SEEN.keys() == IDICORE_KINDS


@pytest.mark.parametrize("kind", sorted(SEEN))
def test_a_fault_shows_at_the_client_and_bills_as_its_name_says(sims, kind):
    expected, billed = SEEN[kind]
    sims.idicore.faults.add(Fault(kind, requests=[2], seconds=0.4 if kind is Kind.SLOW_BODY else None))
    with Caller(sims.environment(), timeout=0.3 if "timeout" in kind else 2.0) as caller:
        caller.sign_in()
        good = caller.search(reference="before")
        started = time.monotonic()
        if isinstance(expected, int):
            answer = caller.search(reference="faulted")
            assert answer.status_code == expected
        else:
            with pytest.raises(expected):
                caller.search(reference="faulted")
        taken = time.monotonic() - started
        assert caller.search(reference="after").content == good.content
    assert [entry.reference_id for entry in sims.idicore.bill] == ["before", *(["faulted"] if billed else []), "after"]
    if kind is Kind.SLOW_BODY:
        assert taken >= 0.35
        assert answer.content == good.content
    elif kind is Kind.HTML:
        assert answer.headers["content-type"] == "text/html"
    elif kind is Kind.TOO_MANY_REQUESTS:
        assert answer.headers["retry-after"] == "1"
    elif kind is Kind.NO_MATCH:
        assert answer.json() == {"result": []}
    elif kind is Kind.TOO_MANY_MATCHES:
        assert answer.json()["error"]["code"] == "TooManyMatches"
    elif kind is Kind.REDIRECT:
        assert answer.headers["location"] == "/login"
    elif kind is Kind.CUT_JSON:
        assert good.content.startswith(answer.content)
        assert answer.content != good.content
    elif kind is Kind.HUGE_BODY:
        assert len(answer.content) > 16 * 1024 * 1024
        assert answer.json() == good.json()
    elif kind is Kind.WRONG_SHAPE:
        assert answer.json() == good.json()["result"]
    elif kind is Kind.RELATIVES:
        (record,) = answer.json()["result"]
        assert record["phone"] == record["email"] == []
        assert len([each["phone"] for each in record["relationship"]]) == 3
    elif kind is Kind.LONG_ANSWER:
        assert len(answer.json()["result"][0]["phone"]) >= 1000
    elif kind in {Kind.WRONG_TYPE, Kind.SHORT_ANSWER, Kind.OTHER_PERSON, Kind.EMPTY_BODY, Kind.NOT_JSON}:
        assert answer.content != good.content


@pytest.mark.parametrize("kind", ["html", "no_match", "server_error", "unauthorized"])
@pytest.mark.parametrize("billed", [True, False])
def test_an_order_may_say_whether_a_fault_is_billed(sims, caller, kind, billed):
    sims.idicore.faults.add(Fault(kind, billed=billed))
    caller.search()
    assert len(sims.idicore.bill) == billed


def test_a_billed_fault_does_not_bill_a_search_that_was_refused_anyway(sims, caller):
    sims.idicore.faults.add(Fault("reset_after_billing"))
    with pytest.raises(httpx.ReadError):
        caller.search(token="stale")
    assert len(sims.idicore.bill) == 0


def test_sign_in_can_fail_too(sims, caller):
    sims.idicore.faults.add(Fault("403", operation="sign_in", times=1))
    assert caller.sign_in().status_code == 403
    assert caller.search().status_code == 200
    assert caller.sign_in().status_code == 200


def test_faults_come_by_number_range_share_and_count(sims, caller):
    sims.idicore.faults.add(Fault("5xx", requests=range(3, 5), status=502))
    statuses = [caller.search().status_code for _ in range(6)]
    assert statuses == [200, 200, 502, 502, 200, 200]
    sims.idicore.faults.clear()
    sims.idicore.faults.add(Fault("429", times=2))
    assert [caller.search().status_code for _ in range(3)] == [429, 429, 200]
    sims.idicore.faults.add(Fault("429", share=0.3))
    share = sum(caller.search().status_code == 429 for _ in range(300)) / 300
    assert 0.2 < share < 0.4


def test_the_same_seed_orders_the_same_requests_by_share():
    def met():
        with Simulators(seed=5) as sims, Caller(sims.environment()) as caller:
            caller.sign_in()
            sims.idicore.faults.add(Fault("5xx", share=0.3))
            return [caller.search().status_code for _ in range(40)]

    assert met() == met()


@pytest.mark.parametrize(
    ("text", "vendor", "fault"),
    [
        ("idicore:timeout:share=0.1", "idicore", Fault("timeout_after_billing", share=0.1)),
        ("ccc:html:requests=3-5", "ccc", Fault("html", requests=range(3, 6))),
        ("ccc:malformed:phones=2125550101,2125550102", "ccc", Fault("malformed", phones={"2125550101", "2125550102"})),
        ("idicore:5xx:status=502:billed=true:times=2", "idicore", Fault("5xx", status=502, billed=True, times=2)),
        ("ntfy:reset", "ntfy", Fault("reset_after_billing")),
        ("idicore:429:seconds=7:billed=no", "idicore", Fault("429", seconds=7, billed=False)),
    ],
)
def test_a_fault_can_be_written_on_the_command_line(text, vendor, fault):
    assert parse_fault(text) == (vendor, fault)
    assert fault_from(orjson.loads(orjson.dumps(fault_values(fault)))) == fault


@pytest.mark.parametrize(
    "text",
    ["", "idicore", "idicore:", "acme:html", "idicore:explode", "idicore:html:share", "idicore:html:share=x",
     "idicore:html:share=2", "idicore:html:status=200", "idicore:html:requests=a-b", "idicore:html:colour=red",
     "idicore:html:billed=maybe", "idicore:timeout:billed=false", "ccc:malformed", "idicore:html:times=1:times=2"],
)  # fmt: skip
def test_a_fault_that_cannot_be_understood_is_a_usage_error(text):
    with pytest.raises(UsageError):
        parse_fault(text)


def test_a_vendor_refuses_faults_it_cannot_have(sims):
    with pytest.raises(UsageError, match="all_false"):
        sims.idicore.faults.add(Fault("all_false"))
    with pytest.raises(UsageError, match="no_match"):
        sims.ccc.faults.add(Fault("no_match"))
    with pytest.raises(UsageError, match="sign_in"):
        sims.idicore.faults.add(Fault("html", operation="log_in"))
