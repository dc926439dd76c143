"""``leadscrub internal-dnc`` and ``leadscrub consents``: requests not to be called, and consents to be called.

What counts as one stands in domain/consents.py, and how entries are kept in steps/own_lists.py.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import uuid4

import typer

from leadscrub_pipeline.cli.output import FINDINGS, JsonOption, note, print_json, print_table, reporting
from leadscrub_pipeline.cli.times import METAVAR, utc_time
from leadscrub_pipeline.deployment import open_ledger, open_warehouse
from leadscrub_pipeline.domain.consents import LONGEST_TEXT, Consent, ConsentKind, DncRequest, is_plain
from leadscrub_pipeline.domain.phones import read_digits
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.settings import load_settings

if TYPE_CHECKING:
    from leadscrub_pipeline.steps.own_list_files import Entry, Rejected
    from leadscrub_pipeline.steps.own_lists import Taken
    from leadscrub_pipeline.warehouse.own_lists import OwnList

internal_dnc = typer.Typer(
    help="The company's own list, of who asked us not to call: add, import, withdraw, status.", no_args_is_help=True
)
consents = typer.Typer(help="Consents that lift a listing: add, import, revoke, status.", no_args_is_help=True)

BY_COMMAND: Final = "command line"

NumbersArgument = Annotated[list[str], typer.Argument(metavar="NUMBER...", help="Phone numbers in any usual spelling.")]
FilesArgument = Annotated[
    list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, readable=True, help="CSV, UTF-8.")
]
SourceOption = Annotated[str, typer.Option(help="How it reached us: call, letter, web form, ticket number.")]
WhyOption = Annotated[str, typer.Option("--why", help="Why it ends; kept for ever. No personal data.")]


# --- requests not to be called ----------------------------------------------------------


@internal_dnc.command("add")
def add_requests(
    numbers: NumbersArgument,
    *,
    requested_at: Annotated[
        datetime | None,
        typer.Option(parser=utc_time, metavar=METAVAR, help="When the request was made, in UTC. Default: now."),
    ] = None,
    source: SourceOption = BY_COMMAND,
    as_json: JsonOption = False,
) -> None:
    """Add numbers that asked us not to call. From this moment on they are not callable.

    Flags of published rows are set at once, and runs under way honour it. No consent and no clear answer of the
    registry lifts it; only withdraw does.
    """
    moment = _past(requested_at or utc_now(), "--requested-at")
    _plain(source, "--source")
    entries = [DncRequest(phone, moment, source) for phone in _phones(numbers)]
    _take_in(_company_list(), [("", entries)], as_json=as_json)


@internal_dnc.command("import")
def import_requests(files: FilesArgument, *, as_json: JsonOption = False) -> None:
    """Add the requests of CSV files with the columns phone and requested_at, and perhaps source.

    A line that cannot be taken is named by its number and reason and keeps none of the others from being honoured;
    the command ends with 1 then. What is there already is counted and not added twice.
    """
    from leadscrub_pipeline.steps.own_list_files import read_requests  # noqa: PLC0415 - help does without it

    now = utc_now()
    _take_in(_company_list(), [(file.name, read_requests(file, now=now)) for file in files], as_json=as_json)


@internal_dnc.command()
def withdraw(numbers: NumbersArgument, *, why: WhyOption, as_json: JsonOption = False) -> None:
    """End the requests of numbers that asked to be called again. The registry's and CCC's answers decide from then on.

    The requests stay in the table with the time at which they ended, and in the evidence.
    """
    _end(_company_list(), numbers, why=why, kind=None, as_json=as_json)


@internal_dnc.command("status")
def company_list_status(*, as_json: JsonOption = False) -> None:
    """Count the requests, and the numbers that must not be called by them."""
    _status(_company_list(), as_json=as_json)


# --- consents ---------------------------------------------------------------------------


@consents.command("add")
def add_consents(
    numbers: NumbersArgument,
    *,
    kind: Annotated[ConsentKind, typer.Option(help="What it rests on.")],
    given_at: Annotated[
        datetime, typer.Option(parser=utc_time, metavar=METAVAR, help="When it was given or the relationship began.")
    ],
    proof: Annotated[str, typer.Option(help="Where the proof is kept: number of a contract, name of a recording.")],
    expires_at: Annotated[
        datetime | None,
        typer.Option(parser=utc_time, metavar=METAVAR, help="An earlier end than the rule's."),
    ] = None,
    source: SourceOption = BY_COMMAND,
    as_json: JsonOption = False,
) -> None:
    """Add consents of numbers to be called although the registry lists them.

    A transaction counts for 18 months and an inquiry for 3; a written consent until it is revoked, or until
    --expires-at. A consent never lifts a litigator hit, a request on the company's list, or an answer that is unknown.
    """
    moment = _past(given_at, "--given-at")
    _plain(source, "--source")
    _plain(proof, "--proof")
    entries = [Consent(phone, kind, moment, proof, source, expires_at) for phone in _phones(numbers)]
    _take_in(_consents(), [("", entries)], as_json=as_json)


@consents.command("import")
def import_consents(files: FilesArgument, *, as_json: JsonOption = False) -> None:
    """Add the consents of CSV files with the columns phone, kind, given_at and proof, perhaps expires_at and source.

    A line that cannot be taken is named by its number and reason, and the command ends with 1 then.
    """
    from leadscrub_pipeline.steps.own_list_files import read_consents  # noqa: PLC0415 - help does without it

    now = utc_now()
    _take_in(_consents(), [(file.name, read_consents(file, now=now)) for file in files], as_json=as_json)


@consents.command()
def revoke(
    numbers: NumbersArgument,
    *,
    why: WhyOption,
    kind: Annotated[ConsentKind | None, typer.Option(help="Only those of this kind. Default: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """End consents that were taken back; at once the registry decides again.

    Who takes back a consent often asks not to be called at all: that is leadscrub internal-dnc add.
    """
    _end(_consents(), numbers, why=why, kind=kind, as_json=as_json)


@consents.command("status")
def consents_status(*, as_json: JsonOption = False) -> None:
    """Count the consents, and the numbers that have one now."""
    _status(_consents(), as_json=as_json)


# --- what both do -----------------------------------------------------------------------


def _company_list() -> "OwnList":
    from leadscrub_pipeline.warehouse.own_lists import COMPANY_LIST_ENTRIES  # noqa: PLC0415 - help does without it

    return COMPANY_LIST_ENTRIES


def _consents() -> "OwnList":
    from leadscrub_pipeline.warehouse.own_lists import CONSENTS_GIVEN  # noqa: PLC0415 - as above

    return CONSENTS_GIVEN


def _take_in(own: "OwnList", files: Sequence[tuple[str, Iterable["Entry | Rejected"]]], *, as_json: bool) -> None:
    from leadscrub_pipeline.steps.own_lists import take_in  # noqa: PLC0415 - as above

    settings = load_settings()
    with reporting("Taking in") as report, open_ledger(settings) as ledger:
        result = take_in(open_warehouse(settings), ledger, own, files, run_id=str(uuid4()), report=report)
    told = {
        "entries_read": result.read,
        "added": result.added,
        "there_already": result.there_already,
        "rejected": result.rejected.total(),
        "published_rows_changed": result.rows_set,
    }
    if as_json:
        print_json(told | {"rejected_by_reason": dict(result.rejected), "rejected_lines": _lines(result)})
    else:
        print_table(own.table.name, [told])
        for line in _lines(result):
            note(f"{line['file']} line {line['line']}: {line['reason']}")
        if result.rejected.total() > len(result.lines):
            note(f"and {result.rejected.total() - len(result.lines):,} more lines")
    if result.rejected:
        raise typer.Exit(FINDINGS)


def _lines(result: "Taken") -> list[dict[str, Any]]:
    return [{"file": file, "line": line, "reason": reason} for file, line, reason in result.lines]


def _end(own: "OwnList", numbers: Sequence[str], *, why: str, kind: str | None, as_json: bool) -> None:
    from leadscrub_pipeline.steps.own_lists import end_entries  # noqa: PLC0415 - as above

    _plain(why, "--why")
    phones = _phones(numbers)
    settings = load_settings()
    with reporting("Ending"), open_ledger(settings) as ledger:
        ended, rows = end_entries(
            open_warehouse(settings), ledger, own, phones, run_id=str(uuid4()), why=why, kind=kind
        )
    told = {"ended": ended, "published_rows_changed": rows}
    if as_json:
        print_json(told)
    else:
        print_table(own.table.name, [told])
    if not ended:
        note("No entry about these numbers stands.")
        raise typer.Exit(FINDINGS)


def _status(own: "OwnList", *, as_json: bool) -> None:
    from leadscrub_pipeline.warehouse.own_lists import count_entries  # noqa: PLC0415 - as above

    with open_warehouse(load_settings()).session() as session:
        counts = count_entries(session, own, utc_now())
    told = {"entries": counts.entries, "standing": counts.standing, "phones": counts.phones}
    if as_json:
        print_json(told)
    else:
        print_table(own.table.name, [told])


def _phones(numbers: Sequence[str]) -> list[str]:
    """Ten digits each.

    Raises:
        UsageError: a text is no number; which one, but not what it says.
    """
    read = [read_digits(text) for text in numbers]
    bad = [str(place) for place, one in enumerate(read, start=1) if one.digits is None]
    if bad:
        raise UsageError(
            f"Not a phone number of ten digits: argument {', '.join(bad)} of {len(numbers)}. Nothing was stored."
        )
    return list(dict.fromkeys(one.digits for one in read if one.digits is not None))


def _past(moment: datetime, option: str) -> datetime:
    if moment > utc_now():
        raise UsageError(f"{option} is in the future.")
    return moment


def _plain(text: str, option: str) -> None:
    if not is_plain(text):
        raise UsageError(f"{option} must be one line of at most {LONGEST_TEXT} characters.")
