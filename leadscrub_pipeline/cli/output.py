"""What every command shares: results on standard output, everything else on standard error, and exit codes.

With ``--json`` standard output holds JSON and nothing else. Progress is shown on a terminal
only. Exit codes: 0 done, 1 findings or a failed run, 2 usage, 3 a dependency is
unavailable, 4 refused by policy.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Annotated, Any, Final, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from leadscrub_pipeline.errors import LeadscrubError

DONE: Final = 0
FINDINGS: Final = 1

out: Final = Console(highlight=False)
err: Final = Console(stderr=True, highlight=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]


def stdin_is_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def print_json(value: object) -> None:
    """One JSON document, keys in the order given."""
    typer.echo(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())


def print_table(title: str, rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> None:
    """Rows as a table; numbers to the right, nothing shown as a dash."""
    names = list(columns or (rows[0] if rows else ()))
    table = Table(title=title, title_justify="left")
    for name in names:
        numeric = bool(rows) and all(isinstance(row[name], int | float | Decimal | None) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row[name]) for name in names))
    out.print(table)


def note(text: str) -> None:
    """A line for the person at the terminal; never part of the result."""
    err.print(escape(text), soft_wrap=True)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """A spinner on standard error while something takes long, on a terminal only."""
    if err.is_terminal:
        with err.status(escape(text)):
            yield
    else:
        yield


@contextmanager
def reporting(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner with what the work itself says of its progress, on a terminal only."""
    if err.is_terminal:
        with err.status(escape(text)) as status:
            yield lambda line: status.update(escape(f"{text}: {line}"))
    else:
        yield lambda _line: None


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """An error of ours as its one sentence on standard error and its exit code; no traceback reaches the user."""
    try:
        yield
    except LeadscrubError as error:
        fail(error)


def fail(error: LeadscrubError) -> NoReturn:
    err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
    raise typer.Exit(error.exit_code)


def cell(value: object) -> str:
    """A value as tables show it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | Decimal) else escape(str(value))


def _plain(value: Any) -> object:  # noqa: ANN401 - whatever orjson does not know
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)
