"""A run of a history as a real Dagster run in this process, reported as a child would."""

import time
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
import time_machine

from leadscrub_pipeline.definitions import defs
from leadscrub_pipeline_tests.asset_calls import ASSETS
from leadscrub_pipeline_tests.children import Order, Report


def execute(order: Order, *, row_limit: int | None, include: bool) -> tuple[str, Report]:
    """The run's id, which Dagster gives, and how it went. The clock of the whole process is the history's meanwhile."""
    config: dict[str, Any] = {"row_limit": row_limit} if row_limit is not None else {}
    if include:
        config["already_processed"] = "include"
    selected = tuple(order.assets)
    run_config = {"ops": {"raw_leads": {"config": config}}} if config and "raw_leads" in selected else {}
    report = Report(began=time.monotonic())
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in order.environment.items():
            patch.setenv(name, value)
        instance.add_dynamic_partitions("lead_scripts", [order.partition_key])
        with time_machine.travel(datetime.now(UTC) + order.clock, tick=True):
            result = defs.resolve_job_def("scrub_job").execute_in_process(
                partition_key=order.partition_key,
                instance=instance,
                run_config=run_config,
                raise_on_error=False,
                asset_selection=None if selected == ASSETS else [dg.AssetKey(name) for name in selected],
            )
    report.ended = time.monotonic()
    report.exit_code = 0 if result.success else 1
    for event in result.get_asset_materialization_events():
        if event.asset_key is not None:
            report.metadata[event.asset_key.to_user_string()] = {
                name: value.value for name, value in event.materialization.metadata.items()
            }
    for failure in result.get_step_failure_events():
        data = failure.step_failure_data
        report.failed_asset = failure.step_key
        if data.user_failure_data is not None:
            report.failure = data.user_failure_data.description or failure.message
        else:
            report.defect = str(data.error)
        break
    return result.run_id, report
