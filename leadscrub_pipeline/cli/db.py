"""``leadscrub db``: the tables and views of PROCESSED_DATA_DB, as they are and as this release declares them.

What differs and how it is put right is warehouse/preparation.py's business.
"""

from dataclasses import asdict
from typing import Any, Final

import typer
from rich.markup import escape

from leadscrub_pipeline.cli.output import FINDINGS, JsonOption, note, out, print_json, print_table, progress
from leadscrub_pipeline.deployment import deployment_kind, open_warehouse
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.warehouse.migration import Applied, Status, migrate, read_status
from leadscrub_pipeline.warehouse.preparation import Change
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import DATABASE, SCHEMA_VERSION

app = typer.Typer(help="The warehouse's tables and views: plan, migrate, status.", no_args_is_help=True)

_SHOWN: Final = 10


@app.command()
def status(*, as_json: JsonOption = False) -> None:
    """Show whether the tables are those of this release, and what was applied to them.

    Ends with 0 when they are, 1 when something is missing or was changed.
    """
    settings, warehouse = _opened()
    with progress("Looking at the tables"):
        found = read_status(warehouse)
    if as_json:
        print_json(_facts(settings, found) | {"applied": [_applied_json(one) for one in found.applied]})
    else:
        _print_facts(settings, found)
        if found.applied:
            rows = [
                {
                    "applied_at": f"{one.applied_at:%Y-%m-%d %H:%M:%S}Z",
                    "target": _short(one.target),
                    "checksum": _mark(one),
                }
                for one in found.applied[-_SHOWN:]
            ]
            more = f" (the last {_SHOWN} of {len(found.applied)})" if len(found.applied) > _SHOWN else ""
            print_table(f"Applied by the program{more}", rows)
        note(_advice(settings, found))
    if not found.is_current or _edited(found) or _is_of_other_kind(settings, found):
        raise typer.Exit(FINDINGS)


@app.command()
def plan(*, as_json: JsonOption = False) -> None:
    """Print the statements that migrate would run, in order. Changes nothing.

    What somebody else changed is printed too, marked as to be done by hand. Ends with 1 when there is such a change.
    """
    settings, warehouse = _opened()
    with progress("Looking at the tables"):
        found = read_status(warehouse)
    if as_json:
        print_json(_facts(settings, found))
    else:
        for change in found.changes:
            mark = "" if change.additive else " By hand:"
            out.print(escape(f"--{mark} {change.reason}"), soft_wrap=True)
            out.print(escape(f"{change.statement};\n"), soft_wrap=True)
        note(_advice(settings, found))
    if any(not change.additive for change in found.changes):
        raise typer.Exit(FINDINGS)


@app.command("migrate")
def migrate_command(*, as_json: JsonOption = False) -> None:
    """Make the tables, columns and views that are missing, and record each statement with its checksum.

    Only what adds is applied: tables, columns, and the view, which holds no data. A table that somebody else changed
    is refused (exit code 4) with the statement to run by hand, and nothing is changed then.
    """
    _, warehouse = _opened()
    with progress("Bringing the tables up to date"):
        applied = migrate(warehouse)
    if as_json:
        print_json([_applied_json(one) for one in applied])
        return
    for one in applied:
        note(f"Applied: {_short(one.target)}")
    note(f"{len(applied):,} statements applied; {DATABASE} is as this release declares it.")


def _opened() -> tuple[Settings, Warehouse]:
    settings = load_settings()
    return settings, open_warehouse(settings)


def _facts(settings: Settings, found: Status) -> dict[str, Any]:
    return {
        "warehouse": settings.leadscrub_warehouse,
        "database": DATABASE,
        "kind": found.kind,
        "schema_version": found.schema_version,
        "release_schema_version": SCHEMA_VERSION,
        "is_current": found.is_current,
        "changes": [_change_json(change) for change in found.changes],
    }


def _change_json(change: Change) -> dict[str, object]:
    return asdict(change) | {"checksum": change.checksum}


def _applied_json(one: Applied) -> dict[str, object]:
    return asdict(one) | {"applied_at": f"{one.applied_at.isoformat()}Z", "is_intact": one.is_intact}


def _print_facts(settings: Settings, found: Status) -> None:
    place = "Snowflake" if settings.leadscrub_warehouse == "snowflake" else str(settings.warehouse_path)
    out.print(escape(f"{DATABASE} in {place}"), soft_wrap=True)
    stamped = found.kind or f"not yet; the settings are for {deployment_kind(settings)}"
    out.print(escape(f"Stamped: {stamped}"), soft_wrap=True)
    version = "none" if found.schema_version is None else found.schema_version
    out.print(f"Schema version: {version}; this release has {SCHEMA_VERSION}")


def _short(target: str) -> str:
    return target.removeprefix(f"{DATABASE}.")


def _mark(one: Applied) -> str:
    return f"{one.checksum[:12]}" if one.is_intact else "edited: not that of its statement"


def _edited(found: Status) -> list[Applied]:
    return [one for one in found.applied if not one.is_intact]


def _is_of_other_kind(settings: Settings, found: Status) -> bool:
    return found.kind not in (None, deployment_kind(settings))


def _advice(settings: Settings, found: Status) -> str:
    if _is_of_other_kind(settings, found):
        return (
            f"This warehouse is stamped {found.kind}, and the settings are for {deployment_kind(settings)}: every run "
            "refuses it. Use a warehouse of that kind, or set the vendors' addresses."
        )
    by_hand = [change for change in found.changes if not change.additive]
    if by_hand:
        return (
            f"{len(by_hand):,} changes must be made by hand: somebody changed a table. Run those statements "
            "(leadscrub db plan prints them), then leadscrub db migrate."
        )
    if found.changes:
        return f"{len(found.changes):,} statements are to be applied. Run: leadscrub db migrate"
    if not found.is_recorded:
        return "The tables are as declared, and that is not recorded yet. Run: leadscrub db migrate"
    if edited := _edited(found):
        return (
            f"All is as this release declares it. {len(edited):,} rows of SCHEMA_CHANGES were edited: their statement "
            "is not that of their checksum. Put it back, or delete those rows when you know why."
        )
    return "All is as this release declares it."
