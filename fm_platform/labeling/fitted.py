"""The label model in use: its models by source, and the evidence of its choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.parameters import LabelModel
from fm_platform.labeling.partial import NO_SETS, ClassSets
from fm_platform.labeling.patterns import Floats, Votes
from fm_platform.labeling.stacked import STACKED, StackedModel
from fm_platform.labeling.units import Groups

POOLED = "*"
"""The group of all rows; its model serves groups that have none."""


@dataclass(frozen=True)
class LabelModelFit:
    """The chosen method, its models by group, and the evidence of the choice.

    Attributes:
        method: The method chosen overall; a group may have kept majority vote.
        n_classes: k.
        groups: Group -> model; `*` serves groups that are not there.
        evidence: One record per candidate and group: dev rows, accuracy, log loss, calibration
            error, whether it is used there, and a note why.
        calibration: On dev: rows, temperature, expected calibration error before and after.
        reason: Why this method, in a sentence.
        copies: Positions of functions that copy one another.
        misfit: How much more or less often functions agree than the likeliest model says.
        likeliest: Where evidence is carried on: group -> the likeliest model, in use or not.
        fits: The same for how well each method explains the votes, in nats.
    """

    method: str
    n_classes: int
    groups: Mapping[str, LabelModel]
    evidence: Sequence[Mapping[str, Any]]
    calibration: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    copies: Groups = ()
    misfit: float = 0.0
    likeliest: Mapping[str, LabelModel] = field(default_factory=dict)
    fits: Mapping[str, float] = field(default_factory=dict)

    def predict(
        self, votes: Votes, groups: Sequence[str], sets: ClassSets = NO_SETS
    ) -> npt.NDArray[np.float32]:
        """Return probabilities float32[n, k].

        Args:
            votes: int8[n, m].
            groups: n group names.
            sets: What votes below -1 mean.
        """
        return predict_groups(self.groups, votes, groups, self.n_classes, sets).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return exact JSON."""
        return {
            "method": self.method,
            "n_classes": self.n_classes,
            "groups": {name: model.to_json() for name, model in sorted(self.groups.items())},
            "evidence": [dict(record) for record in self.evidence],
            "calibration": dict(self.calibration),
            "reason": self.reason,
            "copies": [list(group) for group in self.copies],
            "misfit": self.misfit,
            "likeliest": {name: m.to_json() for name, m in sorted(self.likeliest.items())},
            "fits": dict(self.fits),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelModelFit:
        """Return what `to_json` wrote."""
        return cls(
            value["method"],
            value["n_classes"],
            {name: _from_json(model) for name, model in value["groups"].items()},
            value["evidence"],
            value["calibration"],
            value["reason"],
            tuple(tuple(group) for group in value["copies"]),
            value["misfit"],
            {name: LabelModel.from_json(model) for name, model in value["likeliest"].items()},
            value["fits"],
        )


def predict_groups(
    models: Mapping[str, LabelModel],
    votes: Votes,
    groups: Sequence[str],
    n_classes: int,
    sets: ClassSets,
) -> Floats:
    """Return probabilities float64[n, k], each row by the model of its group."""
    names = np.array(groups, dtype=object)
    told = np.zeros((len(votes), n_classes))
    for name in sorted(set(names.tolist())):
        inside = names == name
        model = models.get(str(name), models[POOLED])
        told[inside] = model.predict(votes[inside], sets)
    return told


def _from_json(value: Mapping[str, Any]) -> LabelModel:
    known = StackedModel if value["method"] == STACKED else LabelModel
    return known.from_json(value)
