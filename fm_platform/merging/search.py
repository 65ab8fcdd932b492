"""Search merge weights on weak dev labels: no gold label is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.losses import soft_cross_entropy
from fm_platform.merging.examine import Score
from fm_platform.spec.models import Merge

BATCH_ROWS = 32
_FIRST_STEP = 0.4
_LAST_STEP = 0.1
# LoRAHub: the weights may have any sign up to this size, and their absolute sum costs.
_LARGEST = 1.5
_COST_OF_WEIGHT = 0.05

Weights = tuple[float, ...]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """Weights that were tried, and their expected log loss in nats, averaged over sources."""

    weights: Weights
    loss: float


def search_weights(
    load: Callable[[Sequence[float]], Any],
    experts: int,
    sample: DevSample,
    merge: Merge,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Candidate, ...]:
    """Return the candidates in the order they were tried; `best` is the answer.

    `simplex`: weights of at least 0 that sum to 1. From the uniform weights, steps towards each
    expert; the best step is taken, and where none helps the step is halved.
    `free`: weights of any sign up to 1.5, each changed by a step up or down; 0.05 nats for each
    unit of weight (LoRAHub; Huang et al. 2023, arXiv 2307.13269, equation 2).
    `soup`: the mean of some experts: from the best one on, each next that does not make it worse
    (greedy soup; Wortsman et al. 2022, arXiv 2203.05482).

    The expectation of the loss is over the weak label's probabilities; the mean over sources
    keeps a big source from deciding alone. The same inputs give the same answer.

    Args:
        load: Weights -> a model in evaluation mode with the merged tensors.
        experts: How many weights, at least 2.
        sample: The dev rows.
        merge: Its search and search_evaluations.
        on_progress: Told of each candidate: done, at most.
    """
    tried: dict[Weights, float] = {}

    def score(weights: Weights) -> float:
        if weights not in tried and len(tried) < merge.search_evaluations:
            tried[weights] = sample.loss(load(weights))
            if on_progress is not None:
                on_progress(len(tried), merge.search_evaluations)
        loss = tried.get(weights, float("inf"))
        return loss + (_cost(weights) if merge.search == "free" else 0.0)

    if merge.search == "soup":
        _soup(score, experts)
    else:
        _pattern(score, experts, _each_way if merge.search == "free" else _towards_each)
    if on_progress is not None:
        on_progress(merge.search_evaluations, merge.search_evaluations)
    return tuple(Candidate(weights, loss) for weights, loss in tried.items())


def best(tried: Sequence[Candidate], merge: Merge) -> Candidate:
    """Return the first candidate with the least loss, or with the least loss and cost."""
    if merge.search == "free":
        return min(tried, key=lambda candidate: candidate.loss + _cost(candidate.weights))
    return min(tried, key=lambda candidate: candidate.loss)


def _pattern(
    score: Callable[[Weights], float],
    experts: int,
    moves: Callable[[Sequence[float], float], list[Weights]],
) -> None:
    here: Weights = tuple([round(1.0 / experts, 6)] * experts)
    loss, step = score(here), _FIRST_STEP
    while step >= _LAST_STEP:
        scored = [(score(move), i, move) for i, move in enumerate(moves(here, step))]
        best_loss, _, best_move = min(scored)
        if best_loss < loss:
            here, loss = best_move, best_loss
        else:
            step /= 2


def _soup(score: Callable[[Weights], float], experts: int) -> None:
    def mean_of(members: Sequence[int]) -> Weights:
        return tuple(round(1 / len(members), 6) if i in members else 0.0 for i in range(experts))

    score(mean_of(range(experts)))
    alone = sorted((score(mean_of([i])), i) for i in range(experts))
    kept, loss = [alone[0][1]], alone[0][0]
    for _, i in alone[1:]:
        found = score(mean_of([*kept, i]))
        if found <= loss:
            kept, loss = [*kept, i], found


def _towards_each(weights: Sequence[float], step: float) -> list[Weights]:
    """Return the weights after a step towards each expert: (1 - step) * w + step * e_j."""
    n = len(weights)
    return [
        tuple(round((1 - step) * weights[i] + (step if i == j else 0.0), 6) for i in range(n))
        for j in range(n)
    ]


def _each_way(weights: Sequence[float], step: float) -> list[Weights]:
    """Return the weights with one of them changed by a step up or down, within bounds."""

    def moves() -> Iterator[Weights]:
        for j, weight in enumerate(weights):
            for change in (step, -step):
                moved = round(min(_LARGEST, max(-_LARGEST, weight + change)), 6)
                yield (*weights[:j], moved, *weights[j + 1 :])

    return list(moves())


def _cost(weights: Sequence[float]) -> float:
    return _COST_OF_WEIGHT * sum(abs(weight) for weight in weights)


class DevSample:
    """Dev rows, balanced by source, tokenised once.

    Args:
        dev: Dev rows with weak or gold labels: row_id, text, source, probabilities.
        tokenizer: Of the base model.
        per_source: Rows of each source at most.
        max_tokens: Longer texts are cut.
        seed: Of the choice.
    """

    def __init__(
        self, dev: pa.Table, tokenizer: Any, per_source: int, max_tokens: int, seed: int
    ) -> None:
        import torch

        sources = np.array(dev["source"].to_pylist(), dtype=object)
        generator = np.random.default_rng([seed, 5])
        chosen: list[int] = []
        for name in sorted(set(sources.tolist())):
            members = np.flatnonzero(sources == name)
            chosen += generator.permutation(members)[:per_source].tolist()
        rows = dev.take(sorted(chosen))
        texts = rows["text"].to_pylist()
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        self.sources = np.array(rows["source"].to_pylist(), dtype=object)[order]
        self.targets = torch.tensor([rows["probabilities"][i].as_py() for i in order])
        self.cells = None
        if "cells" in rows.column_names and rows["cells"].null_count < len(rows):
            alone = list(range(self.targets.shape[1]))
            self.cells = torch.tensor([rows["cells"][i].as_py() or alone for i in order])
        self.batches = [
            tokenizer(
                [texts[i] for i in order[start : start + BATCH_ROWS]],
                truncation=True, max_length=max_tokens, padding=True, return_tensors="pt",
            )
            for start in range(0, len(order), BATCH_ROWS)
        ]  # fmt: skip

    def batches_of(self, sources: Sequence[str]) -> Iterator[Any]:
        """Yield the rows of these sources in batches, as the model takes them."""
        start = 0
        for batch in self.batches:
            rows = len(batch["input_ids"])
            own = np.isin(self.sources[start : start + rows], list(sources))
            start += rows
            if own.any():
                chosen = np.flatnonzero(own).tolist()
                yield {name: tensor[chosen] for name, tensor in batch.items()}

    def loss(self, model: Any) -> float:
        """Return the expected log loss, the mean over sources of their mean."""
        return mean_loss(self.scores(model))

    def scores(self, model: Any) -> dict[str, Score]:
        """Return source -> how the model does on its rows."""
        losses, right = self.each(model)
        found = {}
        for name in sorted(set(self.sources.tolist())):
            own = self.sources == name
            rows = int(own.sum())
            found[name] = Score(float(losses[own].mean()), float(right[own].mean()), rows)
        return found

    def each(self, model: Any) -> tuple[Floats, Floats]:
        """Return each row's expected log loss in nats and how likely its answer is right."""
        import torch

        with torch.inference_mode():
            told = torch.cat([model(**batch).logits.float() for batch in self.batches])
            losses: Floats = soft_cross_entropy(told, self.targets, self.cells).double().numpy()
        answers = told.argmax(dim=1, keepdim=True)
        right: Floats = self.targets.gather(1, answers).squeeze(1).double().numpy()
        return losses, right


def mean_loss(scores: dict[str, Score]) -> float:
    """Return the mean over sources of their expected log loss."""
    return float(np.mean([score.loss for _, score in sorted(scores.items())]))
