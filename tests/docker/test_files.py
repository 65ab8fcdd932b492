"""What can be checked of the production profile without a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
REFERENCE = re.compile(r"\$\{([A-Z0-9_]+)(:?[-?])?([^}]*)\}")
SECRET = re.compile(r"(?i)password|secret|access_key|_USER$|ledger_url|store_uri|token")
OURS = ("code", "daemon", "webserver", "mlflow", "buckets")


def settings(file: str) -> Any:
    return yaml.safe_load((ROOT / file).read_text("utf-8"))


@pytest.mark.parametrize("file", sorted(p.name for p in DOCKER.glob("*.yaml")))
def test_yaml_loads(file: str) -> None:
    assert isinstance(settings(f"docker/{file}"), dict)


def test_the_profile_is_whole() -> None:
    assert set(SERVICES) == {*OURS, "postgres", "objects"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_published_on_loopback_only(name: str) -> None:
    service = SERVICES[name]
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:(\$\{\w+:-\d+\}|\d+):\d+", port), port
    assert "network_mode" not in service
    assert not service.get("privileged")
    assert "/var/run/docker.sock" not in str(service.get("volumes"))
    # what is not published stands on the internal network alone
    assert service["networks"] == (["inside", "edge"] if "ports" in service else ["inside"])


def test_data_stores_are_not_published() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {
        "webserver", "mlflow",
    }  # fmt: skip
    assert COMPOSE["networks"]["inside"]["internal"] is True


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_restart_and_are_checked(name: str) -> None:
    service = SERVICES[name]
    if name == "buckets":  # ends when it is done
        assert service["restart"] == "on-failure"
        return
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_wait_until_others_are_ready(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        ends = other == "buckets"
        assert wanted == {
            "condition": "service_completed_successfully" if ends else "service_healthy"
        }


@pytest.mark.parametrize("name", OURS)
def test_our_services_can_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user", "10001") != "root"


def test_secrets_come_from_the_environment_and_have_no_default() -> None:
    for name, service in SERVICES.items():
        environment = service.get("environment", {})
        assert isinstance(environment, dict), name
        for variable, value in environment.items():
            if variable.endswith(
                ("_PASSWORD", "_SECRET_ACCESS_KEY", "_ACCESS_KEY_ID", "_ROOT_USER")
            ):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", str(value)), f"{name}: {variable}"
            for password in re.findall(r"//[^:/@]+:(.*)@", str(value)):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", password), f"{name}: {variable}"
    for reference, operator, default in REFERENCE.findall((DOCKER / "compose.yaml").read_text()):
        if SECRET.search(reference):
            assert operator == ":?", f"{reference} has the default {default!r}"
            assert default


def test_secrets_are_on_no_command_line() -> None:
    for service in SERVICES.values():
        words = f"{service.get('command')} {service.get('entrypoint')} {service.get('healthcheck')}"
        assert not [name for name, _, _ in REFERENCE.findall(words) if SECRET.search(name)]


def test_the_example_names_every_variable_and_fills_in_none() -> None:
    text = (DOCKER / ".env.example").read_text("utf-8")
    required = dict(re.findall(r"(?m)^([A-Z_0-9]+)=(.*)$", text))
    optional = set(re.findall(r"(?m)^#([A-Z_0-9]+)=", text))
    found = REFERENCE.findall((DOCKER / "compose.yaml").read_text("utf-8"))
    assert set(required) == {name for name, operator, _ in found if operator == ":?"}
    assert optional == {name for name, operator, _ in found if operator == ":-"}
    assert set(required.values()) == {""}
    assert ".env" in (DOCKER / ".gitignore").read_text("utf-8").split()


def test_no_secret_in_the_layers_of_the_image() -> None:
    text = (DOCKER / "Dockerfile").read_text("utf-8")
    names = re.findall(r"(?m)^(?:ARG|ENV)\s+([A-Z_]+)|^\s+([A-Z_]+)=", text)
    assert not [name for pair in names for name in pair if SECRET.search(name)]
    assert not re.search(r"(?m)^(COPY|ADD)\s.*(\.env|\.fm|\s\.\s)", text)
    assert "USER 10001:10001" in text
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    assert "**/.env" in ignored


def test_the_image_copies_what_is_there_and_what_the_build_context_lets_in() -> None:
    text = (DOCKER / "Dockerfile").read_text("utf-8")
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text("utf-8")
    let_in = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    for line in re.findall(r"(?m)^COPY (.+)$", text):
        for source in [word for word in line.split() if not word.startswith("--")][:-1]:
            assert (ROOT / source).exists(), source
            assert source in let_in, f"{source} is kept out of the build context"


def test_dockerfile_lint() -> None:
    binary = Path(sys.executable).parent / "hadolint"
    found = str(binary) if binary.exists() else shutil.which("hadolint")
    if found is None:
        pytest.skip("hadolint is not installed")
    words = [found, "--no-color", str(DOCKER / "Dockerfile")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", ["entrypoint.sh", "postgres/databases.sh"])
def test_scripts_parse_and_can_be_executed(script: str) -> None:
    path = DOCKER / script
    shell = path.read_text("utf-8").splitlines()[0].removeprefix("#!")
    subprocess.run([shell, "-n", str(path)], check=True)
    assert path.stat().st_mode & 0o111


def test_the_entry_command_puts_the_settings_where_dagster_reads_them(tmp_path: Path) -> None:
    script = tmp_path / "entrypoint.sh"
    text = (DOCKER / "entrypoint.sh").read_text("utf-8")
    script.write_text(text.replace("/opt/fm/docker", str(DOCKER)))
    home = tmp_path / "dagster"
    for _ in range(2):  # also over what an earlier start left
        done = subprocess.run(
            ["/bin/sh", str(script), "echo", "two words"],
            env={"DAGSTER_HOME": str(home), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == "two words\n"
    assert sorted(path.name for path in home.iterdir()) == ["dagster.yaml", "workspace.yaml"]
    for name in ("dagster", "workspace"):
        assert (home / f"{name}.yaml").read_text() == (
            DOCKER / f"{name}.production.yaml"
        ).read_text()


def test_the_copied_settings_are_not_replaced_by_those_of_a_checkout() -> None:
    first = (DOCKER / "dagster.production.yaml").read_text("utf-8").splitlines()[0]
    assert "Managed by fm_platform" not in first


def test_production_differs_from_the_checkout_in_storage_only() -> None:
    production = settings("docker/dagster.production.yaml")
    assert set(production.pop("storage")) == {"postgres"}
    assert production == settings("dagster.yaml")


@pytest.mark.parametrize("file", ["dagster.yaml", "docker/dagster.production.yaml"])
def test_dagster_accepts_the_instance_settings(file: str, tmp_path: Path) -> None:
    from dagster._core.instance.config import dagster_instance_config

    shutil.copyfile(ROOT / file, tmp_path / "dagster.yaml")
    found, _ = dagster_instance_config(str(tmp_path))  # raises for a key it does not know
    assert found["run_monitoring"]["enabled"] is True
    assert found["telemetry"] == {"enabled": False}


def test_dagster_postgres_accepts_the_storage_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = pytest.importorskip("dagster_postgres.storage")
    from dagster._config import process_config, resolve_to_config_type

    given = settings("docker/dagster.production.yaml")["storage"]["postgres"]
    for field in given["postgres_db"].values():
        if isinstance(field, dict):
            assert field["env"] in SERVICES["code"]["environment"]
            monkeypatch.setenv(field["env"], "value")
    schema = resolve_to_config_type(storage.DagsterPostgresStorage.config_type())
    result = process_config(schema, given)
    assert result.success, result.errors
    assert result.value is not None
    from dagster_postgres.utils import pg_url_from_config

    assert imports_its_driver(pg_url_from_config(result.value))


def imports_its_driver(url: str) -> bool:
    from sqlalchemy.engine import make_url

    return make_url(url).get_dialect().import_dbapi() is not None


@pytest.mark.parametrize(
    ("service", "variable"), [("code", "FM_LEDGER_URL"), ("mlflow", "MLFLOW_BACKEND_STORE_URI")]
)
def test_database_addresses_name_the_installed_driver(service: str, variable: str) -> None:
    pytest.importorskip("psycopg2")
    url = SERVICES[service]["environment"][variable]
    assert imports_its_driver(REFERENCE.sub("value", url))


def test_the_workspace_names_the_code_server() -> None:
    (entry,) = settings("docker/workspace.production.yaml")["load_from"]
    server = entry["grpc_server"]
    words = SERVICES["code"]["command"]
    assert server["host"] == "code"
    assert str(server["port"]) == words[words.index("-p") + 1]
    (local,) = settings("workspace.yaml")["load_from"]
    assert server["location_name"] == local["python_module"]["location_name"]
    from dagster._config import validate_config
    from dagster._core.workspace.config_schema import WORKSPACE_CONFIG_SCHEMA

    result = validate_config(WORKSPACE_CONFIG_SCHEMA, {"load_from": [entry]})
    assert result.success, result.errors


def test_commands_of_our_services_parse() -> None:
    web = [str(word) for word in SERVICES["webserver"]["command"]]
    assert "--i-have-auth-proxy" in web
    for service in ("webserver", "daemon"):
        words = [str(word) for word in SERVICES[service]["command"]]
        assert words[:2] == ["python", "-m"]
        done = subprocess.run(
            [sys.executable, "-c", _PARSE, *words[2:]],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


# The server itself is replaced: only its command line is read.
_PARSE = """
import importlib, sys
module = importlib.import_module(sys.argv[1])
if hasattr(module, "serve"):
    module.serve = lambda *given, **named: None
else:
    class Stop(Exception): pass
    def stop(): raise Stop
    module.Home = type("Home", (), {"from_environment": staticmethod(stop)})
try:
    module.main(sys.argv[2:])
except Exception as error:
    assert type(error).__name__ == "Stop", error
"""
