"""Which rows a rescrub changes, and to what: beside publishing anew, in many ranges, and in rows of an older system."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.domain.verdicts import Flag, Reason
from leadscrub_pipeline.steps.rescrub import rescrubbed_data
from leadscrub_pipeline.warehouse import rescrub
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.duckdb import DuckdbSession, DuckdbWarehouse
from leadscrub_pipeline.warehouse.phone_verdicts import Phones
from leadscrub_pipeline.warehouse.published_phones import published_phones, published_phones_of_list
from leadscrub_pipeline.warehouse.rescrub import FLAGS, Updated, bring_up_to_date, update_rows
from leadscrub_pipeline.warehouse.schema import MASTER, PHONE_VERDICTS, PUBLISHED_IDENTITIES
from leadscrub_pipeline_tests import test_flags_in_sql as publishing
from leadscrub_pipeline_tests.published import (
    DAY,
    NOW,
    Row,
    clear_rows,
    make_warehouse,
    master_row,
    phone,
    record_id,
    request_row,
    store,
    verdict_row,
)
from leadscrub_pipeline_tests.test_flags_in_sql import Said, publish_leads, replace_requests, verdicts_of


@pytest.fixture(params=[True, False], ids=["by delete", "by merge"])
def warehouse(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> DuckdbWarehouse:
    monkeypatch.setattr(DuckdbSession, "replaces_by_delete", request.param)
    return make_warehouse(tmp_path)


def rewrite(page: pa.Table) -> list[str]:
    return [rescrubbed_data(row, "rescrub-run", NOW) for row in page.to_pylist()]


def bring(warehouse: DuckdbWarehouse, now: datetime = NOW) -> Updated:
    *_, sums = bring_up_to_date(warehouse, rewrite, now=now)
    return sums


def master(warehouse: DuckdbWarehouse) -> dict[str | None, dict[str, Any]]:
    with warehouse.session() as session:
        rows = session.table(f"SELECT * FROM {MASTER.full_name}").to_pylist()
    return {row["record_id"]: row for row in rows}


def replace_verdicts(warehouse: DuckdbWarehouse, verdicts: Sequence[Row]) -> None:
    with warehouse.session() as session:
        session.execute(f"DELETE FROM {PHONE_VERDICTS.full_name}")
        session.load(PHONE_VERDICTS.full_name, to_table(verdicts, arrow_schema(PHONE_VERDICTS)))


def test_a_rescrub_finds_rows_with_a_number_on_the_companys_list_and_those_that_were_withdrawn(
    warehouse: DuckdbWarehouse,
) -> None:
    rows = [master_row(number, [None, phone(number)], in_dnc=(None, number == 2)) for number in range(4)]
    verdicts = [row for number in range(4) for row in clear_rows(phone(number))]
    requests = [request_row(phone(1)), request_row(phone(2), withdrawn_at=NOW - DAY), request_row(phone(3))]
    store(warehouse, rows, verdicts, requests=requests)
    sums = bring(warehouse)
    assert sums.updated == 3
    flags = {number: master(warehouse)[record_id(number)]["phone_2_in_dnc"] for number in range(4)}
    assert flags == {0: False, 1: True, 2: False, 3: True}
    assert bring(warehouse).updated == 0


# --- beside publishing --------------------------------------------------------------------


def told(row: dict[str, Any]) -> dict[str, Flag]:
    reasons = orjson.loads(row["additional_data"])["provenance"]["null_reasons"]
    return {name: Flag(row[name], reasons[name]) for name in FLAGS}


def as_published(before: dict[str, Any], anew: dict[str, Any]) -> dict[str, Flag]:
    """The flags of publishing anew, but that no answer clears nothing."""
    return {
        name: Flag(value=True, reason=None) if before[name] is True and flag.value is None else flag
        for name, flag in told(anew).items()
    }


_SAID = st.builds(Said, publishing._ANSWER, publishing._VALID_UNTIL, st.booleans())
_SLOT = st.none() | st.tuples(st.tuples(_SAID, _SAID), st.tuples(_SAID, _SAID))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(st.tuples(_SLOT, _SLOT, _SLOT), min_size=5, max_size=40))
def test_flags_after_a_rescrub_are_those_that_publishing_anew_would_give(
    warehouse: DuckdbWarehouse, drawn: list[tuple[Any, Any, Any]]
) -> None:
    earlier, later = [[[None if slot is None else slot[at] for slot in lead] for lead in drawn] for at in (0, 1)]
    anew = publish_leads(warehouse, later)
    before = publish_leads(warehouse, earlier)
    replace_verdicts(warehouse, verdicts_of(later))
    replace_requests(warehouse, later)
    sums = bring(warehouse, publishing.NOW)
    rows = master(warehouse)
    with warehouse.session() as session:
        settled = dict(session.rows(f"SELECT record_id, settled FROM {PUBLISHED_IDENTITIES.full_name}"))
    changed = 0
    for (was, was_settled), (wanted, is_settled) in zip(before, anew, strict=True):
        row = rows[was["record_id"]]
        expected = as_published(was, wanted)
        assert {name: Flag(row[name], flag.reason) for name, flag in told(row).items()} == expected
        assert settled[was["record_id"]] is (was_settled or is_settled), "no rescrub asks for a second visit"
        is_same = told(was) == expected
        assert (row["additional_data"] == was["additional_data"]) is is_same
        changed += not is_same
    assert (sums.rows, sums.updated, sums.changed_meanwhile) == (len(drawn), changed, 0)
    assert bring(warehouse, publishing.NOW).updated == 0, "once more changes nothing"


# --- many rows ----------------------------------------------------------------------------


def test_many_pages_and_many_transactions_give_what_one_gives(
    warehouse: DuckdbWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [master_row(number, [phone(number), phone(number + 100)]) for number in range(40)]
    listed = [verdict_row(phone(number), "dnc", "listed") for number in range(0, 40, 2)]
    clear = [verdict_row(phone(number), "dnc") for number in range(1, 40, 2)]
    rest = [verdict_row(phone(number), "ccc") for number in range(40)] + clear_rows(
        *(phone(number) for number in range(100, 140))
    )
    store(warehouse, rows, [*listed, *clear, *rest])
    monkeypatch.setattr(rescrub, "CANDIDATES_AT_ONCE", 13)
    monkeypatch.setattr(rescrub, "COMPARED_AT_ONCE", 6)
    monkeypatch.setattr(rescrub, "UPDATED_AT_ONCE", 3)
    monkeypatch.setattr(rescrub, "PAGE_ROWS", 2)
    sums = bring(warehouse)
    assert (sums.rows, sums.updated, sums.flips) == (
        40,
        20,
        {**dict.fromkeys(sums.flips, 0), ("dnc", "false", "true"): 20},
    )
    found = master(warehouse)
    assert [found[record_id(number)]["phone_1_in_dnc"] for number in range(40)] == [True, False] * 20


def test_a_column_that_somebody_added_keeps_its_values(warehouse: DuckdbWarehouse) -> None:
    listed = [verdict_row(phone(1), "dnc", "listed"), verdict_row(phone(1), "ccc")]
    store(warehouse, [master_row(1, [phone(1)])], listed)
    with warehouse.session() as session:
        session.execute(f"ALTER TABLE {MASTER.full_name} ADD COLUMN called_by VARCHAR")
        session.execute(f"UPDATE {MASTER.full_name} SET called_by = 'Ada'")
    assert bring(warehouse).updated == 1
    with warehouse.session() as session:
        assert session.rows(f"SELECT phone_1_in_dnc, called_by FROM {MASTER.full_name}") == [(True, "Ada")]


def test_a_row_that_is_published_or_erased_while_its_new_flags_are_written_is_left_alone(
    warehouse: DuckdbWarehouse,
) -> None:
    numbers = [phone(number) for number in range(3)]
    store(
        warehouse,
        [master_row(number, [phone(number)]) for number in range(3)],
        [verdict_row(number, "dnc", "listed") for number in numbers]
        + [verdict_row(number, "ccc") for number in numbers],
    )
    total = Updated()
    with warehouse.session() as session:

        def meanwhile(page: pa.Table) -> list[str]:
            session.execute(
                f"UPDATE {MASTER.full_name} SET processed_at = ?, job_id = 'another' WHERE record_id = ?",
                [NOW, record_id(0)],
            )
            session.execute(
                f"UPDATE {MASTER.full_name} SET phone_1 = NULL, additional_data = '{{}}' WHERE record_id = ?",
                [record_id(1)],
            )
            return rewrite(page)

        keys = pa.chunked_array([pa.array([record_id(number) for number in range(3)])])
        update_rows(session, warehouse.dialect, keys, meanwhile, total, now=NOW)
    assert (total.updated, total.changed_meanwhile, total.flips["dnc", "false", "true"]) == (1, 2, 1)
    found = master(warehouse)
    assert [found[record_id(number)]["phone_1_in_dnc"] for number in range(3)] == [False, False, True]
    assert found[record_id(1)]["additional_data"] == "{}"


# --- rows of an older system --------------------------------------------------------------


def test_phones_that_an_older_system_wrote_as_fractions_are_checked_as_the_numbers_they_are(
    warehouse: DuckdbWarehouse,
) -> None:
    odd = master_row(1, [f"{phone(1)}.0", f"{phone(2)}.0"], additional_data=None)
    store(
        warehouse, [odd], [verdict_row(phone(1), "dnc", "listed"), *clear_rows(phone(2)), verdict_row(phone(1), "ccc")]
    )
    with warehouse.session() as session:
        held = session.rows(f"SELECT phone FROM ({published_phones(NOW, renew=True).select}) AS p ORDER BY 1")
    assert held == [(phone(1),), (phone(2),)]
    bring(warehouse)
    row = master(warehouse)[record_id(1)]
    assert [row[name] for name in FLAGS] == [False, True, False, None]
    assert row["phone_1"] == f"{phone(1)}.0"
    assert orjson.loads(row["additional_data"])["provenance"]["null_reasons"]["phone_3_in_dnc"] == "no_phone"


def test_a_number_in_a_form_that_nobody_can_be_asked_about_stays_listed_and_is_never_clear(
    warehouse: DuckdbWarehouse,
) -> None:
    rows = [
        master_row(1, ["(212) 555"], litigator=True, in_dnc=[True]),
        master_row(2, ["(212) 556"], litigator=False, in_dnc=[False]),
    ]
    verdicts = [
        verdict_row(number, source, "unknown", reason=Reason.NOT_NANP)
        for number in ("(212) 555", "(212) 556")
        for source in ("ccc", "dnc")
    ]
    store(warehouse, rows, verdicts)
    sums = bring(warehouse)
    found = master(warehouse)
    assert [found[record_id(1)][name] for name in FLAGS] == [True, True, None, None]
    assert [found[record_id(2)][name] for name in FLAGS] == [None, None, None, None]
    assert sums.updated == 1


def test_what_an_older_system_found_listed_stays_listed_until_a_source_says_clear(warehouse: DuckdbWarehouse) -> None:
    rows = [
        master_row(1, [phone(1), phone(2)], litigator=True, in_dnc=[True, False]),
        master_row(2, [phone(3)], litigator=True, in_dnc=[True]),
    ]
    store(warehouse, rows, clear_rows(phone(3)))
    bring(warehouse)
    found = master(warehouse)
    assert [found[record_id(1)][name] for name in FLAGS] == [True, True, None, None]
    reasons = orjson.loads(found[record_id(1)]["additional_data"])["provenance"]["null_reasons"]
    assert reasons == {
        "in_litigator_list": None,
        "phone_1_in_dnc": None,
        "phone_2_in_dnc": "no_verdict",
        "phone_3_in_dnc": "no_phone",
    }
    assert [found[record_id(2)][name] for name in FLAGS] == [False, False, None, None]


def test_a_flag_that_calls_clear_what_is_not_there_becomes_unknown(warehouse: DuckdbWarehouse) -> None:
    rows = [
        master_row(1, []) | {"in_litigator_list": False},
        master_row(2, [phone(2)]) | {"phone_3_in_dnc": False},
        master_row(3, [phone(3)]),
    ]
    store(warehouse, rows, clear_rows(phone(2), phone(3)))
    assert bring(warehouse).updated == 2
    found = master(warehouse)
    assert [found[record_id(1)][name] for name in FLAGS] == [None, None, None, None]
    assert [found[record_id(2)][name] for name in FLAGS] == [False, False, None, None]


def test_record_ids_that_are_missing_or_double_keep_no_flag_from_being_set(warehouse: DuckdbWarehouse) -> None:
    rows = [master_row(number, [phone(number)]) for number in (1, 2, 2, 3)]
    rows[0]["record_id"] = None
    rows[1]["phone_1"] = phone(5)
    store(warehouse, rows, [verdict_row(phone(number), "dnc", "listed") for number in (1, 2, 3, 5)])
    twins = [master_row(4, [phone(1)], litigator=flag, additional_data="{}") for flag in (None, None, True)]
    store(warehouse, [row | {"record_id": None} for row in twins])
    sums = bring(warehouse)
    assert (sums.updated, sums.changed_meanwhile, sums.flips["dnc", "false", "true"]) == (7, 0, 7)
    with warehouse.session() as session:
        assert session.rows(f"SELECT DISTINCT phone_1_in_dnc FROM {MASTER.full_name}") == [(True,)]
        assert session.rows(f"SELECT COUNT(*) FROM {MASTER.full_name} WHERE in_litigator_list") == [(1,)]
        assert session.rows(f"SELECT COUNT(*) FROM {MASTER.full_name}") == [(7,)]


# --- which phones -------------------------------------------------------------------------


def asked(warehouse: DuckdbWarehouse, phones: Phones, source: str) -> list[int]:
    query, params = phones.to_ask(source)
    with warehouse.session() as session:
        found = {number for (number,) in session.rows(query, params)}
    return [number for number in range(10) if phone(number) in found]


def test_only_phones_whose_answer_is_missing_expired_unknown_or_of_an_older_list_are_asked_about(
    warehouse: DuckdbWarehouse,
) -> None:
    rows = [master_row(number, [phone(number)]) for number in range(8)]
    of_source = [
        verdict_row(phone(0), "dnc"),
        verdict_row(phone(1), "dnc", "listed"),
        verdict_row(phone(2), "dnc", valid_until=NOW - DAY),
        verdict_row(phone(3), "dnc", "unknown", reason=Reason.TIMEOUT),
        verdict_row(phone(4), "dnc", "unknown", reason=Reason.MALFORMED_BY_VENDOR),
        verdict_row(phone(5), "dnc") | {"list_version": "an older list", "obtained_at": NOW - 3 * DAY},
        verdict_row(phone(6), "dnc") | {"list_version": "a newer list", "obtained_at": NOW},
    ]
    store(warehouse, rows, of_source)
    version = {"list_version": "list-1", "obtained_at": NOW - timedelta(days=2)}
    assert asked(warehouse, published_phones_of_list(NOW, **version, renew=False), "dnc") == [
        2,
        3,
        5,
        7,
    ]
    undated = published_phones_of_list(NOW, list_version="list-1", obtained_at=None, renew=False)
    assert asked(warehouse, undated, "dnc") == [2, 3, 5, 6, 7]
    assert asked(warehouse, published_phones(NOW, renew=False), "dnc") == [2, 3, 7]
    assert asked(warehouse, published_phones(NOW, renew=False), "ccc") == list(range(8))
    assert asked(warehouse, published_phones(NOW, renew=True), "dnc") == list(range(8))
