"""How a simulated contact looks in an idiCORE answer, with the ways in which real answers vary.

Numbers, dates and zips come as text or integers, sections and meta may be missing, relatives
ride along. What a person's contact is does not belong here.
"""

from collections.abc import Collection
from typing import Final

from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.simulators.contacts import Match, SimulatedContact, SimulatedPhone
from leadscrub_pipeline.simulators.phones import relatives_phone

Json = dict[str, object]

_OTHER_FIRST: Final = ("Marion", "Leslie", "Robin", "Casey")
_OTHER_STREETS: Final = ("9 Harbor Rd", "4410 Mill Pond Ln", "77 Depot St", "1203 Quarry Ave")


def search_result(person: Person, contact: SimulatedContact, fields: Collection[str]) -> list[Json]:
    """The ``result`` of a search: a list of persons, empty for no match."""
    lead = _person(person, contact, fields)
    somebody = _other_person(contact)
    match contact.match:
        case Match.NONE | Match.TOO_MANY:
            return []
        case Match.ONE:
            return [lead]
        case Match.SEVERAL:
            namesake = person._replace(address=_OTHER_STREETS[contact.variety % 4], zip_code="10001", city="New York")
            others = [_bare(namesake, contact, fields, 1)]
            if contact.variety & 1:
                others.append(_bare(person._replace(first_name=somebody), contact, fields, 2))
            others.insert(contact.variety % (len(others) + 1), lead)
            return others
        case Match.TIE:
            twin = _bare(person, contact, fields, 3)
            return [lead, twin] if contact.variety & 1 else [twin, lead]
        case Match.SOMEBODY_ELSE:
            return [_bare(person._replace(first_name=somebody, last_name="Ashworth"), contact, fields, 4)]


def other_person(contact: SimulatedContact, fields: Collection[str]) -> list[Json]:
    """A well-formed answer about somebody else, at another address."""
    stranger = Person(
        _other_person(contact), "Ashworth", _OTHER_STREETS[contact.variety % 4], "New York", "NY", "10001"
    )
    return [_bare(stranger, contact, fields, 5)]


def long_answer(person: Person, contact: SimulatedContact, fields: Collection[str]) -> list[Json]:
    """A thousand phones of which the contact's own are the best, five hundred e-mails, sections nobody asked for."""
    lead = _person(person, contact, fields)
    more = [
        {"number": int(relatives_phone(draw)), "type": "Mobile", "disconnected": True, "meta": {"rank": 100 + draw}}
        for draw in range(1000)
    ]
    own = [_phone(phone, contact.variety) for phone in contact.phones]
    lead["phone"] = [*own, *more]
    lead["email"] = [{"data": f"extra.{place}@example.com"} for place in range(500)]
    lead["property"] = [{"value": 250_000, "deed": {"book": 12, "page": "44"}}]
    lead["relationship"] = [_relative(contact, place) for place in range(200)]
    return [lead]


def only_relatives(person: Person, contact: SimulatedContact, fields: Collection[str]) -> list[Json]:
    """The lead's record without a phone or an e-mail, and relatives who have both."""
    lead = _person(person, contact, fields)
    relatives = [_relative(contact, place) | {"email": [{"data": f"kin.{place}@example.com"}]} for place in range(3)]
    return [{**lead, "phone": [], "email": [], "relationship": relatives}]


def wrong_types(contact: SimulatedContact) -> Json:
    """JSON of another shape; which one depends on the person."""
    shapes: tuple[object, ...] = (
        {"pid": "1", "phone": []},
        "none",
        None,
        [["phone", "2125550123"]],
        [{"pid": "1", "name": "x", "phone": "2125550123", "email": 7, "address": True}],
    )
    return {"result": shapes[contact.variety % len(shapes)]}


