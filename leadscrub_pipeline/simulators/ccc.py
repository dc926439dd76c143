"""The simulated CCC: the litigator scrub, as VENDORS.md describes the wire.

Which numbers are litigators is decided by seed. What a client should make of an answer does
not belong here.
"""

import re
from collections import Counter
from typing import Final

import orjson
from aiohttp import web

from leadscrub_pipeline.simulators.faults import CCC_KINDS, Fault, Faults, Kind
from leadscrub_pipeline.simulators.line import Line, Reply, json_reply
from leadscrub_pipeline.simulators.phones import AREA_CODES, CONTROL_NUMBERS, is_litigator

LOGIN_ID: Final = "simulated-login"
SCRUB_PATH: Final = "/v1.5/Scrub/litigator"
MOST_PHONES: Final = 10_000
_PHONE: Final = re.compile(r"[2-9][0-9]{2}[2-9][0-9]{6}", re.ASCII)

Json = dict[str, object]


class CccSimulator:
    """Answers litigator scrubs by seed, and fails when told to."""

    name = "ccc"

    def __init__(self, *, seed: int, latency: float) -> None:
        self.seed = seed
        self.faults = Faults(CCC_KINDS, operations=("scrub",), seed=seed)
        self.line = Line(self.faults, latency=latency)
        self.asked: Counter[str] = Counter()
        """How often each phone was in a request that was served, controls included."""

    @property
    def latency(self) -> float:
        return self.line.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self.line.latency = seconds

    @property
    def scrubs(self) -> int:
        """Requests that came, whatever became of them."""
        return self.line.requests["scrub"]

    def is_litigator(self, phone: str) -> bool:
        return is_litigator(phone, seed=self.seed)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == SCRUB_PATH:
            if request.method != "POST":
                return self.line.respond(json_reply({"message": "POST is needed"}, 405))
            signed_in = request.headers.get("loginId") == LOGIN_ID
            in_address = {name.lower() for name in request.query}
            phones, problem = _asked(await request.read())
            lenient = request.query.get("ignoreInvalid") == "1"

            def serve(fault: Fault | None, _number: int) -> Reply:
                if "loginid" in in_address:
                    return json_reply({"message": "loginId belongs in the header"}, 400)
                if not signed_in:
                    return Reply(401, b"Unauthorized", "text/plain")
                if problem is not None:
                    return json_reply({"message": problem}, 400)
                return self._scrub(phones, fault, lenient=lenient)

            return await self.line.answer(request, "scrub", serve, phones=frozenset(phones))
        if path == "/_admin/asked" and request.method == "GET":
            return web.Response(body=orjson.dumps(self.asked), content_type="application/json")
        if path.startswith("/_admin/"):
            return await self.line.admin(request, path.removeprefix("/_admin/"), self.line.counts)
        return self.line.respond(json_reply({"message": "not found"}, 404))

    def _scrub(self, phones: list[str], fault: Fault | None, *, lenient: bool) -> Reply:
        valid = [phone for phone in phones if _PHONE.fullmatch(phone)]
        if len(valid) < len(phones) and not lenient:
            return json_reply({"message": "a phone is malformed"}, 400)
        self.asked.update(valid)
        rows: list[Json] = [{"Phone": int(phone), "IsLitigator": self.is_litigator(phone)} for phone in valid]
        return json_reply(rows if fault is None else altered(rows, fault))


def altered(rows: list[Json], fault: Fault) -> list[Json]:
    """The answer as the fault has it; other faults leave it alone."""
    match fault.kind:
        case Kind.ALL_FALSE:
            rows = [{**row, "IsLitigator": False} for row in rows]
        case Kind.SHORT_ANSWER:
            rows = rows[: len(rows) * 2 // 3]
        case Kind.LONG_ANSWER:
            more: list[Json] = [{"Phone": int(f"{code}5550191"), "IsLitigator": True} for code in AREA_CODES]
            rows = rows + more
        case Kind.WRONG_TYPE:
            rows = [{**row, "IsLitigator": _OTHER_TYPES[at % len(_OTHER_TYPES)]} for at, row in enumerate(rows)]
        case Kind.OTHER_PHONE:
            rows = [{**row, "Phone": 2125550197} if at == 0 else row for at, row in enumerate(rows)]
        case Kind.CONTRADICTION:
            rows = [*rows, *({**row, "IsLitigator": not row["IsLitigator"]} for row in rows)]
        case Kind.MISSING_CONTROL:
            rows = [row for row in rows if not _is_control(row)]
        case Kind.CLEAR_CONTROL:
            rows = [{**row, "IsLitigator": row["IsLitigator"] and not _is_control(row)} for row in rows]
    return rows


_OTHER_TYPES: Final[tuple[object, ...]] = ("false", 0, None, "", [], {}, 1, "true")


def _is_control(row: Json) -> bool:
    return str(row["Phone"]) in CONTROL_NUMBERS


def _asked(body: bytes) -> tuple[list[str], str | None]:
    """The phones of a request, or what is wrong with it."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return [], "the body is not JSON"
    listed = asked.get("PhoneList") if isinstance(asked, dict) else None
    if not isinstance(listed, str) or not listed:
        return [], "PhoneList is needed"
    if asked.get("OutputFormat") != "JsonArray":
        return [], "OutputFormat must be JsonArray"
    phones = listed.split(",")
    return (phones, None) if len(phones) <= MOST_PHONES else ([], f"at most {MOST_PHONES} phones")
