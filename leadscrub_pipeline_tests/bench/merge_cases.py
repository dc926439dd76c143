"""What the warehouse's sessions cost: 200,000 verdicts merged into a million, beside the same done by hand.

Each pair works on rows of its own, half of them new, and who begins takes turns. Snowflake is the
emulator of the tests: what is compared is what we add to the connector, not Snowflake.
"""

import os
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.warehouse.arrow import arrow_schema
from leadscrub_pipeline.warehouse.phone_verdicts import MERGE_VERDICTS
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import DATABASE, PHONE_VERDICTS

if TYPE_CHECKING:
    from leadscrub_pipeline_tests.snowflake_server import Account

ROWS: Final = 1_000_000
MERGED: Final = 200_000
_PAIRS: Final = 5
_VENDORS: Final = {
    "idicore_auth_url": "http://127.0.0.1:9/auth",
    "idicore_search_url": "http://127.0.0.1:9/search",
    "ccc_api_url": "http://127.0.0.1:9/ccc",
}
_SCHEMA: Final = arrow_schema(PHONE_VERDICTS)


def duckdb_merge() -> dict[str, float]:
    """A session's stage, load and MERGE beside Arrow inserted and merged with DuckDB alone, in the same file."""
    with TemporaryDirectory(prefix="leadscrub-bench-") as name:
        home = Path(name)
        warehouse = open_warehouse(Settings(_env_file=None, leadscrub_home=home, **_VENDORS))  # type: ignore[arg-type]
        with warehouse.session() as session:
            session.load(PHONE_VERDICTS.full_name, _verdicts(0, ROWS))

        def by_hand(rows: pa.Table) -> None:
            with duckdb.connect(config={"memory_limit": "256MB", "threads": 2}) as connection:
                connection.execute(f"ATTACH '{home / 'warehouse.duckdb'}' AS {DATABASE}")
                connection.register("incoming", rows)
                connection.execute("CREATE TEMP TABLE stage AS SELECT * FROM incoming")
                connection.execute("BEGIN TRANSACTION")
                connection.execute(MERGE_VERDICTS.format(stage="stage"))
                connection.execute("COMMIT")
                connection.execute(f"DETACH {DATABASE}")

        return _compared(warehouse, by_hand)


def snowflake_merge() -> dict[str, float]:
    """A session's stage, load and MERGE beside PUT, COPY INTO and MERGE with the connector alone, on one server."""
    from leadscrub_pipeline_tests.snowflake_server import Account, server_port, stop_server  # noqa: PLC0415 - for this case only

    os.environ["LEADSCRUB_ENV_FILE"] = ""
    try:
        return _snowflake_merge(Account(server_port()))
    finally:
        stop_server()


def _snowflake_merge(account: "Account") -> dict[str, float]:
    from leadscrub_pipeline.warehouse.snowflake_connection import QueryTag, SignIn, by_connector  # noqa: PLC0415 - for this case only

    given: dict[str, Any] = {name.lower(): value for name, value in account.environment().items()}
    settings = Settings(_env_file=None, **_VENDORS, **given)
    warehouse = open_warehouse(settings)
    warehouse.prepare()
    with warehouse.session() as session:
        session.load(PHONE_VERDICTS.full_name, _verdicts(0, ROWS))

    with TemporaryDirectory(prefix="leadscrub-bench-") as name:
        file = Path(name) / "rows.parquet"
        stage = f"{DATABASE}.LEADSCRUB.BY_HAND"
        body = ", ".join(f"{field.name} {_TYPES[field.type]}" for field in _SCHEMA)
        signed_in = by_connector(SignIn.of(settings).arguments(tag=QueryTag(), reader=False))
        with signed_in as connection:

            def by_hand(rows: pa.Table) -> None:
                pq.write_table(rows, file)
                cursor = connection.cursor()
                copy = (
                    f"COPY INTO {stage} FROM @{DATABASE}.LEADSCRUB.%BY_HAND/{file.name} "
                    "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE"
                )
                for statement in (
                    f"CREATE OR REPLACE TRANSIENT TABLE {stage} ({body})",
                    f"PUT file://{file} @{DATABASE}.LEADSCRUB.%BY_HAND AUTO_COMPRESS = FALSE OVERWRITE = TRUE",
                    copy,
                    "BEGIN TRANSACTION",
                    MERGE_VERDICTS.format(stage=stage),
                    "COMMIT",
                    f"DROP TABLE {stage}",
                ):
                    cursor.execute(statement)

            return _compared(warehouse, by_hand)


_TYPES: Final = {pa.string(): "VARCHAR", pa.timestamp("us"): "TIMESTAMP_NTZ(6)"}


def _compared(warehouse: Warehouse, by_hand: Callable[[pa.Table], None]) -> dict[str, float]:
    def ours(rows: pa.Table) -> None:
        with warehouse.session() as session:
            stage = session.create_stage("verdicts", _SCHEMA)
            session.load(stage, rows)
            with session.transaction():
                session.execute(MERGE_VERDICTS.format(stage=stage))
            session.drop_stage(stage)

    seconds: dict[Callable[[pa.Table], None], list[float]] = {ours: [], by_hand: []}
    first = ROWS
    for pair in range(_PAIRS + 1):
        for merge in (ours, by_hand) if pair % 2 else (by_hand, ours):
            rows = _verdicts(first - MERGED // 2, first + MERGED // 2)
            first += MERGED // 2
            started = time.perf_counter()
            merge(rows)
            if pair:  # the first one of each loads modules
                seconds[merge].append(time.perf_counter() - started)
    with warehouse.session() as session:
        (count,) = session.rows(f"SELECT COUNT(*) FROM {PHONE_VERDICTS.full_name}")[0]
    if count != first:
        raise SystemExit(f"{count:,} rows were expected to be {first:,}")
    pairs = [mine / theirs for mine, theirs in zip(seconds[ours], seconds[by_hand], strict=True)]
    return {
        "seconds": statistics.median(seconds[ours]),
        "by_hand_seconds": statistics.median(seconds[by_hand]),
        "ratio": statistics.median(pairs),
    }


def _verdicts(start: int, stop: int) -> pa.Table:
    count = stop - start
    moment = datetime(2026, 1, 1)  # noqa: DTZ001 - naive UTC, as tables hold it
    columns: dict[str, object] = {
        "phone": [f"{2_000_000_000 + number}" for number in range(start, stop)],
        "source": ["dnc"] * count,
        "verdict": ["clear"] * count,
        "reason": [None] * count,
        "list_version": ["2026-01"] * count,
        "obtained_at": [moment] * count,
        "checked_at": [moment] * count,
        "valid_until": [moment] * count,
    }
    return pa.table(columns, schema=_SCHEMA)
