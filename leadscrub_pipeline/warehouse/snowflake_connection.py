"""Signing in to Snowflake: the arguments of a connection, what is refused before one is made, and errors in our words.

Which statements run on a connection does not belong here. The connector itself is imported when
a connection is made, so that nothing of it is loaded when DuckDB is chosen.
"""

import ipaddress
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from leadscrub_pipeline.errors import FailedError, LeadscrubError, RefusedError, UnavailableError, UsageError
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.warehouse.schema import DATABASE

Connect = Callable[[Mapping[str, Any]], AbstractContextManager[Any]]
"""Makes a connection of the connector from its arguments; leaving the context closes it."""

_NEEDED: Final = (
    "snowflake_account",
    "snowflake_user",
    "snowflake_role",
    "snowflake_reader_role",
    "snowflake_warehouse",
    "leadscrub_allowed_databases",
)
_EXPIRED: Final = frozenset({390110, 390111, 390112, 390113, 390114, 390115, 390195})
"""Session or master token gone: a new sign-in helps."""


@dataclass(frozen=True, slots=True)
class QueryTag:
    """Who asks; stands on every statement in Snowflake's history."""

    run: str | None = None
    asset: str | None = None
    partition: str | None = None

    def __str__(self) -> str:
        return json.dumps({"run": self.run, "asset": self.asset, "partition": self.partition})


@dataclass(frozen=True, slots=True)
class SignIn:
    """An account with everything that a connection needs; the private key is DER and is not shown."""

    account: str
    user: str
    private_key: bytes = field(repr=False)
    role: str
    reader_role: str
    warehouse: str
    database: str | None
    schema: str
    statement_timeout: int
    network_timeout: int
    login_timeout: int
    server: Mapping[str, Any]
    """Host, port and protocol of a server on this machine; empty for a real account."""

    @classmethod
    def of(cls, settings: Settings) -> "SignIn":
        """The sign-in that the settings describe.

        Raises:
            UsageError: settings are missing (all are named at once), or the private key cannot be read.
            RefusedError: a role or an address is not to be used.
        """
        _require_complete(settings)
        role, reader_role = str(settings.snowflake_role), str(settings.snowflake_reader_role)
        _check_roles(role, reader_role, allow_accountadmin=settings.snowflake_allow_accountadmin)
        return cls(
            account=str(settings.snowflake_account),
            user=str(settings.snowflake_user),
            private_key=_private_key(settings),
            role=role,
            reader_role=reader_role,
            warehouse=str(settings.snowflake_warehouse),
            database=settings.snowflake_database,
            schema=settings.snowflake_schema or "PUBLIC",
            statement_timeout=settings.snowflake_statement_timeout,
            network_timeout=settings.snowflake_network_timeout,
            login_timeout=settings.snowflake_login_timeout,
            server=_server(settings),
        )

    def arguments(self, *, tag: QueryTag, reader: bool = False) -> dict[str, Any]:
        """Arguments of one connection.

        Nothing here can turn the checks of certificates off, and nothing else is read: the connector looks into
        connections.toml only for a connection that is named.
        """
        return {
            "account": self.account,
            "user": self.user,
            "authenticator": "SNOWFLAKE_JWT",
            # The connector looks for revoked certificates only when asked to. A revoked one ends the sign-in, a list
            # of revoked ones that cannot be fetched does not.
            "cert_revocation_check_mode": "ADVISORY",
            "private_key": self.private_key,
            "role": self.reader_role if reader else self.role,
            # Without this the user's other roles would count too, and a script could read what only they may.
            "secondary_roles": "NONE",
            "warehouse": self.warehouse,
            **self._place(reader=reader),
            "application": "leadscrub",
            "paramstyle": "qmark",
            "autocommit": True,
            "login_timeout": self.login_timeout,
            "network_timeout": self.network_timeout,
            "backoff_policy": bounded_backoff(self.network_timeout),
            "client_session_keep_alive": False,
            "platform_detection_timeout_seconds": 0.0,
            "log_imported_packages_in_telemetry": False,
            "session_parameters": {
                "QUERY_TAG": str(tag),
                "TIMEZONE": "UTC",
                "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
                "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF6",
                "JSON_INDENT": 0,
                "STATEMENT_TIMEOUT_IN_SECONDS": self.statement_timeout,
                "CLIENT_TELEMETRY_ENABLED": False,
            },
            **self.server,
        }

    def _place(self, *, reader: bool) -> dict[str, str]:
        """Where names stand that do not say it: the settings' for scripts, ours for ours."""
        if not reader:
            return {"database": DATABASE, "schema": "LEADSCRUB"}
        return {"database": self.database, "schema": self.schema} if self.database else {}


