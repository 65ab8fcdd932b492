"""Findings: the metrics of a day that left their bands.

The band of a metric follows from how far past days lay from the same reference. A metric that is
restless, or is so on that weekday, gets a wider one. All tests of a day are corrected together
(Holm 1979), so that the chance of any false finding on a quiet day stays below `false_alarms`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from fm_platform.monitoring.compare import (
    LEAST_ROWS,
    POOLED,
    Comparison,
    Key,
    compare,
    rows_by_source,
)
from fm_platform.monitoring.profile import Profile
from fm_platform.monitoring.records import ALL, Band, Finding, Move
from fm_platform.monitoring.reference import Reference

_PRIOR_DAYS = 20.0
"""Days of mere chance that count beside the past ones, so that a short past is no certainty."""
_OUTLIER = 25.0
"""Surprise of one past day counts as this at most: a past shift must not widen the band."""
_SAME_WEEKDAYS = 2
_REFITTED = (
    "confidence:weak", "confidence_nulls:weak", "label:weak", "accuracy:weak", "conflict:",
)  # fmt: skip
"""What a label model says that is fitted again each day: how restless that is, days must show."""
_LEAST_DAYS = 3
_GOES_ON = 0.01
"""Chance below which an earlier day belongs to the run that a finding ends."""

LEAST_EFFECT: Mapping[str, float] = {
    "column": 0.05, "column_nulls": 0.03, "length": 0.08, "length_nulls": 0.03, "terms": 0.04,
    "language": 0.05, "duplicates": 0.05, "embedding": 0.5, "function": 0.05, "conflict": 0.10,
    "label": 0.06, "confidence": 0.03, "confidence_nulls": 0.05, "answer": 0.06,
    "agreement": 0.06, "accuracy": 0.06, "rows": 0.3,
}  # fmt: skip
"""Smallest effect that is a finding, by family: KS, change of a share or confidence, deviations."""


@dataclass(frozen=True)
class Settings:
    """How sure a finding must be.

    Attributes:
        false_alarms: False findings on 100 quiet days, at most.
        history_days: Past days that bands are learned from, at most.
        least_rows: Rows a new source needs to be one.
        effects: Family -> smallest effect, where it differs from `LEAST_EFFECT`.
        accepted: (metric, slice) or (metric, `all`) that are not looked at any more.
    """

    false_alarms: float = 0.5
    history_days: int = 56
    least_rows: int = LEAST_ROWS
    effects: Mapping[str, float] = field(default_factory=dict)
    accepted: frozenset[Key] = frozenset()


@dataclass(frozen=True)
class Measured:
    """One day beside a reference: what bands of later days are learned from.

    Attributes:
        day: The day.
        compared: (metric, slice) -> comparison.
        flagged: Those that were findings: they teach nothing.
    """

    day: str
    compared: Mapping[Key, Comparison]
    flagged: frozenset[Key] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, without what moved; `from_json` reads them."""
        return {
            "day": self.day,
            "flagged": sorted([list(key) for key in self.flagged]),
            "compared": [
                [*key, one.kind, one.before, one.after, one.distance, one.surprise, one.rows]
                for key, one in sorted(self.compared.items())
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measured:
        """Return what `to_json` wrote."""
        compared = {
            (metric, name): Comparison(kind, before, after, distance, surprise, ("", 0.0), rows)
            for metric, name, kind, before, after, distance, surprise, rows in value["compared"]
        }
        flagged = frozenset((metric, name) for metric, name in value["flagged"])
        return cls(value["day"], compared, flagged)


def measured(day: Profile, reference: Reference) -> Measured:
    """Compare one day with a reference, whether it is part of it or came later."""
    inside = day.day in reference.days
    compared = compare(day, reference.profile, inside=inside)
    return Measured(day.day, {**compared, **rows_by_source(day)})


def past_of(reference: Reference) -> list[Measured]:
    """Return the days of a reference beside the rest of it, oldest first."""
    return [measured(day, reference) for day in reference.daily]


def detect(
    day: Measured, past: Sequence[Measured], reference: Reference, settings: Settings | None = None
) -> list[Finding]:
    """Return the findings of a day, the surest first.

    Args:
        day: The day beside the reference.
        past: Earlier days beside the same reference, and those of the reference, oldest first.
        reference: What the live model was trained on.
        settings: How sure a finding must be.
    """
    rule = settings or Settings()
    known = [item for item in past if item.day < day.day][-rule.history_days :]
    tests: list[tuple[Key, Comparison, float, Band]] = []
    for key in sorted(day.compared):
        if key in rule.accepted or (key[0], ALL) in rule.accepted:
            continue
        comparison = day.compared[key]
        if key[0] == "rows:source":
            tests += _volume(key, comparison, day.day, known, rule, reference)
        else:
            chance, band = _chance(key, comparison, day.day, known)
            if key[0] in POOLED:  # that more is right than before is no trouble
                chance = chance / 2 if _fell(comparison) else 1.0
            if band.days < _LEAST_DAYS and key[0].startswith(_REFITTED):
                continue
            tests.append((key, comparison, chance, band))
    tests += _gone(day, known, rule, reference)
    corrected = _corrected([(key, chance) for key, _, chance, _ in tests])
    limit = rule.false_alarms / 100.0
    found = []
    for (key, comparison, chance, band), after in zip(tests, corrected, strict=True):
        if after > limit or comparison.distance < _least(key, rule):
            continue
        found.append(_finding(key, comparison, chance, after, band, day, known, reference))
    return sorted(found, key=lambda one: (one.corrected, -one.distance, one.key))


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values that hold for all tests together (Holm 1979), in the same order.

    Example:
        >>> holm([0.01, 0.5, 0.02])
        [0.03, 0.5, 0.04]
    """
    order = np.argsort(np.asarray(chances), kind="stable")
    result = [1.0] * len(chances)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[int(i)]))
        result[int(i)] = largest
    return result


def _fell(comparison: Comparison) -> bool:
    """Whether less is right than before."""
    return any(move.value == "right" and move.change < 0 for move in comparison.moves)


def _corrected(tests: Sequence[tuple[Key, float]]) -> list[float]:
    """Return p-values for all tests together: half of the risk is kept for the few that matter.

    What people say of all answers and labels has a quarter; the same source by source, and how many
    rows came, another. They would drown among all columns.
    """
    kinds = [
        (0 if key[1] == ALL else 1) if key[0] in POOLED else 1 if key[0] == "rows:source" else 2
        for key, _ in tests
    ]
    result = [1.0] * len(tests)
    for kind, parts in ((0, 4.0), (1, 4.0), (2, 2.0)):
        spots = [i for i, own in enumerate(kinds) if own == kind]
        for i, value in zip(spots, holm([tests[i][1] for i in spots]), strict=True):
            result[i] = min(1.0, parts * value)
    return result


def _least(key: Key, rule: Settings) -> float:
    family = key[0].partition(":")[0]
    return rule.effects.get(family, LEAST_EFFECT.get(family, 0.05))


def _weekday(day: str) -> int:
    return date.fromisoformat(day).weekday()


def _chance(
    key: Key, comparison: Comparison, day: str, past: Sequence[Measured]
) -> tuple[float, Band]:
    """Return the chance of such a day, given how restless the metric was, and its band."""
    held = [
        (item.day, item.compared[key])
        for item in past
        if key in item.compared and key not in item.flagged
    ]
    seen = [min(one.surprise, _OUTLIER) for _, one in held]
    freedom = _PRIOR_DAYS + len(seen)
    scale = max((_PRIOR_DAYS + sum(seen)) / freedom, 1.0)
    same = [one.surprise for other, one in held if _weekday(other) == _weekday(day)]
    weekday = len(same) >= _SAME_WEEKDAYS and float(np.median(same)) > scale
    if weekday:  # it is always so on this weekday
        scale = float(np.median(same))
    from scipy.stats import f

    chance = float(f.sf(comparison.surprise / scale, 1, freedom))
    bound = float(f.isf(1e-5, 1, freedom)) * scale
    reach = comparison.distance * math.sqrt(bound / max(comparison.surprise, 1e-9))
    nearest = sorted(
        held,
        key=lambda pair: (
            _weekday(pair[0]) != _weekday(day),
            -date.fromisoformat(pair[0]).toordinal(),
        ),
    )[:3]
    return chance, Band(
        0.0, min(reach, 1.0) if comparison.kind != "vectors" else reach, scale, len(held),
        tuple((other, one.distance) for other, one in nearest), weekday,
    )  # fmt: skip


def _volume(
    key: Key,
    comparison: Comparison,
    day: str,
    past: Sequence[Measured],
    rule: Settings,
    reference: Reference,
) -> list[tuple[Key, Comparison, float, Band]]:
    """Test the rows of a source against past days of the same weekday, or of all where few."""
    now = comparison.after
    if key[1] == ALL:
        return []
    if not reference.profile.rows.get(key[1], 0):  # the model has never seen it
        if now < rule.least_rows:
            return []
        came = Comparison("came", 0.0, now, 1.0, 1e4, ("rows", now), int(now))
        return [(key, came, 0.0, Band(0.0, 0.0, days=len(past)))]
    history = [(item.day, item.compared[key].after) for item in past if key in item.compared]
    history = [(other, rows) for other, rows in history if rows > 0]
    flagged = {item.day for item in past if key in item.flagged}
    usual = [(other, rows) for other, rows in history if other not in flagged] or history
    same = [(other, rows) for other, rows in usual if _weekday(other) == _weekday(day)]
    weekday = len(same) >= 3
    used = same if weekday else usual
    if len(used) < 3:
        return []
    logs = np.log([rows for _, rows in used])
    centre = float(np.median(logs))
    spread = float(1.4826 * np.median(np.abs(logs - centre)))
    # counts vary by chance and days by a little more, even where the past days were all alike
    spread = math.sqrt(max(spread, 0.05) ** 2 + 1 / math.exp(centre))
    from scipy.stats import t

    deviate = (math.log(max(now, 0.5)) - centre) / spread
    chance = float(2 * t.sf(abs(deviate), len(used) + 5))
    before = math.exp(centre)
    ratio = now / before
    kind = "gone" if now == 0 else "volume"
    low, high = (math.exp(centre + sign * 4.5 * spread) for sign in (-1, 1))
    changed = Comparison(
        kind, before, now, min(abs(math.log(max(ratio, 1e-3))), 1.0), deviate * deviate,
        ("z of log rows", deviate), int(now),
    )  # fmt: skip
    return [(key, changed, chance, Band(low, high, 1.0, len(used), tuple(used[-3:]), weekday))]


def _gone(
    day: Measured, past: Sequence[Measured], rule: Settings, reference: Reference
) -> list[tuple[Key, Comparison, float, Band]]:
    """Test the sources that past days had and this day does not name at all."""
    before = {key for item in past for key in item.compared if key[0] == "rows:source"}
    nothing = Comparison("gone", 0.0, 0.0, 1.0, 0.0, ("rows", 0.0), 0)
    return [
        test
        for key in sorted(before - set(day.compared))
        for test in _volume(key, nothing, day.day, past, rule, reference)
    ]


def _finding(
    key: Key, comparison: Comparison, chance: float, corrected: float, band: Band,
    day: Measured, past: Sequence[Measured], reference: Reference,
) -> Finding:  # fmt: skip
    since = day.day
    for item in reversed(past):
        if item.day in reference.days or key not in item.compared:
            break
        if key[0] == "rows:source":
            goes_on = key in item.flagged
        else:
            goes_on = _chance(key, item.compared[key], item.day, ())[0] < _GOES_ON * 0.1
        if not goes_on:
            break
        since = item.day
    return Finding(
        metric=key[0], slice=key[1], kind=comparison.kind, day=day.day, since=since,
        before=comparison.before, after=comparison.after, moves=comparison.moves,
        rows=comparison.rows, statistic=comparison.statistic, distance=comparison.distance,
        p_value=chance, corrected=corrected, band=band,
    )  # fmt: skip


def moved(finding: Finding) -> Move | None:
    """Return the value that moved most, or None."""
    return finding.moves[0] if finding.moves else None
