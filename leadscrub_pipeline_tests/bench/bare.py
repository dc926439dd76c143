"""The bare HTTP client that the product is measured against: the same requests with nothing around them.

It runs in a fresh interpreter, on the event loop the product uses (uvloop), over the transport the product uses
(httpx-aiohttp) with the same settings of its connections: no bound on their number, the same keep-alive, no cookies.
A request is a URL, its headers and a body that was written to a file beforehand; an answer is read to its end and
thrown away. No ledger, no table, no parsing, no retry, no pace: what this takes is what client, loopback and simulator
take together.

By default there is no ``httpx.AsyncClient`` around the transport, as there is none in the product: it doubles a
request's processor time (0.4 to 0.8 ms measured), and the product would look better beside it. ``with_client`` says
that it is wanted, as in what one would write by hand.

What the product sends, and how it is counted, does not belong here.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import aiohttp
import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport

_KEEP_ALIVE_SECONDS: Final = 4.0
_SECONDS: Final = 60.0


def main() -> None:
    """Post each line of a file: what stands on standard input says which, where and how many at a time."""
    asked = json.load(sys.stdin)
    with Path(asked["bodies"]).open("rb") as file:
        bodies = (line.rstrip(b"\n") for line in file)
        started, processor = time.perf_counter(), time.process_time()
        post_all = _post_all_with_client if asked["with_client"] else _post_all
        sent = uvloop.run(post_all(httpx.URL(asked["url"]), asked["headers"], bodies, workers=asked["workers"]))
        figures = {
            "requests": sent,
            "seconds": time.perf_counter() - started,
            "processor_seconds": time.process_time() - processor,
        }
    print(json.dumps(figures))  # noqa: T201 - the parent reads it


async def _post_all(url: httpx.URL, headers: Mapping[str, str], bodies: Iterator[bytes], *, workers: int) -> int:
    # Headers that never change are given once, as in the product.
    async with AiohttpTransport(client=_session(headers)) as http:
        return sum(await asyncio.gather(*(_post_some(http, url, bodies) for _ in range(workers))))


async def _post_all_with_client(
    url: httpx.URL, headers: Mapping[str, str], bodies: Iterator[bytes], *, workers: int
) -> int:
    transport = AiohttpTransport(client=_session({}))
    async with httpx.AsyncClient(transport=transport, headers=headers, timeout=_SECONDS) as client:

        async def post_some() -> int:
            sent = 0
            for body in bodies:
                _require_answered((await client.post(url, content=body)).status_code)
                sent += 1
            return sent

        return sum(await asyncio.gather(*(post_some() for _ in range(workers))))


def _session(headers: Mapping[str, str]) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=headers)


async def _post_some(http: AiohttpTransport, url: httpx.URL, bodies: Iterator[bytes]) -> int:
    extensions = {"timeout": {"connect": _SECONDS, "pool": _SECONDS}}
    sent = 0
    for body in bodies:
        request = httpx.Request("POST", url, stream=httpx.ByteStream(body), extensions=extensions)
        async with asyncio.timeout(_SECONDS):
            response = await http.handle_async_request(request)
            try:
                async for _ in response.aiter_bytes():
                    pass
            finally:
                await response.aclose()
        _require_answered(response.status_code)
        sent += 1
    return sent


def _require_answered(status: int) -> None:
    # A search that finds too many people is a 400.
    if status not in (200, 400):
        raise SystemExit(f"status {status}")


if __name__ == "__main__":
    main()
