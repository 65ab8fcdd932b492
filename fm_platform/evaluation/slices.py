"""Declared slices: where a model is weaker than its average says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fm_platform.evaluation.metrics import ALL, SystemPredictions, measure
from fm_platform.spec.models import Evaluation

LENGTH_EDGES_CHARS = (40, 80, 160, 320)


def length_buckets(char_counts: npt.NDArray[np.integer]) -> list[str]:
    """Return the length bucket of each text, from its length in characters.

    Example:
        >>> length_buckets(np.array([10, 40, 500]))
        ['chars_000_039', 'chars_040_079', 'chars_320_up']
    """
    names = ["chars_000_039"]
    for low, high in zip(LENGTH_EDGES_CHARS, [*LENGTH_EDGES_CHARS[1:], 0], strict=True):
        names.append(f"chars_{low:03d}_{high - 1:03d}" if high else f"chars_{low:03d}_up")
    return [names[i] for i in np.digitize(char_counts, LENGTH_EDGES_CHARS)]


def slice_records(
    predictions: SystemPredictions,
    gold: npt.NDArray[np.integer],
    groups: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    evaluation: Evaluation,
) -> list[dict[str, str | int | float | bool]]:
    """Return one record per slice of `groups`, the weakest first.

    A slice is called weak where its interval of the support-weighted F1 lies below the overall
    value. Slices of fewer than 10 rows are left out: their interval says nothing.

    Args:
        predictions: The model's answers.
        gold: int[n] class indices.
        groups: What the slices are by (`source`, `length`, ...) -> n names of slices.
        classes: Class names.
        evaluation: Resamples, level, seed.
    """
    records: list[dict[str, str | int | float | bool]] = []
    for by, names in sorted(groups.items()):
        measured = measure({"model": predictions}, gold, names, len(classes), evaluation)["model"]
        overall = measured[ALL].values["f1_weighted"]
        for name, found in measured.items():
            f1 = found.values["f1_weighted"]
            if name == ALL or found.n < 10 or f1 is None or overall is None:
                continue
            records.append(
                {
                    "slice": f"{by}={name}",
                    "n": found.n,
                    "f1_weighted": f1.value,
                    "low": f1.low,
                    "high": f1.high,
                    "weak": f1.high < overall.value,
                }
            )
    return sorted(records, key=lambda record: (record["f1_weighted"], record["slice"]))
