"""The rule `label_noise`: labels that predictions contradict are corrected, or people are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.cleaning.rules import RULES, DayContext, Relabel, Verdicts
from fm_platform.errors import FMError


@dataclass(frozen=True)
class Doubts:
    """What is believed of the labels of a day.

    Attributes:
        probabilities: Row id -> probability of every class, from label and prediction.
        predicted: Row id -> probability of every class, from the prediction alone.
        lengths: Row id -> length of the embedding, for the effect on the model.
    """

    probabilities: Mapping[str, tuple[float, ...]]
    predicted: Mapping[str, tuple[float, ...]]
    lengths: Mapping[str, float]

    def told(self) -> list[tuple[str, list[str]]]:
        """Return all that decides as JSON values, in one order."""
        return [(row, [f"{p:.4f}" for p in ps]) for row, ps in sorted(self.probabilities.items())]


@RULES.register("label_noise")
def label_noise(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Give rows the class that is believed instead of the given one, where it is sure enough.

    The effect of a review is what it is expected to add to the gradient of the head: the chance
    that the decision is wrong times the gradient between both labels (Krishnan et al.,
    ActiveClean, VLDB 2016).
    """
    doubts = context.known
    if not isinstance(doubts, Doubts):
        raise FMError("the labels of this day were not judged")
    place = {name: i for i, name in enumerate(context.classes)}
    labels: dict[int, Relabel] = {}
    ids, given = rows["row_id"].to_pylist(), rows["label"].to_pylist()
    for i, (row, label) in enumerate(zip(ids, given, strict=True)):
        believed = doubts.probabilities.get(row)
        if believed is None or label not in place:
            continue
        best = int(np.argmax(believed))
        sure = believed[best]
        if best == place[label] or sure < min(rule.review_probability, rule.minimum_probability):
            continue
        applied = sure >= rule.minimum_probability or row in context.accepted
        wrong = 1 - sure if applied else sure
        alone = doubts.predicted[row][best]
        labels[i] = Relabel(
            context.classes[best],
            believed,
            f"{context.classes[best]} with probability {sure:.2f} (by the text alone {alone:.2f})",
            applied,
            wrong * 2**0.5 * doubts.lengths[row],
        )
    return Verdicts(np.zeros(rows.num_rows, bool), labels=labels)
