"""Who a lead is: one key for all spellings of a person, and why a lead cannot be looked up.

The key decides what is paid for, so its rules are written out here and use no library whose
next version could change a key. Choosing between persons of a vendor's answer, and what a
person costs, do not belong here.
"""

import hashlib
import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

from leadscrub_pipeline.domain import usps

KEY_VERSION: Final = 1
"""Raise it with any change of a rule or table that changes a key; ``ledger rekey`` carries old keys over."""

LONGEST_VALUE: Final = 200
"""Characters. A longer value is a broken export, not a name."""


class Person(NamedTuple):
    """A lead's identity as the script gave it; the fields are unchanged source values."""

    first_name: str | None
    last_name: str | None
    address: str | None
    city: str | None = None
    state: str | None = None
    zip_code: str | None = None


class NormalName(NamedTuple):
    first: str
    last: str
    generation: str
    """jr, sr, ii, iii, iv, v, or empty; it may stand in either field."""


class NormalAddress(NamedTuple):
    street: str
    """House number and street, or PO box."""
    unit: str
    """Apartment, suite, lot; empty when there is none."""


_PLACEHOLDERS: Final = usps.words(
    """
    na nan nil nill null none nothing unknown unk undefined unavailable tbd blank empty missing
    notavailable notapplicable notprovided notgiven notknown noname nofirstname nolastname noaddress
    unknownname unknownaddress addressunknown nameunknown nonegiven noneprovided
    """
)

# Letters that NFKD does not take apart, and signs that stand for others.
_LETTERS: Final = str.maketrans(
    {
        "\N{LATIN SMALL LETTER O WITH STROKE}": "o",
        "\N{LATIN SMALL LETTER L WITH STROKE}": "l",
        "\N{LATIN SMALL LETTER D WITH STROKE}": "d",
        "\N{LATIN SMALL LETTER H WITH STROKE}": "h",
        "\N{LATIN SMALL LETTER T WITH STROKE}": "t",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
        "\N{LATIN SMALL LETTER ETH}": "d",
        "\N{LATIN SMALL LETTER THORN}": "th",
        "\N{LATIN SMALL LETTER AE}": "ae",
        "\N{LATIN SMALL LIGATURE OE}": "oe",
        "\N{FRACTION SLASH}": "/",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{MODIFIER LETTER APOSTROPHE}": "'",
        "\N{MODIFIER LETTER TURNED COMMA}": "'",
        "\N{HYPHEN}": "-",
        "\N{NON-BREAKING HYPHEN}": "-",
        "\N{FIGURE DASH}": "-",
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{MINUS SIGN}": "-",
    }
)
_ASCII_SIGNS: Final = str.maketrans("", "", "".join(chr(c) for c in range(128) if not chr(c).isalnum()))
_WORD: Final = r"[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]"
_WORDS: Final = re.compile(rf"{_WORD}+")
_VULGAR_FRACTION: Final = re.compile("([\u00bc-\u00be\u2150-\u215e])")
_HALF_NUMBER: Final = re.compile(r"(?<=[0-9])-(?=[0-9]/[0-9])")
_LOOSE_HYPHEN: Final = re.compile(r"(?<=[0-9]) *- *(?=[0-9])")
_ADDRESS_WORDS: Final = re.compile(rf"[0-9]/[0-9]+|[0-9]+(?:-[0-9]+)+(?![0-9])|{_WORD}+|#")
_LETTER_GAP: Final = re.compile(r"(?<![0-9]) (?![0-9])")
_GLUED_NUMBER: Final = re.compile(r"([0-9]+)([^0-9]{2,})")
_ORDINAL: Final = re.compile(r"([0-9]+)(?:st|nd|rd|th)")
_NUMBER_WITH_LETTER: Final = re.compile(r"[0-9]+[a-z]|[a-z][0-9]+")
_PO_BOX: Final = re.compile(
    r"\b(?:p[ .]*o|post office|postal)[ .]*(?:box|bx|drawer)\b[ .#]*|^(?:pob|box)[ .#]+(?=[0-9])"
)
_RURAL_ROUTE: Final = re.compile(r"^(?:r ?r|rural rte|rfd|r ?d)(?= [0-9])")
_ZIP: Final = re.compile(r"([0-9]{5})(?:[- ]*[0-9]{4}|-)?|([0-9]{3,4})(?:-[0-9]{4})?|([0-9]{3,4})[0-9]{4}")
_MARK_BLOCKS: Final = (
    (0x300, 0x36F),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)

_SUFFIX_WORDS: Final = frozenset(usps.STREET_SUFFIXES.values())
_DIRECTION_WORDS: Final = frozenset(usps.DIRECTIONS.values())
_STREET_WORDS: Final = (
    usps.STREET_SUFFIXES | usps.NUMBER_WORDS | usps.DIRECTIONS | {"u s": "us", "interstate": "i", "and": "&"}
)
_MAIN_UNITS: Final = frozenset({"apt", "apartment", "aptmt", "appt", "unit", "ste", "suite", "suit", "#"})


