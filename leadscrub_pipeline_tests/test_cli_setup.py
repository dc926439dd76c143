"""``leadscrub setup``: a deployment's home, made once and left alone afterwards."""

from pathlib import Path

from leadscrub_pipeline_tests.cli_deployment import deployment_in


def test_setup_makes_the_home_and_leaves_what_was_set_by_hand(tmp_path: Path):
    with deployment_in(tmp_path) as deployment:
        made = deployment.command("setup", "--json").json
        assert made["dagster_home"] == str(deployment.home / "dagster")
        assert made["storage"] == "SQLite"
        assert made["pools"] == {"idicore": 1, "ccc": 2, "warehouse": 4}
        assert made["scripts"] == ["leads"]
        with deployment.instance() as instance:
            instance.event_log_storage.set_concurrency_slots("idicore", 3)
        deployment.write_script("more")
        said = deployment.command("setup").err
        assert "idicore 3" in said
        assert "leads, more" in said
        with deployment.instance() as instance:
            assert instance.get_dynamic_partitions("lead_scripts") == ["leads", "more"]
