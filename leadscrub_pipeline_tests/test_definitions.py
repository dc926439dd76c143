"""The code location as Dagster loads it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg

CODE = """
import sys, warnings
warnings.simplefilter("error")
from leadscrub_pipeline.definitions import defs
keys = sorted(spec.key.to_user_string() for spec in defs.resolve_all_asset_specs())
heavy = {"dagster_snowflake", "duckdb", "sqlalchemy.orm", "httpx", "pandas", "pygal"}
heavy = sorted(heavy & set(sys.modules))
print(keys, [defs.resolve_job_def(name).name for name in ("scrub_job", "preview_job", "rescrub_job")], heavy)
"""


def test_it_loads_in_a_fresh_interpreter_with_an_empty_environment_and_without_what_only_a_run_needs():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env={}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "['callable_phones', 'consents', 'dnc_flags', 'dnc_registry', 'enriched_contacts', 'internal_dnc', "
        "'lead_scripts', 'litigator_flags', 'lookup_ledger', 'master_processed_db', 'raw_leads', 'scrub_evidence', "
        "'scrub_report'] "
        "['scrub_job', 'preview_job', 'rescrub_job'] []"
    )


CHOSEN = """
import sys
from leadscrub_pipeline.resources import WarehouseResource
warehouse = WarehouseResource().get()
with warehouse.session() as session:
    session.rows("SELECT 1")
print(type(warehouse).__name__, [name for name in ("dagster_snowflake", "snowflake.connector") if name in sys.modules])
"""


def test_nothing_of_snowflake_is_loaded_while_the_embedded_warehouse_is_chosen(tmp_path: Path) -> None:
    environment = {
        "LEADSCRUB_ENV_FILE": "",
        "LEADSCRUB_HOME": str(tmp_path),
        "IDICORE_AUTH_URL": "http://127.0.0.1:9/a",
        "IDICORE_SEARCH_URL": "http://127.0.0.1:9/s",
        "CCC_API_URL": "http://127.0.0.1:9/c",
    }
    done = subprocess.run([sys.executable, "-c", CHOSEN], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "DuckdbWarehouse []"), done.stderr


def definitions() -> Any:
    from leadscrub_pipeline.definitions import defs  # noqa: PLC0415 - the first test loads it in a fresh interpreter

    return defs


def test_every_asset_has_description_group_owner_and_kinds() -> None:
    specs = definitions().resolve_all_asset_specs()
    assert len(specs) == 13
    bare = {
        spec.key.to_user_string(): [
            name
            for name, value in {
                "description": spec.description,
                "group": spec.group_name,
                "owners": spec.owners,
                "kinds": spec.kinds,
            }.items()
            if not value or value == "default"
        ]
        for spec in specs
    }
    assert {key: missing for key, missing in bare.items() if missing} == {}


def test_every_check_job_schedule_and_sensor_says_what_it_is_for() -> None:
    defs = definitions()
    repository = defs.get_repository_def()
    checks = [spec for check in defs.asset_checks for spec in check.check_specs]
    in_steps = [spec for asset in defs.assets if isinstance(asset, dg.AssetsDefinition) for spec in asset.check_specs]
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    named = [*checks, *in_steps, *jobs, *repository.schedule_defs, *repository.sensor_defs]
    assert len(named) > 30
    assert [one.name for one in named if not one.description] == []
    assert [job.name for job in jobs if "leadscrub/mode" not in job.tags] == []
    assert [job.name for job in jobs if not job.name.endswith("_job")] == []
    assert [one.name for one in repository.schedule_defs if not one.name.endswith("_schedule")] == []
    assert [one.name for one in repository.sensor_defs if not one.name.endswith("_sensor")] == []


def test_nothing_but_alerts_is_on_until_somebody_switches_it_on() -> None:
    repository = definitions().get_repository_def()
    on = {one.name for one in repository.sensor_defs if one.default_status is dg.DefaultSensorStatus.RUNNING}
    assert on == {one.name for one in repository.sensor_defs if "alert" in one.name}
    assert on
