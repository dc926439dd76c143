"""The vendor's invoice against the ledger: what fits, what does not, and what the invoice decides."""

# ruff: noqa: F811 - fixtures are imported by name and then asked for by it

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import update

from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.ledger import Settlement, tables
from leadscrub_pipeline.ledger.invoices import Invoice, InvoiceColumns, lookup_id_of, read_amount, read_date
from leadscrub_pipeline.ledger.units import time_to_micros
from leadscrub_pipeline_tests.ledger_support import (  # noqa: F401 - fixtures
    BOTH,
    FAILED,
    HIT,
    MISS,
    NOON,
    TERMS,
    UNKNOWN,
    claim_ids,
    clock,
    keys,
    ledger,
    look_up,
    new_postgres_database,
    open_ledger,
    other_run,
    send,
    settle,
    where_one,
)

DAY_TEXT = "2026-11-21"
DAY = datetime(2026, 11, 21, tzinfo=UTC)
FREE_MISS = Settlement(state="miss", reason="too_many_matches", billed=False)


@pytest.fixture
def bill(tmp_path):
    """Writes an invoice: a charge is an id, or an id with an amount and a date."""

    def write(*charges, header="Reference ID,Date,Amount"):
        lines = [header]
        for charge in charges:
            lookup_id, amount, date = (charge, "0.25", DAY_TEXT) if isinstance(charge, str) else (*charge, DAY_TEXT)[:3]
            lines.append(f"{lookup_id},{date},{amount}")
        path = tmp_path / "invoice.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def compare(ledger, path, **options):
    """Kind and reference of each finding, and the reconciliation's totals."""
    with Invoice(path) as invoice, ledger.desk.reconcile(invoice, provider="idicore", **options) as found:
        return [(finding.kind, finding.reference) for finding in found.findings()], found.totals


def details(ledger, path, **options):
    with Invoice(path) as invoice, ledger.desk.reconcile(invoice, provider="idicore", **options) as found:
        return list(found.findings())


# --- what fits and what does not ---------------------------------------------------------------


@BOTH
def test_an_invoice_that_charges_what_was_asked_has_no_findings_and_equal_sums(ledger, bill):
    hits, misses = look_up(ledger, keys(3), HIT), look_up(ledger, keys(2, start=3), MISS)
    look_up(ledger, keys(1, start=9), FAILED)
    findings, totals = compare(ledger, bill(*hits, *misses))
    assert findings == []
    assert (totals.charges, totals.charged, totals.requests, totals.cost) == (5, Decimal("1.25"), 6, Decimal("1.25"))
    assert (totals.difference, totals.unknown_cost, totals.outside, totals.rejected) == (0, 0, 0, {})
    assert (totals.misses_charged, totals.misses_charged_dollars) == (2, Decimal("0.50"))


def test_a_charge_for_something_never_asked_is_found_with_its_line(ledger, bill):
    (hit,) = look_up(ledger, keys(1), HIT)
    (claimed,) = claim_ids(ledger, keys(1, start=1))
    path = bill(hit, ("Of somebody else", "3.50"), claimed)
    other, never_sent = details(ledger, path)
    assert (other.kind, other.reference, other.line, other.charged) == (
        "charged_not_asked",
        "Of somebody else",
        3,
        Decimal("3.50"),
    )
    assert (other.expected, other.outcome, other.note, other.sent_at) == (0, None, None, None)
    assert (never_sent.kind, never_sent.reference, never_sent.line) == ("charged_not_asked", claimed, 4)
    assert (never_sent.outcome, never_sent.note, never_sent.partition_key) == ("claimed", "never sent", "script_a")


def test_a_request_that_was_paid_and_is_not_on_the_invoice_is_found_with_what_it_cost(ledger, bill):
    listed, missing = look_up(ledger, keys(2), HIT)
    (finding,) = details(ledger, bill(listed))
    assert (finding.kind, finding.reference, finding.line) == ("asked_not_charged", missing, None)
    assert (finding.charged, finding.expected) == (None, Decimal("0.25"))
    assert (finding.partition_key, finding.run_id, finding.outcome, finding.sent_at) == (
        "script_a",
        "run-1",
        "hit",
        NOON,
    )


