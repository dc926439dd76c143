"""What alerts say, which are the same, and that none is lost: the pure part, without Dagster and without a server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.domain.alert_memory import ENTRIES, UNSENT, Memory, from_value, to_value
from leadscrub_pipeline.domain.alerts import (
    CHECK_STOPPED,
    Alert,
    BackfillFacts,
    FailedCheck,
    RunFacts,
    Spending,
    StepFailure,
    backfill_finished,
    breaker_opened,
    checks_failed,
    daily_budget_reached,
    list_expires,
    run_cap_reached,
    run_failed,
)
from leadscrub_pipeline.domain.heartbeat import Heartbeat, ListFacts, SpendingFacts, day_of, heartbeat_alert

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
RUN = RunFacts("3a4e6e0e-58cf-4cbb-9c5c-0d4b8c2f6a11", "scrub_job", "spring_leads", "https://scrub.example.com/")
DOWN = StepFailure("enriched_contacts", "idiCORE did not recover: 3 probes failed.\nMore.", "Failure")

EMOJI_NAMES = {"warning", "heartbeat", "rotating_light", "tada", "skull", "no_entry", "bell", "moneybag", "calendar"}
"""Some of the words that ntfy turns into pictures."""


def failed(run: RunFacts = RUN, failure: StepFailure | None = DOWN, reason: str | None = None) -> Alert:
    return run_failed(run, failure, reason=reason, will_retry=False)


def every_alert() -> list[Alert]:
    facts = BackfillFacts("abcdefgh", None, "COMPLETED_FAILED", 1, ("b",), 0, 0, 5, None, RUN.ui_url)
    return [
        failed(),
        checks_failed(RUN, [FailedCheck("spend_is_within_budget", "enriched_contacts", is_error=False)], stopped=False),
        breaker_opened(RUN, "CCC", 1),
        run_cap_reached(RUN, 3),
        daily_budget_reached(RUN, 3, now=NOON),
        list_expires(24, 31, day="2026-11-18", ui_url=RUN.ui_url),
        backfill_finished(facts),
        heartbeat_alert(WELL, day="2026-11-18", untold=0),
    ]


WELL = Heartbeat(
    runs={"success": 4, "failure": 0, "canceled": 1, "started": 0},
    still_failed=(),
    unreadable=(),
    dnc_list=ListFacts(age_days=3),
    warn_age_days=24,
    spending=SpendingFacts(
        Spending(1200, Decimal("600.00")), Spending(800, Decimal("400.00")), daily_budget=Decimal(1000)
    ),
    silent_daemons=(),
    ui_url="https://scrub.example.com",
)


# --- what they say -------------------------------------------------------------------------------


def test_a_failed_run_names_script_step_first_line_and_whether_it_is_run_again() -> None:
    alert = run_failed(RUN, DOWN, reason=None, will_retry=True)
    assert alert.title == "spring_leads failed at enriched_contacts"
    assert alert.message == (
        "idiCORE did not recover: 3 probes failed.\nIt is being run again by itself.\n"
        "Job scrub_job, run 3a4e6e0e-58cf-4cbb-9c5c-0d4b8c2f6a11."
    )
    assert (alert.topic, alert.priority) == ("errors", 4)
    assert alert.click == "https://scrub.example.com/runs/3a4e6e0e-58cf-4cbb-9c5c-0d4b8c2f6a11"
    assert "not run again" in failed().message


def test_of_a_foreign_error_only_the_step_and_the_class_are_told() -> None:
    alert = failed(failure=StepFailure("raw_leads", None, "OperationalError"))
    assert alert.message.startswith("It ended on a defect of the program (OperationalError).")


@pytest.mark.parametrize(
    ("reason", "words"),
    [("UNEXPECTED_TERMINATION", "killed"), ("START_TIMEOUT", "did not start in time"), (None, "outside its steps")],
)
def test_a_run_that_failed_outside_its_steps_says_how(reason: str | None, words: str) -> None:
    alert = failed(failure=None, reason=reason)
    assert alert.title == "spring_leads failed"
    assert words in alert.message


def test_a_run_that_was_started_from_assets_in_the_ui_has_no_cryptic_job_name() -> None:
    run = RunFacts("r", "__ASSET_JOB", None)
    assert failed(run).title == "materialize failed at enriched_contacts"
    assert failed(run).click is None


def test_failed_checks_of_a_run_are_one_alert_with_errors_first_and_a_link_to_them() -> None:
    checks = [
        FailedCheck("hit_rate_is_usual", "enriched_contacts", is_error=False, description="0.1, usual are 0.4 to 0.8."),
        FailedCheck("every_flag_has_evidence", "master_processed_db", is_error=True, description="3 flags.\nMore."),
    ]
    alert = checks_failed(RUN, checks, stopped=True)
    assert alert.title == "spring_leads: 2 checks failed"
    assert alert.message.splitlines()[:3] == [
        "every_flag_has_evidence of master_processed_db (error): 3 flags.",
        "hit_rate_is_usual of enriched_contacts (warning): 0.1, usual are 0.4 to 0.8.",
        "The run stopped there: nothing after it was done.",
    ]
    assert alert.click == "https://scrub.example.com/assets/master_processed_db?view=checks"
    assert checks_failed(RUN, checks[:1], stopped=False).title == "spring_leads: check hit_rate_is_usual failed"
    assert [checks_failed(RUN, checks[start:], stopped=False).priority for start in (0, 1)] == [4, 4]
    assert checks_failed(RUN, checks[:1], stopped=False).priority == 3


def test_a_step_that_a_check_stopped_is_no_defect_of_the_program() -> None:
    assert "defect" not in failed(failure=StepFailure("raw_leads", None, CHECK_STOPPED)).message


def test_the_list_is_warned_of_and_its_end_is_more_urgent_and_another_alert() -> None:
    soon = list_expires(30, 31, day="2026-11-18", ui_url=None)
    over = list_expires(31, 31, day="2026-11-18", ui_url=None)
    assert soon.title == "The Do-Not-Call list expires in 1 day"
    assert over.title == "The Do-Not-Call list has expired"
    assert soon.priority < over.priority == 5
    assert soon.key != over.key


def test_a_digest_adds_up_and_says_what_was_paid() -> None:
    spending = Spending(1200, Decimal("1600.50"), Decimal("2.00"))
    facts = BackfillFacts(
        "abcdefgh", "spring", "CANCELED", 27, ("b", "a"), 1, 10, 5400, spending, "https://scrub.example.com"
    )
    alert = backfill_finished(facts)
    assert alert.title == "Backfill was canceled: 27 of 40 scripts succeeded"
    assert alert.message.splitlines() == [
        "27 succeeded, 2 failed, 1 canceled, 10 never started.",
        "Failed: a, b.",
        "5,400 leads published.",
        "1,200 lookups paid for, 1,600.50 dollars, and at most 2.00 more of unknown outcome.",
        "Backfill spring.",
    ]
    assert (alert.topic, alert.priority) == ("jobs", 4)
    assert alert.click == "https://scrub.example.com/runs/b/abcdefgh"
    assert "ledger cannot be read" in backfill_finished(replace(facts, spending=None)).message


def test_all_is_well_is_said_quietly() -> None:
    alert = heartbeat_alert(WELL, day="2026-11-18", untold=0)
    assert alert.title == "leadscrub: all is well"
    assert alert.message.splitlines() == [
        "Runs in the last 24 hours: 4 succeeded, 0 failed, 1 canceled; 0 under way now.",
        "Last 24 hours: 1,200 lookups paid for, 600.00 dollars.",
        "Today (UTC): 400.00 of 1,000 dollars.",
        "The Do-Not-Call list is 3 days old, 28 days left.",
    ]
    assert (alert.topic, alert.priority) == ("system", 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"runs": {"failure": 1}}, "1 run failed in the last 24 hours."),
        ({"unreadable": ("a (copy).sql: no name.",)}, "1 script cannot be run. a (copy).sql: no name."),
        ({"still_failed": tuple("abcdefg")}, "Still failed, their latest run: a, b, c, d, e and 2 more."),
        ({"dnc_list": ListFacts(trouble="There is no list.")}, "There is no list."),
        ({"dnc_list": ListFacts()}, "does not say when it was obtained"),
        ({"dnc_list": ListFacts(age_days=24)}, "about to expire"),
        ({"dnc_list": ListFacts(age_days=31, is_stale=True)}, "has expired"),
        ({"spending": SpendingFacts(trouble="No ledger.")}, "No ledger."),
        ({"spending": SpendingFacts(paused=True)}, "paused"),
        ({"silent_daemons": ("SCHEDULER",)}, "SCHEDULER"),
    ],
)
def test_all_is_well_is_not_said_when_anything_is_not(change: dict[str, object], words: str) -> None:
    alert = heartbeat_alert(replace(WELL, **change), day="2026-11-18", untold=0)  # type: ignore[arg-type]
    assert alert.title == "leadscrub needs a look: 1 thing"
    assert words in alert.message
    assert alert.priority == 4


def test_the_daily_message_tells_what_was_held_back() -> None:
    assert "29 alerts held back or not sent since" in heartbeat_alert(WELL, day="2026-11-18", untold=29).message


def test_no_alert_shouts_or_shows_a_picture_and_each_has_one_line_of_title() -> None:
    for alert in every_alert():
        assert not EMOJI_NAMES.intersection(alert.tags)
        assert "!" not in alert.title + alert.message
        assert "\n" not in alert.title
        assert (alert.title + alert.message).isascii()


def test_alerts_of_one_cause_are_alike_whatever_script_run_and_numbers_they_name() -> None:
    def of(script: str, text: str, step: str = "enriched_contacts") -> str:
        return failed(replace(RUN, script=script), StepFailure(step, text, "Failure")).key

    one = of("a", "Script a: idiCORE did not answer 12 of 1,200 requests in 30.5 s.")
    assert one == of("b_2", "Script b_2: idiCORE did not answer 7 of 900 requests in 31 s.")
    assert one != of("a", "Script a: CCC did not answer 12 of 1,200 requests in 30.5 s.")
    assert one != of("a", "Script a: idiCORE did not answer 12 of 1,200 requests in 30.5 s.", step="dnc_flags")
    assert of("a", "/leads/a.sql: 3 probes in a row failed.") == of("row", "/leads/row.sql: 3 probes in a row failed.")
    assert of("a", "raw_leads has no rows for partition a.") == of("b-1", "raw_leads has no rows for partition b-1.")


# --- the day of the daily message ----------------------------------------------------------------

CHICAGO = ZoneInfo("America/Chicago")


@pytest.mark.parametrize(
    ("moment", "hour", "day"),
    [
        # The clocks went forward at 02:00 on 8 March 2026, so that 02:00 to 03:00 was left out.
        ("2026-03-08T07:59:00+00:00", 2, "2026-03-07"),
        ("2026-03-08T08:00:00+00:00", 2, "2026-03-08"),
        ("2026-03-08T12:59:00+00:00", 8, "2026-03-07"),
        ("2026-03-08T13:00:00+00:00", 8, "2026-03-08"),
        # They went back at 02:00 on 1 November 2026, so that 01:00 to 02:00 came twice.
        ("2026-11-01T05:59:00+00:00", 1, "2026-10-31"),
        ("2026-11-01T06:00:00+00:00", 1, "2026-11-01"),
        ("2026-11-01T07:30:00+00:00", 1, "2026-11-01"),
        ("2026-11-01T14:00:00+00:00", 8, "2026-11-01"),
    ],
)
def test_the_day_begins_at_the_hour_also_when_the_clocks_change(moment: str, hour: int, day: str) -> None:
    assert day_of(datetime.fromisoformat(moment), zone=CHICAGO, hour=hour) == day


@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("first", [datetime(2026, 3, 6, tzinfo=UTC), datetime(2026, 10, 30, tzinfo=UTC)])
def test_each_day_has_one_beginning_and_none_is_left_out(first: datetime, hour: int) -> None:
    days = [day_of(first + timedelta(minutes=5 * tick), zone=CHICAGO, hour=hour) for tick in range(5 * 24 * 12)]
    assert days == sorted(days), "a day that is over does not come again"
    begun = [datetime.fromisoformat(day) for day in dict.fromkeys(days)]
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(begun))
    assert len(begun) >= 5


# --- the memory ----------------------------------------------------------------------------------


class Wire:
    """What a courier does with its memory, without Dagster; counts where each alert went."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.sent: list[tuple[str, datetime]] = []
        self.told = 0

    def deliver(self, alert: Alert, now: datetime, *, up: bool) -> None:
        if self.memory.is_held_back(alert, now):
            self.memory = self.memory.after_held_back(alert, now)
        elif up:
            self._went(alert, now, again=False)
        else:
            self.memory = self.memory.after_unsent(alert, now)
        self.memory = from_value(to_value(self.memory))

    def resend(self, now: datetime) -> None:
        for alert in self.memory.unsent():
            self._went(alert, now, again=True)

    def tell(self) -> None:
        self.told += self.memory.all_untold()
        self.memory = self.memory.after_telling()

    def _went(self, alert: Alert, now: datetime, *, again: bool) -> None:
        worded = self.memory.worded(alert, again=again)
        extra = worded.message.removeprefix(alert.message).split()
        self.told += int(extra[0].replace(",", "")) if extra else 0
        self.sent.append((alert.key, now))
        self.memory = self.memory.after_sent(alert, now)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fail a", "fail b", "fail c", "down a", "down b", "resend", "tell"]),
        st.integers(min_value=0, max_value=5000),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=80, deadline=None)
