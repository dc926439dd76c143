"""kill -9 wherever something is stored or sent: the next runs leave what undisturbed ones would have left."""

import random
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline_tests.children import Kill
from leadscrub_pipeline_tests.cli_deployment import LEADS
from leadscrub_pipeline_tests.cli_deployment import deployment_in as cli_deployment_in
from leadscrub_pipeline_tests.crashes import (
    Deployment,
    Facts,
    Town,
    check_as_undisturbed,
    check_bill,
    deployment_in,
    town_in,
)
from leadscrub_pipeline_tests.sums import check_sums
from leadscrub_pipeline_tests.tallies import tally

INTERRUPT: Final = Kill("idicore.before_sign_in")
NEEDS_AN_INTERRUPT: Final = ("release.before_commit", "release.after_commit")
NEEDS_AN_OUTAGE: Final = ("breaker.opened", "breaker.closed")
NEEDS_A_SUSPENDED_ACCOUNT: Final = ("suspect.before_commit", "suspect.after_commit")
SIGN_IN_TRIES: Final = 6
OTHERS: Final = tuple(
    point
    for point in failpoints.POINTS
    if point not in NEEDS_AN_INTERRUPT + NEEDS_AN_OUTAGE + NEEDS_A_SUSPENDED_ACCOUNT
)

ROWS: Final = 12
"""Every twelfth point makes a row, so that what only the first run of all comes to stands first in its row."""


@dataclass(frozen=True)
class Undisturbed:
    facts: Facts
    after_first: Facts
    """When the second script has not run yet."""
    first: Counter[str]
    """How often each point was reached by the first script's run."""
    second: Counter[str]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town_in(tmp_path_factory.mktemp("town") / "town") as town:
        yield town


