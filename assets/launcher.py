"""Dagster's run launcher, which can also tell that the process of a run is gone.

When a machine stops, a run stays STARTED though nothing runs it: it keeps its slots, and the next
days wait for it until it is timed out. Run monitoring asks here; what is gone fails at once, and
is tried again like any run that crashed.
"""

from __future__ import annotations

import socket
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value

from assets.instance import abandoned

_PATIENCE_S = 5.0


class WatchedRunLauncher(DefaultRunLauncher):
    """Launches runs on code servers, and asks these whether they still run them."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether `check_run_worker_health` works."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return FAILED where it is sure that no process runs a run any more, else RUNNING."""
        if abandoned(run):
            return _gone("its process ended without finishing it")
        client: Any = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if client.socket and not _listens(client.socket):
            return _gone("the code server that ran it is gone")
        try:
            told = deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING)  # busy, or about to be back
        if run.run_id not in told.current_runs:
            return _gone("its code server was started anew")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _gone(why: str) -> CheckRunHealthResult:
    return CheckRunHealthResult(WorkerStatus.FAILED, why)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE_S)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # it is there, and does not answer at the moment
    return True