def test_never_more_than_one_in_a_window_and_none_is_lost(steps: list[tuple[str, int]]) -> None:
    wire, now, made = Wire(), NOON, 0
    for what, seconds in steps:
        now += timedelta(seconds=seconds)
        kind, _, key = what.partition(" ")
        if kind == "resend":
            wire.resend(now)
        elif kind == "tell":
            wire.tell()
        else:
            made += 1
            wire.deliver(Alert("errors", "t", "m", key, ()), now, up=kind == "fail")
        waiting = len(wire.memory.unsent())
        assert made == len(wire.sent) + wire.told + wire.memory.all_untold() + waiting
    for key in "abc":
        times = [moment for sent, moment in wire.sent if sent == key]
        assert all(later - earlier >= timedelta(hours=1) for earlier, later in pairwise(times))


def test_thirty_alike_give_one_and_the_next_one_says_how_many_were_held_back() -> None:
    wire = Wire()
    for second in range(30):
        wire.deliver(failed(), NOON + timedelta(seconds=second), up=True)
    assert len(wire.sent) == 1
    worded = wire.memory.worded(failed())
    assert worded.message.endswith("\n29 more alerts like it before, held back or not sent.")
    wire.deliver(failed(), NOON + timedelta(hours=1), up=True)
    assert (len(wire.sent), wire.told) == (2, 29)


