"""Faults to order: what goes wrong, and at which requests.

A fault is ordered by request number, by a share of all requests, or for the next so many.
How it is carried out on the connection does not belong here.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.simulators.phones import mix


class Kind(StrEnum):
    """What goes wrong."""

    # Every vendor.
    TIMEOUT_BEFORE_BILLING = "timeout_before_billing"
    TIMEOUT_AFTER_BILLING = "timeout_after_billing"
    RESET_BEFORE_BILLING = "reset_before_billing"
    RESET_AFTER_BILLING = "reset_after_billing"
    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    TOO_MANY_REQUESTS = "too_many_requests"
    """429 with Retry-After, of ``seconds`` (1 if not given)."""
    SERVER_ERROR = "server_error"
    """``status`` (503 if not given); not billed unless ``billed`` says so."""
    HTML = "html"
    """A login page with status 200."""
    NOT_JSON = "not_json"
    """Plain text with status 200."""
    EMPTY_BODY = "empty_body"
    CUT_BODY = "cut_body"
    """The connection closes in the middle of the answer."""
    CUT_JSON = "cut_json"
    """The first half of the answer, delivered as a whole one."""
    HUGE_BODY = "huge_body"
    """The answer and 20 MB of blanks, which is still JSON."""
    SLOW_BODY = "slow_body"
    """The answer arrives in small pieces over ``seconds`` (60 if not given)."""
    REDIRECT = "redirect"
    """302 to a login page."""
    WRONG_SHAPE = "wrong_shape"
    """idiCORE: the persons without their object. CCC: the rows within an object."""
    WRONG_TYPE = "wrong_type"
    """An answer in JSON whose values have other types than they should."""
    SHORT_ANSWER = "short_answer"
    """idiCORE: JSON without ``result``. CCC: the last third of the phones is missing."""
    LONG_ANSWER = "long_answer"
    """idiCORE: a thousand phones and other people's, unknown sections. CCC: phones nobody asked about."""
    # idiCORE.
    NO_MATCH = "no_match"
    """No match to everything, as a suspended account answers; billed."""
    TOO_MANY_MATCHES = "too_many_matches"
    OTHER_PERSON = "other_person"
    RELATIVES = "relatives"
    """The person without phones and e-mails, and relatives with theirs."""
    # CCC.
    ALL_FALSE = "all_false"
    OTHER_PHONE = "other_phone"
    """The first phone's answer is for another phone."""
    OTHER_PHONES = "other_phones"
    """All answers but those of the known litigators are for phones nobody asked about."""
    MISSING_PHONES = "missing_phones"
    """Every second phone is left out, the known litigators are not."""
    EMPTY_LIST = "empty_list"
    TEXT_BOOLEAN = "text_boolean"
    """"true" and "false" as text."""
    NULL_BOOLEAN = "null_boolean"
    NO_BOOLEAN = "no_boolean"
    """Rows that hold a phone and nothing else."""
    TEXT_PHONE = "text_phone"
    """Phones as text of ten digits, which is no fault: some accounts answer so."""
    FLOAT_PHONE = "float_phone"
    SPELT_PHONE = "spelt_phone"
    """Phones as people write them: (212) 555-0101."""
    DUPLICATE = "duplicate"
    """Every phone is answered twice, the same way."""
    CONTRADICTION = "contradiction"
    """Every phone is answered twice, once each way."""
    MISSING_CONTROL = "missing_control"
    """The known litigators are left out of the answer."""
    CLEAR_CONTROL = "clear_control"
    """The known litigators, and only those, are answered false."""
    SOME_CONTROLS_CLEAR = "some_controls_clear"
    """All known litigators but the first are answered false."""
    MALFORMED = "malformed"
    """``phones`` count as malformed: 400 for any batch that holds one of them."""


ALIASES: Final = {
    "timeout": Kind.TIMEOUT_AFTER_BILLING,
    "reset": Kind.RESET_AFTER_BILLING,
    "401": Kind.UNAUTHORIZED,
    "403": Kind.FORBIDDEN,
    "429": Kind.TOO_MANY_REQUESTS,
    "5xx": Kind.SERVER_ERROR,
}
"""Short names. Without more said, a time-out or reset comes after billing: the worse case."""

