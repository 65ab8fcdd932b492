"""What a training row costs where labels are noisy: which loss, and how much the row counts.

Dev rows are always judged by plain soft cross entropy, so that trainings can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.losses import soft_cross_entropy
from fm_platform.spec.training import Training
from fm_platform.training.data import Encoded

BETA = 0.999
"""Of the effective number of rows of a class: beyond some thousands, more rows say little."""
Floats = npt.NDArray[np.float64]


def generalised_cross_entropy(logits: Any, targets: Any, q: float, cells: Any | None = None) -> Any:
    """Return the expected generalised cross entropy of each row.

    sum over c of t(c) (1 - P(c)^q) / q. For a sure label it is equation 6 of Zhang & Sabuncu
    2018, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels",
    arXiv 1805.07836; for a soft one its expectation over the classes that the label allows. Near
    q = 0 it is soft cross entropy, at q = 1 one minus the probability of agreeing: a row that the
    model finds improbable moves it less, by the factor P(c)^q of the gradient. Where a label does
    not tell classes apart, P is the sum of their probabilities, as in `soft_cross_entropy`.

    Args:
        logits: float32[b, k] tensor.
        targets: float32[b, k] tensor, probabilities.
        q: Above 0, at most 1.
        cells: int[b, k] tensor or None, see `losses.Cells`.

    Returns:
        float32[b] tensor, between 0 and 1 / q.
    """
    import torch

    logs = _log_of_cells(logits, cells)
    return (targets * -torch.expm1(q * logs)).sum(dim=-1) / q


def _log_of_cells(logits: Any, cells: Any | None) -> Any:
    """Return log P(cell of c) for each class c, float32[b, k]."""
    import torch

    if cells is None:
        return torch.log_softmax(logits, dim=-1)
    b, k = logits.shape
    # it is minus the loss of a label that is sure of c
    sure = torch.eye(k, dtype=logits.dtype, device=logits.device).repeat(b, 1)
    each = soft_cross_entropy(
        logits.repeat_interleave(k, dim=0), sure, cells.repeat_interleave(k, dim=0)
    )
    return -each.view(b, k)


@dataclass(frozen=True)
class Objective:
    """The loss of training rows as it is declared.

    Attributes:
        q: Of the generalised cross entropy; None: soft cross entropy.
        weights: float32[n], how much each row counts, 1 in the mean; None: all alike.
    """

    q: float | None
    weights: npt.NDArray[np.float32] | None

    def __call__(
        self, logits: Any, targets: Any, cells: Any | None, positions: Sequence[int]
    ) -> Any:
        """Return the loss of the rows at `positions`, float32[b]."""
        import torch

        if self.q is None:
            losses = soft_cross_entropy(logits, targets, cells)
        else:
            losses = generalised_cross_entropy(logits, targets, self.q, cells)
        if self.weights is None:
            return losses
        return losses * torch.from_numpy(self.weights[list(positions)]).to(losses.device)


def objective_of(rows: Encoded, config: Training) -> Objective | None:
    """Return the declared loss of these rows; None where it is plain soft cross entropy."""
    if config.loss == "soft" and config.weights == "none":
        return None
    return Objective(
        config.loss_q if config.loss == "generalised" else None, row_weights(rows, config.weights)
    )


def row_weights(rows: Encoded, by: str) -> npt.NDArray[np.float32] | None:
    """Return how much each row counts, float32[n], at least 0 and 1 in the mean.

    `confidence`: `certainty`. `source`: the inverse of the rows of its source, so that sources
    count alike. `class`: the inverse of the effective number of rows of its class, which is
    (1 - BETA^m) / (1 - BETA) of m rows (Cui et al. 2019, "Class-Balanced Loss Based on Effective
    Number of Samples", arXiv 1901.05555, equation 2); m is the sum of the targets, and a soft
    row counts as the mean over its classes. `none`: None.
    """
    if by == "none" or not len(rows):
        return None
    if by == "confidence":
        found = certainty(rows)
    elif by == "source":
        _, spot, counts = np.unique(
            np.array(rows.sources, dtype=object), return_inverse=True, return_counts=True
        )
        found = 1.0 / counts[spot]
    else:
        targets = rows.targets.astype(np.float64)
        effective = (1.0 - BETA ** targets.sum(axis=0)) / (1.0 - BETA)
        found = targets @ np.divide(
            1.0, effective, out=np.zeros_like(effective), where=effective > 0
        )
    mean = found.mean()
    return (found / mean if mean > 0 else np.ones(len(rows))).astype(np.float32)


def certainty(rows: Encoded) -> Floats:
    """Return how sure each label is, float64[n]: 1 a single class, 0 all classes alike.

    It is one minus the entropy of the target over the largest there could be. Classes that a
    label does not tell apart are one; a label that tells none apart is not sure of any.
    """
    n, k = rows.targets.shape
    mass = rows.targets.astype(np.float64)
    choices = np.full(n, k)
    if rows.cells is not None:
        cells = rows.cells.astype(np.int64)
        mass = np.zeros((n, k))
        np.add.at(mass, (np.arange(n)[:, None], cells), rows.targets.astype(np.float64))
        choices = (cells == np.arange(k)).sum(axis=1)
    logs = np.log(mass, out=np.zeros_like(mass), where=mass > 0)
    largest = np.log(choices)
    share = np.divide(-(mass * logs).sum(axis=1), largest, out=np.ones(n), where=largest > 0)
    found: Floats = np.clip(1.0 - share, 0.0, 1.0)
    return found
