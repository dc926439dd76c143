"""The simulated ntfy: takes messages as JSON at its root and keeps them for a test to read.

What a message should say does not belong here.
"""

import secrets
import time
from typing import Final

import orjson
from aiohttp import web

from leadscrub_pipeline.simulators.faults import NTFY_KINDS, Fault, Faults
from leadscrub_pipeline.simulators.line import Line, Reply, json_reply, json_response

TOKEN: Final = "tk_simulated"  # noqa: S105 - it opens nothing but this simulator
LONGEST_MESSAGE: Final = 4096
LONGEST_TITLE: Final = 1024
"""Both in bytes of UTF-8."""

Json = dict[str, object]


class NtfySimulator:
    """Keeps what was published."""

    name = "ntfy"

    def __init__(self, *, seed: int) -> None:
        self.faults = Faults(NTFY_KINDS, operations=("publish",), seed=seed)
        self.line = Line(self.faults, latency=0.0)
        self.messages: list[Json] = []
        """As they came, in order."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/" and request.method in {"POST", "PUT"}:
            body = await request.read()
            signed_in = request.headers.get("Authorization") == f"Bearer {TOKEN}"

            def serve(_fault: Fault | None, _number: int) -> Reply:
                return self._publish(body) if signed_in else json_reply({"code": 40101, "error": "unauthorized"}, 401)

            return await self.line.answer(request, "publish", serve)
        if request.path == "/_admin/messages" and request.method == "GET":
            return json_response(self.messages)
        if request.path.startswith("/_admin/"):
            return await self.line.admin(request, request.path.removeprefix("/_admin/"), self.line.counts)
        return self.line.respond(json_reply({"code": 40401, "error": "page not found"}, 404))

    def _publish(self, body: bytes) -> Reply:
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError:
            message = None
        problem = _problem(message)
        if problem is not None:
            return json_reply({"code": 40024, "http": 400, "error": problem}, 400)
        self.messages.append(message)
        return json_reply(
            {"id": secrets.token_hex(6), "time": int(time.time()), "event": "message", "topic": message["topic"]}
        )


def _problem(message: object) -> str | None:
    if not isinstance(message, dict):
        return "the body is no JSON object"
    topic, priority = message.get("topic"), message.get("priority", 3)
    if not isinstance(topic, str) or not topic:
        return "topic is needed"
    if isinstance(priority, bool) or not isinstance(priority, int) or not 1 <= priority <= 5:
        return "priority is between 1 and 5"
    for name, longest in (("message", LONGEST_MESSAGE), ("title", LONGEST_TITLE)):
        text = message.get(name, "")
        if not isinstance(text, str) or len(text.encode()) > longest:
            return f"{name} is too long or no text"
    tags = message.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return "tags are texts"
    return None
