"""``leadscrub run``: scrub the leads of scripts, one run of Dagster a script.

Starting and reading a run is in ``scrub.py``; here are arguments, progress and output.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from leadscrub_pipeline.cli.interrupts import INTERRUPTED
from leadscrub_pipeline.cli.job_session import job_session
from leadscrub_pipeline.cli.output import JsonOption, cell, err, out
from leadscrub_pipeline.cli.pause import note_pause
from leadscrub_pipeline.cli.script_arguments import AllOption, ScriptsArgument, chosen_scripts
from leadscrub_pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from leadscrub_pipeline.cli.scrub import Scrubbed

_ABREAST: Final = 4
"""Scripts beside each other in a table; more do not fit on a terminal."""


class AlreadyProcessed(Enum):
    """What to do with people who were published before and need no second visit."""

    skip = "skip"
    include = "include"


def run(
    scripts: ScriptsArgument = None,
    *,
    everything: AllOption = False,
    row_limit: Annotated[
        int | None, typer.Option(min=0, help="Keep at most so many leads a script. For a first try of a new one.")
    ] = None,
    already_processed: Annotated[
        AlreadyProcessed,
        typer.Option(help="skip leaves out who was published before; include sends them through with cached contacts."),
    ] = AlreadyProcessed.skip,
    as_json: JsonOption = False,
) -> None:
    """Scrub the leads of scripts: select, enrich, flag, publish.

    Goes through Dagster, so each run shows in the UI. With --json one object a line and script.
    """
    settings = load_settings()
    keys = chosen_scripts(settings.leadscrub_scripts, scripts, everything=everything)
    note_pause(settings)
    results = []
    for result in scrub(keys, settings, row_limit=row_limit, already_processed=already_processed):
        results.append(result)
        if as_json:
            typer.echo(orjson.dumps(result.as_dict()).decode())
    if not as_json:
        print_results(results)
    raise typer.Exit(exit_code(results))


def scrub(
    keys: Sequence[str],
    settings: Settings,
    *,
    row_limit: int | None = None,
    already_processed: AlreadyProcessed = AlreadyProcessed.skip,
) -> Iterator["Scrubbed"]:
    """Scrub the scripts in the deployment's instance, telling on standard error how far it is."""
    with job_session(settings) as (instance, report):
        from leadscrub_pipeline.cli.scrub import Selection, scrub_scripts  # noqa: PLC0415 - usage errors do not wait for it

        selection = Selection(row_limit, already_processed.value)
        for result in scrub_scripts(keys, settings, instance, selection, report=report):
            if result.error is not None:
                err.print(f"[bold red]{escape(result.script)}:[/] {escape(result.error)}", soft_wrap=True)
            yield result


def exit_code(results: Iterable["Scrubbed"]) -> int:
    """The worst of the scripts; an interrupt above all."""
    codes = [result.exit_code for result in results]
    return INTERRUPTED if INTERRUPTED in codes else max(codes, default=0)


def print_results(results: Sequence["Scrubbed"]) -> None:
    """One column a script, because there are more numbers than scripts."""
    for first in range(0, len(results), _ABREAST):
        shown = [result.as_dict() for result in results[first : first + _ABREAST]]
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("")
        for result in shown:
            table.add_column(escape(str(result["script"])), justify="right", overflow="fold")
        for key in shown[0]:
            if key not in {"script", "run_id", "error"}:
                table.add_row(key.replace("_", " "), *(cell(result.get(key)) for result in shown))
        out.print(table)
