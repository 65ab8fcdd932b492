"""Small summaries of one column that merge: what a day keeps so that its rows need not be read.

A `NumericSketch` keeps the empirical distribution function at up to `size` ranks, exactly there and
within `error` between them. A `CategorySketch` keeps the counts of the commonest values. A
`MomentSketch` keeps mean and covariance of vectors. Merging does not depend on the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EXACT_POINTS = 1 << 15
"""Points of a numeric sketch: 1/EXACT_POINTS is the largest error of a distribution function."""
CATEGORIES = 1_000
"""Values that a category sketch keeps; the rest is counted as one."""


@dataclass(frozen=True)
class NumericSketch:
    """The distribution of numbers.

    Attributes:
        values: Ascending and different, float64[k].
        below: Rows smaller than each value, float64[k].
        upto: Rows not larger than each value, float64[k].
        rows: Rows that hold a finite number.
        nulls: Rows without one (null, NaN, infinite).
        total: Sum, `squares`: sum of squares.
        slack: Rows by which a count between two values may be wrong.
    """

    values: Floats
    below: Floats
    upto: Floats
    rows: int
    nulls: int = 0
    total: float = 0.0
    squares: float = 0.0
    slack: float = 0.0

    @classmethod
    def of(
        cls, column: npt.NDArray[Any], size: int = EXACT_POINTS, nulls: int = 0
    ) -> NumericSketch:
        """Summarise numbers of any order; NaN and infinity count as missing.

        Example:
            >>> NumericSketch.of(np.array([1.0, 2.0, 2.0, np.nan])).cdf(np.array([2.0]))
            array([1.])
        """
        numbers = np.asarray(column, np.float64).reshape(-1)
        finite = np.isfinite(numbers)
        missing = nulls + int(numbers.size - finite.sum())
        ordered = np.sort(numbers if finite.all() else numbers[finite])
        n = len(ordered)
        if n == 0:
            nothing = np.zeros(0)
            return cls(nothing, nothing, nothing, 0, missing)
        first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        last = np.concatenate((first[1:], [n]))
        slack = 0.0
        if len(first) > size:
            ranks = np.unique(np.ceil(np.arange(1, size + 1) * (n / size)).astype(np.int64) - 1)
            kept = np.unique(np.searchsorted(first, ranks, side="right") - 1)
            kept = np.union1d(kept, [0])
            first, last = first[kept], last[kept]
            slack = float(np.max(first[1:] - last[:-1], initial=0))
        mean = float(ordered.mean())
        spread = float(((ordered - mean) ** 2).sum())
        return cls(
            ordered[first], first.astype(np.float64), last.astype(np.float64), n, missing,
            mean * n, spread + mean * mean * n, slack,
        )  # fmt: skip

    @property
    def error(self) -> float:
        """Largest error of the distribution function, as a share of the rows."""
        return self.slack / self.rows if self.rows else 0.0

    @property
    def mean(self) -> float:
        """Mean, NaN where there is no number."""
        return self.total / self.rows if self.rows else float("nan")

    @property
    def deviation(self) -> float:
        """Standard deviation, NaN where there is no number."""
        if not self.rows:
            return float("nan")
        return float(np.sqrt(max(self.squares / self.rows - self.mean**2, 0.0)))

    @property
    def null_share(self) -> float:
        """Share of rows without a number."""
        return self.nulls / max(self.rows + self.nulls, 1)

    def counts(self, at: Floats) -> tuple[Floats, Floats]:
        """Return how many rows lie below, and not above, each point of `at`.

        Between two kept values the rows are taken to lie evenly.
        """
        if not self.rows:
            return np.zeros(len(at)), np.zeros(len(at))
        n = float(self.rows)
        right = np.searchsorted(self.values, at, side="right")
        left = np.searchsorted(self.values, at, side="left")
        start = np.concatenate(([0.0], self.upto))[left]
        end = np.concatenate((self.below, [n]))[left]
        x0 = np.concatenate(([self.values[0]], self.values))[left]
        x1 = np.concatenate((self.values, [self.values[-1]]))[left]
        gap = np.where(x1 > x0, x1 - x0, 1.0)
        between = start + np.clip((at - x0) / gap, 0.0, 1.0) * (end - start)
        known = right > left
        spot = np.minimum(left, len(self.values) - 1)
        return (
            np.where(known, self.below[spot], between),
            np.where(known, self.upto[spot], between),
        )

    def cdf(self, at: Floats) -> Floats:
        """Return the share of rows not above each point of `at`."""
        return self.counts(np.asarray(at, np.float64))[1] / max(self.rows, 1)

    def quantile(self, shares: Sequence[float]) -> list[float]:
        """Return the value at each share of the rows; NaN where there is no number."""
        if not self.rows:
            return [float("nan")] * len(shares)
        wanted = np.asarray(shares, np.float64) * self.rows
        spots = np.minimum(np.searchsorted(self.upto, wanted), len(self.values) - 1)
        return [float(value) for value in self.values[spots]]

    def coarse(self, size: int) -> NumericSketch:
        """Return the same distribution at no more than about `size` points."""
        if len(self.values) <= size:
            return self
        ranks = np.arange(1, size + 1) * (self.rows / size)
        kept = np.unique(np.minimum(np.searchsorted(self.upto, ranks), len(self.values) - 1))
        kept = np.union1d(kept, [0])
        gap = float(np.max(self.below[kept][1:] - self.upto[kept][:-1], initial=0))
        return NumericSketch(
            self.values[kept], self.below[kept], self.upto[kept], self.rows, self.nulls,
            self.total, self.squares, self.slack + gap,
        )  # fmt: skip


@dataclass(frozen=True)
class CategorySketch:
    """Counts of values.

    Attributes:
        counts: Value -> rows; the commonest `CATEGORIES` at most.
        rows: Rows that the counts are shares of. In a sketch of terms a row has several values.
        other: Counts of values that were not kept.
        dropped: The largest count that was not kept: what a value that is absent may have.
    """

    counts: Mapping[str, int]
    rows: int
    other: int = 0
    dropped: int = 0

    @classmethod
    def of(cls, counts: Mapping[str, int], rows: int, keep: int = CATEGORIES) -> CategorySketch:
        """Keep the commonest values; of equal counts the first by name."""
        if len(counts) <= keep:
            return cls(dict(sorted(counts.items())), rows)
        ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        rest = ranked[keep:]
        return cls(
            dict(sorted(ranked[:keep])), rows, sum(n for _, n in rest), max(n for _, n in rest)
        )

    def share(self, value: str) -> float:
        """Return the share of rows with a value."""
        return self.counts.get(value, 0) / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class MomentSketch:
    """Sums over vectors.

    Attributes:
        rows: Vectors summed.
        sums: float64[d].
        products: Sums of products, float64[d, d].
    """

    rows: int
    sums: Floats
    products: Floats

    @classmethod
    def of(cls, vectors: npt.NDArray[Any]) -> MomentSketch:
        """Summarise vectors [n, d]."""
        wide = np.asarray(vectors, np.float64)
        return cls(len(wide), wide.sum(axis=0), wide.T @ wide)

    @property
    def mean(self) -> Floats:
        """Mean vector, float64[d]."""
        return self.sums / max(self.rows, 1)

    @property
    def covariance(self) -> Floats:
        """Covariance, float64[d, d]."""
        mean = self.mean
        return self.products / max(self.rows, 1) - np.outer(mean, mean)


Sketch = NumericSketch | CategorySketch | MomentSketch


def merge(parts: Iterable[Sketch], size: int = EXACT_POINTS) -> Sketch:
    """Return the sketch of all rows of `parts`, which are of one kind.

    Raises:
        TypeError: If the kinds differ.
        ValueError: If there is nothing to merge.
    """
    listed = list(parts)
    if not listed:
        raise ValueError("there is no sketch to merge")
    if all(isinstance(part, NumericSketch) for part in listed):
        return _merge_numeric([part for part in listed if isinstance(part, NumericSketch)], size)
    if all(isinstance(part, CategorySketch) for part in listed):
        return _merge_categories([part for part in listed if isinstance(part, CategorySketch)])
    if all(isinstance(part, MomentSketch) for part in listed):
        vectors = [part for part in listed if isinstance(part, MomentSketch)]
        return MomentSketch(
            sum(part.rows for part in vectors),
            np.sum([part.sums for part in vectors], axis=0),
            np.sum([part.products for part in vectors], axis=0),
        )
    raise TypeError(f"sketches of different kinds: {sorted({type(p).__name__ for p in listed})}")


def _merge_numeric(parts: list[NumericSketch], size: int) -> NumericSketch:
    full = [part for part in parts if part.rows]
    nulls = sum(part.nulls for part in parts)
    if len(full) <= 1:
        base = full[0] if full else parts[0]
        return NumericSketch(
            base.values, base.below, base.upto, base.rows, nulls, base.total, base.squares,
            base.slack,
        )  # fmt: skip
    values = np.unique(np.concatenate([part.values for part in full]))
    below, upto = np.zeros(len(values)), np.zeros(len(values))
    for part in full:
        under, over = part.counts(values)
        below += under
        upto += over
    return NumericSketch(
        values, below, upto, sum(part.rows for part in full), nulls,
        sum(part.total for part in full), sum(part.squares for part in full),
        sum(part.slack for part in full),
    ).coarse(size)  # fmt: skip


def _merge_categories(parts: list[CategorySketch]) -> CategorySketch:
    counts: dict[str, int] = {}
    for part in parts:
        for value, count in part.counts.items():
            counts[value] = counts.get(value, 0) + count
    merged = CategorySketch.of(counts, sum(part.rows for part in parts))
    return CategorySketch(
        merged.counts, merged.rows, merged.other + sum(part.other for part in parts),
        max(merged.dropped, sum(part.dropped for part in parts)),
    )  # fmt: skip


def ks_distance(first: NumericSketch, second: NumericSketch) -> float:
    """Return the Kolmogorov-Smirnov distance of two columns, in [0, 1].

    It is exact where both hold no more different values than a sketch has points; otherwise it is
    wrong by at most `first.error + second.error`.
    """
    if not first.rows or not second.rows:
        return 0.0 if first.rows == second.rows else 1.0
    at = np.union1d(first.values, second.values)
    under, over = first.counts(at)
    other_under, other_over = second.counts(at)
    gap_under = np.abs(under / first.rows - other_under / second.rows)
    gap_over = np.abs(over / first.rows - other_over / second.rows)
    return float(max(gap_under.max(), gap_over.max()))


def psi(first: NumericSketch, second: NumericSketch, bins: int = 20) -> float:
    """Return the population stability index of `second` against `first` in quantile bins."""
    edges = np.unique(first.quantile([i / bins for i in range(1, bins)]))
    shares = []
    for sketch in (first, second):
        cumulated = np.concatenate(([0.0], sketch.cdf(edges), [1.0]))
        shares.append(np.maximum(np.diff(cumulated), 1e-4))
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def total_variation(first: CategorySketch, second: CategorySketch) -> float:
    """Return half the sum of the differences of the shares, in [0, 1] for a column of one value."""
    values = first.counts.keys() | second.counts.keys()
    return 0.5 * sum(abs(first.share(value) - second.share(value)) for value in values)


@dataclass(frozen=True)
class Shares:
    """Counts of two sides over the same values, float64[k] each."""

    values: tuple[str, ...]
    first: Floats
    second: Floats = field(default_factory=lambda: np.zeros(0))


def aligned(first: CategorySketch, second: CategorySketch) -> Shares:
    """Return the counts of both sides over the values that either has, sorted by value."""
    values = tuple(sorted(first.counts.keys() | second.counts.keys()))
    return Shares(
        values,
        np.array([first.counts.get(value, 0) for value in values], np.float64),
        np.array([second.counts.get(value, 0) for value in values], np.float64),
    )
