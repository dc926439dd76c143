"""Requests not to be called that were made to us, and consents to be called: what counts as one, and for how long.

A request to us beats everything. A consent lifts a listing on the registry and nothing else: no
litigator hit, no request, and no answer that is unknown.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

COMPANY: Final = "company"
CONSENT: Final = "consent"
"""Sources in the evidence, beside those of verdicts.py."""

WITHOUT_PHONE: Final = "bad_phone"
WITHOUT_TIME: Final = "bad_date"
IN_FUTURE: Final = "date_in_future"
WITHOUT_PROOF: Final = "no_proof"
BAD_KIND: Final = "bad_kind"
BAD_TEXT: Final = "bad_text"
"""Why an entry is not taken."""

LONGEST_TEXT: Final = 200


class ConsentKind(StrEnum):
    """What a consent rests on. The text is stored; a change of a value is a change of data."""

    WRITTEN = "written_consent"
    TRANSACTION = "transaction"
    INQUIRY = "inquiry"


_MONTHS: Final = {ConsentKind.TRANSACTION: 18, ConsentKind.INQUIRY: 3}
"""How long a business relationship lasts (16 CFR 310.2(q), 47 CFR 64.1200(f)(5))."""


@dataclass(frozen=True, slots=True)
class DncRequest:
    """Somebody asked us not to call this number. ``requested_at`` is aware."""

    phone: str
    requested_at: datetime
    source: str
    """How it reached us, or which file has it."""


@dataclass(frozen=True, slots=True)
class Consent:
    """Somebody may be called at this number although it is on the registry. Times are aware."""

    phone: str
    kind: ConsentKind
    given_at: datetime
    proof: str
    """Where the proof is kept: number of a contract, address of a recording."""
    source: str
    ends_at: datetime | None = None
    """An earlier end than the rule's, or the end of a written consent."""

    @property
    def expires_at(self) -> datetime | None:
        """None for a written consent without an end: it counts until it is revoked."""
        months = _MONTHS.get(self.kind)
        by_rule = None if months is None else months_later(self.given_at, months)
        return min((moment for moment in (by_rule, self.ends_at) if moment is not None), default=None)


def months_later(moment: datetime, months: int) -> datetime:
    """The same day of a later month, or the month's last: three months after 30 November end on 28 February."""
    years, month = divmod(moment.month - 1 + months, 12)
    year, month = moment.year + years, month + 1
    return moment.replace(year=year, month=month, day=min(moment.day, monthrange(year, month)[1]))


def is_plain(text: str) -> bool:
    """Whether a text of somebody else's can be kept and shown: on one line, and not endless."""
    return 0 < len(text) <= LONGEST_TEXT and text.isprintable()
