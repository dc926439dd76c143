"""Scripts of which each selects people of its own, so that a bill tells who was asked about for which."""

from collections.abc import Sequence

from leadscrub_pipeline_tests.cli_deployment import Deployment


def scripts_of_own_people(deployment: Deployment, keys: Sequence[str], *, leads: int, after: int = 0) -> None:
    """Write a table and a script for each key, over so many people of the deployment's table.

    Args:
        deployment: with a table of at least ``(after + len(keys)) * leads`` people.
        keys: of the scripts.
        leads: people of each.
        after: how many scripts of so many people have theirs already.
    """
    (deployment.scripts / "leads.sql").unlink(missing_ok=True)
    tables = deployment.folder / "sources/LEADS_DB/PUBLIC"
    head, *rows = (tables / "LEADS.csv").read_text(encoding="utf-8").splitlines()
    for number, key in enumerate(keys, start=after):
        own = rows[number * leads : (number + 1) * leads]
        assert len(own) == leads, "the deployment's table has too few people"
        (tables / f"{key.upper()}.csv").write_text("\n".join([head, *own]) + "\n", encoding="utf-8")
        deployment.write_script(key, f"SELECT * FROM LEADS_DB.PUBLIC.{key.upper()}")
