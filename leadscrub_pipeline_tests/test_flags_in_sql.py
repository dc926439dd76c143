"""The warehouse's flags are those of domain/verdicts.py: every combination is published and compared."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.domain.verdicts import (
    CCC,
    CLEAR,
    DNC,
    LASTING_REASONS,
    LISTED,
    Answer,
    Flag,
    Reason,
    litigator_flag,
    phone_flag,
    standing,
    unknown,
)
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.master import publish
from leadscrub_pipeline.warehouse.merging import Publication
from leadscrub_pipeline.warehouse.schema import (
    ENRICHED_CONTACTS,
    INTERNAL_DNC,
    MASTER,
    PERSON_CACHE,
    PHONE_VERDICTS,
    PUBLISHED_IDENTITIES,
    RAW_LEADS,
    SLICES,
)
from leadscrub_pipeline.warehouse.slices import read_slice
from leadscrub_pipeline_tests.published import Row, make_warehouse, phone, verdict_row

NOW = datetime(2026, 11, 21, 12, 30, 15, 123456, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
KEY, RUN = "spring", "run-1"


class Said(NamedTuple):
    """A stored verdict, or none."""

    answer: Answer | None
    valid_until: datetime = NOW + timedelta(days=3)
    asked_not_to_call: bool = False
    """Of what the registry says: the number is on the company's list as well."""

    @property
    def flag(self) -> Flag:
        """By the rules of domain/verdicts.py."""
        counts = None if self.answer is None else standing(self.answer, valid_until=self.valid_until, now=NOW)
        return phone_flag(counts, has_phone=True, asked_not_to_call=self.asked_not_to_call)

    @property
    def lists(self) -> str | None:
        """Which lists the phone is on, as the row says it."""
        on = [("registry", self.answer == LISTED), ("company", self.asked_not_to_call)]
        return ", ".join(name for name, holds in on if holds) or None


REASONS = [reason for reason in Reason if reason is not Reason.NO_PHONE]
"""What a source may say of a phone: that there is none is never its answer."""
NOTHING = Said(None)
ON_LIST = Said(LISTED)
ABSENT = Said(CLEAR)
NO_PHONE = None
EVERY_VERDICT = (
    NOTHING,
    ON_LIST,
    Said(LISTED, NOW - timedelta(days=300)),
    ABSENT,
    Said(CLEAR, NOW + MOMENT),
    Said(CLEAR, NOW),
    Said(CLEAR, NOW - MOMENT),
    *(Said(unknown(reason), NOW) for reason in REASONS),
)
ASKED_NOT_TO_CALL = tuple(said._replace(asked_not_to_call=True) for said in EVERY_VERDICT)
Slot = tuple[Said, Said] | None
"""What CCC and the registry say of the phone in a column, or no phone."""


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckdbWarehouse:
    return make_warehouse(tmp_path)


def verdicts_of(leads: Sequence[Sequence[Slot]]) -> list[Row]:
    """What the sources say of each lead's phones."""
    return [
        verdict_row(
            phone(number * 3 + place),
            source,
            said.answer.verdict,
            reason=said.answer.reason,
            valid_until=said.valid_until,
        )
        for number, slots in enumerate(leads, start=1)
        for place, slot in enumerate(slots, start=1)
        for source, said in zip((CCC, DNC), slot or (), strict=False)
        if said.answer is not None
    ]


def replace_requests(warehouse: DuckdbWarehouse, leads: Sequence[Sequence[Slot]]) -> None:
    """Have the company's list hold those of the leads' phones that are on it, each twice, and nothing else."""
    asked = [
        {**dict.fromkeys(INTERNAL_DNC.column_names), "phone": phone(number * 3 + place), "requested_at": NOW,
         "source": source}
        for number, slots in enumerate(leads, start=1)
        for place, slot in enumerate(slots, start=1)
        if slot is not None and slot[1].asked_not_to_call
        for source in ("call", "letter")
    ]  # fmt: skip
    with warehouse.session() as session:
        session.execute(f"DELETE FROM {INTERNAL_DNC.full_name}")
        session.load(INTERNAL_DNC.full_name, to_table(asked, arrow_schema(INTERNAL_DNC)))


