"""``leadscrub run`` and ``leadscrub preview`` on one deployment: what a user sees, run after run.

The runs are made once, in order, by the fixtures; each test looks at one side of them.
"""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from leadscrub_pipeline_tests.cli_deployment import LEADS, Deployment, Ended, deployment_in
from leadscrub_pipeline_tests.sums import check_sums

KEYS = [
    "script", "run_id", "status", "selected", "rejected", "duplicate", "already_processed", "kept", "published",
    "deferred", "held", "taken", "lookups_paid", "lookups_reused", "hits", "misses", "lookups_unknown", "phones",
    "litigators", "dnc_listed", "flags_unknown", "master_rows", "seconds",
]  # fmt: skip
"""In the order of the issue."""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment_in(tmp_path_factory.mktemp("deployment")) as made:
        yield made


@pytest.fixture(scope="module")
def forecast(deployment: Deployment) -> Ended:
    return deployment.command("preview", "leads", "--json")


@pytest.fixture(scope="module")
def first(deployment: Deployment, forecast: Ended) -> Ended:
    """A first try with ten leads."""
    return deployment.command("run", "leads", "--row-limit", "10", "--json")


@pytest.fixture(scope="module")
def second(deployment: Deployment, first: Ended) -> Ended:
    """The rest, as a user runs it."""
    return deployment.command("run", "leads")


@pytest.fixture(scope="module")
def third(deployment: Deployment, second: Ended) -> Ended:
    """All of the folder, with a script that is refused before one that is fine."""
    deployment.write_script("a_bad_one", "DELETE FROM LEADS_DB.PUBLIC.LEADS")
    ended = deployment.command("run", "--all", "--json")
    (deployment.scripts / "a_bad_one.sql").unlink()
    return ended


@pytest.fixture(scope="module")
def again(deployment: Deployment, third: Ended) -> Ended:
    return deployment.command("run", "leads", "--already-processed", "include", "--json")


def test_a_preview_says_what_a_run_would_cost_and_pays_nothing(deployment: Deployment, forecast: Ended) -> None:
    assert forecast.code == 0, forecast.err
    union = forecast.json["union"]
    assert union["kept"] == union["to_pay"] == LEADS
    assert union["estimated_cost"] == "7.50"


def test_a_run_prints_one_object_with_the_promised_keys(first: Ended) -> None:
    assert first.code == 0, first.err
    (result,) = first.objects
    assert list(result) == KEYS
    assert result["status"] == "success"
    assert all(result[key] is not None for key in KEYS)


def test_a_row_limit_counts_kept_leads(first: Ended) -> None:
    (result,) = first.objects
    check_sums(result)
    assert result["kept"] == result["published"] == 10
    assert result["lookups_paid"] <= 10


def test_json_leaves_standard_error_empty(first: Ended) -> None:
    assert first.err == ""


def test_a_run_shows_in_dagster_with_where_it_came_from(deployment: Deployment, first: Ended) -> None:
    with deployment.instance() as instance:
        run = instance.get_run_by_id(first.objects[0]["run_id"])
    assert run is not None
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags["dagster/partition"] == "leads"
    assert run.tags["leadscrub/launched_by"] == "cli"
    assert int(run.tags["leadscrub/pid"]) > 0


def test_the_instance_is_set_up_as_the_project_says(deployment: Deployment, first: Ended) -> None:
    home = deployment.home / "dagster"
    assert (home / "dagster.yaml").read_text() == (Path(__file__).parents[1] / "dagster.yaml").read_text()
    assert home.stat().st_mode & 0o777 == 0o700
    with deployment.instance() as instance:
        limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
        assert instance.get_dynamic_partitions("lead_scripts")[0] == "leads"
    assert limits == {"idicore": 1, "ccc": 2, "warehouse": 4}


