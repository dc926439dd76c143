"""The code location as Dagster loads it."""

import subprocess
import sys

CODE = """
import sys, warnings
warnings.simplefilter("error")
from leadscrub_pipeline.definitions import defs
keys = sorted(spec.key.to_user_string() for spec in defs.resolve_all_asset_specs())
heavy = [name for name in ("dagster_snowflake", "duckdb", "sqlalchemy.orm", "httpx", "pandas") if name in sys.modules]
print(keys, [defs.resolve_job_def(name).name for name in ("scrub_job", "preview_job")], heavy)
"""


def test_it_loads_in_a_fresh_interpreter_with_an_empty_environment_and_without_what_only_a_run_needs():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env={}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "['dnc_flags', 'dnc_registry', 'enriched_contacts', 'litigator_flags', 'master_processed_db', 'raw_leads'] "
        "['scrub_job', 'preview_job'] []"
    )
