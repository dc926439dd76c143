import asyncio
import datetime as dt
import gzip
import ipaddress
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.vendors.breaker import Breaker, BreakerExhaustedError, Health
from leadscrub_pipeline.vendors.transport import (
    MAX_BODY_BYTES,
    AttemptError,
    Pacer,
    Repeats,
    Reply,
    Stats,
    checked_url,
    is_loopback_url,
    open_http,
    post,
)
from leadscrub_pipeline_tests.wire import HANG, RESET, FakeTime, reply, until, wire

# --- addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/search",
        "http://127.0.0.1.example.com/search",
        "http://localhost.example.com/search",
        "http://127.0.0.1@example.com/search",
        "http://10.0.0.1/search",
        "http://0.0.0.0/search",
        "https://user:word@example.com/search",
        "https://example.com/search?key=abc",
        "https://example.com/search#x",
        "https://exa mple.com/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com:99999/",
        "ftp://example.com/",
        "example.com/search",
        "/search",
        "https://",
        "https://[::1/",
        "",
    ],
)
def test_an_address_that_could_leak_is_refused_and_named(url):
    with pytest.raises(RefusedError, match="SOME_URL"):
        checked_url(url, setting="SOME_URL")


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("https://api.example.com/search", False),
        ("https://api.example.com:8443/search", False),
        ("http://127.0.0.1:9/search", True),
        ("http://127.8.9.1/search", True),
        ("http://localhost:9/search", True),
        ("http://[::1]:9/search", True),
        ("https://127.0.0.1/search", True),
    ],
)
def test_plain_http_is_for_loopback_only(url, loopback):
    checked_url(url, setting="SOME_URL")
    assert is_loopback_url(url) is loopback


# --- one request ---------------------------------------------------------------------------


async def _post(url: str, *, seconds: float = 5.0) -> Reply:
    async with open_http() as http:
        return await post(
            http, checked_url(url, setting="X"), headers={"Authorization": "t"}, content=b"{}", seconds=seconds
        )


async def _failed(url: str, *, seconds: float = 5.0) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        await _post(url, seconds=seconds)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


def _after_arrival(*script, seconds: float = 5.0) -> AttemptError:
    async def run():
        async with wire(list(script)) as server:
            error = await _failed(server.url(), seconds=seconds)
            assert len(server.requests) == 1
            return error

    return asyncio.run(run())


OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([], id="hangs up without a word"),
        pytest.param([RESET], id="resets"),
        pytest.param([b"HTTP/1.1 200 O", RESET], id="resets in the status line"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Le"], id="hangs up in the headers"),
        pytest.param([OK_HEAD + b'{"resu', RESET], id="resets in the body"),
        pytest.param([OK_HEAD + b'{"resu', 0.01], id="hangs up in the body"),
        pytest.param([b"\x16\x03\x01\x02\x00 not http at all"], id="speaks another protocol"),
        pytest.param([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"], id="broken chunks"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"], id="broken length"),
        pytest.param([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"], id="endless header"),
        pytest.param([reply(200, b"no gzip", "Content-Encoding: gzip")], id="broken compression"),
    ],
)
def test_a_server_that_hangs_up_after_the_request_came_may_have_billed_it(script):
    """httpx-aiohttp reads a hang-up as a connect time-out, and a client that trusts it pays twice."""
    error = _after_arrival(*script)
    assert error.may_have_arrived
    assert error.reason == "connection_lost"


@pytest.mark.parametrize("script", [[HANG], [OK_HEAD, HANG], [OK_HEAD, *[b"x", 0.05] * 20, HANG]])
def test_a_slow_answer_is_a_timeout_whichever_part_of_it_is_slow(script):
    error = _after_arrival(*script, seconds=0.3)
    assert (error.may_have_arrived, error.reason) == (True, "timeout")


@pytest.mark.parametrize("compressed", [False, True])
def test_an_endless_answer_is_cut_off(compressed):
    body = b"a" * (MAX_BODY_BYTES + 1)
    answer = reply(200, gzip.compress(body), "Content-Encoding: gzip") if compressed else reply(200, body)
    assert _after_arrival(answer).may_have_arrived


def test_an_answer_compressed_more_than_once_is_not_unpacked():
    bomb = gzip.compress(gzip.compress(b"a" * 1_000_000))
    assert _after_arrival(reply(200, bomb, "Content-Encoding: gzip, gzip")).may_have_arrived
    assert _after_arrival(reply(200, bomb, "Content-Encoding: gzip", "Content-Encoding: gzip")).may_have_arrived


def test_a_compressed_answer_is_read_and_nothing_is_asked_for_that_cannot_be():
    async def run():
        async with wire([reply(200, gzip.compress(b"[1]"), "Content-Encoding: gzip")]) as server:
            return (await _post(server.url())).body, server.requests[0][0].lower()

    body, head = asyncio.run(run())
    assert body == b"[1]"
    assert b"accept-encoding: gzip, deflate\r\n" in head


@pytest.mark.parametrize("error", [httpx.ConnectTimeout, httpx.ConnectError, httpx.PoolTimeout])
def test_what_only_httpx_calls_a_failed_connection_may_have_arrived(error):
    """httpx-aiohttp calls a hang-up a connect time-out; its word alone must not lead to a second, billed request."""

    def fail(request):
        raise error("so it says")

    async def run():
        async with httpx.MockTransport(fail) as http:
            with pytest.raises(AttemptError) as caught:
                await post(
                    http, checked_url("https://example.com/search", setting="X"), headers={}, content=b"", seconds=5
                )
            return caught.value

    assert asyncio.run(run()).may_have_arrived


def test_a_proxy_of_the_environment_sees_nothing(monkeypatch):
    async def run():
        async with wire([reply(200, b"proxy")]) as proxy, wire([reply(200, b"vendor")]) as server:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url("/"))
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            return (await _post(server.url())).body, proxy.requests

    assert asyncio.run(run()) == (b"vendor", [])


def test_a_vendors_cookies_are_neither_kept_nor_sent_back():
    async def run():
        async with wire([reply(200, b"[]", "Set-Cookie: a=b; Path=/")]) as server, open_http() as http:
            url = checked_url(server.url(), setting="X")
            for _ in range(2):
                await post(http, url, headers={}, content=b"{}", seconds=5)
            return server.requests[1][0], len(http.client.cookie_jar)

    head, kept = asyncio.run(run())
    assert b"cookie" not in head.lower()
    assert kept == 0


def test_requests_leave_no_line_each_in_the_log(caplog):
    caplog.set_level("INFO")

    async def run():
        async with wire([reply(200, b"[]")]) as server:
            await _post(server.url())

    asyncio.run(run())
    assert not [record for record in caplog.records if record.name == "httpx"]


def test_a_refusal_whose_body_got_lost_is_still_a_refusal():
    async def run():
        head = b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\nxx"
        async with wire([head, RESET]) as server:
            return await _post(server.url())

    answer = asyncio.run(run())
    assert (answer.status, answer.retry_after) == (429, 7.0)


def test_a_redirect_is_not_followed():
    async def run():
        async with wire([reply(200, b"login page")]) as other:
            async with wire([reply(302, b"", f"Location: {other.url()}")]) as server:
                answer = await _post(server.url())
            return answer.status, other.requests

    assert asyncio.run(run()) == (302, [])


def test_one_post_is_one_request_on_the_wire_and_the_second_uses_its_connection():
    async def run():
        async with wire([reply(200, b"[]")]) as server, open_http() as http:
            for _ in range(3):
                url = checked_url(server.url(), setting="X")
                answer = await post(http, url, headers={"Authorization": "t"}, content=b"{}", seconds=5)
                assert answer.body == b"[]"
            return server.requests

    requests = asyncio.run(run())
    assert len(requests) == 3
    head = requests[0][0].lower()
    assert b"authorization: t\r\n" in head
    assert b"content-type: application/json\r\n" in head
    assert b"cookie" not in head


