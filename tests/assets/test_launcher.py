"""A run whose process is gone is known to be: of a command, of a code server, of one before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.server import GrpcServerProcess

from assets.instance import PROCESS_TAG, _this_process
from assets.launcher import WatchedRunLauncher

OVERRIDES = {"run_launcher": {"module": "assets.launcher", "class": "WatchedRunLauncher"}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(overrides=OVERRIDES) as made:
        yield made


def health(instance: dg.DagsterInstance, tags: dict[str, str]) -> tuple[WorkerStatus, str | None]:
    launcher = instance.run_launcher
    assert isinstance(launcher, WatchedRunLauncher)
    assert launcher.supports_check_run_worker_health
    run = create_run_for_test(instance, tags=tags, status=dg.DagsterRunStatus.STARTED)
    found = launcher.check_run_worker_health(run)
    return found.status, found.msg


def test_a_run_of_a_command(instance: dg.DagsterInstance) -> None:
    here = _this_process()
    gone = here.partition("|")[0] + "|4194305 1.00"  # no process can have this number

    assert health(instance, {PROCESS_TAG: here})[0] == WorkerStatus.RUNNING
    assert health(instance, {PROCESS_TAG: gone})[0] == WorkerStatus.FAILED
    assert health(instance, {PROCESS_TAG: "another-machine|1 1.00"})[0] == WorkerStatus.RUNNING
    assert health(instance, {})[0] == WorkerStatus.RUNNING  # nobody knows


def test_a_run_of_a_code_server(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    origin = LoadableTargetOrigin(python_file=str(tmp_path / "empty.py"))
    with GrpcServerProcess(instance.get_ref(), loadable_target_origin=origin) as server:
        client = server.create_client()
        place = {GRPC_INFO_TAG: json.dumps({"host": client.host, "socket": client.socket})}

        anew = health(instance, place)
        server.shutdown_server()
        server.wait()
        gone = health(instance, place)
    away = {GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", "port": 9})}

    assert anew == (WorkerStatus.FAILED, "its code server was started anew")
    assert gone == (WorkerStatus.FAILED, "the code server that ran it is gone")
    assert health(instance, away)[0] == WorkerStatus.RUNNING  # it may be back in a moment
