"""Would the other findings go if one column were put right? The rows of the day answer.

Rows are left out until the column has the shares of the reference; then the day is measured again.
What moves no longer was moved by the column. It is an observational answer: of two columns that say
the same, the one that explains more is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.monitoring.compare import LEAST_ROWS, Key, compare
from fm_platform.monitoring.measure import EMPTY, Watch, measure_day, project, structured
from fm_platform.monitoring.profile import Profile, smallest_ids
from fm_platform.monitoring.records import Finding
from fm_platform.monitoring.reference import Reference
from fm_platform.monitoring.sketches import (
    CategorySketch,
    MomentSketch,
    NumericSketch,
)

MOST_ROWS = 3_000
"""Rows of a source that are measured again, at most."""
_BINS = 8
_GONE = 0.5
"""A finding is explained when less than this share of its effect is left."""
_METRIC_COLUMNS = {
    "label:weak": "label", "label:gold": "gold", "duplicates:text": "text_key",
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What a search for causes may look at.

    Attributes:
        day: Profile of the day.
        reference: What the live model was trained on.
        rows: Rows of the day as `measure_day` took them, or None: then nothing is put right.
        watch: What is looked at.
        reads: Labeling function -> structured column that it reads.
        weighed: Source -> label model of most days of the reference, and of the day, where they
            are of other kinds.
    """

    day: Profile
    reference: Reference
    rows: pa.Table | None
    watch: Watch
    reads: dict[str, str]
    weighed: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def readers(self, column: str) -> set[str]:
        """Return the labeling functions that read a column."""
        return {name for name, read in self.reads.items() if read == column}


def can_balance(metric: str) -> bool:
    """Whether rows can be left out so that a metric becomes what it was."""
    return metric.startswith("column:") or metric in _METRIC_COLUMNS


def explained_by(
    metric: str, name: str, others: Sequence[Finding], evidence: Evidence
) -> dict[Key, bool]:
    """Return for each other finding of a slice whether putting `metric` right takes it away."""
    if evidence.rows is None or not others:
        return {}
    rows = evidence.rows.filter(pc.equal(evidence.rows["source"], name))
    rows = smallest_ids(rows, MOST_ROWS)
    kept = _balanced(metric, name, rows, evidence)
    if kept is None or len(kept) < LEAST_ROWS:
        return {}
    again = measure_day(
        evidence.day.project, evidence.day.day, rows.take(pa.array(kept)), evidence.watch
    )
    again = _with_vectors(again, name, evidence)
    compared = compare(again, evidence.reference.profile)
    answered = {}
    for finding in others:
        after = compared.get(finding.key)
        if after is not None:
            chance = 3.0 / np.sqrt(max(after.rows, 1))  # what so few rows would differ by anyway
            answered[finding.key] = after.distance < max(
                _GONE * finding.distance, min(chance, 0.8 * finding.distance)
            )
    return answered


def _with_vectors(again: Profile, name: str, evidence: Evidence) -> Profile:
    """Give the rows that stay the embeddings that the day's sample has of them."""
    sample, kept = evidence.day.sample, again.sample
    if sample is None or kept is None or "embedding" not in sample.column_names:
        return again
    inside = sample.filter(pc.is_in(sample["row_id"], value_set=kept["row_id"].combine_chunks()))
    if inside.num_rows < LEAST_ROWS:
        return again
    flat = np.asarray(inside["embedding"].combine_chunks().flatten(), np.float32)
    vectors = project(flat.reshape(inside.num_rows, -1))
    slices = {
        key: {**value, "embedding:text": MomentSketch.of(vectors)} if key == name else dict(value)
        for key, value in again.slices.items()
    }
    return replace(again, slices=slices)


def _balanced(
    metric: str, name: str, rows: pa.Table, evidence: Evidence
) -> npt.NDArray[np.int64] | None:
    """Return the rows that stay when `metric` has the shares it had; None where it cannot."""
    if metric == "duplicates:text":
        keys = rows["text_key"].combine_chunks().dictionary_encode().indices
        _, first = np.unique(np.asarray(keys), return_index=True)
        return np.sort(first)
    known = evidence.reference.profile.sketch(metric, name)
    column = _METRIC_COLUMNS.get(metric, metric.partition(":")[2])
    if known is None or column not in rows.column_names:
        return None
    values = structured(rows[column], evidence.day.day)
    if isinstance(known, CategorySketch):
        told = np.array([EMPTY if v is None else v for v in values.to_pylist()], object)
        usable = np.flatnonzero(told != EMPTY) if column == "gold" else np.arange(len(told))
        total = sum(n for value, n in known.counts.items() if column != "gold" or value != EMPTY)
        shares = {value: n / max(total, 1) for value, n in known.counts.items()}
        return _thinned(told[usable], shares, usable)
    if isinstance(known, NumericSketch) and known.rows:
        numbers = np.asarray(pc.fill_null(values, np.nan), np.float64)
        edges = np.unique(known.quantile([i / _BINS for i in range(1, _BINS)]))
        bins = np.searchsorted(edges, numbers, side="left")
        cumulated = np.concatenate(([0.0], known.cdf(edges), [1.0]))
        shares = {str(i): float(share) for i, share in enumerate(np.diff(cumulated))}
        outside = (numbers < known.values[0]) | (numbers > known.values[-1]) | ~np.isfinite(numbers)
        usable = np.flatnonzero(~outside)
        return _thinned(bins[usable].astype(str).astype(object), shares, usable)
    return None


def _thinned(
    told: npt.NDArray[np.object_], shares: dict[str, float], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64] | None:
    """Leave out rows, the later ones first, so that each value has its share of what stays."""
    held = {value: np.flatnonzero(told == value) for value in sorted(shares)}
    wanted = {value: share for value, share in shares.items() if share >= 0.01}
    if not wanted:
        return None
    # a value that all but vanished would leave nothing: it may stay rarer than it was
    sizes = [len(held[value]) / share for value, share in wanted.items() if len(held[value]) >= 5]
    if not sizes:
        return None
    total = min(sizes)
    kept = [held[value][: round(total * share)] for value, share in sorted(shares.items())]
    return np.sort(rows[np.concatenate(kept)])
