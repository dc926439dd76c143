"""What a client of the simulated CCC sees."""

from collections import Counter

import httpx
import orjson
import pytest

from leadscrub_pipeline.simulators import Fault, Simulators
from leadscrub_pipeline.simulators.faults import CCC_KINDS, IDICORE_KINDS, Kind
from leadscrub_pipeline.simulators.phones import CONTROL_NUMBERS, is_litigator
from leadscrub_pipeline_tests.simulators_client import BATCH, LITIGATORS, PHONES, Caller


@pytest.fixture
def sims():
    with Simulators(seed=1) as running:
        yield running


@pytest.fixture
def caller(sims):
    with Caller(sims.environment()) as client:
        client.sign_in()
        yield client


# --- CCC -----------------------------------------------------------------------------------------


def test_a_scrub_answers_each_phone_as_an_integer_with_a_boolean(caller, sims):
    answer = caller.scrub(BATCH).json()
    assert [row["Phone"] for row in answer] == [int(phone) for phone in BATCH]
    assert {str(row["Phone"]) for row in answer if row["IsLitigator"] is True} == {*LITIGATORS, CONTROL_NUMBERS[0]}
    assert all(row["IsLitigator"] in (True, False) for row in answer)
    assert LITIGATORS
    assert sims.ccc.asked == Counter(BATCH)
    assert sims.ccc.scrubs == 1


def test_every_control_number_is_a_litigator_of_every_seed():
    assert all(is_litigator(phone, seed=seed) for phone in CONTROL_NUMBERS for seed in range(20))


def test_a_key_that_is_wrong_or_in_the_address_opens_nothing(caller, sims):
    assert caller.scrub(PHONES, login="guess").status_code == 401
    assert caller.scrub(PHONES, query=f"?loginId={caller.env['CCC_API_KEY']}").status_code == 400
    assert not sims.ccc.asked


def test_one_malformed_phone_fails_a_whole_scrub(caller):
    assert caller.scrub([*PHONES, "1125550123"]).status_code == 400
    assert caller.scrub([*PHONES, "21255501234"]).status_code == 400
    lenient = caller.scrub([*PHONES, "1125550123"], query="?ignoreInvalid=1")
    assert len(lenient.json()) == len(PHONES)


def test_scrubs_out_of_bounds_are_refused(caller):
    assert caller.http.get(caller.env["CCC_API_URL"]).status_code == 405
    assert caller.scrub(["2125550101"] * 10_000).status_code == 200
    assert caller.scrub(["2125550101"] * 10_001).status_code == 400
    assert caller.scrub(PHONES, OutputFormat="xml").status_code == 400
    assert caller.scrub([]).status_code == 400


