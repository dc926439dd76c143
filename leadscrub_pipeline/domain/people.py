"""Who a lead is: one key for all spellings of a person, and why a lead cannot be looked up.

The key decides what is paid for, so its rules are written out here and use no library whose
next version could change a key. Choosing between persons of a vendor's answer, and what a
person costs, do not belong here.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
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


class NormalPerson(NamedTuple):
    first: str
    last: str
    generation: str
    street: str
    unit: str
    place: str
    """ZIP, or city and state."""


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
_ADDRESS_SIGNS: Final = str.maketrans(
    {chr(c): " " for c in range(128) if not chr(c).isalnum()} | {"'": None, "#": " # "}
)
_WORD: Final = r"[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]"
_WORDS: Final = re.compile(rf"{_WORD}+")
_VULGAR_FRACTION: Final = re.compile("([\u00bc-\u00be\u2150-\u215e])")
_NUMBER_LETTER: Final = re.compile(r"(?<=[0-9])-(?=[a-z]\b)")
_HALF_NUMBER: Final = re.compile(r"(?<=[0-9])-(?=[0-9]/[0-9])")
_LOOSE_HYPHEN: Final = re.compile(r"(?<=[0-9])\s*-\s*(?=[0-9])")
_ADDRESS_WORDS: Final = re.compile(rf"[0-9]/[0-9]+|[0-9]+(?:-[0-9]+)+(?![0-9])|{_WORD}+|#")
_LETTER_GAP: Final = re.compile(r"(?<![0-9]) (?![0-9])")
_GLUED_NUMBER: Final = re.compile(r"([0-9]+)([^0-9]{2,})")
_ORDINAL: Final = re.compile(r"([0-9]+)(?:st|nd|rd|th)")
_NUMBER_WITH_LETTER: Final = re.compile(r"[0-9]+[a-z]|[a-z][0-9]+")
_PO_BOX: Final = re.compile(
    r"\b(?:p[\s.]*o|post\s+office|postal)[\s.]*(?:box|bx|drawer)\b[\s.#]*|^\W*(?:pob|box)[\s.#]+(?=[0-9])"
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

_STATE_SPELLINGS: Final = {
    code: [word for word, its_code in usps.STATES.items() if its_code == code] for code in usps.STATES.values()
}
_SUFFIX_WORDS: Final = frozenset(usps.STREET_SUFFIXES.values())
_DIRECTION_WORDS: Final = frozenset(usps.DIRECTIONS.values())
_STREET_WORDS: Final = usps.STREET_SUFFIXES | usps.NUMBER_WORDS | usps.DIRECTIONS
_UNIT_WORDS: Final = frozenset(usps.UNIT_DESIGNATORS)
_MAIN_UNITS: Final = frozenset(word for word, kind in usps.UNIT_DESIGNATORS.items() if kind == "#")
_AFTER_MAIN_UNITS: Final = _MAIN_UNITS | {"no", "num", "number"}


def person_key(person: Person) -> str:
    """The person's key: 32 hex digits, the same for every spelling of one person.

    Made of first name, last name, generation, street, unit, and the five-digit ZIP; city and
    state take the ZIP's place when there is no valid one. Never raises, whatever the text.
    """
    return _key(KEY_VERSION, normal_parts(person))


def normal_parts(person: Person) -> NormalPerson:
    """What the key is made of. Parts of a lead that says nothing are empty."""
    first, last, generation = normal_names(person.first_name, person.last_name)
    street, unit = normal_address(_without_place(person))
    return NormalPerson(first, last, generation, street, unit, _place(person.city, person.state, person.zip_code))


def could_be(lead: Person, parts: NormalPerson) -> bool:
    """Whether a lead that lacks something is of this person, as far as it goes.

    Everything it says must be the person's, and it must say the last name, and the first name or the street.
    """
    own = normal_parts(lead)
    first, last, street = (not _is_placeholder(text) for text in (own.first, own.last, own.street))
    said = (first, last, bool(own.generation), street, bool(own.unit), bool(own.place))
    agrees = all(mine == theirs for mine, theirs, is_said in zip(own, parts, said, strict=True) if is_said)
    return agrees and last and (first or street)


def _key(version: int, parts: tuple[str, ...]) -> str:
    text = f"{version}\x1f" + "\x1f".join(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


KeyRules = Mapping[int, Callable[[Person], str]]

KEY_RULES: Final[KeyRules] = {1: person_key}
"""How each version makes a key. The rule of an older version stays here, so that ``ledger rekey`` finds its keys."""


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
    address = _without_place(person)
    if _is_placeholder(_fold(address).translate(_ASCII_SIGNS)) or _is_placeholder(normal_address(address).street):
        return "no_address"
    if not _place(person.city, person.state, person.zip_code):
        return "no_place"
    return None


@lru_cache(maxsize=16_384, typed=True)
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


@lru_cache(maxsize=16_384, typed=True)
def _name_and_generation(text: str | None, *, is_last: bool) -> tuple[str, str]:
    words = _WORDS.findall(_fold(text))
    generation = ""
    if len(words) > 1:
        # "John V" is far more often a middle initial than a fifth of his name.
        found = usps.GENERATIONS.get(words[-1], "")
        if found and (is_last or words[-1] != "v"):
            generation = found
            words.pop()
        if words[0] == "st" and len(words) > 1:
            words[0] = "saint"
    return "".join(words), generation


def normal_address(text: str | None) -> NormalAddress:
    """House number and street in USPS words, and the unit.

    ``12 North Main Street #4-B`` gives street ``12 nmainst`` and unit ``4b``.
    """
    return _normal_address(_fold(text))


# By folded text: vendors write a lead's own address in capitals.
@lru_cache(maxsize=4_096)
def _normal_address(folded: str) -> NormalAddress:
    words = _address_words(folded)
    units: list[str] = []
    if not _UNIT_WORDS.isdisjoint(words):
        words, units = _take_units(words)
    street = _street_words(words)
    if not units and len(street) > 2:
        street, units = _take_bare_unit(street)
    line = " ".join(street)
    if line[:1] == "r":
        line = _RURAL_ROUTE.sub("rr", line)
    return NormalAddress(_LETTER_GAP.sub("", line), " ".join(sorted(units)))


def _address_words(folded: str) -> list[str]:
    if "box" in folded or "bx" in folded or "drawer" in folded or "pob" in folded:
        folded = _PO_BOX.sub("pobox ", folded)
    if "-" in folded or "/" in folded:
        folded = _LOOSE_HYPHEN.sub("-", _HALF_NUMBER.sub(" ", _NUMBER_LETTER.sub("", folded.replace("'", ""))))
        words = _ADDRESS_WORDS.findall(folded)
    else:
        words = folded.translate(_ADDRESS_SIGNS).split()
    number = words[0] if words else "0"
    if not number.isdigit() and (glued := _GLUED_NUMBER.fullmatch(number)) and not _ORDINAL.fullmatch(number):
        words[:1] = glued.groups()
    return words


def normal_state(text: str | None) -> str:
    """The two-letter code for a state's code or name; other text comes back folded."""
    name = normal_name(text)
    return usps.STATES.get(name, name)


