"""What votes are taken to mean before other votes speak: evidence in which they are mostly right.

Where each function knows one class, EM alone is lost: a single class explains all votes, and no
two functions that disagree show which of them is wrong. What people know of a function is that it
was written for its class. That is put in as evidence in proportion to its votes: of those most
are right, and the others are of the classes as these are common by majority vote. Votes of other
functions on the same rows still show that one is worse, or better, than that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fm_platform.labeling.parameters import symbol_table
from fm_platform.labeling.patterns import Floats
from fm_platform.labeling.units import Packed

# fixed by benchmarks/label_anchors.py, whose generators no other benchmark uses
_WEIGHT = 3.0
_RIGHT = 0.9


@dataclass(frozen=True)
class Anchors:
    """Counts that are added to those of EM.

    Attributes:
        prior: float64[k], rows of each class.
        units: For each unit float64[members, k, v], votes of each member on rows of each class;
            for a group float64[1, k, v], what its source says.
    """

    prior: Floats
    units: tuple[Floats, ...]


def anchors_of(packed: Packed, majority: Floats) -> Anchors:
    """Return the evidence for functions of which nothing is known but what they say.

    Args:
        packed: The votes.
        majority: float64[k, p], shares of the votes of each row.
    """
    k, rows = packed.n_classes, float(packed.weights.sum())
    prior = majority @ packed.weights / max(rows, 1e-12)
    symbols = symbol_table(k, packed.sets, True)
    shared = symbols / np.maximum(symbols.sum(axis=0), 1)  # a vote for a set is shared
    units = []
    for unit, total in zip(packed.units, packed.totals, strict=True):
        votes = (total @ unit.hot).reshape(len(unit.members), -1) @ shared.T
        if unit.joint:  # one voice
            votes = votes.mean(axis=0, keepdims=True)
        units.append(_WEIGHT * _mostly_right(votes, prior, rows))
    return Anchors(_WEIGHT * rows * prior, tuple(units))


def _mostly_right(votes: Floats, prior: Floats, rows: float) -> Floats:
    """Return float64[f, k, v] for votes float64[f, v], where v is k classes and silence."""
    k = len(prior)
    wrong = prior[:, None] / np.maximum(1 - prior, 1e-12)[None, :]  # of what class, if not its own
    precision = (1 - _RIGHT) * np.minimum(wrong, 1.0)
    np.fill_diagonal(precision, _RIGHT)
    said = votes[:, None, :k] * precision[None]
    quiet = np.maximum(rows * prior[None, :] - said.sum(axis=2), 0.0)
    return np.concatenate([said, quiet[:, :, None]], axis=2)