def person_key(person: Person) -> str:
    """The person's key: 32 hex digits, the same for every spelling of one person.

    Made of first name, last name, generation, street, unit, and the five-digit ZIP; city and
    state take the ZIP's place when there is no valid one. Never raises, whatever the text.
    """
    first, last, generation = normal_names(person.first_name, person.last_name)
    street, unit = normal_address(person.address)
    parts = (first, last, generation, street, unit, _place(person.city, person.state, person.zip_code))
    text = f"{KEY_VERSION}\x1f" + "\x1f".join(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def unusable_reason(person: Person) -> str | None:
    """Why the lead cannot be looked up, or None.

    One of ``no_first_name``, ``no_last_name``, ``no_address``, ``no_place`` (neither a ZIP nor
    city and state), or ``<field>_too_long``.
    """
    for field, value in zip(Person._fields, person, strict=True):
        if value is not None and len(str(value)) > LONGEST_VALUE:
            return f"{field}_too_long"
    first, last, _ = normal_names(person.first_name, person.last_name)
    if _is_placeholder(first):
        return "no_first_name"
    if _is_placeholder(last):
        return "no_last_name"
    if _is_placeholder(normal_name(person.address)) or _is_placeholder(normal_address(person.address).street):
        return "no_address"
    if not _place(person.city, person.state, person.zip_code):
        return "no_place"
    return None


@lru_cache(maxsize=16_384)
def normal_name(text: str | None) -> str:
    """Letters and digits only, folded: ``O'Brien-Núñez`` is ``obriennunez``. A generation is kept in it."""
    return _fold(text).translate(_ASCII_SIGNS)


def normal_names(first_name: str | None, last_name: str | None) -> NormalName:
    """First and last name folded, with the generation taken out of whichever field holds it."""
    first, of_first = _name_and_generation(first_name, is_last=False)
    last, of_last = _name_and_generation(last_name, is_last=True)
    if of_first and of_last and of_first != of_last:
        return NormalName(first, last, "+".join(sorted((of_first, of_last))))
    return NormalName(first, last, of_last or of_first)


@lru_cache(maxsize=16_384)
def _name_and_generation(text: str | None, *, is_last: bool) -> tuple[str, str]:
    words = _WORDS.findall(_fold(text))
    generation = ""
    if len(words) > 1:
        # "John V" is far more often a middle initial than a fifth of his name.
        found = usps.GENERATIONS.get(words[-1], "")
        if found and (is_last or words[-1] != "v"):
            generation = found
            words.pop()
    return "".join(words), generation


@lru_cache(maxsize=4_096)
def normal_address(text: str | None) -> NormalAddress:
    """House number and street in USPS words, and the unit.

    ``12 North Main Street #4-B`` gives street ``12 nmainst`` and unit ``4b``.
    """
    folded = _fold(text).replace("'", "")
    if "-" in folded:
        folded = _LOOSE_HYPHEN.sub("-", _HALF_NUMBER.sub(" ", folded))
    if "b" in folded:
        folded = _PO_BOX.sub("pobox ", folded)
    words = _ADDRESS_WORDS.findall(folded)
    if words and (glued := _GLUED_NUMBER.fullmatch(words[0])) and not _ORDINAL.fullmatch(words[0]):
        words[:1] = glued.groups()
    words, units = _take_units(words)
    street = _street_words(words)
    if not units and len(street) > 2:
        street, units = _take_bare_unit(street)
    line = " ".join(street)
    if line[:1] == "r":
        line = _RURAL_ROUTE.sub("rr", line)
    return NormalAddress(_LETTER_GAP.sub("", line), " ".join(sorted(units)))


def normal_state(text: str | None) -> str:
    """The two-letter code for a state's code or name; other text comes back folded."""
    name = normal_name(text)
    return usps.STATES.get(name, name)


def zip5(value: str | int | None) -> str | None:
    """The five-digit ZIP, with the zeros a spreadsheet took, or None when it is no ZIP."""
    text = _fold(value).strip().removesuffix(".0")
    match = _ZIP.fullmatch(text)
    if match is None:
        return None
    digits = (match[1] or match[2] or match[3]).zfill(5)
    return digits if "00501" <= digits <= "99950" else None


def _place(city: str | None, state: str | None, zip_code: str | None) -> str:
    if (digits := zip5(zip_code)) is not None:
        return digits
    town = _town(city)
    code = normal_state(state)
    return "" if _is_placeholder(town) or _is_placeholder(code) else f"{town}/{code}"


@lru_cache(maxsize=4_096)
def _town(text: str | None) -> str:
    return "".join(_street_words(_WORDS.findall(_fold(text).replace("'", ""))))


def _is_placeholder(name: str) -> bool:
    """No letter at all (``-``, ``.``, ``000``), a word that means nothing, or a row of x."""
    return name in _PLACEHOLDERS or not name.strip("x0123456789 -/&")


def _take_units(words: list[str]) -> tuple[list[str], list[str]]:
    """Part unit designators and what they designate from the street's words."""
    if not any(word in usps.UNIT_DESIGNATORS for word in words):
        return words, []
    street: list[str] = []
    units: list[str] = []
    at = 0
    while at < len(words):
        taken = _unit_at(words, at, has_street=any(not word[0].isdigit() for word in street))
        if taken is None:
            street.append(words[at])
            at += 1
            continue
        unit, at = taken
        if unit in {"fl", ""} and street and (floor := _ORDINAL.fullmatch(street[-1])):
            unit = "fl" + floor[1]
            street.pop()
        if unit:
            units.append(unit)
    return street, units


def _unit_at(words: list[str], at: int, *, has_street: bool) -> tuple[str, int] | None:
    """The unit whose designator stands at this place and where the rest begins, or None when it is a street's word."""
    word = words[at]
    kind = usps.UNIT_DESIGNATORS.get(word)
    if kind is None:
        return None
    after = at + 1
    if word in _MAIN_UNITS:
        while after < len(words) and (words[after] in {"#", "no", "num", "number"} or words[after] in _MAIN_UNITS):
            after += 1
    elif after < len(words) and words[after] == "#":
        after += 1
    end = after
    if has_street:
        while end < len(words) and words[end] not in usps.UNIT_DESIGNATORS:
            end += 1
    else:
        end = min(after + 1, len(words))
    value = _unit_value(words[after:end])
    if word in _MAIN_UNITS:
        return value, end
    is_last = end == len(words)
    if value and (any(c.isdigit() for c in value) or (len(value) == 1 and is_last)):
        return (kind + value, end) if has_street or end < len(words) else None
    previous = words[at - 1] if at else ""
    if is_last and not value and (kind in usps.UNITS_WITHOUT_NUMBER or (kind == "fl" and _ORDINAL.fullmatch(previous))):
        return (kind, end) if has_street else None
    return None


def _unit_value(words: list[str]) -> str:
    """``4 B``, ``4-B`` and ``04b`` are ``4b``; ``1-12`` and ``11-2`` stay apart."""
    value = ""
    for word in words:
        for part in re.split(r"-", word):
            plain = part.lstrip("0") or part[:1]
            value += ("-" if value[-1:].isdigit() and plain[:1].isdigit() else "") + plain
    return value


def _street_words(words: list[str]) -> list[str]:
    """Standard words: suffixes, directions (``north east`` and ``n e`` as ``ne``), numbers without their endings."""
    out: list[str] = []
    for at, word in enumerate(words):
        plain = _STREET_WORDS.get(word, word)
        if plain[0].isdigit():
            if at and (ordinal := _ORDINAL.fullmatch(plain)):
                plain = ordinal[1]
            plain = plain.lstrip("0") or "0"
        elif out and plain in {"e", "w"} and out[-1] in {"n", "s"}:
            out[-1] += plain
            continue
        elif plain == "s" and out and out[-1] == "u":
            out[-1] = "us"
            continue
        out.append(plain)
    return out


def _take_bare_unit(street: list[str]) -> tuple[list[str], list[str]]:
    """``12 main st 4b`` names unit 4b without a designator; ``12 county rd 4`` does not."""
    last = street[-1]
    if not street[0][0].isdigit() or (last in _DIRECTION_WORDS) or not (last[0].isdigit() or len(last) <= 2):
        return street, []
    before = street[-2]
    name = street[1:-2]
    if before in _DIRECTION_WORDS and len(street) > 4:
        before = street[-3]
        name = street[1:-3]
    if usps.ROUTE_WORDS & set(street) or not name or name[-1] in usps.ROUTE_OWNERS:
        return street, []
    if before in _SUFFIX_WORDS and any(not word[0].isdigit() or len(name) > 0 for word in name):
        if last[0].isdigit() or len(last) == 1:
            return street[:-1], [_unit_value([last])]
    elif _NUMBER_WITH_LETTER.fullmatch(last) and not before[0].isdigit():
        return street[:-1], [_unit_value([last])]
    return street, []


def _fold(value: object) -> str:
    """Lower case, without accents, invisible signs or another script's digits."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKD", _VULGAR_FRACTION.sub(r" \1", text))
    text = "".join(map(_plain, text)).casefold().translate(_LETTERS)
    if text.isascii():
        return text
    return "".join(map(_plain, unicodedata.normalize("NFKD", text))).translate(_LETTERS)


def _plain(char: str) -> str:
    """The character itself, its ASCII digit, a blank for a sign, or nothing for a mark or an invisible one."""
    code = ord(char)
    if code < 128:
        return char
    if any(low <= code <= high for low, high in _MARK_BLOCKS):
        return ""
    category = unicodedata.category(char)
    if category == "Cf":
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category[0] in "LNM" or ord(char) in _LETTERS:
        return char
    return " "