def test_a_request_that_is_on_the_invoice_at_nothing_was_not_charged(ledger, bill):
    (hit,) = look_up(ledger, keys(1), HIT)
    (finding,) = details(ledger, bill((hit, "0.00")))
    assert (finding.kind, finding.line, finding.charged) == ("asked_not_charged", 2, 0)


def test_a_request_charged_twice_is_found_once_with_both_amounts(ledger, bill):
    once, twice = look_up(ledger, keys(2), HIT)
    (finding,) = details(ledger, bill(twice, once, twice))
    assert (finding.kind, finding.reference, finding.line, finding.note) == ("charged_twice", twice, 2, "2 charges")
    assert (finding.charged, finding.expected) == (Decimal("0.50"), Decimal("0.25"))


def test_a_credit_takes_a_charge_back(ledger, bill):
    twice, once = look_up(ledger, keys(2), HIT)
    findings, totals = compare(ledger, bill(twice, twice, (twice, "-0.25"), once, (once, "(0.25)")))
    assert findings == [("asked_not_charged", once)]
    assert (totals.charges, totals.charged) == (5, Decimal("0.25"))


def test_an_invoice_of_credits_is_a_negative_sum(ledger, bill):
    (hit,) = look_up(ledger, keys(1), HIT)
    _, totals = compare(ledger, bill((hit, "(12.50)"), (hit, "-1.000001")))
    assert (totals.charged, totals.difference) == (Decimal("-13.500001"), Decimal("-13.750001"))


def test_a_charge_for_a_miss_is_shown_and_is_a_finding_only_when_misses_are_free(ledger, bill):
    charged, free = look_up(ledger, keys(2), MISS)
    findings, totals = compare(ledger, bill(charged))
    assert findings == [("asked_not_charged", free)]
    assert (totals.misses_charged, totals.misses_charged_dollars) == (1, Decimal("0.25"))
    findings, totals = compare(ledger, bill(charged), misses_are_free=True)
    assert findings == [("charged_for_a_miss", charged)]
    assert totals.misses_charged == 0


def test_a_miss_that_the_vendor_said_is_free_is_a_finding_when_it_is_charged_and_none_when_it_is_not(ledger, bill):
    charged, _free = look_up(ledger, keys(2), FREE_MISS)
    (finding,) = details(ledger, bill(charged))
    assert (finding.kind, finding.reference, finding.charged, finding.expected) == (
        "charged_for_a_miss",
        charged,
        Decimal("0.25"),
        0,
    )


def test_a_charge_for_a_request_that_failed_is_found(ledger, bill):
    (failed,) = look_up(ledger, keys(1), FAILED)
    (finding,) = details(ledger, bill(failed))
    assert (finding.kind, finding.reference, finding.outcome, finding.expected) == (
        "charged_for_a_failure",
        failed,
        "failed",
        0,
    )


@pytest.mark.parametrize(("amount", "found"), [("0.250000", 0), ("0.250001", 1), ("0.249999", 1), ("25", 1)])
def test_a_charge_at_another_price_is_found_to_the_millionth_of_a_dollar(ledger, bill, amount, found):
    (hit,) = look_up(ledger, keys(1), HIT)
    findings = details(ledger, bill((hit, amount)))
    assert [(f.kind, f.charged, f.expected) for f in findings] == [
        ("charged_at_another_price", Decimal(amount), Decimal("0.25"))
    ] * found


def test_without_a_price_in_the_ledger_no_amount_is_wrong_but_a_hit_must_be_on_the_invoice(ledger, bill):
    listed, missing = look_up(ledger, keys(2), HIT, replace(TERMS, price=Decimal(0)))
    miss, _ = look_up(ledger, keys(2, start=2), MISS, replace(TERMS, price=Decimal(0)))
    findings, totals = compare(ledger, bill((listed, "0.25"), (miss, "0.25")))
    assert findings == [("asked_not_charged", missing)]
    assert totals.misses_charged == 1


def test_requests_of_another_provider_are_not_on_this_invoice(ledger, bill):
    look_up(ledger, keys(1), HIT, other_run(provider="adopted"))
    findings, totals = compare(ledger, bill())
    assert (findings, totals.requests, totals.cost) == ([], 0, 0)