_OF_IDICORE: Final = frozenset({Kind.NO_MATCH, Kind.TOO_MANY_MATCHES, Kind.OTHER_PERSON, Kind.RELATIVES})
_OF_CCC: Final = frozenset(
    {
        Kind.ALL_FALSE,
        Kind.OTHER_PHONE,
        Kind.OTHER_PHONES,
        Kind.MISSING_PHONES,
        Kind.EMPTY_LIST,
        Kind.TEXT_BOOLEAN,
        Kind.NULL_BOOLEAN,
        Kind.NO_BOOLEAN,
        Kind.TEXT_PHONE,
        Kind.FLOAT_PHONE,
        Kind.SPELT_PHONE,
        Kind.DUPLICATE,
        Kind.CONTRADICTION,
        Kind.MISSING_CONTROL,
        Kind.CLEAR_CONTROL,
        Kind.SOME_CONTROLS_CLEAR,
        Kind.MALFORMED,
    }
)
_COMMON: Final = frozenset(Kind) - _OF_IDICORE - _OF_CCC
IDICORE_KINDS: Final = _COMMON | _OF_IDICORE
CCC_KINDS: Final = _COMMON | _OF_CCC
NTFY_KINDS: Final = _COMMON - {Kind.WRONG_SHAPE, Kind.WRONG_TYPE, Kind.SHORT_ANSWER, Kind.LONG_ANSWER}

