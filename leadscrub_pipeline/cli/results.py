"""``leadscrub results``: look at what is published, export it, withdraw it.

What a row holds, and which phones may be called, is decided in the warehouse.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from leadscrub_pipeline.cli.output import (
    JsonOption,
    note,
    print_json,
    print_table,
    progress,
    stdin_is_terminal,
)
from leadscrub_pipeline.cli.times import METAVAR, utc_time
from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.domain.phones import mask_phone
from leadscrub_pipeline.domain.scripts import find_script
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.warehouse import results
from leadscrub_pipeline.warehouse.exports import Format, json_value, whole_file, write_results
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.results import Choice, Withdrawal
from leadscrub_pipeline.warehouse.schema import MASTER

app = typer.Typer(help="Look at published results, export them, withdraw them.", no_args_is_help=True)

ScriptOption = Annotated[str | None, typer.Option("--script", metavar="KEY", help="Only rows of this lead script.")]
SinceOption = Annotated[
    datetime | None,
    typer.Option(
        "--since", parser=utc_time, metavar=METAVAR, help="Only rows written since this date or ISO time, in UTC."
    ),
]

_PHONES: Final = ("phone_1", "phone_2", "phone_3")
_PERSONAL: Final = frozenset(column.name for column in MASTER.columns if column.personal)
_ROW_COUNTS: Final = ("script", "rows", "without_phone", "litigators", "litigator_unknown", "withdrawn")
_PHONE_COUNTS: Final = ("script", "phones", "dnc_listed", "dnc_unknown", "distinct_phones", "callable")
_SUFFIXES: Final = {".csv": Format.CSV, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".parquet": Format.PARQUET}


@app.command("list")
def list_(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many rows, the newest first.")] = 20,
    script: ScriptOption = None,
    since: SinceOption = None,
    show_personal: Annotated[
        bool,
        typer.Option(
            "--show-personal", help="Show names, addresses, e-mails and whole phones. Default: masked phones."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the rows that were written last.

    Flags are as they were published; what may be called now says results export --callable.
    """
    settings = load_settings()
    warehouse = open_warehouse(settings)
    _require_known(warehouse, settings, script)
    with warehouse.session() as session:
        found = results.newest_rows(session, Choice(script=script, since=since), limit=limit).to_pylist()
    rows = [_listed(row, show_personal=show_personal) for row in found]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(f"Newest {len(rows)} rows of {MASTER.name}", [_table_row(row, show_personal) for row in rows])
    else:
        note("Nothing is published yet." if script is None and since is None else "No published row fits.")


@app.command()
def stats(*, as_json: JsonOption = False) -> None:
    """Count what is published, by script and in all.

    phones: phone columns that hold a number. litigators: rows with in_litigator_list TRUE. dnc listed: phone columns
    with a flag TRUE. unknown: NULL flags of rows or columns with a phone. callable: distinct phones in
    CALLABLE_PHONES now. A phone that two scripts hold counts once in the total of distinct and callable phones.
    """
    warehouse = open_warehouse(load_settings())
    with progress("Counting results"), warehouse.session() as session:
        by_script, total = results.count_results(session, warehouse.dialect)
    if as_json:
        scripts = [{"script": key, **asdict(counts)} for key, counts in by_script.items()]
        print_json({"scripts": scripts, "total": asdict(total)})
        return
    named = [{"script": name, **asdict(counts)} for name, counts in [*by_script.items(), ("all", total)]]
    print_table(f"Rows of {MASTER.name}", named, _ROW_COUNTS)
    print_table("Their phones", named, _PHONE_COUNTS)
    if total.unknown_by_reason:
        reasons = [{"reason": reason, "flags": count} for reason, count in sorted(total.unknown_by_reason.items())]
        print_table("Why flags are unknown", reasons)


@app.command()
def export(
    *,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by the ending of FILE, else csv.", show_default=False),
    ] = None,
    script: ScriptOption = None,
    since: SinceOption = None,
    exclude_litigators: Annotated[
        bool,
        typer.Option(
            "--exclude-litigators",
            help="Leave out rows whose in_litigator_list is TRUE. Rows where it is NULL, not known, stay.",
        ),
    ] = False,
    only_callable: Annotated[
        bool,
        typer.Option(
            "--callable",
            help=(
                "Only what may be called now: rows with a phone in CALLABLE_PHONES. A phone of such a row that "
                "may not be called is left empty, and so is its flag."
            ),
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to FILE, mode 0600, whole or not at all. Default: standard output.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="With --output: report the file, its format and rows as JSON. Without: the same as --format jsonl.",
        ),
    ] = False,
) -> None:
    """Write published results as CSV, JSON lines or Parquet.

    The 23 columns of MASTER_PROCESSED_DB in their order, names in lower case, rows by record_id, times in UTC.
    additional_data is an object in JSON lines, and its text in CSV and Parquet; it stands as published.

    In CSV a cell that starts with = + - @, a tab or a line break gets an apostrophe in front, so that no
    spreadsheet runs it as a formula. Phones are plain ten digits.
    """
    settings = load_settings()
    chosen = _export_format(format_, output, as_json=as_json)
    choice = Choice(script=script, since=since, exclude_litigators=exclude_litigators, only_callable=only_callable)
    warehouse = open_warehouse(settings)
    _require_known(warehouse, settings, script)
    pages = results.read_pages(warehouse, choice)
    if output is None:
        with _standard_output() as stream:
            write_results(pages, stream, chosen)
        return
    with progress(f"Writing {output}"), whole_file(output) as stream:
        rows = write_results(pages, stream, chosen)
    if as_json:
        print_json({"file": str(output), "format": chosen.value, "rows": rows})
    else:
        note(f"{rows:,} rows written to {output}.")


