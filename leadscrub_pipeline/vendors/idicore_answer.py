"""What idiCORE's answer says about the one person who was asked for: a pure function of body and person.

Any section may be missing and any value may have another type; that never raises. Sending
the request, and what an answer costs, do not belong here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal

from leadscrub_pipeline.domain.people import Person, normal_address, normal_name, normal_names, zip5
from leadscrub_pipeline.domain.phones import parse_phone
from leadscrub_pipeline.errors import FailedError

PARSER_VERSION: Final = 1
"""Raise it when a rule here changes: stored answers are then read anew, at no cost."""

MAX_CONTACTS: Final = 3
LONGEST_TEXT: Final = 40
_KEPT: Final = ("pid", "name", "phone", "email", "address", "isDead")
_EMAIL: Final = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+\.[^@\s,;<>\"]+")
_NO: Final = frozenset({"", "0", "false", "no", "n", "f", "none", "null"})

Entry = Mapping[str, Any]
Rank = Literal["lowest", "highest"]


class WrongShapeError(FailedError):
    """The body is not an idiCORE answer. The message tells its shape, never its content."""


@dataclass(frozen=True, slots=True)
class ContactPhone:
    digits: str
    type: str | None
    disconnected: bool
    rank: int | None


@dataclass(frozen=True, slots=True)
class Contact:
    """At most three phones and e-mails, the best first, and how the person was recognised.

    ``reason`` of a miss: ``no_match``, ``name_differs``, ``tie`` (several persons agree equally
    well) or ``no_contacts``. ``unusable_phones`` holds (text, reason) of what is no NANP number.
    """

    outcome: Literal["hit", "miss"]
    reason: str | None = None
    phones: tuple[ContactPhone, ...] = ()
    emails: tuple[str, ...] = ()
    is_dead: bool = False
    matched_by: str = ""
    unusable_phones: tuple[tuple[str, str], ...] = ()


def kept_part(body: object) -> dict[str, Any]:
    """The answer less relatives and everything that was not asked for.

    Raises:
        WrongShapeError: there is no list of persons in it.
    """
    return {"result": [{key: each[key] for key in _KEPT if key in each} for each in _persons(body)]}


def read_answer(body: object, person: Person, *, rank_best: Rank) -> Contact:
    """The contact of ``person`` in a vendor's body, or a miss.

    Raises:
        WrongShapeError: there is no list of persons in it.
    """
    persons = _persons(body)
    if not persons:
        return Contact("miss", "no_match")
    scores = [(_name_score(each, person), _address_score(each, person)) for each in persons]
    best = max(scores, key=_standing)
    if best[0] < 0:
        return Contact("miss", "name_differs")
    chosen = [each for each, score in zip(persons, scores, strict=True) if _standing(score) == _standing(best)]
    if len(chosen) > 1 and len({_pid(each) or at for at, each in enumerate(chosen)}) > 1:
        return Contact("miss", "tie", matched_by=_matched_by(best))
    phones, unusable = _phones(chosen, rank_best)
    emails = _emails(chosen, rank_best)
    found = bool(phones or emails)
    return Contact(
        outcome="hit" if found else "miss",
        reason=None if found else "no_contacts",
        phones=phones,
        emails=emails,
        is_dead=any(_is_true(each.get("isDead")) for each in chosen),
        matched_by=_matched_by(best),
        unusable_phones=unusable,
    )


def _persons(body: object) -> list[Entry]:
    if not isinstance(body, dict):
        raise WrongShapeError(f"idiCORE's answer is a {type(body).__name__}, not an object.")
    result = body.get("result")
    if not isinstance(result, list):
        raise WrongShapeError(f"idiCORE's answer holds a {type(result).__name__} in result, not a list.")
    persons: list[Entry] = [each for each in result if isinstance(each, dict)]
    if len(persons) < len(result):
        raise WrongShapeError("idiCORE's answer holds something else than objects in result.")
    return persons


# --- which person -----------------------------------------------------------------------


def _standing(score: tuple[int, int]) -> tuple[int, int]:
    """Name and address count alike, and of two with the same sum the better name comes first."""
    name, address = score
    return (name + address, name) if name >= 0 else (-1, -1)


def _matched_by(score: tuple[int, int]) -> str:
    name, address = score
    words = [*(["name"] if name == 2 else ["similar_name"] if name == 1 else []), *(["address"] if address else [])]
    return "+".join(words) or "vendor"


def _name_score(each: Entry, person: Person) -> int:
    """2 the name agrees; 1 but for an initial, a middle name or a generation; 0 none was given; -1 somebody else's."""
    return max((_compare_names(name, person) for name in _names(each)), default=0)


def _names(each: Entry) -> Iterator[tuple[str, str]]:
    """First and last names; of a name in one piece, every way to part it in two."""
    for entry in _entries(each, "name"):
        first, last = _text(entry, "first", "firstName"), _text(entry, "last", "lastName")
        if first and last:
            yield f"{first} {_text(entry, 'suffix', 'generation')}".strip(), last
        elif whole := first or last or _text(entry, "data", "full", "fullName", "name"):
            yield from _parted(whole)


def _parted(whole: str) -> Iterator[tuple[str, str]]:
    before, comma, after = whole.partition(",")
    words = whole.replace(",", " ").split()[:8]
    if comma and len(before.split()) < len(words) and not normal_names("", f"x {after}").generation:
        yield after, before
    yield "", whole
    for at in range(1, len(words)):
        yield " ".join(words[:at]), " ".join(words[at:])


