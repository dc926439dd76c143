"""What is measured about requests to vendors: the product beside the bare client of bare.py, on the same simulators.

Both send the same number of requests with bodies of the same persons and phones, so many at a time, to one process.
The bare client comes second: the simulators' tables are warm for it. Seconds are the clock's; ``processor_seconds`` are
those of the client's process alone, and say more on a machine that has other work.
"""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson

from leadscrub_pipeline_tests.bench.deployment import SCRIPT, Deployment, bench_deployment, peak_mb, scrub
from leadscrub_pipeline_tests.bench.telling import tell

LATENCY: Final = 0.3
_SECONDS: Final = 15
"""As long as enrichment ideally takes."""
_PHONES: Final = 200_000
_SAMPLE: Final = 100_000
"""Searches that the bare client sends at most; its time for more is in proportion."""


def enrichment(workers: int) -> dict[str, float]:
    """enriched_contacts against 300 ms, ledger and tables written: beside the bare client, and beside the ideal."""
    leads = int(workers / LATENCY * _SECONDS)
    with bench_deployment(leads=leads, latency=LATENCY, IDICORE_MAX_WORKERS=str(workers)) as deployment:
        steps, numbers = scrub()
        peak = peak_mb()
        bare = _bare_lookups(deployment, _lookups_so_far(deployment), leads=leads, workers=workers)
    seconds = steps["enriched_contacts"]
    ideal = numbers["enriched_contacts"]["lookups_paid"] * LATENCY / workers
    return {
        "lookups": bare["requests"],
        "seconds": seconds,
        "bare_seconds": bare["seconds"],
        "ratio": seconds / bare["seconds"],
        "ideal_seconds": ideal,
        "ratio_to_ideal": seconds / ideal,
        "peak_mb": peak,
    }


def litigator_batches(phones: int = _PHONES) -> dict[str, float]:
    """The step of litigator_flags over phones in batches of 1,000 against 300 ms, verdicts and evidence stored.

    The step keeps the vendor's limit of 1,000 requests a minute, which the bare client does not: ``pace_seconds`` is
    what the limit alone makes of so many requests, and the least that any lawful client takes.
    """
    from leadscrub_pipeline.deployment import open_ledger, open_warehouse  # noqa: PLC0415 - start_up must not have loaded it
    from leadscrub_pipeline.domain.verdicts import CCC  # noqa: PLC0415
    from leadscrub_pipeline.settings import load_settings  # noqa: PLC0415
    from leadscrub_pipeline.steps.litigators import check_litigators  # noqa: PLC0415
    from leadscrub_pipeline.warehouse.phone_verdicts import Check  # noqa: PLC0415

    with bench_deployment(leads=1, latency=LATENCY) as deployment:
        settings = load_settings()
        warehouse = open_warehouse(settings)
        contacts = _contacts(warehouse, phones)
        check = Check("bench", "litigator_flags", SCRIPT, script_hash="", purpose="", source=CCC)
        with closing(open_ledger(settings)) as ledger:
            started = time.perf_counter()
            result = check_litigators(warehouse, ledger, contacts, check, settings, report=lambda _: None)
            seconds = time.perf_counter() - started
        if result.phones != phones or result.verdicts["unknown"]:
            raise SystemExit(f"{result.phones} phones, {result.verdicts}")
        peak = peak_mb()
        bare = _bare_batches(deployment, workers=result.workers)
    pace = _pace_seconds(bare["requests"])
    return {
        "phones": phones,
        "requests": bare["requests"],
        "workers": result.workers,
        "seconds": seconds,
        "bare_seconds": bare["seconds"],
        "pace_seconds": pace,
        "ratio": seconds / bare["seconds"],
        "ratio_to_paced": seconds / max(bare["seconds"], pace),
        "peak_mb": peak,
    }