def publish_leads(warehouse: DuckdbWarehouse, leads: Sequence[Sequence[Slot]]) -> list[tuple[dict[str, Any], bool]]:
    """Publish one lead for each row of three slots; give its master row, and whether it is settled."""
    raw, contacts = [], []
    verdicts = verdicts_of(leads)
    for number, slots in enumerate(leads, start=1):
        contact: dict[str, object] = dict.fromkeys(ENRICHED_CONTACTS.column_names)
        for place, slot in enumerate(slots, start=1):
            if slot is not None:
                contact[f"phone_{place}"] = phone(number * 3 + place)
        common = {"partition_key": KEY, "run_id": RUN, "lead_number": number, "person_key": f"person-{number}"}
        contacts.append({**contact, **common, "outcome": "hit", "lookup_id": f"lookup-{number}", "looked_up_at": NOW,
                         "expires_at": NOW + timedelta(days=180), "contact": '{"is_dead":false}'})  # fmt: skip
        raw.append({**dict.fromkeys(RAW_LEADS.column_names), **common, "key_version": 1, "additional": "{}",
                    "identity_hash": f"identity-{number}"})  # fmt: skip
    replace_requests(warehouse, leads)
    with warehouse.session() as session:
        for table in (MASTER, PERSON_CACHE, PHONE_VERDICTS, PUBLISHED_IDENTITIES, RAW_LEADS, ENRICHED_CONTACTS, SLICES):
            session.execute(f"DELETE FROM {table.full_name}")
        for table, rows in ((PHONE_VERDICTS, verdicts), (RAW_LEADS, raw), (ENRICHED_CONTACTS, contacts)):
            session.load(table.full_name, to_table(rows, arrow_schema(table)))
        for name in (RAW_LEADS.name, ENRICHED_CONTACTS.name):
            session.execute(f"INSERT INTO {SLICES.full_name} VALUES (?, ?, ?, ?, ?, '{{}}')", [name, KEY, RUN, NOW, 1])
        slices = [read_slice(session, table, KEY) for table in (RAW_LEADS, ENRICHED_CONTACTS)]
        publication = Publication(KEY, "Spring", RUN, "scrub_job", "hash", "default")
        publish(session, warehouse.dialect, *slices, publication, now=NOW)
        rows = session.table(
            f"SELECT c.person_key, m.* FROM {MASTER.full_name} AS m "
            f"JOIN {PERSON_CACHE.full_name} AS c ON c.record_id = m.record_id"
        ).to_pylist()
        settled = dict(session.rows(f"SELECT person_key, settled FROM {PUBLISHED_IDENTITIES.full_name}"))
    assert len(rows) == len(leads)
    published = {row["person_key"]: row for row in rows}
    people = [f"person-{number}" for number in range(1, len(leads) + 1)]
    return [(published[person], settled[person]) for person in people]


def assert_flags_agree(warehouse: DuckdbWarehouse, leads: Sequence[Sequence[Slot]]) -> None:
    for slots, (row, is_settled) in zip(leads, publish_leads(warehouse, leads), strict=True):
        no_phone = phone_flag(None, has_phone=False)
        of_ccc = [no_phone if slot is None else slot[0].flag for slot in slots]
        of_dnc = [no_phone if slot is None else slot[1].flag for slot in slots]
        expected = {"in_litigator_list": litigator_flag(of_ccc)}
        expected |= {f"phone_{place}_in_dnc": flag for place, flag in enumerate(of_dnc, start=1)}
        provenance = orjson.loads(row["additional_data"])["provenance"]
        told = [provenance[f"phone_{place}_dnc_lists"] for place in (1, 2, 3)]
        assert told == [None if slot is None else slot[1].lists for slot in slots]
        reasons = provenance["null_reasons"]
        assert {name: Flag(row[name], reasons[name]) for name in expected} == expected, slots
        waits_for = {flag.reason for flag in (*of_ccc, *of_dnc) if flag.value is None} - LASTING_REASONS
        assert is_settled is (not waits_for), slots


@pytest.mark.parametrize("place", [1, 2, 3])
def test_every_pair_of_verdicts_about_one_phone_gives_the_flags_of_the_rules(
    warehouse: DuckdbWarehouse, place: int
) -> None:
    leads = []
    for slot in itertools.product(EVERY_VERDICT, (*EVERY_VERDICT, *ASKED_NOT_TO_CALL)):
        slots: list[Slot] = [None, None, None]
        slots[place - 1] = slot
        leads.append(slots)
    assert_flags_agree(warehouse, leads)


def test_every_combination_over_three_phones_gives_the_litigator_flag_of_the_rules(warehouse: DuckdbWarehouse) -> None:
    timeout, lasting = Said(unknown(Reason.TIMEOUT)), Said(unknown(Reason.MALFORMED_BY_VENDOR))
    kinds = (NO_PHONE, NOTHING, ON_LIST, ABSENT, Said(CLEAR, NOW), timeout, lasting)
    combinations = list(itertools.product(kinds, repeat=3))
    assert_flags_agree(
        warehouse, [[None if said is None else (said, ABSENT) for said in said_of] for said_of in combinations]
    )


_VALID_UNTIL = st.sampled_from([NOW + days * timedelta(days=1) + n * MOMENT for days in (-9, 0, 9) for n in (-1, 0, 1)])
_ANSWER = st.sampled_from([None, LISTED, CLEAR, CLEAR, *map(unknown, REASONS)])
_BY_CCC = st.builds(Said, _ANSWER, _VALID_UNTIL, st.just(value=False))
_SLOT = st.none() | st.tuples(_BY_CCC, st.builds(Said, _ANSWER, _VALID_UNTIL, st.booleans()))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(leads=st.lists(st.tuples(_SLOT, _SLOT, _SLOT), min_size=1, max_size=40))
def test_any_leads_get_the_flags_of_the_rules(warehouse: DuckdbWarehouse, leads: list[tuple[Slot, Slot, Slot]]) -> None:
    assert_flags_agree(warehouse, leads)


def test_a_false_flag_always_has_an_unexpired_clear_verdict_behind_it(warehouse: DuckdbWarehouse) -> None:
    slots = list(itertools.product(EVERY_VERDICT, (*EVERY_VERDICT, *ASKED_NOT_TO_CALL)))
    for (ccc, dnc), (row, _) in zip(
        slots, publish_leads(warehouse, [[slot, None, None] for slot in slots]), strict=True
    ):
        for name, said in (("in_litigator_list", ccc), ("phone_1_in_dnc", dnc)):
            if row[name] is False:
                assert said.answer == CLEAR
                assert said.valid_until > NOW
