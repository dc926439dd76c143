"""The demo's tables, scripts and registry hold exactly what their makers say."""

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from leadscrub_pipeline.domain.columns import recognise_columns
from leadscrub_pipeline.domain.dialects import to_duckdb
from leadscrub_pipeline.domain.guard import guard
from leadscrub_pipeline.domain.people import Person, person_key, unusable_reason
from leadscrub_pipeline.domain.phones import parse_phone
from leadscrub_pipeline.domain.scripts import read_scripts
from leadscrub_pipeline.simulators.contacts import Match, contact_of
from leadscrub_pipeline.simulators.leads import CAMPAIGN, HOMEOWNERS, INQUIRIES, make_demo_sources, make_leads_table
from leadscrub_pipeline.simulators.persons import HOMES, person_at, respelled
from leadscrub_pipeline.simulators.phones import (
    AREA_CODES,
    CONTROL_NUMBERS,
    PhoneSpace,
    is_listed,
    is_litigator,
    listed_phones,
    phone_at,
    space_size,
)
from leadscrub_pipeline.simulators.registry import make_registry

SCRIPTS = Path(__file__).parents[1] / "sql" / "leads"


def select_people(folder):
    """What the committed scripts find in the tables: by script, the rejected by reason and each person's rows."""
    with closing(duckdb.connect()) as connection:
        connection.execute("ATTACH ':memory:' AS LEADS_DB; CREATE SCHEMA IF NOT EXISTS LEADS_DB.PUBLIC")
        connection.execute("CREATE SCHEMA LEADS_DB.CRM")
        for path in folder.glob("LEADS_DB/*/*"):
            connection.execute(f"CREATE VIEW LEADS_DB.{path.parent.name}.{path.stem} AS FROM '{path}'")
        return {script.key: run(script, connection) for script in read_scripts(SCRIPTS)}


def run(script, connection):
    statement = guard(script, allowed_databases=["LEADS_DB"], default_database="LEADS_DB", default_schema="PUBLIC")
    result = connection.execute(to_duckdb(statement))
    names = [column[0] for column in result.description]
    places = [names.index(column) for column in recognise_columns(names, script)[:6]]
    rejected, people = Counter(), Counter()
    for row in result.fetchall():
        person = Person(*(None if row[place] is None else str(row[place]) for place in places))
        reason = unusable_reason(person)
        if reason is None:
            people[person_key(person)] += 1
        else:
            rejected[reason] += 1
    return rejected, people


@pytest.mark.parametrize(("leads", "seed"), [(1_200, 1), (1_200, 2), (37, 1), (6_000, 3)])
def test_the_scripts_find_exactly_the_amounts_that_were_made(tmp_path, leads, seed):
    amounts = make_demo_sources(tmp_path, leads=leads, seed=seed)
    found = select_people(tmp_path)
    assert found.keys() == amounts.scripts.keys() == {HOMEOWNERS, INQUIRIES, CAMPAIGN}
    everybody = Counter()
    for key, (rejected, people) in found.items():
        made = amounts.scripts[key]
        assert made.rejected == rejected
        assert made.people == len(people)
        assert made.duplicate == people.total() - len(people)
        assert made.selected == rejected.total() + people.total()
        everybody.update(people.keys())
    assert amounts.people == len(everybody)
    assert amounts.shared == sum(scripts > 1 for scripts in everybody.values())
    assert 0.9 * leads < amounts.selected < 1.1 * leads


def test_the_demo_has_some_of_everything(tmp_path):
    amounts = make_demo_sources(tmp_path)
    for script in amounts.scripts.values():
        assert script.rejected.keys() == {"no_first_name", "no_last_name", "no_address", "no_place"}
        assert min(script.duplicate, script.left_out, script.people) > 10
    assert amounts.shared > 100
    contacts = [contact_of(person_at(index, seed=1), seed=1) for index in range(amounts.people)]
    phones = {phone for contact in contacts for phone in contact.best_phones()}
    assert sum(is_litigator(phone, seed=1) for phone in phones) > 10
    assert sum(is_listed(phone, seed=1) for phone in phones) > 50
    assert {contact.match for contact in contacts} == set(Match)
    assert sum(contact.is_dead for contact in contacts) > 3