@contextmanager
def by_connector(arguments: Mapping[str, Any]) -> Iterator[Any]:
    """A connection of the connector itself, for the command line; Dagster's resource has its own way."""
    from snowflake.connector import connect  # noqa: PLC0415 - it takes a second, and DuckDB needs none of it

    connection = connect(**arguments)
    try:
        yield connection
    finally:
        connection.close()


def bounded_backoff(seconds: float) -> Callable[[], Iterator[int]]:
    """Waits between repeats of a request, which end after so many seconds.

    The connector bounds repeats by the time that a statement may take, and a statement may take
    half an hour: a server that is down would be asked for so long.
    """

    def waits() -> Iterator[int]:
        deadline = time.monotonic() + seconds
        pause = 1
        while True:
            yield max(0, min(pause, int(deadline - time.monotonic())))
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"Snowflake did not answer as it should for {seconds:.0f} seconds (SNOWFLAKE_NETWORK_TIMEOUT). "
                    "Try again later; status.snowflake.com tells of outages."
                )
            pause = min(pause * 2, 16)

    return waits


def _require_complete(settings: Settings) -> None:
    missing = [name.upper() for name in _NEEDED if not getattr(settings, name)]
    if settings.snowflake_private_key is None and settings.snowflake_private_key_path is None:
        missing.append("SNOWFLAKE_PRIVATE_KEY_PATH (or SNOWFLAKE_PRIVATE_KEY)")
    if missing:
        raise UsageError(f"LEADSCRUB_WAREHOUSE is snowflake, and these settings are missing: {', '.join(missing)}.")
    if settings.snowflake_private_key is not None and settings.snowflake_private_key_path is not None:
        raise UsageError("SNOWFLAKE_PRIVATE_KEY and SNOWFLAKE_PRIVATE_KEY_PATH are both set. Set one of them.")


def _check_roles(role: str, reader_role: str, *, allow_accountadmin: bool) -> None:
    names = {"SNOWFLAKE_ROLE": _folded(role), "SNOWFLAKE_READER_ROLE": _folded(reader_role)}
    admin = [setting for setting, name in names.items() if name == "ACCOUNTADMIN"]
    if "SNOWFLAKE_READER_ROLE" in admin or (admin and not allow_accountadmin):
        raise RefusedError(
            f"{' and '.join(admin)}: ACCOUNTADMIN can do anything to the account. Use the roles of sql/snowflake; "
            "SNOWFLAKE_ALLOW_ACCOUNTADMIN=true allows it for SNOWFLAKE_ROLE, and never for lead scripts."
        )
    if len(set(names.values())) == 1:
        raise RefusedError(
            "SNOWFLAKE_READER_ROLE is SNOWFLAKE_ROLE: lead scripts would run with the right to write. Use two roles."
        )


def _folded(name: str) -> str:
    name = name.strip()
    return name[1:-1] if name.startswith('"') and name.endswith('"') and len(name) > 1 else name.upper()