def test_the_memory_stays_small_and_counts_what_it_drops() -> None:
    memory = Memory()
    for number in range(ENTRIES + 50):
        memory = memory.after_unsent(Alert("errors", "t", "m", str(number), ()), NOON + timedelta(seconds=number))
    assert len(memory.unsent()) == UNSENT
    assert len(memory.unsent()) + memory.all_untold() == ENTRIES + 50
    much_later = memory.after_sent(Alert("errors", "t", "m", "new", ()), NOON + timedelta(days=30))
    assert list(much_later.entries) == ["new"]
    assert much_later.all_untold() == ENTRIES + 50


def test_what_waits_keeps_all_it_carries() -> None:
    for alert in every_alert():
        [kept] = from_value(to_value(Memory().after_unsent(alert, NOON))).unsent()
        assert kept == alert


@pytest.mark.parametrize("value", [None, "", "[]", "no json", '{"version": 2}', '{"version": 1, "entries": {"a": 1}}'])
def test_a_memory_that_cannot_be_read_holds_nothing_back(value: str | None) -> None:
    assert from_value(value) == Memory()


def test_a_clock_that_was_put_back_by_days_holds_nothing_back() -> None:
    memory = Memory().after_sent(failed(), NOON).after_trouble(NOON)
    before = NOON - timedelta(days=2)
    assert not memory.is_held_back(failed(), before)
    assert not memory.is_paused(before)
    assert memory.is_paused(NOON)
