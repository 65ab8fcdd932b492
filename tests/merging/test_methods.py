"""Merge methods against closed forms and by their properties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.errors import MergeRefusedError, RegistryError
from fm_platform.merging.methods import METHODS, NEEDS, Settings, layer, sign_conflict_rate, trim

VALUES = st.lists(st.integers(-8, 8), min_size=6, max_size=6)
ALL = ("linear", "ties", "dare", "dare_ties", "svd", "fisher", "regmean")


def tensor(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(2, -1)


def merge(
    method: str,
    updates: Sequence[torch.Tensor],
    weights: Sequence[float],
    knowledge: Sequence[torch.Tensor] = (),
    **settings: Any,
) -> torch.Tensor:
    """Merge; where nothing is said of what experts know, all know the same."""
    if not knowledge and method in NEEDS and updates:
        width = updates[0].shape[-1]
        same = torch.eye(width) if NEEDS[method] == "gram" else torch.ones_like(updates[0])
        knowledge = [same] * len(updates)
    found: torch.Tensor = METHODS.get(method)(
        layer(*updates, name="layer", knowledge=knowledge), weights, Settings(**settings)
    )
    return found


def test_all_are_registered() -> None:
    assert {*ALL, "slerp"} == set(METHODS.names())
    with pytest.raises(RegistryError, match="linear"):
        METHODS.get("none_such")


@given(VALUES, VALUES, st.integers(-3, 3), st.integers(-3, 3))
def test_linear_is_linear(a: list[int], b: list[int], v: int, w: int) -> None:
    found = merge("linear", [tensor(a), tensor(b)], [v, w])

    assert torch.equal(found, tensor([v * x + w * y for x, y in zip(a, b, strict=True)]))


@pytest.mark.parametrize("method", ALL)
@given(values=VALUES)
def test_one_update_at_weight_one_comes_back(method: str, values: list[int]) -> None:
    found = merge(method, [tensor(values)], [1.0], density=1.0)

    assert torch.allclose(found, tensor(values), atol=1e-5)


@pytest.mark.parametrize("method", [m for m in ALL if not m.startswith("dare")])
@given(a=VALUES, b=VALUES)
def test_the_order_of_experts_does_not_matter(method: str, a: list[int], b: list[int]) -> None:
    one = merge(method, [tensor(a), tensor(b)], [0.25, 0.75])
    two = merge(method, [tensor(b), tensor(a)], [0.75, 0.25])

    assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("method", ALL)
@given(values=VALUES, count=st.integers(2, 4))
def test_equal_experts_merge_to_themselves(method: str, values: list[int], count: int) -> None:
    found = merge(method, [tensor(values)] * count, [1 / count] * count, density=1.0)

    assert torch.allclose(found, tensor(values), atol=1e-5)


def test_a_negative_weight_takes_a_task_back() -> None:
    both, one = tensor([3, 1, -2, 5]), tensor([1, 1, -2, 0])

    assert torch.equal(merge("linear", [both, one], [1.0, -1.0]), tensor([2, 0, 0, 5]))


def test_ties_by_hand() -> None:
    # Trimmed to the 3 largest of 6: the 1s go. Elected signs of the sums: + + - - 0 0.
    a = tensor([4, 3, -2, 1, 0, 1])
    b = tensor([2, -1, 1, -5, 0, -4])
    assert torch.equal(trim(a, 0.5), tensor([4, 3, -2, 0, 0, 0]))
    assert torch.equal(trim(b, 0.5), tensor([2, 0, 0, -5, 0, -4]))

    assert torch.equal(merge("ties", [a, b], [0.5, 0.5]), tensor([3, 3, -2, -5, 0, -4]))
    # Task arithmetic with the factor 2: the weights sum to 2.
    assert torch.equal(merge("ties", [a, b], [1.0, 1.0]), tensor([6, 6, -4, -10, 0, -8]))


@pytest.mark.parametrize("method", ["ties", "dare_ties"])
def test_signs_are_elected_by_mass(method: str) -> None:
    a, b, c = tensor([3, -1]), tensor([-1, -1]), tensor([-1, 5])

    # First entry: +3 against -2; second: -2 against +5.
    assert torch.equal(merge(method, [a, b, c], [1 / 3] * 3, density=1.0), tensor([3, 5]))


def test_trim_keeps_the_first_of_equal_entries() -> None:
    assert torch.equal(trim(tensor([1, -1, 1, 1]), 0.5), tensor([1, -1, 0, 0]))
    assert torch.equal(trim(tensor([0, 0, 7, 0]), 0.01), tensor([0, 0, 7, 0]))


def test_dare_drops_at_random_and_keeps_the_mean() -> None:
    update = torch.ones(400, 100)
    found = merge("dare", [update], [1.0], density=0.25, seed=3)

    assert set(found.unique().tolist()) == {0.0, 4.0}
    assert float(found.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(found, merge("dare", [update], [1.0], density=0.25, seed=3))
    assert not torch.equal(found, merge("dare", [update], [1.0], density=0.25, seed=4))


def test_slerp_turns_half_of_a_right_angle() -> None:
    east, north = tensor([2, 0]), tensor([0, 2])
    half = 2**0.5

    assert torch.allclose(merge("slerp", [east, north], [0.5, 0.5]), tensor([half, half]))
    assert torch.allclose(merge("slerp", [east, north], [1.0, 0.0]), east)
    assert torch.allclose(merge("slerp", [east, 3 * east], [0.5, 0.5]), 2 * east)
    with pytest.raises(MergeRefusedError, match="SLERP merges two"):
        merge("slerp", [east] * 3, [1, 1, 1])


def test_svd_keeps_the_largest_directions() -> None:
    update = torch.diag(torch.tensor([5.0, 3.0, 1.0]))

    kept = merge("svd", [update], [1.0], rank=2)
    assert torch.allclose(kept, torch.diag(torch.tensor([5.0, 3.0, 0.0])), atol=1e-5)
    assert torch.equal(merge("svd", [update], [1.0]), update)


def test_fisher_listens_to_whoever_knows() -> None:
    a, b = tensor([4, 4, 4, 0]), tensor([0, 0, 2, 8])
    know_a, know_b = tensor([1, 3, 0, 0]), tensor([0, 1, 1, 0])

    found = merge("fisher", [a, b], [0.5, 0.5], [know_a, know_b])
    # a alone; 3 to 1; b alone; nobody: the mean
    assert torch.allclose(found, tensor([4, 3, 2, 4]))


def test_regmean_gives_each_expert_its_own_inputs() -> None:
    """Two experts that see different inputs: the merge answers as each of them does on its own."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 4, generator=generator) for _ in range(2))
    seen_a, seen_b = torch.zeros(50, 4), torch.zeros(50, 4)
    seen_a[:, :2] = torch.randn(50, 2, generator=generator)
    seen_b[:, 2:] = torch.randn(50, 2, generator=generator)
    grams = [seen.T @ seen / 50 for seen in (seen_a, seen_b)]

    found = merge("regmean", [a, b], [0.5, 0.5], grams)
    for seen, expert in ((seen_a, a), (seen_b, b)):
        assert torch.allclose(seen @ found.T, seen @ expert.T, atol=1e-3)
    plain = merge("linear", [a, b], [0.5, 0.5])
    assert not torch.allclose(seen_a @ plain.T, seen_a @ a.T, atol=1e-1)