def _closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_a_refused_connection_never_left():
    error = asyncio.run(_failed(f"http://127.0.0.1:{_closed_port()}/search"))
    assert (error.may_have_arrived, error.reason, error.repeatable) == (False, "connect_failed", True)


def test_a_name_that_does_not_resolve_never_left():
    error = asyncio.run(_failed("https://vendor.invalid/search"))
    assert (error.may_have_arrived, error.reason) == (False, "name_not_resolved")


def test_a_connection_that_is_not_accepted_in_time_never_left():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        queue = [socket.socket() for _ in range(4)]
        try:
            for sock in queue:
                sock.setblocking(False)
                sock.connect_ex(address)
            error = asyncio.run(_failed(f"http://127.0.0.1:{address[1]}/search", seconds=0.4))
        finally:
            for sock in queue:
                sock.close()
    assert (error.may_have_arrived, error.reason) == (False, "connect_timeout")


def test_a_tls_handshake_that_hangs_or_fails_never_left():
    async def run():
        async with wire([HANG]) as plain:
            hanging = await _failed(plain.url(scheme="https"), seconds=0.4)
            assert plain.requests == []

        async def rude(reader, writer):
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(rude, "127.0.0.1", 0)
        failing = await _failed(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/search")
        server.close()
        return hanging, failing

    hanging, failing = asyncio.run(run())
    assert (hanging.may_have_arrived, hanging.reason) == (False, "connect_timeout")
    assert (failing.may_have_arrived, failing.repeatable) == (False, True)


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + cert.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def test_a_certificate_that_nobody_vouches_for_gets_no_request_and_no_second_try(server_tls):
    async def run():
        async with wire([reply(200, b"[]")], tls=server_tls) as server:
            error = await _failed(server.url(scheme="https"))
            assert server.requests == []
            return error

    error = asyncio.run(run())
    assert (error.may_have_arrived, error.reason, error.repeatable) == (False, "certificate_refused", False)


def test_tls_older_than_1_2_is_not_spoken():
    async def run():
        async with open_http() as http:
            return http.client.connector._ssl.minimum_version

    assert asyncio.run(run()) == ssl.TLSVersion.TLSv1_2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=200) | st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"\r\n", b"a: b\r\n"]), max_size=6))
def test_whatever_bytes_come_back_the_request_counts_as_arrived(pieces):
    async def run():
        async with wire([b"".join(pieces)] if pieces else []) as server:
            result = (await asyncio.gather(_post(server.url(), seconds=0.5), return_exceptions=True))[0]
            assert isinstance(result, Reply) or (isinstance(result, AttemptError) and result.may_have_arrived)

    asyncio.run(run())


def test_cancelling_a_request_closes_its_connection_at_once():
    async def run():
        async with wire([HANG]) as server, open_http() as http:
            url = checked_url(server.url(), setting="X")
            task = asyncio.create_task(post(http, url, headers={}, content=b"{}", seconds=30))
            await until(lambda: len(server.requests) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not http.client.connector._acquired

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("7", 7, 7), ("0", 0, 0), (" 12 ", 12, 12), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("9" * 50, None, None),
     ("soon", None, None), ("-3", None, None), ("\u0663", None, None)],
)  # fmt: skip
def test_retry_after_is_read_as_seconds_or_as_a_date(text, low, high):
    async def run():
        head = f"HTTP/1.1 503 Down\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n"
        async with wire([head.encode()]) as server:
            return (await _post(server.url())).retry_after

    seconds = asyncio.run(run())
    assert seconds is None if low is None else low <= seconds <= high


# --- the breaker ---------------------------------------------------------------------------


def _breaker(time: FakeTime, *, failures: int = 3) -> Breaker:
    return Breaker("Vendor", failures=failures, seconds=60, sleep=time.sleep, clock=time.clock)


