"""The company's own list and the consents: taken in with evidence, honoured at once, in runs and beside them."""

import csv
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadscrub_pipeline.deployment import open_ledger, open_registry, open_warehouse
from leadscrub_pipeline.domain.consents import Consent, ConsentKind, DncRequest, months_later
from leadscrub_pipeline.domain.phones import mask_phone
from leadscrub_pipeline.errors import UnavailableError, UsageError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.steps.evidence_pack import write_pack
from leadscrub_pipeline.steps.evidence_verification import verify
from leadscrub_pipeline.steps.own_list_files import Entry, Rejected, read_consents, read_requests
from leadscrub_pipeline.steps.own_lists import Taken, end_entries, honour, take_in
from leadscrub_pipeline.steps.pack_facts import Told
from leadscrub_pipeline.steps.rescrub import Rescrub, rescrub
from leadscrub_pipeline.warehouse.own_lists import (
    COMPANY_LIST_ENTRIES,
    CONSENTS_GIVEN,
    OwnList,
    count_entries,
    rows_not_honoured,
)
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, CONSENTS, INTERNAL_DNC, SCRUB_EVIDENCE
from leadscrub_pipeline_tests.graph import Graph, graph_in, people
from leadscrub_pipeline_tests.killed import killed

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch) as made:
        yield made


def take(own: OwnList, *entries: Entry | Rejected, run_id: str = "command") -> Taken:
    settings = load_settings()
    with open_ledger(settings) as ledger:
        return take_in(open_warehouse(settings), ledger, own, [("", entries)], run_id=run_id)


def end(own: OwnList, *phones: str, kind: str | None = None) -> tuple[int, int]:
    settings = load_settings()
    with open_ledger(settings) as ledger:
        return end_entries(
            open_warehouse(settings), ledger, own, phones, run_id=str(uuid4()), why="asked to be called", kind=kind
        )


def request(phone: str, source: str = "call", *, days_ago: int = 1) -> DncRequest:
    return DncRequest(phone, datetime.now(UTC) - days_ago * DAY, source)


def consent(phone: str, kind: ConsentKind = ConsentKind.WRITTEN) -> Consent:
    return Consent(phone, kind, datetime.now(UTC) - DAY, "contract 1", "crm")


def flag_of(graph: Graph, phone: str) -> set[bool | None]:
    return {
        row[f"phone_{slot}_in_dnc"] for row in graph.master() for slot in (1, 2, 3) if row[f"phone_{slot}"] == phone
    }


def lists_of(graph: Graph, phone: str) -> set[str | None]:
    return {
        orjson.loads(row["additional_data"])["provenance"][f"phone_{slot}_dnc_lists"]
        for row in graph.master()
        for slot in (1, 2, 3)
        if row[f"phone_{slot}"] == phone
    }


def evidence(graph: Graph, *sources: str) -> list[tuple[Any, ...]]:
    marks = ", ".join("?" for _ in sources)
    return graph.rows(
        "SELECT asset, phone, source, verdict, reason, list_version, run_id "
        f"FROM {SCRUB_EVIDENCE.full_name} WHERE source IN ({marks}) ORDER BY checked_at, sequence",
        sources,
    )


def assert_evidence_is_sound() -> None:
    settings = load_settings()
    with open_ledger(settings) as ledger:
        found = verify(open_warehouse(settings), ledger, report=lambda _: None)
    assert found.is_sound, found.kinds
    assert found.unsealed_rows == 0


# --- in runs ----------------------------------------------------------------------------


def test_a_request_counts_at_once_in_published_rows_and_in_the_view_until_it_is_withdrawn(graph: Graph) -> None:
    graph.scrub("leads")
    phone = min(graph.callable_phones())
    assert flag_of(graph, phone) == {False}
    result = take(COMPANY_LIST_ENTRIES, request(phone))
    assert (result.added, result.rows_set) == (1, 1)
    assert phone not in graph.callable_phones()
    assert (flag_of(graph, phone), lists_of(graph, phone)) == ({True}, {"company"})
    assert end(COMPANY_LIST_ENTRIES, phone) == (1, 1)
    assert phone in graph.callable_phones()
    assert (flag_of(graph, phone), lists_of(graph, phone)) == ({False}, {None})
    assert [row[:6] for row in evidence(graph, "company")] == [
        ("internal_dnc", phone, "company", "listed", None, "call"),
        ("internal_dnc", phone, "company", "withdrawn", None, "call"),
    ]
    assert_evidence_is_sound()


