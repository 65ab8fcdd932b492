"""The order in which rows are asked."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.labeling.queue import belief, choose, disagreement, uncertainty


def rows(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    told = generator.dirichlet(np.ones(3), n)
    return told, generator.normal(size=(n, 8)).astype(np.float32)


def test_uncertainty_and_disagreement_lie_between_0_and_1() -> None:
    sure, open_ = np.array([[1.0, 0, 0]]), np.full((1, 3), 1 / 3)

    assert uncertainty(sure)[0] < 1e-6
    assert abs(uncertainty(open_)[0] - 1) < 1e-9
    assert disagreement(sure, sure)[0] == 0
    assert abs(disagreement(sure, sure[:, ::-1])[0] - 1) < 1e-6


@given(st.integers(0, 50), st.integers(1, 40), st.integers(0, 10))
def test_a_queue_never_holds_what_is_answered_nor_a_row_twice(
    seed: int, n: int, answered: int
) -> None:
    told, vectors = rows(seed, n)
    done = np.arange(min(answered, n))

    chosen, gains = choose(told, np.zeros(n), vectors, 10, seed, done)

    assert len(set(chosen.tolist())) == len(chosen) == min(10, n - len(done))
    assert not set(chosen.tolist()) & set(done.tolist())
    assert (np.diff(gains) <= 1e-12).all()
    again, _ = choose(told, np.zeros(n), vectors, 10, seed, done)
    assert chosen.tolist() == again.tolist()


def test_what_is_like_a_chosen_row_waits() -> None:
    told = np.full((5, 2), 0.5)
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.02], [0, 1], [0.01, 1]], np.float32)

    first, second = choose(told, np.zeros(5), vectors, 2, 0)[0].tolist()

    assert {first < 3, second < 3} == {True, False}


def test_answers_are_believed_when_there_are_enough() -> None:
    weak, vectors = np.full((80, 2), 0.5), np.linspace(-1, 1, 80, dtype=np.float32)[:, None]
    labels = (vectors[:, 0] > 0).astype(np.int64)

    assert belief(weak, vectors, np.arange(10), labels[:10]) is weak
    told = belief(weak, vectors, np.arange(0, 80, 1)[::1][:60], labels[:60])
    assert told[0, 0] > 0.9
