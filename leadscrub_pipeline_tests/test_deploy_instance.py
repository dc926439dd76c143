"""The instance files load with the real classes, agree with each other, and a run becomes the pod they describe."""

import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef  # noqa: TID251 - what reads dagster.yaml has no public name
from dagster_k8s import K8sRunLauncher
from dagster_k8s.models import k8s_snake_case_dict
from kubernetes import client
from sqlalchemy import make_url

from leadscrub_pipeline.run_coordinator import UserRunCoordinator
from leadscrub_pipeline_tests.postgres import new_postgres_database  # noqa: F401 - a fixture
from leadscrub_pipeline_tests.proxied import DEPLOY, recording_server

FILES = {
    "one host": DEPLOY.parent / "dagster.yaml",
    "PostgreSQL": DEPLOY / "dagster.yaml",
    "Kubernetes": DEPLOY / "kubernetes" / "dagster.yaml",
}


@dg.job
def nothing() -> None:
    """Has no step."""


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_an_instance_file_names_classes_and_settings_that_exist(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://user:word@127.0.0.1:1/dagster")
    shutil.copy(FILES[name], tmp_path / "dagster.yaml")
    reference = InstanceRef.from_dir(str(tmp_path))
    assert isinstance(reference.run_coordinator, UserRunCoordinator)
    launcher = reference.run_launcher_data
    assert getattr(importlib.import_module(launcher.module_name), launcher.class_name) is (
        K8sRunLauncher if name == "Kubernetes" else dg.DefaultRunLauncher
    )


@pytest.mark.parametrize("name", ["PostgreSQL", "Kubernetes"])
def test_an_instance_file_differs_from_that_of_one_host_in_storage_and_launcher_only(name: str):
    one_host, other = read(FILES["one host"]), read(FILES[name])
    other.pop("storage")
    other.pop("run_launcher", None)
    # Pods are asked for less often than processes, and never resumed.
    for more in ("max_resume_run_attempts", "poll_interval_seconds"):
        other["run_monitoring"].pop(more, None)
    assert other == one_host


@dataclass
class Launch:
    """What Dagster tells a launcher."""

    dagster_run: dg.DagsterRun


def test_on_kubernetes_a_run_becomes_a_pod_without_rights_and_with_the_settings(
    new_postgres_database: Callable[[], str],  # noqa: F811 - the fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    url = make_url(new_postgres_database()).set(drivername="postgresql")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url.render_as_string(hide_password=False))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with recording_server() as (port, recorded):
        config = read(FILES["Kubernetes"])
        # Outside of a cluster: another way to the API, which here records what it is asked for.
        config["run_launcher"]["config"] |= {
            "load_incluster_config": False,
            "kubeconfig_file": str(kubeconfig(tmp_path, port)),
        }
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        with dg.DagsterInstance.get() as instance:
            assert isinstance(instance.run_launcher, K8sRunLauncher)
            origin = dg.reconstructable(nothing).get_python_origin()
            run = instance.create_run_for_job(nothing, job_code_origin=origin)
            instance.run_launcher.launch_run(Launch(run))
    (path, job), = [each for each in recorded if each[1]]  # fmt: skip
    assert path == "/apis/batch/v1/namespaces/leadscrub/jobs"
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "registry.example.com/leadscrub:0.1.0"
    assert container["args"][:3] == ["dagster", "api", "execute_run"]
    assert {"secretRef": {"name": "leadscrub-settings"}} in container["envFrom"]
    assert {"name": "DAGSTER_HOME", "value": "/var/lib/leadscrub/dagster"} in container["env"]
    # The instance comes with the command: by the name of the setting, not with the address and its password.
    assert "DAGSTER_POSTGRES_URL" in container["args"][3]
    assert url.query["options"] not in str(job)
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["serviceAccountName"] == "leadscrub"
    assert pod["terminationGracePeriodSeconds"] == 90
    assert {"name": "dnc", "persistentVolumeClaim": {"claimName": "leadscrub-dnc", "readOnly": True}} in pod["volumes"]
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400


def kubeconfig(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "nobody"}}],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


# ---- the chart's values


def values() -> dict[str, Any]:
    return read(DEPLOY / "kubernetes" / "values.yaml")


def snake(value: Any, *, skip: tuple[str, ...] = ("applyLimitPerUniqueValue",)) -> Any:
    """Keys as dagster.yaml spells them; the chart writes it so."""
    if isinstance(value, dict):
        return {
            key if key in skip else "".join(f"_{c.lower()}" if c.isupper() else c for c in key): snake(inner)
            for key, inner in value.items()
        }
    return [snake(inner) for inner in value] if isinstance(value, list) else value