async def _try(breaker: Breaker, health: Health | None) -> bool:
    async with breaker.attempt() as attempt:
        attempt.health = health
        return attempt.is_probe


def test_the_breaker_opens_after_so_many_failures_in_a_row_only():
    async def run():
        time = FakeTime()
        breaker = _breaker(time)
        for health in (Health.DOWN, Health.DOWN, Health.UP, Health.DOWN, Health.BUSY, Health.DOWN):
            await _try(breaker, health)
        assert not breaker.is_open
        await _try(breaker, Health.DOWN)
        assert breaker.is_open
        assert await _try(breaker, Health.UP)
        assert time.slept == [60]
        assert not breaker.is_open
        assert breaker.openings == 1

    asyncio.run(run())


def test_while_open_one_probe_goes_through_and_all_others_wait_for_it():
    async def run():
        time = FakeTime()
        breaker = _breaker(time, failures=1)
        await _try(breaker, Health.DOWN)
        in_flight, most, passed = 0, 0, []
        release = asyncio.Event()

        async def work(name):
            nonlocal in_flight, most
            async with breaker.attempt() as attempt:
                if attempt.is_probe:
                    in_flight += 1
                    most = max(most, in_flight)
                    await release.wait()
                    in_flight -= 1
                passed.append((name, attempt.is_probe))
                attempt.health = Health.UP

        tasks = [asyncio.create_task(work(name)) for name in range(50)]
        await asyncio.sleep(0.02)
        assert passed == []
        release.set()
        await asyncio.gather(*tasks)
        assert most == 1
        assert [is_probe for _, is_probe in passed].count(True) == 1
        assert len(passed) == 50

    asyncio.run(run())


def test_three_failed_probes_end_it_by_name_for_everybody_who_waits():
    async def run():
        time = FakeTime()
        breaker = _breaker(time, failures=1)
        await _try(breaker, Health.DOWN)
        results = await asyncio.gather(*(_try(breaker, Health.DOWN) for _ in range(20)), return_exceptions=True)
        assert results.count(True) == 3
        ended = [result for result in results if isinstance(result, BreakerExhaustedError)]
        assert len(ended) == 17
        assert "Vendor did not recover" in str(ended[0])
        assert time.slept == [60, 60, 60]
        with pytest.raises(BreakerExhaustedError):
            await _try(breaker, Health.UP)

    asyncio.run(run())


def test_a_vendor_that_asks_a_probe_to_come_later_is_not_back_yet():
    async def run():
        breaker = _breaker(FakeTime(), failures=1)
        await _try(breaker, Health.DOWN)
        await _try(breaker, Health.BUSY)
        assert breaker.is_open

    asyncio.run(run())


@pytest.mark.parametrize("when", ["while it waits", "on the wire"])
def test_a_cancelled_probe_hands_its_turn_to_the_next(when):
    async def run():
        time = FakeTime()
        gate = asyncio.Event()

        async def sleep(seconds):
            if when == "while it waits" and not gate.is_set():
                await gate.wait()
            await time.sleep(seconds)

        breaker = Breaker("Vendor", failures=1, seconds=60, sleep=sleep, clock=time.clock)
        await _try(breaker, Health.DOWN)

        async def hang():
            async with breaker.attempt():
                await gate.wait()

        first = asyncio.create_task(hang())
        await asyncio.sleep(0.01)
        second = asyncio.create_task(_try(breaker, Health.UP))
        await asyncio.sleep(0.01)
        assert not second.done()
        first.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await second
        assert not breaker.is_open
        assert breaker.openings == 1

    asyncio.run(run())


def test_what_was_in_flight_when_the_breaker_opened_says_nothing_about_now():
    async def run():
        breaker = _breaker(FakeTime(), failures=1)
        async with breaker.attempt() as early, breaker.attempt() as late:
            await _try(breaker, Health.DOWN)
            assert not early.is_current
            early.health, late.health = Health.UP, Health.DOWN
        assert breaker.is_open
        assert breaker.openings == 1

    asyncio.run(run())


