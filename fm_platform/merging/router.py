"""A router over experts: who should answer a text, instead of one merged model.

A composition of experts: each text is answered by all experts, weighted by how likely the text is
of the rows that each of them was trained on. It is the alternative that a merge is compared with:
it keeps every expert whole, and costs as many models to serve as there are experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.errors import MergeRefusedError

Probabilities = npt.NDArray[np.float64]
_FEATURES = 2**16
_LONGEST = 2_000  # characters of a text that count


class Router:
    """Chooses among experts by the text alone: character n-grams and a logistic regression.

    Args:
        texts: Training rows.
        experts: The expert of each row.
        seed: Of the fit.

    Raises:
        MergeRefusedError: If there are rows of fewer than two experts.
    """

    def __init__(self, texts: Sequence[str], experts: Sequence[str], seed: int = 0) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import SGDClassifier

        names = sorted(set(experts))
        if len(names) < 2:
            raise MergeRefusedError(
                "a router chooses among experts, and there are rows of one",
                found=", ".join(names) or "no rows",
                next_step="leave evaluation.router out",
            )
        self.names = names
        self._features = HashingVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), n_features=_FEATURES, alternate_sign=False
        )
        self._model: Any = SGDClassifier(
            loss="log_loss", alpha=1e-5, random_state=seed, class_weight="balanced", max_iter=20,
            tol=1e-3,
        )  # fmt: skip
        self._model.fit(self._matrix(texts), list(experts))

    def weights(self, texts: Sequence[str]) -> Probabilities:
        """Return how much each expert counts for each text, float64[texts, experts], rows sum to 1.

        Experts are in the order of `names`.
        """
        if not texts:
            return np.zeros((0, len(self.names)))
        found: Probabilities = self._model.predict_proba(self._matrix(texts))
        return found

    def _matrix(self, texts: Sequence[str]) -> Any:
        return self._features.transform([text[:_LONGEST] for text in texts])


def compose(
    weights: Probabilities, names: Sequence[str], answers: Mapping[str, npt.NDArray[Any]]
) -> Probabilities:
    """Return sum_e weight_e(text) * p_e(class | text), float64[texts, classes].

    Args:
        weights: float64[texts, experts].
        names: The experts, in the order of the columns.
        answers: Expert -> float[texts, classes].
    """
    stacked = np.stack([np.asarray(answers[name], np.float64) for name in names], axis=1)
    mixed: Probabilities = np.einsum("te,tec->tc", weights, stacked)
    return mixed
