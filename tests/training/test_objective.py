"""Losses and weights of noisy labels: closed forms, gradients, and what they are for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.losses import soft_cross_entropy
from fm_platform.training.data import Encoded
from fm_platform.training.objective import (
    BETA,
    Objective,
    certainty,
    generalised_cross_entropy,
    objective_of,
    row_weights,
)
from tests.support.tiny_model import tiny_config

EYE = np.eye(3)


def some(seed: int, n: int = 5, k: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(size=(n, k)))
    return logits, torch.from_numpy(generator.dirichlet(np.ones(k), n))


def encoded(targets: list[list[float]], sources: str = "", cells: object = None) -> Encoded:
    n = len(targets)
    told = None if cells is None else np.array(cells, np.int8)
    names = list(sources) or ["a"] * n
    return Encoded(
        [str(i) for i in range(n)], [[1]] * n, np.array(targets, np.float32), names, told
    )


# --- the generalised loss -------------------------------------------------------------------


def test_a_small_q_gives_soft_cross_entropy() -> None:
    logits, targets = some(0)

    told = generalised_cross_entropy(logits, targets, 1e-9)

    assert torch.allclose(told, soft_cross_entropy(logits, targets), atol=1e-6)


def test_q_of_one_gives_one_minus_the_probability() -> None:
    logits, _ = some(1)
    sure = torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0]]

    told = generalised_cross_entropy(logits, sure, 1.0)

    assert torch.allclose(told, 1 - torch.softmax(logits, -1)[range(5), [0, 1, 2, 3, 0]])


def test_a_sure_label_costs_what_the_paper_says() -> None:
    """Zhang & Sabuncu 2018, equation 6: (1 - p^q) / q."""
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64))

    told = generalised_cross_entropy(logits, torch.tensor([[0.0, 1.0, 0.0]]), 0.7)

    assert float(told) == pytest.approx((1 - 0.5**0.7) / 0.7)


@given(st.integers(0, 100), st.floats(0.01, 1.0))
def test_a_soft_label_costs_the_mean_over_its_classes(seed: int, q: float) -> None:
    logits, targets = some(seed)
    each = [generalised_cross_entropy(logits, torch.eye(4)[[c] * 5].double(), q) for c in range(4)]

    told = generalised_cross_entropy(logits, targets, q)

    assert torch.allclose(told, (torch.stack(each, 1) * targets).sum(1))


@pytest.mark.parametrize("cells", [None, [[0, 0, 2, 3]] * 3 + [[0, 1, 2, 3], [0, 0, 0, 0]]])
@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_gradients_are_those_of_finite_differences(q: float, cells: object) -> None:
    logits, targets = some(2)
    told = None if cells is None else torch.tensor(cells)

    assert torch.autograd.gradcheck(
        lambda x: generalised_cross_entropy(x, targets, q, told), logits.requires_grad_()
    )


def test_an_improbable_label_moves_the_model_less() -> None:
    """The gradient is that of cross entropy times p^q."""
    logits = torch.tensor([[4.0, 0.0, -4.0]], dtype=torch.float64, requires_grad=True)
    label = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    (plain,) = torch.autograd.grad(soft_cross_entropy(logits, label).sum(), logits)
    (less,) = torch.autograd.grad(generalised_cross_entropy(logits, label, 0.7).sum(), logits)

    p = float(torch.softmax(logits, -1)[0, 2].detach())
    assert torch.allclose(less, plain * p**0.7)


def test_classes_that_a_label_does_not_tell_apart_count_by_their_sum() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]], dtype=torch.float64))
    targets = torch.tensor([[0.1, 0.7, 0.2]] * 2, dtype=torch.float64)

    told = generalised_cross_entropy(logits, targets, 0.5, torch.tensor([[0, 0, 2], [0, 1, 2]]))

    by_sum = (0.8 * (1 - 0.5**0.5) + 0.2 * (1 - 0.5**0.5)) / 0.5
    apart = sum(
        t * (1 - p**0.5) / 0.5 for t, p in zip((0.1, 0.7, 0.2), (0.2, 0.3, 0.5), strict=True)
    )
    assert told.tolist() == pytest.approx([by_sum, apart])


# --- weights of rows ------------------------------------------------------------------------


def test_certainty_is_one_for_a_single_class_and_zero_for_all_alike() -> None:
    found = certainty(encoded([[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0]]))

    assert found.tolist() == pytest.approx([1, 0, 1 - math.log(2) / math.log(3)], abs=1e-6)


def test_a_label_that_tells_no_classes_apart_is_not_sure() -> None:
    rows = encoded([[1, 0, 0]] * 3, cells=[[0, 0, 0], [0, 0, 2], [0, 1, 2]])

    assert certainty(rows).tolist() == pytest.approx([0, 1, 1])
    half = encoded([[0.25, 0.25, 0.5]], cells=[[0, 0, 2]])
    assert certainty(half).tolist() == pytest.approx([0], abs=1e-6)


def test_sources_count_alike() -> None:
    weights = row_weights(encoded([[1, 0, 0]] * 4, "aaab"), "source")

    assert weights is not None
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


def test_classes_count_by_the_inverse_of_their_effective_number() -> None:
    targets = [EYE[0].tolist()] * 8 + [EYE[1].tolist()] * 2 + [[0.5, 0.5, 0]]
    weights = row_weights(encoded(targets), "class")

    effective = [(1 - BETA**m) / (1 - BETA) for m in (8.5, 2.5)]
    assert weights is not None
    assert weights[8] / weights[0] == pytest.approx(effective[0] / effective[1])
    assert weights[10] == pytest.approx((weights[0] + weights[8]) / 2)


@given(st.integers(0, 100), st.sampled_from(["confidence", "source", "class"]))
def test_weights_are_one_in_the_mean(seed: int, by: str) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.dirichlet(np.full(3, 0.5), 30)
    weights = row_weights(encoded(targets.tolist(), "ab" * 15), by)

    assert weights is not None
    assert weights.dtype == np.float32
    assert (weights >= 0).all()
    assert weights.mean() == pytest.approx(1, abs=1e-5)


def test_rows_of_which_none_is_sure_count_alike() -> None:
    weights = row_weights(encoded([[1 / 3] * 3] * 4, cells=[[0, 0, 0]] * 4), "confidence")

    assert weights is not None
    assert weights.tolist() == [1.0] * 4


def test_a_weight_belongs_to_its_row() -> None:
    logits, targets = some(3)
    objective = Objective(None, np.array([0, 1, 2, 3, 4], np.float32))

    told = objective(logits[[4, 1]], targets[[4, 1]], None, [4, 1])

    plain = soft_cross_entropy(logits, targets)
    assert told.tolist() == pytest.approx([4 * float(plain[4]), float(plain[1])])


def test_what_is_not_declared_is_no_objective() -> None:
    rows = encoded([[1, 0, 0]])

    assert objective_of(rows, tiny_config()) is None
    assert objective_of(rows, tiny_config(loss="generalised")) == Objective(0.7, None)


# --- what they are for ----------------------------------------------------------------------


def learned(
    features: torch.Tensor, targets: np.ndarray, objective: Objective | None
) -> torch.nn.Linear:
    """Return a linear head fitted by gradient descent on the mean loss of all rows."""
    torch.manual_seed(0)
    head = torch.nn.Linear(features.shape[1], targets.shape[1])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    labels, everyone = torch.from_numpy(targets).float(), list(range(len(targets)))
    for _ in range(300):
        losses = (
            soft_cross_entropy(head(features), labels)
            if objective is None
            else objective(head(features), labels, None, everyone)
        )
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    return head


def planted(seed: int, n: int, d: int = 10) -> tuple[torch.Tensor, np.ndarray]:
    """Return features and the classes that a hidden linear rule gives them."""
    features = np.random.default_rng(seed).normal(size=(n, d))
    rule = np.random.default_rng(99).normal(size=(d, 3))
    return torch.from_numpy(features).float(), (features @ rule).argmax(axis=1)


def right(head: torch.nn.Linear) -> float:
    features, truth = planted(1, 2000)
    return float((head(features).argmax(dim=1).numpy() == truth).mean())


@pytest.fixture(scope="module")
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noisy(seed: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Return features, labels of which two in five are wrong, and which those are."""
    features, truth = planted(seed, 600)
    generator = np.random.default_rng(seed)
    wrong = generator.random(600) < 0.4
    moved = (truth + generator.integers(1, 3, 600)) % 3
    return features, np.where(wrong, moved, truth), wrong


def test_the_generalised_loss_beats_cross_entropy_where_labels_are_wrong(one_thread: None) -> None:
    gains = []
    for seed in (10, 11, 12):
        features, told, _ = noisy(seed)
        plain = right(learned(features, EYE[told], None))
        gains.append(right(learned(features, EYE[told], Objective(0.7, None))) - plain)

    assert np.mean(gains) > 0.03


def test_confidence_beats_cross_entropy_where_wrong_labels_are_unsure(one_thread: None) -> None:
    gains = []
    for seed in (10, 11, 12):
        features, told, wrong = noisy(seed)
        sure = np.where(wrong, 0.6, 0.95)[:, None]
        targets = sure * EYE[told] + (1 - sure) * (1 - EYE[told]) / 2
        weights = row_weights(encoded(targets.tolist()), "confidence")
        plain = right(learned(features, targets, None))
        gains.append(right(learned(features, targets, Objective(None, weights))) - plain)

    assert np.mean(gains) > 0.02
