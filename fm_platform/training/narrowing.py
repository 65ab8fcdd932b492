"""Training that looks most at the group that is worst off, so that groups end closer together.

Online group distributionally robust optimisation: exponentiated-gradient weights of the groups
against gradient steps of the model (Sagawa et al. 2020, "Distributionally Robust Neural Networks
for Group Shifts", arXiv 1911.08731, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.hashing import fingerprint
from fm_platform.losses import soft_cross_entropy
from fm_platform.spec.training import NarrowGap, Training
from fm_platform.training.data import Encoded, cells_of
from fm_platform.training.loop import OnStep, RowLoss, TrainingLoop

Floats = npt.NDArray[np.float64]
_PREFIX = "weight/"
_LEAST = 1e-6
"""Weight from which a group that was let go comes back when its loss has grown."""


def groups_of(rows: Encoded, between: str, classes: Mapping[int, str]) -> list[str]:
    """Return the group of each row: its `source`, or the likeliest `class` of its weak label."""
    if between == "source":
        return list(rows.sources)
    return [classes[i] for i in rows.targets.argmax(axis=1).tolist()]


def one_group(rows: Encoded, between: str) -> bool:
    """Whether all rows are of one group."""
    indices = dict(enumerate(map(str, range(rows.targets.shape[1]))))
    return len(set(groups_of(rows, between, indices))) < 2


def least_losses(rows: Encoded) -> Floats:
    """Return the loss float64[n] that a perfect model would still have: the targets are soft."""
    import torch

    if not len(rows):
        return np.zeros(0)
    targets = torch.tensor(rows.targets)
    logs = targets.clamp_min(torch.finfo(targets.dtype).tiny).log()
    least = soft_cross_entropy(logs, targets, cells_of(rows, range(len(rows))))
    return np.asarray(least.double().numpy())


class NarrowingLoop(TrainingLoop):
    """The training loop with a weight for each group of rows.

    The loss of a row of group g counts q(g) / p(g) times, where p(g) is the share of its rows and
    q(g) the weight of the group: so a step follows the gradient of the sum over g of q(g) L(g),
    which the algorithm gets by drawing groups instead. q begins as p, where a step is that of a
    plain training (in the paper all begin equal). After each step q(g) is multiplied by
    exp(rate * L(g)) and the sum made 1, with L(g) estimated from the batch as the sum of its losses
    in g over p(g) times the rows of the batch. The rate is `strength` over the planned steps: at
    the end the logarithm of q(g) / p(g) differs between two groups by `strength` times the mean
    difference of their L over the training, however many steps there were. A step uses the weights
    of the steps before it, not of its own batch: a batch cut for want of memory is no other.

    L is the expected log loss of soft targets less the least there is (their entropy): the part
    that training can lower, with the same gradient. Otherwise the group with the flattest weak
    labels would be looked at most. Among the states that were evaluated, the one is kept whose
    worst group has the least of it on dev rows: that is its `dev_loss`.

    The weights are part of the history, as `weight/GROUP`, and so of every checkpoint.
    """

    def __init__(
        self,
        model: Any,
        rows: Encoded,
        dev: Encoded,
        config: Training,
        *,
        learning_rate: float,
        pad_id: int,
        workdir: Path,
        on_step: OnStep | None = None,
        objective: RowLoss | None = None,
    ) -> None:
        self.rule = config.narrow_gap or NarrowGap()
        self.classes: Mapping[int, str] = model.config.id2label
        told = groups_of(rows, self.rule.between, self.classes)
        self.names, self.group = _numbered(told)
        self.shares: Floats = np.bincount(self.group) / len(told)
        self.weights = self.shares.copy()
        self.least = least_losses(rows)
        self._seen: list[tuple[Sequence[int], Floats]] = []
        super().__init__(
            model, rows, dev, config,
            learning_rate=learning_rate, pad_id=pad_id, workdir=workdir, on_step=on_step,
            objective=objective,
        )  # fmt: skip
        self.dev_least = least_losses(self.dev)
        _, self.dev_group = _numbered(groups_of(self.dev, self.rule.between, self.classes))

    def metrics(self) -> dict[str, float | int | None]:
        """Return the numbers of this training, and the last weight of each group."""
        last = {name: round(weight, 6) for name, weight in self._weights().items()}
        return {**super().metrics(), **last}

    def _weights(self) -> dict[str, float]:
        named = zip(self.names, self.weights.tolist(), strict=True)
        return {f"{_PREFIX}{name}": weight for name, weight in named}

    def _losses(self, rows: Encoded, batch: Sequence[int]) -> Any:
        losses = super()._losses(rows, batch)
        self._seen.append((batch, losses.detach().double().cpu().numpy()))
        if rows is self.dev:
            return losses
        own = self.group[list(batch)]
        weights = (self.weights / self.shares)[own].astype(np.float32)
        return losses * self.torch.from_numpy(weights).to(losses.device)

    def _accumulate(self, batch: Sequence[int], rate: float) -> float:
        self._seen = []
        return super()._accumulate(batch, rate)

    def _step(self) -> None:
        super()._step()
        rows, losses = self._reducible(self.least)
        found = np.bincount(self.group[rows], losses, len(self.names)) / self.shares / len(rows)
        logs = (
            np.log(np.maximum(self.weights, _LEAST)) + self.rule.strength / len(self.plan) * found
        )
        self.weights = np.exp(logs - logs.max())
        self.weights /= self.weights.sum()
        self.history[-1] |= self._weights()

    def _dev_loss(self) -> float:
        """Return the mean loss, in nats above the least, of the dev rows of the worst group."""
        self._seen = []
        super()._dev_loss()
        rows, losses = self._reducible(self.dev_least)
        own = self.dev_group[rows]
        return float((np.bincount(own, losses) / np.bincount(own)).max())

    def _reducible(self, least: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return positions of the rows seen since the last call to forget, and their losses."""
        rows = np.concatenate([np.asarray(batch, np.int64) for batch, _ in self._seen])
        return rows, np.concatenate([losses for _, losses in self._seen]) - least[rows]

    def _identity(self) -> str:
        return fingerprint([super()._identity(), self.group.tolist()])

    def _resume(self) -> None:
        super()._resume()
        for point in reversed(self.history):
            if "train_loss" in point:
                self.weights = np.array([point[f"{_PREFIX}{name}"] for name in self.names])
                return


def _numbered(told: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the different names, sorted, and for each of n the position of its name."""
    names = sorted(set(told))
    return names, np.array([names.index(name) for name in told], np.int64)
