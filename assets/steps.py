"""What every asset does around the one library call it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.checks import CHECKS, check_results
from assets.keys import stage_of
from assets.metadata import artifact_metadata, data_version, run_metadata
from assets.reporting import StepReporter
from assets.resources import WorkspaceResource
from fm_platform.errors import FMError

if TYPE_CHECKING:
    from fm_platform.lineage.records import RunContext
    from fm_platform.spec.load import LoadedProject
    from fm_platform.stages.common import StageResult
    from fm_platform.workspace import Workspace

    Materialized = dg.MaterializeResult[None]
else:
    # Dagster knows the annotation of an asset with checks only by the class itself.
    Materialized = dg.MaterializeResult

BuildDay = Callable[..., "StageResult"]
"""(workspace, project, day, run, log) -> result."""
BuildOne = Callable[["Workspace", "RunContext", StepReporter], "StageResult"]

RETRIES = dg.RetryPolicy(
    max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
"""How often and when a step is tried again, after an error that says that this helps."""

_ASKED_BY = (
    ("asked_by", None),
    ("dagster/backfill", "backfill"),
    ("dagster/schedule_name", "schedule"),
    ("dagster/sensor_name", "sensor"),
    ("dagster/from_automation_condition", "sensor"),
)
# Which one it was; the condition's tag says only that there was one.
_WHICH = ("dagster/backfill", "dagster/schedule_name", "dagster/sensor_name")
_ALERT = "alert_id"
_TRAINED = {"adapters", "merged_model"}

_defined: set[str] = set()
"""Runs of this process whose definition is in the ledger."""


def build_days(
    context: dg.AssetExecutionContext,
    resource: WorkspaceResource,
    project: LoadedProject,
    build: BuildDay,
) -> Materialized:
    """Build each day of the run in order of time and describe each day on its own.

    When a day fails, the days before it are reported as materialised: they are in the store.
    """
    stage = stage_of(context.asset_key)
    days = sorted(context.partition_keys)
    reporter = StepReporter(context.log, context.asset_key)
    results: dict[str | None, StageResult] = {}
    with only_retryable_errors_are_retried(context):
        workspace = resource.open()
        run = begin(context, workspace, project)
        for day in days:
            reporter.started(day, len(days))
            try:
                results[day] = build(workspace, project, day, run, reporter)
            except BaseException:
                _report_finished_days(context, project, stage, results, workspace)
                raise
            reporter.finished(day, results[day])
    for day, result in results.items():
        metadata = artifact_metadata(project.spec, stage, result, workspace.home)
        context.add_asset_metadata(metadata, context.asset_key, partition_key=day)
    total = sum(v.rows or 0 for v in workspace.ledger.all_latest(project.spec.name, kind=stage))
    counted = {"dagster/row_count": dg.MetadataValue.int(total)} if total else {}
    return _materialized(context, stage, results, run_metadata(results) | counted)


def build_one(
    context: dg.AssetExecutionContext,
    resource: WorkspaceResource,
    project: LoadedProject,
    build: BuildOne,
    why_left_out: Callable[[Workspace], str | None] = lambda workspace: None,
) -> Materialized:
    """Build an artifact that has no day, or say why there is none to be built."""
    stage = stage_of(context.asset_key)
    reporter = StepReporter(context.log, context.asset_key)
    with only_retryable_errors_are_retried(context):
        workspace = resource.open()
        run = begin(context, workspace, project)
        why = why_left_out(workspace)
        if why is not None:
            reporter.info(why)
            return _left_out(context, stage, why)
        reporter.started(None, 1)
        result = build(workspace, run, reporter)
        reporter.finished(None, result)
    results: dict[str | None, StageResult] = {None: result}
    metadata = artifact_metadata(project.spec, stage, result, workspace.home)
    return _materialized(context, stage, results, metadata | run_metadata(results))


def _left_out(context: dg.AssetExecutionContext, stage: str, why: str) -> Materialized:
    """Return a result without an artifact, so that what lies below is built without it."""
    return dg.MaterializeResult(
        asset_key=context.asset_key,
        metadata={"left_out": dg.MetadataValue.text(why)},
        data_version=dg.DataVersion("left out"),
        check_results=[
            dg.AssetCheckResult(
                passed=True, asset_key=context.asset_key, check_name=name, description=why
            )
            for name in CHECKS.get(stage, {})
        ],
    )


def _materialized(
    context: dg.AssetExecutionContext,
    stage: str,
    results: dict[str | None, StageResult],
    metadata: dict[str, dg.MetadataValue],
) -> Materialized:
    return dg.MaterializeResult(
        asset_key=context.asset_key,
        metadata=metadata,
        data_version=data_version(results),
        check_results=check_results(stage, context.asset_key, results),
    )


def _report_finished_days(
    context: dg.AssetExecutionContext,
    project: LoadedProject,
    stage: str,
    results: dict[str | None, StageResult],
    workspace: Workspace,
) -> None:
    for day, result in results.items():
        metadata: dict[str, Any] = artifact_metadata(project.spec, stage, result, workspace.home)
        context.log_event(
            dg.AssetMaterialization(context.asset_key, partition=day, metadata=metadata)
        )


def begin(
    context: dg.AssetExecutionContext, workspace: Workspace, project: LoadedProject
) -> RunContext:
    """Return who asked for this run; once a run, record and check what the project declares.

    Raises:
        FMError: If something that the run needs is missing or wrong, or the hand-made set of a
            project that trains does not hold: it fails before it builds.
    """
    run = run_of(context)
    if context.run.run_id not in _defined:
        from fm_platform.stages.check import require_ready
        from fm_platform.stages.definition import record_definition

        keys = context.run.asset_selection or context.job_def.asset_layer.executable_asset_keys
        stages = {stage_of(key) for key in keys if key.path[0] == project.spec.name}
        require_ready(project, stages)
        record_definition(workspace, project, run)
        workspace.tracker.publish_spool(again=False)  # also of a run that builds nothing
        if project.spec.unit is not None and stages & _TRAINED:
            from fm_platform.stages.unit import require_unit

            require_unit(workspace, project, run, StepReporter(context.log, context.asset_key))
        _defined.add(context.run.run_id)
    return run


def run_of(context: dg.AssetExecutionContext) -> RunContext:
    """Return who asked for this run, for the ledger."""
    from fm_platform.workspace import run_context

    return run_context(asked_by(context.run.tags), context.run.run_id)


def asked_by(tags: dict[str, str] | Any) -> str:
    """Return who asked, from the tags of a run: a person, or what and which one.

    Example:
        >>> asked_by({"dagster/sensor_name": "missing_days", "alert_id": "12"})
        'sensor:missing_days alert:12'
    """
    found = next((meaning or str(tags[tag]) for tag, meaning in _ASKED_BY if tag in tags), "person")
    which = next((str(tags[tag]) for tag in _WHICH if tag in tags), "")
    words = [f"{found}:{which}" if which and found != "person" else found]
    words += [f"alert:{tags[_ALERT]}"] if _ALERT in tags else []
    return " ".join(words)[:128]


@contextmanager
def only_retryable_errors_are_retried(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Ask for another try after a retryable error; turn every other error into a final failure.

    A retry policy on the asset would also try again what a person has just interrupted.
    """
    try:
        yield
    except Exception as error:
        failure = _failure(context.asset_key, error)
        failure.__cause__ = error
        if isinstance(error, FMError) and error.retryable:
            raise dg.RetryRequested(
                max_retries=RETRIES.max_retries,
                seconds_to_wait=RETRIES.calculate_delay(context.retry_number + 1),
            ) from failure
        raise failure from error


def _failure(key: dg.AssetKey, error: Exception) -> dg.Failure:
    words = str(error) if isinstance(error, FMError) else f"{type(error).__name__}: {error}"
    metadata: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, FMError) and error.next_step:
        metadata["next_step"] = error.next_step
    return dg.Failure(
        description=f"{key.to_user_string()}: {words}", metadata=metadata, allow_retries=False
    )