def _private_key(settings: Settings) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only with Snowflake
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415

    where = "SNOWFLAKE_PRIVATE_KEY" if settings.snowflake_private_key else "SNOWFLAKE_PRIVATE_KEY_PATH"
    password = settings.snowflake_private_key_password
    try:
        key = serialization.load_pem_private_key(
            _pem(settings), password.get_secret_value().encode() if password else None
        )
    except TypeError:
        problem = (
            "is not encrypted, and SNOWFLAKE_PRIVATE_KEY_PASSWORD is set"
            if password
            else ("is encrypted, and SNOWFLAKE_PRIVATE_KEY_PASSWORD is not set")
        )
        raise UsageError(f"The private key of {where} {problem}.") from None
    except ValueError:
        raise UsageError(
            f"The private key of {where} cannot be read: SNOWFLAKE_PRIVATE_KEY_PASSWORD is wrong, "
            "or it is not a whole PEM file with BEGIN and END lines."
            if password
            else f"The private key of {where} cannot be read: it is not a whole PEM file with BEGIN and END lines."
        ) from None
    if not isinstance(key, RSAPrivateKey):
        raise UsageError(f"The private key of {where} is not an RSA key, which Snowflake needs.")
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(settings: Settings) -> bytes:
    if settings.snowflake_private_key is not None:
        return settings.snowflake_private_key.get_secret_value().replace("\\n", "\n").strip().encode() + b"\n"
    path = settings.snowflake_private_key_path
    try:
        return path.expanduser().read_bytes() if path is not None else b""
    except OSError as error:
        raise UsageError(
            f"SNOWFLAKE_PRIVATE_KEY_PATH names {path}, which cannot be read ({type(error).__name__})."
        ) from None


