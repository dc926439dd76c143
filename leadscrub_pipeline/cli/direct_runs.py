"""Runs that this command line starts by itself, not through Dagster's queue: how they are marked and cleared up.

A direct run that is killed stays STARTED for ever, because no daemon watches it.
"""

import os
from typing import Final

import dagster as dg
import psutil

from leadscrub_pipeline.ledger.owners import this_host
from leadscrub_pipeline.run_tags import LAUNCHED_BY

HOST: Final = "leadscrub/host"
PID: Final = "leadscrub/pid"
STARTED: Final = "leadscrub/process_started"

_UNFINISHED: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def tags_of_this_process() -> dict[str, str]:
    """What tells later whether the process of a run is still there."""
    return {
        HOST: this_host(),
        PID: str(os.getpid()),
        STARTED: f"{psutil.Process().create_time():.2f}",
        LAUNCHED_BY: "cli",
        # The daemon cannot start such a run again: it has no code location of its own.
        "dagster/max_retries": "0",
    }


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail every unfinished direct run of this host whose process is gone; return their ids."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED, tags={HOST: this_host(), LAUNCHED_BY: "cli"}))
    dead = [run for run in runs if not _is_alive(run)]
    for run in dead:
        instance.report_run_failed(run, "The process of this run ended without a word. Run the script again.")
    return [run.run_id for run in dead]


def _is_alive(run: dg.DagsterRun) -> bool:
    try:
        process = psutil.Process(int(run.tags[PID]))
        return abs(process.create_time() - float(run.tags[STARTED])) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False
