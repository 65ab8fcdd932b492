"""How far one day lies from what a model was trained on: one number of surprise for each metric.

Every test, whatever its kind, ends as `surprise`: the square of a standard normal deviate that is
as improbable. By chance its mean is 1 on any data, so the mean of past days tells how much more
restless than chance a metric is, and tests of all kinds are put right by the same division.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from fm_platform.monitoring.measure import EMPTY
from fm_platform.monitoring.profile import Profile
from fm_platform.monitoring.records import ALL, Move
from fm_platform.monitoring.sketches import (
    CategorySketch,
    Floats,
    MomentSketch,
    NumericSketch,
    Sketch,
    aligned,
    ks_distance,
)

POOLED = ("accuracy:champion", "accuracy:weak")
"""What people say is right: so few rows that all sources are looked at together, too."""
CONFIDENCE = "confidence:"
"""Metrics between 0 and 1 whose effect is how far they moved, not how many rows moved at all."""
LEAST_ROWS = 20
"""A side with fewer rows is not compared: the tests would not hold."""
LEAST_EXPECTED = 5.0
"""Values expected less often are counted together (Cochran's rule)."""
MAX_SURPRISE = 1e4
Key = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """One metric of one slice on one day beside the reference.

    Attributes:
        kind: `shares`, `nulls`, `range`, `vectors`, `terms` or `rows`.
        before, after: Share of the value that moved most, median, or rows.
        distance: Effect size: largest change of a share, KS, how far a confidence moved, or length
            in standard deviations.
        surprise: See above; the larger the less probable.
        statistic: Name and value of the test.
        rows: Rows of the day.
    """

    kind: str
    before: float
    after: float
    distance: float
    surprise: float
    statistic: tuple[str, float]
    rows: int
    moves: tuple[Move, ...] = ()


def compare(
    day: Profile, reference: Profile, *, inside: bool = False, only: Collection[str] | None = None
) -> dict[Key, Comparison]:
    """Return (metric, slice) -> comparison for every source that both have.

    Sources are compared one by one: what only moves because the mix of sources moved is no
    finding of its own.

    Args:
        day: The day.
        reference: What it is compared with.
        inside: True where the day is one of those in the reference: it is taken out again first.
        only: Metrics that are compared; None: all.
    """
    found: dict[Key, Comparison] = {}
    for name in [*day.sources, ALL]:
        known = reference.slices.get(name, {})
        for metric in sorted(day.slices.get(name, {})):
            if only is not None and metric not in only:
                continue
            if metric not in known or (name == ALL and metric not in POOLED):
                continue
            for key, comparison in _compared(
                metric, day.slices[name][metric], known[metric], inside
            ).items():
                found[(key, name)] = comparison
    return found


def rows_by_source(day: Profile) -> dict[Key, Comparison]:
    """Return the volume of each source and of the day, to be compared with past days."""
    return {
        ("rows:source", name): Comparison("rows", 0.0, float(rows), 0.0, 0.0, ("rows", rows), rows)
        for name, rows in sorted(day.rows.items())
    }


def _compared(metric: str, day: Sketch, known: Sketch, inside: bool) -> dict[str, Comparison]:
    found: dict[str, Comparison | None] = {}
    if isinstance(day, NumericSketch) and isinstance(known, NumericSketch):
        found[metric] = _range(day, known, inside, metric.startswith(CONFIDENCE))
        nulls = CategorySketch({"yes": day.nulls, "no": day.rows}, day.rows + day.nulls)
        before = CategorySketch({"yes": known.nulls, "no": known.rows}, known.rows + known.nulls)
        found[metric.replace(":", "_nulls:")] = _shares(nulls, before, inside, "nulls")
    elif isinstance(day, CategorySketch) and isinstance(known, CategorySketch):
        terms = metric.startswith("terms:")
        found[metric] = (
            _terms(day, known, inside) if terms else _shares(day, known, inside, "shares")
        )
    elif isinstance(day, MomentSketch) and isinstance(known, MomentSketch):
        found[metric] = _vectors(day, known, inside)
    return {name: item for name, item in found.items() if item is not None}


def _range(
    day: NumericSketch, known: NumericSketch, inside: bool, bounded: bool
) -> Comparison | None:
    rest = known.rows - (day.rows if inside else 0)
    if min(day.rows, rest) < LEAST_ROWS:
        return None
    without = known.rows / rest if inside else 1.0
    distance = ks_distance(day, known) * without
    effective = day.rows * rest / (day.rows + rest)
    root = math.sqrt(effective)
    # Stephens' correction makes the asymptotic law hold from a few rows on
    surprise = _surprise(_log_kolmogorov((root + 0.12 + 0.11 / root) * distance))
    before, after = known.quantile([0.5])[0], day.quantile([0.5])[0]
    low, high = known.quantile([0.05, 0.95]), day.quantile([0.05, 0.95])
    moves = (
        Move("5 %", low[0], high[0]),
        Move("median", before, after),
        Move("95 %", low[1], high[1]),
    )
    # A label model that was fitted again gives the same few patterns of votes other confidences:
    # every row moves (KS), none of them far.
    effect = _moved(day, known) * without if bounded else distance
    return Comparison(
        "range", before, after, min(effect, 1.0), surprise, ("KS", distance), day.rows, moves
    )


def _moved(first: NumericSketch, second: NumericSketch) -> float:
    """Return how far the numbers moved on average: the first Wasserstein distance."""
    at = np.union1d(first.values, second.values)
    apart = np.abs(first.cdf(at) - second.cdf(at))
    return float(apart[:-1] @ np.diff(at))


def _shares(
    day: CategorySketch, known: CategorySketch, inside: bool, kind: str
) -> Comparison | None:
    """Pearson's test that both sides draw from the same shares."""
    pair = aligned(day, known)
    now, before = pair.first, pair.second - (pair.first if inside else 0.0)
    now, before = np.append(now, day.other), np.append(before, max(known.other, 0))
    before = np.maximum(before, 0.0)
    n, m = float(now.sum()), float(before.sum())
    if min(n, m) < LEAST_ROWS:
        return None
    names = [*pair.values, "(other)"]
    together = (now + before) / (n + m)
    rare = together * n < LEAST_EXPECTED
    if (~rare).sum() == 0:
        return None
    tested_now = np.append(now[~rare], now[rare].sum())
    tested_before = np.append(before[~rare], before[rare].sum())
    filled = tested_now + tested_before > 0
    statistic, freedom = _pearson(tested_now[filled], tested_before[filled])
    change = now / n - before / m
    order = np.lexsort((np.arange(len(names)), -np.abs(change)))[:5]
    moves = tuple(
        Move(names[i], float(before[i] / m), float(now[i] / n)) for i in order if change[i] != 0.0
    )
    top = moves[0] if moves else Move("", 0.0, 0.0)
    if moves and moves[0].value == EMPTY:
        kind = "nulls"
    from scipy.stats import chi2

    surprise = _surprise(float(chi2.logsf(statistic, freedom))) if freedom else 0.0
    return Comparison(
        kind, top.before, top.after, abs(top.change), surprise, ("chi2", statistic), int(n), moves
    )


def _pearson(now: Floats, before: Floats) -> tuple[float, int]:
    n, m = now.sum(), before.sum()
    share = (now + before) / (n + m)
    statistic = ((now - n * share) ** 2 / (n * share)).sum()
    statistic += ((before - m * share) ** 2 / (m * share)).sum()
    return float(statistic), len(now) - 1


def _terms(day: CategorySketch, known: CategorySketch, inside: bool) -> Comparison | None:
    """The term whose share of texts moved most improbably, times the number of terms looked at."""
    n, m = day.rows, known.rows - (day.rows if inside else 0)
    if min(n, m) < LEAST_ROWS:
        return None
    pair = aligned(day, known)
    now, before = pair.first, np.maximum(pair.second - (pair.first if inside else 0.0), 0.0)
    # a term that was not kept may stand in as many texts as the largest one that was dropped
    floor = np.where(pair.second == 0, float(known.dropped), 0.0)
    together = (now + before + floor) / (n + m)
    spread = np.sqrt(np.maximum(together * (1 - together), 1e-12) * (1 / n + 1 / m))
    change = now / n - (before + floor) / m
    looked = together * n >= LEAST_EXPECTED
    if not looked.any():
        return None
    deviate = np.where(looked, np.abs(change) / spread, 0.0)
    order = np.lexsort((np.arange(len(deviate)), -deviate))[:8]
    moves = tuple(Move(pair.values[i], float(before[i] / m), float(now[i] / n)) for i in order)
    from scipy.stats import chi2

    log_p = float(chi2.logsf(deviate[order[0]] ** 2, 1)) + math.log(int(looked.sum()))
    top = moves[0]
    return Comparison(
        "terms", top.before, top.after, abs(top.change), _surprise(min(log_p, 0.0)),
        ("largest z", float(deviate[order[0]])), n, moves,
    )  # fmt: skip


def _vectors(day: MomentSketch, known: MomentSketch, inside: bool) -> Comparison | None:
    """Hotelling's test of the mean vector."""
    n, m = day.rows, known.rows - (day.rows if inside else 0)
    width = len(day.sums)
    if min(n, m) < LEAST_ROWS or n + m <= 2 * width + 2:
        return None
    before = (known.sums - (day.sums if inside else 0.0)) / m
    gap = day.mean - before
    pooled = (n * day.covariance + known.rows * known.covariance) / (n + known.rows)
    pooled = pooled + np.eye(width) * (1e-6 * float(np.trace(pooled)) / width + 1e-12)
    length = float(gap @ np.linalg.solve(pooled, gap))
    statistic = length * n * m / (n + m)
    from scipy.stats import f

    scaled = statistic * (n + m - width - 1) / (width * (n + m - 2))
    surprise = _surprise(float(f.logsf(scaled, width, n + m - width - 1)))
    return Comparison(
        "vectors", 0.0, math.sqrt(length), math.sqrt(length), surprise,
        ("Hotelling T2", statistic), n,
    )  # fmt: skip


def _log_kolmogorov(scaled: float) -> float:
    """Return the logarithm of Kolmogorov's survival function; its first term far out."""
    if scaled > 3.0:
        return min(0.0, math.log(2.0) - 2.0 * scaled * scaled)
    from scipy.special import kolmogorov

    return math.log(max(float(kolmogorov(scaled)), 1e-300))


def _surprise(log_p: float) -> float:
    """Return the square of the normal deviate that is as improbable as exp(log_p), both sides."""
    if log_p >= 0.0:
        return 0.0
    from scipy.special import ndtri_exp

    deviate = float(ndtri_exp(log_p - math.log(2.0)))
    return min(deviate * deviate, MAX_SURPRISE)
