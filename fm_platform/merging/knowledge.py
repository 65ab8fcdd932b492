"""What an expert knows, per linear layer: its Fisher information, and the inputs it sees.

Both are means over rows of the expert's own sources, so that one with more rows does not count
for more. They are made in one pass of batches by hooks; nothing is kept per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fm_platform.errors import MergeRefusedError

Tensor = Any
Batch = Mapping[str, Tensor]
KINDS = ("fisher", "gram")


def knowledge_of(
    kind: str, model: Any, batches: Iterable[Batch], names: Iterable[str], seed: int = 0
) -> dict[str, Tensor]:
    """Return tensor name -> what `model` knows there.

    `gram`: X'X / n, float64[in, in], over the n positions that the attention mask lets in.
    `fisher`: the mean over rows of the squared gradient of log p(y | row), float64 of the shape
    of the tensor, y drawn from the model's own p (Matena and Raffel 2021, section 3.2).

    Args:
        kind: `fisher` or `gram`.
        model: In evaluation mode; its weights are not changed.
        batches: As the tokenizer makes them.
        names: Of weights (and biases) of linear layers.
        seed: Of the labels that are drawn.

    Raises:
        MergeRefusedError: If a name is no tensor of a linear layer, or there are no rows.
    """
    if kind not in KINDS:
        raise MergeRefusedError("no such knowledge", expected=", ".join(KINDS), found=kind)
    collect = _Gram if kind == "gram" else _Fisher
    collector = collect(_linear_layers(model, names))
    count = 0
    try:
        for batch in batches:
            collector.mask = batch["attention_mask"]
            collector.ask(model, batch, seed + count)
            count += len(batch["input_ids"])
    finally:
        collector.close()
    if count == 0:
        raise MergeRefusedError(
            "an expert without rows knows nothing",
            next_step="give its sources a longer window, or merge with another method",
        )
    return collector.means(count)


def linear_tensors(model: Any, names: Iterable[str]) -> list[str]:
    """Return those of some tensor names that belong to linear layers of a model, sorted."""
    import torch

    modules = dict(model.named_modules())
    return sorted(
        name for name in names if isinstance(modules.get(name.rpartition(".")[0]), torch.nn.Linear)
    )


def _linear_layers(model: Any, names: Iterable[str]) -> dict[str, tuple[Any, list[str]]]:
    """Return module name -> module and which of its tensors are wanted."""
    import torch

    modules = dict(model.named_modules())
    found: dict[str, tuple[Any, list[str]]] = {}
    for name in sorted(names):
        owner, _, tensor = name.rpartition(".")
        module = modules.get(owner)
        if not isinstance(module, torch.nn.Linear) or tensor not in ("weight", "bias"):
            raise MergeRefusedError(
                "only linear layers can be weighed by what they know", found=name,
                next_step="take another merge.method",
            )  # fmt: skip
        found.setdefault(owner, (module, []))[1].append(tensor)
    return found


class _Collector:
    """Hooks on linear layers, and sums of what they see."""

    def __init__(self, layers: Mapping[str, tuple[Any, list[str]]]) -> None:
        self.mask: Tensor = None
        self.layers = layers
        self.sums: dict[str, Tensor] = {}
        self.weights: dict[str, float] = {}
        self._handles: list[Any] = []

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def add(self, name: str, value: Tensor, weight: float) -> None:
        known = self.sums.get(name)
        self.sums[name] = value.double() if known is None else known + value
        self.weights[name] = self.weights.get(name, 0.0) + weight

    def ask(self, model: Any, batch: Batch, seed: int) -> None:
        raise NotImplementedError

    def means(self, rows: int) -> dict[str, Tensor]:
        return {name: total / self.weights[name] for name, total in sorted(self.sums.items())}


class _Gram(_Collector):
    def __init__(self, layers: Mapping[str, tuple[Any, list[str]]]) -> None:
        super().__init__(layers)
        for owner, (module, tensors) in layers.items():
            if "weight" in tensors:
                self._handles.append(module.register_forward_pre_hook(self._hook(owner)))

    def _hook(self, owner: str) -> Callable[[Any, Any], None]:
        def see(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            seen = _positions(inputs[0], self.mask)
            self.add(f"{owner}.weight", seen.T @ seen, float(len(seen)))

        return see

    def ask(self, model: Any, batch: Batch, seed: int) -> None:
        import torch

        with torch.inference_mode():
            model(**batch)


class _Fisher(_Collector):
    def __init__(self, layers: Mapping[str, tuple[Any, list[str]]]) -> None:
        super().__init__(layers)
        self._inputs: dict[str, Tensor] = {}
        for owner, (module, tensors) in layers.items():
            self._handles += [
                module.register_forward_pre_hook(self._remember(owner)),
                module.register_full_backward_hook(self._hook(owner, tensors)),
            ]

    def _remember(self, owner: str) -> Callable[[Any, Any], None]:
        def see(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            self._inputs[owner] = inputs[0].detach()

        return see

    def _hook(self, owner: str, tensors: list[str]) -> Callable[[Any, Any, Any], None]:
        def see(_module: Any, _into: Any, out_of: tuple[Tensor, ...]) -> None:
            import torch

            # [rows, positions, features]; the gradient of a row is a sum over its positions
            slopes, inputs = _three(out_of[0]), _three(self._inputs.pop(owner))
            rows = float(len(slopes))
            if "weight" in tensors:
                own = torch.einsum("rpo,rpi->roi", slopes, inputs)
                self.add(f"{owner}.weight", own.square().sum(dim=0), rows)
            if "bias" in tensors:
                self.add(f"{owner}.bias", slopes.sum(dim=1).square().sum(dim=0), rows)

        return see

    def ask(self, model: Any, batch: Batch, seed: int) -> None:
        import torch

        generator = torch.Generator().manual_seed(seed)
        with torch.enable_grad():
            embedded = model.get_input_embeddings()(batch["input_ids"]).requires_grad_(True)
            others = {key: value for key, value in batch.items() if key != "input_ids"}
            logs = torch.log_softmax(model(inputs_embeds=embedded, **others).logits.float(), dim=-1)
            drawn = torch.multinomial(logs.detach().exp(), 1, generator=generator)
            # only the graph up to the layers is needed: no gradient is kept on a weight
            torch.autograd.grad(logs.gather(1, drawn).sum(), embedded)


def _positions(inputs: Tensor, mask: Tensor) -> Tensor:
    """Return [n, features]: what a layer sees at positions that are not padding."""
    seen = inputs.detach().float()
    if seen.dim() == 3 and seen.shape[:2] == mask.shape:
        return seen[mask.bool()]
    return seen.reshape(-1, seen.shape[-1])


def _three(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dim() == 3 else tensor.float().unsqueeze(1)
