"""Merge methods as pure functions on tensors: one update per expert in, one update out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fm_platform.errors import MergeRefusedError
from fm_platform.registry import Registry

Tensor = Any
MergeMethod = Callable[[Sequence[Tensor], Sequence[float], float], Tensor]
METHODS: Registry[MergeMethod] = Registry("merge method", "fm_platform.merge_methods")


def _checked(updates: Sequence[Tensor], weights: Sequence[float]) -> None:
    if not updates or len(updates) != len(weights):
        raise MergeRefusedError(
            "a merge needs one weight per update", expected=len(updates), found=len(weights)
        )
    shapes = {tuple(update.shape) for update in updates}
    if len(shapes) != 1:
        raise MergeRefusedError("updates of different shapes", found=sorted(shapes))


@METHODS.register("linear")
def linear(updates: Sequence[Tensor], weights: Sequence[float], density: float = 1.0) -> Tensor:
    """Return sum_i w_i * update_i (task arithmetic; Ilharco et al. 2022, arXiv 2212.04089).

    Args:
        updates: Tensors of one shape: each expert minus base.
        weights: One per update, any sign.
        density: Not used.

    Raises:
        MergeRefusedError: If shapes or counts differ.
    """
    _checked(updates, weights)
    merged = updates[0] * weights[0]
    for update, weight in zip(updates[1:], weights[1:], strict=True):
        merged = merged + update * weight
    return merged


@METHODS.register("ties")
def ties(updates: Sequence[Tensor], weights: Sequence[float], density: float = 0.5) -> Tensor:
    """Trim, elect signs, and average what agrees (Yadav et al. 2023, arXiv 2306.01708).

    Each update keeps its `density` largest entries by magnitude. The sign of each entry is that
    of the weighted sum; the result is the weighted mean of the entries with that sign, times the
    sum of the weights. One update at density 1 and weight 1 comes back unchanged.

    Args:
        updates: Tensors of one shape: each expert minus base.
        weights: One per update, not negative.
        density: Share of entries kept, in (0, 1].

    Raises:
        MergeRefusedError: If shapes or counts differ, or a weight is negative.
    """
    import torch

    _checked(updates, weights)
    if min(weights) < 0 or not 0 < density <= 1:
        raise MergeRefusedError(
            "TIES takes weights of at least 0 and a density in (0, 1]",
            found=f"weights {list(weights)}, density {density}",
        )
    trimmed = torch.stack([trim(update, density) for update in updates])
    scale = torch.tensor(list(weights), dtype=trimmed.dtype).reshape(-1, *[1] * updates[0].dim())
    elected = torch.sign((trimmed * scale).sum(dim=0))
    agrees = (torch.sign(trimmed) == elected) & (trimmed != 0)
    mass = (scale * agrees).sum(dim=0)
    merged = (trimmed * scale * agrees).sum(dim=0) / mass.clamp_min(1e-12)
    return torch.where(mass > 0, merged, torch.zeros_like(merged)) * float(sum(weights))


def trim(update: Tensor, density: float) -> Tensor:
    """Return `update` with all but its `density` largest entries by magnitude set to zero."""
    import torch

    keep = max(1, round(density * update.numel()))
    if keep >= update.numel():
        return update
    flat = update.reshape(-1)
    # a stable order makes ties deterministic: the first of equal magnitudes stay
    order = torch.argsort(flat.abs(), descending=True, stable=True)
    out = torch.zeros_like(flat)
    out[order[:keep]] = flat[order[:keep]]
    return out.reshape(update.shape)


def sign_conflict_rate(updates: Sequence[Tensor]) -> float:
    """Return the share of entries on which two non-zero updates differ in sign; 0 for one."""
    import torch

    stacked = torch.stack(list(updates))
    positive, negative = (stacked > 0).any(dim=0), (stacked < 0).any(dim=0)
    return float((positive & negative).float().mean())
