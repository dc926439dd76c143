"""The judge of the fault matrix: what the sources really said, read from their own records and not from our tables.

CCC's word is what its simulator sent whole, the registry's is the content of its file. What
we stored is only asked whether there is evidence too.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadscrub_pipeline.simulators.line import Reply
from leadscrub_pipeline.simulators.phones import CONTROL_NUMBERS
from leadscrub_pipeline_tests.bad_input import phones_of


@dataclass(frozen=True)
class Listing:
    """A registry file as it lay on disk."""

    listed: frozenset[str]
    area_codes: frozenset[str]
    fresh: bool

    def clears(self, phone: str) -> bool:
        return self.fresh and phone[:3] in self.area_codes and phone not in self.listed


def listing_of(path: Path, *, fresh: bool) -> Listing | None:
    """What the file says, in either of its forms; None when it says nothing."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
            names = {name for (name,) in file.execute("SELECT name FROM sqlite_schema")}
            if "dnc_list" in names:
                rows = file.execute("SELECT full_phone, area_code FROM dnc_list").fetchall()
                return Listing(frozenset(row[0] for row in rows), frozenset(row[1] for row in rows), fresh)
            phones = frozenset(str(phone) for (phone,) in file.execute("SELECT phone FROM dnc_numbers"))
            codes = frozenset(str(code) for (code,) in file.execute("SELECT area_code FROM dnc_area_codes"))
            return Listing(phones, codes, fresh)
    except sqlite3.Error:
        return None


def cleared_by_ccc(replies: Iterable[Reply]) -> set[str]:
    """Phones that a whole answer in JSON called no litigator, once and for all, beside a control that it knew."""
    cleared: set[str] = set()
    for reply in replies:
        try:
            rows = json.loads(reply.body) if reply.status == 200 else None
        except ValueError:
            continue
        said: dict[str, set[Any]] = defaultdict(set)
        for row in rows if isinstance(rows, list) else []:
            value = row.get("IsLitigator")
            said[str(row.get("Phone"))].add(value if isinstance(value, bool) else "no answer")
        if any(said.get(control) == {True} for control in CONTROL_NUMBERS):
            cleared |= {phone for phone, values in said.items() if values == {False}}
    return cleared


@dataclass
class Verdicts:
    """What may be FALSE, by source."""

    ccc: set[str]
    registries: dict[str, Listing]
    """By the run that looked into it; the runs of the template all looked into one."""
    latest: Listing | None

    def unanswered(self, master: list[dict[str, Any]], clear: Iterable[tuple[str, str, str]]) -> list[str]:
        """Every FALSE flag that no source answered or that has no evidence: there must be none.

        ``clear`` is our own evidence: source, phone and run of every clear answer.
        """
        evidence: dict[tuple[str, str], set[str]] = defaultdict(set)
        for source, phone, run_id in clear:
            evidence[source, phone].add(run_id)
        wrong = []
        for row in master:
            if row["in_litigator_list"] is False:
                phones = phones_of(row)
                if not phones or any(phone not in self.ccc or not evidence["ccc", phone] for phone in phones):
                    wrong.append(f"in_litigator_list of {row['record_id']}")
            for slot in (1, 2, 3):
                if row[f"phone_{slot}_in_dnc"] is False:
                    phone = row[f"phone_{slot}"]
                    if not any(self._cleared_in(run_id, phone) for run_id in evidence["dnc", phone]):
                        wrong.append(f"phone_{slot}_in_dnc of {row['record_id']}")
        return wrong

    def clears(self, phone: str) -> bool:
        """Whether both sources said at some time that the number is on no list."""
        listings = [*self.registries.values(), *([self.latest] if self.latest else [])]
        return phone in self.ccc and any(listing.clears(phone) for listing in listings)

    def _cleared_in(self, run_id: str, phone: str) -> bool:
        listing = self.registries.get(run_id, self.latest)
        return listing is not None and listing.clears(phone)
