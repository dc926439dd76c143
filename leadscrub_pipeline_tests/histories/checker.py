"""What must hold after any history, each rule by its claim; a complaint says what does not.

Times are compared only where one clock wrote both, or with the slack that the history's clocks
need. What cannot hold when clocks differ by more than a lease stands with the rule it limits.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple

from leadscrub_pipeline.simulators.phones import is_relatives_phone
from leadscrub_pipeline_tests.histories.books import Books, Fact
from leadscrub_pipeline_tests.histories.cast import Somebody
from leadscrub_pipeline_tests.histories.world import PRICE, Ran

_PRICE: Final = int(PRICE * 1_000_000)
_DAY: Final = 86_400_000_000
_JITTER: Final = 5_000_000
_LIST_DAYS: Final = timedelta(days=31)
_SLOTS: Final = (1, 2, 3)


class Complaint(NamedTuple):
    rule: str
    text: str


Rule = Callable[[Books], Iterator[str]]


def check(books: Books) -> list[Complaint]:
    """All complaints of all rules; none is what every history should end with."""
    return [Complaint(rule.__name__, text) for rule in RULES for text in rule(books)]


# --- money ------------------------------------------------------------------------------


def every_request_on_the_wire_has_its_row(books: Books) -> Iterator[str]:
    known = {row["lookup_id"]: row for row in books.lookups}
    for reference in books.asked:
        if reference not in known:
            yield f"request {reference} reached the vendor and has no row"
    for entry in books.bill:
        row = known.get(entry.reference_id)
        if row is None:
            yield f"request {entry.reference_id} was billed and has no row"
        elif row["sent_at"] is None:
            yield f"request {entry.reference_id} was billed and never marked sent"


def every_cost_is_on_the_bill_once(books: Books) -> Iterator[str]:
    """Row by row: what was settled at a price is billed once, what cost nothing is not billed."""
    billed = Counter(entry.reference_id for entry in books.bill)
    for reference, count in billed.items():
        if count > 1:
            yield f"request {reference} was billed {count} times"
    for row in books.lookups:
        is_billed = billed[row["lookup_id"]] > 0
        if row["state"] in ("hit", "miss") and is_billed != (row["cost_micros"] == _PRICE):
            yield f"{row['state']} {row['lookup_id']} cost {row['cost_micros']} and is billed: {is_billed}"
        if row["state"] in ("failed", "claimed") and is_billed:
            yield f"{row['state']} {row['lookup_id']} is on the bill"


def the_bill_lies_between_settled_and_settled_plus_unknown(books: Books) -> Iterator[str]:
    settled = sum(row["cost_micros"] or 0 for row in books.lookups)
    unknown = sum(row["price_micros"] for row in books.lookups if row["state"] in ("sent", "unknown"))
    bill = int(sum(entry.cost for entry in books.bill) * 1_000_000)
    if not settled <= bill <= settled + unknown:
        yield f"bill {bill}, settled {settled}, unknown {unknown}"


def nobody_is_asked_about_twice_within_the_caches_life(books: Books) -> Iterator[str]:
    """But for repeats of requests of unknown outcome, as many as the policy of the asking run allows.

    Whether a request was billed is the vendor's secret, so all that were sent count alike.
    A run whose clock is more than a lease ahead takes a live owner for dead and its requests
    for unknown. That cannot be told from a death, so there a request that was answered after
    all counts as a repeat; it must still be one that the policy allows.
    """
    for somebody, rows in _requests_by_person(books).items():
        for at, row in enumerate(rows):
            ran = books.run(row["run_id"])
            if ran is None:
                yield f"{_name(somebody)}: a request of a run that never was, {row['run_id']}"
                continue
            unknown = 0
            for earlier in rows[:at]:
                match _meant(books, earlier, row, ran):
                    case "answered":
                        yield f"{_name(somebody)}: asked by {ran.run_id} while {earlier['lookup_id']} served"
                    case "in flight":
                        yield f"{_name(somebody)}: asked by {ran.run_id} while {earlier['run_id']} was asking"
                    case "unknown":
                        unknown += 1
            if unknown > ran.allowed_repeats:
                yield f"{_name(somebody)}: {ran.run_id} repeated {unknown} unknowns, allowed {ran.allowed_repeats}"


def _meant(books: Books, earlier: Fact, row: Fact, ran: Ran) -> str | None:
    """What an earlier request about the person meant when the later one was claimed."""
    other = books.run(earlier["run_id"])
    apart = other is not None and ran.saw_another_clock(other)
    claimed_at = row["claimed_at"]
    if earlier["state"] in ("hit", "miss"):
        if earlier["suspicion"] == "discarded" or earlier["expires_at"] <= claimed_at:
            return None
        return "unknown" if apart else "answered"
    if earlier["state"] == "failed":
        return None
    cache_days = int(ran.settings["IDICORE_CACHE_DAYS"])
    if (earlier["sent_at"] or earlier["claimed_at"]) + cache_days * _DAY <= claimed_at:
        return None
    # Children set their clocks one after the other, so the same offset is not the same microsecond.
    latest = claimed_at + (_JITTER if ran.offset else 0)
    if not books.clocks_differed and (earlier["settled_at"] is None or earlier["settled_at"] > latest):
        return "in flight"
    return "unknown"


def _requests_by_person(books: Books) -> dict[Somebody, list[Fact]]:
    """Requests that reached the vendor, in the order of their claims."""
    found: defaultdict[Somebody, list[Fact]] = defaultdict(list)
    for row in books.lookups:
        somebody = books.person_of_lookup(row)
        if somebody is not None:
            found[somebody].append(row)
    return found


def nobody_is_asked_about_who_is_nobody(books: Books) -> Iterator[str]:
    for reference, asked in books.asked.items():
        if books.oracle.whose(asked) is None:
            yield f"request {reference} is about nobody of this history"


def one_person_has_one_key_and_one_key_one_person(books: Books) -> Iterator[str]:
    keys: defaultdict[Somebody, set[str]] = defaultdict(set)
    for row in books.lookups:
        somebody = books.person_of_lookup(row)
        if somebody is not None:
            keys[somebody].add(row["person_key"])
    for row in books.tables["RAW_LEADS"]:
        somebody = books.person_of_row(row)
        if somebody is not None:
            keys[somebody].add(row["person_key"])
    people: defaultdict[str, set[Somebody]] = defaultdict(set)
    for somebody, theirs in keys.items():
        if len(theirs) > 1:
            yield f"{_name(somebody)} has {len(theirs)} keys"
        for key in theirs:
            people[key].add(somebody)
    for key, sharing in people.items():
        if len(sharing) > 1:
            yield f"{len(sharing)} people share key {key}: {', '.join(map(_name, sharing))}"


def no_cap_is_passed(books: Books) -> Iterator[str]:
    """By reservation, in the order of the claims; a request that cost nothing gave its place back."""
    of_run: Counter[str] = Counter()
    of_day: Counter[int] = Counter()
    billed = {entry.reference_id for entry in books.bill}
    billed_of_run: Counter[str] = Counter()
    for row in books.lookups:
        if not _is_reserved(row):
            continue
        day = row["claimed_at"] // _DAY
        of_run[row["run_id"]] += 1
        of_day[day] += row["price_micros"]
        billed_of_run[row["run_id"]] += row["lookup_id"] in billed
        ran = books.run(row["run_id"])
        if ran is None:
            continue
        if ran.cap is not None and of_run[ran.run_id] > ran.cap:
            yield f"{ran.run_id} reserved {of_run[ran.run_id]} lookups, its cap is {ran.cap}"
        if ran.budget is not None and of_day[day] > ran.budget * 1_000_000:
            yield f"{ran.run_id} brought the day to {of_day[day]} micros, the budget is {ran.budget} dollars"
    for ran in books.runs:
        if ran.cap is not None and billed_of_run[ran.run_id] > ran.cap:
            yield f"{ran.run_id} was billed {billed_of_run[ran.run_id]} lookups, its cap is {ran.cap}"


def budgets_are_what_the_rows_say(books: Books) -> Iterator[str]:
    lookups: Counter[str] = Counter()
    for row in books.lookups:
        if _is_reserved(row):
            day = datetime.fromtimestamp(row["claimed_at"] // _DAY * 86_400, UTC).date()
            lookups[f"run:{row['run_id']}"] += 1
            lookups[f"day:{day.isoformat()}"] += 1
    stored = {scope: row["lookups"] for scope, row in books.budgets.items() if row["lookups"]}
    if stored != dict(lookups):
        yield f"budgets say {stored}, the rows {dict(lookups)}"
    for scope, row in books.budgets.items():
        if row["micros"] != row["lookups"] * _PRICE:
            yield f"{scope}: {row['micros']} micros for {row['lookups']} lookups"


def _is_reserved(row: Fact) -> bool:
    return row["state"] != "failed" and row["cost_micros"] != 0


def nothing_is_left_in_flight(books: Books) -> Iterator[str]:
    for row in books.lookups:
        if row["state"] in ("claimed", "sent"):
            yield f"{row['lookup_id']} of {row['run_id']} is left {row['state']}"


def only_a_dead_process_leaves_a_request_behind(books: Books) -> Iterator[str]:
    """An orderly stop settles what is in flight. A clock far ahead buries the living, so there it cannot be told."""
    for row in books.lookups:
        ran = books.run(row["run_id"])
        if row["state"] != "unknown" or row["reason"] != "owner_died" or ran is None or ran.report.killed:
            continue
        if not any(ran.saw_another_clock(other) for other in books.runs if other is not ran):
            yield f"{row['lookup_id']} was left in flight by {ran.run_id}, which was not killed"


def a_paused_ledger_grants_nothing(books: Books) -> Iterator[str]:
    for ran in books.runs:
        count = sum(row["run_id"] == ran.run_id for row in books.lookups)
        if ran.paused and count:
            yield f"{ran.run_id} claimed {count} lookups while paused"


# --- runs -------------------------------------------------------------------------------


def every_run_ends_in_a_known_way(books: Books) -> Iterator[str]:
    for ran in books.runs:
        report = ran.report
        if report.defect is not None:
            yield f"{ran.run_id} ended on a defect in {report.failed_asset}: {report.defect}"
        if report.exit_code not in (0, 1, 130, -9):
            yield f"{ran.run_id} ended with {report.exit_code}"
        if report.exit_code == -9 and ran.scrub.end is None:
            yield f"{ran.run_id} was killed by nobody"
        if report.exit_code == 130 and ran.scrub.end is None and ran.scrub.interrupt is None:
            yield f"{ran.run_id} was interrupted by nobody"


def no_lead_is_lost_in_a_run(books: Books) -> Iterator[str]:
    """The sums, and that selected, rejected and duplicate are what the script's rows are.

    Two runs of one script at once, which only clocks far apart allow, read each other's slices.
    """
    for ran in books.runs:
        if not ran.is_whole or _shared_its_script(books, ran):
            continue
        counts = ran.report.counts
        if counts["selected"] != sum(counts[n] for n in ("rejected", "duplicate", "already_processed", "kept")):
            yield f"{ran.run_id}: selected is not its parts: {counts}"
        if counts["kept"] != sum(counts[n] for n in ("published", "deferred", "held", "taken")):
            yield f"{ran.run_id}: kept is not its parts: {counts}"
        yield from _unlike_the_source(books, ran, counts)


def _unlike_the_source(books: Books, ran: Ran, counts: dict[str, Any]) -> Iterator[str]:
    limit = ran.scrub.row_limit
    if limit is not None:
        if counts["kept"] > limit:
            yield f"{ran.run_id}: kept {counts['kept']} under a row limit of {limit}"
        return
    owners = [books.oracle.whose(row) for row in ran.rows]
    usable = [somebody for somebody in owners if somebody is not None]
    if counts["selected"] != len(owners) or counts["rejected"] != len(owners) - len(usable):
        yield f"{ran.run_id}: {len(owners)} rows of which {len(usable)} are usable, and it counted {counts}"
    if ran.scrub.include and counts["kept"] != len(set(usable)):
        yield f"{ran.run_id}: {len(set(usable))} people, and it kept {counts['kept']}"


def _shared_its_script(books: Books, ran: Ran) -> bool:
    return any(
        other is not ran and other.scrub.script == ran.scrub.script and ran.overlaps(other) for other in books.runs
    )


def one_run_at_a_time_holds_a_script(books: Books) -> Iterator[str]:
    """Of runs that hold it throughout. A clock more than a lease ahead takes the holder for dead."""
    holders = [ran for ran in books.runs if ran.report.held_from is not None]
    for at, ran in enumerate(holders):
        for other in holders[:at]:
            if other.scrub.script != ran.scrub.script or ran.saw_another_clock(other):
                continue
            if _held(ran)[0] < _held(other)[1] and _held(other)[0] < _held(ran)[1]:
                yield f"{other.run_id} and {ran.run_id} both held {ran.scrub.script}"


def _held(ran: Ran) -> tuple[float, float]:
    report = ran.report
    until = report.held_until if report.held_until is not None else report.ended
    return report.held_from or 0.0, until or 0.0


def everybody_is_published_in_the_end(books: Books) -> Iterator[str]:
    last = books.settled
    if last is None:
        return
    if not last.report.ok:
        yield f"the last run, undisturbed, failed in {last.report.failed_asset}: {last.report.failure}"
        return
    if last.report.counts["deferred"] or last.report.counts["held"]:
        yield f"the last run, undisturbed, left leads: {last.report.counts}"
    published = {books.person_of_row(row) for row in books.master}
    for somebody in books.people:
        if somebody not in published:
            yield f"{_name(somebody)} was never published"
    if None in published:
        yield "the master table has a row of nobody"


# --- tables -----------------------------------------------------------------------------


def no_row_is_doubled(books: Books) -> Iterator[str]:
    tables = books.tables
    keyed: tuple[tuple[str, Iterable[Hashable]], ...] = (
        ("master by record_id", [row["record_id"] for row in books.master]),
        ("master by person and script", [(books.person_of_row(row), row["table_id"]) for row in books.master]),
        ("PERSON_CACHE by person_key", [row["person_key"] for row in tables["PERSON_CACHE"]]),
        ("PHONE_VERDICTS by phone and source", [(r["phone"], r["source"]) for r in tables["PHONE_VERDICTS"]]),
        ("evidence by place", [(row["run_id"], row["asset"], row["sequence"]) for row in books.evidence]),
        (
            "ENRICHED_CONTACTS by lead",
            [(row["partition_key"], row["lead_number"]) for row in tables["ENRICHED_CONTACTS"]],
        ),
        ("ENRICHED_CONTACTS by person", [(r["partition_key"], r["person_key"]) for r in tables["ENRICHED_CONTACTS"]]),
        ("RAW_LEADS by lead", [(row["partition_key"], row["lead_number"]) for row in tables["RAW_LEADS"]]),
        ("RAW_LEADS by person", [(r["partition_key"], books.person_of_row(r)) for r in tables["RAW_LEADS"]]),
        ("SLICES by table", [(row["table_name"], row["partition_key"]) for row in tables["SLICES"]]),
        (
            "PUBLISHED_IDENTITIES",
            [(r["identity_hash"], r["person_key"], r["partition_key"]) for r in tables["PUBLISHED_IDENTITIES"]],
        ),
    )
    for name, keys in keyed:
        for key, count in Counter(keys).items():
            if count > 1:
                yield f"{name}: {count} rows of {key}"


def a_slice_is_of_one_run(books: Books) -> Iterator[str]:
    for table in ("RAW_LEADS", "ENRICHED_CONTACTS"):
        slices = {row["partition_key"]: row for row in books.tables["SLICES"] if row["table_name"] == table}
        rows = Counter((row["partition_key"], row["run_id"]) for row in books.tables[table])
        for (partition, run_id), count in rows.items():
            known = slices.get(partition)
            if known is None or known["run_id"] != run_id or known["row_count"] != count:
                yield f"{table} of {partition}: {count} rows of {run_id}, its slice says {known}"


def a_person_has_one_live_owner(books: Books) -> Iterator[str]:
    """Two scripts may both have a row of a person only when the first one's answer was over before the second's."""
    rows_of: defaultdict[Somebody, list[Fact]] = defaultdict(list)
    for row in books.master:
        somebody = books.person_of_row(row)
        if somebody is not None:
            rows_of[somebody].append(row)
    for somebody, rows in rows_of.items():
        bought = [books.row_of(row["additional_data"]["provenance"]["lookup_id"]) for row in rows]
        answers = sorted((row for row in bought if row is not None), key=lambda row: int(row["rowid"]))
        if len(answers) < len(rows):
            yield f"{_name(somebody)}: a published row names a lookup that is not in the ledger"
        for earlier, later in itertools.pairwise(answers):
            if earlier["lookup_id"] == later["lookup_id"] or earlier["expires_at"] > later["settled_at"]:
                yield f"{_name(somebody)} has two live rows, of lookups {earlier['lookup_id']}, {later['lookup_id']}"
    owners = {row["record_id"] for row in books.master}
    for row in books.tables["PERSON_CACHE"]:
        if row["record_id"] is not None and row["record_id"] not in owners:
            yield f"PERSON_CACHE names row {row['record_id']} as owner, which is not in the master table"


def no_identity_is_noted_longer_than_its_person_is_owned(books: Books) -> Iterator[str]:
    """Or the filter in SQL leaves out somebody whom the check by key lets through."""
    cache = {row["person_key"]: row for row in books.tables["PERSON_CACHE"]}
    for row in books.tables["PUBLISHED_IDENTITIES"]:
        known = cache.get(row["person_key"])
        if row["owned_until"] is None:
            continue
        if known is None:
            yield f"an identity of {row['partition_key']} is noted as owned, and PERSON_CACHE does not know the person"
            continue
        # Whoever has the person now was asked about after the others' time was over.
        is_owner = known["partition_key"] == row["partition_key"]
        end = known["expires_at"] if is_owner else known["looked_up_at"]
        if row["owned_until"] > end:
            yield f"an identity of {row['partition_key']} is noted until {row['owned_until']}, and owned until {end}"


def published_phones_are_the_persons_own(books: Books) -> Iterator[str]:
    """Or those with which a simulated long answer fills up the person's."""
    for row in books.master:
        somebody = books.person_of_row(row)
        own = books.phones[somebody] if somebody is not None else frozenset()
        for slot in _SLOTS:
            phone = row[f"phone_{slot}"]
            if phone is not None and phone not in own and not is_relatives_phone(phone):
                yield f"row {row['record_id']} has a phone that is not the person's"


