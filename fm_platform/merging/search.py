"""Choose merge weights on weak dev labels: no gold label is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.spec.models import Merge

_BATCH_ROWS = 32
_FIRST_STEP = 0.4
_LAST_STEP = 0.1


@dataclass(frozen=True)
class Candidate:
    """Weights that were tried, and their expected log loss in nats, averaged over sources."""

    weights: tuple[float, ...]
    loss: float


def search_weights(
    load: Callable[[Sequence[float]], Any],
    experts: int,
    dev: pa.Table,
    tokenizer: Any,
    merge: Merge,
    max_tokens: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Candidate, ...]:
    """Return the candidates in the order they were tried; take the first with the least loss.

    A pattern search on the simplex (weights of at least 0 that sum to 1): from the uniform
    weights, steps towards each expert; the best step is taken, and where none helps the step is
    halved. The expectation of the loss is over the weak label's probabilities; the mean over
    sources keeps a big source from deciding alone. The same inputs give the same answer.

    Args:
        load: Weights -> a model in evaluation mode with the merged tensors.
        experts: How many weights, at least 2.
        dev: Cleaned dev rows: row_id, text, source, probabilities.
        tokenizer: Of the base model.
        merge: Its search_evaluations and search_rows_per_source.
        max_tokens: Longer texts are cut.
        seed: Of the dev sample.
        on_progress: Told of each candidate: done, at most.
    """
    sample = _Sample(dev, tokenizer, merge.search_rows_per_source, max_tokens, seed)
    tried: dict[tuple[float, ...], float] = {}

    def score(weights: tuple[float, ...]) -> float:
        if weights not in tried and len(tried) < merge.search_evaluations:
            tried[weights] = sample.loss(load(weights))
            if on_progress is not None:
                on_progress(len(tried), merge.search_evaluations)
        return tried.get(weights, float("inf"))

    here = tuple([round(1.0 / experts, 6)] * experts)
    loss, step = score(here), _FIRST_STEP
    while step >= _LAST_STEP and len(tried) < merge.search_evaluations:
        moves = [(score(move), i, move) for i, move in enumerate(_towards_each(here, step))]
        best_loss, _, best = min(moves)
        if best_loss < loss:
            here, loss = best, best_loss
        else:
            step /= 2
    if on_progress is not None:
        on_progress(merge.search_evaluations, merge.search_evaluations)
    return tuple(Candidate(weights, loss) for weights, loss in tried.items())


def _towards_each(weights: Sequence[float], step: float) -> list[tuple[float, ...]]:
    """Return the weights after a step towards each expert: (1 - step) * w + step * e_j."""
    n = len(weights)
    return [
        tuple(round((1 - step) * weights[i] + (step if i == j else 0.0), 6) for i in range(n))
        for j in range(n)
    ]


class _Sample:
    """Dev rows, balanced by source, tokenised once."""

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
        self.batches = [
            tokenizer(
                [texts[i] for i in order[start : start + _BATCH_ROWS]],
                truncation=True, max_length=max_tokens, padding=True, return_tensors="pt",
            )
            for start in range(0, len(order), _BATCH_ROWS)
        ]  # fmt: skip

    def loss(self, model: Any) -> float:
        """Return the expected log loss, the mean over sources of their mean."""
        import torch

        with torch.inference_mode():
            logits = [model(**batch).logits.float() for batch in self.batches]
            logs = torch.log_softmax(torch.cat(logits), dim=-1)
        losses: npt.NDArray[np.float64] = -(self.targets * logs).sum(dim=1).double().numpy()
        names = sorted(set(self.sources.tolist()))
        return float(np.mean([losses[self.sources == name].mean() for name in names]))