# What the faulted answer is to a plain reader: whom it answers, whom it calls a litigator, and what else is odd.
SEEN = {
    Kind.ALL_FALSE: lambda rows: true_of(rows) == set() and phones_of(rows) == BATCH,
    Kind.SHORT_ANSWER: lambda rows: phones_of(rows) == BATCH[: len(rows)] != BATCH,
    Kind.LONG_ANSWER: lambda rows: set(phones_of(rows)) > set(BATCH),
    Kind.WRONG_TYPE: lambda rows: not any(isinstance(row["IsLitigator"], bool) for row in rows),
    Kind.WRONG_SHAPE: lambda answer: phones_of(answer["Results"]) == BATCH,
    Kind.EMPTY_LIST: lambda rows: rows == [],
    Kind.TEXT_BOOLEAN: lambda rows: {row["IsLitigator"] for row in rows} == {"true", "false"},
    Kind.NULL_BOOLEAN: lambda rows: {row["IsLitigator"] for row in rows} == {None},
    Kind.NO_BOOLEAN: lambda rows: all(row.keys() == {"Phone"} for row in rows),
    Kind.TEXT_PHONE: lambda rows: [row["Phone"] for row in rows] == BATCH,
    Kind.FLOAT_PHONE: lambda rows: all(isinstance(row["Phone"], float) for row in rows),
    Kind.SPELT_PHONE: lambda rows: rows[0]["Phone"] == "(212) 555-0100",
    Kind.DUPLICATE: lambda rows: phones_of(rows) == BATCH * 2 and true_of(rows) == {*LITIGATORS, CONTROL_NUMBERS[0]},
    Kind.OTHER_PHONE: lambda rows: set(BATCH) ^ set(phones_of(rows)) == {BATCH[0], "2125550197"},
    Kind.OTHER_PHONES: lambda rows: set(phones_of(rows)) & set(BATCH) == {CONTROL_NUMBERS[0]} and len(rows) == 91,
    Kind.MISSING_PHONES: lambda rows: phones_of(rows) == BATCH[::2] and CONTROL_NUMBERS[0] in BATCH[::2],
    Kind.CONTRADICTION: lambda rows: phones_of(rows) == BATCH * 2 and true_of(rows) == set(BATCH),
    Kind.MISSING_CONTROL: lambda rows: phones_of(rows) == PHONES,
    Kind.CLEAR_CONTROL: lambda rows: true_of(rows) == LITIGATORS and phones_of(rows) == BATCH,
    Kind.SOME_CONTROLS_CLEAR: lambda rows: true_of(rows) == {*LITIGATORS, CONTROL_NUMBERS[0]},
}


def phones_of(rows):
    return [str(row["Phone"]) for row in rows]


def true_of(rows):
    return {str(row["Phone"]) for row in rows if row["IsLitigator"] is True}


def test_every_wrong_answer_of_ccc_is_tried_here():
    assert SEEN.keys() | {Kind.MALFORMED} >= CCC_KINDS - IDICORE_KINDS


@pytest.mark.parametrize("kind", sorted(SEEN))
def test_each_wrong_answer_of_ccc_can_be_ordered_and_ends(caller, sims, kind):
    sims.ccc.faults.add(Fault(kind, times=1))
    answer = caller.scrub(BATCH)
    assert answer.status_code == 200
    assert SEEN[kind](answer.json())
    assert len(caller.scrub(BATCH).json()) == len(BATCH)


def test_some_controls_can_be_clear_while_another_is_not(caller, sims):
    sims.ccc.faults.add(Fault("some_controls_clear"))
    assert true_of(caller.scrub([*PHONES, *CONTROL_NUMBERS]).json()) == {*LITIGATORS, CONTROL_NUMBERS[0]}


def test_what_left_whole_is_kept_for_whoever_asks(caller, sims):
    sims.ccc.line.sent = []
    sims.ccc.faults.add(Fault("cut_body", requests=[1]), Fault("all_false", requests=[2]))
    with pytest.raises(httpx.RemoteProtocolError):
        caller.scrub(BATCH)
    answer = caller.scrub(BATCH)
    assert [reply.body for reply in sims.ccc.line.sent] == [answer.content]
    assert not any(row["IsLitigator"] for row in orjson.loads(sims.ccc.line.sent[0].body))


def test_every_path_that_was_asked_for_is_counted_with_its_query(caller, sims):
    caller.scrub(PHONES)
    caller.scrub(PHONES, query="?loginId=guess")
    caller.http.get(f"{sims.addresses()[1]}/elsewhere")
    assert sims.ccc.line.targets == Counter(
        {"/v1.5/Scrub/litigator": 1, "/v1.5/Scrub/litigator?loginId=guess": 1, "/elsewhere": 1}
    )


def test_a_malformed_phone_fails_only_the_batches_that_hold_it(sims, caller):
    sims.ccc.faults.add(Fault("malformed", phones={PHONES[5]}))
    assert caller.scrub(PHONES[:10]).status_code == 400
    assert caller.scrub(PHONES[6:10]).status_code == 200
    assert caller.scrub([PHONES[5]]).status_code == 400