def end_to_end(leads: int) -> dict[str, float]:
    """The five assets with no vendor latency: time and peak memory, beside the bare client for the same requests.

    ``bare_seconds`` is the time of the searches plus that of the litigator batches, sent one after the other as the
    job does, at the product's concurrency. ``bare_paced_seconds`` has the batches at the vendor's limit of 1,000 a
    minute, which the product keeps and the bare client does not. ``httpx_client_seconds`` and
    ``httpx_client_paced_seconds`` are the same with ``httpx.AsyncClient`` around its transport, as one would write it
    by hand and as the product does. Of more than 100,000 searches the bare client sends the first 100,000, and its
    time for all of them is taken in proportion.
    """
    # Loading the code location is start_up's business; what the steps load counts, as it does in every run.
    import_module("leadscrub_pipeline.definitions")
    tell(f"{leads:,} leads are made")
    with bench_deployment(leads=leads, latency=0.0) as deployment:
        tell("the job runs")
        started, processor = time.perf_counter(), time.process_time()
        steps, numbers = scrub()
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        peak = peak_mb()
        tell(f"{seconds:,.1f} seconds, {peak:,.0f} MB; the bare client sends the same requests")
        workers, count = numbers["enriched_contacts"]["workers"], _lookups_so_far(deployment)
        sample = min(count, _SAMPLE)
        whole = count / sample
        lookups = _bare_lookups(deployment, sample, leads=leads, workers=workers)
        by_client = _bare_lookups(deployment, sample, leads=leads, workers=workers, with_client=True)
        batches = _bare_batches(deployment, workers=numbers["litigator_flags"]["workers"])
    paced_batches = max(batches["seconds"], _pace_seconds(batches["requests"]))
    searches, searches_by_client = lookups["seconds"] * whole, by_client["seconds"] * whole
    bare = {
        "bare": searches + batches["seconds"],
        "bare_paced": searches + paced_batches,
        "httpx_client": searches_by_client + batches["seconds"],
        "httpx_client_paced": searches_by_client + paced_batches,
    }
    return {
        "leads": leads,
        "seconds": seconds,
        "leads_a_second": leads / seconds,
        "processor_seconds": processor,
        "peak_mb": peak,
        **{f"{name}_seconds": value for name, value in steps.items()},
        "lookups": count,
        "lookups_sent_bare": sample,
        "batches": batches["requests"],
        "bare_lookups_seconds": searches,
        "httpx_client_lookups_seconds": searches_by_client,
        "bare_batches_seconds": batches["seconds"],
        "bare_processor_seconds": lookups["processor_seconds"] * whole + batches["processor_seconds"],
        **{f"{name}_seconds": value for name, value in bare.items()},
        **{f"ratio_to_{name}": seconds / value for name, value in bare.items()},
    }


# --- the same requests, bare ----------------------------------------------------------------


def _lookups_so_far(deployment: Deployment) -> int:
    return int(deployment.simulators.idicore.counts()["requests"]["search"])


def _bare_lookups(
    deployment: Deployment, count: int, *, leads: int, workers: int, with_client: bool = False
) -> dict[str, float]:
    """So many searches, for the persons that the product asked about."""
    import httpx  # noqa: PLC0415 - start_up must not have loaded it

    from leadscrub_pipeline.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    assert settings.idicore_client_id is not None
    assert settings.idicore_client_secret is not None
    name, word = settings.idicore_client_id.get_secret_value(), settings.idicore_client_secret.get_secret_value()
    signed_in = httpx.post(
        settings.idicore_auth_url,
        headers={"Authorization": "Basic " + base64.b64encode(f"{name}:{word}".encode()).decode()},
        json={"glba": settings.idicore_glba, "dppa": settings.idicore_dppa},
        trust_env=False,
    )
    bodies = deployment.folder / "searches"
    _write(bodies, islice(_searches(leads), count))
    headers = {"Authorization": signed_in.text}
    return _sent(settings.idicore_search_url, bodies, count, workers=workers, with_client=with_client, **headers)


def _searches(leads: int) -> Iterator[bytes]:
    """The body of each person's search, as the product makes it."""
    from leadscrub_pipeline.simulators.persons import person_at  # noqa: PLC0415 - as above
    from leadscrub_pipeline.vendors.idicore import _payload  # noqa: PLC0415

    for index in range(leads):
        yield _payload(person_at(index, seed=1), uuid4().hex)


