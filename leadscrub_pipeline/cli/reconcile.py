"""``leadscrub ledger reconcile``: the vendor's invoice against the ledger.

What fits together and what does not is decided in the ledger.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import pyarrow as pa
import typer

from leadscrub_pipeline.cli.output import DONE, FINDINGS, JsonOption, note, print_json, print_table, progress
from leadscrub_pipeline.cli.times import METAVAR, utc_time
from leadscrub_pipeline.deployment import PROVIDER, open_ledger, read_ledger
from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.ledger.invoices import Invoice, InvoiceColumns
from leadscrub_pipeline.ledger.reconciliation import Finding, Reconciliation
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.warehouse.exports import whole_file, write_csv

_UNKNOWNS: Final = {"unknown_billed", "unknown_not_billed"}
_PAGE: Final = 5_000
_NAMES: Final = ["script" if field.name == "partition_key" else field.name for field in fields(Finding)]
_MONEY: Final = pa.decimal128(38, 6)
_TYPES: Final = {
    "line": pa.int64(),
    "sent_at": pa.timestamp("us"),
    "charged": _MONEY,
    "expected": _MONEY,
}
_SCHEMA: Final = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _NAMES])
_AT: Final = _NAMES.index("sent_at")
_AWARE: Final = pa.timestamp("us", "UTC")


def reconcile(
    invoice: Annotated[Path, typer.Argument(metavar="INVOICE.csv", help="The vendor's invoice, one row a charge.")],
    *,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since", parser=utc_time, metavar=METAVAR, help="Requests sent from then on. Default: its first day."
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--until", parser=utc_time, metavar=METAVAR, help="Requests sent before then. Default: after its last day."
        ),
    ] = None,
    column_reference: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column that holds the lookup's id, if it is not recognised.")
    ] = None,
    column_amount: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column that holds the dollars, if it is not recognised.")
    ] = None,
    column_date: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column that holds the date, if not recognised; '' for none.")
    ] = None,
    misses_are_free: Annotated[
        bool,
        typer.Option("--misses-are-free", help="The contract charges no misses: a charged one is a finding."),
    ] = False,
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Settle the unknown outcomes that the invoice decides. Nothing else is changed."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write all findings to FILE as CSV, mode 0600.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many findings to show.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Compare the vendor's invoice with the ledger, request by request.

    idiCORE bills a search whether or not it finds somebody, so a miss that was charged is shown and is no finding;
    --misses-are-free makes it one. A request of unknown outcome that is missing from the invoice was not billed for
    certain only when --since and --until are given; --apply leaves it alone otherwise. Ends with 1 on findings.
    """
    if since is not None and until is not None and since >= until:
        raise UsageError("--since must be before --until.")
    settings = load_settings()
    columns = InvoiceColumns(column_reference, column_amount, column_date)
    with Invoice(invoice, columns) as charges, _compared(settings, charges, since, until, misses_are_free) as found:
        if output is not None:
            _write(found, output)
        applied = _apply(settings, found) if apply else None
        code = _exit_code(found, applied)
        if as_json:
            print_json(_as_json(found, charges, applied, limit))
        else:
            _print(found, charges, applied, limit)
    raise typer.Exit(code)


@contextmanager
def _compared(
    settings: Settings, charges: Invoice, since: datetime | None, until: datetime | None, misses_are_free: bool
) -> Iterator[Reconciliation]:
    with progress("Comparing"), read_ledger(settings) as ledger:
        if ledger is None:
            raise UnavailableError("There is no ledger to compare the invoice with yet. See LEADSCRUB_HOME.")
        found = ledger.desk.reconcile(
            charges, provider=PROVIDER, since=since, until=until, misses_are_free=misses_are_free
        )
    with found:
        yield found


def _apply(settings: Settings, found: Reconciliation) -> dict[str, int]:
    billed, not_billed = found.decided(billed=True), found.decided(billed=False)
    with open_ledger(settings) as ledger:
        return {
            "billed": ledger.desk.resolve(billed, billed=True),
            "not_billed": ledger.desk.resolve(not_billed, billed=False),
        }


