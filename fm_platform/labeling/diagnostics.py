"""What a labeling function does: coverage, overlap, conflict, accuracy on dev."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.patterns import Ints, Votes

_Z95 = 1.959963984540054


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927); (0, 1) for n = 0.

    Example:
        >>> [round(x, 3) for x in wilson(8, 10)]
        [0.49, 0.943]
    """
    if n == 0:
        return 0.0, 1.0
    share = right / n
    scale = 1 + _Z95**2 / n
    center = share + _Z95**2 / (2 * n)
    width = _Z95 * sqrt(share * (1 - share) / n + _Z95**2 / (4 * n * n))
    return max(0.0, (center - width) / scale), min(1.0, (center + width) / scale)


def diagnose(
    votes: Votes, names: Sequence[str], groups: Sequence[str], dev_rows: Ints, dev_labels: Ints
) -> list[dict[str, Any]]:
    """Return one record per function over all rows, then one per function and group.

    Coverage: share of rows with a vote. Overlap: share of rows on which another function votes
    as well. Conflict: share of rows on which another votes differently.

    Args:
        votes: int8[n, m].
        names: m function names.
        groups: n group names.
        dev_rows: Positions of dev gold rows.
        dev_labels: Their classes.
    """
    group_names = np.array(groups, dtype=object)
    records = []
    for group in ["all", *sorted(set(groups))]:
        inside = np.ones(len(votes), bool) if group == "all" else group_names == group
        chosen = votes[inside]
        on_dev = inside[dev_rows] if len(dev_rows) else np.zeros(0, bool)
        dev_votes = votes[dev_rows[on_dev]] if len(dev_rows) else chosen[:0]
        labels = dev_labels[on_dev] if len(dev_rows) else dev_labels
        others, differing = _others(chosen)
        for j, name in enumerate(names):
            voted = chosen[:, j] >= 0
            voted_dev = dev_votes[:, j] >= 0
            n = int(voted_dev.sum())
            right = int((dev_votes[voted_dev, j] == labels[voted_dev]).sum())
            low, high = wilson(right, n)
            rows = max(len(chosen), 1)
            records.append(
                {
                    "function": name,
                    "group": group,
                    "coverage": round(float(voted.sum() / rows), 4),
                    "overlap": round(float((voted & others[:, j]).sum() / rows), 4),
                    "conflict": round(float((voted & differing[:, j]).sum() / rows), 4),
                    "dev_votes": n,
                    "dev_accuracy": round(right / n, 4) if n else None,
                    "low": round(low, 4),
                    "high": round(high, 4),
                }
            )
    return records


def _others(votes: Votes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return bool[n, m]: another function votes; another function votes differently."""
    voted = votes >= 0
    total = voted.sum(axis=1, keepdims=True)
    others = total - voted > 0
    same = np.zeros(votes.shape, np.int64)
    for label in range(int(votes.max(initial=-1)) + 1):
        hit = votes == label
        same += hit * hit.sum(axis=1, keepdims=True)
    differing = voted & (total - same > 0)
    return others, differing