def test_the_same_seed_makes_the_same_files_and_another_seed_others(tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        make_demo_sources(tmp_path / name, leads=300, seed=seed)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 4
    for file in files:
        one, again, other = ((tmp_path / name / file).read_bytes() for name in ("one", "again", "other"))
        assert one == again
        # Contact ids and segments are the same; people are not.
        assert one != other


def test_making_the_tables_again_replaces_them_and_leaves_nothing_else(tmp_path):
    make_demo_sources(tmp_path, leads=2_000)
    make_demo_sources(tmp_path, leads=200)
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["CONTACTS.parquet", "HOMEOWNERS.csv", "PROPERTIES.csv", "WEB_INQUIRIES.csv"]
    assert pq.read_metadata(tmp_path / "LEADS_DB/CRM/CONTACTS.parquet").num_rows < 100


def test_two_numbers_are_never_one_person_and_everybody_can_be_looked_up():
    numbers = [*range(30_000), *range(1_000_000, 1_005_000), *range(HOMES - 100, HOMES)]
    people = [person_at(number, seed=1) for number in numbers]
    assert len({person_key(person) for person in people}) == len(numbers)
    assert not any(map(unusable_reason, people))


def test_every_way_of_spelling_keeps_the_person():
    for number in range(1_500):
        person = person_at(number, seed=1)
        assert {person_key(respelled(person, way)) for way in range(8)} == {person_key(person)}
    assert len({respelled(person_at(4, seed=1), way) for way in range(8)}) == 8


@pytest.mark.parametrize("name", ["LEADS.csv", "LEADS.parquet"])
def test_a_plain_table_holds_different_people(tmp_path, name):
    path = tmp_path / "DB" / "PUBLIC" / name
    make_leads_table(path, leads=25_000, first=10)
    with closing(duckdb.connect()) as connection:
        rows = connection.execute(f"SELECT first_name, last_name, address, zip_code FROM '{path}'").fetchall()
    assert len(set(rows)) == 25_000
    assert rows[0][0] == person_at(10, seed=1).first_name


# --- phones and the registry --------------------------------------------------------------------


@pytest.mark.parametrize("space", list(PhoneSpace))
def test_every_simulated_phone_is_one_that_a_person_may_have(space):
    step = max(1, space_size(space) // 20_000)
    phones = [phone_at(index, space) for index in range(0, space_size(space), step)]
    assert len(set(phones)) == len(phones)
    assert all(parse_phone(phone).digits == phone for phone in [*phones, *CONTROL_NUMBERS])
    if space is PhoneSpace.FICTIONAL:
        assert all(phone[3:8] == "55501" for phone in phones)


def test_the_whole_list_agrees_with_the_answer_for_each_phone():
    listed = {str(phone) for phones in listed_phones(PhoneSpace.FICTIONAL, seed=7) for phone in phones}
    size = space_size(PhoneSpace.FICTIONAL)
    assert listed == {
        phone for index in range(size) if is_listed(phone := phone_at(index, PhoneSpace.FICTIONAL), seed=7)
    }
    assert 0.11 < len(listed) / size < 0.13


def test_the_large_list_agrees_too():
    phones = np.concatenate(list(listed_phones(PhoneSpace.LARGE, seed=7)))
    assert np.all(np.diff(phones.astype(np.int64)) > 0)
    assert all(is_listed(str(phone), seed=7) for phone in phones[::5_000])
    assert 0.119 < len(phones) / space_size(PhoneSpace.LARGE) < 0.121


def test_a_registry_file_looks_as_the_existing_ones_do(tmp_path):
    path = tmp_path / "dnc.sqlite"
    amounts = make_registry(path, seed=3)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT area_code, phone_number, full_phone FROM dnc_list").fetchall()
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT 1 FROM dnc_list WHERE full_phone = ?", ("1",)).fetchall()
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert amounts.rows == len(rows)
    assert amounts.area_codes == set(AREA_CODES)
    assert {full for _, _, full in rows} == {
        str(phone) for phones in listed_phones(PhoneSpace.FICTIONAL, seed=3) for phone in phones
    }
    assert all(area + rest == full and len(area) == 3 for area, rest, full in rows)
    assert "idx_full_phone" in plan[0][3]
    assert names == {"dnc_list"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_registry_can_hold_given_numbers_and_leave_out_area_codes(tmp_path):
    path = tmp_path / "dnc.sqlite"
    given = make_registry(path, listed=["2125550101", "3125550102", "2125550101"])
    assert (given.rows, given.area_codes) == (2, {"212", "312"})
    partial = make_registry(path, without_area_codes=["212"])
    assert partial.area_codes == set(AREA_CODES) - {"212"}
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_compact_form_says_its_age_and_its_area_codes(tmp_path):
    path = tmp_path / "dnc.sqlite"
    obtained = datetime(2026, 11, 1, 12, tzinfo=UTC)
    amounts = make_registry(path, schema="compact", obtained_at=obtained, without_area_codes=["212"])
    with closing(sqlite3.connect(path)) as connection:
        (numbers,) = connection.execute("SELECT count(*) FROM dnc_numbers WHERE typeof(phone) = 'integer'").fetchone()
        ((version, at, rows),) = connection.execute("SELECT version, obtained_at, row_count FROM dnc_version")
        codes = {str(code) for (code,) in connection.execute("SELECT area_code FROM dnc_area_codes")}
    assert numbers == rows == amounts.rows
    assert datetime.fromisoformat(at) == obtained
    assert version == "simulated-2026-11-01"
    assert codes == amounts.area_codes == set(AREA_CODES) - {"212"}
