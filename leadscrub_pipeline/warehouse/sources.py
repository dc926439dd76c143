"""Tables that a user brings as files: LEADSCRUB_SOURCES/DATABASE/SCHEMA/TABLE.csv or .parquet.

Finds and names them. How they are attached is the embedded engine's business.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from leadscrub_pipeline.errors import RefusedError, UsageError
from leadscrub_pipeline.warehouse.schema import DATABASE

_SUFFIXES: Final = (".csv", ".parquet")


class SourceTable(NamedTuple):
    database: str
    schema: str
    name: str
    path: Path

    @property
    def full_name(self) -> tuple[str, str, str]:
        return self.database, self.schema, self.name


def find_sources(folder: Path | None) -> tuple[SourceTable, ...]:
    """All source tables under the folder, with names in upper case as Snowflake has them.

    Raises:
        UsageError: the folder cannot be read, or two files claim one table.
        RefusedError: a database is named like the one that results are written to.
    """
    if folder is None:
        return ()
    if not folder.is_dir():
        raise UsageError(f"LEADSCRUB_SOURCES names {folder}, which is not a folder that can be read.")
    tables: dict[tuple[str, str, str], SourceTable] = {}
    for path in sorted(folder.glob("*/*/*")):
        if path.suffix.lower() not in _SUFFIXES or not path.is_file():
            continue
        table = SourceTable(
            path.parent.parent.name.upper(), path.parent.name.upper(), path.stem.upper(), path.absolute()
        )
        if table.database == DATABASE:
            raise RefusedError(
                f"LEADSCRUB_SOURCES may not hold a database named {DATABASE}: results are written there."
            )
        other = tables.setdefault(table.full_name, table)
        if other is not table:
            raise UsageError(
                f"LEADSCRUB_SOURCES has two files for {'.'.join(table.full_name)}: {other.path.name} and {path.name}."
            )
    return tuple(tables.values())


class Readable(NamedTuple):
    """What lead scripts may read, and what a name without database or schema means."""

    databases: tuple[str, ...]
    default_database: str | None
    default_schema: str


def readable(
    sources: Iterable[SourceTable],
    *,
    allowed: Collection[str],
    database: str | None,
    schema: str | None,
    is_embedded: bool,
) -> Readable:
    """The databases of the settings, or of the source tables; the default is the set one.

    On the embedded engine it is the only one there is, too. Snowflake would take a name without a database for one
    of the user's own default, which nobody has judged.
    """
    databases = tuple(name.upper() for name in allowed) or tuple(sorted({source.database for source in sources}))
    default = database.upper() if database else databases[0] if is_embedded and len(databases) == 1 else None
    return Readable(databases, default, (schema or "PUBLIC").upper())
