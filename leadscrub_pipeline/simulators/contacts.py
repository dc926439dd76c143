"""The contact that the simulated idiCORE knows of a person, as the person's key decides.

Spelling variants share a key and so a contact. How a contact is put into an answer, with all
the ways in which answers vary, does not belong here.
"""

import hashlib
import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

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


class SimulatedPhone(NamedTuple):
    digits: str
    kind: str
    disconnected: bool
    rank: int


class SimulatedContact(NamedTuple):
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
        """Whether the lead gets anything from it."""
        return self.match in {Match.ONE, Match.SEVERAL} and bool(self.phones or self.emails)

    def best_phones(self) -> tuple[str, ...]:
        """What a lead should get of this contact: connected before disconnected, then by rank."""
        if not self.is_hit:
            return ()
        ordered = sorted(self.phones, key=lambda phone: (phone.disconnected, phone.rank))
        return tuple(phone.digits for phone in ordered[:MOST_PHONES])


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
    draw, variety, *of_phones = _WORDS.unpack(hashlib.blake2b(f"{seed}/{key}".encode()).digest())
    draw, of_match = divmod(draw, 1000)
    draw, of_dead = divmod(draw, 1000)
    draw, of_unusable = divmod(draw, 100)
    draw, unusable = divmod(draw, len(_UNUSABLE))
    draw, of_count = divmod(draw, len(_PHONE_COUNTS))
    emails, domain = divmod(draw, len(_DOMAINS))
    return SimulatedContact(
        key=key,
        match=_match(of_match),
        phones=_phones(of_phones[: _PHONE_COUNTS[of_count]], space),
        unusable_phone=_UNUSABLE[unusable] if of_unusable < 4 else None,
        emails=tuple(
            f"lead.{key[:6]}.{place}@{_DOMAINS[(domain + place) % len(_DOMAINS)]}"
            for place in range(min(emails % 6, 4))
        ),
        is_dead=of_dead < 15,
        variety=variety,
    )


_WORDS: Final = struct.Struct("<8Q")
"""What of a hash decides the person, how the answer varies, and each of up to six phones."""


def _match(draw: int) -> Match:
    for match, share in _MATCHES:
        if draw < share:
            return match
        draw -= share
    return Match.ONE


def _phones(draws: Sequence[int], space: PhoneSpace) -> tuple[SimulatedPhone, ...]:
    size = space_size(space)
    count = len(draws)
    phones: dict[str, SimulatedPhone] = {}
    for place, draw in enumerate(draws):
        rest, index = divmod(draw, size)
        rest, kind = divmod(rest, len(_KINDS))
        digits = phone_at(index, space)
        # Ranks go round: the best phone is not always the first.
        rank = (draws[0] + place) % count + 1
        phones.setdefault(digits, SimulatedPhone(digits, _KINDS[kind], rest % 100 < 10, rank))
    return tuple(phones.values())
