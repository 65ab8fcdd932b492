"""Fisher information of a model whose gradients are known, and the largest entries of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from fm_platform.fisher import diagonal_fisher, largest


class Linear(torch.nn.Module):
    """Logits = W x: the gradient of log p(y) is (one-hot(y) - p) x'."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.5]]))
        self.unused = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=x @ self.weight.T)


def test_it_is_the_mean_square_of_each_rows_own_gradient() -> None:
    model, rows = Linear(), [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, -2.0]])]
    found = diagonal_fisher(model, ({"x": row} for row in rows), dict(model.named_parameters()), 7)

    expected = torch.zeros(3, 2)
    for i, row in enumerate(rows):
        p = (row @ model.weight.T).softmax(dim=-1).detach()
        drawn = int(torch.multinomial(p, 1, generator=torch.Generator().manual_seed(7 + i)))
        slope = (torch.nn.functional.one_hot(torch.tensor(drawn), 3) - p).T @ row
        expected += slope.square() / 2
    torch.testing.assert_close(found["weight"], expected)
    assert not found["unused"].any()
    assert model.weight.grad is None


def test_many_draws_come_near_the_expectation() -> None:
    model, row = Linear(), torch.tensor([[0.5, -2.0]])
    found = diagonal_fisher(model, ({"x": row} for _ in range(4000)), {"weight": model.weight})

    p = (row @ model.weight.T).softmax(dim=-1).detach()[0]
    expected = (p * (1 - p)).reshape(3, 1) * row.square()
    torch.testing.assert_close(found["weight"], expected, atol=0.02, rtol=0.1)


def test_the_largest_of_all_tensors_together() -> None:
    found = largest({"b": torch.tensor([[0.0, 5.0], [3.0, 1.0]]), "a": torch.tensor([4.0, 0.5])}, 3)

    assert {name: places.tolist() for name, places in found.items()} == {"a": [0], "b": [1, 2]}


@pytest.mark.parametrize(("count", "places"), [(0, {}), (2, {"a": [0, 1]}), (9, {"a": [0, 1, 2]})])
def test_of_equals_the_first_and_never_a_zero(count: int, places: dict[str, list[int]]) -> None:
    found = largest({"a": torch.tensor([1.0, 1.0, 1.0, 0.0]), "b": torch.zeros(2)}, count)

    assert {name: chosen.tolist() for name, chosen in found.items()} == places
