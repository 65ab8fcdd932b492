"""Sensors that act: on alerts, on rows that come late, and on notices that wait.

What they know is in the ledger, not in their cursors: a tick that is done twice, a cursor that is
lost or a clock that was set back changes nothing. A repair is recorded as asked for before it is
requested, and requested only while Dagster holds no backfill or run with its alert and attempt.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, TickStatus
from dagster._core.storage.tags import PARTITION_NAME_TAG

from assets.backfills import backfill_requests, existing_backfill, how_it_ended, will_retry
from assets.keys import MODEL_STAGES, STAGES, WATCH, keys_of_stages, stage_key
from assets.partitions import complete_days, daily_partitions
from assets.resources import WorkspaceResource
from assets.sensors import step_failures
from fm_platform.display import plain
from fm_platform.spec import ProjectSpec
from fm_platform.spec.load import LoadedProject

if TYPE_CHECKING:
    from fm_platform.monitoring.life import Life
    from fm_platform.stages.alerts import Desk
    from fm_platform.stages.monitors import FailedDay


def alert_sensors(project: LoadedProject) -> list[dg.SensorDefinition]:
    """Return the sensors of a project that declares `alerts`; none of another."""
    if project.spec.alerts is None:
        return []
    return [drift_sensor(project), late_data_sensor(project), notices_sensor(project)]


def drift_sensor(project: LoadedProject) -> dg.SensorDefinition:
    """Return the sensor that takes in new findings and has repairs run."""
    spec = project.spec

    @dg.sensor(
        name=f"{spec.name}_drift",
        asset_selection=dg.AssetSelection.assets(
            *keys_of_stages(spec, STAGES), stage_key(spec, WATCH)
        ),
        minimum_interval_seconds=_every_s(spec),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Opens alerts, has each repair run once, and judges whether it helped.",
    )
    def drift(context: dg.SensorEvaluationContext, workspace: WorkspaceResource) -> dg.SensorResult:
        from fm_platform.stages.alerts import Desk

        desk = Desk(workspace.open(), project)
        after = desk.take_in(int(context.cursor or 0))
        follow(context.instance, desk, list(desk.lives().values()))
        requests = look_again(context.instance, spec, desk)
        requests += launch(context.instance, spec, desk, desk.due())
        return _result(requests, str(after), "no repair is due")

    return drift


def late_data_sensor(project: LoadedProject) -> dg.SensorDefinition:
    """Return the sensor that has a day built again when its rows came late."""
    spec = project.spec

    @dg.sensor(
        name=f"{spec.name}_late_data",
        asset_selection=dg.AssetSelection.assets(
            *keys_of_stages(spec, STAGES), stage_key(spec, WATCH)
        ),
        minimum_interval_seconds=_every_s(spec),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Brings in days whose source changed, then what depends on their rows.",
    )
    def late_data(
        context: dg.SensorEvaluationContext, workspace: WorkspaceResource
    ) -> dg.SensorResult:
        from fm_platform.stages.alerts import Desk
        from fm_platform.stages.late import Late

        desk = Desk(workspace.open(), project)
        late = Late(desk)
        late.look()
        follow(context.instance, desk, late.lives())
        return _result(launch(context.instance, spec, desk, late.due()), None, "nothing came late")

    return late_data


def notices_sensor(project: LoadedProject) -> dg.SensorDefinition:
    """Return the sensor that sends what waits, and looks after the other sensors."""
    spec = project.spec

    @dg.sensor(
        name=f"{spec.name}_notices",
        asset_selection=dg.AssetSelection.assets(*keys_of_stages(spec, ("raw",))),
        minimum_interval_seconds=_every_s(spec),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people of alerts; opens one where a monitor does not watch.",
    )
    def notices(
        context: dg.SensorEvaluationContext, workspace: WorkspaceResource
    ) -> dg.SensorResult:
        from fm_platform.stages.alerts import Desk
        from fm_platform.stages.monitors import up_since, watch_monitors
        from fm_platform.stages.notices import deliver

        desk = Desk(workspace.open(), project)
        ticks = last_ticks(context.instance, [f"{spec.name}_drift", f"{spec.name}_late_data"])
        last_s = context.last_tick_completion_time
        up_s = up_since(context.cursor, last_s, time.time(), desk.policy)
        watch_monitors(desk, ticks, up_s, failed_days(context.instance, desk))
        done = deliver(desk)
        for problem in done.problems:
            context.log.warning(problem)
        return _result([], str(up_s), f"{done.sent} sent, {done.waiting} wait")

    return notices


def launch(
    instance: dg.DagsterInstance, spec: ProjectSpec, desk: Desk, due: Sequence[Life]
) -> list[dg.RunRequest]:
    """Return what must be requested; note what runs already."""
    requests: list[dg.RunRequest] = []
    for life in due:
        asked = life.last("asked")
        if asked is None:
            continue
        tags = _tags(life)
        if run := existing_backfill(instance, tags):
            desk.running(life, run)
            continue
        models = keys_of_stages(spec, MODEL_STAGES) if asked.body["models"] else []
        known = set(complete_days(spec))
        stages = list(asked.body["stages"])
        watch = [stage_key(spec, WATCH)] if WATCH in stages else []
        requests += backfill_requests(
            [*keys_of_stages(spec, stages), *watch],
            daily_partitions(spec),
            [day for day in asked.body["days"] if day in known],
            models=models,
            reason=plain(asked.reason),
            run_key=f"{life.alert.id}:{life.attempt}",
            tags={**tags, "title": plain(life.alert.title), "project": spec.name},
        )
    return requests


def look_again(instance: dg.DagsterInstance, spec: ProjectSpec, desk: Desk) -> list[dg.RunRequest]:
    """Have the day of each repaired alert looked at again; close those that were."""
    requests: list[dg.RunRequest] = []
    for life in desk.checking():
        tags = {**_tags(life), "alert_check": "true"}
        if existing_backfill(instance, tags) is None:
            requests += backfill_requests(
                [stage_key(spec, WATCH)],
                daily_partitions(spec),
                [life.alert.day],
                reason=plain(f"did it help? {life.alert.title}"),
                run_key=f"{life.alert.id}:{life.attempt}:check",
                tags={**tags, "title": plain(life.alert.title), "project": spec.name},
            )
            continue
        if (success := how_it_ended(instance, "", tags)) is not None:
            desk.close(life, success, "its run failed; see the runs of this alert in Dagster")
    return requests


def _tags(life: Life) -> dict[str, str]:
    return {"alert_id": life.alert.id, "alert_attempt": str(life.attempt)}


def follow(instance: dg.DagsterInstance, desk: Desk, lives: Sequence[Life]) -> None:
    """Note the repairs that ended."""
    for life in lives:
        if life.state != "running":
            continue
        if (success := how_it_ended(instance, life.run, _tags(life))) is not None:
            words = "all of it was built" if success else f"see {life.run} in Dagster"
            desk.finished(life, success, words)


def last_ticks(instance: dg.DagsterInstance, names: Sequence[str]) -> dict[str, float | None]:
    """Return when sensors last ticked, or began to where they did not yet, seconds since 1970.

    A tick that failed is none.
    """
    found: dict[str, float | None] = {}
    for state in instance.all_instigator_state():
        if state.instigator_name in names:
            data = state.instigator_data
            ticked = getattr(data, "last_tick_timestamp", None)
            began = getattr(data, "last_sensor_start_timestamp", None)
            if ticked and getattr(data, "last_tick_success_timestamp", None) is None:
                ticked = _last_good_tick(instance, state)
            found[state.instigator_name] = ticked or began
    return found


def _last_good_tick(instance: dg.DagsterInstance, state: InstigatorState) -> float | None:
    good = instance.get_ticks(
        state.instigator_origin_id, state.selector_id, limit=1,
        statuses=[TickStatus.SUCCESS, TickStatus.SKIPPED],
    )  # fmt: skip
    return good[0].timestamp if good else None


def failed_days(instance: dg.DagsterInstance, desk: Desk) -> list[FailedDay]:
    """Return those of the last days whose newest run of the daily job failed."""
    from fm_platform.stages.monitors import FailedDay

    spec, found = desk.project.spec, []
    days = complete_days(spec)[-max(desk.policy.late_days, 1) :]
    runs = dg.RunsFilter(
        job_name=f"{spec.name}_daily", tags={PARTITION_NAME_TAG: days},
        created_after=datetime.now(timezone.utc) - timedelta(days=desk.policy.late_days + 1),
    )  # fmt: skip
    newest: dict[str, dg.RunRecord] = {}
    for record in instance.get_run_records(runs):  # newest first
        newest.setdefault(record.dagster_run.tags[PARTITION_NAME_TAG], record)
    for day, record in sorted(newest.items()):
        run = record.dagster_run
        if run.status != dg.DagsterRunStatus.FAILURE or will_retry(run):
            continue
        told = [why for _, why in step_failures(instance, run.run_id)] or ["no step failed"]
        found.append(FailedDay(day, run.run_id, record.end_time or 0.0, "; ".join(told)))
    return found


def _every_s(spec: ProjectSpec) -> int:
    return spec.alerts.check_every_s if spec.alerts else 60


def _result(requests: list[dg.RunRequest], cursor: str | None, idle: str) -> dg.SensorResult:
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=cursor)
    return dg.SensorResult(skip_reason=idle, cursor=cursor)
