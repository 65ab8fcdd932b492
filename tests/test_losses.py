"""The loss of partial labels against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.losses import soft_cross_entropy

CELLS = [[0, 1, 2, 3], [0, 1, 2, 2], [0, 0, 2, 2], [0, 1, 0, 3], [0, 0, 0, 0]]


def rows(seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    targets = generator.dirichlet(np.ones(4), n).astype(np.float32)
    return torch.from_numpy(generator.normal(size=(n, 4)).astype(np.float32)), torch.from_numpy(
        targets
    )


@given(st.integers(0, 1000), st.lists(st.sampled_from(CELLS), min_size=1, max_size=8))
def test_only_the_sum_over_a_cell_counts(seed: int, cells: list[list[int]]) -> None:
    logits, targets = rows(seed, len(cells))

    told = soft_cross_entropy(logits, targets, torch.tensor(cells))

    p = torch.softmax(logits, -1).double()
    for row, own in enumerate(cells):
        wanted = sum(
            -float(targets[row][[c for c in range(4) if own[c] == first]].sum())
            * float(torch.log(p[row][[c for c in range(4) if own[c] == first]].sum()))
            for first in set(own)
        )
        assert float(told[row]) == pytest.approx(wanted, abs=1e-5)


def test_rows_whose_classes_are_all_told_apart_keep_every_bit() -> None:
    logits, targets = rows(0, 6)
    cells = torch.tensor([CELLS[0]] * 5 + [CELLS[1]])

    plain, mixed = soft_cross_entropy(logits, targets), soft_cross_entropy(logits, targets, cells)

    assert torch.equal(plain[:5], mixed[:5])
    assert not torch.equal(plain[5], mixed[5])


def test_a_partial_label_moves_no_weight_between_its_classes() -> None:
    logits = torch.tensor([[0.0, 1.0, 1.0]], requires_grad=True)

    soft_cross_entropy(
        logits, torch.tensor([[0.0, 0.9, 0.1]]), torch.tensor([[0, 1, 1]])
    ).backward()

    assert logits.grad is not None
    assert logits.grad[0, 1] == logits.grad[0, 2] < 0 < logits.grad[0, 0]
