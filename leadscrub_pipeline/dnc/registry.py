"""The registry file: which list it holds, how old it is, and which phones are on it.

Absence from the list means clear only when the list is fresh and covers the phone's area
code. Whether a stale list stops a step is the caller's policy and does not belong here.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from leadscrub_pipeline.dnc.list_version import STATEMENTS, TEN_DIGITS, ListVersion, read_version
from leadscrub_pipeline.dnc.stamp import FileStamp, take_stamp
from leadscrub_pipeline.domain.verdicts import (
    CLEAR,
    LISTED,
    Answer,
    Reason,
    registry_valid_until,
    unknown,
    utc_now,
)
from leadscrub_pipeline.errors import RefusedError, StaleListError, UnavailableError

if TYPE_CHECKING:
    import pyarrow as pa

    from leadscrub_pipeline.dnc.number_set import NumberSet

INDEX_FROM: Final = 100_000
"""Phones from which on an index that is there is asked: below, SQLite answers in the time that mapping it takes."""
_NOT_COVERED: Final = unknown(Reason.AREA_CODE_NOT_COVERED)
_NO_NUMBER: Final = unknown(Reason.NOT_NANP)
BUILD_INDEX_FROM: Final = 10_000_000
"""Phones from which on an index that is not there is made first: it reads the whole list once."""


class DncRegistry:
    """One opened registry file, read only. Use ``DncRegistry.open``, in a ``with`` block, from one thread."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        stamp: FileStamp,
        version: ListVersion,
        *,
        max_age_days: int,
        now: Callable[[], datetime],
    ) -> None:
        self.path = path
        self.version = version
        self._connection = connection
        self._stamp = stamp
        self._max_age_days = max_age_days
        self._now = now
        self._statements = STATEMENTS[version.schema]
        self._index: NumberSet | None = None
        self._malformed: int | None = None

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        list_date: date | None,
        max_age_days: int,
        now: Callable[[], datetime] = utc_now,
    ) -> Self:
        """Open and check the file; ``list_date`` dates a file that does not say its date itself.

        Raises:
            UnavailableError: no such file, or it is empty, truncated, of another schema,
                without its index, or dated in the future.
            RefusedError: ``list_date`` is in the future.
        """
        if path is None:
            raise UnavailableError("No registry file is configured. Set DNC_DATABASE_PATH.")
        if list_date is not None and list_date > now().date():
            raise RefusedError(f"DNC_LIST_DATE {list_date} is in the future.")
        stamp = take_stamp(path)
        with _as_unavailable(path):
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            with _as_unavailable(path):
                for pragma in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON"):
                    connection.execute(f"PRAGMA {pragma}")
                version = read_version(path, connection, stamp, list_date, now())
            if take_stamp(path) != stamp:
                raise UnavailableError(f"The registry file {path} changed while it was opened. Try again.")
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, stamp, version, max_age_days=max_age_days, now=now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        if self._index is not None:
            self._index.close()
            self._index = None

    def expect(self, phones: int) -> None:
        """Choose how so many phones are looked up: in SQLite, or in the bulk index when there are very many.

        Both give the same answers. An index of another file is not used; for more phones
        than ``BUILD_INDEX_FROM`` it is made anew.

        Raises:
            UnavailableError: the file changed since it was opened, or does not hold the numbers it was built with.
        """
        if self._index is not None or phones < INDEX_FROM:
            return
        from leadscrub_pipeline.dnc.bulk_index import build_index, malformed, open_index  # noqa: PLC0415 - few need numpy and Arrow

        self._require_unchanged("since it was opened")
        index = open_index(self.path)
        if index is None and phones >= BUILD_INDEX_FROM:
            build_index(self.path, of_compact=self.version.schema == "compact")
            index = open_index(self.path)
        if index is not None:
            self._index, self._malformed = index, malformed(index.contents)
        self._require_unchanged("since it was opened")

    @property
    def looks_up_in(self) -> str:
        """Index or sqlite."""
        return "sqlite" if self._index is None else "index"

    @property
    def age_days(self) -> int | None:
        """Whole days since the list was obtained, or None when nobody says."""
        obtained_at = self.version.obtained_at
        return None if obtained_at is None else (self._now() - obtained_at).days

    def age_reason(self) -> Reason | None:
        """Why absence from the list does not mean clear now, or None (16 CFR 310.4(b)(3)(iv))."""
        obtained_at = self.version.obtained_at
        if obtained_at is None:
            return Reason.LIST_OF_UNKNOWN_AGE
        stale = registry_valid_until(obtained_at, self._max_age_days) <= self._now()
        return Reason.STALE_LIST if stale else None

    def require_fresh(self) -> None:
        """Raise when the list is past its age or of unknown age.

        Raises:
            StaleListError: absence from this list cannot be read as clear.
        """
        reason = self.age_reason()
        if reason is Reason.LIST_OF_UNKNOWN_AGE:
            raise StaleListError(
                f"The registry file {self.path} does not say when the list was obtained. Set DNC_LIST_DATE."
            )
        if reason is not None:
            raise StaleListError(
                f"The registry list is {self.age_days} days old, the limit is {self._max_age_days}. "
                "Load a newer list, and set DNC_LIST_DATE where the file does not say its date."
            )

    def look_up(self, phones: Sequence[str], *, batched: bool = True) -> dict[str, Answer]:
        """Answer every asked phone: listed when found, clear only when the list is fresh and covers its area code.

        Text that is no ten digits is answered unknown. ``batched`` asks in one statement, or
        the index that ``expect`` chose, otherwise in one a phone; the answers are the same.

        Raises:
            UnavailableError: the file cannot be read, or changed since it was opened.
        """
        asked = sorted({phone for phone in phones if TEN_DIGITS.fullmatch(phone)})
        self._require_unchanged("since it was opened")
        with _as_unavailable(self.path):
            found = self._find(asked, batched=batched)
        self._require_unchanged("during the lookup")
        absent = self._absent()
        covered = self.version.area_codes
        answers = dict.fromkeys(phones, _NO_NUMBER)
        for phone in asked:
            if phone in found:
                answers[phone] = LISTED
            else:
                answers[phone] = absent if phone[:3] in covered else _NOT_COVERED
        return answers

    def look_up_column(self, phones: "pa.Array", *, batched: bool = True) -> "tuple[pa.Array, pa.Array]":
        """Verdict and reason of each phone of a column of texts, as ``look_up`` answers them.

        Raises:
            UnavailableError: the file cannot be read, or changed since it was opened.
        """
        from leadscrub_pipeline.dnc.columns import answer_column, ten_digits  # noqa: PLC0415 - few need Arrow

        asked = ten_digits(phones)
        self._require_unchanged("since it was opened")
        with _as_unavailable(self.path):
            if batched and self._index is not None:
                listed = self._index.holds(asked.numbers)
                self._index.let_go()
            else:
                listed = asked.among(self._find(asked.texts.to_pylist(), batched=batched))
        self._require_unchanged("during the lookup")
        absent, covered = self._absent(), self.version.area_codes
        return answer_column(asked, listed, covered, absent=absent, not_covered=_NOT_COVERED, otherwise=_NO_NUMBER)

    def _absent(self) -> Answer:
        """What is said of a phone that is not on the list, though its area code is."""
        reason = self.age_reason()
        return CLEAR if reason is None else unknown(reason)

    def describe(self) -> dict[str, str | int | None]:
        """The list's particulars for metadata, the same keys always."""
        version = self.version
        reason = self.age_reason()
        return {
            "list_version": version.name,
            "schema": version.schema,
            "obtained_at": None if version.obtained_at is None else version.obtained_at.isoformat(),
            "age_days": self.age_days,
            "max_age_days": self._max_age_days,
            "age_reason": None if reason is None else reason.value,
            "area_codes": len(version.area_codes),
            "rows": version.rows,
            "file_bytes": self._stamp.size,
            "lookups": self.looks_up_in,
            "malformed": self._malformed,
        }

    def _find(self, phones: Sequence[str], *, batched: bool) -> set[str]:
        if not batched:
            return self._find_one_by_one(phones)
        return self._find_batched(phones) if self._index is None else self._find_indexed(self._index, phones)

    def _find_indexed(self, index: "NumberSet", phones: Sequence[str]) -> set[str]:
        import numpy as np  # noqa: PLC0415 - as above

        found = index.holds(np.fromiter(map(int, phones), np.int64, len(phones)))
        return {phones[place] for place in np.flatnonzero(found).tolist()}

    def _find_batched(self, phones: Sequence[str]) -> set[str]:
        values: Sequence[str | int] = phones if self.version.schema == "three_column" else [int(p) for p in phones]
        rows = self._connection.execute(self._statements.batched, (json.dumps(values),))
        return {str(phone) for (phone,) in rows}

    def _find_one_by_one(self, phones: Sequence[str]) -> set[str]:
        as_stored = str if self.version.schema == "three_column" else int
        self._connection.execute("BEGIN")  # one snapshot for all, as the batched statement has
        try:
            found = set()
            for phone in phones:
                if self._connection.execute(self._statements.single, (as_stored(phone),)).fetchone() is not None:
                    found.add(phone)
            return found
        finally:
            self._connection.execute("ROLLBACK")

    def _require_unchanged(self, when: str) -> None:
        if take_stamp(self.path) != self._stamp:
            raise UnavailableError(f"The registry file {self.path} changed {when}. Start again with the new file.")


@contextmanager
def _as_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", None) or type(error).__name__
        raise UnavailableError(f"The registry file {path} cannot be read: {code}.") from None
