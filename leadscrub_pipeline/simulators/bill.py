"""What the simulated idiCORE charges: one entry for each billed request.

The bill is the judge in tests of "never pays twice", so an entry is written before the answer
leaves, and it survives the death of either side. What is billed is decided elsewhere.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import orjson

from leadscrub_pipeline.errors import FailedError


class BillEntry(NamedTuple):
    reference_id: str
    person_key: str
    outcome: str
    """``found``, ``no_match``, or the fault that the request met after it was billed."""
    cost: Decimal
    purpose: str
    """The glba and dppa of the token, parted by a slash."""
    request_number: int
    at: datetime


class Bill:
    """All entries, in memory or in a file of JSON lines that several simulators may add to."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._entries: list[BillEntry] = []
        self._lock = threading.Lock()
        self._file: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def add(self, entry: BillEntry) -> None:
        with self._lock:
            if self.path is None:
                self._entries.append(entry)
                return
            if self._file is None:
                raise FailedError("The bill is closed.")
            line = entry_line(entry)
            # One write to a file opened for appending: lines of several processes do not mix.
            if os.write(self._file, line) != len(line):
                raise FailedError("The bill could not be written in full; is the disk full?")

    def entries(self) -> list[BillEntry]:
        """All entries, those of other processes and earlier sessions too when there is a file."""
        if self.path is not None:
            return list(read_bill(self.path))
        with self._lock:
            return list(self._entries)

    def __len__(self) -> int:
        return len(self.entries())

    def __iter__(self) -> Iterator[BillEntry]:
        return iter(self.entries())

    def by_reference(self) -> dict[str, list[BillEntry]]:
        """Entries by the ``referenceId`` that was sent; more than one under an id is a request sent twice."""
        found: dict[str, list[BillEntry]] = {}
        for entry in self.entries():
            found.setdefault(entry.reference_id, []).append(entry)
        return found

    def by_person(self) -> Counter[str]:
        """How often each person was billed; more than once is a person paid for twice."""
        return Counter(entry.person_key for entry in self.entries())

    def total(self) -> Decimal:
        return sum((entry.cost for entry in self.entries()), Decimal(0))

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def read_bill(path: Path) -> Iterator[BillEntry]:
    """The entries of a bill's file. A last line that is still being written is left out."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield entry_from(orjson.loads(line))


def entry_line(entry: BillEntry) -> bytes:
    # Written out: dataclasses.asdict takes longer than all the rest of a search.
    fields = {
        "reference_id": entry.reference_id,
        "person_key": entry.person_key,
        "outcome": entry.outcome,
        "cost": str(entry.cost),
        "purpose": entry.purpose,
        "request_number": entry.request_number,
        "at": entry.at,
    }
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def entry_from(fields: dict[str, str | int]) -> BillEntry:
    return BillEntry(
        reference_id=str(fields["reference_id"]),
        person_key=str(fields["person_key"]),
        outcome=str(fields["outcome"]),
        cost=Decimal(str(fields["cost"])),
        purpose=str(fields["purpose"]),
        request_number=int(fields["request_number"]),
        at=datetime.fromisoformat(str(fields["at"])).astimezone(UTC),
    )
