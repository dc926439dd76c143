"""What every command does around jobs that it runs in this process: signals, the instance, dead runs, progress.

It does not wait for Dagster until a job is about to start; the job itself stands in job_runs.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape

from leadscrub_pipeline.cli.interrupts import sigterm_as_interrupt
from leadscrub_pipeline.cli.output import err, note
from leadscrub_pipeline.settings import Settings

if TYPE_CHECKING:
    import dagster as dg


@contextmanager
def job_session(settings: Settings) -> Iterator[tuple["dg.DagsterInstance", Callable[[str], None]]]:
    """The deployment's instance, cleared of this host's dead runs, and what tells on standard error how far a run is.

    SIGTERM does within it what Ctrl-C does.
    """
    with sigterm_as_interrupt(), _progress() as report:
        # A usage error need not wait for Dagster.
        from leadscrub_pipeline.cli.direct_runs import fail_dead_runs  # noqa: PLC0415
        from leadscrub_pipeline.cli.instance import open_instance  # noqa: PLC0415

        with open_instance(settings) as instance:
            for run_id in fail_dead_runs(instance):
                note(f"Run {run_id} had lost its process and was marked as failed.")
            yield instance, report


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """One line that changes, on a terminal only."""
    if not err.is_terminal:
        yield lambda _text: None
        return
    with err.status("Starting Dagster") as status:
        yield lambda text: status.update(escape(text))
