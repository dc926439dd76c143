"""``leadscrub evidence``: verify it, trace a number through it, hand it out for a period, delete it after its time.

What evidence is and whether it is sound is decided in the warehouse and the steps.
"""

from typing import Annotated

import typer

from leadscrub_pipeline.cli.output import JsonOption, print_json, progress
from leadscrub_pipeline.cli.trace_screen import show
from leadscrub_pipeline.deployment import open_warehouse, read_ledger
from leadscrub_pipeline.domain.phones import mask_phone
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.steps import tracing

app = typer.Typer(
    help="Verify evidence, trace a number, export a period, prune what is past its time.", no_args_is_help=True
)


@app.command()
def trace(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PHONE|RECORD_ID|RUN",
            help="A phone number, a record_id of the master table, or the whole id of a run.",
        ),
    ],
    *,
    show_personal: Annotated[
        bool, typer.Option("--show-personal", help="Show the whole phones of a record. Default: masked.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell the whole story of a number, of a record's numbers, or of a run.

    Of a number: who holds it, which lookup brought it, every check with list version and seal, the verdicts now, and
    whether it may be called and until when, or why not. Nobody is shown by name. Times are UTC.
    """
    settings = load_settings()
    with progress("Reading"), read_ledger(settings) as ledger:
        told = tracing.trace(open_warehouse(settings), ledger, name)
    if told["kind"] == "record" and not show_personal:
        for phone in told["phones"]:
            phone["phone"] = mask_phone(phone["phone"])
    if as_json:
        print_json(told)
    else:
        show(told)
