"""What holds for every test: no setting of the person who runs them, and a screen that is wide enough."""

import os

for _name in list(os.environ):
    if _name.startswith(("LEADSCRUB_", "IDICORE_", "CCC_", "DNC_", "NTFY_", "ETL_", "SNOWFLAKE_", "DAGSTER_")):
        del os.environ[_name]
os.environ["LEADSCRUB_ENV_FILE"] = ""
# Rich asks once, when the command line is first imported.
os.environ["COLUMNS"] = "300"
