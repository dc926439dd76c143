"""Everything that is wrong with one script file, found without running it.

The rules themselves belong to ``scripts.py``, ``guard.py`` and ``dialects.py``.
"""

from collections.abc import Collection
from pathlib import Path

from leadscrub_pipeline.domain.dialects import carry_findings
from leadscrub_pipeline.domain.guard import judge
from leadscrub_pipeline.domain.scripts import inspect_script


def lint_script(
    path: Path,
    *,
    allowed_databases: Collection[str],
    default_database: str | None,
    default_schema: str | None,
    purposes: Collection[str] | None = None,
    for_duckdb: bool = True,
) -> list[str]:
    """The errors of a script file, in order; empty when it may run.

    ``purposes`` are the configured names; None leaves the script's purpose unchecked.
    """
    script, errors = inspect_script(path)
    if script is None:
        return errors
    if purposes is not None and script.purpose is not None and script.purpose not in purposes:
        errors.append(f"Header purpose: {script.purpose!r} is not configured in LEADSCRUB_PURPOSES.")
    statement, findings = judge(
        script,
        allowed_databases=allowed_databases,
        default_database=default_database,
        default_schema=default_schema,
    )
    errors += findings
    if statement is not None and for_duckdb:
        errors += carry_findings(statement)
    return errors