# --- flags ------------------------------------------------------------------------------


def every_false_flag_had_an_unexpired_clear_answer(books: Books) -> Iterator[str]:
    for row in books.master:
        phones = [row[f"phone_{slot}"] for slot in _SLOTS]
        if row["in_litigator_list"] is False:
            if not any(phones):
                yield f"row {row['record_id']} has no phone and is no litigator's"
            for phone in phones:
                if phone is not None and not _was_clear(books, phone, "ccc", row["processed_at"]):
                    yield f"row {row['record_id']}: in_litigator_list is FALSE without evidence for a phone"
        for slot, phone in zip(_SLOTS, phones, strict=True):
            if row[f"phone_{slot}_in_dnc"] is False and not _was_clear(books, phone, "dnc", row["processed_at"]):
                yield f"row {row['record_id']}: phone_{slot}_in_dnc is FALSE without evidence"


def _was_clear(books: Books, phone: str | None, source: str, at: datetime) -> bool:
    return any(
        row["phone"] == phone
        and row["source"] == source
        and row["verdict"] == "clear"
        and row["checked_at"] <= at + books.slack
        and row["valid_until"] > at
        for row in books.evidence
    )


def every_true_flag_was_answered_listed(books: Books) -> Iterator[str]:
    listed = {(row["phone"], row["source"]) for row in books.evidence if row["verdict"] == "listed"}
    for row in books.master:
        phones = [row[f"phone_{slot}"] for slot in _SLOTS]
        if row["in_litigator_list"] and not any((phone, "ccc") in listed for phone in phones):
            yield f"row {row['record_id']}: in_litigator_list is TRUE without evidence"
        for slot, phone in zip(_SLOTS, phones, strict=True):
            if row[f"phone_{slot}_in_dnc"] and (phone, "dnc") not in listed:
                yield f"row {row['record_id']}: phone_{slot}_in_dnc is TRUE without evidence"