@BOTH
def test_a_person_charged_again_while_the_first_answer_lived_is_found(ledger, bill, clock):
    (first,) = look_up(ledger, keys(1), HIT)
    with ledger._database.writing() as connection:  # as if the answer had been forgotten
        connection.execute(update(tables.lookups).values(person_key="0" * 32, is_current=False))
    clock.turn(days=179)
    (second,) = look_up(ledger, keys(1), HIT)
    with ledger._database.writing() as connection:
        connection.execute(update(tables.lookups).values(person_key="1" * 32))
    charges = (first, "0.25", "2026-11-21"), (second, "0.25", "2027-05-19")
    (finding,) = details(ledger, bill(*charges))
    assert (finding.kind, finding.reference, finding.expected, finding.note) == (
        "person_charged_again",
        second,
        0,
        None,
    )
    # Also when the first one is on an earlier invoice.
    (finding,) = details(ledger, bill(charges[1]))
    assert (finding.kind, finding.reference) == ("person_charged_again", second)
    with ledger._database.writing() as connection:
        connection.execute(update(tables.lookups).where(tables.lookups.c.lookup_id == first).values(expires_at=0))
    assert details(ledger, bill(*charges)) == []


def test_a_person_asked_again_when_the_answer_was_over_is_no_finding(ledger, bill, clock):
    (first,) = look_up(ledger, keys(1), MISS)
    clock.turn(days=30)
    (second,) = look_up(ledger, keys(1), HIT)
    assert details(ledger, bill((first, "0.25", "2026-11-21"), (second, "0.25", "2026-12-21"))) == []


def test_a_repeat_of_an_unknown_that_was_charged_too_says_so(ledger, bill, clock):
    (first,) = look_up(ledger, keys(1), UNKNOWN)
    clock.turn(minutes=1)
    (second,) = look_up(ledger, keys(1), HIT)
    findings = details(ledger, bill(first, second))
    assert [(f.kind, f.reference, f.note) for f in findings] == [
        ("person_charged_again", second, "after an unknown outcome"),
        ("unknown_billed", first, None),
    ]


def test_a_person_asked_again_after_a_discarded_miss_is_no_finding(ledger, bill, clock):
    (miss,) = look_up(ledger, keys(1), MISS)
    ledger.suspect_misses(TERMS)
    ledger.release_suspects(provider="idicore", endpoint=TERMS.endpoint, believe=False)
    clock.turn(minutes=1)
    (hit,) = look_up(ledger, keys(1), HIT)
    assert details(ledger, bill(miss, hit)) == []


# --- the period -------------------------------------------------------------------------------


def test_the_period_is_that_of_the_invoices_days_unless_it_is_given(ledger, bill, clock):
    (before,) = look_up(ledger, keys(1), HIT)
    clock.turn(hours=12)
    (during,) = look_up(ledger, keys(1, start=1), HIT)
    clock.turn(hours=24)
    (after,) = look_up(ledger, keys(1, start=2), HIT)
    path = bill((during, "0.25", "2026-11-22T08:00"))
    with Invoice(path) as invoice, ledger.desk.reconcile(invoice, provider="idicore") as found:
        assert (found.period.since, found.period.until) == (DAY + timedelta(days=1), DAY + timedelta(days=2))
        assert not found.period.is_given
        assert found.counts() == {}
        assert found.totals.requests == 1
    assert compare(ledger, path, since=DAY)[0] == [("asked_not_charged", before)]
    assert compare(ledger, path, until=DAY + timedelta(days=3))[0] == [("asked_not_charged", after)]
    nothing, totals = compare(ledger, path, since=NOON, until=NOON + timedelta(microseconds=1))
    assert nothing == [("asked_not_charged", before)]
    assert (totals.outside, totals.charges, totals.charged, totals.requests) == (1, 0, 0, 1)
    assert compare(ledger, path, since=NOON + timedelta(microseconds=1), until=DAY + timedelta(days=1))[0] == []


def test_a_charge_on_the_first_instant_of_the_period_is_in_it_and_on_its_end_outside(ledger, bill):
    first, last = look_up(ledger, keys(2), HIT)
    path = bill((first, "0.25", "2026-11-21"), (last, "0.25", "2026-11-22"))
    findings, totals = compare(ledger, path, since=DAY, until=DAY + timedelta(days=1))
    assert findings == [("asked_not_charged", last)]
    assert (totals.outside, totals.charges) == (1, 1)


