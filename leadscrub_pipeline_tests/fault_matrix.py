"""The table of faults: which system, what goes wrong, and what must hold.

How a fault is made stands in ``fault_makers.py``, what an outcome means in
``fault_outcomes.py``; the tests that run the table are in ``test_fault_matrix.py``.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal

from leadscrub_pipeline.simulators.phones import CONTROL_NUMBERS
from leadscrub_pipeline_tests import fault_makers as make
from leadscrub_pipeline_tests import registry_faults as registry
from leadscrub_pipeline_tests import warehouse_faults as warehouse
from leadscrub_pipeline_tests.fault_outcomes import Answered, Fails, Kept, Killed, NoContact, Outcome, Unknown
from leadscrub_pipeline_tests.fault_trial import CONTACTS, FLAGS, LITIGATORS, PUBLISHED, Trial

System = Literal["idicore", "ccc", "registry", "warehouse"]
Make = Callable[[Trial], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Fault:
    """One row: a fault, and what must hold when a whole run meets it."""

    system: System
    name: str
    make: Make
    holds: Outcome
    stage: int = PUBLISHED
    often: bool = False
    """Whether ``make test`` meets it; ``make test-long`` meets them all."""
    fixed: bool = False
    """The fault needs its stage: it comes between two runs."""

    def __str__(self) -> str:
        return f"{self.system}-{self.name}"


LOOKUPS: Final = "enriched_contacts"
HOLD: Final = {"IDICORE_UNKNOWN_POLICY": "hold"}
SHORT: Final = {"IDICORE_TIMEOUT": "0.4"}


def _idicore() -> Iterator[Fault]:
    down = Fails(LOOKUPS, ("idiCORE did not recover", "run again when the vendor is up"))
    held = Kept("held", "unknown_outcome", 3)

    def row(name: str, make_it: Make, holds: Outcome, *, often: bool = False) -> Fault:
        return Fault("idicore", name, make_it, holds, often=often)

    for kind in (
        "timeout_after_billing", "timeout_before_billing", "reset_after_billing", "reset_before_billing",
        "server_error", "html", "not_json", "empty_body", "cut_body", "cut_json", "slow_body", "huge_body",
        "short_answer", "wrong_shape", "redirect",
    ):  # fmt: skip
        settings = HOLD | (SHORT if "timeout" in kind or kind == "slow_body" else {})
        order = {"times": 3, "billed": True if kind == "server_error" else None}
        often = kind in ("timeout_after_billing", "html")
        yield row(f"{kind}_is_held", make.idicore(kind, settings, **order), held, often=often)
    for kind in ("timeout_before_billing", "reset_after_billing", "server_error", "cut_json", "huge_body"):
        yield row(
            f"{kind}_once_is_asked_again", make.idicore(kind, SHORT if "time" in kind else {}, times=2), Answered()
        )
    for status in (500, 502, 503, 504):
        yield row(f"down_with_{status}", make.idicore("server_error", status=status), down, often=status == 503)
    yield row("down_with_resets", make.idicore("reset_after_billing"), down)
    yield row("html_for_ever", make.idicore("html"), down)
    yield row("too_many_requests_twice", make.idicore("too_many_requests", times=2, seconds=0), Answered())
    yield row("too_many_requests_for_ever", make.idicore("too_many_requests", seconds=90),
              Kept("deferred", "rate_limited", 12))  # fmt: skip
    yield row("bad_request_three_times", make.idicore("bad_request", times=3), Kept("deferred", "bad_request", 3))
    yield row("unauthorized_once", make.idicore("unauthorized", times=1), Answered())
    yield row("unauthorized_for_ever", make.idicore("unauthorized"), Fails(LOOKUPS, ("401 twice", "IDICORE_CLIENT_ID")))
    yield row("token_that_is_dead_at_once", make.dead_tokens, Fails(LOOKUPS, ("401 twice",)))
    yield row("forbidden", make.idicore("forbidden"), Fails(LOOKUPS, ("(403)", "No further search")), often=True)
    yield row("somebody_elses_answer", make.idicore("other_person"), NoContact(), often=True)
    yield row("relatives_phones_only", make.idicore("relatives"), NoContact())
    yield row("too_many_matches", make.idicore("too_many_matches"), NoContact())
    yield row("nobody_found", make.idicore("no_match"), NoContact())
    yield row("wrong_types", make.idicore("wrong_type", HOLD), Kept("held", "unknown_outcome", None))
    yield row("thousand_phones_and_other_peoples", make.thousand_phones, Answered())
    yield row("suspended_account", make.suspended, Fails(LOOKUPS, ("suspended", "release-suspects")), often=True)
    for kind, code in (("redirect", "status_302"), ("too_many_requests", "status_429")):
        yield row(f"sign_in_{kind}", make.idicore(kind, operation="sign_in", seconds=90),
                  Kept("deferred", f"sign_in_{code}", 12))  # fmt: skip
    for kind in ("server_error", "timeout_before_billing", "reset_before_billing", "html", "empty_body", "not_json"):
        yield row(f"sign_in_{kind}", make.idicore(kind, SHORT, operation="sign_in"), down)
    for kind in ("unauthorized", "forbidden", "bad_request"):
        yield row(f"sign_in_{kind}", make.idicore(kind, operation="sign_in"), Fails(LOOKUPS, ("refuses the sign-in",)))


def _ccc() -> Iterator[Fault]:
    def row(name: str, fault: Make, *reasons: str, often: bool = False, holds: Outcome | None = None) -> Fault:
        outcome = holds or (Unknown("ccc", frozenset(reasons)) if reasons else Answered())
        return Fault("ccc", name, fault, outcome, stage=CONTACTS, often=often)

    for kind, reasons in {
        "all_false": ("control_failed",),
        "clear_control": ("control_failed",),
        "missing_control": ("control_failed",),
        "some_controls_clear": (),
        "short_answer": ("missing_from_answer", "control_failed"),
        "missing_phones": ("missing_from_answer",),
        "other_phone": ("missing_from_answer",),
        "other_phones": ("missing_from_answer",),
        "long_answer": (),
        "empty_list": ("missing_from_answer",),
        "text_boolean": ("wrong_type", "control_failed"),
        "null_boolean": ("wrong_type", "control_failed"),
        "no_boolean": ("wrong_type", "control_failed"),
        "wrong_type": ("wrong_type", "control_failed"),
        "text_phone": (),
        "float_phone": ("missing_from_answer",),
        "spelt_phone": ("missing_from_answer",),
        "duplicate": (),
        "contradiction": ("contradictory_answer", "control_failed"),
        "wrong_shape": ("wrong_shape",),
        "html": ("not_json",),
        "not_json": ("not_json",),
        "cut_json": ("not_json",),
        "empty_body": ("not_json",),
        "cut_body": ("vendor_error",),
        "huge_body": ("vendor_error",),
        "redirect": ("vendor_error",),
        "bad_request": ("vendor_error",),
        "reset_before_billing": ("vendor_error",),
        "reset_after_billing": ("vendor_error",),
    }.items():
        yield row(
            kind, make.ccc(kind), *reasons, often=kind in ("all_false", "html", "missing_phones", "contradiction")
        )
    for kind in ("timeout_after_billing", "slow_body"):
        yield row(kind, make.ccc(kind, {"CCC_TIMEOUT": "0.3"}), "timeout")
    for status in (500, 502, 503, 504):
        yield row(f"down_with_{status}", make.ccc("server_error", status=status), "vendor_error")
    yield row("too_many_requests_once", make.ccc("too_many_requests", times=1, seconds=0))
    yield row("too_many_requests_for_ever", make.ccc("too_many_requests", seconds=90), "vendor_error")
    yield row("html_once_in_many_batches", make.ccc("html", {"CCC_BATCH_SIZE": "6", "CCC_MAX_RETRIES": "0"}, times=2),
              "not_json")  # fmt: skip
    yield row("down_after_two_batches", make.ccc_down_after(2),
              holds=Fails("litigator_flags", ("CCC did not recover",)), often=True)  # fmt: skip
    yield row("number_called_malformed", make.malformed_phone, "malformed_by_vendor")
    yield row("controls_called_malformed", make.ccc("malformed", phones=frozenset(CONTROL_NUMBERS)), "control_failed")
    for kind in ("unauthorized", "forbidden"):
        yield row(kind, make.ccc(kind), holds=Fails("litigator_flags", ("CCC_API_KEY",)))


def _registry() -> Iterator[Fault]:
    def row(name: str, fault: Make, holds: Outcome, *, often: bool = False) -> Fault:
        return Fault("registry", name, fault, holds, stage=LITIGATORS, often=often)

    def fails(*words: str) -> Fails:
        return Fails("dnc_flags", words)

    file = "dnc.sqlite"
    for name, change, words in (
        ("missing", registry.missing, (file, "does not exist")),
        ("without_bytes", registry.content_of(lambda _: b""), (file, "is empty")),
        ("cut_in_half", registry.content_of(lambda content: content[: len(content) // 2]), (file, "truncated")),
        ("cut_in_its_header", registry.content_of(lambda content: content[:60]), (file, "truncated")),
        ("text_file", registry.content_of(lambda _: b"area_code,phone_number\n" * 9), (file, "no SQLite file")),
        ("pages_overwritten", registry.content_of(registry.with_noise), (file,)),
        ("without_rows", registry.sql("DELETE FROM dnc_list"), ("holds no numbers", "Load the list again")),
        ("table_renamed", registry.sql("ALTER TABLE dnc_list RENAME TO numbers"), ("another schema", "dnc_list")),
        ("column_missing", registry.sql("DROP INDEX full_phone", "ALTER TABLE dnc_list DROP COLUMN full_phone"),
         ("another schema",)),
        ("without_index", registry.sql("DROP INDEX full_phone"), ("lacks an index", "full_phone")),
        ("rows_without_full_phone", registry.sql("UPDATE dnc_list SET full_phone = NULL WHERE area_code = '212'"),
         ("Load it again",)),
        ("seven_digits", registry.sql("UPDATE dnc_list SET full_phone = phone_number"), ("not ten digits",)),
        ("area_codes_mixed_up", registry.sql("UPDATE dnc_list SET area_code = 'x' || area_code"),
         ("Load it again",)),
        ("folder", registry.folder, (file,)),
        ("not_configured", make.settings(DNC_DATABASE_PATH=""), ("Set DNC_DATABASE_PATH",)),
        ("rights_taken_away", registry.unreadable, (file, "cannot be read")),
        ("deleted_during_the_lookup", registry.deleted_during_lookup, (file,)),
        ("missing_though_null_is_allowed", make.also(registry.missing, DNC_ON_STALE_LIST="null"), (file,)),
        ("stale", registry.aged(32), ("32 days old", "the limit is 31")),
        ("undated", registry.aged(None), ("does not say when", "Set DNC_LIST_DATE")),
        ("dated_in_the_future", registry.aged(-2), ("DNC_LIST_DATE", "in the future")),
        ("compact_and_stale", registry.compact(days=32), ("32 days old",)),
        ("compact_and_from_the_future", registry.compact(days=-2), ("in the future",)),
        ("compact_without_its_version", registry.compact("DELETE FROM dnc_version"),
         ("does not say its version",)),
        ("compact_without_its_area_codes", registry.compact("DROP TABLE dnc_area_codes"), ("another schema",)),
        ("compact_with_a_date_in_words", registry.compact("UPDATE dnc_version SET obtained_at = 'last week'"),
         ("says its date",)),
    ):  # fmt: skip
        yield row(name, change, fails(*words), often=name in ("missing", "cut_in_half", "stale"))
    null = {"DNC_ON_STALE_LIST": "null"}
    for name, aged, reason in (
        ("stale", registry.aged(40), "stale_list"),
        ("undated", registry.aged(None), "list_of_unknown_age"),
        ("compact_and_stale", registry.compact(days=32), "stale_list"),
    ):
        yield row(f"{name}_where_null_is_allowed", make.also(aged, **null), Unknown("dnc", frozenset({reason})),
                  often=name == "stale")  # fmt: skip
    for switch in ("true", "false"):
        yield row(f"half_the_area_codes_batched_{switch}",
                  make.also(registry.of(range(200, 600)), DNC_USE_BATCHED_QUERY=switch),
                  Unknown("dnc", frozenset({"area_code_not_covered"})))  # fmt: skip
    yield row("compact_for_no_area_code", registry.compact("DELETE FROM dnc_area_codes"),
              Unknown("dnc", frozenset({"area_code_not_covered"})))  # fmt: skip
    for name, replaced in (
        ("replaced_while_it_is_opened", registry.replaced_while_opening),
        ("replaced_during_the_lookup", registry.replaced_during_lookup),
        ("written_to_during_the_lookup", registry.written_during_lookup),
    ):
        yield row(name, replaced, Answered())
    yield row("locked_for_a_moment", registry.locked(0.3), Answered())
    yield row("locked_for_ever", registry.locked(600), fails(file, "SQLITE_BUSY"))


def _warehouse() -> Iterator[Fault]:
    def row(name: str, fault: Make, holds: Outcome, stage: int, *, often: bool = False, fixed: bool = True) -> Fault:
        return Fault("warehouse", name, fault, holds, stage=stage, often=often, fixed=fixed)

    first, last = "raw_leads", "master_processed_db"
    yield row("held_by_another_process", warehouse.held(None), Fails(first, ("held by another process",)),
              PUBLISHED, often=True)  # fmt: skip
    yield row("held_for_a_moment", warehouse.held(0.4), Answered(), LITIGATORS)
    yield row("held_before_publishing", warehouse.held(None), Fails(last, ("held by another process",)), FLAGS)
    yield row("disk_almost_full", warehouse.disk_full(40 * 1024), Fails(LOOKUPS, ("disk",)), PUBLISHED)
    for point, step, stage in (
        ("leads.before_commit", first, PUBLISHED), ("contacts.before_commit", LOOKUPS, PUBLISHED),
        ("flags.before_commit", "dnc_flags", LITIGATORS), ("master.before_commit", last, FLAGS),
    ):  # fmt: skip
        name = f"disk_full_at_{point.replace('.', '_')}"
        full = warehouse.disk_full(1024, point=point)
        yield row(name, full, Fails(step, ("disk",)), stage, often=step == first)
    yield row("rights_to_write_taken_away", warehouse.read_only, Fails(first, ("rights",)), PUBLISHED)
    yield row("no_database_file", warehouse.content_of(lambda content: b"x" * len(content)),
              Fails(first, ("cannot be opened", "DuckDB file")), PUBLISHED)  # fmt: skip
    yield row("cut_in_half", warehouse.content_of(lambda content: content[: len(content) // 2]),
              Fails(first, ("warehouse",)), PUBLISHED)  # fmt: skip
    yield row("folder", warehouse.folder, Fails(first, ("cannot be opened",)), PUBLISHED)
    yield row("memory_limit", make.settings(LEADSCRUB_DUCKDB_MEMORY="1MB"), Fails(first, ("memory",)), PUBLISHED)
    yield row("stamped_live", warehouse.sql("UPDATE PROCESSED_DATA_DB.LEADSCRUB.STAMP SET value = 'live' "
              "WHERE name = 'kind'", "UPDATE PROCESSED_DATA_DB.LEADSCRUB.STAMP SET value = 'demo' WHERE name = 'kind'"),
              Fails(first, ("stamped live",)), PUBLISHED)  # fmt: skip
    for table, column, stage, step in (
        ("PUBLIC.MASTER_PROCESSED_DB", "in_litigator_list", PUBLISHED, first),
        ("LEADSCRUB.SCRUB_EVIDENCE", "verdict", LITIGATORS, "dnc_flags"),
        ("LEADSCRUB.PHONE_VERDICTS", "valid_until", FLAGS, last),
    ):
        name = f"{table.split('.')[1].lower()}_column_renamed"
        yield row(name, warehouse.sql(
            f"ALTER TABLE PROCESSED_DATA_DB.{table} RENAME COLUMN {column} TO renamed",
            f"ALTER TABLE PROCESSED_DATA_DB.{table} RENAME COLUMN renamed TO {column}",
        ), Fails(step, ("was changed", column)), stage)  # fmt: skip
    yield row("slice_replaced_while_ccc_answers", warehouse.slice_replaced_meanwhile,
              Fails("litigator_flags", ("replaced by another run",)), CONTACTS)  # fmt: skip
    yield row(
        "leads_replaced_before_publishing", warehouse.leads_replaced, Fails(last, ("replaced by another run",)), FLAGS
    )
    for source in ("ccc", "dnc"):
        yield row(f"verdicts_of_{source}_edited_away", warehouse.verdicts_gone(source),
                  Unknown(source, frozenset({"no_verdict"})), FLAGS)  # fmt: skip
        yield row(f"verdicts_of_{source}_run_out", warehouse.verdicts_run_out(source),
                  Unknown(source, frozenset({"expired"})), FLAGS)  # fmt: skip
    yield row("view_dropped", warehouse.sql("DROP VIEW PROCESSED_DATA_DB.PUBLIC.CALLABLE_PHONES"), Answered(), FLAGS)
    yield row("view_loosened", warehouse.view_loosened, Answered(), FLAGS)
    for point, stage in (
        ("answers.before_commit", LITIGATORS), ("flags.before_commit", LITIGATORS), ("master.gathered", FLAGS),
        ("master.before_commit", FLAGS), ("leads.before_commit", PUBLISHED), ("contacts.before_commit", PUBLISHED),
    ):  # fmt: skip
        yield row(f"killed_at_{point.replace('.', '_')}", make.nothing, Killed(point), stage,
                  often=point == "master.before_commit")  # fmt: skip


FAULTS: Final = (*_idicore(), *_ccc(), *_registry(), *_warehouse())
