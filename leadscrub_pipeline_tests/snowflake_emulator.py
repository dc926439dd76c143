"""The program behind ``snowflake_server.py``: fakesnow's server, and what a Snowflake account does that it does not.

Each account name is a world of its own, made when somebody first signs in. On top of fakesnow it
checks the key pair and the roles of a sign-in, answers a repeated request id with the first answer,
cancels, keeps the statements, and makes the faults that a test asks for. Run it with a port.
"""

import asyncio
import base64
import gzip
import json
import os
import re
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import fakesnow.arrow
import fakesnow.cursor
import fakesnow.server
import pyarrow as pa
import pyarrow.compute as pc
import uvicorn
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fakesnow.instance import FakeSnow
from sqlglot import exp, parse_one
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

# Statements that Snowflake knows and fakesnow does not.
NOTHING: Final = [r"^\s*(USE|GRANT|REVOKE|ALTER SESSION|CREATE (OR REPLACE )?ROLE|CREATE ROLE IF NOT EXISTS)\b"]
CANCEL: Final = re.compile(r"SYSTEM\$CANCEL_ALL_QUERIES\((\d+)\)")


@dataclass
class Fault:
    """What happens to the next statements that match: before they are carried out, or after."""

    match: str
    action: str
    """drop, status, error or wait."""
    times: int = 1
    after: bool = False
    status: int = 500
    code: str = "000000"
    sqlstate: str = "00000"
    seconds: float = 0.0
    role: str | None = None


@dataclass
class Session:
    number: int
    role: str
    tag: str
    parameters: dict[str, Any]
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0


@dataclass
class World:
    engine: FakeSnow = field(default_factory=FakeSnow)
    public_key: str | None = None
    roles: list[str] | None = None
    faults: list[Fault] = field(default_factory=list)
    statements: list[dict[str, Any]] = field(default_factory=list)
    logins: list[dict[str, Any]] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    requests: set[str] = field(default_factory=set)


worlds: dict[str, World] = {}


def world(name: str) -> World:
    """The account of a name; a new one has the databases that an administrator makes, and nothing in them."""
    if name.upper() not in worlds:
        made = worlds[name.upper()] = World()
        for database in ("PROCESSED_DATA_DB", "LEADS_DB"):
            made.engine.connect(database, "PUBLIC").close()
    return worlds[name.upper()]


# fakesnow makes an instance for each sign-in that names a path: here it is the world of the account.
fakesnow.server.FakeSnow = lambda db_path: world(str(db_path)).engine  # type: ignore[assignment, misc]


