"""``leadscrub ledger``: what was spent, and what becomes of misses that nobody believes.

Who may be asked and at what price is the ledger's own decision.
"""

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import typer

from leadscrub_pipeline.cli.output import JsonOption, note, print_json, print_table
from leadscrub_pipeline.cli.times import METAVAR, utc_time
from leadscrub_pipeline.deployment import PROVIDER, open_ledger, read_ledger
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.ledger import Summary
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.vendors.idicore import endpoint_of

app = typer.Typer(help="See what lookups cost; decide about suspect misses.", no_args_is_help=True)


@app.command()
def summary(
    *,
    since: Annotated[
        datetime | None,
        typer.Option("--since", parser=utc_time, metavar=METAVAR, help="Lookups claimed from then on, in UTC."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", parser=utc_time, metavar=METAVAR, help="Lookups claimed before then, in UTC."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what lookups cost, by script, UTC day and outcome.

    cost: dollars of requests whose outcome is known. unknown cost: dollars of requests that were sent and whose
    outcome is not known (yet). The vendor's bill lies between cost, and cost and unknown cost together.
    """
    if since is not None and until is not None and since >= until:
        raise UsageError("--since must be before --until.")
    spent = _read_summary(load_settings(), since, until)
    if as_json:
        print_json(_as_json(spent, since, until))
        return
    if not spent.rows:
        note("No lookups in this time." if since or until else "No lookups yet.")
        return
    total = {"script": "all", "day": None, "outcome": None, "requests": spent.lookups}
    print_table(
        "Lookups, in dollars",
        [*_rows(spent), {**total, "cost": spent.cost, "unknown_cost": spent.unknown_cost}],
    )
    note(f"The bill lies between {spent.cost} and {spent.cost + spent.unknown_cost} dollars.")


@app.command("release-suspects")
def release_suspects(
    *,
    believe: Annotated[
        bool | None,
        typer.Option(
            "--believe/--discard",
            help="Believe: they serve as misses until they expire. Discard: the people are asked about and paid again.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Decide about misses that were marked suspect because too many came in a row.

    They serve nobody until this is done. It is about the idiCORE address of the settings.
    """
    if believe is None:
        raise UsageError("Say --believe or --discard.")
    settings = load_settings()
    with open_ledger(settings) as ledger:
        count = ledger.release_suspects(provider=PROVIDER, endpoint=endpoint_of(settings), believe=believe)
    decision = "believed" if believe else "discarded"
    if as_json:
        print_json({decision: count})
    else:
        note(f"{count:,} suspect misses {decision}.")


def _read_summary(settings: Settings, since: datetime | None, until: datetime | None) -> Summary:
    """Without keys, and of a ledger of either kind; a ledger that was not made yet has spent nothing."""
    with read_ledger(settings) as ledger:
        return Summary(()) if ledger is None else ledger.summary(since=since, until=until)


def _rows(spent: Summary) -> list[dict[str, object]]:
    return [
        {
            "script": row.partition_key,
            "day": row.day.isoformat(),
            "outcome": row.outcome,
            "requests": row.lookups,
            "cost": row.cost,
            "unknown_cost": row.unknown_cost,
        }
        for row in spent.rows
    ]


def _as_json(spent: Summary, since: datetime | None, until: datetime | None) -> dict[str, object]:
    outcomes: Counter[str] = Counter()
    for row in spent.rows:
        outcomes[row.outcome] += row.lookups
    bill: dict[str, Decimal] = {"at_least": spent.cost, "at_most": spent.cost + spent.unknown_cost}
    return {
        "since": since,
        "until": until,
        "requests": spent.lookups,
        "outcomes": outcomes,
        "cost": spent.cost,
        "unknown_cost": spent.unknown_cost,
        "bill": bill,
        "rows": _rows(spent),
    }
