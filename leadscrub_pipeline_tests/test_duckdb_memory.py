"""What the embedded engine's process keeps of the memory that its sessions took."""

from pathlib import Path

import duckdb
import pytest

from leadscrub_pipeline.warehouse.duckdb_engine import engine_with_sources, shared_engine
from leadscrub_pipeline_tests.published import make_warehouse

MB = 2**20


def resident() -> int:
    """Bytes of this process that are in memory now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_session_leaves_the_process_no_larger_than_it_was(tmp_path: Path) -> None:
    # 150 MB of every run stayed with the engine's allocator, and the steps after it came on top.
    warehouse = make_warehouse(tmp_path)
    with warehouse.session() as session:
        session.rows("SELECT 1")
    before = resident()
    with warehouse.session() as session:
        stage = session.create_stage_as(
            "texts", "SELECT sha256(CAST(n AS VARCHAR)) AS text FROM range(2000000) AS r(n)"
        )
        during = resident()
        session.drop_stage(stage)
    assert during - before > 100 * MB
    assert resident() - before < 50 * MB


@pytest.mark.parametrize("setting", ["threads = 4", "enable_external_access = true", "allowed_configs = ['threads']"])
def test_nothing_else_of_an_instance_can_be_set(setting: str, tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with shared_engine(path, "256MB").cursor() as connection, pytest.raises(duckdb.InvalidInputException):
        connection.execute(f"SET {setting}")


def test_an_instance_that_sees_the_users_tables_has_nothing_that_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    engine = engine_with_sources(path, "256MB", tmp_path, [])
    with engine as connection, pytest.raises(duckdb.InvalidInputException):
        connection.execute("SET memory_limit = '1GB'")
