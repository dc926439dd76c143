"""Counts of a partition's contacts as they stand in the table, for the checks of enriched_contacts.

What became of the leads while they were asked about is the step's own knowledge and does not belong here.
"""

from dataclasses import dataclass
from typing import Final

from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS

_SLOTS: Final = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class ContactCounts:
    outcomes: dict[str, int]
    phones: int
    invalid_phones: int
    """No NANP number: not ten digits, or area code or exchange begin with 0 or 1 (VENDORS.md, "Phone numbers")."""


def count_contacts(session: Session, partition_key: str, run_id: str) -> ContactCounts:
    """What a run published for a partition; every outcome has a count, zero included."""
    phones = " + ".join(f"CASE WHEN phone_{i} IS NULL THEN 0 ELSE 1 END" for i in _SLOTS)
    invalid = " + ".join(f"CASE WHEN {_is_invalid(f'phone_{i}')} THEN 1 ELSE 0 END" for i in _SLOTS)
    outcomes = {"hit": 0, "miss": 0, "deferred": 0, "held": 0}
    phone_count = invalid_count = 0
    for outcome, leads, of_phones, of_invalid in session.rows(
        f"SELECT outcome, COUNT(*), SUM({phones}), SUM({invalid}) FROM {ENRICHED_CONTACTS.full_name} "
        "WHERE partition_key = ? AND run_id = ? GROUP BY outcome",
        [partition_key, run_id],
    ):
        outcomes[outcome] = int(leads)
        phone_count += int(of_phones)
        invalid_count += int(of_invalid)
    return ContactCounts(outcomes, phone_count, invalid_count)


def _is_invalid(phone: str) -> str:
    return (
        f"LENGTH({phone}) <> 10 OR TRANSLATE({phone}, '0123456789', '') <> '' "
        f"OR SUBSTR({phone}, 1, 1) IN ('0', '1') OR SUBSTR({phone}, 4, 1) IN ('0', '1')"
    )