def _other_person(contact: SimulatedContact) -> str:
    return _OTHER_FIRST[contact.variety // 8 % 4]


def _person(person: Person, contact: SimulatedContact, fields: Collection[str]) -> Json:
    """The lead's own record."""
    variety = contact.variety
    record: Json = {"pid": contact.key[:12]}
    if "name" in fields:
        record["name"] = [_name(person, variety)]
    if "phone" in fields and (contact.phones or variety & 2):
        phones: list[Json] = [_phone(phone, variety) for phone in contact.phones]
        if contact.unusable_phone is not None:
            phones.insert(variety % (len(phones) + 1), {"number": contact.unusable_phone, "type": "Unknown"})
        record["phone"] = phones
    if "email" in fields and (contact.emails or variety & 4):
        key = "address" if variety % 10 == 0 else "data"
        record["email"] = [_with_meta({key: email}, variety, place) for place, email in enumerate(contact.emails, 1)]
    if "address" in fields:
        record["address"] = [_address(person, variety)]
    if "isDead" in fields and (contact.is_dead or variety % 16):
        record["isDead"] = contact.is_dead
    if variety % 3 == 0:
        record["relationship"] = [_relative(contact, place) for place in range(1 + variety % 2)]
    return record


def _bare(person: Person, contact: SimulatedContact, fields: Collection[str], salt: int) -> Json:
    """A record of another person, with a phone that is nobody's."""
    variety = contact.variety // 16 + salt
    record: Json = {"pid": f"{contact.key[12:22]}{salt:02d}"}
    if "name" in fields:
        record["name"] = [_name(person, variety)]
    if "phone" in fields:
        record["phone"] = [{"number": relatives_phone(variety), "type": "Mobile", "meta": {"rank": 1}}]
    if "address" in fields:
        record["address"] = [_address(person, variety)]
    if "isDead" in fields:
        record["isDead"] = False
    return record


def _name(person: Person, variety: int) -> Json:
    first, last = person.first_name or "", person.last_name or ""
    if variety & 8:
        first, last = first.upper(), last.upper()
    return _with_meta({"data": f"{first} {last}", "first": first, "last": last}, variety, 1)


def _address(person: Person, variety: int) -> Json:
    street = person.address or ""
    if variety & 32:
        street = street.upper()
    parts: Json = {"street": street, "city": person.city or "", "state": person.state or ""}
    text = f"{street}, {person.city or ''}, {person.state or ''} {person.zip_code or ''}".strip()
    zip_code: object = person.zip_code or ""
    if variety & 64 and isinstance(zip_code, str) and zip_code.isascii() and zip_code.isdigit():
        zip_code = int(zip_code)
    return _with_meta({"data": text, **parts, "zip": zip_code}, variety, 1)


def _phone(phone: SimulatedPhone, variety: int) -> Json:
    digits = phone.digits
    area, exchange, line = digits[:3], digits[3:6], digits[6:]
    spelling = (variety // 128 + phone.rank) % 5
    number: object = (
        f"({area}) {exchange}-{line}",
        int(digits),
        digits,
        f"{area}-{exchange}-{line}",
        f"+1 {area} {exchange} {line}",
    )[spelling]
    entry: Json = {"number": number, "type": phone.kind}
    # A phone that lasts is sometimes not marked at all.
    if phone.disconnected or spelling:
        entry["disconnected"] = phone.disconnected
    count: object = 6 if variety & 256 else "6"
    entry["meta"] = {"rank": phone.rank, "count": count, "firstSeen": 20150101, "lastSeen": "20260915"}
    return entry


def _relative(contact: SimulatedContact, place: int) -> Json:
    number = relatives_phone(contact.variety // 7 + place)
    return {
        "type": "Relative",
        "name": [{"first": _OTHER_FIRST[place % 4], "last": "Ashworth"}],
        "phone": [{"number": number, "type": "Mobile", "disconnected": False, "meta": {"rank": 1}}],
    }


def _with_meta(entry: Json, variety: int, rank: int) -> Json:
    """With meta, in one of its shapes, or without."""
    if variety % 5:
        entry["meta"] = {"rank": rank, "count": 3 if variety & 512 else "3", "lastSeen": 20260801}
    return entry
