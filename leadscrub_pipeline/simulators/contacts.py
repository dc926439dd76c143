"""The contact that the simulated idiCORE knows of a person, as the person's key decides.

Spelling variants share a key and so a contact. How a contact is put into an answer, with all
the ways in which answers vary, does not belong here.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from leadscrub_pipeline.domain.people import Person, person_key
from leadscrub_pipeline.simulators.phones import PhoneSpace, phone_at, space_size

MOST_PHONES: Final = 3
"""How many phones a lead gets, the best first."""


class Match(StrEnum):
    """What a search finds."""

    ONE = "one"
    SEVERAL = "several"
    """Some persons, of whom one agrees with the lead in name and address."""
    TIE = "tie"
    """Two persons who agree equally: no match."""
    SOMEBODY_ELSE = "somebody_else"
    """One person at the address, of another name: no match."""
    NONE = "none"
    TOO_MANY = "too_many"
    """Refused with 400 TooManyMatches, and not billed."""


@dataclass(frozen=True, slots=True)
class SimulatedPhone:
    digits: str
    kind: str
    disconnected: bool
    rank: int


@dataclass(frozen=True, slots=True)
class SimulatedContact:
    key: str
    match: Match
    phones: tuple[SimulatedPhone, ...]
    """In the vendor's order, which is not that of the ranks."""
    unusable_phone: str | None
    """A text in the phone section that is no number of the North American plan."""
    emails: tuple[str, ...]
    is_dead: bool
    variety: int
    """Bits that decide the shape of the answer."""

    @property
    def is_hit(self) -> bool:
        return self.match in {Match.ONE, Match.SEVERAL}

    def best_phones(self) -> tuple[str, ...]:
        """What a lead should get of this contact: connected before disconnected, then by rank."""
        if not self.is_hit:
            return ()
        ordered = sorted(self.phones, key=lambda phone: (phone.disconnected, phone.rank))
        return tuple(phone.digits for phone in ordered[:MOST_PHONES])


class Draws:
    """Small numbers out of one hash, the same for the same text."""

    __slots__ = ("_rest",)

    def __init__(self, text: str, seed: int) -> None:
        self._rest = int.from_bytes(hashlib.blake2b(f"{seed}/{text}".encode()).digest())

    def below(self, bound: int) -> int:
        self._rest, drawn = divmod(self._rest, bound)
        return drawn

    def percent(self, share: int) -> bool:
        return self.below(100) < share


_MATCHES: Final = (
    (Match.NONE, 80),
    (Match.SEVERAL, 25),
    (Match.TIE, 10),
    (Match.SOMEBODY_ELSE, 10),
    (Match.TOO_MANY, 5),
)
_KINDS: Final = ("Mobile", "Mobile", "Mobile", "Residential", "Business", "VoIP")
_PHONE_COUNTS: Final = (0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 5, 6)
_UNUSABLE: Final = ("555-0123", "(212) 555-0123 x44", "+44 20 7946 0123", "8005550199", "N/A")
_DOMAINS: Final = ("example.com", "example.net", "example.org")


def contact_of(person: Person, *, seed: int, space: PhoneSpace = PhoneSpace.FICTIONAL) -> SimulatedContact:
    return contact_of_key(person_key(person), seed=seed, space=space)


def contact_of_key(key: str, *, seed: int, space: PhoneSpace = PhoneSpace.FICTIONAL) -> SimulatedContact:
    draws = Draws(key, seed)
    match = _match(draws.below(1000))
    return SimulatedContact(
        key=key,
        match=match,
        phones=_phones(draws, space),
        unusable_phone=_UNUSABLE[draws.below(len(_UNUSABLE))] if draws.percent(4) else None,
        emails=tuple(
            f"lead.{key[:6]}.{place}@{_DOMAINS[draws.below(len(_DOMAINS))]}" for place in range(min(draws.below(6), 4))
        ),
        is_dead=draws.below(1000) < 15,
        variety=draws.below(1 << 64),
    )


def _match(draw: int) -> Match:
    for match, share in _MATCHES:
        if draw < share:
            return match
        draw -= share
    return Match.ONE


def _phones(draws: Draws, space: PhoneSpace) -> tuple[SimulatedPhone, ...]:
    count = _PHONE_COUNTS[draws.below(len(_PHONE_COUNTS))]
    size = space_size(space)
    phones: dict[str, SimulatedPhone] = {}
    first_rank = draws.below(count) if count else 0
    for place in range(count):
        digits = phone_at(draws.below(size), space)
        kind = _KINDS[draws.below(len(_KINDS))]
        rank = (first_rank + place) % count + 1
        phones.setdefault(digits, SimulatedPhone(digits, kind, draws.percent(10), rank))
    return tuple(phones.values())
