"""Published phones: which of them must be asked about again, and how they stand with a source.

Asking does not belong here, nor what the answers make of the rows (rescrub.py).
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from leadscrub_pipeline.warehouse.flags import LASTING, digits_sql, flag_sql, reason_sql
from leadscrub_pipeline.warehouse.phone_verdicts import Phones
from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.schema import MASTER, PHONE_VERDICTS

_HELD: Final = " UNION ".join(
    f"SELECT {digits_sql(name)} AS phone FROM {MASTER.full_name} WHERE {name} IS NOT NULL"
    for name in ("phone_1", "phone_2", "phone_3")
)


def published_phones(now: datetime, *, renew: bool) -> Phones:
    """Every published phone. A verdict stands while it is unexpired, or when asking again would change nothing."""
    return _phones("v.valid_until > ?", (now,), renew=renew)


def published_phones_of_list(now: datetime, *, list_version: str, obtained_at: datetime | None, renew: bool) -> Phones:
    """As ``published_phones``, for a registry list: an answer of an older list does not stand, one of a newer does."""
    is_newest = "v.valid_until > ? AND (v.list_version = ? OR v.obtained_at > ?)"
    return _phones(is_newest, (now, list_version, obtained_at), renew=renew)


def _phones(is_current: str, params: tuple[object, ...], *, renew: bool) -> Phones:
    if renew:
        return Phones(_HELD, (), "FALSE", ())
    # A number that the source cannot answer for at all would be asked about for ever.
    stands = f"(v.verdict <> 'unknown' AND {is_current}) OR (v.verdict = 'unknown' AND v.reason IN ({LASTING}))"
    return Phones(_HELD, (), stands, params)


@dataclass(slots=True)
class Standing:
    """How the published phones stand with one source now: an expired answer is unknown."""

    verdicts: dict[str, int] = field(default_factory=lambda: {"listed": 0, "clear": 0, "unknown": 0})
    reasons: Counter[str] = field(default_factory=Counter)


def standing(session: Session, source: str, now: datetime) -> Standing:
    found = Standing()
    for flag, reason, count in session.rows(
        f"SELECT {flag_sql('v', 'p.phone')} AS flag, {reason_sql('v', 'p.phone')} AS reason, COUNT(*) "
        f"FROM ({_HELD}) AS p LEFT JOIN {PHONE_VERDICTS.full_name} AS v ON v.phone = p.phone AND v.source = ? "
        "GROUP BY 1, 2",
        [now, now, source],
    ):
        found.verdicts["unknown" if flag is None else "listed" if flag else "clear"] += int(count)
        if reason is not None:
            found.reasons[reason] += int(count)
    return found
