"""The simulated CCC: the litigator scrub, as VENDORS.md describes the wire.

Which numbers are litigators is decided by seed. What a client should make of an answer does
not belong here.
"""

import re
from collections import Counter
from typing import Final

import orjson
from aiohttp import web

from leadscrub_pipeline.simulators.faults import CCC_KINDS, Fault, Faults
from leadscrub_pipeline.simulators.line import Line, Reply, json_reply
from leadscrub_pipeline.simulators.phones import is_litigator
from leadscrub_pipeline.simulators.wrong_scrubs import Json, altered

LOGIN_ID: Final = "simulated-login"
SCRUB_PATH: Final = "/v1.5/Scrub/litigator"
MOST_PHONES: Final = 10_000
_PHONE: Final = re.compile(r"[2-9][0-9]{2}[2-9][0-9]{6}", re.ASCII)


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
