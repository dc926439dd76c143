"""``leadscrub pause`` and ``leadscrub resume``: stop and go on paying for lookups, for all runs of a deployment.

How a running step obeys is the ledger's business: it is asked before each lookup is granted.
"""

from typing import Annotated, Final

import typer

from leadscrub_pipeline.cli.output import JsonOption, note, print_json
from leadscrub_pipeline.deployment import open_ledger, read_ledger
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.ledger.controls import Pause
from leadscrub_pipeline.settings import Settings, load_settings

_LONGEST_REASON: Final = 200


def pause(
    *,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Shown to whoever finds the ledger paused.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Grant no new paid lookup to any run, from its next claim on, until leadscrub resume.

    Runs go on: who is paid for is served, requests in flight are awaited, other leads are deferred with the reason
    paused and return by themselves.
    """
    if reason is not None and (len(reason) > _LONGEST_REASON or not reason.isprintable()):
        raise UsageError(f"--reason is one line of at most {_LONGEST_REASON} characters.")
    with open_ledger(load_settings()) as ledger:
        paused = ledger.desk.pause(reason)
    if as_json:
        print_json({"paused": paused._asdict()})
    else:
        print_pause(paused)


def resume(*, as_json: JsonOption = False) -> None:
    """Grant paid lookups again. Leads that were deferred come back with the next run of their script."""
    with open_ledger(load_settings()) as ledger:
        was_paused = ledger.desk.resume()
    if as_json:
        print_json({"paused": None, "was_paused": was_paused})
    else:
        note("Lookups are granted again." if was_paused else "Lookups were not paused.")


def pause_text(paused: Pause) -> str:
    reason = f" ({paused.reason})" if paused.reason else ""
    return f"Lookups are paused since {paused.since:%Y-%m-%d %H:%M} UTC{reason}. Go on: leadscrub resume."


def print_pause(paused: Pause | None) -> None:
    if paused is not None:
        note(pause_text(paused))


def note_pause(settings: Settings) -> None:
    """Tell whoever starts a run that it will pay for nothing."""
    with read_ledger(settings) as ledger:
        print_pause(None if ledger is None else ledger.desk.paused())
