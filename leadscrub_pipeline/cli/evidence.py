"""``leadscrub evidence``: verify it, trace a number through it, hand it out for a period, delete it after its time.

What evidence is and whether it is sound is decided in the warehouse and the steps.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from leadscrub_pipeline.cli.findings import as_rows, by_chain, lines
from leadscrub_pipeline.cli.output import (
    FINDINGS,
    JsonOption,
    note,
    out,
    print_json,
    print_table,
    progress,
    reporting,
    stdin_is_terminal,
)
from leadscrub_pipeline.cli.times import METAVAR, utc_time
from leadscrub_pipeline.cli.trace_screen import show
from leadscrub_pipeline.deployment import deployment_kind, open_ledger, open_warehouse, read_ledger
from leadscrub_pipeline.domain.phones import mask_phone
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import FailedError, UsageError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.steps import tracing
from leadscrub_pipeline.steps.evidence_pack import Pack, write_pack
from leadscrub_pipeline.steps.evidence_pruning import PastChain, past_chains, require_allowed
from leadscrub_pipeline.steps.evidence_pruning import prune as prune_chains
from leadscrub_pipeline.steps.evidence_verification import FINDINGS_KEPT, Verification
from leadscrub_pipeline.steps.evidence_verification import verify as verify_evidence
from leadscrub_pipeline.steps.pack_facts import Told
from leadscrub_pipeline.warehouse.evidence import extents
from leadscrub_pipeline.warehouse.protocol import Warehouse

app = typer.Typer(
    help="Verify evidence, trace a number, export a period, prune what is past its time.", no_args_is_help=True
)

_MOST_FINDINGS: Final = 100
"""On the screen."""
_PRUNED_AND_PRESENT: Final = "pruned_and_present"
"""The finding that pruning again puts right."""


@app.command()
def verify(*, as_json: JsonOption = False) -> None:
    """Read all evidence and hold it against what the ledger sealed; exit code 1 when anything is not as written.

    It finds rows that were edited, deleted, inserted or moved, chains that were cut, seals that were changed, and clear
    verdicts that no evidence bears out. Rows that a run has not sealed yet are told, and are no finding.
    """
    settings = load_settings()
    with reporting("Verifying") as report, read_ledger(settings) as ledger:
        found = _verification(open_warehouse(settings), ledger, report)
    if as_json:
        print_json(_as_json(found))
    else:
        _show(found)
    if not found.is_sound:
        raise typer.Exit(FINDINGS)


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


@app.command()
def export(
    *,
    since: Annotated[
        datetime, typer.Option("--since", parser=utc_time, metavar=METAVAR, help="Checks made from then on, in UTC.")
    ],
    until: Annotated[
        datetime, typer.Option("--until", parser=utc_time, metavar=METAVAR, help="Checks made before then, in UTC.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder, mode 0700, whole or not at all.")
    ],
    masked: Annotated[
        bool,
        typer.Option(
            "--masked", help="No whole phone in any file, and no hash of a row from which one could be found."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a safe-harbour pack of a period: list versions, checks, process log, unknowns, failures and a report.

    For a lender's counsel (16 CFR 310.4(b)(3)(iv) and 310.5): CSV, a report that any browser shows, and a manifest
    with hashes. All evidence is verified on the way; with findings the pack is written, says so, and the exit code is
    1. A date starts its day: --since 2026-11-01 --until 2026-12-01 is November.
    """
    if since >= until:
        raise UsageError("--since must be before --until.")
    settings = load_settings()
    warehouse = open_warehouse(settings)
    with reporting(f"Writing {output}") as report, read_ledger(settings) as ledger:
        found = _verification(warehouse, ledger, report)
        pack = write_pack(
            warehouse,
            ledger,
            output,
            since=since,
            until=until,
            masked=masked,
            kind=deployment_kind(settings),
            verified=_told(found),
            report=report,
        )
    _show_pack(pack, found, as_json=as_json)
    if not found.is_sound:
        raise typer.Exit(FINDINGS)


