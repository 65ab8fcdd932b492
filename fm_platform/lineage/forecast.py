"""What a run would compute, counted by stage, with the minutes that it took before.

Counted from `status.plan`, so from the ledger's own view of what is stale: nothing is read and
nothing is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.recorded import durations
from fm_platform.lineage.records import Slot
from fm_platform.lineage.status import StatusRow

__all__ = ["Forecast", "StageForecast", "forecast"]


@dataclass(frozen=True)
class StageForecast:
    """What a run would do in one stage.

    Attributes:
        kind: `raw`, `votes`, … `evaluation`.
        build: Artifacts that are computed for certain.
        carry: Artifacts that are carried over to the classes of today.
        reuse: Artifacts that the same recipe made before.
        check: Artifacts that are computed only if something above them comes out changed.
        names: Name -> how many of it are computed for certain, for stages with several.
        first_day / last_day: Between which days all of these lie; None for models.
        days: On how many days.
        minutes: Of `build`, from what they took before; None where nothing like it ever ran.
        minutes_at_most: The same with `check`.
    """

    kind: str
    build: int
    carry: int
    reuse: int
    check: int
    names: Mapping[str, int]
    first_day: str | None
    last_day: str | None
    days: int
    minutes: float | None
    minutes_at_most: float | None


@dataclass(frozen=True)
class Forecast:
    """The stages of a plan in build order, and their sum."""

    stages: tuple[StageForecast, ...]

    @property
    def minutes(self) -> float:
        """Minutes of what is built for certain, as far as they are known."""
        return sum(stage.minutes or 0.0 for stage in self.stages)

    @property
    def minutes_at_most(self) -> float:
        """Minutes where everything that is checked is built as well."""
        return sum(stage.minutes_at_most or 0.0 for stage in self.stages)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Stages that never ran, so that nothing is known of their minutes."""
        return tuple(stage.kind for stage in self.stages if stage.minutes is None)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "minutes": round(self.minutes, 2),
            "minutes_at_most": round(self.minutes_at_most, 2),
            "stages": [
                {
                    "kind": s.kind, "build": s.build, "carry": s.carry, "reuse": s.reuse,
                    "check": s.check, "names": dict(s.names), "days": s.days,
                    "first_day": s.first_day, "last_day": s.last_day, "minutes": _round(s.minutes),
                    "minutes_at_most": _round(s.minutes_at_most),
                }
                for s in self.stages
            ],
        }  # fmt: skip


def forecast(ledger: Ledger, project: str, planned: Sequence[StatusRow]) -> Forecast:
    """Count a plan.

    Args:
        ledger: The record, for how long things took.
        project: Whose plan.
        planned: Rows of `status.plan`.
    """
    took = durations(ledger, project) if planned else {}
    stages: dict[str, list[StatusRow]] = {}
    for row in planned:
        stages.setdefault(row.kind, []).append(row)
    return Forecast(tuple(_stage(kind, rows, took) for kind, rows in stages.items()))


def _stage(kind: str, rows: Sequence[StatusRow], took: Mapping[Slot, float]) -> StageForecast:
    by_action: dict[str, list[StatusRow]] = {}
    for row in rows:
        by_action.setdefault(row.action, []).append(row)
    built, checked = by_action.get("build", []), by_action.get("check", [])
    names: dict[str, int] = {}
    for row in built:
        names[row.name] = names.get(row.name, 0) + 1
    days = sorted({row.partition for row in rows if row.partition})
    sure = _minutes(built, took)
    at_most = _minutes([*built, *checked], took)
    return StageForecast(
        kind, len(built), len(by_action.get("carry", [])), len(by_action.get("reuse", [])),
        len(checked), dict(sorted(names.items())), days[0] if days else None,
        days[-1] if days else None, len(days), sure, at_most,
    )  # fmt: skip


def _minutes(rows: Sequence[StatusRow], took: Mapping[Slot, float]) -> float | None:
    """Return what these took before: each itself, else its name, else its kind at the median."""
    total = 0.0
    for row in rows:
        known = took.get((row.kind, row.name, row.partition))
        if known is None:
            alike = [s for (k, n, _), s in took.items() if (k, n) == (row.kind, row.name)]
            alike = alike or [s for (k, _, _), s in took.items() if k == row.kind]
            if not alike:
                return None
            known = median(alike)
        total += known
    return total / 60


def _round(minutes: float | None) -> float | None:
    return None if minutes is None else round(minutes, 3)