def test_a_run_publishes_a_number_on_the_companys_list_as_listed_with_evidence_of_it(graph: Graph) -> None:
    graph.scrub("leads")
    before = graph.callable_phones()
    phone = min(before)
    take(COMPANY_LIST_ENTRIES, request(phone))
    run = graph.scrub("leads", already_processed="include")
    assert run.success, run.error
    assert flag_of(graph, phone) == {True}
    assert graph.callable_phones() == before - {phone}
    assert run.metadata["dnc_flags"]["company_entries"] == 1
    assert run.metadata["dnc_flags"]["consent_entries"] == 0
    assert evidence(graph, "company")[-1] == (
        "dnc_flags_internal_dnc", phone, "company", "listed", None, "call", run.run_id,
    )  # fmt: skip
    assert_evidence_is_sound()


def test_a_consent_makes_a_listed_number_callable_and_leaves_its_flag_and_evidence_of_its_use(graph: Graph) -> None:
    graph.scrub("leads")
    phone, other = sorted(graph.callable_phones())[:2]
    graph.write_registry(listed=[phone, other])
    graph.configure(DNC_LIST_DATE=(datetime.now(UTC) - DAY).date().isoformat())
    take(CONSENTS_GIVEN, consent(phone))
    assert not evidence(graph, "company")
    run = graph.scrub("leads", already_processed="include", assets=None)
    assert run.success, run.error
    # An answer that still counts is not asked for again: the list of three days ago said clear.
    assert {phone, other} <= graph.callable_phones()
    renewed = _renew(graph)
    assert flag_of(graph, phone) == flag_of(graph, other) == {True}
    assert phone in graph.callable_phones()
    assert other not in graph.callable_phones()
    basis = dict(graph.rows(f"SELECT phone, basis FROM {CALLABLE_PHONES}"))
    assert Counter(basis.values()) == Counter(not_listed=len(basis) - 1, written_consent=1)
    assert evidence(graph, "consent")[-1] == (
        "rescrub_dnc_consents", phone, "consent", "consented", "written_consent", "contract 1", renewed,
    )  # fmt: skip
    assert end(CONSENTS_GIVEN, phone)[0] == 1
    assert phone not in graph.callable_phones()
    assert_evidence_is_sound()


def _renew(graph: Graph) -> str:
    """A rescrub of the registry's answers; gives its run id."""
    settings, run_id = load_settings(), str(uuid4())
    with open_ledger(settings) as ledger:
        wanted = Rescrub(run_id, ("dnc",), renew=True)
        report = rescrub(
            open_warehouse(settings), ledger, settings, wanted, lambda: open_registry(settings), report=lambda _: None
        )
    report.raise_problems()
    return run_id


def test_a_request_beats_a_consent_and_no_consent_lifts_a_litigator(graph: Graph) -> None:
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(60))
    graph.scrub("leads")
    rows = graph.master()
    litigators = next(row for row in rows if row["in_litigator_list"])
    theirs = [litigators[f"phone_{slot}"] for slot in (1, 2, 3) if litigators[f"phone_{slot}"]]
    phone = min(graph.callable_phones())
    take(CONSENTS_GIVEN, consent(phone), *(consent(each) for each in theirs))
    assert phone in graph.callable_phones()
    take(COMPANY_LIST_ENTRIES, request(phone))
    assert not graph.callable_phones() & {phone, *theirs}


def test_flags_that_a_kill_left_are_set_by_whoever_comes_next(graph: Graph) -> None:
    graph.scrub("leads")
    phone = min(graph.callable_phones())
    with graph.warehouse() as session:
        session.execute(
            f"INSERT INTO {INTERNAL_DNC.full_name} (phone, requested_at, source) VALUES (?, ?, 'call')", [phone, NOW]
        )
        assert len(rows_not_honoured(session)) == 1
    assert phone not in graph.callable_phones()
    assert honour(open_warehouse(load_settings()), "next") == 1
    with graph.warehouse() as session:
        assert len(rows_not_honoured(session)) == 0
    assert flag_of(graph, phone) == {True}