def evidence_is_the_truth(books: Books) -> Iterator[str]:
    """As the simulators and the files know it, whatever the vendors' answers were like."""
    for row in books.evidence:
        where = f"{row['run_id']} {row['asset']} {row['sequence']}"
        if row["verdict"] == "unknown":
            if row["reason"] is None:
                yield f"{where}: unknown without a reason"
            continue
        if row["source"] == "ccc" and (row["verdict"] == "listed") != (row["phone"] in books.litigators):
            yield f"{where}: {row['verdict']} is not what CCC knows"
        known = books.lists.get(row["list_version"]) if row["source"] == "dnc" else None
        if known is not None:
            if (row["verdict"] == "listed") != (row["phone"] in known.listed):
                yield f"{where}: {row['verdict']} is not what {row['list_version']} holds"
            if row["verdict"] == "clear" and row["phone"][:3] in known.without:
                yield f"{where}: clear, and {row['list_version']} does not cover the area code"
        if row["obtained_at"] is None and row["verdict"] == "clear":
            yield f"{where}: clear, and nobody knows how old the list was"
        # A number that is found on a list of unknown age is listed, and counts from the check.
        if row["valid_until"] > (row["obtained_at"] or row["checked_at"]) + _LIST_DAYS:
            yield f"{where}: counts for more than 31 days"


