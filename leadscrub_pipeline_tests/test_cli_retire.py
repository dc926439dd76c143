"""``leadscrub scripts retire``: a partition goes when its file is gone and nothing is at work on it, and not before."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from leadscrub_pipeline.ledger.owners import this_host
from leadscrub_pipeline_tests.cli_deployment import Deployment, deployment_in


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployment_in(tmp_path) as made:
        made.write_script("old")
        assert made.command("setup").code == 0
        (made.scripts / "old.sql").unlink()
        yield made


def partitions(deployment: Deployment) -> list[str]:
    with deployment.instance() as instance:
        return list(instance.get_dynamic_partitions("lead_scripts"))


def at_work(deployment: Deployment, status: dg.DagsterRunStatus, **tags: str) -> str:
    @dg.job
    def nothing() -> None:
        """Has no step."""

    with deployment.instance() as instance:
        run = instance.create_run_for_job(nothing, status=status, tags={"dagster/partition": "old", **tags})
        return run.run_id


def test_a_removed_script_is_retired_and_its_partition_does_not_come_back(deployment: Deployment) -> None:
    assert partitions(deployment) == ["leads", "old"]
    ended = deployment.command("scripts", "retire", "old")
    assert ended.code == 0, ended.err
    assert "results withdraw old" in ended.err
    assert partitions(deployment) == ["leads"]
    assert deployment.command("setup").code == 0
    assert partitions(deployment) == ["leads"]
    assert deployment.command("scripts", "retire", "old").code == 2


def test_a_script_whose_file_is_there_is_not_retired(deployment: Deployment) -> None:
    ended = deployment.command("scripts", "retire", "leads")
    assert (ended.code, "Remove the file first" in ended.err) == (2, True)
    assert "leads" in partitions(deployment)


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_a_run_at_work_keeps_its_partition(deployment: Deployment, status: dg.DagsterRunStatus) -> None:
    run_id = at_work(deployment, status)
    ended = deployment.command("scripts", "retire", "old")
    assert (ended.code, run_id in ended.err) == (4, True)
    assert "old" in partitions(deployment)


def test_a_direct_run_that_was_killed_keeps_nobody(deployment: Deployment) -> None:
    tags = {"leadscrub/host": this_host(), "leadscrub/pid": "4194303", "leadscrub/process_started": "0"}
    at_work(deployment, dg.DagsterRunStatus.STARTED, **{"leadscrub/launched_by": "cli"}, **tags)
    assert deployment.command("scripts", "retire", "old", "--json").json == {"script": "old", "retired": True}


def test_a_direct_run_that_holds_the_partition_keeps_it(deployment: Deployment) -> None:
    with deployment.ledger() as ledger, ledger.partition_lease("old", holder="a-run"):
        ended = deployment.command("scripts", "retire", "old")
    assert (ended.code, "a-run" in ended.err) == (4, True)
    assert "old" in partitions(deployment)
