"""Source tables for the three demo scripts, deterministic by seed, with known amounts of trouble.

Duplicates, other spellings, unusable rows and people whom several scripts select are made on
purpose and counted. Who the people are does not belong here; the scripts stand in sql/leads.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.simulators.persons import person_at, respelled

HOMEOWNERS: Final = "refinance_homeowners"
INQUIRIES: Final = "recent_inquiries"
CAMPAIGN: Final = "mailing_campaign"
"""The keys of the three scripts in sql/leads."""

DEMO_LEADS: Final = 1_200
_ROWS_AT_A_TIME: Final = 10_000
_FIRST_DAY: Final = date(2026, 6, 1)
_FIRST_TIME: Final = datetime(2026, 7, 1, 8, 0)  # noqa: DTZ001 - a table's own time, without a zone
_DELAY: Final = 7
"""A person's second row comes this many people later, not next to the first."""


@dataclass
class ScriptAmounts:
    """What one script must find in its tables."""

    selected: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """By reason."""
    duplicate: int = 0
    left_out: int = 0
    """Rows in the tables that the script does not select."""

    @property
    def people(self) -> int:
        """Different people who can be looked up."""
        return self.selected - self.rejected.total() - self.duplicate


@dataclass(frozen=True)
class DemoAmounts:
    """What is in the demo tables: by script key, and over all scripts."""

    scripts: dict[str, ScriptAmounts]
    people: int
    """Different people who can be looked up: each is paid for once at most."""
    shared: int
    """How many of them two scripts select."""

    @property
    def selected(self) -> int:
        return sum(script.selected for script in self.scripts.values())


class _Row(NamedTuple):
    number: int
    """Of the row in its table."""
    person: Person
    is_selected: bool


def make_demo_sources(folder: Path, *, seed: int = 1, leads: int = DEMO_LEADS) -> DemoAmounts:
    """Write the demo's tables as LEADSCRUB_SOURCES wants them, and say what is in them.

    ``leads`` is about how many rows the three scripts select together, up to a million and
    more; memory does not grow with it. The same seed and number give the same tables.
    """
    ranges = _ranges(leads)
    amounts = {key: ScriptAmounts() for key in ranges}
    public, crm = folder / "LEADS_DB" / "PUBLIC", folder / "LEADS_DB" / "CRM"
    rows = {key: _rows(people, key, amounts[key], seed) for key, people in ranges.items()}
    _write(public / "HOMEOWNERS.csv", _HOMEOWNERS, map(_homeowner, rows[HOMEOWNERS]))
    _write(public / "WEB_INQUIRIES.csv", _INQUIRIES, _inquiries(rows[INQUIRIES], amounts[INQUIRIES]))
    _write(crm / "CONTACTS.parquet", _CONTACTS, map(_crm_contact, rows[CAMPAIGN]))
    again = _rows(ranges[CAMPAIGN], CAMPAIGN, ScriptAmounts(), seed)
    _write(crm / "PROPERTIES.csv", _PROPERTIES, map(_crm_property, again))
    everybody = max(people.stop for people in ranges.values())
    return DemoAmounts(amounts, people=everybody, shared=sum(map(len, ranges.values())) - everybody)


def make_leads_table(path: Path, *, leads: int, seed: int = 1, first: int = 0) -> None:
    """Write one plain table of different people who can all be looked up, as .csv or .parquet.

    Columns ``first_name, last_name, address, city, state, zip_code, loan_amount``. ``first``
    is the number of the first person: tables whose ranges meet share those people.
    """
    people = range(first, first + leads)
    _write(path, _PLAIN, ((*person_at(index, seed=seed), 50_000 + index % 900 * 500) for index in people))


