"""``leadscrub report``: the scrub report of one script, made anew from the warehouse, the ledger and past runs.

What it tells, and how it looks, stands with the steps that gather and render it.
"""

import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from leadscrub_pipeline.cli.output import note, print_json, progress, stdin_is_terminal
from leadscrub_pipeline.cli.script_arguments import complete_script, require_script
from leadscrub_pipeline.deployment import deployment_kind, open_warehouse, read_ledger
from leadscrub_pipeline.domain.scripts import read_script, script_paths
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.steps.report_page import save
from leadscrub_pipeline.steps.scrub_report import PastRun, ScrubReport, gather
from leadscrub_pipeline.warehouse.report_figures import read_figures

_STANDARD_OUTPUT: Final = Path("-")


class Form(StrEnum):
    HTML = "html"
    MARKDOWN = "markdown"


_SUFFIXES: Final = {Form.HTML: ".html", Form.MARKDOWN: ".md"}


def report(
    script: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="Key of a lead script.", autocompletion=complete_script)
    ],
    *,
    form: Annotated[Form, typer.Option("--format", help="HTML with charts, or the same as Markdown.")] = Form.HTML,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to FILE, mode 0600, or with - to standard output. Default: LEADSCRUB_HOME/reports/SCRIPT.html.",
        ),
    ] = None,
    open_it: Annotated[
        bool,
        typer.Option("--open/--no-open", help="Open the page in the browser. Without a terminal it is never opened."),
    ] = True,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the numbers as JSON. A page is then written only with --output."),
    ] = False,
) -> None:
    """Make the report of a script as it stands now: leads, phones by verdict, spend, unknowns, trend.

    Counts only, no personal data. What is callable and unknown is as of now, also when the last run is long past.
    """
    if as_json and output == _STANDARD_OUTPUT:
        raise UsageError("--json and --output - both claim standard output. Leave one of them away.")
    settings = load_settings()
    with progress("Gathering the report"):
        made = _gathered(script, settings)
    if as_json:
        print_json(made.as_dict())
        if output is None:
            return
    text = _rendered(made, form)
    if output == _STANDARD_OUTPUT:
        typer.echo(text, nl=False)
        return
    path = output or settings.reports_folder / f"{script}{_SUFFIXES[form]}"
    save(path, text)
    note(f"Report of {script} written to {path}.")
    if open_it and form is Form.HTML and not as_json and stdin_is_terminal():
        _open(path)


def _gathered(script: str, settings: Settings) -> ScrubReport:
    now = utc_now()
    paths = script_paths(settings.leadscrub_scripts)
    with open_warehouse(settings).session() as session:
        figures = read_figures(session, script, now=now)
    if figures is None:
        require_script(paths, script, settings.leadscrub_scripts)
        raise UsageError(f"Script {script} was never run here. Run it first: leadscrub run {script}.")
    with read_ledger(settings) as ledger:
        return gather(
            figures,
            ledger,
            _past_runs(script, settings),
            # A script whose file was taken away keeps its past.
            title=read_script(paths[script]).title if script in paths else script,
            kind=deployment_kind(settings),
            price=settings.idicore_price_per_lookup,
            made_at=now,
        )


def _past_runs(script: str, settings: Settings) -> list[PastRun]:
    # A usage error need not wait for Dagster.
    from leadscrub_pipeline.assets.past_runs import past_runs  # noqa: PLC0415
    from leadscrub_pipeline.cli.instance import open_instance  # noqa: PLC0415

    with open_instance(settings) as instance:
        return past_runs(instance, script)


def _rendered(made: ScrubReport, form: Form) -> str:
    # The library of the charts is loaded for a page only.
    from leadscrub_pipeline.steps import scrub_report_markdown, scrub_report_page  # noqa: PLC0415

    return scrub_report_page.render(made) if form is Form.HTML else scrub_report_markdown.render(made)


def _open(path: Path) -> None:
    if not webbrowser.open(path.absolute().as_uri()):
        note("No browser could be opened.")
