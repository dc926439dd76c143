"""``leadscrub doctor``: is everything in order that a run needs. Pays for nothing and changes no result.

Each check says what it found and what to do next. What a part needs to be in order is that part's own business.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import pyarrow as pa
import typer
from rich.markup import escape

from leadscrub_pipeline.cli.instance import pool_limits, require_storage
from leadscrub_pipeline.cli.output import DONE, FINDINGS, JsonOption, out, print_json, progress
from leadscrub_pipeline.cli.pause import pause_text
from leadscrub_pipeline.cli.scripts import lint_scripts
from leadscrub_pipeline.deployment import (
    deployment_kind,
    has_warehouse,
    open_ledger,
    open_registry,
    open_warehouse,
    purpose_of,
    read_ledger,
)
from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.domain.scripts import read_scripts, script_paths
from leadscrub_pipeline.errors import FailedError, LeadscrubError, RefusedError, UnavailableError
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.vendors.idicore import IdicoreClient
from leadscrub_pipeline.warehouse.migration import read_status

State = Literal["ok", "finding", "unavailable"]

_FREE_BYTES: Final = 2_000_000_000
_LOCK_WAIT: Final = 10.0
_CLOCK_SECONDS: Final = 60
_SCRATCH: Final = "DOCTOR_SCRATCH"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    state: State
    what: str


def doctor(
    *,
    local: Annotated[
        bool,
        typer.Option(
            "--local",
            help="For probes: touch no warehouse and no vendor, so that no virtual warehouse is kept awake.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look whether everything a run needs is in order, without a paid call.

    Each dependency is asked for the least that proves it: a sign-in, a read, a write that leaves nothing behind.
    Ends with 0 when all is in order, 1 on findings, 3 when a dependency cannot be reached.
    """
    with progress("Looking"):
        findings = examine(local=local)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = {"ok": "[green]ok[/]", "finding": "[yellow]finding[/]", "unavailable": "[red]unavailable[/]"}
            out.print(f"{mark[finding.state]} [bold]{finding.check}[/]: {escape(finding.what)}", soft_wrap=True)
    states = {finding.state for finding in findings}
    raise typer.Exit(
        UnavailableError.exit_code if "unavailable" in states else FINDINGS if "finding" in states else DONE
    )


def examine(*, local: bool = False) -> list[Finding]:
    """All findings, those that are in order too; ``local`` leaves out warehouse and vendors."""
    try:
        settings = load_settings()
    except LeadscrubError as error:
        return [_finding("settings", error)]
    # Whoever asks a doctor does not want to wait five minutes for a file that a run holds.
    settings = settings.model_copy(
        update={"leadscrub_lock_wait": min(settings.leadscrub_lock_wait, _LOCK_WAIT), "idicore_max_retries": 1}
    )
    findings = [Finding("settings", "ok", "All can be understood.")]
    for name, check in _CHECKS.items():
        if local and name in _FAR:
            continue
        try:
            findings += [Finding(name, state, what) for state, what in check(settings)]
        except LeadscrubError as error:
            findings.append(_finding(name, error))
    return findings


def _finding(check: str, error: LeadscrubError) -> Finding:
    return Finding(check, "unavailable" if isinstance(error, UnavailableError) else "finding", str(error))


# --- the checks: each gives states and sentences, or raises what it could not get past -----------

Found = Iterator[tuple[State, str]]


def _kind(settings: Settings) -> Found:
    kind = deployment_kind(settings)
    vendors = "simulated" if kind == "demo" else "real"
    yield "ok", f"This is a {kind} deployment with {vendors} vendors, at {settings.leadscrub_home.absolute()}."


def _home(settings: Settings) -> Found:
    home = settings.leadscrub_home
    there = home if home.exists() else next(parent for parent in home.absolute().parents if parent.exists())
    free = shutil.disk_usage(there).free
    enough = free >= _FREE_BYTES
    what = f"{free / 1e9:,.1f} GB are free for {home}."
    yield ("ok", what) if enough else ("finding", f"Only {what} Make room: paid answers are stored there.")
    if home.exists() and home.stat().st_mode & 0o077:
        yield "finding", f"{home} can be entered by others, and holds personal data. Run: chmod 700 {home}"


