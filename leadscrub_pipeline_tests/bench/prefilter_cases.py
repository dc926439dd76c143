"""What is measured about the filter in SQL: leads against the persons that were published before."""

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import duckdb

from leadscrub_pipeline_tests.bench.deployment import SCRIPT, bench_deployment, elsewhere
from leadscrub_pipeline_tests.bench.telling import tell

LEADS: Final = 100_000
_PUBLISHED: Final = LEADS // 2
_FILTER: Final = "left_out"
"""The stage of a selection that holds whom the filter leaves out."""


def prefilter(persons: int) -> dict[str, float]:
    """100,000 leads, half of them published with exactly these values, against so many published persons.

    ``prefilter_seconds`` is the statement that finds whom to leave out, and nothing else; ``raw_leads_seconds`` is the
    whole selection with its publication. It is done twice in the same process, and the second counts. The file's
    pages are in the system's memory as far as they fit. LEADSCRUB_BENCH_PERSONS is the most persons of any case.
    """
    from leadscrub_pipeline.deployment import open_warehouse  # noqa: PLC0415 - start_up must not have loaded it
    from leadscrub_pipeline.domain.scripts import find_script  # noqa: PLC0415
    from leadscrub_pipeline.domain.verdicts import utc_now  # noqa: PLC0415
    from leadscrub_pipeline.settings import load_settings  # noqa: PLC0415
    from leadscrub_pipeline.warehouse.leads import LeadSelection  # noqa: PLC0415

    persons = min(persons, int(os.environ.get("LEADSCRUB_BENCH_PERSONS", str(persons))))
    with bench_deployment(leads=LEADS, latency=0.0):
        settings = load_settings()
        warehouse = open_warehouse(settings)
        script = find_script(settings.leadscrub_scripts, SCRIPT)

        def select() -> dict[str, float]:
            with warehouse.session(scripts=True) as session:
                timed = TimedSession(session)
                started = time.perf_counter()
                selection = LeadSelection(timed, warehouse.dialect, script, now=utc_now())  # type: ignore[arg-type]
                found = selection.run()
                selection.publish("bench", found)
                seconds = time.perf_counter() - started
            return {
                "prefilter_seconds": timed.seconds[_FILTER],
                "raw_leads_seconds": seconds,
                "left_out": timed.sizes[_FILTER],
                "already_processed": found.already_processed,
                **{f"{name}_stage_seconds": value for name, value in timed.seconds.items() if name != _FILTER},
            }

        if select()["left_out"]:
            raise SystemExit("nobody is published yet, and somebody was left out")
        tell(f"{persons:,} published persons are made")
        elsewhere(_publish, settings.warehouse_path, persons)
        size = settings.warehouse_path.stat().st_size / 1e6
        tell(f"the file has {size:,.0f} MB; leads are selected")
        first = select()
        figures = select()
    if figures["left_out"] != _PUBLISHED:
        raise SystemExit(f"{_PUBLISHED:,} leads are published, and {figures['left_out']:,} were left out")
    return {
        "leads": LEADS,
        "persons": persons,
        "warehouse_mb": size,
        "first_prefilter_seconds": first["prefilter_seconds"],
        "first_raw_leads_seconds": first["raw_leads_seconds"],
        **figures,
    }


class TimedSession:
    """A session that notes how long each stage made from a SELECT takes and what it holds, by the stage's name."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.seconds: dict[str, float] = {}
        self.sizes: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def create_stage_as(self, name: str, select: str, params: Sequence[object] = (), **given: Any) -> str:
        started = time.perf_counter()
        stage: str = self._session.create_stage_as(name, select, params, **given)
        self.seconds[name] = time.perf_counter() - started
        self.sizes[name] = self._session.rows(f"SELECT COUNT(*) FROM {stage}")[0][0]
        return stage


def _publish(path: Path, persons: int) -> None:
    """Every second lead of the last selection, spread evenly among persons whom no lead of it is."""
    from leadscrub_pipeline.domain.people import KEY_VERSION  # noqa: PLC0415 - start_up must not have loaded it
    from leadscrub_pipeline.domain.verdicts import utc_now  # noqa: PLC0415
    from leadscrub_pipeline.warehouse.identity_numbers import identity_number  # noqa: PLC0415
    from leadscrub_pipeline.warehouse.schema import DATABASE, PERSON_CACHE, PUBLISHED_IDENTITIES, RAW_LEADS  # noqa: PLC0415

    now = utc_now().replace(tzinfo=None)
    identity_hash = "COALESCE(l.identity_hash, sha256('identity ' || n))"
    # No two rows after each other hold equally long.
    until = "CAST(? AS TIMESTAMP) + to_seconds(CAST(hash(n) % 5_000_000 AS BIGINT))"
    person = {
        "identity_hash": identity_hash,
        "identity_number": identity_number(identity_hash),
        "owned_until": until,
        "person_key": "COALESCE(l.person_key, sha256('person ' || n))",
        "partition_key": "'script_' || (n % 40)",
        "settled": "TRUE",
        "record_id": "md5('record ' || n)",
        "key_version": str(KEY_VERSION),
        "outcome": "'hit'",
        "looked_up_at": "CAST(? AS TIMESTAMP)",
        "expires_at": until,
        "published_at": "CAST(? AS TIMESTAMP)",
    }
    times = [now, now + timedelta(days=90), now]
    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2}) as connection:
        connection.execute(f"ATTACH '{path}' AS {DATABASE}")
        connection.execute(
            f"CREATE TEMP TABLE published AS SELECT (lead_number // 2 - 1) * {persons // _PUBLISHED} AS place, "
            f"identity_hash, person_key FROM {RAW_LEADS.full_name} WHERE lead_number % 2 = 0"
        )
        for table, params in ((PUBLISHED_IDENTITIES, [times[1]]), (PERSON_CACHE, times)):
            columns = ", ".join(f"{person[name]} AS {name}" for name in table.column_names)
            connection.execute(
                f"INSERT INTO {table.full_name} ({', '.join(table.column_names)}) SELECT {columns} "
                f"FROM range({persons}) AS numbers(n) LEFT JOIN published AS l ON l.place = n",
                params,
            )
        connection.execute(f"CHECKPOINT {DATABASE}")
