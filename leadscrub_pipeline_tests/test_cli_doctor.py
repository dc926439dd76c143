"""``leadscrub doctor``: each trouble is named, with the exit code a script can act on."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from leadscrub_pipeline.ledger import Ledger, database
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline.warehouse.schema import SLICES
from leadscrub_pipeline_tests.cli_deployment import Deployment, Ended, deployment_in
from leadscrub_pipeline_tests.ledger_support import HIT, keys, look_up
from leadscrub_pipeline_tests.snowflake_server import Account


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployment_in(tmp_path, leads=3) as made:
        yield made


def wrong(ended: Ended) -> dict[str, list[str]]:
    """What is not in order, by check."""
    found: dict[str, list[str]] = {}
    for finding in ended.json:
        if finding["state"] != "ok":
            found.setdefault(finding["check"], []).append(finding["what"])
    return found


def test_a_deployment_in_order_ends_with_0_and_nobody_was_looked_up(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json")
    assert wrong(ended) == {}
    assert ended.code == 0
    assert deployment.billed == 0


def test_a_look_before_the_first_run_makes_no_files(deployment: Deployment) -> None:
    deployment.command("doctor")
    assert not deployment.home.exists()


def test_a_missing_registry_is_unavailable_by_name(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", DNC_DATABASE_PATH="/nowhere/dnc.sqlite")
    assert ended.code == 3
    assert list(wrong(ended)) == ["registry"]


def test_a_stale_list_is_said_with_its_age(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", DNC_LIST_DATE="2020-01-01")
    assert ended.code == 3
    assert "days old" in wrong(ended)["registry"][0]


def test_a_sign_in_that_is_refused_is_said(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", IDICORE_CLIENT_SECRET="of somebody else")
    assert ended.code == 3
    assert list(wrong(ended)) == ["idiCORE"]
    assert "of somebody else" not in ended.out


def test_a_vendor_that_is_down_is_unavailable(deployment: Deployment) -> None:
    deployment.simulators.idicore.faults.add(Fault("server_error", operation="sign_in"))
    ended = deployment.command("doctor", "--json", IDICORE_RETRY_BASE_DELAY="0.01")
    assert ended.code == 3
    assert list(wrong(ended)) == ["idiCORE"]


def test_scripts_that_may_not_run_are_findings(deployment: Deployment) -> None:
    deployment.write_script("bad", "DROP TABLE LEADS_DB.PUBLIC.LEADS")
    ended = deployment.command("doctor", "--json")
    assert ended.code == 1
    assert wrong(ended)["scripts"][0].startswith("bad: ")


def test_a_purpose_that_is_not_configured_is_a_finding(deployment: Deployment) -> None:
    path = deployment.write_script("bad")
    path.write_text("-- purpose: marketing\n" + path.read_text())
    ended = deployment.command("doctor", "--json")
    assert ended.code == 1
    assert "marketing" in wrong(ended)["purposes"][0]


def test_mixed_vendors_are_refused_before_anything_else_is_asked(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", CCC_API_URL="https://vendor.example/scrub")
    assert ended.code == 1
    assert "CCC_API_URL" not in wrong(ended)["kind"][0]
    assert "never mixed" in wrong(ended)["kind"][0]


def test_a_live_deployment_without_key_and_controls_has_two_findings(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", LEADSCRUB_KIND="live", CCC_CONTROL_NUMBERS="")
    found = wrong(ended)
    assert ended.code == 1
    assert "LEADSCRUB_ANSWER_KEY" in found["answer key"][0]
    assert "CCC_CONTROL_NUMBERS" in found["CCC"][0]


def test_a_setting_that_cannot_be_read_is_the_only_finding(deployment: Deployment) -> None:
    ended = deployment.command("doctor", "--json", IDICORE_TIMEOUT="soon")
    assert ended.code == 1
    assert list(wrong(ended)) == ["settings"]


def test_a_home_that_others_can_enter_is_a_finding(deployment: Deployment) -> None:
    deployment.home.mkdir(mode=0o755)
    ended = deployment.command("doctor", "--json")
    assert ended.code == 1
    assert "chmod 700" in wrong(ended)["home"][0]


def test_a_ledger_that_cannot_be_written_is_unavailable(deployment: Deployment) -> None:
    deployment.ledger().close()
    with sqlite3.connect(deployment.home / "ledger.sqlite") as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database, "LOCK_SECONDS", 0.1)
            ended = deployment.command("doctor", "--json")
        holder.rollback()
    assert (ended.code, list(wrong(ended))) == (3, ["ledger"])


def test_dagsters_storage_that_cannot_be_written_is_unavailable(deployment: Deployment) -> None:
    assert deployment.command("setup").code == 0
    found = {finding["check"]: finding["what"] for finding in deployment.command("doctor", "--json").json}
    assert "can be written and read" in found["storage"]
    (runs,) = (deployment.home / "dagster").rglob("runs.db")
    runs.write_bytes(b"no database")
    ended = deployment.command("doctor", "--json")
    assert ended.code == 3
    assert "storage" in wrong(ended)


def test_a_pool_without_a_limit_is_a_finding(deployment: Deployment) -> None:
    assert deployment.command("setup").code == 0
    with deployment.instance() as instance:
        instance.event_log_storage.delete_concurrency_limit("ccc")
    ended = deployment.command("doctor", "--json")
    assert (ended.code, list(wrong(ended))) == (1, ["pools"])
    assert "Pool ccc has no limit" in wrong(ended)["pools"][0]


def test_a_disk_that_is_nearly_full_is_a_finding(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    little = SimpleNamespace(free=1_000_000_000)
    monkeypatch.setattr("leadscrub_pipeline.cli.doctor.shutil.disk_usage", lambda _path: little)
    ended = deployment.command("doctor", "--json")
    assert (ended.code, list(wrong(ended))) == (1, ["home"])
    assert "Only 1.0 GB" in wrong(ended)["home"][0]


def test_a_clock_that_is_behind_the_ledger_is_a_finding(deployment: Deployment) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with Ledger.open(deployment.home / "ledger.sqlite", kind="demo", clock=lambda: tomorrow) as ledger:
        look_up(ledger, keys(1), HIT)
    ended = deployment.command("doctor", "--json")
    assert ended.code == 1
    assert f"lookups of {tomorrow.date()}" in wrong(ended)["clock"][0]


def test_a_source_that_is_gone_is_a_finding(deployment: Deployment) -> None:
    assert deployment.command("db", "migrate").code == 0
    assert wrong(deployment.command("doctor", "--json")) == {}
    deployment.write_script("gone", "SELECT * FROM LEADS_DB.PUBLIC.NOWHERE")
    ended = deployment.command("doctor", "--json")
    assert (ended.code, list(wrong(ended))) == (1, ["sources"])
    assert "LEADS_DB.PUBLIC.NOWHERE" in wrong(ended)["sources"][0]


# --- on Snowflake -----------------------------------------------------------------------


@pytest.fixture
def on_snowflake(deployment: Deployment, account: Account) -> Deployment:
    deployment.environment |= account.environment()
    assert deployment.command("db", "migrate").code == 0
    names = ("first_name", "last_name", "address", "city", "state", "zip_code")
    with deployment.warehouse().session() as session:
        session.execute(f"CREATE TABLE LEADS_DB.PUBLIC.LEADS ({', '.join(f'{name} VARCHAR' for name in names)})")
    return deployment


def test_snowflake_in_order_is_signed_in_to_under_both_roles_read_and_written(
    on_snowflake: Deployment, account: Account
) -> None:
    account.control(forget=True)
    ended = on_snowflake.command("doctor", "--json")
    assert (ended.code, wrong(ended)) == (0, {})
    assert {login["role"] for login in account.state()["logins"]} == {"LEADSCRUB_READER", "LEADSCRUB_WRITER"}
    assert any(finding["what"].startswith("Snowflake's clock") for finding in ended.json)
    made = [one["sql"].split()[:3] for one in account.statements() if "DOCTOR_SCRATCH" in one["sql"]]
    assert made[0] == ["CREATE", "TRANSIENT", "TABLE"]
    assert made[-1][:2] == ["DROP", "TABLE"]


def test_local_touches_no_warehouse_and_no_vendor(on_snowflake: Deployment, account: Account) -> None:
    account.control(forget=True)
    nobody = {f"{name}_URL": f"http://127.0.0.1:9/{name}" for name in ("IDICORE_AUTH", "IDICORE_SEARCH", "CCC_API")}
    ended = on_snowflake.command("doctor", "--local", "--json", **nobody)
    assert (ended.code, wrong(ended)) == (0, {})
    checks = {finding["check"] for finding in ended.json}
    assert checks >= {"home", "ledger", "registry", "storage", "pools", "clock"}
    assert not checks & {"warehouse", "sources", "idiCORE", "CCC"}
    assert (account.state()["logins"], account.statements()) == ([], [])


def test_a_table_that_somebody_changed_is_a_finding(on_snowflake: Deployment) -> None:
    with on_snowflake.warehouse().session() as session:
        session.execute(f"ALTER TABLE {SLICES.full_name} DROP COLUMN details")
    ended = on_snowflake.command("doctor", "--json")
    assert ended.code == 1
    assert f"ALTER TABLE {SLICES.full_name} ADD COLUMN details VARCHAR" in wrong(ended)["warehouse"][0]


@pytest.mark.parametrize(
    ("statement", "code", "role", "exit_code", "check", "text"),
    [
        ("STAGE_DOCTOR_SCRATCH.* AS SELECT", "003001", "LEADSCRUB_READER", 1, "sources", "5_grants.sql"),
        ("FACT", "000606", None, 1, "warehouse", "No virtual warehouse is in use"),
        ("sign-in", "390144", None, 1, "warehouse", "refused the sign-in: the private key"),
        ("DOCTOR_SCRATCH", "003001", None, 1, "warehouse", "sql/snowflake"),
        ("LEADS_DB", "003001", "LEADSCRUB_READER", 1, "sources", "SNOWFLAKE_READER_ROLE"),
        ("DOCTOR_SCRATCH", "000608", None, 3, "warehouse", "SNOWFLAKE_WAREHOUSE is suspended"),
    ],
)
def test_what_is_wrong_with_snowflake_is_named_with_the_next_step(
    on_snowflake: Deployment,
    account: Account,
    statement: str,
    code: str,
    role: str | None,
    exit_code: int,
    check: str,
    text: str,
) -> None:
    account.fault(statement, "error", code=code, role=role, times=99)
    ended = on_snowflake.command("doctor", "--json")
    assert text in " ".join(wrong(ended)[check])
    assert "run leadscrub db migrate" not in " ".join(wrong(ended)[check])
    assert ended.code == exit_code


def test_a_person_reads_one_line_a_check(deployment: Deployment) -> None:
    ended = deployment.command("doctor")
    assert ended.code == 0
    assert all(line.startswith("ok ") for line in ended.out.splitlines())
