"""Enrichment: decide with the ledger who is asked about, ask idiCORE, keep the answers, gather the contacts.

The ledger decides on money, the client on what was certainly not billed, the warehouse
module on how contacts are published. This module brings the three together.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson

from leadscrub_pipeline import interrupts
from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import FailedError, LeadscrubError
from leadscrub_pipeline.ledger import Busy, Cached, Capped, Claimed, GroupWriter, Held, Ledger, LookupTerms, Settlement
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.steps.fanout import Fanout
from leadscrub_pipeline.steps.miss_share import WINDOW, MissShareGuard
from leadscrub_pipeline.vendors.idicore import (
    IdicoreClient,
    NotBilledError,
    OutcomeUnknownError,
    idicore_workers,
)
from leadscrub_pipeline.vendors.idicore_answer import PARSER_VERSION, Contact, WrongShapeError, read_answer
from leadscrub_pipeline.warehouse.contacts import ContactStage, lead_pages
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import IDENTITY_COLUMNS
from leadscrub_pipeline.warehouse.slices import Slice

FLUSH_ROWS: Final = 5_000
PAGE_ROWS: Final = 5_000
SHARE_STORING: Final = 0.4
"""Workers beyond those in flight, as a share: storing an answer takes a fraction of the vendor's latency."""
ASKED_BY_ANOTHER: Final = "asked_by_another_run"

Row = dict[str, object]


class Lead(NamedTuple):
    number: int
    person_key: str
    person: Person


class Lookup(NamedTuple):
    """A lead that is ours to ask about."""

    lead: Lead
    claim: Claimed


class Ended(NamedTuple):
    """What became of a lead, and whether its answer was bought now."""

    row: Row
    bought: str | None
    """hit or miss when this run paid for it."""


@dataclass(slots=True)
class Enrichment:
    """The numbers an operator asks for."""

    leads: int = 0
    workers: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    lookups_reused: int = 0
    lookups_paid: int = 0
    lookups_unknown: int = 0
    cost: Decimal = Decimal(0)
    seconds: float = 0.0
    vendor: dict[str, int | float] = field(default_factory=dict)


class MissShareError(FailedError):
    """Almost every paid lookup is a miss; the account may be suspended."""


def enrich(
    warehouse: Warehouse,
    ledger: Ledger,
    leads: Slice,
    terms: LookupTerms,
    settings: Settings,
    *,
    report: Callable[[str], None],
) -> Enrichment:
    """Find a contact for every lead of the slice and publish the partition's contacts.

    Raises:
        UnavailableError: idiCORE is down or refuses access; everything paid for is in the ledger.
        MissShareError: the miss-share guard stopped the step.
        FailedError: the leads were replaced by another run in the meantime.
    """
    started = time.monotonic()
    step = _Step(warehouse, ledger, leads, terms, settings, report)
    step.run()
    result = step.result
    spent = ledger.lookups_of_run(terms.run_id)
    result.lookups_unknown = spent["unknown"] + spent["sent"]
    result.cost = spent.cost
    result.seconds = time.monotonic() - started
    step.publish()
    return result


