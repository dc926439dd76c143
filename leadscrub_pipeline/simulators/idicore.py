"""The simulated idiCORE: sign-in and person search, as VENDORS.md describes the wire.

Decides what is billed. What the contact of a person is, and how an answer varies, does not
belong here.
"""

import base64
import binascii
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.simulators import answers
from leadscrub_pipeline.simulators.bill import Bill, BillEntry, entry_line
from leadscrub_pipeline.simulators.contacts import Match, SimulatedContact, contact_of
from leadscrub_pipeline.simulators.faults import IDICORE_KINDS, Fault, Faults, Kind
from leadscrub_pipeline.simulators.line import Line, Reply, json_reply
from leadscrub_pipeline.simulators.phones import PhoneSpace

CLIENT_ID: Final = "simulated-client"
CLIENT_SECRET: Final = "simulated-secret"  # noqa: S105 - it opens nothing but this simulator
AUTH_PATH: Final = "/apiclient"
SEARCH_PATH: Final = "/search"
FIELDS: Final = frozenset({"name", "phone", "email", "address", "isDead", "relationship"})


class IdicoreSimulator:
    """Answers searches by seed, bills them, and fails when told to."""

    name = "idicore"

    def __init__(
        self,
        *,
        seed: int,
        latency: float,
        price: Decimal,
        token_seconds: float,
        space: PhoneSpace,
        bill_path: Path | None = None,
    ) -> None:
        self.seed = seed
        self.space = space
        self.price = price
        self.token_seconds = token_seconds
        self.bill = Bill(bill_path)
        self.faults = Faults(IDICORE_KINDS, operations=("search", "sign_in"), seed=seed)
        self.line = Line(self.faults, latency=latency)
        self._tokens: dict[str, tuple[float, str]] = {}

    @property
    def latency(self) -> float:
        return self.line.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self.line.latency = seconds

    @property
    def searches(self) -> int:
        """Search requests that came, whatever became of them."""
        return self.line.requests["search"]

    @property
    def sign_ins(self) -> int:
        return self.line.requests["sign_in"]

    def contact_of(self, person: Person) -> SimulatedContact:
        return contact_of(person, seed=self.seed, space=self.space)

    def revoke_tokens(self) -> None:
        """Make every token handed out so far useless, as an outage of the sign-in service does."""
        self._tokens.clear()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == SEARCH_PATH and request.method == "POST":
            body = await request.read()
            return await self.line.answer(request, "search", lambda fault, number: self._search(
                request.headers, body, fault, number
            ))  # fmt: skip
        if path == AUTH_PATH and request.method == "POST":
            body = await request.read()
            return await self.line.answer(request, "sign_in", lambda _fault, _number: self._sign_in(
                request.headers, body
            ))  # fmt: skip
        if path == "/_admin/bill" and request.method == "GET":
            lines = b"".join(entry_line(entry) for entry in self.bill)
            return web.Response(body=lines, content_type="application/x-ndjson")
        if path.startswith("/_admin/"):
            return await self.line.admin(request, path.removeprefix("/_admin/"), self.line.counts)
        if path in {SEARCH_PATH, AUTH_PATH}:
            return self.line.respond(json_reply({"error": {"code": "MethodNotAllowed"}}, 405))
        return self.line.respond(json_reply({"error": {"code": "NotFound"}}, 404))

    def _sign_in(self, headers: Mapping[str, str], body: bytes) -> Reply:
        if _basic(headers.get("Authorization", "")) != (CLIENT_ID, CLIENT_SECRET):
            return Reply(401, b"Unauthorized", "text/plain")
        asked = _object(body)
        glba, dppa = asked.get("glba"), asked.get("dppa")
        if not (isinstance(glba, str) and isinstance(dppa, str) and glba and dppa):
            return _bad_request("glba and dppa are needed")
        now = time.monotonic()
        self._tokens = {token: held for token, held in self._tokens.items() if held[0] > now}
        token = secrets.token_hex(24)
        self._tokens[token] = (now + self.token_seconds, f"{glba}/{dppa}")
        return Reply(200, token.encode(), "text/plain")

    def _search(self, headers: Mapping[str, str], body: bytes, fault: Fault | None, number: int) -> Reply:
        expires, purpose = self._tokens.get(headers.get("Authorization", ""), (0.0, ""))
        if expires <= time.monotonic():
            return Reply(401, b'{"error": {"code": "Unauthorized"}}')
        asked = _object(body)
        problem = _problem(asked)
        if problem is not None:
            return _bad_request(problem)
        person = Person(*(_text(asked.get(name)) for name in _PERSON_FIELDS))
        contact = self.contact_of(person)
        if contact.match is Match.TOO_MANY and fault is None:
            return json_reply({"error": {"code": "TooManyMatches"}}, 400)
        fields = frozenset(asked["fields"])  # type: ignore[call-overload]
        answer, found = _answer(person, contact, fields, fault)
        if fault is None or fault.is_billed:
            self.bill.add(
                BillEntry(
                    reference_id=str(asked["referenceId"]),
                    person_key=contact.key,
                    outcome=str(fault.kind) if fault is not None else "found" if found else "no_match",
                    cost=self.price,
                    purpose=purpose,
                    request_number=number,
                    at=datetime.now(UTC),
                )
            )
        return Reply(200, answer)


_PERSON_FIELDS: Final = ("firstName", "lastName", "address", "city", "state", "zip")


def _answer(
    person: Person, contact: SimulatedContact, fields: frozenset[str], fault: Fault | None
) -> tuple[bytes, bool]:
    """The body, and whether it holds a person."""
    make = _FAULTED.get(Kind(fault.kind)) if fault is not None else None
    if make is not None:
        body = make(person, contact, fields)
        return orjson.dumps(body), body not in _NOBODY
    result = answers.search_result(person, contact, fields)
    return orjson.dumps({"result": result}), bool(result)


_NOBODY: Final[tuple[object, ...]] = ({"result": []}, {})
_FAULTED: Final[Mapping[Kind, Callable[[Person, SimulatedContact, frozenset[str]], object]]] = {
    Kind.NO_MATCH: lambda _person, _contact, _fields: {"result": []},
    Kind.SHORT_ANSWER: lambda _person, _contact, _fields: {},
    Kind.WRONG_SHAPE: answers.search_result,
    Kind.WRONG_TYPE: lambda _person, contact, _fields: answers.wrong_types(contact),
    Kind.LONG_ANSWER: lambda person, contact, fields: {"result": answers.long_answer(person, contact, fields)},
    Kind.OTHER_PERSON: lambda _person, contact, fields: {"result": answers.other_person(contact, fields)},
    Kind.RELATIVES: lambda person, contact, fields: {"result": answers.only_relatives(person, contact, fields)},
}


def _problem(asked: dict[str, object]) -> str | None:
    if not (isinstance(asked.get("referenceId"), str) and asked["referenceId"]):
        return "referenceId is needed"
    for name in ("firstName", "lastName", "address"):
        if not (isinstance(asked.get(name), str) and asked[name]):
            return f"{name} is needed"
    for name in ("city", "state", "zip"):
        if not isinstance(asked.get(name, ""), str | None):
            return f"{name} must be text"
    fields = asked.get("fields")
    if not (isinstance(fields, list) and fields and all(isinstance(name, str) and name in FIELDS for name in fields)):
        return "fields is needed"
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _bad_request(message: str) -> Reply:
    return json_reply({"error": {"code": "BadRequest", "message": message}}, 400)


def _object(body: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, coded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, word = base64.b64decode(coded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user, word
