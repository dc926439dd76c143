"""The three-valued answer about one phone, and how answers become flags.

A verdict is listed, clear or unknown. Clear needs a positive and fresh answer of the
source; everything else is unknown with a reason. What a source's answer looks like on the
wire does not belong here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

CCC: Final = "ccc"
DNC: Final = "dnc"
SOURCES: Final = (CCC, DNC)


class Verdict(StrEnum):
    LISTED = "listed"
    CLEAR = "clear"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a flag is NULL. The text is stored; a change of a value is a change of data."""

    NO_PHONE = "no_phone"
    NOT_NANP = "not_nanp"
    NO_VERDICT = "no_verdict"
    EXPIRED = "expired"
    TIMEOUT = "timeout"
    VENDOR_ERROR = "vendor_error"
    NOT_JSON = "not_json"
    WRONG_SHAPE = "wrong_shape"
    WRONG_TYPE = "wrong_type"
    MISSING_FROM_ANSWER = "missing_from_answer"
    CONTRADICTORY_ANSWER = "contradictory_answer"
    MALFORMED_BY_VENDOR = "malformed_by_vendor"
    CONTROL_FAILED = "control_failed"
    STALE_LIST = "stale_list"
    LIST_OF_UNKNOWN_AGE = "list_of_unknown_age"
    AREA_CODE_NOT_COVERED = "area_code_not_covered"


LASTING_REASONS: Final = frozenset({Reason.NO_PHONE, Reason.NOT_NANP, Reason.MALFORMED_BY_VENDOR})
"""Reasons that another visit would not change. All others pass: such leads come again by themselves."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source said of one phone. A reason is given exactly when the verdict is unknown."""

    verdict: Verdict
    reason: Reason | None = None

    def __post_init__(self) -> None:
        if (self.verdict is Verdict.UNKNOWN) != (self.reason is not None):
            raise ValueError("an unknown verdict needs a reason, and no other verdict has one")
        if self.reason is Reason.NO_PHONE:
            # As a flag's reason it means an empty column, which a lead's flag leaves out.
            raise ValueError("there is no answer about no phone")


LISTED: Final = Answer(Verdict.LISTED)
CLEAR: Final = Answer(Verdict.CLEAR)


def unknown(reason: Reason) -> Answer:
    return Answer(Verdict.UNKNOWN, reason)


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of the master table: TRUE, FALSE, or NULL with its reason."""

    value: bool | None
    reason: Reason | None


def standing(answer: Answer, *, valid_until: datetime, now: datetime) -> Answer:
    """The answer as it counts now: a clear one expires, a listed one stays until a fresh answer replaces it."""
    if answer.verdict is Verdict.CLEAR and valid_until <= now:
        return unknown(Reason.EXPIRED)
    return answer


def phone_flag(answer: Answer | None, *, has_phone: bool, asked_not_to_call: bool = False) -> Flag:
    """The flag of one phone column. A request made to us is a Do-Not-Call entry, whatever the registry says."""
    if not has_phone:
        return Flag(None, Reason.NO_PHONE)
    if asked_not_to_call:
        return Flag(value=True, reason=None)
    if answer is None:
        return Flag(None, Reason.NO_VERDICT)
    if answer.verdict is Verdict.UNKNOWN:
        return Flag(None, answer.reason)
    return Flag(answer.verdict is Verdict.LISTED, None)


def litigator_flag(flags: Iterable[Flag]) -> Flag:
    """The lead's flag from those of its phone columns.

    TRUE when any phone is listed, FALSE only when there is a phone and every phone was
    answered clear, else NULL with the first reason that is not an empty column.
    """
    present = [flag for flag in flags if flag.reason is not Reason.NO_PHONE]
    if any(flag.value is True for flag in present):
        return Flag(value=True, reason=None)
    if not present:
        return Flag(None, Reason.NO_PHONE)
    for flag in present:
        if flag.value is None:
            return Flag(None, flag.reason)
    return Flag(value=False, reason=None)


def litigator_valid_until(checked_at: datetime, max_age_days: int) -> datetime:
    return checked_at + timedelta(days=max_age_days)


def registry_valid_until(obtained_at: datetime, max_age_days: int) -> datetime:
    """An answer is good until the list it came from is too old to call by (16 CFR 310.4(b)(3)(iv))."""
    return obtained_at + timedelta(days=max_age_days)


def utc_now() -> datetime:
    """The time now, aware, in UTC."""
    return datetime.now(UTC)
