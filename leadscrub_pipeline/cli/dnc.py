"""``leadscrub dnc``: the Do-Not-Call list as a file of ours: how it is made, what is in it, what was in it.

What makes a list and what a next version may not do stands in dnc/.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from leadscrub_pipeline.cli.output import (
    FINDINGS,
    JsonOption,
    note,
    print_json,
    print_table,
    reporting,
)
from leadscrub_pipeline.cli.times import METAVAR, utc_time
from leadscrub_pipeline.deployment import list_limits, list_path, masked_subscription, open_registry
from leadscrub_pipeline.domain.phones import parse_phone
from leadscrub_pipeline.domain.verdicts import Verdict
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.settings import load_settings

if TYPE_CHECKING:
    from leadscrub_pipeline.dnc.build_rules import Kind
    from leadscrub_pipeline.dnc.building import Built
    from leadscrub_pipeline.dnc.list_files import ListFacts
    from leadscrub_pipeline.dnc.past import PastLists

app = typer.Typer(
    help="The Do-Not-Call list: build, update, import, status, verify, check, diff.", no_args_is_help=True
)

_SHOWN_VERSIONS: Final = 12


def _time_or_end_of_day(text: str | datetime) -> datetime:
    """A time as other commands take it; a date alone means the end of that day."""
    moment = utc_time(text)
    is_day = isinstance(text, str) and len(text.strip()) == 10
    return moment + timedelta(days=1) - timedelta(microseconds=1) if is_day else moment


SourcesArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", exists=True, dir_okay=False, readable=True, help="Downloaded files, text or ZIP."
    ),
]
ObtainedOption = Annotated[
    datetime,
    typer.Option(
        parser=utc_time,
        metavar=METAVAR,
        help="When the files were downloaded, in UTC. The list is good for 31 days from then; file times do not count.",
    ),
]
ShrinkOption = Annotated[
    bool, typer.Option("--allow-shrink", help="Take a list that lost more numbers than DNC_MAX_SHRINK_SHARE allows.")
]


@app.command()
def build(
    files: SourcesArgument,
    *,
    obtained_at: ObtainedOption,
    allow_shrink: ShrinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the list anew from the FTC's full downloads, by area code or national.

    Lines are 212,5550123 or 2125550123. The list covers the area codes that are in the files: a number of any other
    is unknown, not clear. State lists go in beside them, as further files. The list in place stays until the new one
    is whole; a build that was ended goes on where it was when it is run again.
    """
    _make("full", tuple(files), obtained_at, allow_shrink=allow_shrink, as_json=as_json)


