"""A partition that is too large for the memory there is gets published in parts, and nobody is lost between two.

What is published twice is the same row with another run's name, on an engine that changes rows and on one that writes
them anew.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.warehouse import master
from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.duckdb import DuckdbSession, DuckdbWarehouse
from leadscrub_pipeline.warehouse.merging import Publication
from leadscrub_pipeline.warehouse.schema import (
    ENRICHED_CONTACTS,
    MASTER,
    PERSON_CACHE,
    PUBLISHED_IDENTITIES,
    RAW_LEADS,
    SLICES,
    Table,
)
from leadscrub_pipeline.warehouse.slices import read_slice
from leadscrub_pipeline_tests.published import DAY, NOW, make_warehouse

KEY, RUN = "spring", "run-1"


class Lead(NamedTuple):
    """A selected lead, and how wide its texts are."""

    number: int
    additional: int = 0
    contact: int = 0


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckdbWarehouse:
    return make_warehouse(tmp_path)


@pytest.fixture(params=[True, False], ids=["by delete", "by merge"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are written anew, as the embedded engine has it, or changed, as Snowflake has it."""
    monkeypatch.setattr(DuckdbSession, "replaces_by_delete", request.param)


@pytest.fixture
def parts() -> Iterator[list[str]]:
    """The points that publishing has passed."""
    passed: list[str] = []
    failpoints.arm(passed.append)
    yield passed
    failpoints.arm(None)


