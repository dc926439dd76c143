"""``leadscrub scripts``: look at lead scripts, find what is wrong with them, start a new one, retire an old one.

What a script may do is the domain's business; nothing here runs one.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import orjson
import typer

from leadscrub_pipeline.cli.output import FINDINGS, JsonOption, note, out, print_json, print_table
from leadscrub_pipeline.cli.script_arguments import ScriptsArgument, complete_script, require_script
from leadscrub_pipeline.domain.lint import lint_script
from leadscrub_pipeline.domain.purposes import DEFAULT
from leadscrub_pipeline.domain.scripts import LeadScript, new_script_text, read_script, read_scripts, script_paths
from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.warehouse.sources import find_sources, readable

app = typer.Typer(help="Lead scripts: one SQL file is one partition.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class Linted:
    script: str
    ok: bool
    errors: list[str]


@app.command("list")
def list_scripts(*, as_json: JsonOption = False) -> None:
    """The scripts of the folder LEADSCRUB_SCRIPTS."""
    settings = load_settings()
    rows = [_described(script) for script in read_scripts(settings.leadscrub_scripts)]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(f"Lead scripts in {settings.leadscrub_scripts}", rows, ["script", "title", "owner", "purpose"])
    else:
        note(f"There is no lead script in {settings.leadscrub_scripts}. Make one: leadscrub scripts new KEY.")


@app.command()
def show(
    script: Annotated[str, typer.Argument(help="Key of the script.", autocompletion=complete_script)],
    *,
    as_json: JsonOption = False,
) -> None:
    """One script: what its header says, and its text."""
    folder = load_settings().leadscrub_scripts
    found = read_script(require_script(script_paths(folder), script, folder))
    if as_json:
        print_json({**_described(found), "sql": found.sql})
        return
    for name, value in _described(found).items():
        if value is not None:
            out.print(f"{name.replace('_', ' '):<12} {value}", markup=False, soft_wrap=True)
    out.print()
    typer.echo(found.sql.rstrip("\n"))


@app.command()
def lint(scripts: ScriptsArgument = None, *, as_json: JsonOption = False) -> None:
    """Everything that is wrong with the scripts, found without running them. Ends with 1 on findings.

    With --json one object a line and script.
    """
    settings = load_settings()
    folder = settings.leadscrub_scripts
    paths = script_paths(folder)
    chosen = {key: require_script(paths, key, folder) for key in scripts} if scripts else paths
    results = lint_scripts(settings, chosen.values())
    if as_json:
        for result in results:
            typer.echo(orjson.dumps(asdict(result)).decode())
    else:
        for result in results:
            out.print(f"{result.script}: {'ok' if result.ok else 'findings'}", markup=False)
            for error in result.errors:
                out.print(f"  {error}", markup=False, soft_wrap=True)
    if not all(result.ok for result in results):
        raise typer.Exit(FINDINGS)


@app.command()
def new(
    key: Annotated[str, typer.Argument(help="Small letters, digits, _ and -; it names the file and the partition.")],
    *,
    title: Annotated[str | None, typer.Option(help="What readers see instead of the key.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a first version of a script, for you to fill. An existing one is never touched."""
    folder = load_settings().leadscrub_scripts
    text = new_script_text(key, title=title, owner=owner)
    path = folder / f"{key}.sql"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        other = script_paths(folder).get(key, path)
        if other.exists():
            raise UsageError(f"{other} is there already. Choose another key.")
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already. Choose another key.") from None
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written ({type(error).__name__}).") from None
    if as_json:
        print_json({"script": key, "path": str(path)})
    else:
        out.print(f"Wrote {path}. Fill it, then: leadscrub scripts lint {key}", markup=False, soft_wrap=True)


@app.command("retire")
def retire_script(
    script: Annotated[str, typer.Argument(help="Key of a script whose file was removed.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Take the partition of a removed script out of Dagster. Published rows, evidence and the ledger stay.

    Refused while the file is still there, and while a run or a backfill is at work on it.
    """
    from leadscrub_pipeline.cli.retire import retire  # noqa: PLC0415 - the other commands do without Dagster

    settings = load_settings()
    retire(script, settings)
    if as_json:
        print_json({"script": script, "retired": True})
        return
    out.print(f"Partition {script} is gone from Dagster.", markup=False, soft_wrap=True)
    note(f"What it published stays. To take that out of CALLABLE_PHONES: leadscrub results withdraw {script}")


def lint_scripts(settings: Settings, paths: Iterable[Path]) -> list[Linted]:
    """The errors of each file, by the rules of this deployment."""
    may_read = readable(
        find_sources(settings.leadscrub_sources),
        allowed=settings.leadscrub_allowed_databases,
        database=settings.snowflake_database,
        schema=settings.snowflake_schema,
        is_embedded=settings.leadscrub_warehouse == "duckdb",
    )
    results = []
    for path in paths:
        errors = lint_script(
            path,
            allowed_databases=may_read.databases,
            default_database=may_read.default_database,
            default_schema=may_read.default_schema,
            purposes={DEFAULT, *settings.leadscrub_purposes},
        )
        results.append(Linted(path.stem, not errors, errors))
    return results


def _described(script: LeadScript) -> dict[str, object]:
    return {
        "script": script.key,
        "title": script.title,
        "owner": script.owner,
        "purpose": script.purpose or DEFAULT,
        "description": script.description,
        "databases": sorted(script.databases) if script.databases is not None else None,
        "path": str(script.path),
        "script_hash": script.script_hash,
    }
