"""One backfill for an alert, whatever happens to the sensor, and a late day brought in again."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import SerializableErrorInfo

from assets.alerting import failed_days, last_ticks
from assets.project import project_definitions
from assets.resources import WorkspaceResource
from fm_platform.errors import NonFiniteLossError
from fm_platform.home import Home
from fm_platform.lineage import alert_events
from fm_platform.lineage.database import now
from fm_platform.monitoring.life import LATE
from fm_platform.monitoring.records import Alert, Cause, Estimate, Impact, Repair
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import alerts as module
from fm_platform.stages.alerts import Desk, Work
from fm_platform.stages.late import Late
from fm_platform.stages.monitors import FailedDay
from fm_platform.workspace import Workspace
from tests.assets.conftest import DAYS, FakeStages


class Killed(BaseException):
    pass


@dataclass
class World:
    desk: Desk
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    looks: list[dg.RunRequest] = field(default_factory=list)

    def tick(self, cursor: str | None, *, submit: bool = True) -> str | None:
        """Evaluate the sensor, and do with its answer what the daemon does."""
        from dagster._daemon.sensor import _submit_backfill_request

        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=cursor,
            definitions=self.definitions,
            resources={"workspace": WorkspaceResource(home=str(self.desk.ws.home.root))},
        )
        found = self.definitions.resolve_sensor_def("shop_drift").evaluate_tick(context)
        for number, request in enumerate(found.run_requests or []):
            if submit and request.tags.get("alert_check"):
                self.looks.append(request)
            elif submit:
                assert request.requires_backfill_daemon()
                id_ = f"b{len(self.instance.get_backfills())}{number}"
                _submit_backfill_request(id_, request, self.instance)
        return found.cursor if submit else cursor


@pytest.fixture
def world(
    project: LoadedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    rules = {"automatic": ("retrain",)}
    spec = project.spec.model_validate({**project.spec.model_dump(), "alerts": rules})
    loaded = LoadedProject(spec, project.directory, project.file)
    monkeypatch.setattr(
        module.Desk, "work", lambda self, repair: Work(repair.days, ("weak_labels",), True)
    )
    home = tmp_path / "home"
    desk = Desk(Workspace.open(Home(home)), loaded)
    repair = Repair(
        "retrain", "Train", "new", (DAYS[1], DAYS[3]), ("adapters",), minutes=1.0, automatic=True
    )
    alert = Alert(
        "shop", DAYS[3], DAYS[1], Cause("source_came", "chat", None, ("chat",)), "chat came", (),
        (), Impact(Estimate(-5, -6, -4, "confidence")), "medium", (repair,),
    )  # fmt: skip
    desk.open([alert], 1)
    with dg.instance_for_test() as instance:
        resources = {"workspace": WorkspaceResource(home=str(home))}
        definitions = dg.Definitions.merge(
            project_definitions(loaded, watched=False), dg.Definitions(resources=resources)
        )
        yield World(desk, definitions, instance)


def test_one_named_backfill_over_exactly_the_days(world: World) -> None:
    cursor = world.tick(None)
    for _ in range(10):
        cursor = world.tick(cursor)
    world.tick(None)  # a lost cursor

    (backfill,) = world.instance.get_backfills()
    (life,) = world.desk.lives().values()
    assert backfill.tags["alert_id"] == life.alert.id
    assert backfill.tags["title"] == "chat came"
    assert "retrain" in backfill.tags["reason"]
    target = backfill.asset_backfill_data.target_subset  # type: ignore[union-attr]
    daily = target.partitions_subsets_by_asset_key[dg.AssetKey(["shop", "weak_labels"])]
    assert sorted(daily.get_partition_keys()) == [DAYS[1], DAYS[3]]
    assert dg.AssetKey(["shop", "merged_model"]) in target.non_partitioned_asset_keys
    assert (life.state, life.run) == ("running", backfill.backfill_id)


def test_after_its_backfill_the_day_is_looked_at_again_and_the_alert_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.execution.backfill import BulkActionStatus
    from dagster._core.test_utils import create_run_for_test

    world.tick(None)
    world.tick(None)
    (backfill,) = world.instance.get_backfills()
    world.instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS))

    world.tick(None)
    (look,) = world.looks
    assert look.partition_key == DAYS[3]
    assert look.asset_selection == [dg.AssetKey(["shop", "watch"])]
    run = create_run_for_test(
        world.instance, tags=dict(look.tags), status=dg.DagsterRunStatus.STARTED
    )
    for _ in range(3):  # it runs: no second one
        world.tick(None)
    assert len(world.looks) == 1
    world.instance.report_run_failed(world.instance.get_run_by_id(run.run_id), "out of disk")  # type: ignore[arg-type]
    for _ in range(10):
        world.tick(None)

    (life,) = world.desk.lives().values()
    assert life.state == "not_repaired"
    assert [event.what for event in life.events].count("not_repaired") == 1
    assert len(world.looks) == len(world.instance.get_backfills()) == 1


def _kill_somewhere(world: World, monkeypatch: pytest.MonkeyPatch, dice: random.Random) -> None:
    """Tick once and die: before or after one of its records, or before the daemon submits."""
    where = dice.choice(["before a record", "after a record", "before it is submitted", "nowhere"])
    if where in ("before it is submitted", "nowhere"):
        world.tick(None, submit=where == "nowhere")
        return
    write, left = alert_events.AlertEvents.record_alert_event, [dice.randint(1, 3)]

    def dying(self: object, *args: object, **given: object) -> bool:
        left[0] -= 1
        if left[0] == 0 and where == "before a record":
            raise Killed
        done = write(self, *args, **given)  # type: ignore[arg-type]
        if left[0] == 0:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(alert_events.AlertEvents, "record_alert_event", dying)
        with contextlib.suppress(Killed):
            world.tick(None, submit=False)


@pytest.mark.parametrize(
    "kills", [6, pytest.param(50, marks=pytest.mark.slow)], ids=["a few", "fifty"]
)
def test_killed_restarted_and_ticked_twice_it_is_one_backfill(
    world: World, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    dice = random.Random(kills)
    for _ in range(kills):
        _kill_somewhere(world, monkeypatch, dice)
        back = timedelta(hours=dice.randint(0, 48))
        monkeypatch.setattr(module, "now", lambda back=back: now() - back)
        assert len(world.instance.get_backfills()) <= 1

    cursor = world.tick(None)
    world.tick(cursor)

    assert len(world.instance.get_backfills()) == 1
    (life,) = world.desk.lives().values()
    assert (life.state, life.attempt) == ("running", 1)


def test_a_late_day_may_have_its_day_watched(world: World) -> None:
    look = Repair("backfill", "Look", "its rows changed", (DAYS[1],), ("watch",), automatic=True)
    late = Alert(
        "shop", DAYS[1], DAYS[1], Cause(LATE, "mail", "x", ("mail",)), "late", (), (),
        Impact(Estimate(0, 0, 0, "none")), "record", (look,),
    )  # fmt: skip
    world.desk.note(late.id, "opened", "opened", {"alert": late.to_json()})
    Late(world.desk)._ask(late, 3, look, "h", "late")
    context = dg.build_sensor_context(
        instance=world.instance, definitions=world.definitions,
        resources={"workspace": WorkspaceResource(home=str(world.desk.ws.home.root))},
    )  # fmt: skip

    found = world.definitions.resolve_sensor_def("shop_late_data").evaluate_tick(context)

    (request,) = found.run_requests or []
    assert request.asset_selection == [dg.AssetKey(["shop", "watch"])]


def test_a_sensor_whose_ticks_fail_does_not_look(world: World) -> None:
    sensor = "shop_drift"
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(
            ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name="m")), "r"
        ),
        sensor,
    )
    state = InstigatorState(
        origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING,
        SensorInstigatorData(last_tick_timestamp=900.0, last_tick_success_timestamp=None),
    )  # fmt: skip
    world.instance.add_instigator_state(state)
    assert last_ticks(world.instance, [sensor]) == {sensor: None}

    broke = SerializableErrorInfo("it broke", [], None)
    for at_s, status, error in (
        (500.0, TickStatus.SKIPPED, None), (900.0, TickStatus.FAILURE, broke),
    ):  # fmt: skip
        world.instance.create_tick(
            TickData(
                state.instigator_origin_id, sensor, InstigatorType.SENSOR, status, at_s,
                selector_id=state.selector_id, error=error,
            )
        )  # fmt: skip

    assert last_ticks(world.instance, [sensor]) == {sensor: 500.0}


def test_a_day_that_failed_is_named_until_a_run_of_it_succeeds(
    world: World, stages: FakeStages
) -> None:
    def run(day: str, works: bool) -> str:
        if not works:
            stages.failing["raw"] = lambda day: NonFiniteLossError("it broke")
        job = world.definitions.resolve_job_def("shop_daily")
        result = job.execute_in_process(
            instance=world.instance, partition_key=day, raise_on_error=False
        )
        stages.failing.clear()
        assert result.success is works
        return result.run_id

    (world.desk.project.directory / "labeling_functions.py").write_text("")
    run(DAYS[0], True)
    second, third = run(DAYS[1], False), run(DAYS[2], False)

    # the days of the test are of long ago: they are the last ones of the calendar
    told: list[FailedDay] = failed_days(world.instance, world.desk)
    assert [(one.day, one.run) for one in told] == [(DAYS[1], second), (DAYS[2], third)]
    assert all(one.ended_s > 1e9 and one.why == "shop/raw: it broke" for one in told)

    run(DAYS[1], True)

    assert [one.day for one in failed_days(world.instance, world.desk)] == [DAYS[2]]


def test_a_project_without_alerts_has_no_such_sensor(project: LoadedProject) -> None:
    names = {sensor.name for sensor in project_definitions(project).sensors or []}

    assert names == {"shop_automation", "shop_missing_days"}