class _Step:
    """One run of one partition. All of it but ``_look_up`` is called in the step's own thread."""

    def __init__(
        self,
        warehouse: Warehouse,
        ledger: Ledger,
        leads: Slice,
        terms: LookupTerms,
        settings: Settings,
        report: Callable[[str], None],
    ) -> None:
        self._warehouse = warehouse
        self._ledger = ledger
        self._leads = leads
        self._terms = terms
        self._settings = settings
        self._stage = ContactStage(warehouse, leads.partition_key)
        self._rows: list[Row] = []
        self._progress = Progress(report, noun="leads looked up", total=leads.row_count)
        self._guard = MissShareGuard(settings.idicore_max_miss_share, ledger.recent_outcomes(terms))
        self._writer: GroupWriter
        self._lease_seconds = ledger.lease.total_seconds()
        self.result = Enrichment(leads=leads.row_count, workers=idicore_workers(leads.row_count, settings))

    def run(self) -> None:
        # Some answers are being stored while others are awaited; only the latter count as in flight.
        client = IdicoreClient(self._settings, in_flight=self.result.workers)
        self.result.vendor = client.stats.metadata()
        if not self._leads.row_count:
            return
        self._mark_misses_left_unmarked()
        with self._ledger.writer() as self._writer:
            storing = int(self.result.workers * SHARE_STORING)
            fanout = Fanout(client, self._look_up, workers=self.result.workers + storing)
            try:
                with fanout:
                    waiting = self._feed(fanout)
                    self._finish(fanout)
                    self._wait_for_others(fanout, waiting)
            except MissShareError:
                # Only now is everything settled that was in flight when the guard tripped.
                self._suspect_misses()
                raise
            finally:
                self._ledger.release([lookup.claim.lookup_id for lookup in fanout.left])
                self.result.vendor = client.stats.metadata()
        self._flush()

    def _mark_misses_left_unmarked(self) -> None:
        """A run that died as the guard tripped had stored the misses, and marked none: they would be believed now."""
        if self._guard.is_tripped and self._ledger.unmarked_misses(self._terms, limit=WINDOW):
            self._suspect_misses()

    def _suspect_misses(self) -> None:
        self._ledger.suspect_misses(self._terms, limit=WINDOW + 2 * self.result.workers)

    def publish(self) -> None:
        result = self.result
        self._stage.publish(
            self._leads,
            self._terms.run_id,
            key_version=self._terms.key_version,
            details={
                "lookups_paid": result.lookups_paid,
                "lookups_reused": result.lookups_reused,
                "lookups_unknown": result.lookups_unknown,
                "cost": str(result.cost),
                "outcomes": dict(result.outcomes),
            },
            now=utc_now(),
        )

    def _feed(self, fanout: Fanout[Lookup, Ended, IdicoreClient]) -> list[Lead]:
        """Claim the leads in order and hand them to the workers; return those that another run is asking about."""
        waiting: list[Lead] = []
        for page in lead_pages(self._warehouse, self._leads, rows=PAGE_ROWS):
            leads = _read_leads(page.to_pydict())
            for first in range(0, len(leads), self._settings.etl_batch_size):
                waiting += self._claim(fanout, leads[first : first + self._settings.etl_batch_size])
                self._take(fanout)
        return waiting

    def _claim(self, fanout: Fanout[Lookup, Ended, IdicoreClient], leads: Sequence[Lead]) -> list[Lead]:
        standings = self._ledger.claim([lead.person_key for lead in leads], self._terms)
        lookups: list[Lookup] = []
        busy: list[Lead] = []
        for lead in leads:
            match standings[lead.person_key]:
                case Claimed() as claim:
                    lookups.append(Lookup(lead, claim))
                case Busy():
                    busy.append(lead)
                case standing:
                    self._record(Ended(_row_of(lead, standing, self._settings), bought=None))
        fanout.put(lookups)
        return busy

    def _wait_for_others(self, fanout: Fanout[Lookup, Ended, IdicoreClient], waiting: list[Lead]) -> None:
        """Wait one lease for other runs' answers, then defer the leads that are still being asked about."""
        deadline = time.monotonic() + self._lease_seconds
        pause = 0.1
        while waiting and time.monotonic() < deadline:
            interrupts.sleep(min(pause, self._lease_seconds / 10))
            pause = min(pause * 1.5, 1.0)
            still: list[Lead] = []
            for first in range(0, len(waiting), self._settings.etl_batch_size):
                still += self._claim(fanout, waiting[first : first + self._settings.etl_batch_size])
            waiting = still
            self._finish(fanout)
        for lead in waiting:
            self._record(Ended(_row(lead, "deferred", ASKED_BY_ANOTHER), bought=None))

    def _finish(self, fanout: Fanout[Lookup, Ended, IdicoreClient]) -> None:
        fanout.finish(report=lambda: self._take(fanout))

    def _take(self, fanout: Fanout[Lookup, Ended, IdicoreClient]) -> None:
        for ended in fanout.taken():
            self._record(ended)
        if len(self._rows) >= FLUSH_ROWS:
            self._flush()

    def _record(self, ended: Ended) -> None:
        result = self.result
        outcome = str(ended.row["outcome"])
        result.outcomes[outcome] += 1
        if outcome in ("deferred", "held"):
            result.reasons[str(ended.row["reason"])] += 1
        if ended.row["reused"]:
            result.lookups_reused += 1
        self._rows.append(ended.row)
        self._progress.add(1)
        if ended.bought is None:
            return
        result.lookups_paid += 1
        if self._guard.record(ended.bought):
            raise MissShareError(
                f"More than {self._settings.idicore_max_miss_share:.0%} of the last {WINDOW} lookups found nobody: the "
                "idiCORE account may be suspended. The misses are held as suspect and not published. When the account "
                "is in order, release them with: leadscrub ledger release-suspects."
            )

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        self._stage.append(rows)

    # --- in the thread of the requests --------------------------------------------------

    async def _look_up(self, client: IdicoreClient, lookup: Lookup) -> Ended:
        """Ask about one person; what may have been billed is in the ledger before anything else happens to it."""
        lead, claim = lookup
        while True:
            try:
                return await self._ask(client, lead, claim)
            except OutcomeUnknownError as error:
                await self._writer.settle(
                    claim.lookup_id, Settlement(state="unknown", reason=error.reason, http_status=error.status)
                )
            standing = await self._claim_again(lead)
            if not isinstance(standing, Claimed):
                return Ended(_row_of(lead, standing, self._settings), bought=None)
            claim = standing

    async def _claim_again(self, lead: Lead) -> Any:  # noqa: ANN401 - a standing
        """The ledger decides whether a request of unknown outcome may be repeated."""
        standings = await asyncio.to_thread(self._ledger.claim, [lead.person_key], self._terms)
        return standings[lead.person_key]

    async def _ask(self, client: IdicoreClient, lead: Lead, claim: Claimed) -> Ended:
        sent = False

        async def before_send() -> None:
            nonlocal sent
            await self._writer.mark_sent(claim.lookup_id)
            sent = True

        try:
            answer = await client.search(
                lead.person, reference_id=claim.lookup_id, purpose=self._terms.purpose, before_send=before_send
            )
        except OutcomeUnknownError:
            raise
        except NotBilledError as error:
            await self._not_billed(claim, error.reason, sent=sent)
            return Ended(_row(lead, "deferred", error.reason), bought=None)
        except LeadscrubError as error:
            # Access refused, or the breaker gave up: neither attempt was billed.
            await self._not_billed(claim, type(error).__name__, sent=sent)
            raise
        try:
            contact = read_answer(answer.body, lead.person, rank_best=self._settings.idicore_rank_best)
        except WrongShapeError:
            raise OutcomeUnknownError("wrong_shape", status=answer.status) from None
        times = await self._writer.settle(
            claim.lookup_id,
            Settlement(
                state=contact.outcome,
                reason=answer.reason or contact.reason,
                http_status=answer.status,
                answer=answer.body,
                parser_version=PARSER_VERSION,
                billed=answer.billed,
            ),
        )
        row = contact_row(
            lead,
            contact,
            reason=answer.reason,
            lookup_id=claim.lookup_id,
            looked_up_at=times.settled_at,
            expires_at=times.expires_at,
            reused=False,
        )
        return Ended(row, bought=contact.outcome if answer.billed else None)

    async def _not_billed(self, claim: Claimed, reason: str, *, sent: bool) -> None:
        if sent:
            await self._writer.settle(claim.lookup_id, Settlement(state="failed", reason=reason))
        else:
            await asyncio.to_thread(self._ledger.release, [claim.lookup_id])


