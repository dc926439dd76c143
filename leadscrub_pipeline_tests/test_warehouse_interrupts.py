"""Ctrl-C while the embedded warehouse works."""

import os
import signal
import threading
from pathlib import Path

import pytest

from leadscrub_pipeline_tests.published import make_warehouse

LONG = "SELECT COUNT(*) FROM range(100000000000) AS a WHERE a.range % 7 = 3"


def test_an_interrupt_during_a_statement_is_an_interrupt_and_no_defect(tmp_path: Path) -> None:
    # DuckDB turned it into "RuntimeError: Query interrupted": a run that was cancelled read as one that broke.
    warehouse = make_warehouse(tmp_path)
    with warehouse.session():
        pass
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), warehouse.session() as session:
        session.rows(LONG)
    timer.join()
    with warehouse.session() as session:
        assert session.rows("SELECT 1") == [(1,)]
