"""The code location as Dagster loads it."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys, warnings
warnings.simplefilter("error")
from leadscrub_pipeline.definitions import defs
keys = sorted(spec.key.to_user_string() for spec in defs.resolve_all_asset_specs())
heavy = [name for name in ("dagster_snowflake", "duckdb", "sqlalchemy.orm", "httpx", "pandas") if name in sys.modules]
print(keys, [defs.resolve_job_def(name).name for name in ("scrub_job", "preview_job", "rescrub_job")], heavy)
"""


def test_it_loads_in_a_fresh_interpreter_with_an_empty_environment_and_without_what_only_a_run_needs():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env={}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "['dnc_flags', 'dnc_registry', 'enriched_contacts', 'litigator_flags', 'master_processed_db', 'raw_leads'] "
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
