"""``leadscrub rescrub``: check again what is published, one run of Dagster.

What is checked and what changes is decided in steps/rescrub.py; starting and reading a run in job_runs.py.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Final, Literal

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from leadscrub_pipeline.cli.job_session import job_session
from leadscrub_pipeline.cli.output import JsonOption, cell, err, out
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.settings import Settings, load_settings

_PREFIX: Final = "rescrub_"
"""Of the numbers that rescrub_job reports about the master table."""
_OF_ATTEMPT: Final = frozenset({"rows_updated", "changed_meanwhile", "visits_changed"})


class Sources(Enum):
    """Which sources are asked again."""

    all = "all"
    dnc = "dnc"
    ccc = "ccc"


@dataclass(frozen=True, slots=True)
class Rescrubbed:
    """What became of the run. Without numbers it ended before its flags were set."""

    run_id: str | None
    """None when no run was started."""
    status: Literal["success", "failed", "canceled"]
    seconds: float
    exit_code: int = 0
    error: str | None = None
    numbers: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        values: dict[str, object] = {"run_id": self.run_id, "status": self.status, **self.numbers}
        values["seconds"] = round(self.seconds, 3)
        return values if self.error is None else {**values, "error": self.error}


def rescrub(
    *,
    sources: Annotated[
        Sources, typer.Option(help="all asks the Do-Not-Call registry and CCC again; dnc or ccc one of them.")
    ] = Sources.all,
    renew: Annotated[
        bool, typer.Option("--renew", help="Ask about every published phone, also where an answer still counts.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check again what is published: expired and unknown answers, and those of an older list. Costs no lookup.

    Goes through Dagster, so the run shows in the UI. Flags that are other ones now are set and
    counted both ways.
    """
    result = _run(load_settings(), sources, renew=renew)
    if result.error is not None:
        err.print(f"[bold red]rescrub:[/] {escape(result.error)}", soft_wrap=True)
    if as_json:
        typer.echo(orjson.dumps(result.as_dict()).decode())
    else:
        _print(result)
    raise typer.Exit(result.exit_code)


def _run(settings: Settings, sources: Sources, *, renew: bool) -> Rescrubbed:
    with job_session(settings) as (instance, report):
        # A usage error need not wait for what a run needs.
        from leadscrub_pipeline.assets import master_processed_db  # noqa: PLC0415
        from leadscrub_pipeline.cli.job_runs import run_job  # noqa: PLC0415
        from leadscrub_pipeline.deployment import open_ledger  # noqa: PLC0415
        from leadscrub_pipeline.steps.rescrub import LEASE  # noqa: PLC0415

        started = time.monotonic()
        run_id = str(uuid.uuid4())
        ops = {"rescrub": {"config": {"sources": sources.value, "renew": renew}}}
        try:
            with open_ledger(settings) as ledger, ledger.partition_lease(LEASE, holder=run_id):
                ended = run_job("rescrub_job", run_id, settings, instance, ops=ops, report=report)
        except LeadscrubError as error:
            # Before the run: another rescrub is at work, or the ledger cannot be used.
            return Rescrubbed(None, "failed", time.monotonic() - started, error.exit_code, str(error))
        table = master_processed_db.key.to_user_string()
        numbers = _numbers([told for asset, told in ended.observed if asset == table])
        return Rescrubbed(run_id, ended.status, time.monotonic() - started, ended.exit_code, ended.error, numbers)


def _numbers(attempts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The numbers of a run: what changed at each attempt of its step counts, of all else the last is told."""
    numbers: dict[str, int] = {}
    for told in attempts:
        for name, value in told.items():
            key = name.removeprefix(_PREFIX)
            numbers[key] = value + (numbers.get(key, 0) if _is_of_attempt(key) else 0)
    return numbers


def _is_of_attempt(key: str) -> bool:
    return key in _OF_ATTEMPT or "_became_" in key or "_to_" in key


def _print(result: Rescrubbed) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("rescrub", justify="right")
    for key, value in result.as_dict().items():
        if key not in {"run_id", "error"}:
            table.add_row(key.replace("_", " "), cell(value))
    out.print(table)
