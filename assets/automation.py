"""When things run by themselves: the daily schedule and the conditions of the model assets."""

from __future__ import annotations

import dagster as dg

from assets.keys import (
    DAILY_STAGES,
    MODEL_STAGES,
    STAGES,
    UP_TO_DATE,
    WATCH,
    keys_of_stages,
    stage_key,
)
from assets.partitions import complete_days
from fm_platform.spec import ProjectSpec

MAX_RUNTIME_S = 6 * 60 * 60


def retrain_condition(daily: dg.AssetSelection) -> dg.AutomationCondition[dg.AssetKey]:
    """Return when a model asset that reads daily tables is built again.

    Some input is new since the last build, every blocking check on the inputs passed, and nothing
    on the way is being built. `AutomationCondition.eager()` would not do: it ignores failed checks
    and, below a daily table, requests nothing as long as one historical day is missing. A missing
    model input still holds it back.
    """
    return (
        (dg.AutomationCondition.any_deps_updated().since_last_handled())
        & dg.AutomationCondition.all_deps_blocking_checks_passed()
        & ~dg.AutomationCondition.any_deps_missing().ignore(daily)
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("retrain_when_inputs_change")


def follow_model_condition(daily: dg.AssetSelection) -> dg.AutomationCondition[dg.AssetKey]:
    """Return when an asset that follows the model is built again: with it, not with each day."""
    return (
        dg.AutomationCondition.any_deps_updated().ignore(daily).since_last_handled()
        & dg.AutomationCondition.all_deps_blocking_checks_passed()
        & ~dg.AutomationCondition.any_deps_missing().ignore(daily)
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("follow_the_model")


def daily_selection(spec: ProjectSpec) -> dg.AssetSelection:
    """Return the daily tables of a project."""
    return dg.AssetSelection.assets(*keys_of_stages(spec, DAILY_STAGES))


def model_selection(spec: ProjectSpec) -> dg.AssetSelection:
    """Return the adapters, the merged model and its evaluation."""
    return dg.AssetSelection.assets(*keys_of_stages(spec, MODEL_STAGES))


def staleness_selection(spec: ProjectSpec) -> dg.AssetSelection:
    """Return the checks that tell what is stale; they belong to no build."""
    return dg.AssetSelection.checks(
        *(dg.AssetCheckKey(key, UP_TO_DATE) for key in keys_of_stages(spec, STAGES))
    )


def _built(spec: ProjectSpec, selection: dg.AssetSelection, watched: bool) -> dg.AssetSelection:
    """Return what a job builds: assets with their own checks, without that of staleness."""
    return selection - staleness_selection(spec) if watched else selection


def staleness_job(spec: ProjectSpec) -> dg.UnresolvedAssetJobDefinition:
    """Return the job that tells what is stale, and why; it builds nothing."""
    return dg.define_asset_job(
        f"{spec.name}_{UP_TO_DATE}",
        selection=staleness_selection(spec),
        description="Tell of every artifact whether it is what is wanted now, and why not.",
        tags=_run_tags(spec),
    )


def staleness_schedule(
    spec: ProjectSpec, job: dg.UnresolvedAssetJobDefinition
) -> dg.ScheduleDefinition:
    """Return the schedule that looks once an hour."""
    return dg.ScheduleDefinition(
        name=f"{spec.name}_{UP_TO_DATE}_hourly",
        job=job,
        cron_schedule="30 * * * *",
        execution_timezone=spec.calendar.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if spec.schedule.enabled
        else dg.DefaultScheduleStatus.STOPPED,
        tags={"asked_by": "schedule", "project": spec.name},
        description="Tells what is stale, and why; it builds nothing.",
    )


def daily_job(spec: ProjectSpec, *, watched: bool = True) -> dg.UnresolvedAssetJobDefinition:
    """Return the job that builds days, and looks at them."""
    return dg.define_asset_job(
        f"{spec.name}_daily",
        selection=_built(spec, daily_selection(spec) | _watch_selection(spec), watched),
        description="Bring in, label, clean and watch the rows of one day or of a range of days.",
        tags=_run_tags(spec),
    )


def _watch_selection(spec: ProjectSpec) -> dg.AssetSelection:
    """Return what looks at days; nobody looks at those of a causal project."""
    watch = [stage_key(spec, WATCH)] if spec.task == "classification" else []
    return dg.AssetSelection.assets(*watch)


def model_job(spec: ProjectSpec, *, watched: bool = True) -> dg.UnresolvedAssetJobDefinition:
    """Return the job that trains, merges and evaluates."""
    return dg.define_asset_job(
        f"{spec.name}_model",
        selection=_built(spec, model_selection(spec), watched),
        description="Train the experts, merge them, evaluate the merged model and decide on it.",
        tags=_run_tags(spec),
    )


def _run_tags(spec: ProjectSpec) -> dict[str, str]:
    return {"project": spec.name, "dagster/max_runtime": str(MAX_RUNTIME_S)}


def daily_schedule(
    spec: ProjectSpec, job: dg.UnresolvedAssetJobDefinition
) -> dg.ScheduleDefinition:
    """Return the schedule that builds each day once with `job`, after it is over.

    The run key is the day, so a tick that comes twice starts one run.
    """

    @dg.schedule(
        name=f"{spec.name}_every_day",
        job=job,
        cron_schedule=spec.schedule.cron,
        execution_timezone=spec.calendar.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if spec.schedule.enabled
        else dg.DefaultScheduleStatus.STOPPED,
        description="Builds the day that has just ended.",
    )
    def newest_day(
        context: dg.ScheduleEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        at = context.scheduled_execution_time
        days = complete_days(spec, at)
        if not days:
            return dg.SkipReason(
                f"The first day of {spec.name}, {spec.calendar.start}, is not over yet."
            )
        end = spec.calendar.end
        # The tick on the day after the end still builds the end; from then on nothing is new.
        if end is not None and (at.date() - end).days > 1:
            return dg.SkipReason(
                f"The calendar of {spec.name} ended on {end}: there is no new day to build."
                " A later calendar.end in defs.yaml goes on."
            )
        return dg.RunRequest(
            run_key=f"{spec.name}:{days[-1]}",
            partition_key=days[-1],
            tags={"asked_by": "schedule", "project": spec.name},
        )

    return newest_day


def automation_sensor(spec: ProjectSpec) -> dg.AutomationConditionSensorDefinition:
    """Return the sensor that evaluates the conditions of the model assets. It starts running."""
    return dg.AutomationConditionSensorDefinition(
        f"{spec.name}_automation",
        target=model_selection(spec),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        run_tags={"asked_by": "sensor", "project": spec.name},
        description="Builds the model again when its data changed and every gate passed.",
    )
