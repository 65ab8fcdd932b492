"""Read a LoRA adapter as exact updates of dense weights, or refuse it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm_platform.errors import MergeRefusedError

_PREFIX = "base_model.model."
ADAPTER_FACTS = "fm_adapter.json"


@dataclass(frozen=True)
class Adapter:
    """One adapter on disk.

    Attributes:
        name: Its expert.
        tensors: Tensor name -> tensor, as PEFT saved them.
        scaling: alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA.
        base_content_hash: The base that it was trained on.
        classes: The classes that its head knows.
    """

    name: str
    tensors: dict[str, Any]
    scaling: float
    base_content_hash: str
    classes: tuple[str, ...]

    def delta_names(self) -> list[str]:
        """Return the names of the dense weights that the adapter changes, sorted."""
        ends = ".lora_A.weight"
        return sorted(
            name[len(_PREFIX) : -len(ends)] + ".weight"
            for name in self.tensors
            if name.endswith(ends)
        )

    def delta(self, weight_name: str) -> Any:
        """Return scaling * B @ A, the exact dense update float32[out, in]."""
        module = _PREFIX + weight_name.removesuffix(".weight")
        a = self.tensors[f"{module}.lora_A.weight"].float()
        b = self.tensors[f"{module}.lora_B.weight"].float()
        return (b @ a) * self.scaling

    def head(self) -> dict[str, Any]:
        """Return the tensors that were trained in full, by their dense names."""
        return {
            name.removeprefix(_PREFIX): tensor
            for name, tensor in sorted(self.tensors.items())
            if ".lora_" not in name
        }


def read_adapter(name: str, directory: Path) -> Adapter:
    """Read an adapter.

    Raises:
        MergeRefusedError: If it is not plain LoRA without bias, and so has no exact dense form
            here.
    """
    from safetensors.torch import load_file

    config = json.loads((directory / "adapter_config.json").read_text("utf-8"))
    reasons = [
        f"{key}={config.get(key)!r}"
        for key, plain in _PLAIN.items()
        if (config.get(key) or None) not in plain
    ]
    if reasons:
        raise MergeRefusedError(
            f"adapter {name!r} cannot be merged exactly",
            expected="plain LoRA",
            found=", ".join(reasons),
        )
    facts = json.loads((directory / ADAPTER_FACTS).read_text("utf-8"))
    rank = int(config["r"])
    root = rank**0.5 if config.get("use_rslora") else rank
    return Adapter(
        name,
        load_file(directory / "adapter_model.safetensors"),
        float(config["lora_alpha"]) / root,
        facts["base_content_hash"],
        tuple(facts["classes"]),
    )


_PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (None,),
    "use_qalora": (None,),
    "bias": (None, "none"),
    "lora_bias": (None,),
    "rank_pattern": (None,),
    "alpha_pattern": (None,),
    "fan_in_fan_out": (None,),
    "layer_replication": (None,),
}


def require_one_family(adapters: Sequence[Adapter], base: str, classes: Sequence[str]) -> None:
    """Refuse adapters of another base, of another taxonomy, or that change other layers.

    Raises:
        MergeRefusedError: Naming the adapter and what differs.
    """
    if not adapters:
        raise MergeRefusedError("there is no adapter to merge")
    first = adapters[0]
    for adapter in adapters:
        for what, expected, found in _differences(adapter, first, base, classes):
            raise MergeRefusedError(
                f"adapter {adapter.name!r} has another {what}", expected=expected, found=found
            )


def _differences(
    adapter: Adapter, first: Adapter, base: str, classes: Sequence[str]
) -> Iterator[tuple[str, object, object]]:
    if adapter.base_content_hash != base:
        yield "base model", base[:12], adapter.base_content_hash[:12]
    if adapter.classes != tuple(classes):
        yield "list of classes", ", ".join(classes), ", ".join(adapter.classes)
    if adapter.delta_names() != first.delta_names():
        yield "set of adapted layers", len(first.delta_names()), len(adapter.delta_names())
    if sorted(adapter.head()) != sorted(first.head()):
        yield "head", sorted(first.head()), sorted(adapter.head())