def text(drawn: random.Random, characters: int) -> str:
    return drawn.randbytes(characters // 2).hex()


def store(warehouse: DuckdbWarehouse, leads: Sequence[Lead]) -> None:
    """Keep the leads and their contacts as a run would that has found them."""
    drawn = random.Random(6)
    raw, contacts = [], []
    for lead in leads:
        common = {"partition_key": KEY, "run_id": RUN, "lead_number": lead.number, "person_key": f"p-{lead.number}"}
        raw.append({**dict.fromkeys(RAW_LEADS.column_names), **common, "key_version": 1,
                    "identity_hash": f"identity-{lead.number}", "last_name": f"Lead{lead.number}",
                    "additional": f'{{"note":"{text(drawn, lead.additional)}"}}'})  # fmt: skip
        contacts.append({**dict.fromkeys(ENRICHED_CONTACTS.column_names), **common, "outcome": "hit",
                         "lookup_id": f"lookup-{lead.number}", "looked_up_at": NOW, "expires_at": NOW + DAY,
                         "contact": f'{{"is_dead":false,"note":"{text(drawn, lead.contact)}"}}'})  # fmt: skip
    with warehouse.session() as session:
        for table, rows in ((RAW_LEADS, raw), (ENRICHED_CONTACTS, contacts)):
            session.load(table.full_name, to_table(rows, arrow_schema(table)))
            session.execute(
                f"INSERT INTO {SLICES.full_name} VALUES (?, ?, ?, ?, ?, '{{}}')", [table.name, KEY, RUN, NOW, len(rows)]
            )


def publish(warehouse: DuckdbWarehouse, *, run: str = RUN, now: datetime = NOW) -> list[str]:
    """Publish what is stored, and give what was told meanwhile."""
    told: list[str] = []
    with warehouse.session() as session:
        slices = [read_slice(session, table, KEY) for table in (RAW_LEADS, ENRICHED_CONTACTS)]
        publication = Publication(KEY, "Spring", run, "scrub_job", "hash", "default")
        published = master.publish(session, warehouse.dialect, *slices, publication, now=now, report=told.append)
    assert published.published == slices[1].row_count
    return told


def rows_of(warehouse: DuckdbWarehouse, table: Table, order: str) -> list[dict[str, Any]]:
    with warehouse.session() as session:
        rows: list[dict[str, Any]] = session.table(f"SELECT * FROM {table.full_name} ORDER BY {order}").to_pylist()
    return rows


def assert_everyone_once(warehouse: DuckdbWarehouse, leads: Sequence[Lead], *, run: str = RUN) -> None:
    rows = rows_of(warehouse, MASTER, "last_name")
    assert [(row["last_name"], row["job_id"]) for row in rows] == sorted((f"Lead{lead.number}", run) for lead in leads)
    owners = {row["record_id"] for row in rows_of(warehouse, PERSON_CACHE, "person_key")}
    identities = [row["record_id"] for row in rows_of(warehouse, PUBLISHED_IDENTITIES, "person_key")]
    assert owners == set(identities) == {row["record_id"] for row in rows}
    assert len(owners) == len(identities) == len(leads)


def sparse_leads(drawn: random.Random, count: int, highest: int) -> list[Lead]:
    return [
        Lead(number, drawn.choice([0, 0, 50, 5_000]), drawn.choice([0, 100, 2_000]))
        for number in sorted(drawn.sample(range(1, highest + 1), count))
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("at_a_time", "characters"), [(230, 10**9), (10**9, 160_000), (1, 1)])
def test_everyone_is_published_once_however_many_fit(
    warehouse: DuckdbWarehouse,
    monkeypatch: pytest.MonkeyPatch,
    parts: list[str],
    seed: int,
    at_a_time: int,
    characters: int,
) -> None:
    monkeypatch.setattr(DuckdbSession, "leads_at_a_time", at_a_time)
    monkeypatch.setattr(master, "_TEXT_AT_A_TIME", characters)
    drawn = random.Random(seed)
    leads = sparse_leads(drawn, 300, drawn.choice([300, 1_700, 3_001]))
    # Bounds fall between two hundreds.
    leads += [Lead(number) for number in (4_000, 4_001, 4_100, 4_101, 4_200)]
    store(warehouse, leads)
    monkeypatch.setattr(master, "Progress", partial(Progress, every=0))
    told = publish(warehouse)
    assert len(told) == parts.count("master.merged_range") > 1
    assert told[-1].startswith("305 of 305")
    assert_everyone_once(warehouse, leads)


def test_a_selection_of_which_few_were_kept_is_merged_as_few(
    warehouse: DuckdbWarehouse, monkeypatch: pytest.MonkeyPatch, parts: list[str]
) -> None:
    monkeypatch.setattr(DuckdbSession, "leads_at_a_time", 500)
    store(warehouse, [Lead(number) for number in range(7, 1_000_000, 4_000)])
    publish(warehouse)
    assert parts.count("master.merged_range") == 1


def test_nobody_is_a_partition_too(warehouse: DuckdbWarehouse, parts: list[str]) -> None:
    store(warehouse, [])
    publish(warehouse)
    assert parts.count("master.merged_range") == 1


@pytest.mark.usefixtures("either_way")
def test_once_more_changes_the_rows_and_nobody_elses(
    warehouse: DuckdbWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DuckdbSession, "leads_at_a_time", 1)
    leads = [Lead(number) for number in range(1, 450)]
    store(warehouse, leads)
    publish(warehouse)
    before = {table: rows_of(warehouse, table, "person_key") for table in (PERSON_CACHE, PUBLISHED_IDENTITIES)}
    with warehouse.session() as session:
        # Lead 7 has two rows from an older system, and there are rows that are none of ours.
        session.execute(f"INSERT INTO {MASTER.full_name} SELECT * FROM {MASTER.full_name} WHERE last_name = 'Lead7'")
        session.execute(
            f"INSERT INTO {MASTER.full_name} (record_id, job_id) VALUES (NULL, 'older'), ('other', 'older')"
        )
        session.execute(f"INSERT INTO {PERSON_CACHE.full_name} (person_key, record_id) VALUES ('other', 'other')")
        session.execute(f'ALTER TABLE {MASTER.full_name} ADD COLUMN "Called ""at""" VARCHAR')
        session.execute(f'UPDATE {MASTER.full_name} SET "Called ""at""" = last_name')
    publish(warehouse, run="run-2", now=NOW + DAY / 2)
    rows = rows_of(warehouse, MASTER, "last_name NULLS LAST, record_id")
    assert [(row["record_id"], row["job_id"]) for row in rows[-2:]] == [("other", "older"), (None, "older")]
    names = sorted([*(f"Lead{lead.number}" for lead in leads), "Lead7"])
    assert [(row["last_name"], row["job_id"]) for row in rows[:-2]] == [(name, "run-2") for name in names]
    assert [row['Called "at"'] for row in rows[:-2]] == names
    people = rows_of(warehouse, PERSON_CACHE, "person_key")
    changed = [{**row, "published_at": (NOW + DAY / 2).replace(tzinfo=None)} for row in before[PERSON_CACHE]]
    assert [row for row in people if row["person_key"] != "other"] == changed
    assert len(people) == len(changed) + 1
    assert rows_of(warehouse, PUBLISHED_IDENTITIES, "person_key") == before[PUBLISHED_IDENTITIES]


@pytest.mark.usefixtures("either_way")
def test_whom_another_script_published_meanwhile_or_who_was_erased_is_left_alone(warehouse: DuckdbWarehouse) -> None:
    leads = [Lead(number) for number in (1, 2, 3)]
    store(warehouse, leads)
    with warehouse.session() as session:
        session.execute(
            f"INSERT INTO {PERSON_CACHE.full_name} (person_key, outcome, record_id, partition_key) "
            "VALUES ('p-2', 'hit', 'theirs', 'autumn'), ('p-3', 'erased', 'erased', '(erased)')"
        )
        slices = [read_slice(session, table, KEY) for table in (RAW_LEADS, ENRICHED_CONTACTS)]
        publication = Publication(KEY, "Spring", RUN, "scrub_job", "hash", "default")
        published = master.publish(session, warehouse.dialect, *slices, publication, now=NOW)
    assert (published.published, published.taken) == (1, 2)
    assert [row["last_name"] for row in rows_of(warehouse, MASTER, "last_name")] == ["Lead1"]
    people = [
        (row["person_key"], row["outcome"], row["partition_key"])
        for row in rows_of(warehouse, PERSON_CACHE, "person_key")
    ]
    assert people == [("p-1", "hit", KEY), ("p-2", "hit", "autumn"), ("p-3", "erased", "(erased)")]


@pytest.mark.usefixtures("either_way")
def test_what_a_newer_lookup_said_of_a_person_stands_when_an_older_answer_is_published(
    warehouse: DuckdbWarehouse,
) -> None:
    store(warehouse, [Lead(1)])
    newer = {"key_version": 2, "outcome": "miss", "looked_up_at": (NOW + DAY).replace(tzinfo=None),
             "expires_at": (NOW + 9 * DAY).replace(tzinfo=None)}  # fmt: skip
    row = {**dict.fromkeys(PERSON_CACHE.column_names), "person_key": "p-1", **newer}
    with warehouse.session() as session:
        session.load(PERSON_CACHE.full_name, to_table([row], arrow_schema(PERSON_CACHE)))
    publish(warehouse)
    (person,) = rows_of(warehouse, PERSON_CACHE, "person_key")
    assert {name: person[name] for name in newer} == newer
    assert person["partition_key"] == KEY
    (identity,) = rows_of(warehouse, PUBLISHED_IDENTITIES, "person_key")
    assert (identity["record_id"], identity["owned_until"]) == (person["record_id"], newer["expires_at"])


@pytest.mark.long
def test_wide_leads_fit_into_the_memory_there_is(warehouse: DuckdbWarehouse, parts: list[str]) -> None:
    # All at once they did not, nor did what an UPDATE of them kept.
    leads = [Lead(number, additional=30_000) for number in range(1, 2_501)]
    store(warehouse, leads)
    for run in ("run-1", "run-2"):
        publish(warehouse, run=run)
        assert_everyone_once(warehouse, leads, run=run)
    assert parts.count("master.merged_range") == 8
