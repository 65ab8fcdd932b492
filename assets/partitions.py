"""Daily partitions from a project's calendar."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

from fm_platform.spec import ProjectSpec

DAY = "%Y-%m-%d"


def daily_partitions(spec: ProjectSpec) -> dg.DailyPartitionsDefinition:
    """Return one partition a day from `calendar.start` to `calendar.end`, both included.

    Without an end there is a partition for every complete day until now.
    """
    end = spec.calendar.end
    return dg.DailyPartitionsDefinition(
        start_date=spec.calendar.start.strftime(DAY),
        # Dagster's end is the end of the last window, hence the day after.
        end_date=(end + timedelta(days=1)).strftime(DAY) if end else None,
        timezone=spec.calendar.timezone,
        fmt=DAY,
    )


def complete_days(spec: ProjectSpec, at: datetime | None = None) -> list[str]:
    """Return the days of the calendar that are over at `at` (default: now), in order."""
    return list(daily_partitions(spec).get_partition_keys(current_time=at))
