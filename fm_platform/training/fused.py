"""LoRA layers that train as one product of matrices instead of three.

The library adds what the low-rank pair says to what the base says, and carries the gradient of the
input through both. Without dropout this is one product with W + s B A: the sum is made of small
matrices once a batch, and the gradients of A and B need thin products alone. The same function of
the same parameters in less time; nothing of it is left in what is saved.

LoRA: Hu et al. 2021, arXiv 2106.09685, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def fused(model: Any) -> Iterator[None]:
    """Let the plain LoRA layers of a model work as one product inside this block.

    Layers on a GPU, in half precision, or with more than a low-rank pair stay as they are.
    """
    changed = [module for module in model.modules() if _plain(module)]
    try:
        for module in changed:
            module.forward = _one_product(module)
        yield
    finally:
        for module in changed:
            module.__dict__.pop("forward", None)  # that of its class is seen again


def _plain(module: Any) -> bool:
    """Return whether a module is a frozen linear layer and one active low-rank pair, no more."""
    import torch
    from peft.tuners.lora import Linear

    if not isinstance(module, Linear) or module.merged or module.disable_adapters:
        return False
    base, names = module.get_base_layer(), module.active_adapters
    if len(names) != 1 or names[0] not in module.lora_A or names[0] in module.lora_variant:
        return False
    down, up = module.lora_A[names[0]], module.lora_B[names[0]]
    weights = [*base.parameters(), down.weight, up.weight]
    return (
        isinstance(base, torch.nn.Linear)
        and isinstance(module.lora_dropout[names[0]], torch.nn.Identity)
        and down.bias is None
        and up.bias is None
        and not any(weight.requires_grad for weight in base.parameters())
        and all(w.device.type == "cpu" and w.dtype == torch.float32 for w in weights)
    )


def _one_product(module: Any) -> Callable[[Any], Any]:
    """Return the forward of a plain LoRA layer."""
    (name,) = module.active_adapters
    base, scale = module.get_base_layer(), module.scaling[name]
    down, up = module.lora_A[name], module.lora_B[name]
    layer = _layer()

    def forward(x: Any) -> Any:
        return layer.apply(x, base.weight, base.bias, down.weight, up.weight, scale)

    return forward


@cache
def _layer() -> Any:
    """Return x -> x (W + s B A)^T + b with the gradients of x, A and B."""
    import torch

    class LowRankLinear(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> Any:
            whole = torch.addmm(weight, b, a, alpha=scale)
            ctx.save_for_backward(x, whole, a, b)
            ctx.scale = scale
            return torch.nn.functional.linear(x, whole, bias)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:  # type: ignore[override]
            x, whole, a, b = ctx.saved_tensors
            flat, rows = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])
            of_x = gradient @ whole if ctx.needs_input_grad[0] else None
            # a few long rows: as many short ones take libraries three times as long
            of_a = (b.T @ flat.T).mul_(ctx.scale) @ rows
            of_b = ((a @ rows.T).mul_(ctx.scale) @ flat).T
            return of_x, None, None, of_a, of_b, None

    return LowRankLinear
