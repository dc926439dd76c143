"""Phones: a field that is plainly one North American number is read, anything else is refused with a reason."""

import random
import re

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.domain.phones import ParsedPhone, mask_phone, parse_phone, refusal, slow_refusal

GOOD = ParsedPhone("2125550123", None)
REASONS = {
    "empty", "not_text", "float", "other_characters", "extension", "several_numbers", "letters", "other_country",
    "wrong_length", "unreadable", "bad_area_code", "bad_exchange", "service_code", "toll_free", "premium_rate",
    "personal_number", "repeated_digits", "not_assigned",
}  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        "2125550123",
        2125550123,
        12125550123,
        "12125550123",
        "(212) 555-0123",
        "(212)555-0123",
        "212-555-0123",
        "212.555.0123",
        "212 555 0123",
        "212/555-0123",
        "+12125550123",
        "+1 212-555-0123",
        "+1 (212) 555-0123",
        "+1.212.555.0123",
        "1-212-555-0123",
        "1 (212) 555 0123",
        "  212-555-0123\n",
        "212\u2011555\u20110123",
        "212\u00a0555\u20130123",
    ],
)
def test_the_usual_spellings_are_one_number(value: object) -> None:
    assert parse_phone(value) == GOOD


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        ("", "empty"),
        ("  ", "empty"),
        ("-", "empty"),
        (True, "not_text"),
        (b"2125550123", "not_text"),
        (["2125550123"], "not_text"),
        ({"number": 2125550123}, "not_text"),
        (2125550123.0, "float"),
        (float("nan"), "float"),
        ("2125550123.0", "float"),
        ("2.125550123e9", "float"),
        ("2.125550123E+09", "float"),
        ("2125550123 x12", "extension"),
        ("212-555-0123 ext. 4", "extension"),
        ("(212) 555-0123 extn 4", "extension"),
        ("2125550123#4", "extension"),
        ("2125550123, 2125550124", "several_numbers"),
        ("2125550123/2125550124", "several_numbers"),
        ("2125550123 2125550124", "several_numbers"),
        ("21255501232125550124", "several_numbers"),
        ("2125550123;2125550124", "several_numbers"),
        ("\u0662\u0661\u0662\u0665\u0665\u0665\u0660\u0661\u0662\u0663", "other_characters"),
        ("\uff12\uff11\uff12\uff15\uff15\uff15\uff10\uff11\uff12\uff13", "other_characters"),
        ("212555012\u00b3", "other_characters"),
        ("1-800-FLOWERS", "letters"),
        ("call 2125550123", "letters"),
        ("+44 20 7946 0958", "other_country"),
        ("+2125550123", "other_country"),
        ("0012125550123", "other_country"),
        ("01144207946095", "other_country"),
        ("555-0123", "wrong_length"),
        ("212555012", "wrong_length"),
        ("911", "wrong_length"),
        (0, "wrong_length"),
        (-2125550123, "wrong_length"),
        (99912125550123, "several_numbers"),
        ("21255501231", "unreadable"),
        ("21 25 55 01 23", "unreadable"),
        ("2125550123" * 1000, "unreadable"),
        ("1125550123", "bad_area_code"),
        ("0125550123", "bad_area_code"),
        ("2121550123", "bad_exchange"),
        ("2120550123", "bad_exchange"),
        ("2122110123", "service_code"),
        ("2129110123", "service_code"),
        ("9115550123", "service_code"),
        ("8005550123", "toll_free"),
        ("8335550123", "toll_free"),
        ("8885550123", "toll_free"),
        ("9005550123", "premium_rate"),
        ("2129760123", "premium_rate"),
        ("5005550123", "personal_number"),
        ("5335550123", "personal_number"),
        ("2122222222", "repeated_digits"),
        ("2222222222", "repeated_digits"),
        ("9999999999", "repeated_digits"),
        ("0000000000", "repeated_digits"),
        ("2995550123", "not_assigned"),
        ("5555550123", "not_assigned"),
    ],
)
def test_what_is_not_plainly_one_number_is_refused_by_name(value: object, reason: str) -> None:
    assert parse_phone(value) == ParsedPhone(None, reason)


def test_an_integer_too_long_to_print_is_refused() -> None:
    assert parse_phone(10**5000) == parse_phone(-(10**5000)) == ParsedPhone(None, "wrong_length")


def test_a_float_from_pandas_never_becomes_somebodys_number() -> None:
    """2125550123.0 without its dot is eleven digits, and its last ten are another person's phone."""
    assert parse_phone(str(2125550123.0)).digits is None
    assert parse_phone(1212555012.0).digits is None


def test_fictional_numbers_of_every_area_code_of_the_states_and_canada_are_phones() -> None:
    areas = 0
    for area in range(200, 1000):
        number = phonenumbers.parse(f"+1{area}2345678")
        if phonenumbers.region_code_for_number(number) in {"US", "CA"} and parse_phone(f"{area}2345678").digits:
            areas += 1
            assert parse_phone(f"{area}5550100").digits == f"{area}5550100"
            assert parse_phone(f"({area}) 555-0199").digits == f"{area}5550199"
    assert areas > 300


