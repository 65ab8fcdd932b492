"""Merge methods against closed forms and by their properties."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.errors import MergeRefusedError, RegistryError
from fm_platform.merging.methods import METHODS, linear, sign_conflict_rate, ties, trim

VALUES = st.lists(st.integers(-8, 8), min_size=6, max_size=6)


def tensor(values: list[float] | list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(2, -1)


def test_both_are_registered() -> None:
    assert {"linear", "ties"} <= set(METHODS.names())
    with pytest.raises(RegistryError, match="linear"):
        METHODS.get("none_such")


@given(VALUES, VALUES, st.integers(-3, 3), st.integers(-3, 3))
def test_linear_is_linear(a: list[int], b: list[int], v: int, w: int) -> None:
    found = linear([tensor(a), tensor(b)], [v, w], 1.0)

    assert torch.equal(found, tensor([v * x + w * y for x, y in zip(a, b, strict=True)]))


@given(VALUES)
def test_one_update_at_weight_one_comes_back(values: list[int]) -> None:
    assert torch.equal(linear([tensor(values)], [1.0], 1.0), tensor(values))
    assert torch.equal(ties([tensor(values)], [1.0], 1.0), tensor(values))


@given(VALUES, VALUES)
def test_the_order_of_experts_does_not_matter(a: list[int], b: list[int]) -> None:
    for method in (linear, ties):
        one = method([tensor(a), tensor(b)], [0.25, 0.75], 0.5)
        two = method([tensor(b), tensor(a)], [0.75, 0.25], 0.5)
        assert torch.allclose(one, two)


@given(VALUES, st.integers(2, 4))
def test_equal_experts_merge_to_themselves(values: list[int], count: int) -> None:
    found = ties([tensor(values)] * count, [1 / count] * count, 1.0)

    assert torch.allclose(found, tensor(values), atol=1e-6)


def test_ties_by_hand() -> None:
    # Trimmed to the 3 largest of 6: the 1s go. Elected signs of the sums: + + - - 0 0.
    a = tensor([4, 3, -2, 1, 0, 1])
    b = tensor([2, -1, 1, -5, 0, -4])
    trimmed_b = tensor([2, 0, 0, -5, 0, -4])
    assert torch.equal(trim(a, 0.5), tensor([4, 3, -2, 0, 0, 0]))
    assert torch.equal(trim(b, 0.5), trimmed_b)

    assert torch.equal(ties([a, b], [0.5, 0.5], 0.5), tensor([3, 3, -2, -5, 0, -4]))
    # Task arithmetic with the factor 2: the weights sum to 2.
    assert torch.equal(ties([a, b], [1.0, 1.0], 0.5), tensor([6, 6, -4, -10, 0, -8]))


def test_ties_elects_the_sign_with_more_mass() -> None:
    a, b, c = tensor([3, -1]), tensor([-1, -1]), tensor([-1, 5])

    # First entry: +3 against -2; second: -2 against +5.
    assert torch.equal(ties([a, b, c], [1 / 3] * 3, 1.0), tensor([3, 5]))


def test_trim_keeps_the_first_of_equal_entries() -> None:
    assert torch.equal(trim(tensor([1, -1, 1, 1]), 0.5), tensor([1, -1, 0, 0]))
    assert torch.equal(trim(tensor([0, 0, 7, 0]), 0.01), tensor([0, 0, 7, 0]))


def test_sign_conflicts() -> None:
    assert sign_conflict_rate([tensor([1, -1, 0, 2])]) == 0
    assert sign_conflict_rate([tensor([1, -1, 0, 2]), tensor([-1, -1, 5, 2])]) == 0.25


@pytest.mark.parametrize(
    ("updates", "weights", "density"),
    [
        ([], [], 0.5),
        ([tensor([1, 2])], [0.5, 0.5], 0.5),
        ([tensor([1, 2]), tensor([1, 2, 3, 4])], [0.5, 0.5], 0.5),
        ([tensor([1, 2])], [-1.0], 0.5),
        ([tensor([1, 2])], [1.0], 0.0),
    ],
)
def test_refused(updates: list[torch.Tensor], weights: list[float], density: float) -> None:
    with pytest.raises(MergeRefusedError):
        ties(updates, weights, density)