def _ranges(leads: int) -> dict[str, range]:
    """Which people each script selects; neighbours share some, and everybody is selected."""
    size = {HOMEOWNERS: leads * 36 // 100, INQUIRIES: leads * 30 // 100, CAMPAIGN: leads * 22 // 100}
    second = size[HOMEOWNERS] - size[INQUIRIES] // 5
    third = second + size[INQUIRIES] - size[CAMPAIGN] // 4
    starts = {HOMEOWNERS: 0, INQUIRIES: second, CAMPAIGN: third}
    return {key: range(starts[key], starts[key] + size[key]) for key in size}


def _rows(people: range, key: str, amounts: ScriptAmounts, seed: int) -> Iterator[_Row]:
    """A script's rows: its people, their second rows, unusable rows and rows it leaves out."""
    salt = len(key)
    number = 0

    def row(person: Person, *, is_selected: bool = True) -> _Row:
        nonlocal number
        number += 1
        amounts.selected += is_selected
        amounts.left_out += not is_selected
        return _Row(number, person, is_selected)

    for place, index in enumerate(people):
        person = person_at(index, seed=seed)
        # People of two scripts are mostly spelled another way in the second.
        yield row(respelled(person, index // 3) if key != HOMEOWNERS and index % 3 else person)
        earlier = place - _DELAY
        if earlier >= 0 and earlier % 12 == 5:
            amounts.duplicate += 1
            yield row(respelled(person_at(index - _DELAY, seed=seed), index + salt))
        if earlier >= 0 and earlier % 25 == 8:
            amounts.duplicate += 1
            yield row(person_at(index - _DELAY, seed=seed))
        if place % 18 == 11:
            reason, person = _unusable(person, place // 18 + salt)
            amounts.rejected[reason] += 1
            yield row(person)
        if place % 15 == 4:
            yield row(person_at(index + 7_000_001, seed=seed), is_selected=False)


def _unusable(person: Person, way: int) -> tuple[str, Person]:
    """A row of nobody who can be looked up, and the reason."""
    reason, values = _TROUBLES[way % len(_TROUBLES)]
    return reason, person._replace(**values)


_TROUBLES: Final[tuple[tuple[str, dict[str, str | None]], ...]] = (
    ("no_first_name", {"first_name": None}),
    ("no_last_name", {"last_name": "UNKNOWN"}),
    ("no_address", {"address": None}),
    ("no_place", {"city": None, "state": None, "zip_code": None}),
    ("no_first_name", {"first_name": "N/A"}),
    ("no_last_name", {"last_name": "  "}),
    ("no_address", {"address": "-"}),
    ("no_place", {"city": "", "zip_code": None}),
)


# --- the tables -----------------------------------------------------------------------------

_PLAIN: Final = pa.schema([*[(name, pa.string()) for name in Person._fields], ("loan_amount", pa.int64())])
_HOMEOWNERS: Final = pa.schema(
    [
        *[(name, pa.string()) for name in Person._fields],
        ("loan_amount", pa.int64()),
        ("rate_percent", pa.float64()),
        ("recorded_on", pa.date32()),
        ("status", pa.string()),
    ]
)
_INQUIRIES: Final = pa.schema(
    [
        ("First Name", pa.string()),
        ("Last Name", pa.string()),
        ("Street Address", pa.string()),
        ("City", pa.string()),
        ("State", pa.string()),
        ("Zip Code", pa.string()),
        ("Email", pa.string()),
        ("Channel", pa.string()),
        ("Inquired At", pa.timestamp("s")),
    ]
)
_CONTACTS: Final = pa.schema(
    [
        ("contact_id", pa.int64()),
        ("fname", pa.string()),
        ("lname", pa.string()),
        ("opted_out", pa.bool_()),
        ("segment", pa.string()),
    ]
)
_PROPERTIES: Final = pa.schema(
    [
        ("property_id", pa.int64()),
        ("owner_contact_id", pa.int64()),
        ("property_address", pa.string()),
        ("town", pa.string()),
        ("st", pa.string()),
        ("zip", pa.int64()),
        ("assessed_value", pa.int64()),
    ]
)


def _homeowner(row: _Row) -> tuple[object, ...]:
    closed = not row.is_selected and row.number % 2
    recorded = _FIRST_DAY + timedelta(days=row.number % 100)
    if not row.is_selected and not closed:
        recorded -= timedelta(days=400)
    amount = 80_000 + row.number % 700 * 1_000
    return (
        *row.person, amount, 3.5 + row.number % 40 / 10, recorded, "closed" if closed else "Active"
    )  # fmt: skip


def _inquiries(rows: Iterator[_Row], amounts: ScriptAmounts) -> Iterator[tuple[object, ...]]:
    """Inquiries by e-mail; some e-mails have an older one, which the script's QUALIFY leaves out."""
    for row in rows:
        asked = _FIRST_TIME + timedelta(minutes=row.number % 100_000)
        channel = ("web form", "Web chat", "WEB referral")[row.number % 3] if row.is_selected else "branch"
        email = f"inquiry.{row.number}@example.com"
        if row.is_selected and row.number % 14 == 6:
            amounts.left_out += 1
            yield (*row.person, email, "web form", asked - timedelta(days=2))
        yield (*row.person, email, channel, asked)


def _crm_contact(row: _Row) -> tuple[object, ...]:
    segment = ("spring", "summer", "autumn")[row.number % 3]
    return row.number, row.person.first_name, row.person.last_name, not row.is_selected, segment


def _crm_property(row: _Row) -> tuple[object, ...]:
    person = row.person
    # The system keeps ZIPs as numbers: leading zeros and the four digits after the dash are lost.
    zip_code = int(person.zip_code[:5]) if person.zip_code else None
    value = 120_000 + row.number % 500 * 1_000
    return 900_000 + row.number, row.number, person.address, person.city, person.state, zip_code, value


def _write(path: Path, schema: pa.Schema, rows: Iterator[tuple[object, ...]]) -> None:
    """Write the rows in batches to a file beside, then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.new")
    is_csv = path.suffix == ".csv"
    writer = pa.csv.CSVWriter(beside, schema) if is_csv else pa.parquet.ParquetWriter(beside, schema)
    with writer:
        while batch := list(islice(rows, _ROWS_AT_A_TIME)):
            columns = [
                pa.array(column, kind) for column, kind in zip(zip(*batch, strict=True), schema.types, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    beside.replace(path)
