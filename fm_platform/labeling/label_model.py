"""Which label model a project uses: all candidates are fitted, dev gold rows choose.

A tie goes to majority vote, and a source on which dev shows majority vote to be better keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.em import (
    COLLAPSED,
    CONFUSION,
    MAJORITY,
    ONE_COIN,
    LabelModel,
    fit_em,
    fit_majority,
    majority_vote,
)
from fm_platform.labeling.patterns import Floats, Ints, Votes
from fm_platform.spec.models import LabelModelSpec

__all__ = [
    "COLLAPSED",
    "CONFUSION",
    "MAJORITY",
    "ONE_COIN",
    "POOLED",
    "LabelModel",
    "LabelModelFit",
    "fit_em",
    "fit_label_model",
    "majority_vote",
]

POOLED = "*"
_LEAST_ROWS = 50
_METHODS = {"majority_vote": (MAJORITY,), "em": (ONE_COIN, CONFUSION), "em_collapsed": (COLLAPSED,)}


@dataclass(frozen=True)
class LabelModelFit:
    """The chosen method, its models by group, and the evidence of the choice.

    Attributes:
        method: The method chosen overall; a group may have kept majority vote.
        n_classes: k.
        groups: Group -> model; `*` serves groups that are not there.
        evidence: One record per candidate and group: dev rows, accuracy, log loss, whether it is
            used there, and a note why.
    """

    method: str
    n_classes: int
    groups: Mapping[str, LabelModel]
    evidence: Sequence[Mapping[str, Any]]

    def predict(self, votes: Votes, groups: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return probabilities float32[n, k]."""
        return _predict(self.groups, votes, groups, self.n_classes).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return exact JSON."""
        return {
            "method": self.method,
            "n_classes": self.n_classes,
            "groups": {name: model.to_json() for name, model in sorted(self.groups.items())},
            "evidence": [dict(record) for record in self.evidence],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelModelFit:
        """Return what `to_json` wrote."""
        groups = {name: LabelModel.from_json(model) for name, model in value["groups"].items()}
        return cls(value["method"], value["n_classes"], groups, value["evidence"])


def fit_label_model(
    votes: Votes,
    groups: Sequence[str],
    dev_rows: Ints,
    dev_labels: Ints,
    n_classes: int,
    spec: LabelModelSpec,
) -> LabelModelFit:
    """Fit all candidates and choose on the dev gold rows.

    Another method replaces the first candidate (majority vote) only where it is better on dev in
    accuracy and in log loss: its probabilities become training targets, so a lucky row is not
    enough. Without dev rows the first candidate is used, and the evidence says so.

    Args:
        votes: int8[n, m].
        groups: n group names (sources).
        dev_rows: Positions of the dev gold rows.
        dev_labels: Their classes.
        n_classes: k.
        spec: Candidates and settings.
    """
    candidates = [m for key, own in _METHODS.items() if key in spec.candidates for m in own]
    candidates = candidates or [MAJORITY]
    names = np.array(groups, dtype=object)
    fitted = {method: _fit_groups(votes, names, n_classes, method, spec) for method in candidates}
    best = candidates[0]
    if len(dev_rows) == 0:
        record = {"method": best, "group": "all", "dev_rows": 0, "accuracy": None, "log_loss": None,
                  "chosen": True, "note": "no dev gold rows: nothing was compared"}  # fmt: skip
        return LabelModelFit(best, n_classes, fitted[best], [record])
    dev_groups = names[dev_rows].tolist()
    found = {
        method: _evidence(
            method,
            _predict(fitted[method], votes[dev_rows], dev_groups, n_classes),
            dev_labels,
            dev_groups,
        )
        for method in candidates
    }
    for method in candidates[1:]:
        if _better(found[method]["all"], found[best]["all"]):
            best = method
    kept = []
    if spec.per_source and MAJORITY in candidates and best != MAJORITY:
        kept = [g for g in sorted(set(dev_groups)) if _better(found[MAJORITY][g], found[best][g])]
    models = dict(fitted[best])
    for group in kept:
        models[group] = fitted[MAJORITY].get(group, fitted[MAJORITY][POOLED])
    evidence = [
        {**record, **_decision(method, group, best, candidates[0], kept)}
        for method in candidates
        for group, record in found[method].items()
    ]
    return LabelModelFit(best, n_classes, models, evidence)


def _better(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["accuracy"] > other["accuracy"] and one["log_loss"] < other["log_loss"])


def _decision(
    method: str, group: str, best: str, default: str, kept: Sequence[str]
) -> dict[str, Any]:
    """Return whether `method` is used for `group`, and why."""
    used = MAJORITY if group in kept else best
    if method != used:
        return {"chosen": False, "note": ""}
    if group in kept:
        return {"chosen": True, "note": f"better than {best} on the dev rows of this source"}
    if best == default:
        return {"chosen": True, "note": "no candidate is better in accuracy and in log loss"}
    return {"chosen": True, "note": f"better than {default} in accuracy and in log loss"
            if group == "all" else "as for all"}  # fmt: skip


def _fit_groups(
    votes: Votes, names: npt.NDArray[np.object_], n_classes: int, method: str, spec: LabelModelSpec
) -> dict[str, LabelModel]:
    """Fit the pooled model and, where there are rows enough, one for each group."""

    def fit(chosen: Votes) -> LabelModel:
        if method == MAJORITY:
            return fit_majority(chosen, n_classes)
        return fit_em(
            chosen,
            n_classes,
            one_coin=method != CONFUSION,
            collapsed=method == COLLAPSED,
            max_iterations=spec.max_iterations,
            smoothing=spec.smoothing,
            tolerance=spec.tolerance,
        )

    models = {POOLED: fit(votes)}
    if spec.per_source:
        for name in sorted(set(names.tolist())):
            inside = names == name
            if int(inside.sum()) >= _LEAST_ROWS:
                models[str(name)] = fit(votes[inside])
    return models


def _predict(
    models: Mapping[str, LabelModel], votes: Votes, groups: Sequence[str], n_classes: int
) -> Floats:
    names = np.array(groups, dtype=object)
    told = np.zeros((len(votes), n_classes))
    for name in sorted(set(names.tolist())):
        inside = names == name
        told[inside] = models.get(str(name), models[POOLED]).predict(votes[inside])
    return told


def _evidence(
    method: str, told: Floats, labels: Ints, groups: Sequence[str]
) -> dict[str, dict[str, Any]]:
    names = np.array(groups, dtype=object)
    records = {}
    for group in ["all", *sorted(set(groups))]:
        inside = np.ones(len(labels), bool) if group == "all" else names == group
        right = told[inside].argmax(axis=1) == labels[inside]
        chosen = told[inside][np.arange(int(inside.sum())), labels[inside]]
        records[group] = {
            "method": method,
            "group": group,
            "dev_rows": int(inside.sum()),
            "accuracy": round(float(right.mean()), 4),
            "log_loss": round(float(-np.log(np.clip(chosen, 1e-3, 1)).mean()), 4),
        }
    return records
