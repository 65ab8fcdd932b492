from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets import steps
from assets.keys import DAILY_STAGES, WATCH, keys_of_stages
from assets.steps import asked_by
from fm_platform.errors import NonFiniteLossError, SourceUnavailableError
from fm_platform.home import Home
from fm_platform.spec.load import LoadedProject
from fm_platform.tracking.records import TrainingRecord
from fm_platform.workspace import Workspace
from tests.assets.conftest import DAYS, FakeStages

RANGE = {
    "dagster/asset_partition_range_start": DAYS[0],
    "dagster/asset_partition_range_end": DAYS[-1],
}


def run_days(
    definitions: dg.Definitions, instance: dg.DagsterInstance, **tags: str
) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_job_def("shop_daily")
    return job.execute_in_process(instance=instance, tags={**RANGE, **tags}, raise_on_error=False)


def key(*path: str) -> dg.AssetKey:
    return dg.AssetKey(["shop", *path])


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


def materialization(
    instance: dg.DagsterInstance, asset: dg.AssetKey, day: str
) -> dg.AssetMaterialization:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[day]), limit=1
    ).records
    found = records[0].asset_materialization
    assert found is not None
    return found


def test_a_range_is_one_run_in_order_of_stage_and_day(
    definitions: dg.Definitions, instance: dg.DagsterInstance, stages: FakeStages
) -> None:
    result = run_days(definitions, instance)

    assert result.success
    assert stages.calls == [(stage, day) for stage in (*DAILY_STAGES, WATCH) for day in DAYS]
    assert stages.asked_by == {"person"}
    for stage in DAILY_STAGES:
        assert instance.get_materialized_partitions(key(stage)) == set(DAYS)


def test_what_waits_for_mlflow_is_published_by_a_run_that_builds_nothing(
    definitions: dg.Definitions, instance: dg.DagsterInstance, stages: FakeStages, tmp_path: Path
) -> None:
    stages.reused = True
    tracker = Workspace.open(Home(tmp_path / "home")).tracker
    tracker.spool.add(TrainingRecord("shop", "a" * 64, "b" * 64, 0, 1, name="mail"))

    assert run_days(definitions, instance).success

    assert tracker.spool.entries() == []


def test_each_day_of_a_range_has_its_own_metadata(
    definitions: dg.Definitions, instance: dg.DagsterInstance, stages: FakeStages
) -> None:
    run_days(definitions, instance)

    hashes = {
        str(materialization(instance, key("raw"), day).metadata["content_hash"].value)
        for day in DAYS
    }
    assert len(hashes) == len(DAYS)


def test_data_version_and_code_version_are_ours(
    definitions: dg.Definitions, instance: dg.DagsterInstance, stages: FakeStages
) -> None:
    job = definitions.resolve_job_def("shop_daily")
    assert job.execute_in_process(instance=instance, partition_key=DAYS[0]).success

    found = materialization(instance, key("cleaned"), DAYS[0])
    assert found.tags is not None
    assert found.tags["dagster/data_version"] == found.metadata["content_hash"].value
    specs = {spec.key: spec for spec in definitions.resolve_all_asset_specs()}
    assert found.tags["dagster/code_version"] == specs[key("cleaned")].code_version


def test_a_failed_blocking_check_stops_what_is_downstream(
    definitions: dg.Definitions, instance: dg.DagsterInstance, stages: FakeStages
) -> None:
    stages.failed_checks = {"weak_labels.label_coverage"}

    assert not run_days(definitions, instance).success
    assert {name for name, _ in stages.calls} == {"raw", "weak_labels"}


def test_a_failed_warning_stops_nothing(
    definitions: dg.Definitions, instance: dg.DagsterInstance, stages: FakeStages
) -> None:
    stages.failed_checks, stages.blocking = {"weak_labels.label_coverage"}, False

    assert run_days(definitions, instance).success


def test_days_before_the_failing_one_are_reported(
    definitions: dg.Definitions, instance: dg.DagsterInstance, stages: FakeStages
) -> None:
    stages.failing["cleaned"] = lambda day: (
        NonFiniteLossError("it broke", next_step="mend it") if day == DAYS[2] else None
    )

    result = run_days(definitions, instance)

    assert not result.success
    assert instance.get_materialized_partitions(key("cleaned")) == set(DAYS[:2])
    failure = next(e for e in result.all_events if e.is_step_failure).step_failure_data
    assert failure.user_failure_data is not None
    assert failure.user_failure_data.description == "shop/cleaned: it broke\n  next: mend it"


@pytest.mark.parametrize("error", [NonFiniteLossError("no"), ValueError("a bug")], ids=repr)
def test_an_error_that_stays_is_not_tried_again(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    stages: FakeStages,
    error: Exception,
) -> None:
    stages.failing["raw"] = lambda day: error

    assert not run_days(definitions, instance).success
    assert stages.calls == [("raw", DAYS[0])]


def test_a_retryable_error_is_tried_again(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    stages: FakeStages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert steps.RETRIES.delay
    monkeypatch.setattr(steps, "RETRIES", dg.RetryPolicy(max_retries=1, delay=0.01))
    errors: list[Exception] = [SourceUnavailableError("come back later")]
    stages.failing["raw"] = lambda day: errors.pop() if errors else None

    assert run_days(definitions, instance).success
    assert stages.calls[:2] == [("raw", DAYS[0])] * 2


def test_model_assets_run_after_one_another(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    stages: FakeStages,
    project: LoadedProject,
) -> None:
    result = definitions.resolve_job_def("shop_model").execute_in_process(instance=instance)

    assert result.success
    names = [name for name, _ in stages.calls]
    assert names[0] == "shared_start"
    assert set(names[1:3]) == {"mail", "chat"}
    assert names[3:] == ["merged_model", "evaluation"]
    made = {e.asset_key for e in result.get_asset_materialization_events()}
    assert made == set(keys_of_stages(project.spec, ["adapters", "merged_model", "evaluation"]))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, "person"),
        ({"asked_by": "sensor"}, "sensor"),
        ({"dagster/schedule_name": "x"}, "schedule:x"),
        ({"asked_by": "schedule", "dagster/schedule_name": "x"}, "schedule:x"),
        ({"dagster/backfill": "x", "dagster/sensor_name": "y"}, "backfill:x"),
        ({"dagster/sensor_name": "drift", "alert_id": "12"}, "sensor:drift alert:12"),
        ({"dagster/sensor_name": "s" * 200}, "sensor:" + "s" * 121),
        ({"dagster/from_automation_condition": "true"}, "sensor"),
    ],
)
def test_who_asked_is_read_from_the_tags(tags: dict[str, str], expected: str) -> None:
    assert asked_by(tags) == expected
