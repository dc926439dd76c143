"""A server that speaks Snowflake's protocol, for tests: one process a test session, one account a test.

Import the fixtures where they are needed. What the server does stands in ``snowflake_emulator.py``.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_servers: list[subprocess.Popen[bytes]] = []
_ports: list[int] = []


@cache
def key_pair() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: rsa.RSAPrivateKey | None = None, *, passphrase: str | None = None) -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return (
        (key or key_pair())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        .decode()
    )


def public_pem() -> str:
    return (
        key_pair()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


@dataclass
class Account:
    """One account of the server: its settings, what happened in it, and what shall go wrong."""

    port: int
    name: str = field(default_factory=lambda: f"test_{uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        self.control(public_key=public_pem(), roles=["LEADSCRUB_READER", "LEADSCRUB_WRITER"])

    def environment(self, **changed: str) -> dict[str, str]:
        return {
            "LEADSCRUB_WAREHOUSE": "snowflake",
            "LEADSCRUB_ALLOWED_DATABASES": "LEADS_DB",
            "SNOWFLAKE_ACCOUNT": self.name,
            "SNOWFLAKE_USER": "LEADSCRUB_SERVICE",
            "SNOWFLAKE_PRIVATE_KEY": private_pem(),
            "SNOWFLAKE_ROLE": "LEADSCRUB_WRITER",
            "SNOWFLAKE_READER_ROLE": "LEADSCRUB_READER",
            "SNOWFLAKE_WAREHOUSE": "LEADSCRUB_WH",
            "SNOWFLAKE_DATABASE": "LEADS_DB",
            "SNOWFLAKE_SCHEMA": "PUBLIC",
            "SNOWFLAKE_NETWORK_TIMEOUT": "5",
            "SNOWFLAKE_LOGIN_TIMEOUT": "10",
            "SNOWFLAKE_HOST": "127.0.0.1",
            "SNOWFLAKE_PORT": str(self.port),
            "SNOWFLAKE_PROTOCOL": "http",
        } | changed

    def control(self, **given: Any) -> None:
        request = urllib.request.Request(
            self._url, json.dumps(given).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30):
            pass

    def fault(self, match: str, action: str, **more: Any) -> None:
        """What happens to the next statement that matches; see ``snowflake_emulator.Fault``."""
        self.control(faults=[{"match": match, "action": action, **more}])

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(self._url, timeout=30) as answer:
            return dict(json.load(answer))

    def statements(self) -> list[dict[str, Any]]:
        return list(self.state()["statements"])

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.port}/world/{self.name}"


def server_port() -> int:
    """The port of this process's server; the first call starts it."""
    if not _servers:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "leadscrub_pipeline_tests.snowflake_emulator", str(port)]
        output = None if os.environ.get("SHOW_SNOWFLAKE_SERVER") else subprocess.DEVNULL
        # It ends by itself when its standard input does, whatever becomes of this process.
        _servers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output))
        _ports.append(port)
        _wait_for(port)
    return _ports[0]


def stop_server() -> None:
    while _servers:
        server = _servers.pop()
        _ports.pop()
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if server.stdin is not None:
            server.stdin.close()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert _servers[0].poll() is None, "the server did not start"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server did not answer")


@pytest.fixture(scope="session")
def snowflake_port() -> Iterator[int]:
    yield server_port()
    stop_server()  # several modules may import this fixture: the first to end, at the session's end, stops it


@pytest.fixture
def account(snowflake_port: int) -> Account:
    """An empty account for this test alone."""
    return Account(snowflake_port)
