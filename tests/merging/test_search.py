"""The search finds the weights that the dev rows ask for, within its budget."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from fm_platform.merging.search import DevSample, best, search_weights
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


def sample(base: BaseModel, merge: Merge, rows: pa.Table = DEV) -> DevSample:
    return DevSample(rows, base.tokenizer(), merge.search_rows_per_source, 24, 0)


def search(base: BaseModel, told: Told, **merge: Any) -> Any:
    declared = Merge(**merge)
    return search_weights(told.load, len(told.target), sample(base, declared), declared)


@pytest.mark.parametrize("target", [(1, 0, 0), (0, 0.2, 0.8), (0.6, 0.4, 0)])
def test_it_comes_near(family: Family, target: tuple[float, ...]) -> None:
    tried = search(family.base, Told(target), search_evaluations=40)
    found = min(tried, key=lambda candidate: candidate.loss)

    assert tried[0].weights == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-5)
    assert sum(abs(a - b) for a, b in zip(found.weights, target, strict=True)) < 0.3
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
    tried = search_weights(told.load, 2, sample(family.base, Merge(), rows), Merge())
    fair = sample(family.base, Merge(), DEV.take([0, 1]))
    balanced = search_weights(told.load, 2, fair, Merge())

    assert [c.loss for c in tried] == pytest.approx([c.loss for c in balanced], abs=1e-6)


def test_progress(family: Family) -> None:
    seen: list[tuple[int, int]] = []
    four = Merge(search_evaluations=4)
    search_weights(
        Told((1, 0)).load, 2, sample(family.base, four), four, lambda *done: seen.append(done)
    )

    assert seen[-1] == (4, 4)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_free_weights_may_forget_and_cost(family: Family) -> None:
    target = (1.0, -0.4)
    tried = search(family.base, Told(target), search="free", search_evaluations=60)
    chosen = best(tried, Merge(search="free"))

    assert chosen.weights[1] < 0
    assert sum(abs(a - b) for a, b in zip(chosen.weights, target, strict=True)) < 0.4
    assert all(abs(weight) <= 1.5 for c in tried for weight in c.weights)


def test_a_soup_takes_only_what_does_not_harm(family: Family) -> None:
    tried = search(family.base, Told((0.5, 0, 0.5)), search="soup")

    assert best(tried, Merge(search="soup")).weights == (0.5, 0, 0.5)
    assert len(tried) <= 3 + 1 + 2


def test_batches_of_some_sources_hold_their_rows(family: Family) -> None:
    whole = sample(family.base, Merge())
    rows = sum(len(batch["input_ids"]) for batch in whole.batches_of(["chat"]))

    assert rows == int((whole.sources == "chat").sum()) > 0
    assert list(whole.batches_of(["none"])) == []
