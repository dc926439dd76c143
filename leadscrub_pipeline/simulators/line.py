"""One vendor's line: counts the requests, carries out faults on the connection, delivers replies.

What a vendor answers, and what is billed, does not belong here.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

import orjson
from aiohttp import web

from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.simulators.faults import Fault, Faults, Kind, fault_from, fault_values

JSON: Final = "application/json"
HANG_SECONDS: Final = 120.0
SLOW_SECONDS: Final = 60.0
_PIECES: Final = 20
_BLANKS: Final = b" " * (20 * 1024 * 1024)
_LOGIN_PAGE: Final = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form></form></body></html>"


class Reply(NamedTuple):
    status: int
    body: bytes
    content_type: str = JSON
    retry_after: int | None = None
    location: str | None = None


_NOTHING: Final = Reply(500, b"")
"""Stands in for the answer of a request that is turned away."""

Serve = Callable[[Fault | None, int], Reply]
"""Makes the reply to a request from the fault it meets, if any, and its number. It bills, too."""


class Line:
    """Requests of one vendor: their numbers, latency, faults and counts."""

    def __init__(self, faults: Faults, *, latency: float) -> None:
        self.faults = faults
        self.latency = latency
        self.requests: Counter[str] = Counter()
        """How many requests came, by operation."""
        self.statuses: Counter[int] = Counter()
        """How many replies left, by status; those that a fault kept back are not in it."""
        self.faulted: Counter[str] = Counter()
        self.targets: Counter[str] = Counter()
        """How often each path was asked for, query included; filled by the server."""
        self.sent: list[Reply] | None = None
        """Every reply that left whole, once a test has put a list here: what a source really said."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.closing = asyncio.Event()

    async def answer(
        self, request: web.BaseRequest, operation: str, serve: Serve, *, phones: frozenset[str] = frozenset()
    ) -> web.StreamResponse:
        self.requests[operation] += 1
        number = self.requests[operation]
        fault = self.faults.pick(operation, number, phones)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if fault is None:
                reply = serve(None, number)
                if self.latency:
                    await asyncio.sleep(self.latency)
                return self.respond(reply)
            self.faulted[str(fault.kind)] += 1
            reply = _NOTHING if fault.refuses else serve(fault, number)
            if self.latency:
                await asyncio.sleep(self.latency)
            return await self._carry_out(request, fault, reply)
        finally:
            self.in_flight -= 1

    def respond(self, reply: Reply) -> web.Response:
        self.statuses[reply.status] += 1
        self._keep(reply)
        response = web.Response(status=reply.status, body=reply.body, content_type=reply.content_type)
        if reply.retry_after is not None:
            response.headers["Retry-After"] = str(reply.retry_after)
        if reply.location is not None:
            response.headers["Location"] = reply.location
        return response

    def _keep(self, reply: Reply) -> None:
        if self.sent is not None:
            self.sent.append(reply)

    async def _carry_out(self, request: web.BaseRequest, fault: Fault, reply: Reply) -> web.StreamResponse:
        match fault.kind:
            case Kind.TIMEOUT_BEFORE_BILLING | Kind.TIMEOUT_AFTER_BILLING:
                await self._wait(HANG_SECONDS if fault.seconds is None else fault.seconds)
                return _reset(request)
            case Kind.RESET_BEFORE_BILLING | Kind.RESET_AFTER_BILLING:
                return _reset(request)
            case Kind.CUT_BODY:
                return await self._in_pieces(request, reply, seconds=0.0, cut=True)
            case Kind.SLOW_BODY:
                seconds = SLOW_SECONDS if fault.seconds is None else fault.seconds
                return await self._in_pieces(request, reply, seconds=seconds, cut=False)
            case Kind.CUT_JSON:
                reply = reply._replace(body=reply.body[: len(reply.body) // 2])
            case Kind.HUGE_BODY:
                reply = reply._replace(body=reply.body + _BLANKS)
            case _:
                reply = _ALWAYS.get(Kind(fault.kind)) or _refusal(fault) or reply
        return self.respond(reply)

    async def _in_pieces(
        self, request: web.BaseRequest, reply: Reply, *, seconds: float, cut: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type})
        response.content_length = len(reply.body)
        self.statuses[reply.status] += 1
        try:
            await response.prepare(request)
            if cut:
                await response.write(reply.body[: len(reply.body) // 2])
                await asyncio.sleep(0.01)
                return _reset(request, hard=False)
            size = max(1, -(-len(reply.body) // _PIECES))
            for start in range(0, len(reply.body), size):
                if await self._wait(seconds / _PIECES):
                    return _reset(request)
                await response.write(reply.body[start : start + size])
            await response.write_eof()
            self._keep(reply)
        except ConnectionError:
            return _reset(request)
        return response

    async def _wait(self, seconds: float) -> bool:
        """Sleep, but not past the simulator's end; whether that came."""
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            return False
        return True

    # --- what an operator asks of a simulator, under /_admin ------------------------------

    async def admin(self, request: web.BaseRequest, what: str, state: Callable[[], object]) -> web.Response:
        """``GET state``; ``GET``, ``POST`` and ``DELETE faults``. The vendor adds its own."""
        match request.method, what:
            case "GET", "state":
                return json_response(state())
            case "GET", "faults":
                return json_response([fault_values(fault) for fault in self.faults])
            case "DELETE", "faults":
                self.faults.clear()
                return json_response([])
            case "POST", "faults":
                try:
                    orders = orjson.loads(await request.read())
                    orders = orders if isinstance(orders, list) else [orders]
                    self.faults.add(*[fault_from(order) for order in orders])
                except (UsageError, ValueError, AttributeError) as error:
                    text = str(error) if isinstance(error, UsageError) else "not JSON"
                    return json_response({"error": text}, status=400)
                return json_response({"ok": True})
        return json_response({"error": "not found"}, status=404)

    def counts(self) -> dict[str, object]:
        return {
            "requests": dict(self.requests),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "faulted": dict(self.faulted),
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
        }


def json_reply(value: object, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(value))


def json_response(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type=JSON)


_ALWAYS: Final = {
    Kind.HTML: Reply(200, _LOGIN_PAGE, "text/html"),
    Kind.NOT_JSON: Reply(200, b"The request was received.", "text/plain"),
    Kind.EMPTY_BODY: Reply(200, b""),
    Kind.REDIRECT: Reply(302, b"", "text/html", location="/login"),
    Kind.UNAUTHORIZED: Reply(401, b"Unauthorized", "text/plain"),
    Kind.FORBIDDEN: Reply(403, b"<html><body>403 Forbidden</body></html>", "text/html"),
    Kind.TOO_MANY_MATCHES: Reply(400, b'{"error":{"code":"TooManyMatches"}}'),
    Kind.BAD_REQUEST: Reply(400, b'{"error":{"code":"BadRequest"}}'),
    Kind.MALFORMED: Reply(400, b'{"error":{"code":"BadRequest"}}'),
}
"""What a vendor says whatever it was asked."""


def _refusal(fault: Fault) -> Reply | None:
    """The reply of a fault that says how it refuses."""
    if fault.kind is Kind.TOO_MANY_REQUESTS:
        seconds = 1 if fault.seconds is None else int(fault.seconds)
        return Reply(429, b'{"error": {"code": "TooManyRequests"}}', retry_after=seconds)
    if fault.kind is Kind.SERVER_ERROR:
        return Reply(fault.status, b"<html><body>The service is not available.</body></html>", "text/html")
    return None


def _reset(request: web.BaseRequest, *, hard: bool = True) -> web.StreamResponse:
    """Close the connection at once: the client sees a reset, or an early end when not ``hard``."""
    transport = request.transport
    if transport is not None:
        plain = transport.get_extra_info("socket")
        if hard and plain is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)
