"""`fm ui`: the web servers and the daemon, started and stopped together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import typer

from fm_platform.errors import FMError
from fm_platform.home import Home

LOOPBACK = "127.0.0.1"
STOP_AFTER_S = 20
_MANAGED = "Managed by fm_platform"


def serve(port: int) -> int:
    """Start everything, print the addresses, wait for Ctrl-C; return an exit code."""
    home = Home.from_environment().ensure()
    prepare_dagster_home(home)
    for wanted in (port, port + 1):
        _free(wanted)
    environment = {
        **os.environ,
        "FM_HOME": str(home.root),
        "DAGSTER_HOME": str(home.dagster),
        "MLFLOW_DISABLE_TELEMETRY": "true",
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
    }  # fmt: skip
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, words in commands.items():
            running[name] = subprocess.Popen(
                [sys.executable, *words], env=environment, start_new_session=True
            )
        _wait_for(running, [port, port + 1])
        typer.echo(f"Dagster   http://{LOOPBACK}:{port}")
        typer.echo(f"MLflow    http://{LOOPBACK}:{port + 1}")
        typer.echo("Ctrl-C stops them")
        while True:
            for name, process in running.items():
                if process.poll() is not None:
                    typer.echo(f"{name} ended with code {process.returncode}", err=True)
                    return 1
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(running)


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


def _wait_for(running: dict[str, subprocess.Popen[bytes]], ports: list[int]) -> None:
    deadline = time.monotonic() + 120
    waiting = list(ports)
    while waiting:
        for name, process in running.items():
            if process.poll() is not None:
                raise FMError(f"{name} did not start", found=f"exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise FMError("the servers did not answer within two minutes", found=waiting)
        waiting = [port for port in waiting if not _answers(port)]
        time.sleep(0.3)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _stop(running: dict[str, subprocess.Popen[bytes]]) -> None:
    """End each process group that was started here: politely, then for good."""
    for process in running.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_AFTER_S
    for process in running.values():
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
