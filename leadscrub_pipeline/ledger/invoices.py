"""The vendor's invoice as a CSV file: its columns found by name, its rows read one by one as charges.

A row that cannot be read is counted with its reason, never guessed at. What the charges mean
is decided in reconciliation.py.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, TextIO

from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.ledger.units import time_to_micros

REFERENCE_NAMES: Final = (
    "referenceid",
    "reference",
    "refid",
    "ref",
    "lookupid",
    "requestid",
    "clientreferenceid",
    "clientreference",
    "customerreferenceid",
    "customerreference",
    "yourreference",
)
AMOUNT_NAMES: Final = ("amount", "cost", "charge", "charged", "total", "fee", "price", "unitprice")
DATE_NAMES: Final = (
    "date",
    "datetime",
    "timestamp",
    "time",
    "searchdate",
    "requestdate",
    "transactiondate",
    "chargedate",
    "chargedat",
    "billedat",
    "createdat",
)
"""Names of columns as they are recognised: without case, blanks, punctuation and a currency; the first one counts."""

MAX_DOLLARS: Final = Decimal(1_000_000_000)
_HEADER_LIMIT: Final = 100_000
_DELIMITERS: Final = ",;\t|"
_CURRENCY: Final = re.compile(r"(usd|dollars?)$")
_THOUSANDS: Final = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")
_US_DATES: Final = ("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S %p")


class InvoiceColumns(NamedTuple):
    """Names as they stand in the header, for what is not recognised by itself. An empty date means there is none."""

    reference: str | None = None
    amount: str | None = None
    date: str | None = None


class Charge(NamedTuple):
    line: int
    reference: str
    """As it stands in the file."""
    micros: int
    """Negative in a credit."""
    at: int | None
    """Microseconds since 1970; None in an invoice without dates."""


class _Places(NamedTuple):
    reference: int
    amount: int
    date: int | None


class Invoice:
    """An invoice that is read once, row by row. A context manager.

    Raises:
        UsageError: there is no such file, it is empty or no CSV, or a column is not found in it.
        UnavailableError: the file cannot be read.
    """

    def __init__(self, path: Path, columns: InvoiceColumns | None = None) -> None:
        self.path = path
        self.rejected: Counter[str] = Counter()
        """Rows that could not be read, by reason; filled while ``charges`` is read."""
        self.first_rejected: dict[str, int] = {}
        """The line of the first of each reason."""
        self._file = _open(path)
        try:
            header = self._file.readline(_HEADER_LIMIT)
            self._delimiter = max(_DELIMITERS, key=header.count)
            names = next(csv.reader([header], delimiter=self._delimiter), [])
            if not names:
                raise UsageError(f"{path} is empty or has no header in its first line.")
            self._places = _find_columns(path, names, columns or InvoiceColumns())
        except (OSError, UnicodeError, csv.Error) as error:
            self._file.close()
            raise UsageError(f"{path} cannot be read as CSV ({type(error).__name__} in line 1).") from None
        except BaseException:
            self._file.close()
            raise

    @property
    def has_dates(self) -> bool:
        return self._places.date is not None

    def charges(self) -> Iterator[Charge]:
        """Each row that can be read; blank lines are none."""
        reader = csv.reader(self._file, delimiter=self._delimiter, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                raise UsageError(
                    f"{self.path} is no sound CSV at line {reader.line_num + 1:,}: a quotation mark there is missing "
                    "or one too many. Nothing was compared."
                ) from None
            except OSError as error:
                raise UnavailableError(f"{self.path} cannot be read to its end ({type(error).__name__}).") from None
            if not any(cell.strip() for cell in row):
                continue
            charge = self._charge(row, reader.line_num + 1)
            if charge is not None:
                yield charge

    def _charge(self, row: Sequence[str], line: int) -> Charge | None:
        charge = _read_row(row, self._places, line, decimal_comma=self._delimiter == ";")
        if isinstance(charge, Charge):
            return charge
        self.rejected[charge] += 1
        self.first_rejected.setdefault(charge, line)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _read_row(row: Sequence[str], places: _Places, line: int, *, decimal_comma: bool) -> Charge | str:
    """The charge, or the reason why there is none."""
    if len(row) <= max(places.reference, places.amount, places.date or 0):
        return "too_few_columns"
    reference = row[places.reference].strip()
    if not reference:
        return "no_reference"
    micros = read_amount(row[places.amount], decimal_comma=decimal_comma)
    if micros is None:
        return "no_amount"
    if places.date is None:
        return Charge(line, reference, micros, None)
    at = read_date(row[places.date])
    return "no_date" if at is None else Charge(line, reference, micros, at)


def lookup_id_of(reference: str) -> str:
    """The lookup that a reference names: vendors and spreadsheets may write it with dashes or in capitals."""
    return reference.replace("-", "").strip("{}' \t").lower()


def read_amount(text: str, *, decimal_comma: bool) -> int | None:
    """Micros; None for what is no amount of money. In a file parted by semicolons the comma is the decimal point."""
    plain = text.strip().upper().removesuffix("USD").removeprefix("USD").strip()
    negative = plain.startswith("-")
    if plain.startswith("(") and plain.endswith(")"):
        plain, negative = plain[1:-1], True
    plain = plain.removeprefix("-").strip().removeprefix("$").strip()
    if decimal_comma and "." not in plain:
        plain = plain.replace(",", ".")
    elif _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    if not plain.isascii() or not plain.replace(".", "", 1).isdigit():
        return None
    try:
        dollars = Decimal(plain)
    except InvalidOperation:
        return None
    micros = dollars.scaleb(6)
    if dollars > MAX_DOLLARS or micros != micros.to_integral_value():
        return None
    return -int(micros) if negative else int(micros)


def read_date(text: str) -> int | None:
    """Microseconds since 1970 of an ISO or American date or time, UTC unless it names its zone; None for others."""
    plain = text.strip()
    moment = _iso(plain) or next((found for form in _US_DATES if (found := _strptime(plain, form))), None)
    if moment is None:
        return None
    try:
        return time_to_micros(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
    except OverflowError:
        return None


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _strptime(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None


def _open(path: Path) -> TextIO:
    try:
        with path.open("rb") as raw:
            start = raw.read(4)
        encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return path.open("r", encoding=encoding, errors="replace", newline="")
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder. Name the invoice's CSV file.") from None
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read ({type(error).__name__}).") from None


def _find_columns(path: Path, names: Sequence[str], columns: InvoiceColumns) -> _Places:
    reference = _find(path, names, columns.reference, REFERENCE_NAMES, "--column-reference")
    amount = _find(path, names, columns.amount, AMOUNT_NAMES, "--column-amount")
    date = None if columns.date == "" else _find(path, names, columns.date, DATE_NAMES, "--column-date")
    if reference is None or amount is None:
        what, option = ("reference id", "--column-reference") if reference is None else ("amount", "--column-amount")
        raise UsageError(
            f"{path} has {len(names):,} columns in its first line and none of them is known to be the {what}. "
            f"Name it by {option}, as it stands in the header."
        )
    return _Places(reference, amount, date)


def _find(path: Path, names: Sequence[str], given: str | None, known: Sequence[str], option: str) -> int | None:
    if given is not None:
        places = [place for place, name in enumerate(names) if name.strip() == given.strip()]
        places = places or [place for place, name in enumerate(names) if _plain(name) == _plain(given)]
        if not places:
            raise UsageError(f"{path} has no column of the name given by {option}.")
    else:
        plain = [_plain(name) for name in names]
        first = next((name for name in known if name in plain), None)
        places = [place for place, name in enumerate(plain) if name == first]
    if len(places) > 1:
        raise UsageError(
            f"{path} has {len(places)} columns of the same name that could be meant by {option}. Rename one of them."
        )
    return places[0] if places else None


def _plain(name: str) -> str:
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return _CURRENCY.sub("", letters) or letters