def _compare_names(name: tuple[str, str], person: Person) -> int:
    theirs = normal_names(*name)
    ours = normal_names(person.first_name, person.last_name)
    if theirs.last != ours.last or (theirs.generation and ours.generation and theirs.generation != ours.generation):
        return -1
    if theirs.first == ours.first:
        return 2 if theirs.generation == ours.generation else 1
    first, second = _first_word(name[0]), _first_word(person.first_name or "")
    if not first or not second:
        return -1
    is_initial = 1 in (len(first), len(second)) and first[0] == second[0]
    return 1 if is_initial or first == second else -1


def _first_word(text: str) -> str:
    return normal_name(next(iter(text.split()), ""))


def _address_score(each: Entry, person: Person) -> int:
    """2 street and unit agree, 1 the street does, 0 neither or no address was given."""
    ours = normal_address(person.address)
    place = zip5(person.zip_code)
    best = 0
    for entry in _entries(each, "address"):
        theirs = normal_address(_street(entry))
        their_place = zip5(_text(entry, "zip", "zipCode", "zip_code") or None)
        if not ours.street or theirs.street != ours.street or (place and their_place and place != their_place):
            continue
        if theirs.unit == ours.unit:
            return 2
        best = 1
    return best


def _street(entry: Entry) -> str:
    line = _text(entry, "street", "line1", "addressLine1", "address1", "address")
    unit = _text(entry, "unit", "apt")
    if line:
        return f"{line} # {unit}" if unit else line
    return _text(entry, "data", "complete", "full").split(",")[0]


# --- contacts ---------------------------------------------------------------------------


def _phones(persons: Sequence[Entry], rank_best: Rank) -> tuple[tuple[ContactPhone, ...], tuple[tuple[str, str], ...]]:
    """Connected before disconnected, then rank, then the vendor's order; one entry a number."""
    found: dict[str, ContactPhone] = {}
    unusable: dict[str, str] = {}
    for entry in _all(persons, "phone"):
        number = entry.get("number", entry.get("data"))
        if number is None:
            continue
        digits, reason = parse_phone(number)
        if digits is None:
            shown = str(number) if isinstance(number, (str, int)) else type(number).__name__
            unusable.setdefault(shown[:LONGEST_TEXT], reason or "unreadable")
            continue
        phone = ContactPhone(digits, _text(entry, "type") or None, _is_true(entry.get("disconnected")), _rank(entry))
        found[digits] = _merged(found[digits], phone, rank_best) if digits in found else phone
    ordered = sorted(found.values(), key=lambda each: (each.disconnected, _rank_order(each.rank, rank_best)))
    return tuple(ordered[:MAX_CONTACTS]), tuple(unusable.items())


def _merged(first: ContactPhone, second: ContactPhone, rank_best: Rank) -> ContactPhone:
    """One entry of two for one number: disconnected when either says so, the better of the ranks."""
    better = min(first.rank, second.rank, key=lambda rank: _rank_order(rank, rank_best))
    return ContactPhone(first.digits, first.type or second.type, first.disconnected or second.disconnected, better)


def _emails(persons: Sequence[Entry], rank_best: Rank) -> tuple[str, ...]:
    found: dict[str, tuple[tuple[int, int], str]] = {}
    for entry in _all(persons, "email"):
        text = _text(entry, "data", "address").strip()
        if len(text) <= 254 and _EMAIL.fullmatch(text):
            found.setdefault(text.casefold(), (_rank_order(_rank(entry), rank_best), text))
    ordered = sorted(found.values(), key=lambda each: each[0])
    return tuple(text for _, text in ordered[:MAX_CONTACTS])


def _rank(entry: Entry) -> int | None:
    meta = entry.get("meta")
    rank = meta.get("rank") if isinstance(meta, dict) else None
    if isinstance(rank, str) and rank.isascii() and rank.isdigit() and len(rank) < 10:
        return int(rank)
    return rank if isinstance(rank, int) and not isinstance(rank, bool) else None


def _rank_order(rank: int | None, rank_best: Rank) -> tuple[int, int]:
    if rank is None:
        return 1, 0
    return 0, rank if rank_best == "lowest" else -rank


# --- values of any type ------------------------------------------------------------------


def _entries(each: Entry, section: str) -> list[Entry]:
    """The section's entries; a bare value counts as an entry with nothing but its data."""
    value = each.get(section)
    entries = value if isinstance(value, list) else [value]
    return [
        entry if isinstance(entry, dict) else {"data": entry}
        for entry in entries
        if isinstance(entry, dict) or (isinstance(entry, (str, int)) and not isinstance(entry, bool))
    ]


def _all(persons: Sequence[Entry], section: str) -> Iterator[Entry]:
    return chain.from_iterable(_entries(each, section) for each in persons)


def _text(entry: Entry, *keys: str) -> str:
    """The first of these keys that holds text or a number, as text."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, str):
            if value:
                return value
        elif isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return ""


def _pid(each: Entry) -> str:
    return _text(each, "pid")


def _is_true(value: object) -> bool:
    """Whether a mark is set. What cannot be read counts as set: such a phone is not called."""
    if value is None or value is False:
        return False
    if isinstance(value, (str, int, float)):
        return str(value).strip().casefold() not in _NO
    return bool(value)
