"""A trace on the terminal: the same values that ``--json`` gives in full, for somebody who reads.

What is told is decided in steps/tracing.py.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rich.markup import escape

from leadscrub_pipeline.cli.output import out, print_table
from leadscrub_pipeline.steps.tracing import UNSEALED, Trace
from leadscrub_pipeline.warehouse.evidence_reading import SOURCE_NAMES

_FLAG: Final = {True: "TRUE", False: "FALSE", None: "NULL"}


def show(told: Trace) -> None:
    if told["kind"] == "run":
        _show_run(told)
        return
    if told["kind"] == "record":
        count = len(told["phones"])
        _line(f"Record {told['record_id']} holds {count} phone{'' if count == 1 else 's'}.", bold=True)
    for phone in told["phones"]:
        _show_phone(phone)


# --- a number ---------------------------------------------------------------------------


def _show_phone(told: Mapping[str, Any]) -> None:
    callable_ = told["callable"]
    _line("")
    _line(f"{told['phone']}, as of {_time(told['told_at'])} UTC", bold=True)
    if callable_["is_callable"]:
        _line(f"May be called until {_time(callable_['until'])} UTC.")
    else:
        _line("May not be called.")
    for condition in callable_["conditions"]:
        _line(f"  [{'x' if condition['is_met'] else ' '}] {condition['rule']}: {condition['told']}.")
    _table("Verdicts now", [_verdict(verdict) for verdict in told["verdicts"]], "No source was ever asked about it.")
    _table("Published rows that hold it", [_row(row) for row in told["rows"]], "No published row holds it.")
    lookups = [
        {"record": row["record_id"], "what": what, **_lookup(lookup)}
        for row in told["rows"]
        for what, lookup in [("brought it", row["lookup"]), *(("same person", each) for each in row["other_lookups"])]
        if lookup is not None
    ]
    _table("Paid lookups of their people", lookups, "The ledger has no lookup behind it.")
    _table("Checks, the oldest first", [_check(check) for check in told["checks"]], "No evidence of a check.")


def _verdict(verdict: Mapping[str, Any]) -> dict[str, object]:
    return {
        "source": verdict["source"],
        "verdict": "expired" if verdict["is_expired"] and verdict["verdict"] == "clear" else verdict["verdict"],
        "reason": verdict["reason"],
        "list_version": verdict["list_version"],
        "checked_at": _time(verdict["checked_at"]),
        "valid_until": _time(verdict["valid_until"]),
    }


def _row(row: Mapping[str, Any]) -> dict[str, object]:
    marks = [
        *(["dead"] if row["is_dead"] else []),
        *(["disconnected"] if row["is_disconnected"] else []),
        *([f"withdrawn {_time(row['withdrawn_at'])} ({row['withdrawn_by']})"] if row["withdrawn_at"] else []),
    ]
    return {
        "record": row["record_id"],
        "column": row["column"],
        "script": row["script"],
        "run": row["run_id"],
        "processed_at": _time(row["processed_at"]),
        "in_litigator_list": _flag(row, "in_litigator_list"),
        "in_dnc": _flag(row, "in_dnc"),
        "marks": ", ".join(marks) or None,
    }


def _flag(row: Mapping[str, Any], name: str) -> str:
    value = row["flags"][name]
    return _FLAG[value] if value is not None else f"NULL ({row['null_reasons'][name] or 'no reason recorded'})"


def _lookup(lookup: Mapping[str, Any]) -> dict[str, object]:
    return {
        "lookup": lookup["lookup_id"],
        "person_key": lookup["person_key"],
        "state": lookup["state"] if lookup["suspicion"] is None else f"{lookup['state']}, {lookup['suspicion']}",
        "reason": lookup["reason"],
        "sent_at": _time(lookup["sent_at"]),
        "settled_at": _time(lookup["settled_at"]),
        "expires_at": _time(lookup["expires_at"]),
        "cost": lookup["cost"],
        "purpose": f"{lookup['purpose']} (glba {lookup['glba']}, dppa {lookup['dppa']})",
        "script": lookup["script"],
        "run": lookup["run_id"],
    }


def _check(check: Mapping[str, Any]) -> dict[str, object]:
    seal = check["seal"]
    return {
        "checked_at": _time(check["checked_at"]),
        "source": check["source"],
        "answer": check["verdict"] if check["reason"] is None else f"{check['verdict']} ({check['reason']})",
        "list_version": check["list_version"],
        "obtained_at": _time(check["obtained_at"]),
        "run": check["run_id"],
        "script": f"{check['script']}\n{check['script_hash'][:12]}",
        "purpose": check["purpose"],
        "seal": UNSEALED if seal == UNSEALED else f"{seal['entry']}, {_time(seal['sealed_at'])}\n{seal['root'][:12]}",
    }


# --- a run ------------------------------------------------------------------------------


def _show_run(told: Mapping[str, Any]) -> None:
    _line(f"Run {told['run_id']}", bold=True)
    _table(
        "Slices that are still its own", [_timed(each) for each in told["slices"]], "Later runs replaced its slices."
    )
    _table("Lookups", told["lookups"], "It asked idiCORE about nobody.")
    if told["lookups_reused"]:
        _line(f"{told['lookups_reused']:,} leads were served by answers paid for before.")
    checks = [
        {
            "asset": each["asset"],
            "source": SOURCE_NAMES.get(each["source"], each["source"]),
            "answer": each["verdict"] if each["reason"] is None else f"{each['verdict']} ({each['reason']})",
            "checks": each["checks"],
            "list_version": each["list_version"],
            "script": f"{each['script']} {each['script_hash'][:12]}",
            "purpose": each["purpose"],
            "from": _time(each["first_checked_at"]),
            "to": _time(each["last_checked_at"]),
        }
        for each in told["checks"]
    ]
    _table("Checks", checks, "It checked no number; verdicts that still counted were used again.")
    _table("Chains of evidence", [_chain(chain) for chain in told["chains"]], "It began no chain of evidence.")
    _table("Published rows that it wrote last", list(told["published"]), "No published row is as it wrote it.")


def _chain(chain: Mapping[str, Any]) -> dict[str, object]:
    last = chain["seals"][-1] if chain["seals"] else None
    state = "deleted after its time" if chain["pruned_at"] else "open" if chain["is_open"] else "closed"
    return {
        "asset": chain["asset"],
        "script": chain["script"],
        "opened_at": _time(chain["opened_at"]),
        "state": state,
        "rows_sealed": chain["rows_sealed"],
        "seal": None if last is None else last["entry"],
        "sealed_at": None if last is None else _time(last["sealed_at"]),
        "root": None if last is None else last["root"],
    }


# --- pieces -----------------------------------------------------------------------------


def _table(title: str, rows: list[dict[str, object]], otherwise: str) -> None:
    _line("")
    if rows:
        print_table(title, rows)
    else:
        _line(otherwise)


def _timed(values: Mapping[str, Any]) -> dict[str, object]:
    return {name: _time(value) if isinstance(value, datetime) else value for name, value in values.items()}


def _time(value: datetime | None) -> str | None:
    return None if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def _line(text: str, *, bold: bool = False) -> None:
    out.print(escape(text), style="bold" if bold else None, soft_wrap=True)
