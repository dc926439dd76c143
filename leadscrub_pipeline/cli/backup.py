"""``leadscrub ledger backup`` and ``restore``: the ledger in a file of its own, and back again.

What a backup holds and how two ledgers are merged is decided in the ledger.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from leadscrub_pipeline.cli.output import JsonOption, note, print_json, progress
from leadscrub_pipeline.deployment import open_ledger, read_ledger
from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.ledger.restoring import Restored
from leadscrub_pipeline.ledger.sealing import key_file_of
from leadscrub_pipeline.settings import Settings, load_settings


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup: one SQLite file, mode 0600.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the whole ledger, as it is at this moment, into one file; runs may go on meanwhile.

    Answers stay sealed in it. The key is not in it: without the key, a backup cannot be restored.
    """
    settings = load_settings()
    with progress("Copying"), read_ledger(settings) as ledger:
        if ledger is None:
            raise UnavailableError("There is no ledger to back up yet. See LEADSCRUB_HOME.")
        made = ledger.desk.back_up(file, overwrite=force)
    needed = _key_needed(settings)
    if as_json:
        print_json({"file": str(made.path), "lookups": made.lookups, "rows": made.rows, "key_needed": needed})
    else:
        note(f"{made.lookups:,} lookups, {made.rows:,} rows in all, written to {made.path}.")
        note(f"Answers in it are sealed. To restore it you need {needed}: keep it safe, and apart from the backup.")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that leadscrub ledger backup wrote.")],
    *,
    merge: Annotated[
        bool, typer.Option("--merge", help="The ledger has lookups already: keep them, and add the backup's.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a backup into the ledger of the settings, all of it or nothing.

    Of a request that both know the more final state counts. What was in flight when the backup was made is of unknown
    outcome now.
    """
    with progress("Restoring"), open_ledger(load_settings()) as ledger:
        result = ledger.desk.restore(file, merge=merge)
    if as_json:
        print_json(asdict(result))
        return
    note(
        f"{result.added:,} lookups added, {result.updated:,} brought up to date; {result.unknown:,} of them were in "
        f"flight and are of unknown outcome now."
    )
    _warn(result)


def _warn(result: Restored) -> None:
    if result.backed_up_at is None:
        return
    made = f"{result.backed_up_at:%Y-%m-%d %H:%M}"
    note(
        f"The backup was made at {made} UTC. Lookups paid for later are in the ledger only if it had them already: "
        "people asked about since then may be asked about, and paid for, again. Compare with the vendor's invoice from "
        f"that day on: leadscrub ledger reconcile INVOICE.csv --since {result.backed_up_at:%Y-%m-%d}"
    )


def _key_needed(settings: Settings) -> str:
    if settings.leadscrub_answer_key:
        return "the keys in LEADSCRUB_ANSWER_KEY"
    return f"the key file {key_file_of(settings.ledger_path)}"
