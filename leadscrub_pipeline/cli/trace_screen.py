"""A trace on the terminal: the same values that ``--json`` gives in full, for somebody who reads.

A few lines for each thing: hashes and ids are too wide for the columns of a table. What is
told is decided in steps/tracing.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.markup import escape

from leadscrub_pipeline.cli.output import out
from leadscrub_pipeline.steps.tracing import UNSEALED, Trace
from leadscrub_pipeline.warehouse.evidence_reading import SOURCE_NAMES

_FLAG: Final = {True: "TRUE", False: "FALSE", None: "NULL"}


def show(told: Trace) -> None:
    if told["kind"] == "run":
        _show_run(told)
        return
    if told["kind"] == "record":
        count = len(told["phones"])
        _line(f"Record {told['record_id']} holds {count} phone{'' if count == 1 else 's'}.", style="bold")
    for phone in told["phones"]:
        _show_phone(phone)


# --- a number ---------------------------------------------------------------------------


def _show_phone(told: Mapping[str, Any]) -> None:
    may_be = told["callable"]
    result = f"may be called until {_time(may_be['until'])}" if may_be["is_callable"] else "may not be called"
    _line("")
    _line(f"{told['phone']} {result} (as of {_time(told['told_at'])}; all times are UTC)", style="bold")
    for condition in may_be["conditions"]:
        _line(f"  {'yes' if condition['is_met'] else 'NO ':3}  {condition['rule']}: {condition['told']}.")
    _section("Verdicts now", map(_verdict, told["verdicts"]), "No source was ever asked about it.")
    if told["own_entries"]:
        _section("What was asked of us about it", map(_own_entry, told["own_entries"]), "")
    _section("Published rows that hold it", map(_row, told["rows"]), "No published row holds it.")
    _section("Checks, the oldest first", map(_check, told["checks"]), "There is no evidence of a check.")


def _verdict(verdict: Mapping[str, Any]) -> list[str]:
    expired = verdict["is_expired"] and verdict["verdict"] == "clear"
    return [
        f"{verdict['source']}: {_answer(verdict)}{', expired' if expired else ''}",
        f"checked {_time(verdict['checked_at'])}, counts until {_time(verdict['valid_until'])}",
        _list(verdict),
    ]


def _own_entry(entry: Mapping[str, Any]) -> list[str]:
    until = f", until {_time(entry['until'])}" if entry["until"] else ""
    return [
        f"{entry['kind']} of {_time(entry['since'])}{until}{'' if entry['stands'] else ', counts no more'}",
        f"{entry['told_by']}; added {_time(entry['added_at'])} by run {entry['run_id']}",
        *([f"ended {_time(entry['ended_at'])}: {entry['why']}"] if entry["ended_at"] else []),
    ]


def _row(row: Mapping[str, Any]) -> list[str]:
    marks = [
        *(["of somebody marked dead"] if row["is_dead"] else []),
        *(["disconnected"] if row["is_disconnected"] else []),
        *([f"withdrawn {_time(row['withdrawn_at'])} with {row['withdrawn_by']}"] if row["withdrawn_at"] else []),
    ]
    found = row["lookup"]
    return [
        f"record {row['record_id']}, {row['column']}{''.join(f', {mark}' for mark in marks)}",
        f"written {_time(row['processed_at'])} by script {row['script']}, run {row['run_id']}",
        f"in_litigator_list {_flag(row, 'in_litigator_list')}, in_dnc {_flag(row, 'in_dnc')}"
        + (f" ({row['dnc_lists']})" if row["dnc_lists"] else ""),
        *(_lookup("brought by", found) if found else ["the ledger does not have the lookup that brought it"]),
        *(line for other in row["other_lookups"] for line in _lookup("same person:", other)),
    ]


def _flag(row: Mapping[str, Any], name: str) -> str:
    value = row["flags"][name]
    return _FLAG[value] if value is not None else f"NULL ({row['null_reasons'][name] or 'no reason recorded'})"


def _lookup(what: str, lookup: Mapping[str, Any]) -> list[str]:
    state = ", ".join(str(lookup[name]) for name in ("state", "suspicion", "reason") if lookup[name])
    cost = f"cost {lookup['cost']}" if lookup["cost"] is not None else f"cost not known, at most {lookup['price']}"
    return [
        f"{what} lookup {lookup['lookup_id']} at {lookup['provider']}: {state}, {cost}",
        f"  sent {_time(lookup['sent_at'])}, settled {_time(lookup['settled_at'])}",
        f"  expires {_time(lookup['expires_at'])}",
        f"  purpose {lookup['purpose']} (glba {lookup['glba']}, dppa {lookup['dppa']})",
        f"  script {lookup['script']}, run {lookup['run_id']}",
        f"  person key {lookup['person_key']}",
    ]


def _check(check: Mapping[str, Any]) -> list[str]:
    return [
        f"{_time(check['checked_at'])}  {check['source']}: {_answer(check)}",
        _list(check),
        f"run {check['run_id']}, {check['asset']} row {check['sequence']}, purpose {check['purpose']}",
        f"script {check['script']}, hash {check['script_hash']}",
        _seal(check["seal"]),
    ]


def _list(value: Mapping[str, Any]) -> str:
    return f"list {value['list_version'] or 'not known'}, obtained {_time(value['obtained_at'])}"


def _seal(seal: Mapping[str, Any] | str) -> str:
    if isinstance(seal, str):
        return UNSEALED
    return f"seal {seal['entry']} over {seal['rows']:,} rows, set {_time(seal['sealed_at'])}, root {seal['root']}"


# --- a run ------------------------------------------------------------------------------


def _show_run(told: Mapping[str, Any]) -> None:
    _line(f"Run {told['run_id']} (all times are UTC)", style="bold")
    _section("Slices that are still its own", map(_slice, told["slices"]), "Later runs replaced its slices.")
    _section("Lookups", map(_outcome, told["lookups"]), "It asked idiCORE about nobody.")
    if told["lookups_reused"]:
        _line(f"  {told['lookups_reused']:,} leads were served by answers that were paid for before")
    otherwise = "It checked no number; verdicts that still counted were used again."
    _section("Checks", map(_checks, told["checks"]), otherwise)
    _section("Chains of evidence", map(_chain, told["chains"]), "It began no chain of evidence.")
    otherwise = "No published row is as it wrote it."
    _section("Published rows that it wrote last", map(_published, told["published"]), otherwise)


def _slice(each: Mapping[str, Any]) -> list[str]:
    return [f"{each['table_name']} of {each['script']}: {each['rows']:,} rows, {_time(each['replaced_at'])}"]


def _outcome(each: Mapping[str, Any]) -> list[str]:
    reason = f" ({each['reason']})" if each["reason"] else ""
    risk = f", at most {each['unknown_cost']} dollars more" if each["unknown_cost"] else ""
    return [
        f"{each['lookups']:,} {each['state']}{reason}, cost {each['cost']} dollars{risk}, purpose {each['purpose']}"
    ]


def _checks(each: Mapping[str, Any]) -> list[str]:
    return [
        f"{each['checks']:,} answered {_answer(each)} by {SOURCE_NAMES.get(each['source'], each['source'])}",
        f"{each['asset']} of {each['script']}, list {each['list_version'] or 'not known'}, purpose {each['purpose']}",
        f"from {_time(each['first_checked_at'])} to {_time(each['last_checked_at'])}",
        f"script hash {each['script_hash']}",
    ]


def _chain(chain: Mapping[str, Any]) -> list[str]:
    state = "open" if chain["is_open"] else "closed"
    if chain["pruned_at"]:
        state = f"deleted after its time, {_time(chain['pruned_at'])}"
    return [
        f"{chain['asset']} of {chain['script']}: {state}, {chain['rows_sealed']:,} rows sealed",
        *(_seal(seal) for seal in chain["seals"]),
    ]


def _published(each: Mapping[str, Any]) -> list[str]:
    return [f"{each['script']}: {each['rows']:,} rows, {each['withdrawn']:,} of them withdrawn"]


# --- pieces -----------------------------------------------------------------------------


def _section(title: str, things: Iterable[Sequence[str]], otherwise: str) -> None:
    """Each thing by its first line, and what else is told of it below, further in."""
    _line("")
    _line(title, style="underline")
    nothing = True
    for first, *rest in things:
        nothing = False
        _line(f"  {first}")
        for line in rest:
            _line(f"      {line}")
    if nothing:
        _line(f"  {otherwise}")


def _answer(value: Mapping[str, Any]) -> str:
    return value["verdict"] if value["reason"] is None else f"{value['verdict']} ({value['reason']})"


def _time(value: datetime | None) -> str:
    return "never" if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def _line(text: str, *, style: str | None = None) -> None:
    out.print(escape(text), style=style, soft_wrap=True)