def _bare_batches(deployment: Deployment, *, workers: int) -> dict[str, float]:
    """As many litigator batches as the simulator got so far, with the same phones and the control numbers."""
    from leadscrub_pipeline.deployment import open_warehouse  # noqa: PLC0415 - start_up must not have loaded it
    from leadscrub_pipeline.domain.verdicts import CCC  # noqa: PLC0415
    from leadscrub_pipeline.settings import load_settings  # noqa: PLC0415
    from leadscrub_pipeline.warehouse.schema import PHONE_VERDICTS  # noqa: PLC0415

    settings = load_settings()
    assert settings.ccc_api_key is not None
    with open_warehouse(settings).session() as session:
        found = session.table(f"SELECT phone FROM {PHONE_VERDICTS.full_name} WHERE source = ?", [CCC])
    phones = found.column("phone").to_pylist()
    count = int(deployment.simulators.ccc.counts()["requests"]["scrub"])
    bodies = deployment.folder / "batches"
    batches = (
        orjson.dumps(
            {"PhoneList": ",".join([*phones[place::count], *settings.ccc_control_numbers]), "OutputFormat": "JsonArray"}
        )
        for place in range(count)
    )
    _write(bodies, batches)
    key = settings.ccc_api_key.get_secret_value()
    return _sent(settings.ccc_api_url, bodies, count, workers=workers, loginId=key)


def _write(path: Path, bodies: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(body + b"\n" for body in bodies)


def _sent(
    url: str, bodies: Path, count: int, *, workers: int, with_client: bool = False, **headers: str
) -> dict[str, float]:
    headers = {"Accept-Encoding": "gzip, deflate", "Content-Type": "application/json", "User-Agent": "bare", **headers}
    asked = {"url": url, "headers": headers, "bodies": str(bodies), "workers": workers, "with_client": with_client}
    command = [sys.executable, "-m", "leadscrub_pipeline_tests.bench.bare"]
    done = subprocess.run(command, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    if figures["requests"] != count:
        raise SystemExit(f"the product sent {count:,} requests and the bare client {figures['requests']:,}")
    return figures


def _pace_seconds(requests: float) -> float:
    """What the vendor's limit alone makes of so many requests, after the burst that it allows."""
    from leadscrub_pipeline.vendors.ccc import BURST, REQUESTS_PER_SECOND  # noqa: PLC0415 - start_up must not have loaded it

    return max(0.0, requests - BURST) / REQUESTS_PER_SECOND


# --- what is asked about --------------------------------------------------------------------


def _contacts(warehouse: Any, phones: int) -> Any:
    """A slice of enriched_contacts that holds so many different phones, three a lead."""
    from leadscrub_pipeline.domain.verdicts import utc_now  # noqa: PLC0415 - start_up must not have loaded it
    from leadscrub_pipeline.warehouse.schema import ENRICHED_CONTACTS  # noqa: PLC0415
    from leadscrub_pipeline.warehouse.slices import read_slice, replace_slice  # noqa: PLC0415

    given = {
        "partition_key": f"'{SCRIPT}'",
        "run_id": "'contacts'",
        "lead_number": "n + 1",
        "person_key": "sha256(CAST(n AS VARCHAR))",
        "outcome": "'hit'",
        **{
            f"phone_{slot}": f"CASE WHEN 3 * n + {slot} <= {phones} THEN {phone_sql(f'(3 * n + {slot - 1})')} END"
            for slot in (1, 2, 3)
        },
    }
    select = ", ".join(given.get(name, "NULL") for name in ENRICHED_CONTACTS.column_names)
    with warehouse.session() as session:
        with session.transaction():
            replace_slice(
                session,
                ENRICHED_CONTACTS,
                SCRIPT,
                "contacts",
                select=f"SELECT {select} FROM range({-(-phones // 3)}) AS numbers(n)",
                params=[],
                details={},
                now=utc_now(),
            )
        return read_slice(session, ENRICHED_CONTACTS, SCRIPT)


def phone_of(number: int) -> int:
    """A valid phone of each number from 0 on, over 700 area codes."""
    return 2_012_000_000 + number % 700 * 10_000_000 + number // 700


def phone_sql(number: str) -> str:
    """As ``phone_of``, told to DuckDB."""
    return f"CAST(2012000000 + {number} % 700 * 10000000 + {number} // 700 AS VARCHAR)"
