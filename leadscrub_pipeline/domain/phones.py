"""What counts as a phone: ten digits of the North American plan, or a reason why not.

Nothing is repaired here: a field that is not plainly one number is refused, because a wrong
digit is somebody else's phone. Whether a number may be called does not belong here.
"""

import re
from typing import Final, NamedTuple

from phonenumbers import PhoneNumber, PhoneNumberType, number_type


class ParsedPhone(NamedTuple):
    """Ten digits, or the reason why there are none; exactly one of the two is None."""

    digits: str | None
    reason: str | None


LONGEST_TEXT: Final = 64
_ONE_NUMBER: Final = re.compile(
    r"(?:\+[ ]?1|1)?[ .\-]*(?:\(([0-9]{3})\)|([0-9]{3}))[ ./\-]*([0-9]{3})[ .\-]*([0-9]{4})", re.ASCII
)
_FLOAT_TEXT: Final = re.compile(r"[+-]?[0-9]+\.[0-9]?|[+-]?[0-9.]+e[+-]?[0-9]+", re.ASCII | re.IGNORECASE)
_EXTENSION: Final = re.compile(r"[0-9)][\s,;]*(?:e?xt?n?\b|ext|x|#|;)[\s.:=#]*[0-9]{1,7}\s*$", re.ASCII | re.IGNORECASE)
_TYPOGRAPHY: Final = str.maketrans(
    {
        "\N{NO-BREAK SPACE}": " ",
        "\N{HYPHEN}": "-",
        "\N{NON-BREAKING HYPHEN}": "-",
        "\N{FIGURE DASH}": "-",
        "\N{EN DASH}": "-",
    }
)
_REFUSED_TYPES: Final = {
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium_rate",
    PhoneNumberType.PERSONAL_NUMBER: "personal_number",
    PhoneNumberType.UNKNOWN: "not_assigned",
}
_TOLL_FREE: Final = frozenset({"800", "822", "833", "844", "855", "866", "877", "888", *map(str, range(880, 888))})

_UNSEEN: Final = 0
_VALID: Final = 1
_VERDICTS: Final = (
    "",
    "",
    "bad_area_code",
    "bad_exchange",
    "service_code",
    "toll_free",
    "premium_rate",
    "personal_number",
    "not_assigned",
)
_known: Final[dict[str, bytearray]] = {}
"""By area code, one byte for each block of a thousand numbers, in which numbers are assigned. At most 8 MB."""


def parse_phone(value: object) -> ParsedPhone:
    """Read one phone from text or an integer.

    Spellings with blanks, dots, dashes, brackets and a leading 1 or +1 are understood. Reasons:
    ``empty``, ``not_text``, ``float``, ``other_characters``, ``extension``, ``several_numbers``,
    ``letters``, ``other_country``, ``wrong_length``, ``unreadable``, ``bad_area_code``,
    ``bad_exchange``, ``service_code`` (N11), ``toll_free``, ``premium_rate``,
    ``personal_number``, ``repeated_digits``, ``not_assigned``. Never raises.
    """
    read = read_digits(value)
    if read.digits is None:
        return read
    reason = refusal(read.digits)
    return read if reason is None else _refused(reason)


def read_digits(value: object) -> ParsedPhone:
    """The ten digits of a number as it is written, whether or not it is one that a person can have.

    For what must be honoured also where the numbering plan has changed since. Reasons are those of ``parse_phone``.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return _refused(_type_reason(value))
    if isinstance(value, int):
        if not 0 <= value < 10**15:
            return _refused("wrong_length")
        value = str(value)
    match = _ONE_NUMBER.fullmatch(value)
    if match is None:
        value = value.translate(_TYPOGRAPHY).strip()
        match = _ONE_NUMBER.fullmatch(value)
        if match is None:
            return _refused(_unreadable_reason(value))
    return ParsedPhone(f"{match[1] or match[2]}{match[3]}{match[4]}", None)


def refusal(digits: str) -> str | None:
    """Why these ten digits are no number of a person, or None."""
    if digits[3:] == digits[3] * 7:
        return "repeated_digits"
    blocks = _known.get(digits[:3])
    if blocks is None:
        blocks = _known.setdefault(digits[:3], bytearray(10_000))
    block = int(digits[3:7])
    verdict = blocks[block]
    if verdict == _UNSEEN:
        reason = slow_refusal(digits)
        verdict = blocks[block] = _VALID if reason is None else _VERDICTS.index(reason, 2)
    return None if verdict == _VALID else _VERDICTS[verdict]


def slow_refusal(digits: str) -> str | None:
    """What ``refusal`` remembers for a block; a test shows that the last three digits never decide."""
    area_code, exchange = digits[:3], digits[3:6]
    reason = _plan_refusal(area_code, exchange)
    if reason is not None:
        return reason
    # A number is valid exactly when it has a type; asking for both takes twice as long.
    return _REFUSED_TYPES.get(number_type(PhoneNumber(country_code=1, national_number=int(digits))))


def _plan_refusal(area_code: str, exchange: str) -> str | None:
    if area_code in _TOLL_FREE:
        return "toll_free"
    if area_code[0] in "01":
        return "bad_area_code"
    if area_code.endswith("11") or exchange.endswith("11"):
        return "service_code"
    if exchange[0] in "01":
        return "bad_exchange"
    return "premium_rate" if area_code == "900" or exchange == "976" else None


def mask_phone(digits: str) -> str:
    """``212-***-**23``, for logs and screens."""
    if len(digits) != 10:
        return "***"
    return f"{digits[:3]}-***-**{digits[-2:]}"


def _refused(reason: str) -> ParsedPhone:
    return ParsedPhone(None, reason)


def _type_reason(value: object) -> str:
    if value is None:
        return "empty"
    return "float" if isinstance(value, float) else "not_text"


def _unreadable_reason(text: str) -> str:
    """The first of the usual mistakes that the text shows."""
    text = text[: LONGEST_TEXT + 1]
    count = sum(char.isdigit() for char in text)
    foreign = text.startswith(("00", "011")) or (text.startswith("+") and not text.startswith(("+1", "+ 1")))
    signs = (
        (not text, "empty"),
        (not text.isascii(), "other_characters"),
        (len(text) > LONGEST_TEXT, "unreadable"),
        (_FLOAT_TEXT.fullmatch(text) is not None, "float"),
        (count >= 10 and _EXTENSION.search(text) is not None, "extension"),
        (any(char.isalpha() for char in text), "letters"),
        (count == 0, "empty"),
        (foreign, "other_country"),
        (count >= 14, "several_numbers"),
        (count == 10 or (count == 11 and "1" in text[:2]), "unreadable"),
    )
    return next((reason for found, reason in signs if found), "wrong_length")
