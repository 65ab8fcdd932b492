"""Which labeling functions answer otherwise than before, told from the counts of the days.

The newest days are compared with those before them, source by source, by the tests of monitoring;
how restless a function was on the days before is how much surprise counts as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from fm_platform.labeling.counts import FIXED, ROWS, DayCounts
from fm_platform.labeling.slices import ALL
from fm_platform.monitoring.compare import compare
from fm_platform.monitoring.detect import LEAST_EFFECT
from fm_platform.monitoring.profile import Profile, merge_profiles
from fm_platform.monitoring.sketches import CategorySketch

NEWEST = 7
"""So many days are compared with all before them; of a short history a third."""
LEAST_BEFORE = 2
_DEVIATIONS = 4.0
"""Standard deviations, after the restlessness of the past: about one in 16,000 by chance."""
_OUTLIER = 25.0
_PRIOR_DAYS = 5.0


def drift_of(
    project: str, days: Sequence[tuple[str, DayCounts]], source: str | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Return function -> what changed in the newest days, the surest first; others are left out.

    Each record tells the source, since when, the answer whose share moved most and its share
    before and after, and the standard deviations that this is beyond chance.

    Args:
        project: Its name.
        days: (day, counts), oldest first.
        source: Only this source.
    """
    newest = min(NEWEST, len(days) // 3)
    if newest < 1 or len(days) - newest < LEAST_BEFORE:
        return {}
    profiles = [_profile(project, day, counts, source) for day, counts in days]
    past = profiles[:-newest]
    before, after = merge_profiles(past), merge_profiles(profiles[-newest:])
    usual: dict[tuple[str, str], list[float]] = {}
    for profile in past:
        for key, one in compare(profile, before, inside=True).items():
            usual.setdefault(key, []).append(min(one.surprise, _OUTLIER))
    found: dict[str, list[dict[str, Any]]] = {}
    for key, one in compare(after, before).items():
        seen = usual.get(key, [])
        restless = max(1.0, (sum(seen) + _PRIOR_DAYS) / (len(seen) + _PRIOR_DAYS))
        deviations = sqrt(one.surprise / restless)
        if one.distance < LEAST_EFFECT["function"] or deviations < _DEVIATIONS or not one.moves:
            continue
        move = one.moves[0]
        found.setdefault(key[0].removeprefix("function:"), []).append(
            {
                "source": key[1], "since": days[-newest][0], "value": move.value,
                "before": round(move.before, 4), "after": round(move.after, 4),
                "deviations": round(deviations, 1),
            }
        )  # fmt: skip
    return {
        name: sorted(listed, key=lambda told: (-told["deviations"], told["source"]))
        for name, listed in sorted(found.items())
    }


def _profile(project: str, day: str, counts: DayCounts, source: str | None) -> Profile:
    """Return the counts of a day in the form that monitoring compares."""
    slices: dict[str, dict[str, CategorySketch]] = {}
    rows: dict[str, int] = {}
    for (name, slice_), numbers in counts.cells.items():
        if slice_ != ALL or source not in (None, name):
            continue
        rows[name] = int(numbers[-1, ROWS])
        slices[name] = {}
        for function, cell in zip(counts.functions, numbers, strict=False):
            votes = {
                label: int(count)
                for label, count in zip(counts.classes, cell[FIXED:], strict=True)
                if count
            }
            rest = rows[name] - sum(votes.values())
            answers = votes | ({"no single class": rest} if rest else {})
            slices[name][f"function:{function}"] = CategorySketch.of(answers, rows[name])
    rows[ALL] = sum(rows.values())
    return Profile(project, (day,), rows, {ALL: {}, **slices}, counts.classes)