def _exit_code(found: Reconciliation, applied: Mapping[str, int] | None) -> int:
    """An unknown outcome that was settled just now is no finding any more; a row that could not be read is one."""
    findings = sum(found.counts().values()) - sum((applied or {}).values())
    return FINDINGS if findings or found.totals.rejected else DONE


def _row(finding: Finding) -> dict[str, object]:
    return dict(zip(_NAMES, (getattr(finding, field.name) for field in fields(Finding)), strict=True))


def _as_json(
    found: Reconciliation, charges: Invoice, applied: Mapping[str, int] | None, limit: int
) -> dict[str, object]:
    totals = found.totals
    return {
        "period": {"since": found.period.since, "until": found.period.until},
        "invoice": {
            "charges": totals.charges,
            "dollars": totals.charged,
            "outside_the_period": totals.outside,
            "rejected": totals.rejected,
            "first_rejected_line": charges.first_rejected,
        },
        "ledger": {"requests": totals.requests, "cost": totals.cost, "unknown_cost": totals.unknown_cost},
        "difference": totals.difference,
        "misses_charged": {"requests": totals.misses_charged, "dollars": totals.misses_charged_dollars},
        "counts": found.counts(),
        "applied": applied,
        "findings": [_row(finding) for finding in found.findings(limit=limit)],
    }


def _print(found: Reconciliation, charges: Invoice, applied: Mapping[str, int] | None, limit: int) -> None:
    totals, counts = found.totals, found.counts()
    print_table(
        "Both sides, in dollars",
        [
            {"": "invoice", "requests": totals.charges, "dollars": totals.charged, "unknown": None},
            {"": "ledger", "requests": totals.requests, "dollars": totals.cost, "unknown": totals.unknown_cost},
        ],
    )
    if counts:
        print_table("Findings", [{"kind": kind, "requests": count} for kind, count in counts.items()])
        shown = [_row(finding) for finding in found.findings(limit=limit)]
        if shown:
            print_table("", shown)
        if len(shown) < sum(counts.values()):
            note(f"The first {len(shown):,} of {sum(counts.values()):,} findings; all of them: --output FILE.")
    else:
        note("No findings.")
    period = found.period
    if period.since is not None or period.until is not None:
        note(f"Requests sent from {_time(period.since)} to before {_time(period.until)} belong to the invoice.")
    if totals.outside:
        note(f"{totals.outside:,} rows of the invoice are dated outside and were left out.")
    for reason, count in totals.rejected.items():
        note(f"{count:,} rows could not be read ({reason}), the first in line {charges.first_rejected[reason]:,}.")
    if totals.misses_charged:
        note(
            f"{totals.misses_charged:,} charges ({totals.misses_charged_dollars} dollars) are for misses. If the "
            "contract charges none, say --misses-are-free."
        )
    _print_unknowns(found, applied)


def _print_unknowns(found: Reconciliation, applied: Mapping[str, int] | None) -> None:
    unknown = sum(count for kind, count in found.counts().items() if kind in _UNKNOWNS)
    if applied is not None:
        note(f"Settled: {applied['billed']:,} unknown outcomes as billed, {applied['not_billed']:,} as not billed.")
        unknown -= sum(applied.values())
        if unknown:
            note(
                f"{unknown:,} are missing from the invoice and were left alone: say --since and --until, the invoice's "
                "own bounds, to settle them as not billed."
            )
    elif unknown:
        note("Settle the unknown outcomes as the invoice has them: --apply.")


def _time(moment: datetime | None) -> str:
    return "any time" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _write(found: Reconciliation, output: Path) -> None:
    def pages() -> Iterator[pa.Table]:
        rest = found.findings()
        while some := [_row(finding) for finding in islice(rest, _PAGE)]:
            yield pa.Table.from_pylist(some, schema=_SCHEMA.set(_AT, pa.field("sent_at", _AWARE))).cast(_SCHEMA)

    with whole_file(output) as stream:
        rows = write_csv(pages(), stream, _NAMES)
    note(f"{rows:,} findings written to {output}.")