@app.command()
def update(
    files: SourcesArgument,
    *,
    obtained_at: ObtainedOption,
    allow_shrink: ShrinkOption = False,
    allow_gap: Annotated[
        bool, typer.Option("--allow-gap", help="Take change lists that do not follow the list in place, or are empty.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Apply the FTC's change lists to the list in place, in the order of their times.

    Lines are 2125550123,2026-08-29T08:00:00,A or D. Refused: a change list that was applied before, or begins more
    than DNC_MAX_GAP_HOURS after what is known.
    """
    _make("changes", tuple(files), obtained_at, allow_shrink=allow_shrink, allow_gap=allow_gap, as_json=as_json)


@app.command("import")
def import_(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", exists=True, dir_okay=False, help="The three-column file. Default: DNC_DATABASE_PATH."
        ),
    ] = None,
    *,
    obtained_at: ObtainedOption,
    allow_shrink: ShrinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take over a file with the columns area_code, phone_number and full_phone as a list of ours.

    It takes an eighth of the room. A file at DNC_DATABASE_PATH itself is kept beside, with .old after its name.
    Stored numbers that are no phones are counted by reason.
    """
    source = file or list_path(load_settings())
    _make("import", (source,), obtained_at, allow_shrink=allow_shrink, as_json=as_json)


def _make(
    kind: "Kind",
    sources: tuple[Path, ...],
    obtained_at: datetime,
    *,
    allow_shrink: bool,
    as_json: bool,
    allow_gap: bool = False,
) -> None:
    from leadscrub_pipeline.dnc.build_rules import Order  # noqa: PLC0415 - help does without Arrow
    from leadscrub_pipeline.dnc.building import build as make  # noqa: PLC0415

    settings = load_settings()
    path = list_path(settings)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    order = Order(
        kind,
        sources,
        obtained_at,
        subscription=masked_subscription(settings),
        allow_shrink=allow_shrink,
        allow_gap=allow_gap,
    )
    with reporting("Making the next list") as report:
        built = make(path, order, list_limits(settings), report=report)
    for warning in built.warnings:
        note(f"warning: {warning}")
    if as_json:
        print_json(_facts_json(built.facts) | _made_json(built))
        return
    if built.was_there:
        note(f"The list in place is {built.facts.version} already; nothing was done.")
    _print_facts(built.facts, {"numbers added": built.added, "numbers removed": built.removed})


@app.command()
def status(*, as_json: JsonOption = False) -> None:
    """Show the list in place: version, age, numbers, area codes, sources, index, and the versions kept.

    Ends with 1 when the list is past its age or of unknown age.
    """
    from leadscrub_pipeline.dnc.build_folder import under_way  # noqa: PLC0415
    from leadscrub_pipeline.dnc.bulk_index import open_index  # noqa: PLC0415
    from leadscrub_pipeline.dnc.list_files import read_facts  # noqa: PLC0415

    settings = load_settings()
    path = list_path(settings)
    with open_registry(settings) as registry:
        described = registry.describe()
        reason = registry.age_reason()
    facts = read_facts(path)
    index = open_index(path)
    found: dict[str, Any] = {
        **described,
        "obtained_at": registry.version.obtained_at,
        "file": str(path),
        "kind": None if facts is None else facts.kind,
        "subscription": None if facts is None else facts.subscription,
        "index": "missing or of another list" if index is None else "fits",
        "build_under_way": under_way(path),
    }
    if index is not None:
        index.close()
    versions: list[dict[str, Any]] = []
    if facts is not None:
        with _past(path) as past:
            versions = [_version_row(version) for version in past.chain]
    sources = [] if facts is None else [asdict(source) for source in facts.sources]
    if as_json:
        print_json(found | {"sources": sources, "versions": versions})
    else:
        _print_pairs(found)
        if sources:
            print_table("Made from", [_source_row(source) for source in sources])
        if versions:
            shown = [{name: _shown(value) for name, value in row.items()} for row in versions[:_SHOWN_VERSIONS]]
            more = "" if len(shown) == len(versions) else f" (the newest {len(shown)} of {len(versions)})"
            print_table(f"Versions kept{more}", shown)
        if facts is None:
            note("This file was not built by leadscrub: leadscrub dnc import takes it over.")
    if reason is not None:
        note(f"The list cannot clear a number: {reason.value}.")
        raise typer.Exit(FINDINGS)


@app.command()
def verify(*, as_json: JsonOption = False) -> None:
    """Read every number of the list in place, and see that they are those it was built with. Makes its index anew.

    A file that was not built by leadscrub has nothing to be compared with: what it holds is counted. Ends with 1 when
    stored numbers are no phones, and with 3 when the numbers are others.
    """
    from leadscrub_pipeline.dnc.bulk_index import build_index, malformed  # noqa: PLC0415
    from leadscrub_pipeline.dnc.list_files import read_facts  # noqa: PLC0415
    from leadscrub_pipeline.progress import Progress  # noqa: PLC0415

    settings = load_settings()
    path = list_path(settings)
    with open_registry(settings) as registry:
        version = registry.version
    facts = read_facts(path)
    with reporting("Reading the list") as report:
        progress = Progress(report, noun="numbers read", total=version.rows or 0)
        contents = build_index(path, of_compact=version.schema == "compact", done=progress.add)
    wrong = malformed(contents)
    found = {
        "list_version": version.name,
        "numbers": contents.rows,
        "malformed": wrong,
        "sha256": contents.sha256,
        "as_built": None if facts is None else True,
    }
    if as_json:
        print_json(found)
    else:
        _print_pairs(found)
    if wrong:
        raise typer.Exit(FINDINGS)


@app.command()
def check(
    numbers: Annotated[list[str], typer.Argument(metavar="NUMBER...", help="Phone numbers in any usual spelling.")],
    *,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            parser=_time_or_end_of_day,
            metavar=METAVAR,
            help="Ask the version that was in place then, in UTC; a date means its end. Default: now.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the list about numbers, as it is or as it was at a time that has passed.

    Only the Do-Not-Call list is asked, and nothing is stored; leadscrub check asks both lists. Ends with 1 when a
    number is listed or unknown, and with 2 when a text is no number.
    """
    settings = load_settings()
    parsed = {text: parse_phone(text).digits for text in numbers}
    bad = sum(phone is None for phone in parsed.values())
    if bad:
        raise UsageError(f"{bad} of {len(parsed)} texts are no numbers of the North American plan.")
    phones = {text: phone for text, phone in parsed.items() if phone is not None}
    rows: list[dict[str, object]] = []
    if as_of is None:
        with open_registry(settings) as registry:
            answers = registry.look_up(list(phones.values()))
            rows = [_answer_row(text, answers[phone], registry.version.name) for text, phone in phones.items()]
    else:
        with _past(list_path(settings)) as past:
            for text, phone in phones.items():
                found = past.answer(phone, as_of, max_age_days=settings.dnc_max_age_days)
                if found is None:
                    raise UsageError(f"No version that was in place at {as_of:%Y-%m-%d %H:%M}Z is kept.")
                rows.append(_answer_row(text, found.answer, found.version.version))
    if as_json:
        print_json(rows)
    else:
        print_table("The list says" if as_of is None else f"The list said at {as_of:%Y-%m-%d %H:%M}Z", rows)
    if any(row["verdict"] != Verdict.CLEAR for row in rows):
        raise typer.Exit(FINDINGS)


@app.command()
def diff(
    older: Annotated[str, typer.Argument(metavar="OLDER", help="Name of a version that is kept, or its beginning.")],
    newer: Annotated[
        str | None, typer.Argument(metavar="[NEWER]", help="A later version. Default: the one in place.")
    ] = None,
    *,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Print every number, with + or - before it, instead of counts.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what came and what went from one kept version to another, by area code."""
    path = list_path(load_settings())
    with _past(path) as past:
        start = past.find(older)
        end = past.chain[0] if newer is None else past.find(newer)
        rows: list[dict[str, object]] = []
        for one in past.difference(start, end):
            if numbers:
                for sign, part in (("+", one.added), ("-", one.removed)):
                    for number in part.tolist():
                        typer.echo(f"{sign}{number}")
            rows.append({"area_code": str(one.code), "added": len(one.added), "removed": len(one.removed)})
    if numbers:
        return
    if as_json:
        print_json({"older": start.version, "newer": end.version, "area_codes": rows})
    elif rows:
        print_table(f"From {start.version} to {end.version}", rows)
    else:
        note("The two versions hold the same numbers.")


@contextmanager
def _past(path: Path) -> Iterator["PastLists"]:
    from leadscrub_pipeline.dnc.building import versions_path  # noqa: PLC0415
    from leadscrub_pipeline.dnc.past import PastLists  # noqa: PLC0415

    with PastLists.open(path, versions_path(path)) as past:
        yield past


def _facts_json(facts: "ListFacts") -> dict[str, Any]:
    values: dict[str, Any] = asdict(facts)
    values["area_codes"] = {str(code): count for code, count in facts.area_codes.items()}
    return values


def _made_json(built: "Built") -> dict[str, Any]:
    return {
        "added": built.added,
        "removed": built.removed,
        "was_there": built.was_there,
        "warnings": built.warnings,
    }


def _print_facts(facts: "ListFacts", more: dict[str, object]) -> None:
    _print_pairs(
        {
            "list_version": facts.version,
            "obtained_at": facts.obtained_at,
            "numbers": facts.rows,
            "area_codes": len(facts.area_codes),
            **more,
        }
    )
    print_table("Made from", [_source_row(asdict(source)) for source in facts.sources])


def _print_pairs(values: dict[str, Any]) -> None:
    print_table("", [{"fact": name.replace("_", " "), "value": _shown(value)} for name, value in values.items()])


def _shown(value: object) -> object:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}Z"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def _source_row(source: dict[str, Any]) -> dict[str, object]:
    rejected = ", ".join(f"{reason} {count:,}" for reason, count in sorted(source["rejected"].items()))
    return {
        "file": source["name"],
        "lines": source["lines"],
        "rejected": rejected or None,
        "sha256": source["sha256"][:16],
    }


def _version_row(version: Any) -> dict[str, Any]:  # noqa: ANN401 - its module is imported when it is needed
    return {
        "version": version.version,
        "in_place_since": version.placed_at,
        "obtained_at": version.obtained_at,
        "numbers": version.rows,
        "added": version.added,
        "removed": version.removed,
    }


def _answer_row(text: str, answer: Any, version: str) -> dict[str, object]:  # noqa: ANN401 - as above
    return {"number": text, "verdict": answer.verdict, "reason": answer.reason, "list_version": version}