def test_regmean_by_hand_in_one_dimension() -> None:
    # One input: the mean weighted by its energy, (1 * 10 + 3 * 2) / (1 + 3).
    found = merge("regmean", [tensor([10, 10]), tensor([2, 2])], [0.5, 0.5],
                  [torch.tensor([[1.0]]), torch.tensor([[3.0]])])  # fmt: skip

    assert torch.allclose(found, tensor([4, 4]), atol=1e-4)


def test_sign_conflicts() -> None:
    assert sign_conflict_rate([tensor([1, -1, 0, 2])]) == 0
    assert sign_conflict_rate([tensor([1, -1, 0, 2]), tensor([-1, -1, 5, 2])]) == 0.25


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(
    ("updates", "weights"),
    [
        ([], []),
        ([tensor([1, 2])], [0.5, 0.5]),
        ([tensor([1, 2]), tensor([1, 2, 3, 4])], [0.5, 0.5]),
    ],
)
def test_what_does_not_fit_is_refused(
    method: str, updates: list[torch.Tensor], weights: list[float]
) -> None:
    with pytest.raises(MergeRefusedError):
        merge(method, updates, weights)


@pytest.mark.parametrize("method", ["ties", "dare_ties", "slerp", "fisher", "regmean"])
def test_negative_weights_are_refused_where_they_mean_nothing(method: str) -> None:
    with pytest.raises(MergeRefusedError, match="at least 0"):
        merge(method, [tensor([1, 2]), tensor([3, 4])], [-1.0, 1.0])


@pytest.mark.parametrize("method", ["ties", "dare", "dare_ties"])
def test_a_density_of_nothing_is_refused(method: str) -> None:
    with pytest.raises(MergeRefusedError, match="density"):
        merge(method, [tensor([1, 2])], [1.0], density=0.0)