def zip5(value: str | int | None) -> str | None:
    """The five-digit ZIP, with the zeros a spreadsheet took, or None when it is no ZIP."""
    if isinstance(value, str) and len(value) == 5 and value.isascii() and value.isdigit():
        return value if "00501" <= value <= "99950" else None
    text = _fold(value).strip().removesuffix(".0")
    match = _ZIP.fullmatch(text)
    if match is None:
        return None
    digits = (match[1] or match[2] or match[3]).zfill(5)
    return digits if "00501" <= digits <= "99950" else None


def _without_place(person: Person) -> str | None:
    """The address without city, state and ZIP at its end, parted by commas, when they only repeat the other fields."""
    address = person.address
    if not isinstance(address, str) or "," not in address:
        return address
    lines = address.split(",")
    zip_code = zip5(person.zip_code)
    state = normal_state(person.state)
    city = normal_name(person.city)
    while len(lines) > 1:
        rest = normal_name(lines[-1])
        if zip_code is not None and (at := rest.rfind(zip_code)) >= 0 and len(rest) - at in {5, 9}:
            rest = rest[:at]
        for spelling in _STATE_SPELLINGS.get(state, (state,)):
            if rest.endswith(spelling) and rest.removesuffix(spelling) in {"", city}:
                rest = rest.removesuffix(spelling)
                break
        if rest.removesuffix(city):
            break
        lines.pop()
    return ",".join(lines)


