"""Choose merge weights on weak dev labels: no gold label is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_ROWS_PER_SOURCE = 120
_BATCH = 32
_LEAN = 0.55


def candidates(n: int) -> list[list[float]]:
    """Return weights to try: uniform, and one expert leaning each; all sum to 1."""
    uniform = [1.0 / n] * n
    leaning = [[_LEAN if i == j else (1 - _LEAN) / (n - 1) for i in range(n)] for j in range(n)]
    return [uniform, *leaning]


def search_weights(
    load: Callable[[Sequence[float]], Any],
    names: Sequence[str],
    dev: pa.Table,
    tokenizer: Any,
    max_tokens: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Return the weights with the least expected log loss, averaged over sources.

    The expectation is over the weak label's probabilities. After the first round the mean of
    the two best candidates is tried too. A tie goes to the earlier candidate, uniform first.

    Args:
        load: Weights -> a model in evaluation mode with the merged tensors.
        names: Experts, in the order of the weights.
        dev: Cleaned dev rows: row_id, text, source, probabilities.
        tokenizer: Of the base model.
        max_tokens: Longer texts are cut.
        seed: Of the dev sample.
        on_progress: Told of each candidate.
    """
    rows = _sample(dev, seed)
    tried: list[tuple[float, list[float]]] = []
    queue = candidates(len(names))
    total = len(queue) + 1
    for weights in queue:
        tried.append((_score(load(weights), rows, tokenizer, max_tokens), weights))
        if on_progress is not None:
            on_progress(len(tried), total)
    first, second = sorted(tried, key=lambda item: item[0])[:2]
    mean = [(a + b) / 2 for a, b in zip(first[1], second[1], strict=True)]
    tried.append((_score(load(mean), rows, tokenizer, max_tokens), mean))
    if on_progress is not None:
        on_progress(total, total)
    best = min(tried, key=lambda item: item[0])[1]
    return dict(zip(names, best, strict=True))


def _sample(dev: pa.Table, seed: int) -> pa.Table:
    sources = np.array(dev["source"].to_pylist(), dtype=object)
    generator = np.random.default_rng([seed, 5])
    chosen: list[int] = []
    for name in sorted(set(sources.tolist())):
        members = np.flatnonzero(sources == name)
        chosen += generator.permutation(members)[:_ROWS_PER_SOURCE].tolist()
    return dev.take(sorted(chosen))


def _score(model: Any, rows: pa.Table, tokenizer: Any, max_tokens: int) -> float:
    losses = _losses(model, rows, tokenizer, max_tokens)
    sources = np.array(rows["source"].to_pylist(), dtype=object)
    return float(np.mean([losses[sources == name].mean() for name in sorted(set(sources))]))


def _losses(model: Any, rows: pa.Table, tokenizer: Any, max_tokens: int) -> npt.NDArray[np.float64]:
    import torch

    texts = rows["text"].to_pylist()
    targets = np.array(rows["probabilities"].to_pylist(), np.float32)
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    losses = np.zeros(len(texts))
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            encoded = tokenizer(
                [texts[i] for i in batch], truncation=True, max_length=max_tokens, padding=True,
                return_tensors="pt",
            )  # fmt: skip
            logs = torch.log_softmax(model(**encoded).logits.float(), dim=-1).numpy()
            losses[batch] = -(targets[batch] * logs).sum(axis=1)
    return losses
