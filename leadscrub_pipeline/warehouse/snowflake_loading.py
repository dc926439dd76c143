"""Rows into a Snowflake table: one Parquet file, sent with PUT to the table's own stage, and taken in with COPY INTO.

Which table, and what happens to its rows, does not belong here. Nothing is written to this
machine's disk: the file stays in memory.
"""

import io
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.warehouse.snowflake_statements import SnowflakeConnection

ROWS_A_LOAD: Final = 200_000
"""Rows that are worth a load of their own. Loading costs two statements, whatever the number of rows."""

_COPY: Final = """
COPY INTO {table} FROM {stage}/{file}
FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE)
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT
"""


def load(connection: SnowflakeConnection, table: str, data: pa.Table) -> int:
    """Append rows by column name, all or none; return their number.

    Raises:
        FailedError: not every row arrived.
    """
    if data.num_rows == 0:
        return 0
    database, schema, name = table.split(".")
    stage = f"@{database}.{schema}.%{name}"
    file = f"{uuid4().hex}.parquet"
    connection.run(f"PUT file:///{file} {stage} AUTO_COMPRESS = FALSE", file=_parquet(data))
    cursor = connection.run(_COPY.format(table=table, stage=stage, file=file).strip())
    loaded = connection.fetched(lambda: _rows_loaded(cursor))
    if loaded != data.num_rows:
        raise FailedError(
            f"{data.num_rows:,} rows were sent to {table} and {loaded:,} were loaded, so nothing is done with them. "
            "Run it again."
        )
    return loaded


def _rows_loaded(cursor: Any) -> int:  # noqa: ANN401 - the connector's cursor
    """COPY INTO answers with a row a file, or with one that has a status only when there was none."""
    names = [column.name.lower() for column in cursor.description]
    if "rows_loaded" not in names:
        return 0
    return sum(int(row[names.index("rows_loaded")]) for row in cursor.fetchall())


def _parquet(data: pa.Table) -> io.BytesIO:
    buffer = io.BytesIO()
    pq.write_table(data, buffer, compression="snappy")
    buffer.seek(0)
    return buffer