def test_a_pack_has_the_requests_and_consents_that_stood_at_some_time_of_its_period(graph: Graph) -> None:
    graph.scrub("leads")
    phone, other = sorted(graph.callable_phones())[:2]
    take(COMPANY_LIST_ENTRIES, request(phone), request("2125550101"))
    take(CONSENTS_GIVEN, consent(other), consent("2125550101", ConsentKind.INQUIRY))
    end(COMPANY_LIST_ENTRIES, "2125550101")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    packs = {"now": (today, False), "masked": (today, True), "before": (today - 30 * DAY, False)}
    settings = load_settings()
    with open_ledger(settings) as ledger:
        for name, (since, masked) in packs.items():
            write_pack(
                open_warehouse(settings), ledger, graph.folder / name, since=since, until=since + 2 * DAY,
                masked=masked, kind="demo", verified=Told(0, 0, 0, 0, (), 0), report=lambda _: None,
            )  # fmt: skip
    requests = _rows_of(graph.folder / "now" / "internal_dnc.csv")
    assert {row["phone"]: bool(row["withdrawn_at"]) for row in requests} == {phone: False, "2125550101": True}
    consents = _rows_of(graph.folder / "now" / "consents.csv")
    assert {(row["phone"], row["kind"], row["proof"]) for row in consents} == {
        (other, "written_consent", "contract 1"),
        ("2125550101", "inquiry", "contract 1"),
    }
    masked_phones = {row["phone"] for row in _rows_of(graph.folder / "masked" / "internal_dnc.csv")}
    assert masked_phones == {mask_phone(phone), mask_phone("2125550101")}
    assert _rows_of(graph.folder / "before" / "internal_dnc.csv") == []
    versions = _rows_of(graph.folder / "now" / "list_versions.csv")
    assert {row["source"] for row in versions} == {"ccc", "dnc"}


def _rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- entries ----------------------------------------------------------------------------


def test_the_same_entry_given_again_is_not_added_again_also_not_after_its_end(graph: Graph) -> None:
    once = request("2125550101")
    assert take(COMPANY_LIST_ENTRIES, once, once).added == 1
    again = take(COMPANY_LIST_ENTRIES, once)
    assert (again.added, again.there_already) == (0, 1)
    end(COMPANY_LIST_ENTRIES, once.phone)
    assert take(COMPANY_LIST_ENTRIES, once).added == 0
    later = request("2125550101", "letter", days_ago=0)
    assert take(COMPANY_LIST_ENTRIES, later).added == 1
    with graph.warehouse() as session:
        counts = count_entries(session, COMPANY_LIST_ENTRIES, datetime.now(UTC))
    assert (counts.entries, counts.standing, counts.phones, counts.ended) == (2, 1, 1, 1)
    assert_evidence_is_sound()


def test_only_consents_of_the_kind_named_are_revoked(graph: Graph) -> None:
    kinds = (ConsentKind.WRITTEN, ConsentKind.TRANSACTION, ConsentKind.INQUIRY)
    take(CONSENTS_GIVEN, *(consent("2125550101", kind) for kind in kinds), consent("2125550102"))
    assert end(CONSENTS_GIVEN, "2125550101", kind="inquiry")[0] == 1
    assert end(CONSENTS_GIVEN, "2125550101")[0] == 2
    assert end(CONSENTS_GIVEN, "2125550101")[0] == 0
    with graph.warehouse() as session:
        assert count_entries(session, CONSENTS_GIVEN, datetime.now(UTC)).standing == 1
    assert [row[3:5] for row in evidence(graph, "consent")].count(("revoked", "inquiry")) == 1


def test_many_entries_are_one_chain_of_evidence_and_lots_of_them_are_taken_at_once(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadscrub_pipeline.steps.own_lists.TAKEN_AT_ONCE", 7)
    result = take(COMPANY_LIST_ENTRIES, *(request(f"21255501{number:02}") for number in range(30)), run_id="import")
    assert (result.read, result.added) == (30, 30)
    assert len(evidence(graph, "company")) == 30
    assert_evidence_is_sound()


@pytest.mark.parametrize("thing", range(1, 10))
def test_a_kill_while_entries_are_added_leaves_each_with_its_evidence_or_not_at_all(graph: Graph, thing: int) -> None:
    assert killed(_add, warehouse_at=thing)
    with graph.warehouse() as session:
        stored = [phone for (phone,) in session.rows(f"SELECT phone FROM {INTERNAL_DNC.full_name}")]
    assert sorted(stored) == sorted(row[1] for row in evidence(graph, "company"))
    result = take(COMPANY_LIST_ENTRIES, *KILLED)
    assert result.added + result.there_already == len(KILLED)
    assert result.there_already == len(stored)
    assert_evidence_is_sound()


KILLED = [DncRequest(f"21255501{number:02}", NOW - 300 * DAY, "call") for number in range(10, 14)]


def _add(warehouse: Any, ledger: Ledger, _settings: Settings) -> None:
    take_in(warehouse, ledger, COMPANY_LIST_ENTRIES, [("", KILLED)], run_id="killed")


# --- rules of consents --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "given", "ends", "expires"),
    [
        ("transaction", "2026-01-31", None, "2027-07-31"),
        ("transaction", "2026-08-31", None, "2028-02-29"),
        ("inquiry", "2026-11-30", None, "2027-02-28"),
        ("inquiry", "2026-11-30", "2026-12-24", "2026-12-24"),
        ("inquiry", "2026-11-30", "2030-01-01", "2027-02-28"),
        ("written_consent", "2020-01-01", None, None),
        ("written_consent", "2020-01-01", "2030-01-01", "2030-01-01"),
    ],
)
def test_a_relationship_lasts_18_months_after_a_transaction_and_3_after_an_inquiry(
    kind: str, given: str, ends: str | None, expires: str | None
) -> None:
    def moment(text: str | None) -> datetime | None:
        return None if text is None else datetime.fromisoformat(f"{text}T00:00:00+00:00")

    given_at = moment(given)
    assert given_at is not None
    found = Consent("2125550101", ConsentKind(kind), given_at, "proof", "crm", moment(ends))
    assert found.expires_at == moment(expires)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)), st.integers(0, 60))  # noqa: DTZ001 - any clock
