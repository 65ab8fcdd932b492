"""The real servers: what they listen on, what they refuse, and that there is one daemon."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.daemon, pytest.mark.timeout(600)]


def free_ports() -> int:
    """Return a port that is free together with the two after it."""
    for port in range(23_400, 24_400, 3):
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
                third.bind(("127.0.0.1", port + 2))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process, Path]]:
    home = tmp_path_factory.mktemp("ui")
    port = free_ports()
    process = subprocess.Popen(
        [sys.executable, "-c", "from fm_platform.cli import main; main()", "ui", "--port",
         str(port)],
        cwd=home,  # from whatever folder it is started
        env={**os.environ, "FM_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = [process.stdout.readline() for _ in range(3)]
        assert said[1] == f"Dagster   http://127.0.0.1:{port}\n", said
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid), home
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)  # as a service manager does
        process.wait(60)
        process.stdout.close()
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []


def test_every_listening_socket_is_on_loopback(
    served: tuple[str, psutil.Process, Path],
) -> None:
    _, process, _ = served
    family = [process, *process.children(recursive=True)]

    listening = [
        connection.laddr.ip
        for member in family
        for connection in member.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert listening
    assert {ip for ip in listening if ip not in ("127.0.0.1", "::1")} == set()


def test_the_real_server_refuses_what_a_hostile_page_can_send(
    served: tuple[str, psutil.Process, Path],
) -> None:
    base, _, _ = served
    query = "{ version }"
    with httpx.Client(base_url=base, timeout=60) as client:
        refused = [
            client.get("/graphql", params={"query": query}),
            client.post("/graphql", content=query, headers={"content-type": "text/plain"}),
            client.post("/graphql", data={"query": query}),
            client.post(
                "/graphql", json={"query": query}, headers={"origin": "http://evil.example"}
            ),
            client.get("/", headers={"host": "evil.example"}),
            client.post("/report_asset_materialization/raw"),
        ]
        own = client.post("/graphql", json={"query": query}, headers={"origin": base})

        assert [answer.status_code for answer in refused] == [405, 415, 415, 403, 403, 401]
        assert own.json()["data"]["version"]
        assert client.get("/").status_code == 200
        assert client.get("/").headers["x-frame-options"] == "DENY"


def test_both_processes_find_the_code_of_the_checkout(
    served: tuple[str, psutil.Process, Path],
) -> None:
    base, _, home = served
    query = """{ workspaceOrError { ... on Workspace { locationEntries {
        name loadStatus locationOrLoadError { __typename } } } } }"""
    with httpx.Client(base_url=base, timeout=120) as client:
        answer = client.post("/graphql", json={"query": query}, headers={"origin": base}).json()
    (entry,) = answer["data"]["workspaceOrError"]["locationEntries"]
    assert entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
    assert "Error loading repository location" not in (home / "logs" / "daemon.log").read_text()


def test_a_second_daemon_is_refused(served: tuple[str, psutil.Process, Path]) -> None:
    _, _, home = served
    deadline = time.monotonic() + 60
    while not (home / "dagster" / "daemon.lock").exists() and time.monotonic() < deadline:
        time.sleep(0.5)

    done = subprocess.run(
        [sys.executable, "-m", "assets.daemon"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "FM_HOME": str(home)}, timeout=20, check=False,
    )  # fmt: skip

    assert done.returncode == 3
    assert "already running" in done.stderr