def _warehouse(settings: Settings) -> Found:
    if not has_warehouse(settings):
        yield "ok", f"{settings.warehouse_path} is not made yet; the first run makes it."
        return
    written = pa.table({"value": ["written"]})
    warehouse = open_warehouse(settings)
    with warehouse.session() as session:
        scratch = session.create_stage(_SCRATCH, written.schema, temporary=False)
        try:
            session.load(scratch, written)
            read = session.rows(f"SELECT value FROM {scratch}")
        finally:
            with suppress(LeadscrubError):  # what went wrong before matters more
                session.drop_stage(scratch)
        (theirs,) = session.rows(f"SELECT {warehouse.dialect.now()}")[0]
    if read != [("written",)]:
        raise FailedError("What was written to the warehouse did not come back. Check its disk.")
    changes = read_status(warehouse).changes
    for change in changes:
        yield "finding", f"{change.reason} See leadscrub db plan."
    if not changes:
        yield "ok", "Opens, its tables are as declared, and it can be written and read."
    if settings.leadscrub_warehouse == "snowflake":
        yield _difference("Snowflake's", theirs)


def _sources(settings: Settings) -> Found:
    """Whether the role that runs lead scripts may; the engine describes each result, and runs none."""
    if not has_warehouse(settings):
        yield "ok", "Not looked at before the first run has made the warehouse."
        return
    paths = script_paths(settings.leadscrub_scripts).values()
    may_run = {linted.script for linted in lint_scripts(settings, paths) if linted.ok}
    good = 0
    with open_warehouse(settings).session(scripts=True) as session:
        # A script's result is a stage table: the reading role makes it, and the writing one takes it from there.
        try:
            scratch = session.create_stage_as(_SCRATCH, "SELECT 1 AS value", script=True)
            session.rows(f"SELECT value FROM {scratch}")
            session.drop_stage(scratch)
        except RefusedError as error:
            raise RefusedError(
                "SNOWFLAKE_READER_ROLE could not make a stage table in PROCESSED_DATA_DB.LEADSCRUB, or SNOWFLAKE_ROLE "
                f"could not take it over: see sql/snowflake/5_grants.sql and 1_roles.sql. {error}"
            ) from None
        for script in read_scripts(settings.leadscrub_scripts):
            if script.key not in may_run:
                continue  # that is said already
            try:
                session.select_leads(script)
            except UnavailableError:
                raise
            except LeadscrubError as error:
                yield "finding", f"{script.key}: {error}"
            else:
                good += 1
    if good:
        yield "ok", f"{good} scripts could be run: their sources are there and may be read."


def _clock(settings: Settings) -> Found:
    """Expiry, leases and the age of lists are counted by this clock."""
    now = datetime.now(UTC)
    with read_ledger(settings) as ledger:
        days = [] if ledger is None else [row.day for row in ledger.summary().rows]
    if days and max(days) > now.date():
        what = (
            f"The ledger has lookups of {max(days)}, and this machine says {now.date()}: its clock is behind, "
            "or was ahead. Set it before anybody is looked up."
        )
        yield "finding", what
        return
    yield "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC, and nothing in the ledger is later."


def _difference(whose: str, theirs: datetime) -> tuple[State, str]:
    seconds = abs((datetime.now(UTC).replace(tzinfo=None) - theirs).total_seconds())
    if seconds > _CLOCK_SECONDS:
        return "finding", f"{whose} clock and this machine's differ by {seconds:,.0f} seconds. Set this machine's."
    return "ok", f"{whose} clock and this machine's agree within {_CLOCK_SECONDS} seconds."


def _answer_key(settings: Settings) -> Found:
    if settings.leadscrub_answer_key:
        yield "ok", f"{len(settings.leadscrub_answer_key)} configured."
    elif deployment_kind(settings) == "demo":
        yield "ok", "Not set; a demo makes its own."
    else:
        yield "finding", "LEADSCRUB_ANSWER_KEY is not set. A live ledger seals stored answers with it and needs it."


def _ledger(settings: Settings) -> Found:
    if settings.leadscrub_ledger_url is None and not settings.ledger_path.exists():
        yield "ok", f"{settings.ledger_path} is not made yet; the first run makes it."
        return
    with open_ledger(settings) as ledger:
        ledger.desk.require_writable()
        summary, pause = ledger.summary(), ledger.desk.paused()
    spent = f"{summary.lookups:,} lookups, {summary.cost} dollars settled"
    yield "ok", f"Opens and can be written, stamped {ledger.kind}; {spent}."
    unknown = sum(row.lookups for row in summary.rows if row.outcome == "unknown")
    if unknown:
        yield "ok", f"{unknown:,} of unknown outcome, at most {summary.unknown_cost} dollars more."
    if pause is not None:
        yield "finding", pause_text(pause)