# --- rows ---------------------------------------------------------------------------


def _read_leads(page: dict[str, list[Any]]) -> list[Lead]:
    people = map(Person._make, zip(*(page[name] for name in IDENTITY_COLUMNS), strict=True))
    return [Lead(*lead) for lead in zip(page["lead_number"], page["person_key"], people, strict=True)]


def _row_of(lead: Lead, standing: Cached | Held | Capped | Busy, settings: Settings) -> Row:
    """The row of a lead that is not asked about now."""
    match standing:
        case Cached(answer=body) if body is not None:
            contact = read_answer(body, lead.person, rank_best=settings.idicore_rank_best)
            return contact_row(
                lead,
                contact,
                reason=standing.reason if contact.outcome == "miss" else None,
                lookup_id=standing.lookup_id,
                looked_up_at=standing.looked_up_at,
                expires_at=standing.expires_at,
                reused=True,
            )
        case Cached():
            # Adopted without its answer, or erased: known to be paid for, and nothing to show.
            return _row(lead, "held", "answer_not_kept") | {"lookup_id": standing.lookup_id}
        case Held():
            return _row(lead, "held", standing.reason)
        case Capped():
            return _row(lead, "deferred", standing.reason)
        case Busy():
            return _row(lead, "deferred", ASKED_BY_ANOTHER)


def _row(lead: Lead, outcome: str, reason: str) -> Row:
    """The row of a lead without a contact."""
    return {
        "lead_number": lead.number,
        "person_key": lead.person_key,
        "outcome": outcome,
        "reason": reason,
        "lookup_id": None,
        "reused": False,
        "looked_up_at": None,
        "expires_at": None,
        **dict.fromkeys(_CONTACT_COLUMNS),
        "contact": None,
    }


_CONTACT_COLUMNS: Final = tuple(f"{kind}_{i}" for kind in ("phone", "email") for i in (1, 2, 3))


def contact_row(
    lead: Lead,
    contact: Contact,
    *,
    reason: str | None,
    lookup_id: str,
    looked_up_at: datetime | None,
    expires_at: datetime | None,
    reused: bool,
) -> Row:
    """The row of a lead that was answered. ``reason`` is the vendor's own, and beats the parser's."""
    details: dict[str, object] = {"is_dead": contact.is_dead, "matched_by": contact.matched_by}
    row = _row(lead, contact.outcome, reason or contact.reason or contact.matched_by)
    for slot, phone in enumerate(contact.phones, start=1):
        row[f"phone_{slot}"] = phone.digits
        details[f"phone_{slot}"] = {"type": phone.type, "disconnected": phone.disconnected}
    for slot, email in enumerate(contact.emails, start=1):
        row[f"email_{slot}"] = email
    if contact.unusable_phones:
        details["unusable_phones"] = [{"phone": text, "reason": why} for text, why in contact.unusable_phones]
    row.update(
        lookup_id=lookup_id,
        looked_up_at=looked_up_at,
        expires_at=expires_at,
        reused=reused,
        contact=orjson.dumps(details).decode(),
    )
    return row
