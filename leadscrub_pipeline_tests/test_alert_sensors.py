"""The sensors that alert, tick by tick on real instances against the simulated ntfy: who is told what, how often."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import time_machine

# A backfill is made by the webserver; here is neither.
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill  # noqa: TID251

from leadscrub_pipeline.assets.common import named_failures
from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.resources import SettingsResource
from leadscrub_pipeline.sensors import ALERT_SENSORS, alert_delivery
from leadscrub_pipeline.simulators import Fault, Simulators
from leadscrub_pipeline_tests.graph import Graph, graph_in

SENSORS = {sensor.name: sensor for sensor in ALERT_SENSORS}
FAILURE, FINISHED, BACKFILL, UPKEEP = SENSORS


class Desk:
    """The daemon's side of the sensors, and what arrives at the simulated ntfy."""

    def __init__(self, instance: dg.DagsterInstance, simulators: Simulators) -> None:
        self.instance = instance
        self.simulators = simulators
        self._cursors: dict[str, str | None] = {}
        for name in (FAILURE, FINISHED, BACKFILL):
            self.tick(name)

    def tick(self, name: str) -> str | None:
        """One evaluation as the daemon makes it, and the reason for a skip."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self._cursors.get(name), resources={"settings": SettingsResource()}
        )
        data = SENSORS[name].evaluate_tick(context)
        assert [reaction.error for reaction in data.dagster_run_reactions if reaction.error] == []
        self._cursors[name] = data.cursor
        return data.skip_message

    def tick_until_quiet(self, name: str) -> None:
        """Dagster hands a sensor of runs five a tick."""
        before = None
        while before != self._cursors[name]:
            before = self._cursors[name]
            self.tick(name)

    def announced(self) -> list[str]:
        """Titles of what came of all runs since the last call, in order."""
        seen = len(self.messages)
        self.tick_until_quiet(FAILURE)
        self.tick_until_quiet(FINISHED)
        return [str(message["title"]) for message in self.messages[seen:]]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.simulators.ntfy.messages


@pytest.fixture(scope="module")
def running() -> Iterator[Simulators]:
    with Simulators() as simulators:
        yield simulators


@pytest.fixture(params=["memory", pytest.param("files", marks=pytest.mark.long)])
def desk(
    request: pytest.FixtureRequest, running: Simulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    running.ntfy.messages.clear()
    running.ntfy.faults.clear()
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LEADSCRUB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LEADSCRUB_UI_URL", "http://127.0.0.1:3000")
    made = dg.DagsterInstance.ephemeral() if request.param == "memory" else dg.DagsterInstance.local_temp(str(tmp_path))
    with made as instance:
        yield Desk(instance, running)


only_memory = pytest.mark.parametrize("desk", ["memory"], indirect=True)


def run(
    desk: Desk, work: Callable[[], None], *, name: str = "step", partition: str | None = None, **tags: str
) -> dg.ExecuteInProcessResult:
    """A job of one step."""

    @dg.op(name=name)
    def step() -> None:
        work()

    @dg.job(name="tiny_job")
    def tiny_job() -> None:
        step()

    given = {f"dagster/{key}": value for key, value in tags.items()}
    if partition is not None:
        given["dagster/partition"] = partition
    return tiny_job.execute_in_process(instance=desk.instance, raise_on_error=False, tags=given)


def down(number: int = 3) -> Callable[[], None]:
    def work() -> None:
        with named_failures():
            raise UnavailableError(f"idiCORE did not recover: {number} probes in a row failed.")

    return work


def nothing() -> None:
    pass


# --- runs that failed ----------------------------------------------------------------------------


def test_a_failed_run_is_announced_once_with_step_line_and_link_and_its_retry_is_not(desk: Desk) -> None:
    first = run(desk, down(), partition="spring")
    run(desk, down(), partition="spring", retry_number="1")
    assert desk.announced() == ["spring failed at step"]
    [message] = desk.messages
    assert message["topic"] == "simulated-errors"
    assert message["message"].startswith("idiCORE did not recover: 3 probes in a row failed.\nIt is not run again")
    assert message["click"] == f"http://127.0.0.1:3000/runs/{first.run_id}"
    assert desk.announced() == []


@only_memory
def test_a_run_that_is_repeated_by_itself_says_so(desk: Desk) -> None:
    run(desk, down(), will_retry="true")
    desk.announced()
    assert "run again by itself" in desk.messages[0]["message"]


@only_memory
def test_a_retry_alone_alerts_nobody(desk: Desk) -> None:
    run(desk, down(), retry_number="1")
    assert desk.announced() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
@only_memory
def test_a_run_that_somebody_stopped_alerts_nobody(desk: Desk, error: type[BaseException]) -> None:
    def stop() -> None:
        raise error

    with suppress(KeyboardInterrupt, dg.DagsterExecutionInterruptedError):  # outside a step it is raised again
        run(desk, stop)
    assert len(desk.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))) == 1
    assert desk.announced() == []


@only_memory
def test_a_canceled_run_alerts_nobody(desk: Desk) -> None:
    failed = run(desk, down())
    desk.instance.report_run_canceled(failed.dagster_run)
    assert desk.announced() == []


@only_memory
def test_of_a_foreign_error_no_text_is_told(desk: Desk) -> None:
    def leak() -> None:
        raise ValueError("Duplicate key a: Jane Roe 2125550101")

    run(desk, leak)
    desk.announced()
    [message] = desk.messages
    assert "ValueError" in message["message"]
    assert "Jane" not in str(message)
    assert "2125550101" not in str(message)


@only_memory
def test_a_run_whose_process_died_says_so(desk: Desk) -> None:
    lost = desk.instance.create_run_for_job(dg.job(nothing_job), tags={"dagster/partition": "spring"})
    desk.instance.report_run_failed(lost, "its process is gone")
    assert desk.announced() == ["spring failed"]
    assert "outside its steps" in desk.messages[0]["message"]


def nothing_job() -> None:
    """A job without a step."""


@only_memory
def test_thirty_failures_of_one_cause_give_one_alert_and_the_next_one_counts_the_others(desk: Desk) -> None:
    for number in range(30):
        run(desk, down(number), partition=f"script_{number}")
    assert desk.announced() == ["script_0 failed at step"]
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=61), tick=True):
        run(desk, down(), partition="script_30")
        assert desk.announced() == ["script_30 failed at step"]
    assert desk.messages[-1]["message"].endswith("29 more alerts like it before, held back or not sent.")


@only_memory
def test_failures_of_two_causes_within_the_hour_are_both_told(desk: Desk) -> None:
    run(desk, down())
    run(desk, down(), name="other_step")
    assert len(desk.announced()) == 2


# --- what finished runs found --------------------------------------------------------------------


def materialize(desk: Desk, *assets: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(list(assets), instance=desk.instance, raise_on_error=False)


def asset_with(**metadata: Any) -> dg.AssetsDefinition:
    @dg.asset
    def enriched_contacts() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata=metadata)

    return enriched_contacts


def checked(*, blocking: bool, severity: dg.AssetCheckSeverity) -> list[dg.AssetsDefinition]:
    spec = dg.AssetCheckSpec("every_flag_has_evidence", asset="flags", blocking=blocking)
    other = dg.AssetCheckSpec("hit_rate_is_usual", asset="flags")

    @dg.asset(check_specs=[spec, other])
    def flags() -> Iterator[Any]:
        yield dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    check_name=spec.name, passed=False, severity=severity, description="3 flags have none.\nMore."
                ),
                dg.AssetCheckResult(check_name=other.name, passed=True),
            ]
        )

    @dg.asset(deps=[flags])
    def published() -> None:
        pass

    return [flags, published]


def test_a_failed_check_is_announced_though_the_run_is_green_and_one_that_passed_is_not(desk: Desk) -> None:
    result = materialize(desk, *checked(blocking=False, severity=dg.AssetCheckSeverity.WARN))
    assert result.success
    assert desk.announced() == ["materialize: check every_flag_has_evidence failed"]
    [message] = desk.messages
    assert message["message"].startswith("every_flag_has_evidence of flags (warning): 3 flags have none.\n")
    assert message["click"] == "http://127.0.0.1:3000/assets/flags?view=checks"
    assert message["priority"] == 3


@only_memory
def test_a_check_that_stopped_its_run_gives_one_alert_that_says_so(desk: Desk) -> None:
    result = materialize(desk, *checked(blocking=True, severity=dg.AssetCheckSeverity.ERROR))
    assert not result.success
    assert desk.announced() == ["materialize: check every_flag_has_evidence failed"]
    assert "The run stopped there" in desk.messages[0]["message"]
    assert desk.messages[0]["priority"] == 4


@only_memory
def test_a_breaker_that_opened_and_caps_that_were_reached_are_announced(desk: Desk) -> None:
    materialize(
        desk,
        asset_with(
            idicore_breaker_openings=2,
            deferred_or_held_by_reason=dg.MetadataValue.json({"run_cap": 5, "daily_budget": 1, "paused": 9}),
        ),
    )
    assert desk.announced() == [
        "idiCORE was down for a while: its breaker opened 2 times",
        "materialize: the cap of paid lookups a run was reached",
        "The budget of the day is used up",
    ]
    assert {message["topic"] for message in desk.messages} == {"simulated-errors"}


@only_memory
def test_a_run_in_which_all_went_well_alerts_nobody(desk: Desk) -> None:
    materialize(desk, asset_with(idicore_breaker_openings=0, deferred_or_held_by_reason=dg.MetadataValue.json({})))
    assert desk.announced() == []


# --- the whole scrub -----------------------------------------------------------------------------


def test_a_vendor_that_fails_gives_one_alert_without_a_value_of_a_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with graph_in(tmp_path, monkeypatch, through_dagster=True) as graph:
        graph.configure(IDICORE_MAX_RETRIES=0)
        desk = Desk(graph.instance, graph.simulators)
        graph.simulators.idicore.faults.add(Fault("5xx"))
        assert not graph.scrub("leads").success
        assert desk.announced() == ["leads failed at enriched_contacts"]
        graph.simulators.idicore.faults.clear()
        graph.configure(IDICORE_MAX_LOOKUPS_PER_RUN=4)
        assert graph.scrub("leads").success
        assert desk.announced() == ["leads: the cap of paid lookups a run was reached"]
        assert_no_lead(desk)


def assert_no_lead(desk: Desk) -> None:
    text = str(desk.messages)
    assert [word for word in ("Ada", "Example", "Main Street", "Springfield", "627") if word in text] == []


# --- a server that is not there, and settings ----------------------------------------------------


def test_while_ntfy_is_down_ticks_go_well_and_what_waited_is_sent_later(desk: Desk) -> None:
    desk.simulators.ntfy.faults.add(Fault("5xx"))
    run(desk, down(), partition="a")
    run(desk, down(), partition="b")
    assert desk.announced() == []
    desk.simulators.ntfy.faults.clear()
    assert "that waited" not in str(desk.tick(UPKEEP)), "the server is left alone for a minute"
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=61), tick=True):
        assert "1 that waited: sent." in str(desk.tick(UPKEEP))
    waited = desk.messages[0]
    assert waited["title"] == "b failed at step"
    assert waited["message"].endswith("1 more alert like it before, held back or not sent.")


@only_memory
def test_a_slow_server_is_left_alone_for_a_minute_so_that_a_tick_ends_in_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_delivery, "SLOW_SECONDS", 0.0)
    run(desk, down(), partition="a")
    run(desk, down(), partition="b", name="other_step")
    assert desk.announced() == ["a failed at step"]
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=61), tick=True):
        desk.tick(UPKEEP)
    assert desk.messages[1]["title"] == "b failed at other_step"


@only_memory
def test_the_daily_message_is_sent_once_a_day_and_late_rather_than_never(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADSCRUB_TIME_ZONE", "America/Chicago")
    eight = datetime(2026, 11, 18, 14, tzinfo=UTC)

    def at(moment: datetime) -> int:
        with time_machine.travel(moment, tick=True):
            before = len(desk.messages)
            desk.tick(UPKEEP)
            return len(desk.messages) - before

    assert at(eight - timedelta(minutes=30)) == 1, "the first tick shows that alerts arrive"
    assert [at(eight + timedelta(minutes=5 * tick)) for tick in range(4)] == [1, 0, 0, 0]
    desk.simulators.ntfy.faults.add(Fault("5xx"))
    assert at(eight + timedelta(days=1)) == 0
    desk.simulators.ntfy.faults.clear()
    assert at(eight + timedelta(days=1, minutes=5)) == 1, "it tries again"
    assert at(eight + timedelta(days=4, hours=9)) == 1, "the daemon was off for days"
    assert at(eight + timedelta(days=4, hours=10)) == 0


@only_memory
def test_the_daily_message_knows_what_is_still_failed_and_what_was_held_back(desk: Desk) -> None:
    desk.instance.add_dynamic_partitions("lead_scripts", ["a", "b", "c", "d"])
    for key in ("a", "b", "c", "gone"):
        run(desk, down(), partition=key)
    run(desk, nothing, partition="b")
    desk.announced()
    desk.tick(UPKEEP)
    [message] = [found for found in desk.messages if found["topic"] == "simulated-system"]
    assert "needs a look" in message["title"]
    lines = message["message"].splitlines()
    assert "4 runs failed in the last 24 hours." in lines
    assert "Still failed, their latest run: a, c." in lines
    assert "Runs in the last 24 hours: 1 succeeded, 4 failed, 0 canceled; 0 under way now." in lines
    assert "Nobody was ever looked up." in lines
    assert "3 alerts held back or not sent since the last one." in lines
    assert "No registry file is configured. Set DNC_DATABASE_PATH." in lines


def test_all_is_well_after_a_scrub_and_the_lists_age_is_announced_when_it_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with graph_in(tmp_path, monkeypatch, through_dagster=True) as graph:
        desk = Desk(graph.instance, graph.simulators)
        graph.scrub("leads")
        desk.tick(UPKEEP)
        [message] = desk.messages
        assert message["title"] == "leadscrub: all is well"
        assert "10 lookups paid for" in message["message"]
        assert "The Do-Not-Call list is 3 days old, 28 days left." in message["message"]
        desk.messages.clear()

        def titles(age: int) -> list[str]:
            graph.configure(DNC_LIST_DATE=(datetime.now(UTC) - timedelta(days=age)).date().isoformat())
            before = len(desk.messages)
            desk.tick(UPKEEP)
            return [str(found["title"]) for found in desk.messages[before:]]

        assert titles(23) == []
        assert titles(24) == ["The Do-Not-Call list expires in 7 days"]
        assert titles(25) == [], "once a day"
        assert titles(31) == ["The Do-Not-Call list has expired"]
        assert titles(31) == []
        assert [found["priority"] for found in desk.messages] == [4, 5]
        assert_no_lead(desk)


@only_memory
def test_a_ledger_or_a_registry_file_that_cannot_be_read_is_told_and_fails_no_tick(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ledger.sqlite").write_bytes(b"no database at all" * 100)
    (tmp_path / "dnc.sqlite").write_bytes(b"nor this" * 100)
    monkeypatch.setenv("DNC_DATABASE_PATH", str(tmp_path / "dnc.sqlite"))
    assert desk.tick(UPKEEP) == "Daily message: sent."
    [message] = desk.messages
    assert "What was spent cannot be told" in message["message"]
    assert "registry file" in message["message"]


@only_memory
def test_alerts_that_are_off_say_so_in_each_sensor_and_nothing_is_announced_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("NTFY_ENABLED", "false")
        run(desk, down())
        run(desk, nothing)
        reasons = [desk.tick(name) for name in (FAILURE, FINISHED, BACKFILL, UPKEEP)]
        assert reasons == ["Alerts are off: NTFY_ENABLED is false."] * 4
    assert desk.announced() == []


@only_memory
def test_settings_that_cannot_be_understood_and_a_time_zone_that_is_none_are_said(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("LEADSCRUB_TIME_ZONE", "Mars/Olympus")
        assert "LEADSCRUB_TIME_ZONE is no time zone" in str(desk.tick(UPKEEP))
        patch.setenv("LEADSCRUB_HEARTBEAT_HOUR", "25")
        run(desk, down())
        for name in (FAILURE, BACKFILL, UPKEEP):
            assert "LEADSCRUB_HEARTBEAT_HOUR" in str(desk.tick(name))
    monkeypatch.setenv("NTFY_BASE_URL", "http://ntfy.example.com")
    assert "NTFY_BASE_URL" in str(desk.tick(UPKEEP))


@only_memory
def test_a_topic_that_is_not_set_gets_nothing_and_the_others_theirs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NTFY_TOPIC_ERRORS")
    run(desk, down())
    assert desk.announced() == []
    assert desk.tick(UPKEEP) == "Daily message: sent."


# --- backfills -----------------------------------------------------------------------------------


def backfill(key: str, status: str, partitions: list[str] | None = None, *, ago: float = 60.0) -> PartitionBackfill:
    return PartitionBackfill(
        backfill_id=key,
        status=BulkActionStatus(status),
        from_failure=False,
        tags={},
        backfill_timestamp=time.time() - ago,
        partition_names=partitions,
    )


def test_a_backfill_is_announced_when_it_ends_and_those_of_the_past_are_not(desk: Desk) -> None:
    desk.instance.add_backfill(backfill("old_one", "REQUESTED", ["a", "b", "c"]))
    desk.tick(BACKFILL)
    assert desk.messages == []
    run(desk, down(), partition="a", backfill="old_one")
    run(desk, nothing, partition="a", backfill="old_one", retry_number="1")
    run(desk, down(), partition="b", backfill="old_one")
    desk.instance.update_backfill(backfill("old_one", "CANCELED", ["a", "b", "c"]))
    desk.instance.add_backfill(backfill("new_one", "COMPLETED_SUCCESS", ["a"]))
    desk.tick(BACKFILL)
    assert [message["title"] for message in desk.messages] == [
        "Backfill was canceled: 1 of 3 scripts succeeded",
        "Backfill finished: 0 of 1 script succeeded",
    ]
    first = desk.messages[0]
    assert first["message"].splitlines()[:2] == ["1 succeeded, 1 failed, 0 canceled, 1 never started.", "Failed: b."]
    assert first["topic"] == "simulated-jobs"
    assert first["click"] == "http://127.0.0.1:3000/runs/b/old_one"
    assert desk.tick(BACKFILL) == "No backfill has come to an end."


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")  # Dagster's own call
@only_memory
def test_a_backfill_of_assets_that_was_canceled_early_counts_what_never_started(desk: Desk) -> None:
    keys = ["a", "b", "c"]
    desk.instance.add_dynamic_partitions("lead_scripts", keys)

    def of_assets(status: str) -> PartitionBackfill:
        made = PartitionBackfill.from_asset_partitions(
            backfill_id="of_assets",
            asset_graph=defs.get_repository_def().asset_graph,
            partition_names=keys,
            asset_selection=[dg.AssetKey("raw_leads"), dg.AssetKey("enriched_contacts")],
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=desk.instance,
            all_partitions=False,
            title="spring",
            description=None,
            run_config=None,
        )
        return made.with_status(BulkActionStatus(status))

    desk.instance.add_backfill(of_assets("REQUESTED"))
    desk.tick(BACKFILL)
    run(desk, nothing, partition="a", backfill="of_assets")
    desk.instance.update_backfill(of_assets("CANCELED"))
    desk.tick(BACKFILL)
    [message] = desk.messages
    assert message["message"].splitlines()[0] == "1 succeeded, 0 failed, 0 canceled, 2 never started."
    assert message["message"].splitlines()[-1] == "Backfill spring."


def test_the_first_look_announces_no_backfill(running: Simulators, monkeypatch: pytest.MonkeyPatch) -> None:
    running.ntfy.messages.clear()
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_backfill(backfill("past", "COMPLETED_SUCCESS", ["a"]))
        desk = Desk(instance, running)
        desk.tick(BACKFILL)
        assert desk.messages == []


def test_a_digest_counts_leads_and_money_of_failed_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with graph_in(tmp_path, monkeypatch, through_dagster=True) as graph:
        graph.write_script("first", "SELECT * FROM LEADS_DB.PUBLIC.LEADS WHERE ADDRESS < '5'")
        graph.write_script("second", "SELECT * FROM LEADS_DB.PUBLIC.LEADS WHERE ADDRESS >= '5'")
        desk = Desk(graph.instance, graph.simulators)
        graph.scrub("leads", assets=["raw_leads"])  # of no backfill
        graph.instance.add_backfill(backfill("both", "REQUESTED", ["first", "second"]))
        desk.tick(BACKFILL)
        published = scrub_in_backfill(graph, "first")
        monkeypatch.delenv("CCC_API_KEY")
        assert scrub_in_backfill(graph, "second") is None
        graph.instance.update_backfill(backfill("both", "COMPLETED_FAILED", ["first", "second"]))
        desk.tick(BACKFILL)
        [message] = desk.messages
        with graph.ledger() as ledger:
            cost = ledger.summary().cost
        assert published
        assert message["message"].splitlines() == [
            "1 succeeded, 1 failed, 0 canceled.",
            "Failed: second.",
            f"{published} leads published.",
            f"{graph.billed} lookups paid for, {cost} dollars.",
            "Backfill both.",
        ]
        assert_no_lead(desk)


def scrub_in_backfill(graph: Graph, key: str) -> int | None:
    """Rows published, or None when the run failed."""
    graph.instance.add_dynamic_partitions("lead_scripts", [key])
    result = defs.resolve_job_def("scrub_job").execute_in_process(
        partition_key=key, instance=graph.instance, raise_on_error=False, tags={"dagster/backfill": "both"}
    )
    for event in result.get_asset_materialization_events():
        if event.asset_key == dg.AssetKey("master_processed_db"):
            return int(event.materialization.metadata["published"].value)  # type: ignore[arg-type]
    return None


# --- what holds for all of them ------------------------------------------------------------------


def test_each_is_on_by_default_and_described_and_nothing_else_is_on() -> None:
    repository = defs.get_repository_def()
    for sensor in repository.sensor_defs:
        mine = sensor.name in {FAILURE, FINISHED, BACKFILL, UPKEEP}
        assert (sensor.default_status is dg.DefaultSensorStatus.RUNNING) == mine
        assert sensor.description


def test_a_tick_is_quick_with_a_thousand_partitions_and_hundreds_of_runs(
    tmp_path: Path, running: Simulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.ntfy.messages.clear()
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LEADSCRUB_HOME", str(tmp_path / "home"))
    keys = [f"script_{number:04}" for number in range(1000)]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("lead_scripts", keys)
        instance.add_backfill(backfill("big", "REQUESTED", keys))
        desk = Desk(instance, running)
        job = dg.job(nothing_job)
        for key in keys[:200]:
            instance.create_run_for_job(
                job, tags={"dagster/partition": key, "dagster/backfill": "big"}, status=dg.DagsterRunStatus.FAILURE
            )
        instance.update_backfill(backfill("big", "COMPLETED_FAILED", keys))
        for name in (UPKEEP, BACKFILL):
            started = time.process_time()
            desk.tick(name)
            assert time.process_time() - started < 2
    assert [message["title"] for message in running.ntfy.messages] == [
        "leadscrub needs a look: 3 things",
        "Backfill finished: 0 of 1,000 scripts succeeded",
    ]
