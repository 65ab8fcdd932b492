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
from pathlib import Path

import typer

from fm_platform.display import plain
from fm_platform.errors import FMError
from fm_platform.home import Home

LOOPBACK = "127.0.0.1"
STOP_AFTER_S = 20
PAGES = 5
_MANAGED = "Managed by fm_platform"


def serve(port: int) -> int:
    """Start everything, print the addresses, wait for Ctrl-C; return an exit code."""
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
    running: dict[str, subprocess.Popen[bytes]] = {}
    # a service manager stops with TERM; a shell starts background jobs with INT ignored
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        for name, words in commands.items():
            with _log(home, name).open("wb") as log:
                running[name] = subprocess.Popen(
                    [sys.executable, *words], env=environment, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
        typer.echo("starting ...")
        _wait_for(running, list(range(port, port + PAGES)), home)
        typer.echo(f"Dagster   http://{LOOPBACK}:{port}")
        typer.echo(f"MLflow    http://{LOOPBACK}:{port + 1}")
        typer.echo(f"lineage   http://{LOOPBACK}:{port + 2}")
        typer.echo(f"alerts    http://{LOOPBACK}:{port + 3}")
        typer.echo(f"labeling  http://{LOOPBACK}:{port + 4}")
        typer.echo(f"logs      {home.logs}")
        typer.echo("Ctrl-C stops them")
        while True:
            for name, process in running.items():
                if process.poll() is not None:
                    typer.echo(f"{name} ended with code {process.returncode}", err=True)
                    typer.echo(_last_lines(_log(home, name)), err=True)
                    return 1
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(running)


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


def _log(home: Home, name: str) -> Path:
    return home.logs / f"{name.lower()}.log"


def _last_lines(path: Path, count: int = 15) -> str:
    """Return the end of a log, safe for a terminal."""
    lines = path.read_text("utf-8", errors="replace").splitlines()[-count:]
    return "\n".join(plain(line, 300) for line in lines)


def _wait_for(running: dict[str, subprocess.Popen[bytes]], ports: list[int], home: Home) -> None:
    deadline = time.monotonic() + 120
    waiting = list(ports)
    while waiting:
        for name, process in running.items():
            if process.poll() is not None:
                raise FMError(
                    f"{name} did not start",
                    found=f"exit code {process.returncode}\n{_last_lines(_log(home, name))}",
                    where=_log(home, name),
                )
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
