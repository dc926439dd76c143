"""``leadscrub person``: everything held about one person, and its erasure.

Who is meant and what is theirs is decided in steps/person.py.
"""

import os
from pathlib import Path
from typing import Annotated

import orjson
import typer

from leadscrub_pipeline.cli.output import JsonOption, note, print_json, print_table, progress, stdin_is_terminal
from leadscrub_pipeline.deployment import open_ledger, open_warehouse
from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.steps.person import Wanted, erase_person, export_person

app = typer.Typer(help="Export or erase what is held about one person.", no_args_is_help=True)

RecordId = Annotated[str | None, typer.Option("--record-id", help="A row of the master table.")]
Phone = Annotated[
    str | None, typer.Option("--phone", help="A phone of the person; refused when several people have it.")
]
FirstName = Annotated[str | None, typer.Option("--first-name")]
LastName = Annotated[str | None, typer.Option("--last-name")]
Address = Annotated[str | None, typer.Option("--address")]
City = Annotated[str | None, typer.Option("--city")]
State = Annotated[str | None, typer.Option("--state")]
ZipCode = Annotated[str | None, typer.Option("--zip")]


@app.command()
def export(
    *,
    record_id: RecordId = None,
    phone: Phone = None,
    first_name: FirstName = None,
    last_name: LastName = None,
    address: Address = None,
    city: City = None,
    state: State = None,
    zip_code: ZipCode = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write there, for the owner's eyes only (0600).")
    ] = None,
) -> None:
    """Everything held about one person, as one JSON document.

    Lookups with their answers opened, published rows, the latest leads and contacts, verdicts and evidence of their
    phones, and whether they were erased. It does not see backups, exports made earlier, or your source tables.
    """
    wanted = _wanted(record_id, phone, Person(first_name or "", last_name or "", address or "", city, state, zip_code))
    settings = load_settings()
    with progress("Reading"), open_ledger(settings) as ledger:
        document = export_person(open_warehouse(settings), ledger, wanted)
    if output is None:
        print_json(document)
        return
    _write(output, document)
    note(f"Written to {output}.")


@app.command()
def erase(
    *,
    record_id: RecordId = None,
    phone: Phone = None,
    first_name: FirstName = None,
    last_name: LastName = None,
    address: Address = None,
    city: City = None,
    state: State = None,
    zip_code: ZipCode = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase one person, and never look them up again. It cannot be undone.

    Blanked: answers in the ledger; names, addresses, phones and e-mails in all tables of the warehouse; verdicts of
    phones that nobody else has. Kept: the person's key (a hash), costs, a mark that bars a new lookup, and the evidence
    of checks with its phone numbers, which must be kept for five years (16 CFR 310.5).

    Not reached, so see to them yourself: backups of ledger and warehouse (leadscrub ledger backup and your own), files
    exported earlier, the vendor, and your source tables, from which a run with already_processed: include takes the
    name and address into RAW_LEADS again. SQLite overwrites what was blanked; the embedded warehouse is checkpointed,
    but its file may keep the bytes of rows that were deleted or written anew until it uses their place again;
    PostgreSQL keeps them until VACUUM.
    """
    wanted = _wanted(record_id, phone, Person(first_name or "", last_name or "", address or "", city, state, zip_code))
    if not yes:
        _confirm()
    settings = load_settings()
    with progress("Erasing"), open_ledger(settings) as ledger:
        erased = erase_person(open_warehouse(settings), ledger, wanted)
    if as_json:
        print_json({"answers": erased.answers, "rows": erased.rows})
        return
    print_table(
        "Erased",
        [{"where": "answers in the ledger", "rows": erased.answers}]
        + [{"where": table, "rows": count} for table, count in erased.rows.items()],
    )
    note("Evidence of checks stays for five years (16 CFR 310.5). Backups and earlier exports still hold the person.")


def _wanted(record_id: str | None, phone: str | None, person: Person) -> Wanted:
    is_named = any(person)
    if sum((record_id is not None, phone is not None, is_named)) != 1:
        raise UsageError(
            "Say who in one way: --record-id, or --phone, or --first-name, --last-name, --address and --zip "
            "(or --city and --state)."
        )
    return Wanted(record_id=record_id, phone=phone, person=person if is_named else None)


def _confirm() -> None:
    if not stdin_is_terminal():
        raise UsageError("Nobody is there to confirm; say --yes.")
    if typer.prompt("This cannot be undone. Type erase to go on", default="", err=True) != "erase":
        raise UsageError("Not confirmed; nothing was erased.")


def _write(path: Path, document: object) -> None:
    text = orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z)
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text + b"\n")
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written ({type(error).__name__}).") from None
