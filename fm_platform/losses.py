"""The loss of weak labels, with rows on which some classes are not told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.int8]
"""int8[n, k]: for each class of a row the first class that its label does not tell it from.
A row whose label tells all classes apart has 0, 1, … k - 1."""


def soft_cross_entropy(logits: Any, targets: Any, cells: Any | None = None) -> Any:
    """Return the expected log loss of each row, in nats.

    -sum over c of q(c) log P(cell of c), where P(cell) is the sum of the probabilities of its
    classes. With every class alone in its cell it is the cross entropy with soft targets; with
    one-hot targets it is -log of the sum of the allowed classes' probabilities, the marginal
    likelihood of a partial label (Jin & Ghahramani 2002, "Learning with Multiple Labels", without
    their re-weighting; skweak calls such labels underspecified).

    Args:
        logits: float32[b, k] tensor.
        targets: float32[b, k] tensor, probabilities; within a cell only their sum counts.
        cells: int[b, k] tensor, see `Cells`; None: every class is alone.
    """
    import torch

    logs = torch.log_softmax(logits, dim=-1)
    if cells is not None:
        together = cells.unsqueeze(1) == cells.unsqueeze(2)  # [b, k, k]
        masked = logs.unsqueeze(1).masked_fill(~together, float("-inf"))
        # where a class is alone this is its own value to the last bit
        alone = together.sum(dim=-1) == 1
        logs = torch.where(alone, logs, torch.logsumexp(masked, dim=-1))
    return -(targets * logs).sum(dim=-1)
