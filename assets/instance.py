"""The Dagster instance of an FM_HOME, and runs started without the daemon."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
import psutil
from sqlalchemy.exc import DatabaseError

from fm_platform.errors import FMError, HomeError, StorageFullError
from fm_platform.home import Home

LOCATION = "fm_platform"
PROCESS_TAG = "fm_platform/process"
_ROOT = Path(__file__).resolve().parents[1]
WORKSPACE = _ROOT / "workspace.yaml"
"""Where Dagster finds this code location, from whatever folder a server is started."""
_MANAGED = "# Managed by fm_platform"
_LEAST_FREE_BYTES = 1 << 20


def open_instance(home: Home) -> dg.DagsterInstance:
    """Return the instance in `home`, with the settings of this checkout's `dagster.yaml`.

    A `dagster.yaml` in `home` whose first line does not say that it is managed is left alone.

    One process at a time: the first to open an instance makes its tables, which Dagster does
    without a lock. A web server, a daemon and a run that begin together would otherwise leave a
    storage that nobody can open again.
    """
    target = home.dagster / "dagster.yaml"
    source = _ROOT / "dagster.yaml"
    os.environ["DAGSTER_HOME"] = str(home.dagster)
    with (home.dagster / "open.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        managed = not target.exists() or target.read_text("utf-8").startswith(_MANAGED)
        if source.exists() and managed:
            shutil.copyfile(source, target)
        return dg.DagsterInstance.get()


def execute(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    job_name: str,
    *,
    keys: Sequence[dg.AssetKey],
    days: Sequence[str] = (),
    tags: Mapping[str, str],
) -> dg.JobExecutionResult:
    """Run assets of a job in this process, as one run that the UI shows like any other.

    Args:
        instance: Where the run is recorded.
        definitions: What defines the job.
        job_name: A job of it.
        keys: The assets of the job to build.
        days: First to last day as one range; empty for assets without days.
        tags: More run tags.
    """
    # Dagster's public in-process entries record runs without the job's place in the code
    # location, and the run timeline leaves such runs out. Hence the two-step form underneath
    # them; a test pins it on the installed version.
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run

    job = definitions.resolve_job_def(job_name)
    all_tags = {
        **job.run_tags,
        **tags,
        PROCESS_TAG: _this_process(),
        # Who started it sees it fail; the daemon must not start it again behind their back.
        "dagster/max_retries": "0",
    }
    if len(days) == 1:
        all_tags["dagster/partition"] = days[0]
    elif days:
        all_tags["dagster/asset_partition_range_start"] = min(days)
        all_tags["dagster/asset_partition_range_end"] = max(days)
    run = instance.create_run_for_job(
        job.get_subset(asset_selection=set(keys)),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags=all_tags,
        asset_selection=set(keys),
        remote_job_origin=_origin(job_name),
    )
    return execute_run(InMemoryJob(job), run, instance, raise_on_error=False)


def _origin(job_name: str):  # type: ignore[no-untyped-def] # a private type of Dagster
    from dagster._core.remote_origin import (
        ManagedGrpcPythonEnvCodeLocationOrigin,
        RemoteJobOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(
            module_name="assets.definitions", working_directory="."
        ),
        location_name=LOCATION,
    )
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job_name)


def fail_abandoned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs of this machine whose process is gone as failed; return their ids.

    A run that was killed stays STARTED for ever, and assets of a started run count as in progress:
    nothing would be automated again.
    """
    failed = []
    running = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    for run in instance.get_runs(running):
        if abandoned(run):
            instance.report_run_failed(run, "The process of this run ended without finishing it.")
            failed.append(run.run_id)
    return failed


def abandoned(run: dg.DagsterRun) -> bool:
    """Whether a run was started by a command on this machine whose process is gone."""
    place, _, process = run.tags.get(PROCESS_TAG, "").partition("|")
    return bool(process) and place == socket.gethostname() and not _alive(process)


def _this_process() -> str:
    process = psutil.Process()
    return f"{socket.gethostname()}|{process.pid} {process.create_time():.2f}"


def _alive(process: str) -> bool:
    pid, _, created = process.partition(" ")
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == created
    except (psutil.NoSuchProcess, ValueError):
        return False


_NEXT = {
    ("raw", "non_empty"): "bring the rows; where none are to come, run the days before and after"
    " with --to and --from; ",
    ("raw", "contract"): "fm show raw/DAY tells by which rule and column; ",
    ("weak_labels", "label_coverage"): "fm label report shows what each function votes on; write"
    " more of them, or lower labeling.minimum_coverage; ",
}
"""(Stage, check) -> what to do where it failed, beside looking at the days."""


def failed_checks(result: dg.JobExecutionResult, *, blocking: bool) -> list[FMError]:
    """Return the failed checks of a run: those that stop downstream, or those that warn."""
    return [
        FMError(
            f"check {found.check_name} of {found.asset_key.to_user_string()} failed:"
            f" {found.description}",
            next_step=_NEXT.get((found.asset_key.path[-1], found.check_name), "")
            + f"the verdict of each day is on the page of {found.asset_key.path[-1]}",
        )
        for found in result.get_asset_check_evaluations()
        if not found.passed and (found.severity == dg.AssetCheckSeverity.ERROR) is blocking
    ]


def was_interrupted(result: dg.JobExecutionResult) -> bool:
    """Return whether a person stopped the run, by Ctrl-C or in the UI."""
    return any(
        event.step_failure_data.error is not None
        and event.step_failure_data.error.cls_name == dg.DagsterExecutionInterruptedError.__name__
        for event in result.all_events
        if event.is_step_failure
    )


def failures(result: dg.JobExecutionResult) -> list[FMError]:
    """Return why a run failed: failed blocking checks, then the steps that failed by themselves.

    Steps that were only skipped are not listed.
    """
    if result.success:
        return []
    found = failed_checks(result, blocking=True)
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        said = data.user_failure_data.description if data.user_failure_data else None
        if said is None and data.error and "AssetCheckFailed" in (data.error.cls_name or ""):
            continue  # the check has said it
        found.append(FMError(said or _root_message(data.error) or f"{event.step_key} failed"))
    if not found:
        said_last = [event.message for event in result.all_events if event.is_failure]
        found.append(FMError(next(filter(None, reversed(said_last)), "the run failed")))
    return found


def _root_message(error: object) -> str:
    while (cause := getattr(error, "cause", None)) is not None:
        error = cause
    return str(getattr(error, "message", "") or "").strip()


def records_failure(error: DatabaseError, home: Home) -> FMError:
    """Return why Dagster could not write its records of a run, in our words.

    SQLite says "disk I/O error" for a full disk, too; the free space tells which it is.
    """
    found = str(error.orig)
    if "full" in found or shutil.disk_usage(home.root).free < _LEAST_FREE_BYTES:
        return StorageFullError(
            "no space left for the records of the run",
            where=home.root,
            found=found,
            next_step="free some space and run again; all that was built is kept",
        )
    return HomeError(
        "the records of the run cannot be written",
        where=home.dagster,
        found=found,
        next_step="check the disk and that this user may write there, then run again",
    )