def times_as_sent(times: pa.ChunkedArray) -> pa.Array:
    """Times as Snowflake sends them. fakesnow's own sends NULL as the first of January 1970."""
    column = times.combine_chunks() if isinstance(times, pa.ChunkedArray) else times
    micros = pc.fill_null(column.cast(pa.timestamp("us")).cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    arrays = [pa.array(micros // 1_000_000), pa.array(micros % 1_000_000 * 1_000, pa.int32())]
    fields = [pa.field("epoch", pa.int64(), nullable=False), pa.field("fraction", pa.int32(), nullable=False)]
    if column.type.tz:
        arrays.append(pa.array([1440] * len(column), pa.int32()))
        fields.append(pa.field("timezone", pa.int32(), nullable=False))
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=pc.is_null(column))


fakesnow.arrow.timestamp_to_sf_struct = times_as_sent


_execute: Final = fakesnow.cursor.FakeSnowflakeCursor._execute


def merged_at_once(cursor: Any, statement: exp.Expr, params: Any = None) -> None:
    """MERGE as one statement of the engine.

    fakesnow makes several of it, with a table that it notes in a database of its own, which no transaction can
    that has written before; and it loses what a source's expressions are made of.
    """
    if not isinstance(statement, exp.Merge):
        _execute(cursor, statement, params)
        return
    (count,) = cursor._duck_conn.execute(statement.sql(dialect="duckdb"), params).fetchall()[0]
    _execute(cursor, parse_one(f'SELECT {count} AS "number of rows inserted", 0 AS "number of rows updated"'))


fakesnow.cursor.FakeSnowflakeCursor._execute = merged_at_once  # type: ignore[method-assign]
fakesnow.cursor.transforms.merge = lambda statement: [statement]  # type: ignore[attr-defined, assignment]


async def body_of(request: Request) -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    return dict(json.loads(body))


def handed_on(request: Request, body: dict[str, Any]) -> Request:
    """The request with another body."""
    content = json.dumps(body).encode()
    headers = [(k, v) for k, v in request.scope["headers"] if k not in (b"content-encoding", b"content-length")]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    return Request({**request.scope, "headers": headers}, receive)


def refused(code: str, message: str, sqlstate: str = "08001") -> JSONResponse:
    data = {"errorCode": code, "sqlState": sqlstate}
    return JSONResponse({"data": data, "code": code, "message": message, "success": False})


async def login(request: Request) -> Response:
    body = await body_of(request)
    data = body["data"]
    here = world(data["ACCOUNT_NAME"])
    role = request.query_params.get("roleName", "")
    here.logins.append(
        {
            "role": role,
            "user": data.get("LOGIN_NAME"),
            "warehouse": request.query_params.get("warehouse"),
            "authenticator": data.get("AUTHENTICATOR"),
            "secondary_roles": data.get("SECONDARY_ROLES"),
            "parameters": data["SESSION_PARAMETERS"],
            "application": data.get("CLIENT_ENVIRONMENT", {}).get("APPLICATION"),
        }
    )
    if fault := next((f for f in here.faults if f.times and f.match == "sign-in"), None):
        fault.times -= 1
        if fault.action == "status":
            return Response(status_code=fault.status)
        return refused(fault.code, "Sign-in refused.")
    if here.public_key is not None and not is_signed(data.get("TOKEN", ""), here.public_key):
        return refused("390144", "JWT token is invalid.")
    if here.roles is not None and role.upper() not in here.roles:
        return refused("390189", f"Role '{role}' specified in the connect string does not exist or not authorized.")
    data["SESSION_PARAMETERS"] |= {"FAKESNOW_DB_PATH": data["ACCOUNT_NAME"], "nop_regexes": NOTHING}
    answer = await fakesnow.server.login_request(handed_on(request, body))
    found = json.loads(bytes(answer.body))
    number = 1_000 + len(here.logins)
    session = Session(number, role, data["SESSION_PARAMETERS"].get("QUERY_TAG", ""), data["SESSION_PARAMETERS"])
    here.sessions[found["data"]["token"]] = session
    found["data"] |= {"sessionId": number, "masterToken": "none", "validityInSeconds": 3600}
    return JSONResponse(found)


def is_signed(token: str, public_key: str) -> bool:
    key: Any = load_pem_public_key(public_key.encode())
    signed, _, signature = token.rpartition(".")
    try:
        key.verify(base64.urlsafe_b64decode(signature + "=="), signed.encode(), PKCS1v15(), SHA256())
    except Exception:  # noqa: BLE001 - whatever it is, it is no signature of this key
        return False
    return True


async def query(request: Request) -> Response:
    body = await body_of(request)
    token = fakesnow.server.to_token(request)
    here, session = next(((w, w.sessions[token]) for w in worlds.values() if token in w.sessions), (None, None))
    if here is None or session is None:
        return refused("390104", "User must login again to access the service.")
    sql = body["sqlText"]
    request_id = request.query_params.get("requestId", "")
    if request_id in here.answers:
        # Snowflake knows a repeated request and does not carry it out twice.
        status, content = here.answers[request_id]
        return Response(content, status, media_type="application/json")
    fault = next((f for f in here.faults if f.times and _meets(f, sql, session)), None)
    if fault is not None:
        fault.times -= 1
        if not fault.after and (answer := await made(fault, session)):
            return answer
    if (cancel := CANCEL.search(sql)) is not None:
        for other in here.sessions.values():
            if other.number == int(cancel[1]):
                other.cancelled.set()
        body["sqlText"] = "SELECT 'cancelled'"
    # A request that is repeated is one statement, and fakesnow has a PUT sent twice.
    if (request_id not in here.requests and not sql.startswith("PUT file://")) or sql.startswith("PUT file:///"):
        here.requests.add(request_id)
        here.statements.append(
            {
                "sql": sql,
                "role": session.role,
                "session": session.number,
                "tag": session.tag,
                "describe": bool(body.get("describeOnly")),
            }
        )
    answer = await fakesnow.server.query_request(handed_on(request, body))
    if answer.status_code == 200 and request_id:
        here.answers[request_id] = (answer.status_code, bytes(answer.body))
    if fault is not None and fault.after and (other_answer := await made(fault, session)):
        return other_answer
    return answer


def _meets(fault: Fault, sql: str, session: Session) -> bool:
    return re.search(fault.match, sql, re.IGNORECASE) is not None and fault.role in (None, session.role)


async def made(fault: Fault, session: Session) -> Response | None:
    match fault.action:
        case "status":
            return Response(status_code=fault.status)
        case "error":
            return refused(fault.code, "The text of the server, with a value: 5550100.", fault.sqlstate)
        case "drop":
            return StreamingResponse(_broken_off(), headers={"content-length": "1000"}, media_type="application/json")
        case "wait":
            try:
                await asyncio.wait_for(session.cancelled.wait(), fault.seconds)
            except TimeoutError:
                return None
            session.cancelled.clear()
            return refused("000604", "SQL execution canceled", "57014")
    raise ValueError(fault.action)


async def _broken_off() -> AsyncIterator[bytes]:
    yield b"{"
    raise ConnectionError


async def control(request: Request) -> Response:
    """What a test asks for or wants to know of its world."""
    here = world(request.path_params["account"])
    if request.method == "POST":
        given = await request.json()
        here.public_key = given.get("public_key", here.public_key)
        here.roles = given.get("roles", here.roles)
        if "faults" in given:
            here.faults = [Fault(**fault) for fault in given["faults"]]
        if given.get("forget"):
            here.statements.clear()
            here.logins.clear()
        if given.get("expire"):
            # The tokens are no longer known: the next statement is told to sign in again.
            here.sessions.clear()
        return JSONResponse({})
    left = sum(fault.times for fault in here.faults)
    return JSONResponse({"statements": here.statements, "logins": here.logins, "faults_left": left})


async def renewal(_request: Request) -> Response:
    """The master token has expired, too."""
    return refused("390114", "Authentication token has expired. The user must authenticate again.")


async def nothing(_request: Request) -> Response:
    return JSONResponse({"data": None, "code": None, "message": None, "success": True})


def application() -> Starlette:
    ours = [
        Route("/session/v1/login-request", login, methods=["POST"]),
        Route("/queries/v1/query-request", query, methods=["POST"]),
        Route("/session/token-request", renewal, methods=["POST"]),
        Route("/telemetry/send", nothing, methods=["POST"]),
        Route("/world/{account}", control, methods=["GET", "POST"]),
    ]
    return Starlette(routes=[*ours, *fakesnow.server.routes])


def end_with_the_tests() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_tests, daemon=True).start()
    uvicorn.run(application(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
