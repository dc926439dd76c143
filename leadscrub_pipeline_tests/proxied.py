"""nginx with the configuration of ``deploy/nginx`` on loopback, for tests, and what stands behind it.

Behind it is either a small server that tells what reached it, or Dagster's own webservers.
"""

import asyncio
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect

DEPLOY = Path(__file__).parents[1] / "deploy"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(done: Callable[[], bool], process: subprocess.Popen[bytes], *, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, f"{process.args} ended with code {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args} does not answer"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@dataclass(frozen=True)
class Proxy:
    """A running nginx, and a client's view of it."""

    port: int
    ntfy_port: int
    trust: ssl.SSLContext
    log: Path
    passwords: Mapping[str, str]

    def url(self, path: str = "/", *, port: int | None = None) -> str:
        return f"https://{HOST}:{port or self.port}{path}"

    def ask(
        self, method: str, path: str, *, user: str | None = None, port: int | None = None, **arguments: Any
    ) -> httpx.Response:
        """One request, as ``user`` with the password that the users file has."""
        auth = (user, self.passwords[user]) if user is not None else None
        arguments.setdefault("auth", auth)
        with httpx.Client(verify=self.trust, timeout=60) as client:
            return client.request(method, self.url(path, port=port), **arguments)

    def graphql(self, user: str, query: str, *, headers: Mapping[str, str] | None = None, **variables: Any) -> Any:
        body = {"query": query, "variables": variables}
        answer = self.ask("POST", "/graphql", user=user, json=body, headers=dict(headers or {}))
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def talk(
        self, *messages: str, user: str | None = None, headers: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Open the WebSocket, and for each message the answer to it.

        Not with a client that reads in a thread of its own: in Python 3.11 TLS then loses a request in some hundred.

        Raises:
            websockets.exceptions.InvalidStatus: it was refused.
        """
        given = dict(headers or {})
        if user is not None:
            given["Authorization"] = basic(user, self.passwords[user])

        async def talking() -> list[dict[str, Any]]:
            async with connect(
                f"wss://{HOST}:{self.port}/graphql",
                ssl=self.trust,
                subprotocols=["graphql-ws"],
                additional_headers=given,
                proxy=None,
                open_timeout=60,
            ) as socket_:
                answers = []
                for message in messages:
                    await socket_.send(message)
                    answers.append(json.loads(await asyncio.wait_for(socket_.recv(), 60)))
                return answers

        return asyncio.run(talking())

    def logged(self) -> str:
        return self.log.read_text(encoding="utf-8")


def basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


@contextmanager
def proxy_in(
    folder: Path,
    *,
    editors: int,
    viewers: int,
    ntfy: int,
    sign_in: str = "basic",
    oauth2_proxy: int | None = None,
    with_users: bool = True,
) -> Iterator[Proxy]:
    """nginx with the repository's files, its own ports, and the ports of what is behind it.

    ``alice`` is an editor, ``victor`` a viewer; the passwords are made anew.
    """
    conf, site, state = folder / "etc" / "nginx", folder / "etc" / "site", folder / "state"
    for made in (conf, site, state):
        made.mkdir(parents=True)
    port, ntfy_port, health = free_port(), free_port(), free_port()
    main = (DEPLOY / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    for before, after in {
        "listen 8443 ssl;": f"listen {HOST}:{port} ssl;",
        "listen 8444 ssl;": f"listen {HOST}:{ntfy_port} ssl;",
        "listen 127.0.0.1:8081;": f"listen {HOST}:{health};",
    }.items():
        assert main.count(before) == 1, before
        main = main.replace(before, after)
    (conf / "nginx.conf").write_text(main)
    signing_in = (DEPLOY / "nginx" / f"sign-in-{sign_in}.conf").read_text(encoding="utf-8")
    (conf / "sign-in.conf").write_text(signing_in.replace("oauth2-proxy:4180", f"{HOST}:{oauth2_proxy}"))
    log = state / "access.log"
    (conf / "place.conf").write_text(
        f"upstream editors {{ server {HOST}:{editors}; }}\n"
        f"upstream viewers {{ server {HOST}:{viewers}; }}\n"
        f"upstream ntfy {{ server {HOST}:{ntfy}; }}\n"
        f"access_log {log} leadscrub;\n"
    )
    passwords = {name: secrets.token_urlsafe(12) for name in ("alice", "victor")}
    (site / "editors.conf").write_text('"alice" editors;\n"alice@example.com" editors;\n')
    if with_users:
        (site / "users").write_text("".join(f"{name}:{_hashed(word)}\n" for name, word in passwords.items()))
    _write_certificate(site)
    arguments = [str(NGINX), "-p", str(state), "-c", str(conf / "nginx.conf")]
    if os.geteuid() == 0:
        # As root its workers would become nobody, who reads nothing in a private folder.
        arguments += ["-g", "user root;"]
    with (folder / "nginx.log").open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: listens(health), process, seconds=30)
            trust = ssl.create_default_context(cafile=str(site / "certificate.pem"))
            yield Proxy(port, ntfy_port, trust, log, passwords)
        finally:
            process.terminate()
            process.wait(30)


def _hashed(password: str) -> str:
    """As ``openssl passwd -6`` of deploy/nginx writes it into the users file."""
    made = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=password, capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


def _write_certificate(site: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leadscrub test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (site / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (site / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@contextmanager
def telling_server(name: str) -> Iterator[int]:
    """A server that answers every request, and the first message of a WebSocket, with what reached it."""

    async def tell(request: web.Request) -> web.StreamResponse:
        told = {"server": name, "path": request.path_qs, "headers": dict(request.headers)}
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.json_response(told)
        socket_ = web.WebSocketResponse(protocols=["graphql-ws"])
        await socket_.prepare(request)
        await socket_.receive()
        await socket_.send_json(told)
        await socket_.close()
        return socket_

    with served(tell) as port:
        yield port


@contextmanager
def signing_in_server(sessions: Mapping[str, str]) -> Iterator[int]:
    """What oauth2-proxy answers to nginx: 202 and the address of a session's user, or 401."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/oauth2/auth":
            return web.json_response({"server": "oauth2-proxy", "path": request.path_qs})
        user = sessions.get(request.cookies.get("_oauth2_proxy", ""))
        if user is None:
            return web.Response(status=401)
        return web.Response(status=202, headers={"X-Auth-Request-Email": user})

    with served(answer) as port:
        yield port


@contextmanager
def recording_server() -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """Answers each request with what it was sent, and keeps path and body."""
    recorded: list[tuple[str, Any]] = []

    async def record(request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else {}
        recorded.append((request.path, body))
        return web.json_response(body, status=201 if body else 200)

    with served(record) as port:
        yield port, recorded


@contextmanager
def served(handler: Callable[[web.Request], Any]) -> Iterator[int]:
    port = free_port()
    loop = asyncio.new_event_loop()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=1.0)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, HOST, port).start()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@dataclass(frozen=True)
class Webservers:
    """Ports of Dagster's webserver and of its read-only twin, and the process that runs are children of."""

    editors: int
    viewers: int
    code_server: subprocess.Popen[bytes]


@contextmanager
def dagster_webservers(
    home: Path, environment: Mapping[str, str], output: Path, *, daemon: bool = False
) -> Iterator[Webservers]:
    """The code server and the two webservers as deploy/ starts them, with ``deploy/workspace.yaml``."""
    code, editors, viewers = free_port(), free_port(), free_port()
    programs = Path(sys.executable).parent
    given = os.environ | dict(environment) | {
        "DAGSTER_HOME": str(home),
        "CODE_SERVER_HOST": HOST,
        "CODE_SERVER_PORT": str(code),
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    webserver = [str(programs / "dagster-webserver"), "--workspace", str(DEPLOY / "workspace.yaml"), "--host", HOST]
    commands = {
        code: [str(programs / "dagster"), "api", "grpc", "--module-name", "leadscrub_pipeline.definitions",
               "--host", HOST, "--port", str(code)],
        editors: [*webserver, "--port", str(editors)],
        viewers: [*webserver, "--port", str(viewers), "--read-only"],
    }  # fmt: skip
    with ExitStack() as stack:
        log = stack.enter_context(output.open("wb"))
        started = {}
        for port, command in commands.items():
            process = subprocess.Popen(command, env=given, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            stack.callback(_end, process)
            started[port] = process
            if port == code:
                # A webserver that starts before it shows an empty workspace.
                wait_until(lambda port=port: listens(port), process)
        for port, process in started.items():
            wait_until(lambda port=port: listens(port), process)
        if daemon:
            command = [str(programs / "dagster-daemon"), "run", *webserver[1:3]]
            process = subprocess.Popen(command, env=given, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            stack.callback(_end, process)
        yield Webservers(editors, viewers, started[code])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
