"""Requests and consents as CSV files of somebody's: each line an entry, or the reason why it is none.

A line is judged by itself. One that cannot be taken keeps none of the others from being taken:
a request must be honoured whatever stands beside it.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from leadscrub_pipeline.domain import consents
from leadscrub_pipeline.domain.consents import Consent, ConsentKind, DncRequest, is_plain
from leadscrub_pipeline.domain.phones import read_digits
from leadscrub_pipeline.errors import UnavailableError, UsageError

Entry = DncRequest | Consent
EntryT = TypeVar("EntryT", DncRequest, Consent)
_REQUEST_COLUMNS: Final = ("phone", "requested_at")
_CONSENT_COLUMNS: Final = ("phone", "kind", "given_at", "proof")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is no entry. Its values are not told: they are somebody's."""

    line: int
    """Within the file, from 1, the header included."""
    reason: str


def read_requests(file: Path, *, now: datetime) -> Iterator[DncRequest | Rejected]:
    """Lines of a file with the columns phone and requested_at, and perhaps source; without one the file's name is it.

    Raises:
        UsageError: a column is missing, or the file is no CSV in UTF-8.
        UnavailableError: the file cannot be read.
    """

    def request(row: Mapping[str, str]) -> DncRequest | str:
        phone, requested_at = read_digits(row["phone"]).digits, _past_time(row["requested_at"], now)
        source = row.get("source") or file.name
        if phone is None:
            return consents.WITHOUT_PHONE
        if isinstance(requested_at, str):
            return requested_at
        return DncRequest(phone, requested_at, source) if is_plain(source) else consents.BAD_TEXT

    return _entries(file, _REQUEST_COLUMNS, request)


def read_consents(file: Path, *, now: datetime) -> Iterator[Consent | Rejected]:
    """Lines of a file with the columns phone, kind, given_at and proof, and perhaps expires_at and source.

    Raises:
        UsageError: a column is missing, or the file is no CSV in UTF-8.
        UnavailableError: the file cannot be read.
    """

    def consent(row: Mapping[str, str]) -> Consent | str:
        phone, given_at = read_digits(row["phone"]).digits, _past_time(row["given_at"], now)
        ends_at = _time(row["expires_at"]) if row.get("expires_at") else None
        source = row.get("source") or file.name
        reasons = {
            consents.WITHOUT_PHONE: phone is None,
            consents.BAD_KIND: row["kind"].lower() not in set(ConsentKind),
            consents.WITHOUT_TIME: bool(row.get("expires_at")) and ends_at is None,
            consents.WITHOUT_PROOF: not row["proof"],
            consents.BAD_TEXT: not (is_plain(row["proof"]) and is_plain(source)),
        }
        reason = next((reason for reason, holds in reasons.items() if holds), None)
        if reason is not None or phone is None:
            return reason or consents.WITHOUT_PHONE
        if isinstance(given_at, str):
            return given_at
        return Consent(phone, ConsentKind(row["kind"].lower()), given_at, row["proof"], source, ends_at)

    return _entries(file, _CONSENT_COLUMNS, consent)


def import_files(folder: Path | None) -> list[Path]:
    """The CSV files of a folder of imports, by name; none where no folder is configured.

    Raises:
        UnavailableError: the folder cannot be read.
    """
    if folder is None:
        return []
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".csv")
    except OSError as error:
        raise UnavailableError(f"The folder of imports {folder} cannot be read: {type(error).__name__}.") from None


def _entries(
    file: Path, needed: tuple[str, ...], read: Callable[[Mapping[str, str]], EntryT | str]
) -> Iterator[EntryT | Rejected]:
    with _named_errors(file), file.open(encoding="utf-8-sig", newline="") as text:
        lines = csv.reader(text, strict=True)
        header = [name.strip().lower() for name in next(lines, [])]
        missing = [name for name in needed if name not in header]
        if missing:
            raise UsageError(
                f"{file.name} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}. "
                f"Its first line must name {', '.join(needed)}."
            )
        for values in lines:
            if any(values):
                padded = [value.strip() for value in values] + [""] * (len(header) - len(values))
                found = read(dict(zip(header, padded, strict=False)))
                yield Rejected(lines.line_num, found) if isinstance(found, str) else found


@contextmanager
def _named_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except (csv.Error, UnicodeDecodeError):
        raise UsageError(f"{file.name} is no CSV file in UTF-8.") from None
    except OSError as error:
        raise UnavailableError(f"{file} cannot be read: {type(error).__name__}.") from None


def _past_time(text: str, now: datetime) -> datetime | str:
    """A time of a file, or the reason why it is none: what has not happened yet is an error of whoever wrote it."""
    found = _time(text)
    if found is None:
        return consents.WITHOUT_TIME
    return consents.IN_FUTURE if found > now else found


def _time(text: str) -> datetime | None:
    """A day or an ISO time, in UTC unless it names its zone."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
