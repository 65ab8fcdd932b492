"""Train a sparse mask of a model: the most important entries, and nothing else.

FISH mask: Sung, Nair & Raffel 2021, "Training Neural Networks with Fixed Sparse Masks",
arXiv 2111.09839. The mask is chosen once, by the Fisher information of some training rows, and
stays. What was trained is then sparse by itself: a contribution of as many entries is all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from fm_platform.fisher import diagonal_fisher, largest
from fm_platform.spec.training import Training
from fm_platform.training.data import Encoded, padded

Tensor = Any


def train_only_mask(model: Any, rows: Encoded, config: Training, pad_id: int) -> None:
    """Let `mask_share` of the trainable parameters be trained, in place: the most important ones.

    Importance is Fisher information on `mask_rows` of the rows at most. The entries become
    parameters of their own, so that moments, checkpoints and weight decay are theirs alone; every
    other entry keeps its bits. `settle` makes plain parameters of them again.

    Args:
        model: With trainable parameters, in evaluation mode.
        rows: Training rows.
        config: Its mask_share, mask_rows and seed.
        pad_id: Token that fills up a batch.
    """
    from torch.nn.utils import parametrize

    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    fisher = diagonal_fisher(model, _singly(rows, config, pad_id), parameters, config.seed)
    count = round(config.mask_share * sum(p.numel() for p in parameters.values()))
    mask = largest(fisher, max(count, 1))
    for name, parameter in parameters.items():
        parameter.requires_grad_(False)
        if name in mask:
            owner, _, tensor = name.rpartition(".")
            entries = _entries()(parameter, mask[name])
            parametrize.register_parametrization(model.get_submodule(owner), tensor, entries)


def settle(model: Any) -> None:
    """Put trained entries back into their tensors, in place; a model without a mask stays."""
    from torch.nn.utils import parametrize

    for module in list(model.modules()):
        # of the module itself: wrappers answer for what they wrap
        held = dict(module.named_children()).get("parametrizations", {})
        for tensor in list(held):
            parametrize.remove_parametrizations(module, tensor, leave_parametrized=True)


def _singly(rows: Encoded, config: Training, pad_id: int) -> Iterator[dict[str, Tensor]]:
    generator = np.random.default_rng([config.seed, 4])
    for i in sorted(generator.permutation(len(rows))[: config.mask_rows].tolist()):
        ids, mask = padded([rows.tokens[i]], pad_id)
        yield {"input_ids": ids, "attention_mask": mask}


@cache
def _entries() -> Any:
    """Return the parametrization of a tensor whose chosen entries alone are trained."""
    import torch

    class Entries(torch.nn.Module):
        def __init__(self, whole: Tensor, places: Tensor) -> None:
            super().__init__()
            self.register_buffer("places", places)
            self.values = torch.nn.Parameter(whole.detach().reshape(-1)[places].clone())

        def forward(self, whole: Tensor) -> Tensor:
            return whole.reshape(-1).scatter(0, self.places, self.values).reshape(whole.shape)

    return Entries
