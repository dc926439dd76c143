"""``leadscrub setup``: what a deployment needs before its webserver and daemon start, and when scripts were added.

The home and how it is made are in instance.py.
"""

from leadscrub_pipeline.cli.instance import dagster_home, open_instance, pool_limits
from leadscrub_pipeline.cli.output import JsonOption, note, print_json
from leadscrub_pipeline.domain.scripts import script_paths
from leadscrub_pipeline.settings import load_settings


def setup(*, as_json: JsonOption = False) -> None:
    """Make Dagster's home: dagster.yaml, its storage's tables, the pools, a partition for each script.

    What is there already stays, a dagster.yaml and limits of pools edited by hand too.
    """
    settings = load_settings()
    with open_instance(settings):
        pass
    home = str(dagster_home(settings))
    storage = "SQLite" if settings.dagster_postgres_url is None else "PostgreSQL"
    pools = pool_limits(settings)
    scripts = sorted(script_paths(settings.leadscrub_scripts))
    if as_json:
        print_json({"dagster_home": home, "storage": storage, "pools": pools, "scripts": scripts})
        return
    note(f"Dagster's home is {home}; runs, events and schedules are kept in {storage}.")
    note(f"Pools: {', '.join(f'{name} {limit}' for name, limit in pools.items())}.")
    note(f"Scripts: {', '.join(scripts) or 'none'}.")
