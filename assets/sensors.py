"""Sensors that report: a day that was never built, and a run that failed."""

from __future__ import annotations

import dagster as dg

from assets.keys import DAILY_STAGES, keys_of_stages
from assets.partitions import complete_days
from fm_platform.spec import ProjectSpec

CHECK_EVERY_S = 600
_NAMED_DAYS = 10


def missing_days_sensor(spec: ProjectSpec) -> dg.SensorDefinition:
    """Return the sensor that names days of the calendar that are over and not built.

    It starts nothing: a hole may be meant, and a backfill is a person's decision. A schedule that
    was down catches up at most five ticks, so holes do happen.
    """
    key = keys_of_stages(spec, DAILY_STAGES)[-1]

    @dg.sensor(
        name=f"{spec.name}_missing_days",
        asset_selection=dg.AssetSelection.assets(key),
        minimum_interval_seconds=CHECK_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Names days that are over and were never built. Starts nothing.",
    )
    def missing_days(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        built = context.instance.get_materialized_partitions(key)
        missing = find_missing_days(complete_days(spec), built)
        known = set(filter(None, (context.cursor or "").split(",")))
        if new := [day for day in missing if day not in known]:
            context.log.warning(missing_sentence(spec.name, new))
        return dg.SensorResult(
            skip_reason=missing_sentence(spec.name, missing), cursor=",".join(missing)
        )

    return missing_days


def find_missing_days(complete: list[str], built: set[str]) -> list[str]:
    """Return the complete days that are not built; nothing before the first build is missing."""
    return [day for day in complete if day not in built] if built else []


def missing_sentence(project: str, missing: list[str]) -> str:
    """Return one sentence that names the missing days and says how to build them."""
    if not missing:
        return f"No day of {project} is missing."
    named = ", ".join(missing[:_NAMED_DAYS])
    more = f" and {len(missing) - _NAMED_DAYS} more" if len(missing) > _NAMED_DAYS else ""
    days = "day" if len(missing) == 1 else "days"
    return (
        f"{len(missing)} {days} of {project} never built: {named}{more}."
        f" `fm run {project} --from {missing[0]} --to {missing[-1]}` builds them."
    )


@dg.run_failure_sensor(
    name="failed_runs",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes the reason of every failed run of this location to the sensor log.",
)
def failed_runs(context: dg.RunFailureSensorContext) -> None:
    """Name the run, the steps that failed and their reasons in one log entry."""
    context.log.error(failure_sentence(context))


def failure_sentence(context: dg.RunFailureSensorContext) -> str:
    """Return the run, its project and the first line of every failed step's error."""
    run = context.dagster_run
    keys = sorted(run.asset_selection or [])
    project = run.tags.get("project") or (keys[0].path[0] if keys else "-")
    told = [f"{step}: {why}" for step, why in step_failures(context.instance, run.run_id)]
    return f"run {run.run_id} of project {project} failed. " + (
        " ".join(told) or context.failure_event.message or "no step failed"
    )


def step_failures(instance: dg.DagsterInstance, run: str) -> list[tuple[str, str]]:
    """Return of every step of a run that failed its key and the first line of its error."""
    found = []
    for entry in instance.all_logs(run, of_type=dg.DagsterEventType.STEP_FAILURE):
        data = entry.get_dagster_event().step_failure_data
        said = data.user_failure_data.description if data.user_failure_data else None
        error = data.error.message.strip() if data.error else ""
        words = (said or error or "no reason given").splitlines()[0]
        found.append((str(entry.step_key), words))
    return found