def test_an_invoice_without_dates_is_compared_with_everything(ledger, tmp_path, clock):
    (old,) = look_up(ledger, keys(1), HIT)
    clock.turn(days=300)
    (new,) = look_up(ledger, keys(1, start=1), HIT)
    path = tmp_path / "invoice.csv"
    path.write_text(f"reference_id,price\n{new},0.25\n")
    with Invoice(path) as invoice, ledger.desk.reconcile(invoice, provider="idicore") as found:
        assert (found.period.since, found.period.until, found.period.is_given) == (None, None, False)
        assert [(f.kind, f.reference) for f in found.findings()] == [("asked_not_charged", old)]


# --- unknown outcomes ---------------------------------------------------------------------------


@BOTH
def test_the_invoice_decides_unknown_outcomes(ledger, bill):
    (hit,) = look_up(ledger, keys(1), HIT)
    charged, missing, at_nothing = look_up(ledger, keys(3, start=1), UNKNOWN)
    path = bill(hit, charged, (at_nothing, "0"))
    with Invoice(path) as invoice, ledger.desk.reconcile(invoice, provider="idicore") as found:
        assert found.counts() == {"unknown_billed": 1, "unknown_not_billed": 2}
        assert found.decided(billed=True) == [charged]
        assert found.decided(billed=False) == [at_nothing], "the missing one may be on the next invoice"
        assert {f.reference: f.expected for f in found.findings() if f.kind == "unknown_not_billed"} == {
            missing: 0,
            at_nothing: 0,
        }
        assert found.totals.unknown_cost == Decimal("0.75")
    given = {"since": DAY, "until": DAY + timedelta(days=1)}
    with Invoice(path) as invoice, ledger.desk.reconcile(invoice, provider="idicore", **given) as found:
        assert found.decided(billed=False) == sorted([missing, at_nothing])
    one_end = {"since": DAY}
    with Invoice(path) as invoice, ledger.desk.reconcile(invoice, provider="idicore", **one_end) as found:
        assert found.decided(billed=False) == [at_nothing]


def test_an_unknown_outcome_outside_the_period_is_left_alone(ledger, bill):
    look_up(ledger, keys(1), UNKNOWN)
    given = {"since": DAY + timedelta(days=1), "until": DAY + timedelta(days=2)}
    assert compare(ledger, bill(), **given)[0] == []


def test_what_was_resolved_is_compared_as_it_was_resolved(ledger, bill):
    billed, not_billed = look_up(ledger, keys(2), UNKNOWN)
    ledger.desk.resolve([billed], billed=True)
    ledger.desk.resolve([not_billed], billed=False)
    assert compare(ledger, bill(billed))[0] == []
    assert compare(ledger, bill(not_billed))[0] == [
        ("asked_not_charged", billed),
        ("charged_for_a_failure", not_billed),
    ]


def test_a_request_in_flight_is_undecided_until_its_process_is_dead(ledger, bill, open_ledger):
    (sent,) = claim_ids(ledger, keys(1))
    send(ledger, sent)
    other = open_ledger()
    assert compare(other, bill())[0] == []
    findings, totals = compare(other, bill(sent))
    assert (findings, totals.unknown_cost) == ([], Decimal("0.25"))
    with ledger._database.writing() as connection:
        connection.execute(update(tables.owners).values(lease_until=0))
    assert compare(other, bill(sent))[0] == [("unknown_billed", sent)]


def test_findings_can_be_had_in_part_and_a_large_invoice_is_compared_in_full(ledger, bill):
    ours = look_up(ledger, keys(40), HIT)
    path = bill(*ours, *(f"{number:032x}" for number in range(20_000)))
    with Invoice(path) as invoice, ledger.desk.reconcile(invoice, provider="idicore") as found:
        assert found.counts() == {"charged_not_asked": 20_000}
        assert [finding.line for finding in found.findings(limit=2)] == [42, 43]
        assert sum(1 for _ in found.findings()) == 20_000
        assert found.totals.charged == Decimal("5010.00")


# --- reading an invoice ---------------------------------------------------------------------------


def charges_of(path, columns=None):
    with Invoice(path, columns) as invoice:
        charges = list(invoice.charges())
        return charges, dict(invoice.rejected), invoice.first_rejected


