"""``leadscrub ledger unknown``: requests that may have been billed, and an operator's word on whether they were.

What follows from the word is decided in the ledger.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from leadscrub_pipeline.cli.output import JsonOption, note, print_json, print_table
from leadscrub_pipeline.cli.times import METAVAR, utc_time
from leadscrub_pipeline.deployment import open_ledger, read_ledger
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.ledger.unknowns import Repeats, Unknown, Wanted
from leadscrub_pipeline.settings import Settings, load_settings

app = typer.Typer(help="Requests of unknown outcome: list them, decide them.", no_args_is_help=True)


@app.command("list")
def list_(
    *,
    since: Annotated[
        datetime | None,
        typer.Option("--since", parser=utc_time, metavar=METAVAR, help="Sent from then on, in UTC."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", parser=utc_time, metavar=METAVAR, help="Sent before then, in UTC."),
    ] = None,
    script: Annotated[str | None, typer.Option("--script", metavar="KEY", help="Only of this lead script.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN_ID", help="Only of this run.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List requests that were sent, have no outcome, and that nobody has decided yet.

    The vendor knows each by its lookup id, as referenceId. repeats left: how many more requests about the same person
    the settings allow.
    """
    if since is not None and until is not None and since >= until:
        raise UsageError("--since must be before --until.")
    settings = load_settings()
    wanted = Wanted(since=since, until=until, partition_key=script, run_id=run)
    with read_ledger(settings) as ledger:
        found = [] if ledger is None else ledger.desk.unknowns(wanted, _repeats(settings))
    if as_json:
        print_json([_row(unknown) for unknown in found])
        return
    if not found:
        note("No requests of unknown outcome.")
        return
    print_table("Requests of unknown outcome", [_row(unknown) for unknown in found])
    total = sum(unknown.price for unknown in found)
    note(f"{len(found):,} requests, at most {total} dollars. Decide them: leadscrub ledger unknown resolve.")


@app.command()
def resolve(
    lookup_ids: Annotated[
        list[str] | None, typer.Argument(metavar="LOOKUP_ID...", help="As leadscrub ledger unknown list shows them.")
    ] = None,
    *,
    all_before: Annotated[
        datetime | None,
        typer.Option("--all-before", parser=utc_time, metavar=METAVAR, help="All that were sent before then, in UTC."),
    ] = None,
    billed: Annotated[
        bool | None,
        typer.Option(
            "--billed/--not-billed",
            help="Billed: the price counts as spent. Not billed: it returns to the caps, and the people may be asked "
            "about again.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Decide by the vendor's word whether requests of unknown outcome were billed."""
    if billed is None:
        raise UsageError("Say --billed or --not-billed.")
    if bool(lookup_ids) == (all_before is not None):
        raise UsageError("Name lookups, or give --all-before TIME; one of the two.")
    with open_ledger(load_settings()) as ledger:
        if all_before is not None:
            count = ledger.desk.resolve_before(all_before, billed=billed)
        else:
            count = ledger.desk.resolve(lookup_ids or (), billed=billed)
    decision = "billed" if billed else "not_billed"
    if as_json:
        print_json({decision: count})
    else:
        note(f"{count:,} requests resolved as {decision.replace('_', ' ')}.")


def _repeats(settings: Settings) -> Repeats:
    return Repeats(
        allowed=settings.idicore_max_unknown_repeats if settings.idicore_unknown_policy == "retry" else 0,
        within_days=settings.idicore_cache_days,
        across_purposes=settings.leadscrub_reuse_across_purposes,
    )


def _row(unknown: Unknown) -> dict[str, object]:
    row = asdict(unknown)
    return {"lookup_id": row.pop("lookup_id"), "sent_at": row.pop("sent_at"), "script": row.pop("partition_key"), **row}
