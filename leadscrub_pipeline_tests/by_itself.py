"""A deployment under a real webserver and daemon, and what its instance says of runs, backfills and checks."""

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from leadscrub_pipeline_tests.cli_deployment import Deployment
from leadscrub_pipeline_tests.dagster_ui import cancel_backfill, wait_until


@dataclass
class Served:
    """A deployment, its settings file, and the instance that its webserver and daemon use."""

    deployment: Deployment
    settings: Path
    instance: dg.DagsterInstance

    def configure(self, **values: object) -> None:
        """Change settings as an operator does; they count from the next run on."""
        self.settings.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")

    def runs(self, partition: str) -> list[dg.DagsterRun]:
        """The oldest first."""
        return list(reversed(self.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": partition}))))

    def has_succeeded(self, partition: str) -> bool:
        runs = self.runs(partition)
        return bool(runs) and runs[-1].is_success

    def wait_for(self, run_id: str) -> dg.DagsterRun:
        def is_finished() -> bool:
            run = self.instance.get_run_by_id(run_id)
            return run is not None and run.is_finished

        wait_until(is_finished)
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def backfill(self, backfill_id: str) -> str | None:
        backfill = self.instance.get_backfill(backfill_id)
        return None if backfill is None else str(backfill.status.value)

    def cancel_backfill(self, url: str, backfill_id: str) -> None:
        """Cancel a backfill as somebody does who looks whether it took, and wait for its end.

        Dagster's daemon notes how far a backfill is with the status that it read before (execute_job_backfill_iteration
        in 1.13), so a cancel in between is lost and the backfill goes on.
        """

        def is_cancelled() -> bool:
            status = self.backfill(backfill_id)
            if status == "REQUESTED":
                cancel_backfill(url, backfill_id)
            return status == "CANCELED"

        wait_until(is_cancelled)

    def evaluations(self, run_id: str) -> dict[str, Any]:
        """Each check of a run by name."""
        records = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
        found = [record.event_log_entry.dagster_event for record in records]
        return {
            one.asset_check_evaluation_data.check_name: one.asset_check_evaluation_data
            for one in found
            if one is not None
        }

    def materialized(self, run_id: str) -> set[str]:
        records = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
        found = [record.event_log_entry.asset_materialization for record in records]
        return {one.asset_key.to_user_string() for one in found if one is not None}

    @property
    def registered_by_sensor(self) -> str:
        """The cursor of the sensor of scripts: what its looks have found so far."""
        states = self.instance.all_instigator_state()
        found = [state for state in states if state.instigator_name == "lead_scripts_sensor"]
        return str(getattr(found[0].instigator_data, "cursor", "") or "") if found else ""

    def alerts(self, title: str) -> list[dict[str, Any]]:
        """Those whose title begins so."""
        sent: list[dict[str, Any]] = self.deployment.simulators.ntfy.messages
        return [one for one in sent if str(one["title"]).startswith(title)]

    def most_at_once(self, pool_step: str) -> int:
        """How many runs with a step were in progress together, at most."""
        spans = []
        for record in self.instance.get_run_records():
            events = self.instance.get_records_for_run(
                record.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_START
            ).records
            if any(one.event_log_entry.step_key == pool_step for one in events) and record.start_time is not None:
                spans.append((record.start_time, record.end_time or time.time()))
        return max((sum(start <= moment < end for start, end in spans) for moment, _ in spans), default=0)


def ledger_rows(deployment: Deployment, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(deployment.home / "ledger.sqlite", timeout=30)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