def every_verdict_has_its_evidence(books: Books) -> Iterator[str]:
    names = ("phone", "source", "verdict", "reason", "list_version", "obtained_at", "checked_at", "valid_until")
    known = {tuple(row[name] for name in names) for row in books.evidence}
    for row in books.tables["PHONE_VERDICTS"]:
        if tuple(row[name] for name in names) not in known:
            yield f"the {row['verdict']} verdict of {row['source']} about a phone has no evidence"


def evidence_has_no_gap(books: Books) -> Iterator[str]:
    chains: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row in books.evidence:
        chains[row["run_id"], row["asset"]].append(row["sequence"])
    for (run_id, asset), places in chains.items():
        if sorted(places) != list(range(1, len(places) + 1)):
            yield f"evidence of {run_id} {asset} has places {sorted(places)}"


def evidence_is_chained_and_sealed(books: Books) -> Iterator[str]:
    """Row by row as DESIGN.md says it, and in the ledger: to the last row when a run came after the dead."""
    rows: defaultdict[tuple[str, str], list[Fact]] = defaultdict(list)
    for row in sorted(books.evidence, key=lambda row: int(row["sequence"])):
        rows[row["run_id"], row["asset"]].append(row)
    sealed = {(chain["run_id"], chain["asset"]): chain for chain in books.chains}
    for key in rows.keys() | sealed.keys():
        hashes = [sha256(f"leadscrub evidence 1|{key[0]}|{key[1]}".encode()).hexdigest()]
        for row in rows[key]:
            hashes.append(sha256(bytes.fromhex(hashes[-1]) + row["canonical"].encode()).hexdigest())
            if row["row_hash"] != hashes[-1]:
                yield f"evidence of {key}: row {row['sequence']} does not hold what was before it"
                break
        chain = sealed.get(key)
        may_have_a_tail = books.settled is None and key[0] in books.dead
        if (
            chain is None
            or hashes[chain["row_count"] :][:1] != [chain["root"]]
            or (chain["row_count"] < len(rows[key]) and not may_have_a_tail)
        ):
            yield f"evidence of {key}: {len(rows[key])} rows, sealed are {chain and chain['row_count']}"


