"""The command ``leadscrub``: which commands there are, and the one place where their errors become exit codes.

A command's module is imported when it is called, so that help and tab completion do not
wait for Dagster or the warehouse. What a command does stands in its own module.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Final, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

PROGRAM: Final = "leadscrub"


class Entry(NamedTuple):
    """Where a command stands, as ``module:name`` below this package, and what it is for."""

    where: str
    help: str


COMMANDS: Final = {
    "demo": Entry("demo:demo", "The whole scrub on demo data with simulated vendors, offline."),
    "dev": Entry("dev:dev", "Dagster's UI and daemon on this machine."),
    "setup": Entry("setup:setup", "Dagster's home of a deployment: storage, pools, partitions of the scripts."),
    "simulate": Entry("simulate:simulate", "Simulated idiCORE, CCC and ntfy in the foreground."),
    "doctor": Entry("doctor:doctor", "Look whether everything a run needs is in order."),
    "settings": Entry("env_example:settings", "Every setting, as a .env file to start from."),
    "scripts": Entry("scripts:app", "Lead scripts: list, show, lint, new, retire."),
    "preview": Entry("preview:preview", "What scripts would select and cost. Pays for nothing."),
    "run": Entry("run:run", "Scrub the leads of scripts: select, enrich, flag, publish."),
    "rescrub": Entry("rescrub:rescrub", "Check again what is published. Costs no lookup."),
    "check": Entry("check:check", "Ask both lists about phone numbers."),
    "dnc": Entry("dnc:app", "The Do-Not-Call list: build, update, import, status, verify, check, diff."),
    "internal-dnc": Entry(
        "own_lists:internal_dnc", "The company's own list, of who asked us not to call: add, import, withdraw, status."
    ),
    "consents": Entry("own_lists:consents", "Consents that lift a listing: add, import, revoke, status."),
    "report": Entry("report:report", "One page on a script: from selected leads to callable phones."),
    "results": Entry("results:app", "Published leads: list, stats, export, withdraw."),
    "evidence": Entry("evidence:app", "Evidence of checks: verify, trace, export, prune."),
    "db": Entry("db:app", "The warehouse's tables and views: plan, migrate, status."),
    "adopt": Entry("adopt:adopt", "Take over what an older system paid for, from its master table and cache."),
    "person": Entry("person:app", "Export or erase what is held about one person."),
    "ledger": Entry("ledger:app", "Paid lookups and what they cost."),
    "alert-test": Entry("alert_test:alert_test", "Send a message to each ntfy topic, and say what came of it."),
    "pause": Entry("pause:pause", "Grant no new paid lookup to any run, until resume."),
    "resume": Entry("pause:resume", "Grant paid lookups again."),
}


class LazyGroup(TyperGroup):
    """Lists its commands from the table above, and imports one when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - Typer's context has no public type
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ANN401, ARG002 - as above
        """The command's name and help, which is all that help and completion of names need."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else TyperCommand(cmd_name, help=entry.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - as above
        # Typer looks here for what a mistyped command may have meant.
        self.commands = {name: TyperCommand(name) for name in COMMANDS}
        name, command, rest = super().resolve_command(ctx, args)
        return name, None if command is None else load_command(args[0]), rest

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - as above
        from leadscrub_pipeline.cli.output import errors_as_exit_codes  # noqa: PLC0415 - help does without it

        with errors_as_exit_codes():
            return super().invoke(ctx)


def load_command(name: str) -> Any:  # noqa: ANN401 - as above
    """Import a command; a module gives a function, or a Typer application of its own."""
    module_name, _, attribute = COMMANDS[name].where.partition(":")
    found: typer.Typer | Callable[..., object] = getattr(
        import_module(f"leadscrub_pipeline.cli.{module_name}"), attribute
    )
    if isinstance(found, typer.Typer):
        found.rich_markup_mode = None
        command: Any = get_group(found)
    else:
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(name)(found)
        command = get_command(one)
    command.name = name
    return command


app = typer.Typer(
    name=PROGRAM,
    cls=LazyGroup,
    no_args_is_help=True,
    # Boxes and colours in help triple the time it takes.
    rich_markup_mode=None,
    # A traceback with its locals would show leads.
    pretty_exceptions_enable=False,
    epilog=(
        "Exit codes: 0 done, 1 findings or a failed run, 2 usage, 3 a dependency is unavailable, 4 refused by policy."
    ),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {version('leadscrub-pipeline')}")
        raise typer.Exit


@app.callback()
def leadscrub(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Enrich leads, flag litigators and Do-Not-Call numbers, and publish what may be called."""


def main() -> None:
    """Run the command line and end the process.

    What no command foresaw ends here, as one sentence: a foreign error's text may quote a lead.
    """
    try:
        app(prog_name=PROGRAM)
    except Exception as error:  # noqa: BLE001 - the edge of the process
        _end_on_defect(error)


def _end_on_defect(error: Exception) -> NoReturn:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
    sys.stderr.write(
        f"error: {type(error).__name__}{where}. This is a defect of the program, not of your input; "
        "please report this line.\n"
    )
    sys.exit(1)
