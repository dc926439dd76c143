"""Results of several parts, and loads that lost rows: with cursors of our own, as no emulator gives them."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from leadscrub_pipeline.errors import FailedError, UnavailableError
from leadscrub_pipeline.warehouse.snowflake import SnowflakeSession
from leadscrub_pipeline.warehouse.snowflake_connection import QueryTag
from leadscrub_pipeline.warehouse.snowflake_loading import load
from leadscrub_pipeline.warehouse.snowflake_statements import SnowflakeConnection

SECRET = "5550100"


class Cursor:
    """Gives a result in the parts it was made with; an exception among them is raised in its place."""

    description = (SimpleNamespace(name="rows_loaded"),)

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts
        self.pulled = 0

    def execute(self, *_: object, **__: object) -> None: ...

    def fetch_arrow_batches(self, **_: object) -> Iterator[pa.Table]:
        for part in self.parts:
            self.pulled += 1
            if isinstance(part, Exception):
                raise part
            yield pa.table({"NUMBER": pa.array(part, pa.int64())})

    def fetch_arrow_all(self, **_: object) -> pa.Table:
        return pa.concat_tables(list(self.fetch_arrow_batches()))

    def fetchall(self) -> list[tuple[int]]:
        return [(number,) for table in self.fetch_arrow_batches() for number in table.column(0).to_pylist()]


def session_of(parts: list[Any]) -> tuple[SnowflakeSession, Cursor, SnowflakeConnection]:
    cursor = Cursor(parts)
    raw = SimpleNamespace(cursor=lambda: cursor, session_id=1)
    sign_in: Any = SimpleNamespace(statement_timeout=60)
    connection = SnowflakeConnection(lambda _: None, sign_in, QueryTag())  # type: ignore[arg-type, return-value]
    connection._raw = raw
    return SnowflakeSession(None, connection), cursor, connection  # type: ignore[arg-type]


def test_pages_have_their_size_whatever_the_parts_and_no_part_is_pulled_before_it_is_needed() -> None:
    session, cursor, _ = session_of([list(range(7)), [], list(range(7, 32)), [32]])
    pages = session.stream("SELECT number", [], rows=5)
    first = next(pages)
    assert (first.column("number").to_pylist(), cursor.pulled) == ([0, 1, 2, 3, 4], 1)
    rest = [page.column("number").to_pylist() for page in pages]
    assert [len(page) for page in rest] == [5, 5, 5, 5, 5, 3]
    assert sum(rest, [0, 1, 2, 3, 4]) == list(range(33))


@pytest.mark.parametrize("read", ["rows", "table", "stream"])
def test_a_later_part_that_cannot_be_fetched_is_an_error_of_ours_and_ends_the_connection(read: str) -> None:
    session, _, connection = session_of([[1, 2], OSError(SECRET)])
    with pytest.raises(UnavailableError) as error:
        list(session.stream("SELECT 1", [], rows=5) if read == "stream" else getattr(session, read)("SELECT 1"))
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None
    assert not connection.is_sound


@pytest.mark.parametrize("loaded", [[1], [], [3, 1]])
def test_a_load_of_which_rows_are_missing_or_doubled_is_an_error(loaded: list[int]) -> None:
    _, _, connection = session_of([loaded])
    with pytest.raises(FailedError, match=f"2 rows were sent to D.S.T and {sum(loaded)} were loaded"):
        load(connection, "D.S.T", pa.table({"number": [1, 2]}))
