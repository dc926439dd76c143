"""CALLABLE_PHONES: a phone is in it only when every rule allows it, each rule shown by itself and in combination."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES
from leadscrub_pipeline_tests.published import (
    DAY,
    NOW,
    Row,
    clear_rows,
    clear_tables,
    consent_row,
    make_warehouse,
    master_row,
    phone,
    request_row,
    store,
    verdict_row,
    withdrawal_row,
)


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckdbWarehouse:
    return make_warehouse(tmp_path)


def callable_phones(warehouse: DuckdbWarehouse) -> set[str]:
    with warehouse.session() as session:
        return {number for (number,) in session.rows(f"SELECT phone FROM {CALLABLE_PHONES}")}


# --- the rules, told a second time ------------------------------------------------------

VERDICTS = ("none", "listed", "clear", "expired", "unknown")
FLAGS = (False, True, None)
MARKS = ("false", "true", "missing", "null")
WITHDRAWN = ("never", "before", "at the same time", "after")
ASKED = ("never", "withdrawn", "stands", "twice")
CONSENT = ("none", "in writing", "stands", "expired", "revoked")


class Holder(NamedTuple):
    """A published row as it looks from one of its phones."""

    litigator: bool | None = False
    dead: str = "false"
    disconnected: str = "false"
    withdrawn: str = "never"
    slot: int = 1

    @property
    def is_free(self) -> bool:
        return (
            self.litigator is False
            and self.dead != "true"
            and self.disconnected != "true"
            and self.withdrawn in ("never", "before")
        )


@dataclass(frozen=True)
class Case:
    """A phone, what the two sources say of it, and the rows that hold it."""

    number: str
    ccc: str
    dnc: str
    holders: tuple[Holder, ...]
    asked: str = "never"
    consent: str = "none"

    @property
    def may_be_called(self) -> bool:
        by_registry = self.dnc == "clear" or (self.dnc == "listed" and self.consent in ("in writing", "stands"))
        nobody_asked = self.asked in ("never", "withdrawn")
        return self.ccc == "clear" and by_registry and nobody_asked and all(holder.is_free for holder in self.holders)

    def requests(self) -> Iterator[Row]:
        if self.asked != "never":
            yield request_row(self.number, withdrawn_at=NOW - DAY)
        if self.asked in ("stands", "twice"):
            yield request_row(self.number, source="letter")
        if self.asked == "twice":
            yield request_row(self.number, source="web form")

    def consents(self) -> Iterator[Row]:
        if self.consent != "none":
            yield consent_row(self.number, expires_at=NOW - DAY, proof="old contract")
        if self.consent == "in writing":
            yield consent_row(self.number, "written_consent", expires_at=None)
        elif self.consent != "none":
            revoked_at = NOW - DAY if self.consent == "revoked" else None
            expires_at = NOW - DAY if self.consent == "expired" else NOW + 5 * DAY
            yield consent_row(self.number, "inquiry", expires_at=expires_at, revoked_at=revoked_at)

    def verdicts(self) -> Iterator[Row]:
        for source, said in (("ccc", self.ccc), ("dnc", self.dnc)):
            if said == "expired":
                yield verdict_row(self.number, source, "clear", valid_until=NOW - DAY)
            elif said != "none":
                yield verdict_row(self.number, source, said, reason="timeout" if said == "unknown" else None)

    def rows(self) -> Iterator[Row]:
        for place, holder in enumerate(self.holders):
            contact: dict[str, object] = _marked("is_dead", holder.dead)
            contact[f"phone_{holder.slot}"] = {"type": "mobile", **_marked("disconnected", holder.disconnected)}
            other = holder.slot % 3 + 1
            contact[f"phone_{other}"] = {"type": "mobile", "disconnected": True}
            numbers: list[str | None] = [None, None, None]
            numbers[holder.slot - 1] = self.number
            yield master_row(f"{self.number}/{place}", numbers, litigator=holder.litigator, contact=contact)

    def withdrawals(self) -> Iterator[Row]:
        published = NOW - DAY
        times = {"before": published - DAY, "at the same time": published, "after": published + DAY / 2}
        for place, holder in enumerate(self.holders):
            if holder.withdrawn in times:
                yield withdrawal_row(f"{self.number}/{place}", times[holder.withdrawn])


def _marked(name: str, mark: str) -> dict[str, object]:
    return {} if mark == "missing" else {name: {"true": True, "false": False, "null": None}[mark]}


def assert_view_agrees(warehouse: DuckdbWarehouse, cases: list[Case]) -> None:
    store(
        warehouse,
        [row for case in cases for row in case.rows()],
        [row for case in cases for row in case.verdicts()],
        [row for case in cases for row in case.withdrawals()],
        requests=[row for case in cases for row in case.requests()],
        consents=[row for case in cases for row in case.consents()],
    )
    expected = {case.number for case in cases if case.may_be_called}
    found = callable_phones(warehouse)
    wrong = [case for case in cases if (case.number in found) != case.may_be_called]
    assert not wrong
    assert found == expected


def test_every_combination_of_verdicts_and_one_row_gives_the_view_the_right_answer(warehouse: DuckdbWarehouse) -> None:
    combinations = itertools.product(VERDICTS, VERDICTS, FLAGS, MARKS, MARKS, WITHDRAWN, (1, 2, 3))
    cases = [
        Case(phone(number), ccc, dnc, (Holder(*holder),)) for number, (ccc, dnc, *holder) in enumerate(combinations)
    ]
    assert sum(case.may_be_called for case in cases) == 3 * 3 * 2 * 3
    assert_view_agrees(warehouse, cases)


def test_a_consent_lifts_a_listing_and_nothing_else_and_a_request_beats_all(warehouse: DuckdbWarehouse) -> None:
    combinations = itertools.product(VERDICTS, VERDICTS, (False, True), ASKED, CONSENT)
    cases = [
        Case(phone(number), ccc, dnc, (Holder(litigator=litigator),), asked, consent)
        for number, (ccc, dnc, litigator, asked, consent) in enumerate(combinations)
    ]
    assert sum(case.may_be_called for case in cases) == 2 * (len(CONSENT) + 2)
    assert_view_agrees(warehouse, cases)


def test_the_view_says_on_which_ground_a_number_may_be_called_and_until_when(warehouse: DuckdbWarehouse) -> None:
    phones = [phone(number) for number in range(5)]
    verdicts = [verdict_row(number, "ccc", valid_until=NOW + 8 * DAY) for number in phones]
    verdicts += [verdict_row(phones[0], "dnc"), *(verdict_row(number, "dnc", "listed") for number in phones[1:])]
    consents = [
        consent_row(phones[0]),
        consent_row(phones[1]),
        consent_row(phones[2], expires_at=NOW + 3 * DAY),
        consent_row(phones[2], "written_consent", expires_at=None, proof="form 2"),
        consent_row(phones[3], "inquiry", expires_at=NOW + 20 * DAY),
    ]
    store(warehouse, [master_row(number, [number]) for number in phones], verdicts, consents=consents)
    with warehouse.session() as session:
        query = f"SELECT phone, basis, consent_proof, valid_until FROM {CALLABLE_PHONES} ORDER BY phone"
        found = session.rows(query)
    of_ccc = (NOW + 8 * DAY).replace(tzinfo=None)
    assert found == [
        (phones[0], "not_listed", None, of_ccc),
        (phones[1], "transaction", "contract 1", (NOW + 5 * DAY).replace(tzinfo=None)),
        (phones[2], "written_consent", "form 2", of_ccc),
        (phones[3], "inquiry", "contract 1", of_ccc),
    ]


def test_every_pair_of_rows_that_hold_one_phone_must_both_be_free(warehouse: DuckdbWarehouse) -> None:
    kinds = [
        Holder(),
        *(Holder(slot=slot) for slot in (2, 3)),
        *(Holder(litigator=flag) for flag in (True, None)),
        *(Holder(dead=mark) for mark in ("true", "missing")),
        *(Holder(disconnected=mark) for mark in ("true", "missing")),
        *(Holder(withdrawn=when) for when in WITHDRAWN),
    ]
    pairs = itertools.product(kinds, kinds)
    assert_view_agrees(warehouse, [Case(phone(n), "clear", "clear", pair) for n, pair in enumerate(pairs)])


_HOLDERS = st.builds(
    Holder,
    litigator=st.sampled_from((False, False, False, True, None)),
    dead=st.sampled_from(("false", "false", *MARKS)),
    disconnected=st.sampled_from(("false", "false", *MARKS)),
    withdrawn=st.sampled_from(("never", "never", *WITHDRAWN)),
    slot=st.sampled_from((1, 2, 3)),
)
_SAID = st.sampled_from(("clear", "clear", "clear", *VERDICTS))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(st.tuples(_SAID, _SAID, st.lists(_HOLDERS, min_size=1, max_size=5)), min_size=1, max_size=30))
def test_any_set_of_rows_and_verdicts_gives_the_view_the_right_answer(
    warehouse: DuckdbWarehouse, drawn: list[tuple[str, str, list[Holder]]]
) -> None:
    clear_tables(warehouse)
    assert_view_agrees(
        warehouse, [Case(phone(n), ccc, dnc, tuple(holders)) for n, (ccc, dnc, holders) in enumerate(drawn)]
    )


# --- what a user would ask --------------------------------------------------------------


def test_a_phone_that_nobody_holds_any_more_is_not_callable(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(1, [phone(1)])], clear_rows(phone(1), phone(2)))
    assert callable_phones(warehouse) == {phone(1)}


def test_one_listed_phone_takes_the_other_phones_of_the_lead_out_as_well(warehouse: DuckdbWarehouse) -> None:
    verdicts = [*clear_rows(phone(1)), verdict_row(phone(2), "ccc", "listed"), verdict_row(phone(2), "dnc")]
    store(warehouse, [master_row(1, [phone(1), phone(2)], litigator=True)], verdicts)
    assert callable_phones(warehouse) == set()


def test_a_number_on_the_registry_leaves_the_other_phones_of_the_lead_callable(warehouse: DuckdbWarehouse) -> None:
    verdicts = [*clear_rows(phone(1)), verdict_row(phone(2), "ccc"), verdict_row(phone(2), "dnc", "listed")]
    store(warehouse, [master_row(1, [phone(1), phone(2)], in_dnc=(False, True))], verdicts)
    assert callable_phones(warehouse) == {phone(1)}


def test_a_number_that_an_older_system_wrote_as_a_fraction_bars_it_in_every_row(warehouse: DuckdbWarehouse) -> None:
    rows = [master_row(number, [phone(number)]) for number in (1, 2, 3)]
    rows += [
        master_row("litigator's", [None, f"{phone(1)}.0"], litigator=True),
        master_row("withdrawn", [f"{phone(2)}.0"]),
        master_row("free", [f"{phone(3)}.0"]),
    ]
    store(warehouse, rows, clear_rows(phone(1), phone(2), phone(3)), [withdrawal_row("withdrawn", NOW)])
    assert callable_phones(warehouse) == {phone(3)}


def test_the_same_phone_twice_in_one_row_comes_once(warehouse: DuckdbWarehouse) -> None:
    store(warehouse, [master_row(1, [phone(1), phone(1)])], clear_rows(phone(1)))
    with warehouse.session() as session:
        assert session.rows(f"SELECT COUNT(*) FROM {CALLABLE_PHONES}") == [(1,)]


@pytest.mark.parametrize(("ccc_days", "dnc_days"), [(3, 20), (20, 3), (5, 5)])
def test_the_earlier_of_the_two_ends_is_given_as_valid_until(
    warehouse: DuckdbWarehouse, ccc_days: int, dnc_days: int
) -> None:
    verdicts = [
        verdict_row(phone(1), "ccc", valid_until=NOW + ccc_days * DAY),
        verdict_row(phone(1), "dnc", valid_until=NOW + dnc_days * DAY),
    ]
    store(warehouse, [master_row(1, [phone(1)])], verdicts)
    with warehouse.session() as session:
        rows = session.rows(f"SELECT valid_until, dnc_list_version FROM {CALLABLE_PHONES}")
    assert rows == [((NOW + min(ccc_days, dnc_days) * DAY).replace(tzinfo=None), "list-1")]


def test_a_verdict_counts_until_its_moment_in_utc_whatever_the_zone_of_the_host(
    warehouse: DuckdbWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = DAY / 24 / 60
    now = datetime.now(UTC)
    for zone in ("America/Los_Angeles", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        clear_tables(warehouse)
        ended = [verdict_row(phone(1), source, valid_until=now - minute) for source in ("ccc", "dnc")]
        lasting = [verdict_row(phone(2), source, valid_until=now + 5 * minute) for source in ("ccc", "dnc")]
        store(warehouse, [master_row(1, [phone(1)]), master_row(2, [phone(2)])], [*ended, *lasting])
        assert callable_phones(warehouse) == {phone(2)}
