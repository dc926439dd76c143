"""The three-valued answer: what counts as clear, for how long, and how phones make a lead's flag."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadscrub_pipeline.domain.verdicts import (
    CLEAR,
    LASTING_REASONS,
    LISTED,
    Answer,
    Flag,
    Reason,
    Verdict,
    litigator_flag,
    litigator_valid_until,
    phone_flag,
    registry_valid_until,
    standing,
    unknown,
    utc_now,
)

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
REASONS = st.sampled_from(sorted(set(Reason) - {Reason.NO_PHONE}))
ANSWERS = st.one_of(st.sampled_from([LISTED, CLEAR]), REASONS.map(unknown))
NO_PHONE = Flag(None, Reason.NO_PHONE)


@pytest.mark.parametrize("verdict", [Verdict.LISTED, Verdict.CLEAR])
def test_an_answer_has_a_reason_exactly_when_it_is_unknown(verdict: Verdict) -> None:
    message = "an unknown verdict needs a reason, and no other verdict has one"
    with pytest.raises(ValueError, match=f"^{message}$"):
        Answer(verdict, Reason.TIMEOUT)
    with pytest.raises(ValueError, match=f"^{message}$"):
        Answer(Verdict.UNKNOWN)
    assert Answer(verdict).reason is None
    assert unknown(Reason.TIMEOUT) == Answer(Verdict.UNKNOWN, Reason.TIMEOUT)


def test_no_source_answers_that_there_is_no_phone() -> None:
    # Such an answer about a phone that is there was once left out of a lead's flag, which became FALSE.
    with pytest.raises(ValueError, match=r"^there is no answer about no phone$"):
        unknown(Reason.NO_PHONE)


def test_a_clear_answer_ends_at_its_very_end() -> None:
    second = timedelta(seconds=1)
    assert standing(CLEAR, valid_until=NOON + second, now=NOON) == CLEAR
    assert standing(CLEAR, valid_until=NOON, now=NOON) == unknown(Reason.EXPIRED)
    assert standing(CLEAR, valid_until=NOON - second, now=NOON) == unknown(Reason.EXPIRED)


@given(st.one_of(st.just(LISTED), REASONS.map(unknown)), st.integers(-100, 100))
def test_only_a_clear_answer_expires(answer: Answer, hours: int) -> None:
    assert standing(answer, valid_until=NOON + timedelta(hours=hours), now=NOON) == answer


def test_a_litigator_answer_is_good_for_so_many_days_from_the_check() -> None:
    assert litigator_valid_until(NOON, 31) == NOON + timedelta(days=31)
    assert litigator_valid_until(NOON, 7) - NOON == timedelta(weeks=1)


def test_a_registry_answer_is_good_for_so_many_days_from_when_the_list_was_obtained() -> None:
    obtained_at = NOON - timedelta(days=20)
    assert registry_valid_until(obtained_at, 31) == NOON + timedelta(days=11)


def test_a_phone_flag_is_false_only_for_a_clear_answer() -> None:
    assert phone_flag(CLEAR, has_phone=True) == Flag(value=False, reason=None)
    assert phone_flag(LISTED, has_phone=True) == Flag(value=True, reason=None)
    assert phone_flag(None, has_phone=True) == Flag(None, Reason.NO_VERDICT)
    assert phone_flag(unknown(Reason.TIMEOUT), has_phone=True) == Flag(None, Reason.TIMEOUT)


@given(st.one_of(st.none(), ANSWERS))
def test_an_empty_phone_column_has_no_flag_whatever_was_answered(answer: Answer | None) -> None:
    assert phone_flag(answer, has_phone=False) == NO_PHONE


@given(st.lists(st.tuples(ANSWERS, st.booleans()), max_size=3))
def test_a_lead_is_free_of_litigators_only_when_every_phone_was_answered_clear(
    slots: list[tuple[Answer, bool]],
) -> None:
    flags = [phone_flag(answer, has_phone=has_phone) for answer, has_phone in slots]
    present = [answer for answer, has_phone in slots if has_phone]
    flag = litigator_flag(flags)
    if LISTED in present:
        assert flag == Flag(value=True, reason=None)
    elif not present:
        assert flag == NO_PHONE
    elif all(answer == CLEAR for answer in present):
        assert flag == Flag(value=False, reason=None)
    else:
        assert flag == Flag(None, next(answer.reason for answer in present if answer != CLEAR))


def test_a_listed_phone_outweighs_an_unknown_one() -> None:
    flags = [phone_flag(unknown(Reason.TIMEOUT), has_phone=True), phone_flag(LISTED, has_phone=True)]
    assert litigator_flag(flags).value is True


def test_reasons_that_another_visit_would_not_change() -> None:
    assert {Reason.NO_PHONE, Reason.NOT_NANP, Reason.MALFORMED_BY_VENDOR} == LASTING_REASONS


def test_the_stored_words_are_what_tables_and_evidence_hold() -> None:
    assert [str(verdict) for verdict in Verdict] == ["listed", "clear", "unknown"]
    assert all(reason == reason.name.lower() for reason in Reason)


def test_now_is_aware_and_in_utc() -> None:
    assert utc_now().utcoffset() == timedelta(0)