def _registry(settings: Settings) -> Found:
    with open_registry(settings) as registry:
        described = registry.describe()
        registry.require_fresh()
    age, limit = described["age_days"], described["max_age_days"]
    yield (
        "ok",
        (
            f"Schema {described['schema']}, found by its index; {age} days old of at most {limit}, "
            f"{described['area_codes']} area codes."
        ),
    )


def _idicore(settings: Settings) -> Found:
    purposes = _purposes_of_scripts(settings)
    if not purposes:
        yield "finding", "No script has a permissible purpose, so there is nothing to sign in for."
        return

    async def sign_in() -> None:
        async with IdicoreClient(settings) as client:
            for purpose in purposes:
                await client.sign_in(purpose)

    asyncio.run(sign_in())
    yield "ok", f"Signs in for {', '.join(sorted(purpose.name for purpose in purposes))}. Nobody was looked up."
    if settings.idicore_price_per_lookup is None:
        yield "finding", "IDICORE_PRICE_PER_LOOKUP is not set: costs are counted as 0, and no budget can be kept."


def _ccc(settings: Settings) -> Found:
    yield "ok", "Not asked: it has no sign-in, and a question may be billed."
    if settings.ccc_api_key is None:
        yield "finding", "CCC_API_KEY is not set, so no litigator check can be made."
    if settings.ccc_control_numbers:
        yield "ok", f"{len(settings.ccc_control_numbers)} control numbers ride in every batch."
    elif deployment_kind(settings) == "live":
        yield (
            "finding",
            "CCC_CONTROL_NUMBERS is not set: an expired plan that answers false to everything would not be seen.",
        )


def _scripts(settings: Settings) -> Found:
    paths = script_paths(settings.leadscrub_scripts)
    if not paths:
        yield (
            "finding",
            f"There is no lead script in {settings.leadscrub_scripts}. Make one: leadscrub scripts new KEY.",
        )
        return
    results = lint_scripts(settings, paths.values())
    for result in results:
        for error in result.errors:
            yield "finding", f"{result.script}: {error}"
    if good := sum(result.ok for result in results):
        yield "ok", f"{good} of {len(results)} may run."


def _purposes(settings: Settings) -> Found:
    for script in read_scripts(settings.leadscrub_scripts):
        try:
            purpose_of(settings, script)
        except LeadscrubError as error:
            yield "finding", f"{script.key}: {error}"
    if names := sorted(purpose.name for purpose in _purposes_of_scripts(settings)):
        yield "ok", f"Used by scripts: {', '.join(names)}."


def _purposes_of_scripts(settings: Settings) -> set[Purpose]:
    found = set()
    for script in read_scripts(settings.leadscrub_scripts):
        try:
            found.add(purpose_of(settings, script))
        except LeadscrubError:
            continue
    return found


def _storage(settings: Settings) -> Found:
    where = "PostgreSQL" if settings.dagster_postgres_url is not None else "SQLite"
    if require_storage(settings):
        yield "ok", f"Dagster's runs and events are in {where}; it can be written and read."
    else:
        yield "ok", f"Dagster's storage ({where}) is not made yet; leadscrub setup or the first run makes it."


def _pools(settings: Settings) -> Found:
    limits = pool_limits(settings)
    for name, limit in limits.items():
        if limit is None:
            yield "finding", f"Pool {name} has no limit. Any leadscrub run or leadscrub dev sets it."
    if limits:
        shown = ", ".join(f"{name} {limit}" for name, limit in limits.items() if limit is not None)
        yield "ok", f"Runs at a time: {shown}."
    else:
        yield "ok", "Dagster's home is not made yet; the first run makes it."


_CHECKS: Final[dict[str, Callable[[Settings], Found]]] = {
    "kind": _kind,
    "home": _home,
    "scripts": _scripts,
    "purposes": _purposes,
    "warehouse": _warehouse,
    "sources": _sources,
    "answer key": _answer_key,
    "ledger": _ledger,
    "clock": _clock,
    "registry": _registry,
    "idiCORE": _idicore,
    "CCC": _ccc,
    "storage": _storage,
    "pools": _pools,
}
_FAR: Final = frozenset({"warehouse", "sources", "idiCORE", "CCC"})
"""Checks that touch the warehouse or a vendor."""
