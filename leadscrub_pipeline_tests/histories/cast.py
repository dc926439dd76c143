"""Who is who: made-up people with all the ways their rows are spelled, and near-twins who are somebody else.

The checker's judge of identity. It is written down here from what people are, and knows
nothing of ``person_key``: a rule of it that is wrong shows as somebody asked about twice or lost.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

Row = tuple[str, str, str, str, str, str]
"""First name, last name, address, city, state, ZIP, as a source table holds them."""

_FIRST: Final = ("Alma", "José", "Nadia", "Anne-Marie", "Yusuf", "D'Andre", "Zoë", "Felix", "Ingrid", "Marcel")
_LAST: Final = ("Barlow", "O'Brien", "Nuñez", "Smith-Jones", "McBride", "Ekström", "Okafor", "Quigley", "Sharma")
_STREETS: Final = ("Alder", "Maple Grove", "Pebble", "Quail Run", "Saffron", "2nd", "Old Mill", "Walnut")
_SUFFIXES: Final = (("Street", "St"), ("Avenue", "Ave"), ("Boulevard", "Blvd"), ("Lane", "Ln"), ("Road", "Rd"))
_DIRECTIONS: Final = (("North", "N"), ("South", "S"), ("East", "E"))
_PLACES: Final = (
    ("Boston", "MA", "Massachusetts", "02118"),
    ("Newark", "NJ", "New Jersey", "07104"),
    ("Peoria", "IL", "Illinois", "61604"),
    ("El Paso", "TX", "Texas", "79912"),
)
_UNITS: Final = ("Apt {}", "apt. {}", "#{}", "# {}", "Unit {}", "APARTMENT {}")
UNUSABLE: Final[tuple[Row, ...]] = (
    ("", "Barlow", "12 Alder St", "Boston", "MA", "02118"),
    ("Alma", "N/A", "14 Alder St", "Boston", "MA", "02118"),
    ("Nadia", "Sharma", "", "Peoria", "IL", "61604"),
    ("Felix", "Okafor", "16 Alder St", "", "", ""),
)
"""Rows that name nobody: they are rejected, and never asked about."""


@dataclass(frozen=True)
class Somebody:
    """One person; two are the same person exactly when they are equal."""

    first: str
    last: str
    generation: str
    house: int
    direction: int | None
    street: str
    suffix: int
    unit: str
    place: int

    def plain(self) -> Row:
        return self.spelled(None)

    def spelled(self, rng: Random | None) -> Row:
        """The person as one system or another writes them; without ``rng`` in full."""

        def pick(*ways: str) -> str:
            return ways[0] if rng is None else rng.choice(ways)

        last = pick(*_name_ways(self.last))
        if self.generation:
            last += pick(f" {self.generation}", f", {self.generation}", f" {self.generation.upper()}.")
        parts = [str(self.house)]
        if self.direction is not None:
            long, short = _DIRECTIONS[self.direction]
            parts.append(pick(long, short, f"{short}."))
        long, short = _SUFFIXES[self.suffix]
        parts += [self.street, pick(long, short, f"{short}.")]
        address = " ".join(parts)
        if self.unit:
            address += pick(" ", ", ") + pick(*(way.format(self.unit) for way in _UNITS))
        city, code, state, digits = _PLACES[self.place]
        zip_code = pick(digits, digits, f"{digits}-{1000 + self.house % 9000}", digits.lstrip("0"))
        row = (pick(*_name_ways(self.first)), last, address, pick(city, city.upper(), ""), pick(code, state), zip_code)
        if rng is None:
            return row
        return tuple(_cased(rng, text) if at < 3 else text for at, text in enumerate(row))  # type: ignore[return-value]


def _name_ways(name: str) -> tuple[str, ...]:
    ways = [name]
    if "'" in name:
        ways += [name.replace("'", ""), name.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")]
    if "-" in name:
        ways += [name.replace("-", " "), name.replace("-", "")]
    if not name.isascii():
        ways.append(name.translate(str.maketrans("éñöë", "enoe")))
    return tuple(ways)


def _cased(rng: Random, text: str) -> str:
    way = rng.randrange(6)
    if way == 0:
        return text.upper()
    if way == 1:
        return text.lower()
    if way == 2:
        return f"  {text.replace(' ', '  ')} "
    return text


def make_cast(rng: Random, count: int) -> tuple[Somebody, ...]:
    """So many different people; about a third of them is the near-twin of another."""
    people: dict[Somebody, None] = {}
    while len(people) < count:
        if people and rng.random() < 0.35:
            made = _twin(rng, rng.choice(list(people)))
        else:
            made = Somebody(
                first=rng.choice(_FIRST),
                last=rng.choice(_LAST),
                generation=rng.choice(("", "", "", "Jr", "Sr")),
                house=rng.randrange(100, 9000),
                direction=rng.choice((None, None, 0, 1, 2)),
                street=rng.choice(_STREETS),
                suffix=rng.randrange(len(_SUFFIXES)),
                unit=rng.choice(("", "", str(rng.randrange(1, 40)), f"{rng.randrange(1, 9)}B")),
                place=rng.randrange(len(_PLACES)),
            )
        people[made] = None
    return tuple(people)


def _twin(rng: Random, one: Somebody) -> Somebody:
    """Somebody else who could be taken for the person."""
    values = dict(vars(one))
    match rng.randrange(5):
        case 0:
            values["unit"] = str(rng.randrange(41, 90))
        case 1:
            values["generation"] = {"": "Jr", "Jr": "Sr", "Sr": "Jr"}[one.generation]
        case 2:
            values["house"] = one.house + 2
        case 3:
            values["first"] = rng.choice([name for name in _FIRST if name != one.first])
        case 4:
            values["place"] = (one.place + 1) % len(_PLACES)
    return Somebody(**values)


class Oracle:
    """Whose row it is. Every spelling that a history uses is told to it beforehand."""

    def __init__(self, spellings: Iterable[tuple[Somebody, Row]]) -> None:
        self._who: dict[tuple[str, str, str, str], Somebody] = {}
        for somebody, row in spellings:
            known = self._who.setdefault(_mark(row), somebody)
            assert known == somebody, "the generator made two people with one spelling"

    def whose(self, row: Iterable[str | None]) -> Somebody | None:
        """The person behind raw values of a table or a request, or None when it is nobody's."""
        return self._who.get(_mark([value or "" for value in row]))


def _mark(row: Iterable[str]) -> tuple[str, str, str, str]:
    """What of a row survives storing and sending: names and address without outer blanks, and the ZIP's digits."""
    first, last, address, _city, _state, zip_code = row
    return first.strip(), last.strip(), address.strip(), zip_code.strip().split("-")[0].zfill(5)