@pytest.mark.parametrize(
    "header",
    [
        "referenceId,amount,date",
        "Reference ID,Amount (USD),Date",
        "reference_id,price,timestamp",
        "REFID,Cost,Search Date",
        '"Your reference","Charge $","Billed at"',
        "lookup-id,total_dollars,created_at",
    ],
)
def test_columns_are_recognised_however_they_are_written(tmp_path, header):
    path = tmp_path / "invoice.csv"
    path.write_text(f"{header}\nabc,0.25,2026-11-21\n")
    ((line, reference, micros, at),), rejected, _ = charges_of(path)
    assert (line, reference, micros, at, rejected) == (2, "abc", 250_000, time_to_micros(DAY), {})


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_other_delimiters_and_encodings_are_read(tmp_path, delimiter, encoding):
    path = tmp_path / "invoice.csv"
    rows = [["Customer", "reference", "amount"], ["Müller", "abc", "0.25"], ["x", "def", "1"]]
    path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode(encoding))
    charges, rejected, _ = charges_of(path)
    assert [(charge.line, charge.reference, charge.micros) for charge in charges] == [
        (2, "abc", 250_000),
        (3, "def", 1_000_000),
    ]
    assert rejected == {}


def test_the_better_name_wins_and_a_name_that_is_given_wins_over_all(tmp_path):
    path = tmp_path / "invoice.csv"
    path.write_text("price,amount,Ref,reference id,Our No,When\n9,0.25,x,abc,def,2026-11-21\n")
    ((_, reference, micros, at),), _, _ = charges_of(path)
    assert (reference, micros, at) == ("abc", 250_000, None)
    ((_, reference, micros, at),), _, _ = charges_of(path, InvoiceColumns("Our No", "price", "when"))
    assert (reference, micros, at) == ("def", 9_000_000, time_to_micros(DAY))


REFERENCES = "reference_id reference ref_id ref lookup_id request_id client_reference_id client_reference"
MORE_REFERENCES = "customer_reference_id customer_reference your_reference"
AMOUNTS = "amount cost charge charged total fee price unit_price"
DATES = "date datetime timestamp time search_date request_date transaction_date charge_date"
MORE_DATES = "charged_at billed_at created_at"


@pytest.mark.parametrize(
    "header",
    [f"{name},amount,date" for name in f"{REFERENCES} {MORE_REFERENCES}".split()]
    + [f"reference,{name},date" for name in AMOUNTS.split()]
    + [f"reference,amount,{name}" for name in f"{DATES} {MORE_DATES}".split()],
)
def test_every_usual_name_of_a_column_is_known(tmp_path, header):
    path = tmp_path / "invoice.csv"
    path.write_text(f"{header}\nabc,0.25,2026-11-21\n")
    charges, rejected, _ = charges_of(path)
    assert [tuple(charge) for charge in charges] == [(2, "abc", 250_000, time_to_micros(DAY))]
    assert rejected == {}


def test_of_two_names_that_differ_in_case_the_one_that_is_given_is_meant(tmp_path):
    path = tmp_path / "invoice.csv"
    path.write_text("No,no,amount\nabc,def,1\n")
    for name, reference in (("No", "abc"), ("no", "def")):
        ((_, found, _, _),), _, _ = charges_of(path, InvoiceColumns(reference=name))
        assert found == reference


def test_a_date_column_can_be_left_aside(tmp_path):
    path = tmp_path / "invoice.csv"
    path.write_text("reference,amount,date\nabc,1,Saturday\n")
    assert charges_of(path) == ([], {"no_date": 1}, {"no_date": 2})
    charges, rejected, _ = charges_of(path, InvoiceColumns(date=""))
    assert (len(charges), rejected) == (1, {})


