"""Signing in to Snowflake: which settings are needed, what is refused, and what reaches the server."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from leadscrub_pipeline.errors import LeadscrubError, RefusedError, UsageError
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.warehouse.snowflake import SnowflakeWarehouse
from leadscrub_pipeline.warehouse.snowflake_connection import QueryTag, SignIn, by_connector
from leadscrub_pipeline_tests.snowflake_server import Account, private_pem

GOOD = {
    "snowflake_account": "org-test",
    "snowflake_user": "LEADSCRUB_SERVICE",
    "snowflake_private_key": private_pem(),
    "snowflake_role": "LEADSCRUB_WRITER",
    "snowflake_reader_role": "LEADSCRUB_READER",
    "snowflake_warehouse": "LEADSCRUB_WH",
    "leadscrub_allowed_databases": "LEADS_DB",
}


def settings(**changed: Any) -> Settings:
    return Settings(_env_file=None, **{name: value for name, value in (GOOD | changed).items() if value is not None})


def sign_in(account: Account, **changed: Any) -> SignIn:
    given = {name.lower(): value for name, value in account.environment().items()} | changed
    return SignIn.of(Settings(_env_file=None, **given))


def open_session(sign_in: SignIn) -> list[tuple[Any, ...]]:
    warehouse = SnowflakeWarehouse(sign_in, by_connector, kind="demo", allowed_databases=["LEADS_DB"])
    with warehouse.session(prepared=False) as session:
        return session.rows("SELECT 1")


def test_missing_settings_are_named_all_at_once() -> None:
    with pytest.raises(UsageError) as error:
        SignIn.of(Settings(_env_file=None, snowflake_user="someone"))
    for name in ("ACCOUNT", "ROLE", "READER_ROLE", "WAREHOUSE", "PRIVATE_KEY_PATH"):
        assert f"SNOWFLAKE_{name}" in str(error.value)
    assert "LEADSCRUB_ALLOWED_DATABASES" in str(error.value)
    assert "SNOWFLAKE_USER" not in str(error.value)


@pytest.mark.parametrize(
    "role", ["ACCOUNTADMIN", "accountadmin", '"ACCOUNTADMIN"', " AccountAdmin ", ' "ACCOUNTADMIN" ']
)
def test_accountadmin_is_refused_however_it_is_written(role: str) -> None:
    with pytest.raises(RefusedError, match="SNOWFLAKE_ROLE: ACCOUNTADMIN"):
        SignIn.of(settings(snowflake_role=role))
    assert SignIn.of(settings(snowflake_role=role, snowflake_allow_accountadmin=True)).role == role


def test_lead_scripts_never_run_as_accountadmin_nor_under_the_role_that_writes() -> None:
    with pytest.raises(RefusedError, match="SNOWFLAKE_READER_ROLE"):
        SignIn.of(settings(snowflake_reader_role="ACCOUNTADMIN", snowflake_allow_accountadmin=True))
    with pytest.raises(RefusedError, match="two roles"):
        SignIn.of(settings(snowflake_reader_role="leadscrub_writer"))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"snowflake_private_key": private_pem(passphrase="right")}, "SNOWFLAKE_PRIVATE_KEY_PASSWORD is not set"),
        (
            {"snowflake_private_key": private_pem(passphrase="right"), "snowflake_private_key_password": "wrong"},
            "SNOWFLAKE_PRIVATE_KEY_PASSWORD is wrong",
        ),
        ({"snowflake_private_key_password": "needless"}, "is not encrypted, and SNOWFLAKE_PRIVATE_KEY_PASSWORD is set"),
        ({"snowflake_private_key": private_pem()[:300]}, "not a whole PEM file"),
        ({"snowflake_private_key": "no key"}, "not a whole PEM file"),
        ({"snowflake_private_key": None, "snowflake_private_key_path": "/nowhere/key.p8"}, "cannot be read"),
        ({"snowflake_private_key_path": "/nowhere/key.p8"}, "are both set"),
    ],
)
def test_a_key_that_cannot_be_used_is_told_by_its_setting(changed: dict[str, str | None], text: str) -> None:
    with pytest.raises(UsageError, match=text) as error:
        SignIn.of(settings(**changed))
    assert error.value.__cause__ is None
    assert "PRIVATE KEY-----" not in str(error.value)


def test_a_key_of_another_kind_is_refused() -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(UsageError, match="not an RSA key"):
        SignIn.of(settings(snowflake_private_key=pem.decode()))


def test_a_key_is_taken_from_a_file_or_from_one_line_and_with_its_passphrase(tmp_path: Path) -> None:
    plain = SignIn.of(settings())
    path = tmp_path / "key.p8"
    path.write_text(private_pem(passphrase="pass phrase"))
    from_file = settings(
        snowflake_private_key=None, snowflake_private_key_path=path, snowflake_private_key_password="pass phrase"
    )
    one_line = settings(snowflake_private_key=private_pem().replace("\n", "\\n"))
    assert SignIn.of(from_file).private_key == SignIn.of(one_line).private_key == plain.private_key
    assert "PRIVATE" not in repr(plain)
    assert repr(plain.private_key)[:20] not in repr(plain)


@pytest.mark.parametrize("host", [None, "org-test.example.com", "10.0.0.1", "127.0.0.1.example.com"])
def test_plain_http_is_for_this_machine_only(host: str | None) -> None:
    with pytest.raises(RefusedError, match="SNOWFLAKE_PROTOCOL"):
        SignIn.of(settings(snowflake_protocol="http", snowflake_host=host))
    for local in ("127.0.0.1", "localhost", "::1"):
        assert SignIn.of(settings(snowflake_protocol="http", snowflake_host=local)).server["protocol"] == "http"
    assert SignIn.of(settings()).server == {}


def test_no_argument_can_turn_off_the_checks_of_certificates() -> None:
    arguments = SignIn.of(settings()).arguments(tag=QueryTag())
    loose = ("insecure", "ocsp", "crl", "cert", "verify", "connection_name", "unsafe", "proxy", "token", "password")
    assert [name for name in arguments if any(word in name for word in loose)] == ["cert_revocation_check_mode"]
    assert arguments["cert_revocation_check_mode"] == "ADVISORY"
    assert "protocol" not in arguments
    assert (arguments["authenticator"], arguments["secondary_roles"]) == ("SNOWFLAKE_JWT", "NONE")


def test_what_stands_in_connections_toml_does_not_sneak_in(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    file = folder / "connections.toml"
    file.write_text('[default]\ncert_revocation_check_mode = "DISABLED"\nrole = "ACCOUNTADMIN"\n')
    file.chmod(0o600)
    monkeypatch.setenv("SNOWFLAKE_HOME", str(folder))
    monkeypatch.setenv("SNOWFLAKE_DEFAULT_CONNECTION_NAME", "default")
    monkeypatch.setenv("SNOWFLAKE_CERT_REVOCATION_CHECK_MODE", "DISABLED")
    with by_connector(sign_in(account).arguments(tag=QueryTag())) as connection:
        assert connection.cert_revocation_check_mode == "ADVISORY"
    assert account.state()["logins"][-1]["role"] == "LEADSCRUB_WRITER"


def test_the_server_is_told_who_asks_and_how(account: Account) -> None:
    warehouse = SnowflakeWarehouse(
        sign_in(account),
        by_connector,
        kind="demo",
        allowed_databases=["LEADS_DB"],
        tag=QueryTag("run-1", "raw_leads", 'spring "sale"'),
    )
    with warehouse.session(prepared=False) as session:
        session.rows("SELECT 1")
    login = account.state()["logins"][0]
    assert (login["user"], login["role"]) == ("LEADSCRUB_SERVICE", "LEADSCRUB_WRITER")
    assert login["warehouse"] == "LEADSCRUB_WH"
    parameters = login["parameters"]
    assert json.loads(parameters["QUERY_TAG"]) == {"run": "run-1", "asset": "raw_leads", "partition": 'spring "sale"'}
    assert (parameters["TIMEZONE"], parameters["STATEMENT_TIMEOUT_IN_SECONDS"]) == ("UTC", 1800)


def test_another_users_key_is_refused_by_name_and_not_tried_for_ever(account: Account) -> None:
    other = private_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(RefusedError, match="does not belong to SNOWFLAKE_USER"):
        open_session(sign_in(account, snowflake_private_key=other))


def test_a_role_that_is_not_granted_is_named(account: Account) -> None:
    with pytest.raises(RefusedError, match="GRANT ROLE"):
        open_session(sign_in(account, snowflake_role="SOMEBODY_ELSE"))


@pytest.mark.parametrize(
    ("code", "text"), [("390106", "expired"), ("390102", "locked or disabled"), ("390422", "network policy")]
)
def test_a_sign_in_that_is_refused_says_what_an_administrator_can_do(account: Account, code: str, text: str) -> None:
    account.fault("sign-in", "error", code=code, times=9)
    with pytest.raises(RefusedError, match=text) as error:
        open_session(sign_in(account))
    assert account.name.upper() not in str(error.value).upper()


def test_a_server_that_nobody_listens_at_is_unavailable_within_the_time_that_is_set(account: Account) -> None:
    account.fault("sign-in", "status", status=503, times=99)
    with pytest.raises(LeadscrubError) as error:
        open_session(sign_in(account, snowflake_login_timeout=3, snowflake_network_timeout=3))
    assert type(error.value).__name__ == "UnavailableError"