def _place(city: str | None, state: str | None, zip_code: str | None) -> str:
    if (digits := zip5(zip_code)) is not None:
        return digits
    town = _town(city)
    code = normal_state(state)
    return "" if _is_placeholder(town) or _is_placeholder(code) else f"{town}/{code}"


@lru_cache(maxsize=4_096, typed=True)
def _town(text: str | None) -> str:
    return "".join(_street_words(_WORDS.findall(_fold(text).replace("'", ""))))


def _is_placeholder(name: str) -> bool:
    """No letter at all (``-``, ``.``, ``000``), a word that means nothing, or a row of x."""
    return name in _PLACEHOLDERS or not name.strip("0123456789 -/") or (len(name) > 1 and not name.strip("x"))


def _take_units(words: list[str]) -> tuple[list[str], list[str]]:
    """Part unit designators and what they designate from the street's words."""
    street: list[str] = []
    units: list[str] = []
    has_street = False
    at = 0
    while at < len(words):
        word = words[at]
        taken = _unit_at(words, at, has_street=has_street) if word in _UNIT_WORDS else None
        if taken is None:
            street.append(word)
            has_street = has_street or not word[0].isdigit()
            at += 1
            continue
        unit, at = taken
        if unit == "fl" and street and (floor := _ordinal(street[-1])):
            unit += floor
            street.pop()
        if unit:
            units.append(unit)
    return street, units


def _unit_at(words: list[str], at: int, *, has_street: bool) -> tuple[str, int] | None:
    """The unit whose designator stands at this place and where the rest begins, or None when it is a street's word."""
    after = at + 1
    is_main = words[at] in _MAIN_UNITS
    while after < len(words) and (words[after] == "#" or (is_main and words[after] in _AFTER_MAIN_UNITS)):
        after += 1
    end = after
    if has_street:
        while end < len(words) and words[end] not in _UNIT_WORDS:
            end += 1
    else:
        end = min(after + 1, len(words))
    value = words[after:end]
    if is_main:
        return _unit_value(value), end
    kind = usps.UNIT_DESIGNATORS[words[at]]
    if not has_street and end == len(words):
        return None
    if value and (value[0][0].isdigit() or value[0][-1].isdigit() or (len(value) == 1 and len(value[0]) == 1)):
        return kind + _unit_value(value), end
    stands_alone = kind in usps.UNITS_WITHOUT_NUMBER or (kind == "fl" and _ordinal(words[at - 1]))
    return (kind, end) if stands_alone and not value else None


def _ordinal(word: str) -> str:
    """``2`` for ``2nd`` and ``second``, else empty."""
    match = _ORDINAL.fullmatch(word)
    return match[1] if match else usps.NUMBER_WORDS.get(word, "")


def _unit_value(words: list[str]) -> str:
    """``4 B``, ``4-B`` and ``04b`` are ``4b``; ``1-12`` and ``11-2`` stay apart."""
    value = ""
    for word in words:
        for part in word.split("-"):
            plain = part.lstrip("0") or part[:1]
            value += ("-" if value[-1:].isdigit() and plain[:1].isdigit() else "") + plain
    return value


def _street_words(words: list[str]) -> list[str]:
    """Standard words: suffixes, directions (``north east`` and ``n e`` as ``ne``), numbers without their endings."""
    out: list[str] = []
    for at, word in enumerate(words):
        plain = _STREET_WORDS.get(word, word)
        if plain[0].isdigit():
            if at and not plain.isdigit() and (ordinal := _ORDINAL.fullmatch(plain)):
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
    number, *name, before, last = street
    if last in _DIRECTION_WORDS or not (last[0].isdigit() or len(last) <= 2) or not number[0].isdigit():
        return street, []
    if not usps.ROUTE_WORDS.isdisjoint(street):
        return street, []
    if before in _DIRECTION_WORDS and len(name) > 1:
        *name, before = name
    after_suffix = before in _SUFFIX_WORDS and name and name[-1] not in usps.ROUTE_OWNERS
    if after_suffix and (last[0].isdigit() or len(last) == 1):
        return street[:-1], [_unit_value([last])]
    if not before[0].isdigit() and before not in _SUFFIX_WORDS and _NUMBER_WITH_LETTER.fullmatch(last):
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
