"""How verdicts become the flags of a row, told to the warehouse in SQL: for publishing and for checking again.

The rules are those of domain/verdicts.py; a property test holds the two together.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from leadscrub_pipeline.domain.verdicts import CCC, DNC, LASTING_REASONS, Reason
from leadscrub_pipeline.warehouse.schema import INTERNAL_DNC

_SLOTS: Final = (1, 2, 3)
_VERDICTS_OF: Final = tuple(f"{source}{i}" for source in (CCC, DNC) for i in _SLOTS)
ON_REGISTRY: Final = "registry"
ON_COMPANY: Final = "company"
REGISTRY_AND_COMPANY: Final = f"{ON_REGISTRY}, {ON_COMPANY}"
"""Why a Do-Not-Call flag is TRUE, as rows say it."""

LASTING: Final = ", ".join(f"'{reason.value}'" for reason in sorted(LASTING_REASONS))
"""Reasons that another visit would not change, as a list of SQL."""


def digits_sql(column: str) -> str:
    """The phone of a column; an older system wrote some as numbers with a fraction, ``2125550101.0``."""
    is_fraction = f"LENGTH({column}) = 12 AND SUBSTR({column}, 11) = '.0'"
    return f"CASE WHEN {is_fraction} THEN SUBSTR({column}, 1, 10) ELSE {column} END"


COMPANY_LIST: Final = f"(SELECT DISTINCT phone FROM {INTERNAL_DNC.full_name} WHERE withdrawn_at IS NULL)"
"""Phones that must not be called whatever the sources say, because somebody asked us."""


NOT_HONOURED: Final = " OR ".join(
    f"(m.phone_{i}_in_dnc IS DISTINCT FROM TRUE AND {digits_sql(f'm.phone_{i}')} IN {COMPANY_LIST})" for i in _SLOTS
)
"""Whether a published row ``m`` holds a number on the company's list and does not say so."""


def flag_joins(verdicts: str, phones: Sequence[str]) -> str:
    """Joins of what is known of a row's three phones, given as expressions: ccc1 to dnc3, and company1 to company3."""
    given = list(zip(_SLOTS, phones, strict=True))
    return "\n".join(
        [
            f"LEFT JOIN {verdicts} AS {source}{i} ON {source}{i}.phone = {phone} AND {source}{i}.source = '{source}'"
            for source in (CCC, DNC)
            for i, phone in given
        ]
        + [f"LEFT JOIN {COMPANY_LIST} AS company{i} ON company{i}.phone = {phone}" for i, phone in given]
    )


def flag_columns(phones: Sequence[str]) -> str:
    """Flag, reason, checked-at time and list version of each source and phone, over ``flag_joins``."""
    given = list(zip(_SLOTS, phones, strict=True))
    return ", ".join(
        [f"{flag_sql(f'{CCC}{i}', phone)} AS {CCC}{i}_flag" for i, phone in given]
        + [f"{_of_company_first(i, 'TRUE', flag_sql(f'{DNC}{i}', phone))} AS {DNC}{i}_flag" for i, phone in given]
        + [f"{reason_sql(f'{CCC}{i}', phone)} AS {CCC}{i}_reason" for i, phone in given]
        + [f"{_of_company_first(i, 'NULL', reason_sql(f'{DNC}{i}', phone))} AS {DNC}{i}_reason" for i, phone in given]
        + [f"{verdict}.checked_at AS {verdict}_checked_at" for verdict in _VERDICTS_OF]
        + [f"{DNC}{i}.list_version AS {DNC}{i}_list_version" for i in _SLOTS]
        + [f"{_lists(i)} AS {DNC}{i}_lists" for i in _SLOTS]
    )


def _of_company_first(slot: int, then: str, otherwise: str) -> str:
    """A request made to us is a Do-Not-Call entry, whatever the registry says or does not say."""
    return f"CASE WHEN company{slot}.phone IS NOT NULL THEN {then} ELSE {otherwise} END"


def _lists(slot: int) -> str:
    """Which lists a phone is on that is on any."""
    registry = f"{DNC}{slot}.verdict = 'listed'"
    return (
        f"CASE WHEN company{slot}.phone IS NOT NULL AND {registry} THEN '{REGISTRY_AND_COMPANY}' "
        f"WHEN company{slot}.phone IS NOT NULL THEN '{ON_COMPANY}' WHEN {registry} THEN '{ON_REGISTRY}' END"
    )


def flag_params(now: datetime) -> list[object]:
    """Values for ``flag_columns``."""
    return [now] * (2 * len(_VERDICTS_OF))


def row_flags() -> str:
    """The row's flags with their reasons, and whether it is settled, from ``flag_columns`` of an ``f``."""
    settled = " AND ".join(
        f"(f.{verdict}_reason IS NULL OR f.{verdict}_reason IN ({LASTING}))" for verdict in _VERDICTS_OF
    )
    return f"""{litigator_flag()} AS in_litigator_list,
  {litigator_reason()} AS litigator_reason,
  {", ".join(f"f.{DNC}{i}_flag AS phone_{i}_in_dnc" for i in _SLOTS)},
  {", ".join(f"f.{DNC}{i}_reason AS phone_{i}_dnc_reason" for i in _SLOTS)},
  {settled} AS settled"""


def flag_sql(verdict: str, phone: str) -> str:
    """The flag of one phone column; the same rule as verdicts.phone_flag over verdicts.standing."""
    return (
        f"CASE WHEN {phone} IS NULL THEN NULL WHEN {verdict}.verdict = 'listed' THEN TRUE "
        f"WHEN {verdict}.verdict = 'clear' AND {verdict}.valid_until > ? THEN FALSE END"
    )


def reason_sql(verdict: str, phone: str) -> str:
    """Why the flag of one phone column is NULL."""
    return (
        f"CASE WHEN {phone} IS NULL THEN '{Reason.NO_PHONE}' WHEN {verdict}.verdict IS NULL THEN '{Reason.NO_VERDICT}' "
        f"WHEN {verdict}.verdict = 'unknown' THEN COALESCE({verdict}.reason, '{Reason.NO_VERDICT}') "
        f"WHEN {verdict}.verdict = 'clear' AND {verdict}.valid_until <= ? THEN '{Reason.EXPIRED}' END"
    )


def litigator_flag() -> str:
    any_listed = " OR ".join(f"COALESCE(f.{CCC}{i}_flag, FALSE)" for i in _SLOTS)
    no_phone = " AND ".join(f"f.phone_{i} IS NULL" for i in _SLOTS)
    all_clear = " AND ".join(f"(f.phone_{i} IS NULL OR f.{CCC}{i}_flag IS NOT NULL)" for i in _SLOTS)
    return f"CASE WHEN {any_listed} THEN TRUE WHEN {no_phone} THEN NULL WHEN {all_clear} THEN FALSE END"


def litigator_reason() -> str:
    any_listed = " OR ".join(f"COALESCE(f.{CCC}{i}_flag, FALSE)" for i in _SLOTS)
    no_phone = " AND ".join(f"f.phone_{i} IS NULL" for i in _SLOTS)
    first = ", ".join(f"CASE WHEN f.phone_{i} IS NOT NULL THEN f.{CCC}{i}_reason END" for i in _SLOTS)
    return f"CASE WHEN {any_listed} THEN NULL WHEN {no_phone} THEN '{Reason.NO_PHONE}' ELSE COALESCE({first}) END"


def utc_text(time: str) -> str:
    """A time of the warehouse as text in the form that rows carry it."""
    return f"REPLACE(CAST({time} AS VARCHAR), ' ', 'T') || 'Z'"
