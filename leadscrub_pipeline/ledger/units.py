"""Money and time as the ledger stores them: whole micros, so that sums are exact on either engine.

Dollars are ``Decimal`` and times aware UTC outside the ledger. What a lookup costs or how
long it lives is decided by the caller and does not belong here.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

MICROS_PER_DAY: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MILLION: Final = Decimal(1_000_000)


def time_to_micros(moment: datetime) -> int:
    """Microseconds since 1970; a naive time is a mistake of the caller and raises TypeError."""
    return (moment - _EPOCH) // _MICROSECOND


def micros_to_time(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def micros_to_day(micros: int) -> date:
    return micros_to_time(micros).date()


def dollars_to_micros(dollars: Decimal) -> int:
    """Millionths of a dollar; ValueError when the amount has more than six decimals or is no amount."""
    micros = dollars * _MILLION if dollars.is_finite() else Decimal("NaN")
    if not micros.is_finite() or micros != micros.to_integral_value() or micros < 0:
        raise ValueError("an amount of money has at most six decimals and is not negative")
    return int(micros)


def micros_to_dollars(micros: int) -> Decimal:
    """Dollars with the decimals that the amount has, and at least two."""
    cents, rest = divmod(micros, 10_000)
    if rest == 0:
        return Decimal(cents).scaleb(-2)
    return Decimal(micros).scaleb(-6).normalize()