def test_rows_that_cannot_be_read_are_counted_with_their_first_line_and_the_others_are_read(tmp_path):
    path = tmp_path / "invoice.csv"
    path.write_text(
        "date,reference,amount\n\n2026-11-21,a,1\n2026-11-21,b\n2026-11-21,,1\n2026-11-21,c,free\n2026-11-21,d,\n"
        ",e,1\n , , \n2026-11-21,f,2,further\n2026-11-21,g,x\n"
    )
    charges, rejected, first = charges_of(path)
    assert [(charge.line, charge.reference) for charge in charges] == [(3, "a"), (10, "f")]
    assert rejected == {"too_few_columns": 1, "no_reference": 1, "no_amount": 3, "no_date": 1}
    assert first == {"too_few_columns": 4, "no_reference": 5, "no_amount": 6, "no_date": 8}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"name,phone\nx,y\n", "--column-reference"),
        (b"reference,phone\nx,y\n", "--column-amount"),
        (b"amount,date\n1,2026-11-21\n", "--column-reference"),
        (b"reference,Reference,amount\nx,y,1\n", "2 columns of the same name"),
        (b"PK\x03\x04" + bytes(range(256)) * 50, "--column-reference|cannot be read"),
        (b"x" * 200_000, "--column-reference|cannot be read"),
    ],
)
def test_a_file_that_is_no_invoice_is_a_usage_error_that_says_what_is_missing(tmp_path, content, says):
    path = tmp_path / "invoice.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        charges_of(path)


def test_a_column_that_is_named_and_is_not_there_is_said(tmp_path):
    path = tmp_path / "invoice.csv"
    path.write_text("reference,amount\nx,1\n")
    for columns, option in (
        (InvoiceColumns(reference="Nr"), "--column-reference"),
        (InvoiceColumns(amount="Nr"), "--column-amount"),
        (InvoiceColumns(date="Nr"), "--column-date"),
    ):
        with pytest.raises(UsageError, match=option):
            charges_of(path, columns)


def test_a_missing_file_and_a_folder_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="no file"):
        Invoice(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="folder"):
        Invoice(tmp_path)


@pytest.mark.parametrize("tail", ['a,"1\nb,2\nc,3\n', 'a,1\n"b"x,2\n', 'a,"' + "9" * 200_000 + '"\n'])
def test_a_file_whose_quotation_marks_do_not_fit_ends_by_name_and_swallows_no_rows(tmp_path, tail):
    path = tmp_path / "invoice.csv"
    path.write_text("reference,amount\n" + tail)
    with pytest.raises(UsageError, match="quotation mark"):
        charges_of(path)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0.25", 250_000),
        (" $1,234.50 ", 1_234_500_000),
        ("1,234", 1_234_000_000),
        ("0.25 USD", 250_000),
        ("usd 0.25", 250_000),
        ("-0.25", -250_000),
        ("-$0.25", -250_000),
        ("(0.25)", -250_000),
        ("($0.25)", -250_000),
        (".5", 500_000),
        ("0", 0),
        ("0.000001", 1),
        ("1000000000", 10**15),
        ("1000000000.01", None),
        ("0.0000001", None),
        ("1,23", None),
        ("12,34.5", None),
        ("1e3", None),
        ("NaN", None),
        ("Infinity", None),
        ("(0.25", None),
        ("0.25)", None),
        ("", None),
        (".", None),
        ("-", None),
        ("free", None),
        ("1.2.3", None),
        ("٣", None),
        ("9" * 400, None),
    ],
)
def test_amounts_are_read_as_money_or_not_at_all(text, micros):
    assert read_amount(text, decimal_comma=False) == micros


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0,25", 250_000),
        ("1,234", 1_234_000),
        ("0.25", 250_000),
        ("1,234.50", 1_234_500_000),
        ("1.234,50", None),
        ("1,2,3", None),
    ],
)
def test_in_a_file_parted_by_semicolons_the_comma_is_the_decimal_point(text, micros):
    assert read_amount(text, decimal_comma=True) == micros


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-21", DAY),
        ("2026-11-21T12:00:00Z", NOON),
        ("2026-11-21 07:00:00-05:00", NOON),
        (" 11/21/2026 ", DAY),
        ("11/21/2026 12:00", NOON),
        ("11/21/2026 12:00:00", NOON),
        ("11/21/2026 12:00 PM", NOON),
        ("11/21/2026 12:00:00 PM", NOON),
        ("21/11/2026", None),
        ("yesterday", None),
        ("", None),
        ("2026-02-30", None),
    ],
)
def test_dates_are_iso_or_american_or_not_read_at_all(text, moment):
    assert read_date(text) == (None if moment is None else time_to_micros(moment))


def test_ids_are_recognised_with_dashes_braces_and_capitals():
    for text in (
        "0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0",
        "{0f1e2d3c4b5a69788796a5b4c3d2e1f0}",
        "'0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    ):
        assert lookup_id_of(text) == "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
