"""The search finds the weights that the dev rows ask for, within its budget."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fm_platform.merging.search import search_weights
from fm_platform.spec.models import Merge
from fm_platform.training.base_model import BaseModel
from tests.merging.conftest import DEV, Family


class Told:
    """A stand-in for merging: its logits are the better, the nearer the weights to the target."""

    def __init__(self, target: Sequence[float]) -> None:
        self.target, self.loaded = np.array(target), []  # type: ignore[var-annotated]

    def load(self, weights: Sequence[float]) -> Any:
        self.loaded.append(tuple(weights))
        distance = float(np.abs(np.array(weights) - self.target).sum())

        def model(input_ids: torch.Tensor, **_: Any) -> Any:
            # Uniform answers but for a shift that costs the more, the farther the weights.
            logits = torch.zeros(len(input_ids), 3)
            logits[:, 0] = distance * 3 + (5.0 if distance > 0.01 else 0.0)
            return SimpleNamespace(logits=logits)

        return model


def search(base: BaseModel, told: Told, **merge: Any) -> Any:
    return search_weights(told.load, len(told.target), DEV, base.tokenizer(), Merge(**merge), 24, 0)


@pytest.mark.parametrize("target", [(1, 0, 0), (0, 0.2, 0.8), (0.6, 0.4, 0)])
def test_it_comes_near(family: Family, target: tuple[float, ...]) -> None:
    tried = search(family.base, Told(target), search_evaluations=40)
    best = min(tried, key=lambda candidate: candidate.loss)

    assert tried[0].weights == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-5)
    assert sum(abs(a - b) for a, b in zip(best.weights, target, strict=True)) < 0.3
    assert all(sum(c.weights) == pytest.approx(1, abs=1e-4) for c in tried)
    assert all(min(c.weights) >= 0 for c in tried)


def test_uniform_weights_stay_where_nothing_is_better(family: Family) -> None:
    tried = search(family.base, Told((1 / 3, 1 / 3, 1 / 3)))

    assert min(tried, key=lambda candidate: candidate.loss) == tried[0]


@pytest.mark.parametrize("budget", [1, 2, 5, 12])
def test_the_budget_holds_and_nothing_is_tried_twice(family: Family, budget: int) -> None:
    told = Told((1, 0))
    tried = search(family.base, told, search_evaluations=budget)

    assert len(tried) == len(told.loaded) == len(set(told.loaded)) <= budget


def test_a_source_counts_by_its_mean_not_by_its_rows(family: Family) -> None:
    rows = DEV.take([0] * 20 + [1])
    told = Told((1, 0))
    tried = search_weights(told.load, 2, rows, family.base.tokenizer(), Merge(), 24, 0)
    balanced = search_weights(
        told.load, 2, DEV.take([0, 1]), family.base.tokenizer(), Merge(), 24, 0
    )

    assert [c.loss for c in tried] == pytest.approx([c.loss for c in balanced], abs=1e-6)


def test_progress(family: Family) -> None:
    seen: list[tuple[int, int]] = []
    search_weights(
        Told((1, 0)).load, 2, DEV, family.base.tokenizer(), Merge(search_evaluations=4), 24, 0,
        lambda *done: seen.append(done),
    )  # fmt: skip

    assert seen[-1] == (4, 4)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