# --- pace and repeats ----------------------------------------------------------------------


def test_the_pace_spreads_requests_and_lets_a_burst_start_together():
    async def run(burst):
        time = FakeTime()
        pacer = Pacer(10, burst=burst, sleep=time.sleep, clock=time.clock)
        starts = []
        for _ in range(8):
            await pacer.turn()
            starts.append(round(time.at - 1000, 3))
        return starts

    assert asyncio.run(run(1)) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert asyncio.run(run(4)) == [0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4]


def test_without_a_rate_nobody_waits_until_the_vendor_asks_for_a_pause():
    async def run():
        time = FakeTime()
        pacer = Pacer(None, sleep=time.sleep, clock=time.clock)
        for _ in range(100):
            await pacer.turn()
        assert time.slept == []
        pacer.pause(5)
        await asyncio.gather(*(pacer.turn() for _ in range(3)))
        assert time.slept[0] == 5
        assert time.at >= 1005

    asyncio.run(run())


def _repeats(time: FakeTime, **changes) -> Repeats:
    stats = Stats(_breaker(time))
    values = {"retries": 4, "base_delay": 1.0, "max_delay": 5.0, "sleep": time.sleep, "stats": stats} | changes
    return Repeats(**values)


async def _run_out(repeats: Repeats, error: AttemptError) -> int:
    calls = 0

    async def attempt():
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(AttemptError):
        await repeats.run(attempt)
    return calls


def test_repeats_wait_longer_each_time_within_a_fifth_and_never_beyond_the_cap():
    time = FakeTime()
    repeats = _repeats(time)
    assert asyncio.run(_run_out(repeats, AttemptError("x", may_have_arrived=False))) == 5
    assert len(time.slept) == repeats.stats.retries == 4
    for slept, wanted in zip(time.slept, (1, 2, 4, 8), strict=True):
        assert wanted * 0.8 <= slept <= wanted * 1.2 or slept == 5.0


def test_what_may_have_arrived_is_never_repeated_unless_it_costs_nothing():
    error = AttemptError("x", may_have_arrived=True)
    assert asyncio.run(_run_out(_repeats(FakeTime()), error)) == 1
    assert asyncio.run(_run_out(_repeats(FakeTime(), if_it_may_have_arrived=True), error)) == 5


def test_a_wish_to_wait_is_honoured_and_one_that_is_too_long_ends_the_repeats():
    time = FakeTime()
    assert asyncio.run(_run_out(_repeats(time), AttemptError("x", may_have_arrived=False, retry_after=4.9))) == 5
    assert all(slept >= 4.9 for slept in time.slept)
    assert asyncio.run(_run_out(_repeats(FakeTime()), AttemptError("x", may_have_arrived=False, retry_after=6))) == 1


def test_attempts_of_many_tasks_are_counted_each_for_itself():
    async def run():
        repeats = _repeats(FakeTime())
        calls = [0] * 20

        async def attempt(task):
            calls[task] += 1
            await asyncio.sleep(0.001 * (task % 3))
            if task % 2 == 0 or calls[task] <= task % 5:
                raise AttemptError(str(task), may_have_arrived=False)
            return task

        results = await asyncio.gather(*(repeats.run(attempt, task) for task in range(20)), return_exceptions=True)
        return results, calls

    results, calls = asyncio.run(run())
    assert calls == [5 if task % 2 == 0 else task % 5 + 1 for task in range(20)]
    assert [str(result) for result in results] == [str(task) for task in range(20)]


def test_numbers_for_metadata_have_the_same_keys_before_and_after_the_first_request():
    stats = Stats(_breaker(FakeTime()))
    before = stats.metadata()
    for milliseconds in range(1, 101):
        stats.requests += 1
        stats.record(milliseconds / 1000)
    after = stats.metadata()
    assert before.keys() == after.keys()
    assert set(before.values()) == {0}
    assert (after["p50_seconds"], after["p95_seconds"], after["max_seconds"]) == (0.051, 0.096, 0.1)
