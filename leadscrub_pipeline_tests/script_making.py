"""Lead scripts made from text, for the tests of scripts, guard and dialects."""

from pathlib import Path
from tempfile import TemporaryDirectory

from leadscrub_pipeline.domain.guard import GuardedStatement, guard
from leadscrub_pipeline.domain.scripts import LeadScript, read_script

ALLOWED = ("LEADS_DB", "OTHER_DB")


def script_of(text: str, key: str = "script") -> LeadScript:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{key}.sql"
        path.write_text(text, encoding="utf-8", newline="")
        return read_script(path)


def guarded(
    text: str,
    *,
    allowed: tuple[str, ...] = ALLOWED,
    database: str | None = "LEADS_DB",
    schema: str | None = "PUBLIC",
) -> GuardedStatement:
    return guard(script_of(text), allowed_databases=allowed, default_database=database, default_schema=schema)
