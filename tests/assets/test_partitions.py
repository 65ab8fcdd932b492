from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone

import pytest

from assets.partitions import complete_days, daily_partitions
from fm_platform.spec import ProjectSpec
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.probe import project_days
from tests.assets.conftest import DAYS


def test_calendar_end_is_included(project: LoadedProject) -> None:
    assert list(daily_partitions(project.spec).get_partition_keys()) == DAYS


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2024, 1, 1, 12, tzinfo=timezone.utc), []),
        (datetime(2024, 1, 2, 0, tzinfo=timezone.utc), DAYS[:1]),
        (datetime(2024, 1, 4, 23, tzinfo=timezone.utc), DAYS[:3]),
        (datetime(2024, 1, 5, 0, tzinfo=timezone.utc), DAYS),
        (datetime(2030, 1, 1, tzinfo=timezone.utc), DAYS),
    ],
    ids=["during the first day", "after it", "during the last day", "after it all", "years later"],
)
def test_only_days_that_are_over_are_complete(
    project: LoadedProject, at: datetime, expected: list[str]
) -> None:
    assert complete_days(project.spec, at) == expected


@pytest.mark.parametrize("hours", range(0, 120, 7))
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Los_Angeles"])
@pytest.mark.parametrize("end", ["2024-01-04", None])
def test_the_library_wants_the_days_that_dagster_can_build(
    project: LoadedProject, hours: int, zone: str, end: str | None
) -> None:
    # a day that is not over was shown as never built, for ever, and no model was ever fresh
    values = project.spec.model_dump()
    values["calendar"] = {"start": "2024-01-01", "end": end, "timezone": zone}
    spec = ProjectSpec.model_validate(values)
    at = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(hours=hours)

    assert project_days(dataclasses.replace(project, spec=spec), at) == complete_days(spec, at)


def test_one_day_calendar(project: LoadedProject) -> None:
    values = project.spec.model_dump()
    values["calendar"]["end"] = values["calendar"]["start"]
    spec = ProjectSpec.model_validate(values)

    assert list(daily_partitions(spec).get_partition_keys()) == DAYS[:1]


def test_day_light_saving_skips_and_repeats_no_day(project: LoadedProject) -> None:
    values = project.spec.model_dump()
    values["calendar"] = {"start": "2024-03-30", "end": "2024-04-01", "timezone": "Europe/Berlin"}
    spec = ProjectSpec.model_validate(values)

    assert list(daily_partitions(spec).get_partition_keys()) == [
        "2024-03-30", "2024-03-31", "2024-04-01",
    ]  # fmt: skip