def test_canada_and_the_caribbean_are_in_the_plan() -> None:
    assert parse_phone("4165550123").digits == "4165550123"
    assert parse_phone("+1 787 555 0123").digits == "7875550123"


def test_a_masked_phone_shows_area_code_and_two_digits() -> None:
    assert mask_phone("2125550123") == "212-***-**23"
    assert mask_phone("555") == mask_phone("") == "***"


TEN_DIGITS = st.integers(0, 10**10 - 1).map(lambda n: f"{n:010}")
NUMBER_LIKE = st.lists(
    st.sampled_from(
        ["+", "1", "212", "555", "0123", "(", ")", "-", " ", ".", "x", "ext", "#", ";", ",", "/", "e", "00"]
    ),
    max_size=10,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(), max_size=40)
    | NUMBER_LIKE
    | st.integers()
    | st.floats()
    | st.binary()
    | st.booleans()
    | st.none()
    | st.lists(st.text())
)
@example("\ud800")
@example("1" * 100_000)
@example(" " * 100_000 + "x")
def test_anything_is_ten_digits_or_a_known_reason(value: object) -> None:
    phone = parse_phone(value)
    assert (phone.digits is None) != (phone.reason is None)
    if phone.digits is None:
        assert phone.reason in REASONS
    else:
        assert re.fullmatch("[2-9][0-9]{2}[2-9][0-9]{6}", phone.digits, re.ASCII)
        written = re.sub("[^0-9]", "", str(value))
        assert written in {phone.digits, "1" + phone.digits}, "no digit is dropped or added"


@settings(max_examples=200, deadline=None)
@given(TEN_DIGITS)
def test_phonenumbers_decides_on_validity(digits: str) -> None:
    phone = parse_phone(digits)
    if phonenumbers.is_valid_number(phonenumbers.parse(f"+1{digits}")):
        assert phone.reason != "not_assigned"
    else:
        assert phone.digits is None


@settings(max_examples=200, deadline=None)
@given(TEN_DIGITS.filter(lambda digits: digits[3:] != digits[3] * 7))
def test_the_remembered_answer_of_a_block_is_that_of_each_number(digits: str) -> None:
    assert refusal(digits) == slow_refusal(digits)


def free_digits(pattern: list) -> int:
    """How many digits at the end of a pattern are free, whichever branch matches."""
    count = 0
    for kind, value in reversed(pattern):
        name = str(kind)
        if name == "IN" and str(value[0][1]) == "CATEGORY_DIGIT":
            count += 1
        elif name == "MAX_REPEAT" and str(value[2][0][0]) == "IN" and str(value[2][0][1][0][1]) == "CATEGORY_DIGIT":
            count += value[0]
        elif name == "BRANCH":
            return count + min(free_digits(list(branch)) for branch in value[1])
        elif name == "SUBPATTERN":
            return count + free_digits(list(value[3]))
        else:
            return count
    return count


def test_no_pattern_of_phonenumbers_looks_at_the_last_three_digits() -> None:
    """Barbados shares exchange 521 out in blocks of a thousand, so that an exchange alone does not decide."""
    seen = 0
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[1]:
        metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
        for kind in ("general_desc", "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost",
                     "personal_number", "voip", "pager", "uan", "voicemail"):  # fmt: skip
            description = getattr(metadata, kind)
            if description and description.national_number_pattern:
                parsed = re._parser.parse(description.national_number_pattern)
                assert free_digits(list(parsed)) >= 3, (region, kind)
                seen += 1
    assert seen > 100
    assert parse_phone("2465210123").reason != parse_phone("2465212123").reason


@settings(max_examples=200, deadline=None)
@given(st.integers(200, 999), st.integers(200, 999), st.integers(0, 9), st.integers(0, 999), st.integers(0, 999))
def test_the_last_three_digits_never_decide(area: int, exchange: int, block: int, one: int, other: int) -> None:
    start = f"{area}{exchange}{block}"
    assert slow_refusal(f"{start}{one:03}") == slow_refusal(f"{start}{other:03}")


@settings(max_examples=200, deadline=None)
@given(TEN_DIGITS, st.sampled_from(["{}-{}-{}", "({}) {}-{}", "+1 {} {} {}", "1{}{}{}", "{}.{}.{}"]))
def test_the_spelling_never_decides(digits: str, form: str) -> None:
    assert parse_phone(form.format(digits[:3], digits[3:6], digits[6:])) == parse_phone(digits)


def test_random_numbers_are_answered() -> None:
    draw = random.Random(20261121)
    accepted = sum(parse_phone(draw.randrange(10**10)).digits is not None for _ in range(30_000))
    assert 3_000 < accepted < 18_000
