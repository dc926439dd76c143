"""A server of raw bytes on loopback, for answers that no decent HTTP library would send.

What a decent vendor answers does not belong here: that is the simulators' part.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

RESET = object()
"""Abort the connection with RST."""
HANG = object()
"""Read the request and say nothing."""

Step = bytes | float | object
Script = list[Step]


@dataclass
class Wire:
    """What came, whole requests only, and what goes out next; the last script is used for good."""

    port: int
    scripts: list[Script]
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    most_at_once: int = 0
    now: int = 0

    def url(self, path: str = "/search", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def wire(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Each request gets the next script: bytes are written, a number is seconds to wait, then it hangs up."""
    state = Wire(0, list(scripts))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                state.requests.append((head, await reader.readexactly(length)))
                state.now += 1
                state.most_at_once = max(state.most_at_once, state.now)
                try:
                    if await _play(writer, state.scripts.pop(0) if len(state.scripts) > 1 else state.scripts[0]):
                        return
                finally:
                    state.now -= 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    tasks_before = asyncio.all_tasks()
    try:
        yield state
    finally:
        server.close()
        ours = [task for task in asyncio.all_tasks() - tasks_before if "serve" in repr(task.get_coro())]
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)


async def _play(writer: asyncio.StreamWriter, script: Script) -> bool:
    """Whether the connection is to be closed afterwards."""
    for step in script:
        if step is RESET:
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return True
        if step is HANG:
            await asyncio.sleep(60)
        elif isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, (int, float)):
            await asyncio.sleep(step)
    return not (script and isinstance(script[-1], bytes) and b"content-length" in script[-1].lower())


def reply(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class FakeTime:
    """A clock that only sleeping moves, and a record of the sleeps."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += max(0.0, seconds)
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition, of any object
            await asyncio.sleep(0.001)