@app.command()
def withdraw(
    name: Annotated[str, typer.Argument(metavar="SCRIPT|RUN", help="Key of a lead script, or id of a run.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal nobody is asked.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take the phones of a script's or run's published rows out of CALLABLE_PHONES.

    Rows and evidence stay. A phone is out for every script that holds it, until the withdrawn rows are published
    again. A run's rows are those that it wrote last.
    """
    warehouse = open_warehouse(load_settings())
    with warehouse.session() as session:
        found = results.find_withdrawal(session, name)
    if not yes and stdin_is_terminal():
        _confirm(found)
    with warehouse.session() as session:
        rows = results.withdraw(session, found)
        left = results.find_withdrawal(session, name).callable
    if as_json:
        print_json(
            {found.kind: name, "rows": rows, "phones": found.phones, "no_longer_callable": found.callable - left}
        )
    else:
        note(
            f"Withdrew {rows:,} rows of {found.kind} {name}. Of their {found.phones:,} phones "
            f"{found.callable - left:,} were callable and are no longer."
        )


def _confirm(found: Withdrawal) -> None:
    question = (
        f"Withdraw {found.rows:,} rows of {found.kind} {found.name}? They hold {found.phones:,} phones, "
        f"{found.callable:,} of them callable now."
    )
    if not typer.confirm(question, err=True):
        note("Nothing was withdrawn.")
        raise typer.Exit(0)


def _require_known(warehouse: Warehouse, settings: Settings, script: str | None) -> None:
    """A script without published rows is fine when its file is there; anything else is a slip of the pen."""
    if script is None:
        return
    with warehouse.session() as session:
        published = results.published_scripts(session)
    if script not in published:
        find_script(settings.leadscrub_scripts, script)


def _export_format(format_: Format | None, output: Path | None, *, as_json: bool) -> Format:
    if output is not None:
        return format_ or _SUFFIXES.get(output.suffix.lower(), Format.CSV)
    if as_json and format_ not in (None, Format.JSONL):
        raise UsageError(
            f"--json and --format {format_} both claim standard output. Give --output FILE, or one of them."
        )
    chosen = Format.JSONL if as_json else format_ or Format.CSV
    if chosen is Format.PARQUET and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal. Give --output FILE, or send standard output elsewhere.")
    return chosen


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    """Standard output for bytes; a reader that has had enough ends the command without a complaint."""
    try:
        stream = typer.get_binary_stream("stdout")
        yield stream
        stream.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- what a row looks like on the screen ------------------------------------------------


def _listed(row: dict[str, Any], *, show_personal: bool) -> dict[str, Any]:
    row["additional_data"] = json_value(row["additional_data"])
    if show_personal:
        return row
    reasons = _null_reasons(row)
    row.update({name: row[name] and mask_phone(row[name]) for name in _PHONES})
    shown = {name: value for name, value in row.items() if name in _PHONES or name not in _PERSONAL}
    return {**shown, "null_reasons": reasons}


def _null_reasons(row: dict[str, Any]) -> dict[str, str | None]:
    extra = row["additional_data"]
    provenance = extra.get("provenance") if isinstance(extra, dict) else None
    reasons = provenance.get("null_reasons") if isinstance(provenance, dict) else None
    return reasons if isinstance(reasons, dict) else {}


def _table_row(row: dict[str, Any], show_personal: bool) -> dict[str, object]:
    reasons = _null_reasons(row) if show_personal else row["null_reasons"]
    shown: dict[str, object] = {
        "processed_at": f"{row['processed_at']:%Y-%m-%d %H:%M}",
        "script": row["table_id"],
        "record": row["record_id"][:8],
    }
    if show_personal:
        shown["name"] = _joined(row["first_name"], row["last_name"])
        shown["address"] = _joined(row["address"], row["city"], row["state"], row["zip_code"])
    held = [name for name in _PHONES if row[name]]
    shown["phones"] = "\n".join(row[name] for name in held) or None
    if show_personal:
        shown["emails"] = "\n".join(row[f"email_{i}"] for i in (1, 2, 3) if row[f"email_{i}"]) or None
    shown["in_dnc"] = "\n".join(_flag(row[f"{name}_in_dnc"], reasons.get(f"{name}_in_dnc")) for name in held) or None
    shown["in_litigator_list"] = _flag(row["in_litigator_list"], reasons.get("in_litigator_list"))
    return shown


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _flag(value: bool | None, reason: str | None) -> str:
    return f"unknown ({reason or 'no reason recorded'})" if value is None else "TRUE" if value else "FALSE"
