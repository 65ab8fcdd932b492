"""How much the models care: what changes when a function, a column or a term is taken away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Labeler = Callable[[npt.NDArray[np.int8], Sequence[str]], npt.NDArray[Any]]
"""(votes [n, m], source of each row) -> probabilities [n, k]: the label model."""
Answerer = Callable[[Sequence[str]], npt.NDArray[Any]]
"""Texts -> probabilities [n, k]: the live model."""

MOST_TEXTS = 64
ABSTAIN = -1


def of_functions(
    sample: pa.Table | None,
    positions: Sequence[int],
    classes: int,
    labeler: Labeler | None = None,
) -> float | None:
    """Return the share of weak labels that change when these functions abstain together.

    Args:
        sample: Rows of the reference with `votes` and `source`.
        positions: Of the functions in a row of votes.
        classes: Number of classes.
        labeler: The label model; None: majority vote.

    Returns:
        A share in [0, 1]; None where the sample holds no votes; 0 for no function.
    """
    if sample is None or "votes" not in sample.column_names or not sample.num_rows:
        return None
    if not positions:
        return 0.0
    flat = np.asarray(sample["votes"].combine_chunks().flatten(), np.int8)
    votes = np.maximum(flat.reshape(sample.num_rows, -1), ABSTAIN).astype(np.int8)
    sources = sample["source"].to_pylist()
    without = votes.copy()
    without[:, list(positions)] = ABSTAIN

    def answers(matrix: npt.NDArray[np.int8]) -> npt.NDArray[Any]:
        if labeler is not None:
            return labeler(matrix, sources)
        from fm_platform.labeling.label_model import majority_vote

        return majority_vote(matrix, classes)

    before, after = answers(votes), answers(without)
    # ties of a majority vote: the answer counts as changed as far as its probability went
    best = before.argmax(axis=1)
    rows = np.arange(len(best))
    lost = np.where(after.argmax(axis=1) == best, 0.0, 1.0)
    tied = np.isclose(after[rows, best], after.max(axis=1))
    return float(np.where(tied, 0.0, lost).mean())


def of_terms(texts: Sequence[str], terms: Sequence[str], answer: Answerer) -> float | None:
    """Return how far the live model's probabilities move when these terms are cut from texts.

    Occlusion (Zeiler & Fergus 2014): half the sum of the changes of the probabilities, averaged
    over at most `MOST_TEXTS` texts that hold one of the terms.
    """
    wanted = set(terms)
    holding = [t for t in texts if wanted & set(_words(t))][:MOST_TEXTS]
    if not holding:
        return None
    cut = [" ".join(w for w in t.split() if _bare(w) not in wanted) for t in holding]
    before, after = answer(holding), answer(cut)
    return float(0.5 * np.abs(np.asarray(before) - np.asarray(after)).sum(axis=1).mean())


def _bare(word: str) -> str:
    return word.strip(".,!?;:\"'()").lower()


def _words(text: str) -> list[str]:
    return [_bare(word) for word in text.split()]
