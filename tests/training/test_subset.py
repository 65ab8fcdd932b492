"""The rows that a training takes: by coverage as brute force would, by certainty, balanced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from fm_platform.errors import TrainingError
from fm_platform.training import subset
from fm_platform.training.data import Encoded
from fm_platform.training.subset import covering, fewer
from tests.support.tiny_model import tiny_config


def vectors_of(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)


def brute_force(vectors: np.ndarray, count: int) -> list[int]:
    """Return what trying every row at every step chooses."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = 1.0 + (unit @ unit.T).astype(np.float64)
    chosen: list[int] = []
    for _ in range(count):
        totals = [
            -1.0 if j in chosen else float(alike[:, [*chosen, j]].max(axis=1).sum())
            for j in range(len(alike))
        ]
        chosen.append(int(np.argmax(totals)))
    return chosen


def rows(n: int, sources: str = "ab", seed: int = 0) -> Encoded:
    targets = np.random.default_rng(seed).dirichlet(np.ones(3), n).astype(np.float32)
    names = [sources[i % len(sources)] for i in range(n)]
    return Encoded([str(i) for i in range(n)], [[1]] * n, targets, names)


def given(seed: int = 0) -> subset.Vectors:
    known = vectors_of(seed, 1000)

    def vectors(ids: Sequence[str]) -> np.ndarray:
        return known[[int(row) for row in ids]]

    return vectors


@pytest.mark.parametrize("seed", range(5))
def test_coverage_is_the_greedy_choice(seed: int) -> None:
    vectors = vectors_of(seed, 60)

    assert covering(vectors, 20) == brute_force(vectors, 20)


def test_of_groups_of_like_rows_each_is_stood_for() -> None:
    middles = np.eye(6, dtype=np.float32)[:4]
    vectors = np.repeat(middles, [50, 20, 5, 5], axis=0)
    vectors = vectors + 0.01 * vectors_of(0, 80)

    chosen = covering(vectors, 4)

    assert sorted(vectors[chosen].argmax(axis=1).tolist()) == [0, 1, 2, 3]


def test_a_share_of_each_source_is_taken_in_order() -> None:
    many = rows(90, "aab")
    found = fewer(many, tiny_config(subset=0.3), given())

    assert Counter(found.sources) == {"a": 18, "b": 9}
    assert found.row_ids == sorted(found.row_ids, key=int)
    assert found.row_ids == fewer(many, tiny_config(subset=0.3), given()).row_ids
    of_a = [i for i, name in enumerate(many.sources) if name == "a"]
    wanted = covering(vectors_of(0, 1000)[of_a], 18)
    assert {int(i) for i in found.row_ids} & set(of_a) == {of_a[i] for i in wanted}


def test_many_rows_are_parted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "MOST", 16)
    found = fewer(rows(60, "a"), tiny_config(subset=0.5), given())

    assert 28 <= len(found) <= 32
    assert found.row_ids == fewer(rows(60, "a"), tiny_config(subset=0.5), given()).row_ids


def test_all_rows_are_themselves() -> None:
    many = rows(9)

    assert fewer(many, tiny_config()) is many


def test_the_surest_rows_of_each_class_are_taken() -> None:
    targets = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0, 0.5, 0.5], [0, 1, 0]], np.float32)
    few = Encoded(list("wxyz"), [[1]] * 4, targets, ["a"] * 4)

    found = fewer(few, tiny_config(subset=0.5, subset_by="certainty"))

    assert found.row_ids == ["w", "z"]


def test_coverage_without_embeddings_is_refused() -> None:
    with pytest.raises(TrainingError, match="there are none"):
        fewer(rows(9), tiny_config(subset=0.5))
