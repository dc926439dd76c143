"""Two runs that ask about one phone at once: of their answers the newer counts, whichever is stored last."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leadscrub_pipeline.domain.verdicts import CLEAR, DNC, LISTED, Answer, Reason, unknown
from leadscrub_pipeline.warehouse.duckdb import DuckdbSession, DuckdbWarehouse
from leadscrub_pipeline.warehouse.evidence import ChainEnd
from leadscrub_pipeline.warehouse.phone_verdicts import Check, Checked, store_answers, to_answers
from leadscrub_pipeline.warehouse.schema import PHONE_VERDICTS, SCRUB_EVIDENCE

PHONE = "2125550123"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LAST_MONTH, THIS_MONTH = NOW - timedelta(days=30), NOW - timedelta(days=1)


@pytest.fixture(params=[True, False], ids=["by delete", "by merge"])
def warehouse(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> DuckdbWarehouse:
    monkeypatch.setattr(DuckdbSession, "replaces_by_delete", request.param)
    return DuckdbWarehouse(tmp_path / "warehouse.duckdb", kind="demo", sources_folder=None)


def store(warehouse: DuckdbWarehouse, run_id: str, answer: Answer, obtained_at: datetime | None) -> None:
    check = Check(run_id, "dnc_flags", "script", "hash", "default", DNC)
    valid_until = NOW if obtained_at is None else obtained_at + timedelta(days=31)
    checked = Checked(PHONE, answer, "a list", obtained_at, NOW, valid_until)
    with warehouse.session() as session:
        store_answers(session, check, ChainEnd.none_yet(run_id, check.asset), to_answers([checked]))


def verdict(warehouse: DuckdbWarehouse) -> str:
    with warehouse.session() as session:
        ((found,),) = session.rows(f"SELECT verdict FROM {PHONE_VERDICTS.full_name} WHERE phone = ?", [PHONE])
        return str(found)


def test_a_run_that_still_reads_last_months_list_does_not_clear_what_this_months_list_holds(
    warehouse: DuckdbWarehouse,
) -> None:
    store(warehouse, "with-the-new-list", LISTED, THIS_MONTH)
    store(warehouse, "with-the-old-list", CLEAR, LAST_MONTH)
    assert verdict(warehouse) == "listed"
    with warehouse.session() as session:
        ((rows,),) = session.rows(f"SELECT COUNT(*) FROM {SCRUB_EVIDENCE.full_name}")
    assert rows == 2, "both answers are evidence"


def test_a_newer_answer_replaces_an_older_one(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, "first", LISTED, LAST_MONTH)
    store(warehouse, "second", CLEAR, THIS_MONTH)
    assert verdict(warehouse) == "clear"
    store(warehouse, "third", LISTED, THIS_MONTH)
    assert verdict(warehouse) == "listed"


def test_an_older_list_that_answers_replaces_a_newer_one_that_could_not(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, "first", unknown(Reason.AREA_CODE_NOT_COVERED), THIS_MONTH)
    store(warehouse, "second", CLEAR, LAST_MONTH)
    assert verdict(warehouse) == "clear"


def test_a_number_on_a_list_of_unknown_age_is_listed_whatever_was_known(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, "first", CLEAR, THIS_MONTH)
    store(warehouse, "second", LISTED, None)
    assert verdict(warehouse) == "listed"


def test_no_answer_clears_nothing(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, "first", LISTED, LAST_MONTH)
    store(warehouse, "second", unknown(Reason.TIMEOUT), THIS_MONTH)
    assert verdict(warehouse) == "listed"