def test_the_charts_values_say_what_the_instance_file_says():
    given, instance = values(), read(FILES["Kubernetes"])
    daemon = given["dagsterDaemon"]
    assert daemon["runCoordinator"]["enabled"]
    assert daemon["runCoordinator"]["type"] == "CustomRunCoordinator"
    assert daemon["runCoordinator"]["config"]["customRunCoordinator"] == {**instance["run_coordinator"], "config": {}}
    assert snake(daemon["runMonitoring"]) == instance["run_monitoring"]
    assert snake(daemon["runRetries"]) == instance["run_retries"]
    concurrency = dict(given["concurrency"])
    assert concurrency.pop("enabled")
    assert snake(concurrency) == instance["concurrency"]
    launcher, described = given["runLauncher"], instance["run_launcher"]["config"]
    assert launcher["type"] == "K8sRunLauncher"
    k8s = launcher["config"]["k8sRunLauncher"]
    assert k8s["loadInclusterConfig"] is described["load_incluster_config"] is True
    for name in ("resources", "securityContext", "failPodOnRunFailure", "imagePullPolicy", "runK8sConfig"):
        assert snake({name: k8s[name]}) == {key: described[key] for key in snake({name: 0})}, name
    assert given["global"]["dagsterHome"] == described["dagster_home"]
    assert given["telemetry"]["enabled"] is False


def test_the_charts_values_bring_no_password_of_their_own_and_no_way_around_the_proxy():
    given = values()
    assert given["generatePostgresqlPasswordSecret"] is False
    assert given["global"]["postgresqlSecretName"] == "leadscrub-postgresql"
    assert given["postgresql"]["postgresqlPassword"] == ""
    # Each of these comes with a password that everybody knows.
    for part in ("postgresql", "rabbitmq", "redis", "flower", "ingress"):
        assert given[part]["enabled"] is False
    webserver = given["dagsterWebserver"]
    assert webserver["enableReadOnly"] is True
    assert webserver["service"]["type"] == "ClusterIP"


def test_the_charts_values_run_one_pinned_image_as_a_user_without_rights():
    given = values()
    parts = [given["dagsterWebserver"], given["dagsterDaemon"], *given["dagster-user-deployments"]["deployments"]]
    assert len(parts) == 3
    job_image = read(FILES["Kubernetes"])["run_launcher"]["config"]["job_image"]
    for part in parts:
        assert f"{part['image']['repository']}:{part['image']['tag']}" == job_image
        assert part["podSecurityContext"]["runAsNonRoot"] is True
        assert part["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_what_is_written_for_kubernetes_has_the_fields_that_kubernetes_has():
    with (DEPLOY / "kubernetes" / "proxy.yaml").open(encoding="utf-8") as file:
        for made in yaml.safe_load_all(file):
            k8s_snake_case_dict(getattr(client, f"V1{made['kind']}"), made)
    given = values()
    (code,) = given["dagster-user-deployments"]["deployments"]
    webserver, daemon = given["dagsterWebserver"], given["dagsterDaemon"]
    launcher = given["runLauncher"]["config"]["k8sRunLauncher"]
    probe = webserver["readinessProbe"]
    for kind, parts in {
        client.V1PodSecurityContext: [part["podSecurityContext"] for part in (webserver, daemon, code)],
        client.V1SecurityContext: [part["securityContext"] for part in (webserver, daemon, code, launcher)],
        client.V1ResourceRequirements: [part["resources"] for part in (webserver, daemon, code, launcher)],
        client.V1PodSpec: [{"containers": [], **launcher["runK8sConfig"]["podSpecConfig"]}],
        client.V1Volume: code["volumes"],
        client.V1VolumeMount: code["volumeMounts"],
        client.V1Probe: [probe],
    }.items():
        for part in parts:
            k8s_snake_case_dict(kind, part)
    with pytest.raises(Exception, match="runAsRoot"):
        k8s_snake_case_dict(client.V1PodSecurityContext, {"runAsRoot": True})


def test_the_proxy_on_kubernetes_reaches_the_ports_that_the_chart_serves():
    given = values()
    port = given["dagsterWebserver"]["service"]["port"]
    assert given["dagsterWebserver"]["readinessProbe"]["httpGet"]["port"] == port
    assert port > 1024, "the container's user may not listen below"
    place = (DEPLOY / "nginx" / "place-kubernetes.conf").read_text(encoding="utf-8")
    assert f"server leadscrub-webserver:{port};" in place
    assert f"server leadscrub-webserver-read-only:{port};" in place
    (code,) = given["dagster-user-deployments"]["deployments"]
    assert code["dagsterApiGrpcArgs"] == ["--module-name", "leadscrub_pipeline.definitions"]
    with (DEPLOY / "kubernetes" / "proxy.yaml").open(encoding="utf-8") as file:
        made = {(each["kind"], each["metadata"]["name"]): each["spec"] for each in yaml.safe_load_all(file)}
    policies = {name: spec for (kind, name), spec in made.items() if kind == "NetworkPolicy"}
    assert policies["leadscrub-webservers"]["ingress"][0]["ports"] == [{"port": port}]
    assert policies["leadscrub-code-server"]["ingress"][0]["ports"] == [{"port": code["port"]}]
    pod = made["Deployment", "leadscrub-proxy"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    compose = read(DEPLOY / "compose.yaml")["services"]["proxy"]
    assert pod["containers"][0]["image"] == compose["image"]
    assert pod["containers"][0]["command"] == compose["entrypoint"]
