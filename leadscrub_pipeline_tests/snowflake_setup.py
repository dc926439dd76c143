"""Writes the two files of sql/snowflake that follow from what is declared; ``python -m`` writes them anew."""

from pathlib import Path
from typing import Final

from leadscrub_pipeline.warehouse.preparation import declared_statements
from leadscrub_pipeline.warehouse.snowflake_dialect import SnowflakeDialect

FOLDER: Final = Path(__file__).parents[1] / "sql" / "snowflake"

_TABLES: Final = """\
-- The tables, as leadscrub_pipeline/warehouse/schema.py declares them. Written by
--   python -m leadscrub_pipeline_tests.snowflake_setup
-- A table that is there stays as it is; columns that a release adds are added by leadscrub db migrate.

USE ROLE LEADSCRUB_WRITER;
"""
_VIEWS: Final = """\
-- Which numbers may be called. Written by
--   python -m leadscrub_pipeline_tests.snowflake_setup

USE ROLE LEADSCRUB_WRITER;
"""


def files() -> dict[str, str]:
    """The text of each file by its name."""
    *tables, view = declared_statements(SnowflakeDialect())
    return {
        "3_tables.sql": "\n".join([_TABLES, *(f"{_laid_out(table)};\n" for table in tables)]),
        "4_views.sql": f"{_VIEWS}\n{view};\n",
    }


def _laid_out(table: str) -> str:
    """A column a line, and to be run again."""
    head, _, columns = table.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1).partition(" (")
    lines = columns.removesuffix(")").split(", ")
    return head + " (\n  " + ",\n  ".join(lines) + "\n)"


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
