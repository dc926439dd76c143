"""``leadscrub ledger``: what was spent, and what becomes of misses that nobody believes.

Who may be asked and at what price is the ledger's own decision. Further commands of the group
have their own modules.
"""

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import typer

from leadscrub_pipeline.cli import unknowns
from leadscrub_pipeline.cli.backup import backup, restore
from leadscrub_pipeline.cli.output import JsonOption, note, print_json, print_table, reporting
from leadscrub_pipeline.cli.pause import print_pause
from leadscrub_pipeline.cli.reconcile import reconcile
from leadscrub_pipeline.cli.times import METAVAR, utc_time
from leadscrub_pipeline.deployment import PROVIDER, open_ledger, open_warehouse, read_ledger
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.ledger import Summary
from leadscrub_pipeline.ledger.controls import Pause
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.steps.rebuilding import rebuild_person_cache
from leadscrub_pipeline.steps.rekeying import rekey as rekey_people
from leadscrub_pipeline.vendors.idicore import endpoint_of

app = typer.Typer(help="Paid lookups: their cost, their unknowns, the invoice, backups.", no_args_is_help=True)
app.add_typer(unknowns.app, name="unknown")
app.command()(reconcile)
app.command()(backup)
app.command()(restore)


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

    A lookup is charged to the script that asked first. Reuse shows who else was served by it, and what asking again
    would have cost.
    """
    if since is not None and until is not None and since >= until:
        raise UsageError("--since must be before --until.")
    spent, pause = _read_summary(load_settings(), since, until)
    if as_json:
        print_json(_as_json(spent, pause, since, until))
        return
    if spent.rows:
        total = {"script": "all", "day": None, "outcome": None, "requests": spent.lookups}
        print_table(
            "Lookups, in dollars",
            [*_rows(spent), {**total, "cost": spent.cost, "unknown_cost": spent.unknown_cost}],
        )
        note(f"The bill lies between {spent.cost} and {spent.cost + spent.unknown_cost} dollars.")
    else:
        note("No lookups in this time." if since or until else "No lookups yet.")
    if spent.reuses:
        served = {"script": "all", "paid_by": None, "day": None, "leads": spent.reused}
        print_table(
            "Leads served by lookups that were paid before, in dollars",
            [*_reuse_rows(spent), {**served, "saved": spent.saved}],
        )
    print_pause(pause)


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


def _read_summary(settings: Settings, since: datetime | None, until: datetime | None) -> tuple[Summary, Pause | None]:
    """Without keys, and of a ledger of either kind; a ledger that was not made yet has spent nothing."""
    with read_ledger(settings) as ledger:
        if ledger is None:
            return Summary(()), None
        return ledger.summary(since=since, until=until), ledger.desk.paused()


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


def _reuse_rows(spent: Summary) -> list[dict[str, object]]:
    return [
        {
            "script": reuse.partition_key,
            "paid_by": reuse.paid_by,
            "day": reuse.day.isoformat(),
            "leads": reuse.lookups,
            "saved": reuse.saved,
        }
        for reuse in spent.reuses
    ]


def _as_json(spent: Summary, pause: Pause | None, since: datetime | None, until: datetime | None) -> dict[str, object]:
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
        "reused": {"leads": spent.reused, "saved": spent.saved, "rows": _reuse_rows(spent)},
        "paused": None if pause is None else pause._asdict(),
    }


@app.command()
def rebuild(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would change; write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make PERSON_CACHE again from the ledger and the publications.

    The cache says who needs no visit; the ledger alone decides on money. Use it when the warehouse's file was restored
    or changed by hand.
    """
    settings = load_settings()
    warehouse = open_warehouse(settings)
    with reporting("Rebuilding PERSON_CACHE"), open_ledger(settings) as ledger, warehouse.session() as session:
        found = rebuild_person_cache(session, warehouse.dialect, ledger, dry_run=dry_run)
    if as_json:
        print_json(asdict(found))
        return
    print_table("PERSON_CACHE", [{"what": name, "people": count} for name, count in asdict(found).items()])
    note("Nothing was written (--dry-run)." if dry_run else "PERSON_CACHE is rebuilt.")


@app.command()
def rekey(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would move; write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Carry everybody who was paid for over to the person keys of this release.

    Needed once when a release brings a new version of the keys; until then runs refuse to look anybody up. People are
    known by the master table and the leads that were selected last; of others only the old key is known, and they are
    counted. Published record ids stay. Started again, it goes on where it stopped.
    """
    settings = load_settings()
    with reporting("Rekeying") as report, open_ledger(settings) as ledger:
        found = rekey_people(open_warehouse(settings), ledger, dry_run=dry_run, report=report)
    if as_json:
        print_json(asdict(found))
        return
    if found.was_done:
        note(f"The ledger has the keys of version {found.version} already.")
        return
    counts = {name: count for name, count in asdict(found).items() if name not in {"was_done", "seconds"}}
    print_table("Rekey", [{"what": name, "count": count} for name, count in counts.items()])
    note("Nothing was written (--dry-run)." if dry_run else f"The keys are of version {found.version} now.")