_NOT_BILLED: Final = frozenset(
    {
        Kind.TIMEOUT_BEFORE_BILLING,
        Kind.RESET_BEFORE_BILLING,
        Kind.BAD_REQUEST,
        Kind.UNAUTHORIZED,
        Kind.FORBIDDEN,
        Kind.TOO_MANY_REQUESTS,
        Kind.SERVER_ERROR,
        Kind.REDIRECT,
        Kind.TOO_MANY_MATCHES,
        Kind.MALFORMED,
    }
)
_FIXED: Final = frozenset(
    {
        Kind.TIMEOUT_BEFORE_BILLING,
        Kind.TIMEOUT_AFTER_BILLING,
        Kind.RESET_BEFORE_BILLING,
        Kind.RESET_AFTER_BILLING,
        Kind.MALFORMED,
        Kind.TOO_MANY_MATCHES,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong; at every request unless ``requests``, ``share`` or ``times`` says less.

    Request numbers start at 1 and count each operation by itself. ``operation`` is ``search``
    (the default) or ``sign_in`` at idiCORE. ``billed`` overrides whether a faulted search is
    billed: answers with status 200 are, others are not.
    """

    kind: str
    requests: Collection[int] | None = None
    share: float | None = None
    times: int | None = None
    operation: str | None = None
    seconds: float | None = None
    status: int = 503
    billed: bool | None = None
    phones: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        name = str(self.kind)
        known = ALIASES.get(name, name)
        if known not in set(Kind):
            raise UsageError(f"There is no fault {name!r}. Known: {', '.join(sorted(Kind))}.")
        object.__setattr__(self, "kind", Kind(known))
        object.__setattr__(self, "phones", frozenset(self.phones))
        if self.requests is not None and not isinstance(self.requests, range):
            object.__setattr__(self, "requests", frozenset(self.requests))
        if self.share is not None and not 0 <= self.share <= 1:
            raise UsageError("A fault's share is between 0 and 1.")
        if not 400 <= self.status <= 599:
            raise UsageError("A fault's status is between 400 and 599.")
        if self.billed is not None and self.kind in _FIXED:
            raise UsageError(f"Whether {self.kind} is billed is said by its name.")
        if self.kind is Kind.MALFORMED and not self.phones:
            raise UsageError("The fault malformed needs phones.")

    @property
    def refuses(self) -> bool:
        """Whether the request is turned away before it is served."""
        return self.kind in _NOT_BILLED and not self.is_billed

    @property
    def is_billed(self) -> bool:
        return self.kind not in _NOT_BILLED if self.billed is None else self.billed


class Faults:
    """The faults ordered of one vendor, for the first of its operations unless an order names another.

    Orders may come from any thread while requests are served.
    """

    def __init__(self, kinds: frozenset[Kind], *, operations: tuple[str, ...], seed: int) -> None:
        self._kinds = kinds
        self._operations = operations
        self._seed = seed
        self._orders: tuple[_Order, ...] = ()
        self._made = 0
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Raises UsageError when this vendor cannot have such a fault."""
        for fault in faults:
            if fault.kind not in self._kinds:
                raise UsageError(f"This vendor has no fault {fault.kind}. Known: {', '.join(sorted(self._kinds))}.")
            if fault.operation is not None and fault.operation not in self._operations:
                known = ", ".join(self._operations)
                raise UsageError(f"This vendor has no operation {fault.operation!r}. Known: {known}.")
        with self._lock:
            added = []
            for fault in faults:
                self._made += 1
                added.append(_Order(fault, fault.operation or self._operations[0], self._seed * 1009 + self._made))
            self._orders += tuple(added)

    def clear(self) -> None:
        with self._lock:
            self._orders = ()

    def pick(self, operation: str, number: int, phones: Iterable[str] = ()) -> Fault | None:
        """The first ordered fault that this request meets."""
        for order in self._orders:
            if order.operation == operation and order.takes(number, phones):
                return order.fault
        return None

    def __iter__(self) -> Iterator[Fault]:
        return iter([order.fault for order in self._orders])


class _Order:
    __slots__ = ("fault", "left", "operation", "salt")

    def __init__(self, fault: Fault, operation: str, salt: int) -> None:
        self.fault = fault
        self.operation = operation
        self.salt = salt
        self.left = fault.times

    def takes(self, number: int, phones: Iterable[str]) -> bool:
        fault = self.fault
        if fault.requests is not None and number not in fault.requests:
            return False
        if fault.share is not None and mix(number, self.salt, 3) >= fault.share * 2.0**64:
            return False
        if fault.kind is Kind.MALFORMED and fault.phones.isdisjoint(phones):
            return False
        if self.left is not None:
            if self.left < 1:
                return False
            self.left -= 1
        return True


def parse_fault(text: str) -> tuple[str, Fault]:
    """Vendor and fault from ``vendor:kind[:name=value...]``, as ``leadscrub simulate --fault`` takes it.

    ``idicore:timeout:share=0.1``, ``ccc:html:requests=3-5``, ``idicore:server_error:status=502:billed=true:times=2``.

    Raises:
        UsageError: it cannot be understood; the message shows the form.
    """
    vendor, _, rest = text.partition(":")
    kind, *options = rest.split(":")
    if vendor not in {"idicore", "ccc", "ntfy"} or not kind:
        raise UsageError(f"Fault {text!r}: write vendor:kind[:name=value...], for example idicore:timeout:share=0.1.")
    named: dict[str, object] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name in named:
            raise UsageError(f"Fault {text!r}: {option!r} is not name=value, or stands twice.")
        named[name] = value
    return vendor, fault_from({"kind": kind, **named})


def fault_from(values: Mapping[str, object]) -> Fault:
    """A fault from text or JSON values.

    Raises:
        UsageError: an unknown name, or a value that cannot be understood.
    """
    names = [field.name for field in fields(Fault)]
    read: dict[str, object] = {}
    for name, value in values.items():
        if name not in names:
            raise UsageError(f"A fault has no {name!r}. Known: {', '.join(names)}.")
        if value is None:
            continue
        try:
            read[name] = _READERS[name](value)
        except (TypeError, ValueError):
            raise UsageError(f"A fault's {name} cannot be understood: {value!r}.") from None
    if "kind" not in read:
        raise UsageError("A fault needs a kind.")
    return Fault(**read)  # type: ignore[arg-type]


def fault_values(fault: Fault) -> dict[str, object]:
    """The fault as JSON values that ``fault_from`` reads."""
    values = {field.name: getattr(fault, field.name) for field in fields(fault)}
    values["kind"] = str(fault.kind)
    values["phones"] = sorted(fault.phones)
    if isinstance(fault.requests, range) and fault.requests.step == 1:
        values["requests"] = f"{fault.requests.start}-{fault.requests.stop - 1}"
    elif fault.requests is not None:
        values["requests"] = sorted(fault.requests)
    return values


def _read_requests(value: object) -> Collection[int]:
    if isinstance(value, int):
        return (value,)
    if isinstance(value, str):
        first, dash, last = value.partition("-")
        return range(int(first), int(last if dash else first) + 1)
    if isinstance(value, Iterable):
        return [int(number) for number in value]
    raise TypeError(value)


def _read_bool(value: object) -> bool:
    text = str(value).lower()
    if text not in {"true", "yes", "false", "no"}:
        raise ValueError(value)
    return text in {"true", "yes"}


def _read_phones(value: object) -> list[str]:
    return value.replace(",", " ").split() if isinstance(value, str) else [str(phone) for phone in value]  # type: ignore[attr-defined]


_READERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "kind": str,
    "requests": _read_requests,
    "share": float,
    "times": int,
    "operation": str,
    "seconds": float,
    "status": int,
    "billed": _read_bool,
    "phones": _read_phones,
}