def test_nothing_under_the_home_can_be_read_by_others(deployment: Deployment, second: Ended) -> None:
    files = [path for path in deployment.home.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_a_user_sees_a_table_without_dagsters_own_lines(second: Ended) -> None:
    assert second.code == 0, second.err
    assert second.err == ""
    assert "already processed" in second.out
    assert "dagster" not in second.out.lower()


def test_a_script_that_is_refused_does_not_keep_the_others_from_running(third: Ended) -> None:
    bad, good = third.objects
    assert (bad["script"], bad["status"], good["script"], good["status"]) == ("a_bad_one", "failed", "leads", "success")
    assert third.code == 4
    check_sums(good)
    assert good["already_processed"] == LEADS
    assert good["lookups_paid"] == 0


def test_a_failed_script_says_why_in_a_sentence_and_has_no_made_up_numbers(third: Ended) -> None:
    bad = third.objects[0]
    assert list(bad) == [*KEYS, "error"]
    assert bad["error"] in third.err
    assert "Traceback" not in third.err
    assert bad["selected"] is None
    assert bad["published"] is None
    assert bad["run_id"] is not None


def test_included_leads_go_through_again_with_cached_contacts(deployment: Deployment, again: Ended) -> None:
    (result,) = again.objects
    check_sums(result)
    assert (result["kept"], result["already_processed"]) == (LEADS, 0)
    assert (result["lookups_paid"], result["lookups_reused"]) == (0, LEADS)
    assert result["master_rows"] == LEADS


def test_no_person_was_billed_twice_and_the_ledger_has_the_bill(deployment: Deployment, again: Ended) -> None:
    bill = deployment.simulators.idicore.bill
    assert max(bill.by_person().values()) == 1
    with deployment.ledger() as ledger:
        assert ledger.summary().cost == bill.total()


def test_an_unknown_script_is_a_usage_error_with_near_names(deployment: Deployment) -> None:
    ended = deployment.command("run", "lead")
    assert ended.code == 2
    assert "Did you mean leads?" in ended.err


def test_a_script_that_another_run_is_at_is_left_alone_by_name(deployment: Deployment, again: Ended) -> None:
    with deployment.ledger() as ledger, ledger.partition_lease("leads", holder="run-of-somebody-else"):
        ended = deployment.command("run", "leads", "--json")
    assert ended.code == 4
    (result,) = ended.objects
    assert result["run_id"] is None
    assert "run-of-somebody-else" in result["error"]


def test_a_dagster_yaml_edited_by_hand_stays_and_an_older_one_is_replaced(
    deployment: Deployment, again: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leadscrub_pipeline.cli import instance  # noqa: PLC0415

    home = deployment.home / "dagster"
    config = home / "dagster.yaml"
    ours = config.read_text()
    config.write_text(ours + "# mine\n")
    instance.place_config(home)
    assert config.read_text() == ours + "# mine\n"
    config.unlink()
    older = deployment.folder / "older.yaml"
    older.write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setattr(instance, "project_path", lambda _name: older)
    instance.place_config(home)
    monkeypatch.undo()
    instance.place_config(home)
    assert config.read_text() == ours


def test_a_registry_that_is_gone_ends_the_run_as_unavailable_and_keeps_what_was_paid_for(
    deployment: Deployment, again: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda _policy, _attempt: 0)
    before = deployment.billed
    ended = deployment.command(
        "run", "leads", "--already-processed", "include", "--json", DNC_DATABASE_PATH="/nowhere/dnc.sqlite"
    )
    assert ended.code == 3
    assert "registry" in ended.objects[0]["error"]
    assert ended.objects[0]["lookups_unknown"] == 0
    assert deployment.billed == before


# --- in processes of their own ------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Deployment]:
    """Vendors that take their time, so that a run can be met in the middle of its lookups."""
    with deployment_in(tmp_path, latency=0.4, leads=50) as made:
        made.environment["IDICORE_MAX_WORKERS"] = "10"
        yield made


def wait_for_lookups(deployment: Deployment, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while deployment.billed < 10:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_settles_what_is_in_flight_and_ends_with_130(slow: Deployment) -> None:
    with slow.start("run", "leads", "--json") as process:
        wait_for_lookups(slow, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    result = json.loads(out)
    assert result["status"] == "canceled"
    assert "Traceback" not in err
    assert "Interrupted" in err
    with slow.ledger() as ledger:
        counts = ledger.lookups_of_run(result["run_id"])
        assert counts.cost == slow.simulators.idicore.bill.total()
    assert counts["unknown"] == counts["sent"] == counts["claimed"] == 0
    with slow.instance() as instance:
        run = instance.get_run_by_id(result["run_id"])
    assert run is not None
    assert run.status is dg.DagsterRunStatus.CANCELED


def test_a_killed_run_is_marked_failed_by_the_next_and_its_answers_are_not_bought_again(slow: Deployment) -> None:
    with slow.start("run", "leads", "--json") as process:
        wait_for_lookups(slow, process)
        process.kill()
    ended = slow.command("run", "leads", "--json")
    assert ended.code == 0, ended.err
    (result,) = ended.objects
    check_sums(result)
    assert "had lost its process" in ended.err
    with slow.instance() as instance:
        assert sorted(run.status.value for run in instance.get_runs()) == ["FAILURE", "SUCCESS"]
    bill = slow.simulators.idicore.bill
    with slow.ledger() as ledger:
        summary = ledger.summary()
    assert summary.cost <= bill.total() <= summary.cost + summary.unknown_cost
    # Only what was in flight may be asked again, and once.
    assert max(bill.by_person().values()) <= 2
    assert sum(count == 2 for count in bill.by_person().values()) <= 10
