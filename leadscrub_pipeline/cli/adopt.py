"""``leadscrub adopt``: people whom an older system paid for, taken over before the first live run.

What counts as paid for is decided in steps/adoption.py and the ledger.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from leadscrub_pipeline.cli.output import JsonOption, note, print_json, print_table, reporting
from leadscrub_pipeline.deployment import open_ledger, open_warehouse
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.steps import adoption
from leadscrub_pipeline.steps.adoption import Adopted


def adopt(
    *,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="CSV or Parquet of the older system's lookups: the six identity columns, looked_up_at, outcome.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only; write nothing.")] = False,
    none: Annotated[
        bool, typer.Option("--none", help="Adopt nothing: start afresh, and pay for people in the table again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take over what an older system paid for.

    Reads PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB as it is and leaves its rows alone. Each person in it counts as
    looked up when the row was processed, at no cost: nobody pays for them again for IDICORE_CACHE_DAYS (a row with a
    phone or an e-mail) or IDICORE_MISS_DAYS (one without). Started again, it goes on where it stopped.
    """
    if none and (cache is not None or dry_run):
        raise UsageError("--none adopts nothing, so it goes with neither --cache nor --dry-run.")
    settings = load_settings()
    with open_ledger(settings) as ledger:
        if none:
            adoption.adopt_nothing(ledger)
            _show(Adopted(), "Nothing adopted; runs may start.", as_json=as_json)
            return
        with reporting("Adopting") as report:
            found = adoption.adopt(
                open_warehouse(settings), ledger, settings, cache=cache, dry_run=dry_run, report=report
            )
    _show(found, "Nothing was written (--dry-run)." if dry_run else "Adopted.", as_json=as_json)


def _show(found: Adopted, sentence: str, *, as_json: bool) -> None:
    values = {**asdict(found), "unusable": dict(sorted(found.unusable.items())), "seconds": round(found.seconds, 3)}
    if as_json:
        print_json(values)
        return
    reasons = {f"unusable: {reason}": count for reason, count in values.pop("unusable").items()}
    print_table(
        "Adoption", [{"what": name.replace("_", " "), "count": count} for name, count in (values | reasons).items()]
    )
    note(sentence)
