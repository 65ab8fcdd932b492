from __future__ import annotations

import dagster as dg
import pytest

from assets.sensors import failed_runs, failure_sentence, find_missing_days, missing_sentence
from fm_platform.errors import NonFiniteLossError
from tests.assets.conftest import DAYS, FakeStages


@pytest.mark.parametrize(
    ("built", "missing"),
    [(set(), []), ({DAYS[0]}, DAYS[1:]), ({DAYS[0], DAYS[3]}, DAYS[1:3]), (set(DAYS), [])],
    ids=["nothing built yet", "the rest", "a hole", "complete"],
)
def test_missing_days(built: set[str], missing: list[str]) -> None:
    assert find_missing_days(DAYS, built) == missing


def test_sentence_names_the_days_and_the_command() -> None:
    assert missing_sentence("shop", DAYS[1:3]) == (
        "2 days of shop never built: 2024-01-02, 2024-01-03."
        " `fm run shop --from 2024-01-02 --to 2024-01-03` builds them."
    )


def test_sentence_stays_short() -> None:
    words = missing_sentence("shop", [f"2024-01-{day:02}" for day in range(1, 32)])

    assert "and 21 more" in words


def test_sensor_names_a_missing_day(definitions: dg.Definitions, stages: FakeStages) -> None:
    instance = dg.DagsterInstance.ephemeral()
    job = definitions.resolve_job_def("shop_daily")
    for day in (DAYS[0], DAYS[1], DAYS[3]):
        job.execute_in_process(instance=instance, partition_key=day)
    sensor = definitions.resolve_sensor_def("shop_missing_days")

    result = sensor.evaluate_tick(
        dg.build_sensor_context(instance=instance, definitions=definitions)
    )

    assert result.run_requests == []
    assert DAYS[2] in (result.skip_message or "")
    assert result.cursor == DAYS[2]


def test_failure_is_told_in_one_sentence(definitions: dg.Definitions, stages: FakeStages) -> None:
    stages.failing["raw"] = lambda day: NonFiniteLossError("it broke")
    instance = dg.DagsterInstance.ephemeral()
    result = definitions.resolve_job_def("shop_daily").execute_in_process(
        instance=instance, partition_key=DAYS[0], raise_on_error=False
    )
    context = dg.build_run_status_sensor_context(
        sensor_name="failed_runs", dagster_instance=instance, dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
    ).for_run_failure()  # fmt: skip

    words = failure_sentence(context)

    assert words.startswith(f"run {result.run_id} of project shop failed.")
    assert words.endswith("shop/raw: it broke")
    failed_runs(context)
