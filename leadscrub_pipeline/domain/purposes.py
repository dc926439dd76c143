"""Permissible purposes under which a person may be looked up (GLBA, DPPA). The contract decides the values."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from leadscrub_pipeline.errors import RefusedError

DEFAULT: Final = "default"


class Purpose(NamedTuple):
    name: str
    glba: str
    dppa: str


def resolve_purpose(
    name: str | None, *, purposes: Mapping[str, Mapping[str, str]], glba: str | None, dppa: str | None
) -> Purpose:
    """The purpose a script names, or the deployment's default one.

    Raises:
        RefusedError: no such purpose is configured.
    """
    name = name or DEFAULT
    entry = purposes.get(name)
    if entry is not None and set(entry) >= {"glba", "dppa"}:
        return Purpose(name, entry["glba"], entry["dppa"])
    if entry is not None:
        raise RefusedError(f"LEADSCRUB_PURPOSES: purpose {name!r} needs both glba and dppa.")
    if name == DEFAULT and glba is not None and dppa is not None:
        return Purpose(DEFAULT, glba, dppa)
    known = ", ".join(sorted(purposes)) or "none"
    raise RefusedError(
        f"No permissible purpose {name!r} is configured (known: {known}). "
        "Name it in LEADSCRUB_PURPOSES, or set IDICORE_GLBA and IDICORE_DPPA for the default one."
    )