def test_months_later_is_the_same_day_or_the_last_of_that_month(moment: datetime, months: int) -> None:
    later = months_later(moment, months)
    assert (later.year * 12 + later.month) - (moment.year * 12 + moment.month) == months
    assert later.day == moment.day or (later.day < moment.day and (later + DAY).day == 1)


# --- files ------------------------------------------------------------------------------


def test_lines_of_a_file_of_requests_are_entries_or_say_why_not(tmp_path: Path) -> None:
    file = tmp_path / "requests.csv"
    file.write_text(
        "\ufeffPhone,Requested_At,source\n(212) 555-0101,2026-11-01,call\n2125550102,2026-11-01T08:30-05:00,\n\n"
        "555,2026-11-01,call\n2125550103,1 May,call\n2125550104,2026-12-01,call\n2125550105.0,2026-11-01,call\n"
        '"8005550106",2026-11-02,"letter, with comma"\n',
        encoding="utf-8",
    )
    assert list(read_requests(file, now=NOW)) == [
        DncRequest("2125550101", datetime(2026, 11, 1, tzinfo=UTC), "call"),
        DncRequest("2125550102", datetime(2026, 11, 1, 13, 30, tzinfo=UTC), "requests.csv"),
        Rejected(5, "bad_phone"),
        Rejected(6, "bad_date"),
        Rejected(7, "date_in_future"),
        Rejected(8, "bad_phone"),
        DncRequest("8005550106", datetime(2026, 11, 2, tzinfo=UTC), "letter, with comma"),
    ]


def test_lines_of_a_file_of_consents_are_entries_or_say_why_not(tmp_path: Path) -> None:
    file = tmp_path / "consents.csv"
    file.write_text(
        "phone,kind,given_at,proof,expires_at\n2125550101,Transaction,2026-11-01,contract 7,\n"
        "2125550102,oral,2026-11-01,x,\n2125550103,inquiry,2026-11-01,,\n2125550104,inquiry,2026-11-01,x,soon\n"
        "2125550105,inquiry,,x,\n2125550106,written_consent,2026-11-01,form 3,2027-01-01\n12,inquiry,2026-11-01,x\n",
        encoding="utf-8",
    )
    day = datetime(2026, 11, 1, tzinfo=UTC)
    assert list(read_consents(file, now=NOW)) == [
        Consent("2125550101", ConsentKind.TRANSACTION, day, "contract 7", "consents.csv"),
        Rejected(3, "bad_kind"),
        Rejected(4, "no_proof"),
        Rejected(5, "bad_date"),
        Rejected(6, "bad_date"),
        Consent("2125550106", ConsentKind.WRITTEN, day, "form 3", "consents.csv", datetime(2027, 1, 1, tzinfo=UTC)),
        Rejected(8, "bad_phone"),
    ]


@pytest.mark.parametrize(
    "content", [b"phone,when\n2125550101,2026-11-01\n", b"", b"\xff\xfe\x00", b'phone,requested_at\n"2']
)
def test_a_file_that_is_no_such_csv_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "requests.csv"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"requests\.csv"):
        list(read_requests(file, now=NOW))
    with pytest.raises(UnavailableError):
        list(read_requests(tmp_path / "missing.csv", now=NOW))


def test_a_rejected_line_keeps_none_of_the_others_from_being_honoured(graph: Graph) -> None:
    result = take(COMPANY_LIST_ENTRIES, Rejected(2, "bad_phone"), request("2125550101"), Rejected(4, "bad_date"))
    assert (result.read, result.added, result.rejected) == (3, 1, Counter(bad_phone=1, bad_date=1))
    assert [line for _, line, _ in result.lines] == [2, 4]
    with graph.warehouse() as session:
        assert count_entries(session, COMPANY_LIST_ENTRIES, NOW).standing == 1
        assert session.rows(f"SELECT COUNT(*) FROM {CONSENTS.full_name}") == [(0,)]