def _server(settings: Settings) -> dict[str, Any]:
    if settings.snowflake_protocol == "http" and not _is_this_machine(settings.snowflake_host):
        raise RefusedError(
            "SNOWFLAKE_PROTOCOL is http: without TLS nobody but a server on this machine is signed in to. "
            "Remove the setting, or set SNOWFLAKE_HOST to 127.0.0.1."
        )
    given = {
        "host": settings.snowflake_host,
        "port": settings.snowflake_port,
        "protocol": settings.snowflake_protocol if settings.snowflake_host else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _is_this_machine(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


# --- errors -----------------------------------------------------------------------------

_SIGN_IN: Final[Mapping[int, str]] = {
    390100: "SNOWFLAKE_USER or its key is not known to the account",
    390101: "the user is locked or disabled; an administrator of the account can enable SNOWFLAKE_USER",
    390102: "the user is locked or disabled; an administrator of the account can enable SNOWFLAKE_USER",
    390106: "the user's password or sign-in has expired; an administrator can reset SNOWFLAKE_USER, or make it a "
    "service user (TYPE = SERVICE), which has no password",
    390144: "the private key does not belong to SNOWFLAKE_USER, or this machine's clock is wrong. Compare DESCRIBE "
    "USER's RSA_PUBLIC_KEY_FP with the key's fingerprint",
    390186: "SNOWFLAKE_ROLE or SNOWFLAKE_READER_ROLE is not granted to SNOWFLAKE_USER: GRANT ROLE ... TO USER ...",
    390189: "SNOWFLAKE_ROLE or SNOWFLAKE_READER_ROLE does not exist or is not granted to SNOWFLAKE_USER: "
    "GRANT ROLE ... TO USER ...",
    390201: "SNOWFLAKE_WAREHOUSE, SNOWFLAKE_DATABASE or SNOWFLAKE_SCHEMA does not exist, or the role lacks USAGE on it",
    390422: "a network policy of the account does not let this machine's address in",
    390429: "a network policy of the account does not let this machine's address in",
}
_REFUSED: Final[Mapping[int, str]] = {
    606: "No virtual warehouse is in use: SNOWFLAKE_WAREHOUSE does not exist, or the role lacks USAGE on it.",
    2002: "A table or view of that name is there already, and SNOWFLAKE_ROLE does not see it: it belongs to another "
    "role. GRANT OWNERSHIP ON it TO ROLE SNOWFLAKE_ROLE COPY CURRENT GRANTS (see sql/snowflake/2_database.sql), then "
    "run leadscrub db migrate again.",
    3001: "The role lacks a grant for a statement. Compare its grants with sql/snowflake and run what is missing.",
    3003: "The role lacks a grant for a statement. Compare its grants with sql/snowflake and run what is missing.",
    3041: "The role lacks a grant for a statement. Compare its grants with sql/snowflake and run what is missing.",
}
_AWAY: Final[Mapping[int, str]] = {
    608: "SNOWFLAKE_WAREHOUSE is suspended and could not be resumed: give the role OPERATE on it, or set AUTO_RESUME.",
    90073: "SNOWFLAKE_WAREHOUSE cannot be resumed: a resource monitor has stopped it.",
    625: "Another statement held the lock on a table for too long. Try again when it has ended.",
    612: "The table was locked by another statement for too long. Try again when it has ended.",
}
_CHANGED: Final = frozenset({904, 2003, 2043})
_LOADING: Final = range(100_000, 100_200)
"""Errors of COPY INTO about the rows of a file."""


class NotThereError(RefusedError):
    """A table, column or database is not there, or the role may not see it."""


def is_expired(error: Exception) -> bool:
    """Whether the session is gone and a new sign-in would help."""
    return getattr(error, "errno", None) in _EXPIRED


def sign_in_error(error: Exception) -> LeadscrubError:
    """An error of signing in, in our words; the connector quotes user and account in its own."""
    code = _number(error)
    known = next((text for number, text in _SIGN_IN.items() if number == code or str(number) in str(error)), None)
    if known is not None:
        return RefusedError(f"Snowflake refused the sign-in: {known} ({_shown(error)}).")
    if type(error).__name__ in ("OperationalError", "HttpError", "InterfaceError", "RevocationCheckError"):
        return UnavailableError(
            f"Snowflake cannot be reached ({_shown(error)}): check SNOWFLAKE_ACCOUNT, the network, and that the "
            "certificate can be verified."
        )
    return RefusedError(
        f"Snowflake refused the sign-in ({_shown(error)}): check SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER and its key."
    )


def statement_error(error: Exception, *, timeout: int) -> LeadscrubError:
    """An error of a statement, in our words: engines quote values in theirs."""
    code, shown = _number(error), _shown(error)
    if code in _REFUSED:
        return RefusedError(f"{_REFUSED[code]} ({shown})")
    if code in _CHANGED:
        return NotThereError(
            f"A table, stage or column is not there, or the role may not see it ({shown}). Run leadscrub db status: "
            "it names what was changed; then leadscrub db migrate, or the grants of sql/snowflake."
        )
    if code in _AWAY:
        return UnavailableError(f"{_AWAY[code]} ({shown})")
    if is_expired(error):
        return UnavailableError(f"The session expired in the middle of a transaction ({shown}). Run it again.")
    if is_network(error):
        return UnavailableError(
            f"The connection to Snowflake broke off ({shown}); repeats end after SNOWFLAKE_NETWORK_TIMEOUT. "
            "Nothing of the transaction was stored. Run it again."
        )
    return FailedError(_failure(code, shown, timeout))


def _failure(code: int, shown: str, timeout: int) -> str:
    if code in (604, 630):
        return (
            f"Snowflake ended a statement: it took longer than {timeout} seconds (SNOWFLAKE_STATEMENT_TIMEOUT), or "
            f"somebody cancelled it ({shown})."
        )
    if code in _LOADING:
        return f"Snowflake did not take all rows of a load, so none was kept ({shown})."
    return f"Snowflake refused a statement ({shown})."


def is_network(error: Exception) -> bool:
    """Whether the way to the server failed, told by the connector or by the library under it."""
    code = _number(error)
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("requests", "urllib3", "http"):
        return True
    if ".vendored." in type(error).__module__:
        return True
    return 250_000 <= code < 260_000 or 290_000 <= code < 291_000 or type(error).__name__ == "HttpError"


def _number(error: Exception) -> int:
    number = getattr(error, "errno", None)
    return number if isinstance(number, int) else -1


def _shown(error: Exception) -> str:
    """Type, errno and SQLSTATE: all of a foreign error that may be shown."""
    parts = [type(error).__name__]
    if _number(error) >= 0:
        parts.append(f"{_number(error):06d}")
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str) and sqlstate != "n/a":
        parts.append(f"SQLSTATE {sqlstate}")
    return ", ".join(parts)