@app.command()
def prune(
    *,
    before: Annotated[
        datetime,
        typer.Option(
            "--before", parser=utc_time, metavar=METAVAR, help="Chains whose last check was made before then."
        ),
    ],
    less_than_five_years: Annotated[
        bool,
        typer.Option(
            "--less-than-five-years", help="Delete evidence that the law wants kept, too; --reason must say why."
        ),
    ] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Kept in the ledger with what was deleted.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal nobody is asked.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete whole sealed chains of evidence that are older than a date, for good.

    Evidence is kept five years (16 CFR 310.5). All of it is verified first, and nothing is deleted when something was
    found. Chains that still back an answer, and those not sealed to their last row, stay. Run, asset, rows, last hash,
    time and reason stay in the ledger, and evidence verify knows of them.
    """
    now = utc_now()
    require_allowed(before, now=now, less_than_five_years=less_than_five_years, reason=reason)
    settings = load_settings()
    warehouse = open_warehouse(settings)
    with open_ledger(settings) as ledger:
        with reporting("Verifying") as report:
            found = verify_evidence(warehouse, ledger, report=report)
        others = {kind: count for kind, count in found.kinds.items() if kind != _PRUNED_AND_PRESENT}
        if others:
            raise FailedError(
                f"Verifying the evidence gave {sum(others.values()):,} findings, so nothing was deleted: what was "
                "tampered with must not vanish. Run leadscrub evidence verify."
            )
        past = past_chains(warehouse, ledger, before=before, now=now)
        if not past:
            _report_pruned(before, past, None, as_json=as_json)
            return
        if not yes and stdin_is_terminal():
            _confirm(before, past)
        with progress("Deleting"):
            done = prune_chains(warehouse, ledger, past, before=before, reason=reason)
    _report_pruned(before, past, None if done is None else done.pruned_at, as_json=as_json)


# --- verifying --------------------------------------------------------------------------


def _verification(warehouse: Warehouse, ledger: Ledger | None, report: Callable[[str], None]) -> Verification:
    if ledger is not None:
        return verify_evidence(warehouse, ledger, report=report)
    found = Verification()
    with warehouse.session() as session:
        there = extents(session)
    if there:
        rows = sum(extent.rows for extent in there)
        found.add("no_ledger", f"{rows:,} rows of evidence are there, and no ledger that sealed them.", (None, None))
    return found


def _told(found: Verification) -> Told:
    return Told(
        rows=found.rows,
        chains=found.chains,
        seals=found.seals,
        unsealed=found.unsealed_rows,
        findings=tuple(by_chain(found.findings)),
        count=found.kinds.total(),
    )


def _as_json(found: Verification) -> dict[str, Any]:
    return {
        "is_sound": found.is_sound,
        "rows": found.rows,
        "chains": found.chains,
        "seals": found.seals,
        "clear_verdicts_compared": found.verdicts,
        "rows_before_chains": found.earlier_rows,
        "pruned_chains": found.pruned_chains,
        "unsealed": [{"run_id": one.run_id, "asset": one.asset, "rows": one.rows} for one in found.unsealed],
        "findings_by_kind": dict(found.kinds),
        "findings": as_rows(found.findings),
        "seconds": round(found.seconds, 3),
        "rows_a_second": _rate(found),
    }


def _rate(found: Verification) -> int | None:
    return round(found.rows / found.seconds) if found.seconds > 0 else None


def _show(found: Verification) -> None:
    for line in lines(found.findings[:_MOST_FINDINGS]):
        out.print(line, markup=False, soft_wrap=True)
    left = found.kinds.total() - min(len(found.findings), _MOST_FINDINGS)
    if left > 0:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.kinds.items()))
        note(f"And {left:,} more; with --json the first {FINDINGS_KEPT:,} are told. In all: {kinds}.")
    for one in found.unsealed:
        note(
            f"{one.rows:,} rows of {one.asset} in run {one.run_id} are not sealed: the run is at work, or ended by a "
            "kill, and then the next run seals them."
        )
    if found.earlier_rows and not found.earlier_sealed:
        note(f"{found.earlier_rows:,} rows are older than the chains; the next run seals them as they are.")
    result = "Evidence is as it was written" if found.is_sound else f"{found.kinds.total():,} findings"
    note(
        f"{result}: {found.rows:,} rows in {found.chains:,} chains, {found.seals:,} seals, {found.verdicts:,} clear "
        f"verdicts, {found.pruned_chains:,} pruned chains; {found.seconds:.1f} s, {_rate(found) or 0:,} rows a second."
    )


# --- writing and deleting ---------------------------------------------------------------


def _show_pack(pack: Pack, found: Verification, *, as_json: bool) -> None:
    files = [{"file": file.name, "rows": file.rows, "sha256": file.sha256} for file in pack.files]
    if as_json:
        print_json({"folder": str(pack.folder), "files": files, "verification": _as_json(found)})
        return
    print_table(f"Pack in {pack.folder}", files)
    if not found.is_sound:
        note(f"Verifying gave {found.kinds.total():,} findings. The report lists them; leadscrub evidence verify, too.")


def _confirm(before: datetime, past: list[PastChain]) -> None:
    rows = sum(chain.rows for chain in past)
    question = (
        f"Delete {rows:,} rows of evidence in {len(past):,} chains, all made before {before:%Y-%m-%d %H:%M} UTC, "
        "for good?"
    )
    if not typer.confirm(question, err=True):
        note("Nothing was deleted.")
        raise typer.Exit(0)


def _report_pruned(before: datetime, past: list[PastChain], at: datetime | None, *, as_json: bool) -> None:
    rows = sum(chain.rows for chain in past)
    if as_json:
        chains = [
            {
                "run_id": chain.run_id,
                "asset": chain.asset,
                "script": chain.script,
                "rows": chain.rows,
                "first_checked_at": chain.first_checked_at.replace(tzinfo=UTC),
                "last_checked_at": chain.last_checked_at.replace(tzinfo=UTC),
            }
            for chain in past
        ]
        print_json({"before": before, "rows": rows, "pruned_at": at, "chains": chains})
    elif past:
        note(f"Deleted {rows:,} rows in {len(past):,} chains. Their seals stay in the ledger.")
    else:
        note(f"No sealed chain was made wholly before {before:%Y-%m-%d %H:%M} UTC.")
