"""Published rows, verdicts and withdrawals put into a real warehouse file, without a run."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse
from leadscrub_pipeline.warehouse.schema import CONSENTS, INTERNAL_DNC, MASTER, PHONE_VERDICTS, WITHDRAWALS

NOW = datetime.now(UTC).replace(microsecond=0)
"""The view compares with the real clock, so its tests stay away from this moment."""
DAY = timedelta(days=1)

Row = dict[str, object]


def make_warehouse(folder: Path) -> DuckdbWarehouse:
    return DuckdbWarehouse(folder / "warehouse.duckdb", kind="demo", sources_folder=None, lock_wait=10)


def phone(number: int) -> str:
    """Different numbers for 0 to 7,999,999, all of ten digits."""
    return str(2_000_000_000 + number * 7)


def record_id(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()[:32]


def master_row(
    name: object,
    phones: Sequence[str | None] = (),
    *,
    script: str = "spring",
    run: str = "run-1",
    processed_at: datetime = NOW - DAY,
    litigator: bool | None = False,
    in_dnc: Sequence[bool | None] = (False, False, False),
    contact: Mapping[str, object] | None = None,
    null_reasons: Mapping[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
    **columns: object,
) -> Row:
    padded = [*phones, None, None, None][:3]
    row: Row = dict.fromkeys(MASTER.column_names)
    row |= {
        "record_id": record_id(name),
        "job_id": run,
        "job_name": "scrub_job",
        "table_id": script,
        "table_title": script.title(),
        "processed_at": processed_at,
        "first_name": "Ada",
        "last_name": f"Lead{name}",
        "address": f"{name} Oak Street",
        "city": "Dallas",
        "state": "TX",
        "zip_code": "75201",
        "in_litigator_list": litigator if any(padded) else None,
        "additional_data": orjson.dumps(
            {
                **(extra or {}),
                "provenance": {
                    "contact": {"is_dead": False, "matched_by": "name_and_address"} if contact is None else contact,
                    "null_reasons": dict(null_reasons or {}),
                },
            }
        ).decode(),
    }
    for slot, (number, flag) in enumerate(zip(padded, [*in_dnc, None, None, None][:3], strict=True), start=1):
        row[f"phone_{slot}"] = number
        row[f"phone_{slot}_in_dnc"] = flag if number else None
    return row | columns


def verdict_row(
    number: str,
    source: str,
    verdict: str = "clear",
    *,
    reason: str | None = None,
    valid_until: datetime = NOW + 10 * DAY,
) -> Row:
    return {
        "phone": number,
        "source": source,
        "verdict": verdict,
        "reason": reason,
        "list_version": "list-1",
        "obtained_at": NOW - DAY,
        "checked_at": NOW - DAY,
        "valid_until": valid_until,
    }


def clear_rows(*numbers: str) -> list[Row]:
    """Unexpired clear verdicts of both sources."""
    return [verdict_row(number, source) for number in numbers for source in ("ccc", "dnc")]


def withdrawal_row(name: object, withdrawn_at: datetime) -> Row:
    return {"record_id": record_id(name), "withdrawn_at": withdrawn_at, "reason": "script spring"}


def request_row(number: str, *, withdrawn_at: datetime | None = None, source: str = "call") -> Row:
    return {
        "phone": number,
        "requested_at": NOW - 2 * DAY,
        "source": source,
        "added_at": NOW - 2 * DAY,
        "run_id": "command",
        "withdrawn_at": withdrawn_at,
        "withdrawal": withdrawn_at and "asked to be called",
    }


def consent_row(
    number: str,
    kind: str = "transaction",
    *,
    expires_at: datetime | None = NOW + 5 * DAY,
    revoked_at: datetime | None = None,
    proof: str = "contract 1",
) -> Row:
    return {
        "phone": number,
        "kind": kind,
        "given_at": NOW - 30 * DAY,
        "proof": proof,
        "expires_at": expires_at,
        "source": "crm",
        "added_at": NOW - 2 * DAY,
        "run_id": "command",
        "revoked_at": revoked_at,
        "revocation": revoked_at and "by letter",
    }


def store(
    warehouse: DuckdbWarehouse,
    master: Sequence[Row] = (),
    verdicts: Sequence[Row] = (),
    withdrawals: Sequence[Row] = (),
    *,
    requests: Sequence[Row] = (),
    consents: Sequence[Row] = (),
) -> None:
    tables = {MASTER: master, PHONE_VERDICTS: verdicts, WITHDRAWALS: withdrawals}
    tables |= {INTERNAL_DNC: requests, CONSENTS: consents}
    with warehouse.session() as session:
        for table, rows in tables.items():
            if rows:
                session.load(table.full_name, to_table(rows, arrow_schema(table)))


def clear_tables(warehouse: DuckdbWarehouse) -> None:
    with warehouse.session() as session:
        for table in (MASTER, PHONE_VERDICTS, WITHDRAWALS, INTERNAL_DNC, CONSENTS):
            session.execute(f"DELETE FROM {table.full_name}")
