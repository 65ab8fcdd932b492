from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import dagster as dg
import pytest

from assets.keys import expert_key, keys_of_stages, stage_key
from fm_platform.errors import NonFiniteLossError
from fm_platform.spec.load import LoadedProject
from tests.assets.conftest import DAYS, FakeStages


def at(day: int, hour: int = 2, month: int = 1) -> datetime:
    return datetime(2024, month, day, hour, tzinfo=timezone.utc)


def tick(definitions: dg.Definitions, when: datetime) -> dg.RunRequest | dg.SkipReason:
    schedule = definitions.resolve_schedule_def("shop_every_day")
    context = dg.build_schedule_context(
        scheduled_execution_time=when, repository_def=definitions.get_repository_def()
    )
    data = schedule.evaluate_tick(context)
    if data.run_requests:
        return data.run_requests[0]
    return dg.SkipReason(data.skip_message)


@pytest.mark.parametrize(
    ("when", "day"), [(at(2), DAYS[0]), (at(3, 23), DAYS[1]), (at(5), DAYS[3])]
)
def test_schedule_builds_the_day_that_ended(
    definitions: dg.Definitions, when: datetime, day: str
) -> None:
    request = tick(definitions, when)

    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == day
    assert request.run_key == f"shop:{day}"
    assert request.tags["asked_by"] == "schedule"


def test_two_ticks_for_one_day_have_one_run_key(definitions: dg.Definitions) -> None:
    first, second = tick(definitions, at(3, 2)), tick(definitions, at(3, 14))

    assert isinstance(first, dg.RunRequest)
    assert isinstance(second, dg.RunRequest)
    assert first.run_key == second.run_key


@pytest.mark.parametrize(
    ("when", "words"),
    [(at(1), "is not over yet"), (at(6), "ended on 2024-01-04"), (at(1, month=3), "ended on")],
)
def test_schedule_says_why_it_skips(
    definitions: dg.Definitions, when: datetime, words: str
) -> None:
    reason = tick(definitions, when)

    assert isinstance(reason, dg.SkipReason)
    assert words in (reason.skip_message or "")
    assert (reason.skip_message or "").endswith(".")


def test_schedule_follows_the_file(project: LoadedProject, definitions: dg.Definitions) -> None:
    schedule = definitions.resolve_schedule_def("shop_every_day")

    assert schedule.cron_schedule == project.spec.schedule.cron
    assert schedule.execution_timezone == "UTC"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


class Automation:
    """Runs the daily job and evaluates the conditions, as the daemon would."""

    def __init__(self, definitions: dg.Definitions, spec_keys: Sequence[dg.AssetKey]) -> None:
        self.definitions = definitions
        self.instance = dg.DagsterInstance.ephemeral()
        self.model_keys = set(spec_keys)
        self.last = dg.evaluate_automation_conditions(definitions, self.instance)

    def build_day(self, day: str) -> bool:
        job = self.definitions.resolve_job_def("shop_daily")
        return job.execute_in_process(
            instance=self.instance, partition_key=day, raise_on_error=False
        ).success

    def build_model(self, *keys: dg.AssetKey) -> None:
        job = self.definitions.resolve_job_def("shop_model")
        assert job.execute_in_process(
            instance=self.instance, asset_selection=list(keys) or None
        ).success

    def requested(self) -> set[dg.AssetKey]:
        self.last = dg.evaluate_automation_conditions(
            self.definitions, self.instance, cursor=self.last.cursor
        )
        return {key for key in self.model_keys if self.last.get_num_requested(key)}


@pytest.fixture
def automation(
    definitions: dg.Definitions, project: LoadedProject, stages: FakeStages
) -> Automation:
    keys = keys_of_stages(project.spec, ["adapters", "merged_model", "evaluation"])
    return Automation(definitions, keys)


def test_nothing_is_requested_before_anything_happened(automation: Automation) -> None:
    assert automation.requested() == set()


def test_one_day_with_all_others_missing_requests_the_whole_model(automation: Automation) -> None:
    assert automation.build_day(DAYS[2])

    assert automation.requested() == automation.model_keys
    assert automation.requested() == set()


def test_a_failed_gate_requests_nothing(automation: Automation, stages: FakeStages) -> None:
    stages.failed_checks = {"cleaned.nothing_lost"}
    assert not automation.build_day(DAYS[0])

    assert automation.requested() == set()

    stages.failed_checks = set()
    assert automation.build_day(DAYS[0])
    assert automation.requested() == automation.model_keys


def test_a_failed_gate_upstream_of_cleaned_requests_nothing(
    automation: Automation, stages: FakeStages
) -> None:
    stages.failed_checks = {"raw.contract"}
    assert not automation.build_day(DAYS[0])

    assert automation.requested() == set()


def test_a_model_built_by_hand_is_not_built_again(automation: Automation) -> None:
    assert automation.build_day(DAYS[0])
    automation.build_model()

    assert automation.requested() == set()


def test_new_weak_labels_alone_do_not_evaluate(
    automation: Automation, project: LoadedProject
) -> None:
    automation.build_day(DAYS[0])
    automation.build_model()
    automation.requested()
    job = automation.definitions.resolve_job_def("shop_daily")
    assert job.execute_in_process(
        instance=automation.instance, partition_key=DAYS[1],
        asset_selection=[stage_key(project.spec, "raw"), stage_key(project.spec, "weak_labels")],
    ).success  # fmt: skip

    assert automation.requested() == set()


def test_a_new_expert_is_merged_and_evaluated(
    automation: Automation, project: LoadedProject
) -> None:
    spec = project.spec
    automation.build_day(DAYS[0])
    automation.build_model()
    automation.requested()
    automation.build_model(expert_key(spec, "mail"))

    assert automation.requested() == {
        stage_key(spec, "merged_model"), stage_key(spec, "evaluation"),
    }  # fmt: skip


def test_a_failed_expert_is_not_requested_again_until_data_is_new(
    automation: Automation, stages: FakeStages
) -> None:
    automation.build_day(DAYS[0])
    assert automation.requested() == automation.model_keys
    stages.failing["chat"] = lambda day: NonFiniteLossError("it broke")
    job = automation.definitions.resolve_job_def("shop_model")
    assert not job.execute_in_process(instance=automation.instance, raise_on_error=False).success

    assert automation.requested() == set()

    automation.build_day(DAYS[1])
    assert automation.requested() == automation.model_keys


def test_automation_starts_running(definitions: dg.Definitions) -> None:
    sensor = definitions.resolve_sensor_def("shop_automation")

    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