def _name(somebody: Somebody) -> str:
    return " ".join(filter(None, somebody.plain()))


RULES: Final[tuple[Rule, ...]] = (
    every_request_on_the_wire_has_its_row,
    every_cost_is_on_the_bill_once,
    the_bill_lies_between_settled_and_settled_plus_unknown,
    nobody_is_asked_about_twice_within_the_caches_life,
    nobody_is_asked_about_who_is_nobody,
    one_person_has_one_key_and_one_key_one_person,
    no_cap_is_passed,
    budgets_are_what_the_rows_say,
    nothing_is_left_in_flight,
    only_a_dead_process_leaves_a_request_behind,
    a_paused_ledger_grants_nothing,
    every_run_ends_in_a_known_way,
    no_lead_is_lost_in_a_run,
    one_run_at_a_time_holds_a_script,
    everybody_is_published_in_the_end,
    no_row_is_doubled,
    a_slice_is_of_one_run,
    a_person_has_one_live_owner,
    no_identity_is_noted_longer_than_its_person_is_owned,
    published_phones_are_the_persons_own,
    every_false_flag_had_an_unexpired_clear_answer,
    every_true_flag_was_answered_listed,
    evidence_is_the_truth,
    every_verdict_has_its_evidence,
    evidence_has_no_gap,
    evidence_is_chained_and_sealed,
)
