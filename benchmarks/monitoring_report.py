"""What the benchmark of planted shifts sums up: cases, and what was said on quiet days."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SIZES = {"small": 0.25, "medium": 0.5, "large": 1.0}
"""Part of the rows that a shift can concern which it does concern."""


@dataclass
class Case:
    """One planted shift, and what was said of it."""

    shift: str
    size: str
    rows: int
    seed: int
    cost: float
    change: tuple[float, float]
    detected: int | None = None
    sent: int | None = None
    top: bool = False
    alerts: int = 0
    impact: float | None = None
    impact_error: float | None = None
    impact_error_of_shift: float | None = None
    impact_error_of_rows: float | None = None
    luck: float | None = None
    held: bool | None = None
    reach: float | None = None
    blind_error: float | None = None
    labels: bool = False
    worst: float = 0.0
    repaired: bool | None = None
    others: dict[str, Any] = field(default_factory=dict)


def report(done: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up all seeds: what `one_seed` gave."""
    from scipy.stats import spearmanr

    cases = [Case(**case) for one in done for case in one["cases"]]
    silent = summed(one["quiet"] for one in done)

    def share(values: list[bool]) -> float | None:
        return round(float(np.mean(values)), 3) if values else None

    costly = [case for case in cases if case.cost >= 2]
    errors = [c.impact_error for c in cases if c.impact_error is not None]
    blind = [c.blind_error for c in cases if c.blind_error is not None]
    ranks = []
    for key in sorted({(case.size, case.rows, case.seed) for case in cases}):
        own = [c for c in cases if (c.size, c.rows, c.seed) == key and c.shift != "late day"]
        ranks.append(float(spearmanr([c.worst for c in own], [c.cost for c in own])[0]))
    per = 100 / max(silent["days"], 1)
    told: dict[str, Any] = {
        "cases": len(cases), "costly": len(costly), "quiet_days": silent["days"],
        "ours": {
            "sent_of_costly": share([c.sent is not None for c in costly]),
            "detected_of_all": share([c.detected is not None for c in cases]),
            "false_alarms_per_100_quiet_days": round(silent["ours"] * per, 2),
            "days_to_detect": round(float(np.mean([c.detected for c in cases if c.detected])), 2),
            "top_1": share([c.top for c in cases if c.detected]),
            "one_alert": share([c.alerts == 1 for c in cases if c.detected]),
            "impact_error_median": round(float(np.median(errors)), 2) if errors else None,
            "impact_within_2": share([e <= 2 for e in errors]),
            "impact_within_2_on_the_rows_concerned": share(
                [e <= 2 for c in cases if (e := c.impact_error_of_rows) is not None]
            ),
            "impact_within_2_of_the_shift": share(
                [e <= 2 for c in cases if (e := c.impact_error_of_shift) is not None]
            ),
            "one_day_within_2_of_the_shift": share(
                [c.luck <= 2 for c in cases if c.luck is not None]
            ),
            "impact_interval_holds": share([c.held for c in cases if c.held is not None]),
            "impact_by_rows": {
                rows: _impacts([c for c in cases if c.rows == rows and c.impact_error is not None])
                for rows in sorted({c.rows for c in cases})
            },
            "by_size": {
                size: _by_size([c for c in cases if c.size == size])
                for size in dict.fromkeys(c.size for c in cases)
            },
            "without_gold_error_median": round(float(np.median(blind)), 2) if blind else None,
            "without_gold_within_2": share([e <= 2 for e in blind]),
            "spearman_severity_loss": round(float(np.nanmean(ranks)), 3),
            "retraining_repaired": share([c.repaired for c in cases if c.repaired is not None]),
            "unimportant_sent": share(
                [c.sent is not None for c in cases if c.shift.endswith("unused")]
            ),
        },
        "by_shift": {
            name: {
                "cost": round(float(np.mean([c.cost for c in own])), 1),
                "detected": share([c.detected is not None for c in own]),
                "sent": share([c.sent is not None for c in own]),
                "top_1": share([c.top for c in own if c.detected]),
                "impact_error": round(float(np.mean(found)), 1) if (
                    found := [c.impact_error for c in own if c.impact_error is not None]
                ) else None,
            }
            for name in dict.fromkeys(c.shift for c in cases)
            if (own := [c for c in cases if c.shift == name])
        },
    }  # fmt: skip
    asked = [case for case in cases if case.others]
    if asked:
        told["others_asked"] = {"cases": len(asked), "quiet_days": silent["others_days"]}
        told["ours_on_the_same"] = {
            "sent_of_costly": share([c.sent is not None for c in asked if c.cost >= 2]),
            "top_1": share([c.top for c in asked]),
        }
    for name in ("evidently", "evidently_any", "tfdv") if asked else ():
        told[name] = {
            "detected_of_costly": share([c.others[name][0] for c in asked if c.cost >= 2]),
            "false_alarms_per_100_quiet_days": round(
                100 * silent[name] / max(silent["others_days"], 1), 1
            ),
            "top_1": share([c.others[name][1] for c in asked]),
        }
    return told


def _by_size(cases: list[Case]) -> dict[str, Any]:
    """What was found of shifts of one size, and how good the estimates are."""
    costly = [case.sent is not None for case in cases if case.cost >= 2]
    found = [case.top for case in cases if case.detected]
    return {
        "costly": len(costly),
        "sent_of_costly": round(float(np.mean(costly)), 3) if costly else None,
        "top_1": round(float(np.mean(found)), 3) if found else None,
        **_impacts([case for case in cases if case.impact_error is not None]),
    }


def _impacts(cases: list[Case]) -> dict[str, float]:
    """How good the estimates are, and how far their own 90 % intervals reach to each side."""
    from scipy.stats import norm

    if not cases:
        return {}
    reach = np.array([case.reach or 0.0 for case in cases])
    labels = np.array([case.labels for case in cases])
    within = np.array([(case.impact_error or 0.0) <= 2 for case in cases])
    return {
        "cases": len(cases),
        "within_2": round(float(within.mean()), 3),
        "champion_within_2": round(float(within[~labels].mean()), 3),
        "labels_within_2": round(float(within[labels].mean()), 3),
        "interval_holds": round(float(np.mean([bool(case.held) for case in cases])), 3),
        "median_reach": round(float(np.median(reach)), 2),
        # if all errors were the chance that the intervals speak of
        "within_2_by_intervals": round(
            float((2 * norm.cdf(2 * 1.645 / np.maximum(reach, 0.05)) - 1).mean()), 3
        ),
    }


def summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Add counts up, name by name."""
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total