@pytest.fixture(scope="module")
def undisturbed(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    with pytest.MonkeyPatch.context() as patch, deployment_in(home, town, patch) as deployment:
        first = deployment.scrub_well("first")
        after_first = deployment.facts()
        second = deployment.scrub_well("second")
        assert first.counts["published"] == 30
        assert second.counts["already_processed"] == second.counts["published"] - 6 == 12
        check_bill(deployment)
        return Undisturbed(deployment.facts(), after_first, first.points, second.points)


@pytest.fixture
def deployment(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment_in(tmp_path / "home", town, monkeypatch) as deployment:
        yield deployment


def in_the_middle(point: str, times: int) -> Kill:
    """Not the first time, where there are more; how often a group is written differs a little from run to run."""
    return Kill(point, random.Random(point).randint(min(2, times), max(times // 2, min(2, times))))


@pytest.mark.parametrize("row", range(ROWS))
def test_a_run_killed_again_and_again_further_on_leaves_nothing_behind_but_its_work(
    row: int, deployment: Deployment, undisturbed: Undisturbed
) -> None:
    deployment.environment = {**deployment.environment, "IDICORE_MAX_UNKNOWN_REPEATS": "9"}
    points = OTHERS[row::ROWS]
    for point in points:
        assert undisturbed.first[point] > 0, f"no undisturbed run comes to {point}: it is dead"
        deployment.killed("first", Kill(point))
    deployment.scrub_well("first")
    check_as_undisturbed(deployment, undisturbed.after_first)
    tally("points killed", len(points))
    tally("kills", deployment.kills)


@pytest.mark.long
@pytest.mark.parametrize("point", OTHERS)
def test_a_run_killed_where_something_is_stored_or_sent_leaves_nothing_behind_but_its_work(
    point: str, deployment: Deployment, undisturbed: Undisturbed
) -> None:
    deployment.killed("first", Kill(point))
    deployment.scrub_well("first")
    # What is reached once a run was killed there already.
    if undisturbed.second[point] > 1:
        deployment.killed("second", in_the_middle(point, undisturbed.second[point]))
    deployment.scrub_well("second")
    check_as_undisturbed(deployment, undisturbed.facts)
    count(deployment)


def count(deployment: Deployment) -> None:
    tally("points killed")
    tally("kills", deployment.kills)


@pytest.mark.parametrize("point", NEEDS_AN_INTERRUPT)
def test_a_run_killed_while_it_puts_itself_in_order_after_ctrl_c_leaves_nothing_behind(
    point: str, deployment: Deployment, undisturbed: Undisturbed
) -> None:
    for key in ("first", "second"):
        deployment.killed(key, Kill(point), interrupt=INTERRUPT)
        deployment.scrub_well(key)
    check_as_undisturbed(deployment, undisturbed.facts)
    count(deployment)


@pytest.mark.parametrize("point", NEEDS_AN_OUTAGE)
def test_a_run_killed_while_the_vendor_is_down_leaves_nothing_behind(
    point: str, deployment: Deployment, undisturbed: Undisturbed
) -> None:
    for key in ("first", "second"):
        # All who wait for the same sign-in fail with it, which opens the breaker.
        deployment.town.simulators.idicore.faults.add(Fault("server_error", operation="sign_in", times=SIGN_IN_TRIES))
        deployment.killed(key, Kill(point))
        deployment.town.simulators.idicore.faults.clear()
        deployment.scrub_well(key)
    check_as_undisturbed(deployment, undisturbed.facts)
    count(deployment)


@pytest.mark.parametrize("point", NEEDS_A_SUSPENDED_ACCOUNT)
def test_misses_of_a_suspended_account_are_not_believed_because_the_run_was_killed(
    point: str, deployment: Deployment
) -> None:
    deployment.town.simulators.idicore.faults.add(Fault("no_match"))
    deployment.killed("many", Kill(point))
    deployment.town.simulators.idicore.faults.clear()
    report = deployment.scrub_well("many")
    assert report.counts["published"] == 0
    assert report.counts["held"] == len(deployment.bill) == report.counts["kept"]
    check_bill(deployment)
    count(deployment)


@pytest.mark.parametrize("point", ["lease.after_commit", "claim.before_commit"])
def test_a_run_killed_while_it_clears_up_after_a_killed_one_leaves_nothing_behind(
    point: str, deployment: Deployment, undisturbed: Undisturbed
) -> None:
    deployment.killed("first", Kill("idicore.after_answer", 7))
    deployment.killed("first", Kill(point))
    deployment.scrub_well("first")
    deployment.scrub_well("second")
    check_as_undisturbed(deployment, undisturbed.facts)
    tally("kills", deployment.kills)


def test_under_policy_hold_nobody_is_asked_again_after_a_kill(deployment: Deployment) -> None:
    deployment.environment = {**deployment.environment, "IDICORE_UNKNOWN_POLICY": "hold"}
    deployment.killed("first", Kill("idicore.after_answer", 7))
    assert deployment.in_flight > 1
    report = deployment.scrub_well("first")
    assert report.counts["held"] == deployment.in_flight
    assert report.counts["published"] == 30 - deployment.in_flight
    assert max(Counter(entry.person_key for entry in deployment.bill).values()) == 1
    check_bill(deployment)
    tally("kills", deployment.kills)


def test_leadscrub_run_killed_in_the_middle_of_its_lookups_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    with cli_deployment_in(tmp_path, latency=0.05) as made:
        with made.struck("SIGKILL", "idicore.after_answer", 7, "run", "leads", "--json") as process:
            out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (-signal.SIGKILL, ""), err
        with made.ledger() as ledger:
            in_flight = ledger.sweep().unknown
        assert in_flight > 0
        ended = made.command("run", "leads", "--json")
        assert ended.code == 0, ended.err
        (result,) = ended.objects
        check_sums(result)
        assert result["published"] == LEADS
        assert LEADS <= made.billed <= LEADS + in_flight
        with made.ledger() as ledger:
            summary = ledger.summary()
        total = made.simulators.idicore.bill.total()
        assert summary.cost <= total <= summary.cost + summary.unknown_cost
    tally("kills")


def test_no_point_is_without_a_name_in_the_list(undisturbed: Undisturbed) -> None:
    assert set(undisturbed.first) | set(undisturbed.second) <= set(failpoints.POINTS)
