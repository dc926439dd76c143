"""Which lead scripts a command is asked about: its arguments, their tab completion, and what they name.

Reading a script is the domain's business; here are only keys.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from leadscrub_pipeline.domain.scripts import script_paths
from leadscrub_pipeline.errors import LeadscrubError, UsageError
from leadscrub_pipeline.settings import load_settings


def complete_script(incomplete: str) -> list[str]:
    try:
        keys = list(script_paths(load_settings().leadscrub_scripts))
    except LeadscrubError:
        return []
    return [key for key in keys if key.startswith(incomplete)]


ScriptsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="SCRIPT...", help="Keys of lead scripts.", autocompletion=complete_script),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every script of the folder.")]


def chosen_scripts(folder: Path, keys: Sequence[str] | None, *, everything: bool) -> list[str]:
    """The keys asked for, each once, in the order given; all of the folder with ``everything``.

    Raises:
        UsageError: none is named, one is not there, or the folder cannot be read.
    """
    paths = script_paths(folder)
    known = ", ".join(paths) or "none"
    if everything:
        if keys:
            raise UsageError("Name scripts or say --all, not both.")
        if not paths:
            raise UsageError(f"There is no lead script in {folder}. Make one: leadscrub scripts new KEY.")
        return list(paths)
    if not keys:
        raise UsageError(f"Say which scripts, or --all. Scripts in {folder}: {known}.")
    for key in keys:
        require_script(paths, key, folder)
    return list(dict.fromkeys(keys))


def require_script(paths: dict[str, Path], key: str, folder: Path) -> Path:
    """The script's file.

    Raises:
        UsageError: there is none; the message offers what was perhaps meant.
    """
    if key in paths:
        return paths[key]
    near = get_close_matches(key, paths)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(paths) or 'none'}."
    raise UsageError(f"There is no lead script {key!r} in {folder}. {hint}")
