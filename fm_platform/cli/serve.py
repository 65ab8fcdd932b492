"""`fm ui`: the web servers and the daemon, started and stopped together."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence

import typer

from fm_platform.cli.parts import Parts
from fm_platform.errors import FMError
from fm_platform.home import Home

LOOPBACK = "127.0.0.1"
PAGES = 5
_MANAGED = "Managed by fm_platform"


def serve(port: int) -> int:
    """Start everything, print the addresses, keep it running until Ctrl-C; return an exit code."""
    home = Home.from_environment().ensure()
    prepare_dagster_home(home)
    for wanted in range(port, port + PAGES):
        _free(wanted)
    environment = {
        **os.environ,
        "FM_HOME": str(home.root),
        "DAGSTER_HOME": str(home.dagster),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # eight more processes of a quarter of a gigabyte each, for jobs that nothing here asks for
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "FM_MLFLOW_UI_URL": f"http://{LOOPBACK}:{port + 1}",
    }
    commands = {
        "Dagster": ["-m", "assets.webserver", "--port", str(port)],
        "daemon": ["-m", "assets.daemon"],
        "MLflow": [
            "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port + 1),
            "--backend-store-uri", home.tracking_uri, "--workers", "1",
            "--artifacts-destination", str(home.mlflow / "artifacts"),
        ],
        "lineage": [
            "-m", "fm_platform.web.lineage", "--port", str(port + 2),
            "--dagster", f"http://{LOOPBACK}:{port}", "--mlflow", f"http://{LOOPBACK}:{port + 1}",
            "--alerts", f"http://{LOOPBACK}:{port + 3}",
        ],
        "alerts": [
            "-m", "fm_platform.web.alerts", "--port", str(port + 3),
            "--dagster", f"http://{LOOPBACK}:{port}", "--lineage", f"http://{LOOPBACK}:{port + 2}",
        ],
        "labeling": ["-m", "fm_platform.web.labeling", "--port", str(port + 4)],
    }  # fmt: skip
    parts = Parts(commands, environment, home.logs)
    # a service manager stops with TERM; a shell starts background jobs with INT ignored
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        parts.start()
        typer.echo("starting ...")
        _wait_for(parts, list(range(port, port + PAGES)))
        typer.echo(f"Dagster   http://{LOOPBACK}:{port}")
        typer.echo(f"MLflow    http://{LOOPBACK}:{port + 1}")
        typer.echo(f"lineage   http://{LOOPBACK}:{port + 2}")
        typer.echo(f"alerts    http://{LOOPBACK}:{port + 3}")
        typer.echo(f"labeling  http://{LOOPBACK}:{port + 4}")
        typer.echo(f"logs      {home.logs}")
        typer.echo("Ctrl-C stops them")
        while parts.mend():
            time.sleep(0.5)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        parts.stop()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def prepare_dagster_home(home: Home) -> None:
    """Put dagster.yaml where Dagster reads it; a copy that a person edited is left alone."""
    from fm_platform.workspace import project_root

    source, target = project_root() / "dagster.yaml", home.dagster / "dagster.yaml"
    managed = not target.exists() or _MANAGED in target.read_text("utf-8").partition("\n")[0]
    if source.exists() and managed:
        shutil.copyfile(source, target)


def _free(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((LOOPBACK, port)) == 0:
            raise FMError(f"port {port} is in use", next_step="fm ui --port N, or make ui PORT=N")


def _wait_for(parts: Parts, ports: Sequence[int]) -> None:
    deadline = time.monotonic() + 120
    waiting = list(ports)
    while waiting:
        parts.require_all()
        if time.monotonic() > deadline:
            raise FMError("the servers did not answer within two minutes", found=waiting)
        waiting = [port for port in waiting if not _answers(port)]
        time.sleep(0.3)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
