"""Fisher information: how much the answers of a classifier depend on each of its parameters.

Sung, Nair & Raffel 2021, "Training Neural Networks with Fixed Sparse Masks", arXiv 2111.09839:
the entries with the largest diagonal Fisher information are those to train or to hand on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Tensor = Any


def diagonal_fisher(
    model: Any,
    rows: Iterable[Mapping[str, Tensor]],
    parameters: Mapping[str, Tensor],
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return name -> the mean over rows of the squared gradient of log p(y | row).

    y is drawn from the model's own p (arXiv 2111.09839, section 3). Rows are asked one by
    one, for it is the gradient of a row that is squared.

    Args:
        model: In evaluation mode; nothing of it is changed.
        rows: Each as the model takes it, a batch of one; some hundred tell enough.
        parameters: Name -> parameter of the model; each requires a gradient.
        seed: Of the labels that are drawn.

    Returns:
        float32 tensors of the shapes of the parameters, at least 0; all 0 without rows.
    """
    import torch

    names = sorted(parameters)
    wanted = [parameters[name] for name in names]
    sums = [torch.zeros_like(one, dtype=torch.float32) for one in wanted]
    count = 0
    for row in rows:
        generator = torch.Generator().manual_seed(seed + count)
        with torch.enable_grad():
            logs = torch.log_softmax(model(**row).logits.float(), dim=-1)
            drawn = torch.multinomial(logs.detach().exp(), 1, generator=generator)
            told = logs.gather(1, drawn).sum()
            slopes = torch.autograd.grad(told, wanted, allow_unused=True)
        for total, slope in zip(sums, slopes, strict=True):
            if slope is not None:
                total.addcmul_(slope, slope)
        count += 1
    return {name: total / max(count, 1) for name, total in zip(names, sums, strict=True)}


def largest(importance: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Return name -> places of the `count` largest entries of all tensors together.

    Of entries that are equal the first ones are taken, by name and place: ties are deterministic.
    Entries of 0 are never taken.

    Returns:
        Flat places int64, ascending; tensors without one are left out.
    """
    import torch

    names = sorted(importance)
    if not names or count < 1:
        return {}
    flat = torch.cat([importance[name].reshape(-1) for name in names])
    count = min(count, int((flat > 0).sum()))
    if count == 0:
        return {}
    least = flat.kthvalue(len(flat) - count + 1).values
    chosen = flat > least
    equal = torch.nonzero(flat == least).reshape(-1)
    chosen[equal[: count - int(chosen.sum())]] = True
    sizes = [importance[name].numel() for name in names]
    parts = chosen.split(sizes)  # type: ignore[no-untyped-call]
    found = {n: torch.nonzero(part).reshape(-1) for n, part in zip(names, parts, strict=True)}
    return {name: places for name, places in found.items() if len(places)}
