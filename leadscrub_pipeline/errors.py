"""The one tree of errors, with one branch for each decision a caller makes.

    LeadscrubError
    ├── UsageError          ask again, differently               exit code 2
    ├── UnavailableError    a dependency is down: try later      exit code 3
    │   └── StaleListError  the list is too old: a newer one is needed, no other try
    ├── RefusedError        policy says no: change script or setting   exit code 4
    └── FailedError         the work was tried and did not end well    exit code 1

A message says what is wrong, where, and what to do next. It holds no personal data, no
secret and no text of a foreign error: those quote values. Raise with ``from None`` at the
vendor, warehouse and ledger boundary, because Dagster stores the text of a cause.
"""

from typing import ClassVar


class LeadscrubError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code: ClassVar[int] = 1
    may_pass: ClassVar[bool] = False
    """Whether the same try can go well a little later, without anybody doing anything."""


class UsageError(LeadscrubError):
    """The request names something that is not there or cannot be understood."""

    exit_code = 2


class UnavailableError(LeadscrubError):
    """A vendor, the warehouse, the ledger or the registry file cannot be used now."""

    exit_code = 3
    may_pass = True


class StaleListError(UnavailableError):
    """The registry list is past its age or of unknown age: until somebody gets a newer one, every try ends so."""

    may_pass = False


class RefusedError(LeadscrubError):
    """A rule of this project forbids it; trying again unchanged gives the same answer."""

    exit_code = 4


class FailedError(LeadscrubError):
    """The work was tried, and stopped at a guard or at a state that must not be published."""
