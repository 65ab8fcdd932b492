"""Read a LoRA adapter as exact updates of dense weights, or refuse it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm_platform.errors import MergeRefusedError

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
ADAPTER_FACTS = "fm_adapter.json"
# Parts that every expert has of its own, made fresh: they are no updates of a base.
_HEADS = ("classifier", "score", "pre_classifier")

# What the dense form is made of, and what does not touch it. A setting that is not named here
# must be unset: of one that we do not know, we cannot say that the merge is exact.
_USED = frozenset({"peft_type", "r", "lora_alpha", "use_rslora", "bias", "init_lora_weights"})
_HARMLESS = frozenset(
    {"task_type", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
     "target_modules", "exclude_modules", "lora_dropout", "modules_to_save", "megatron_core",
     "qalora_group_size", "runtime_config", "layers_to_transform", "layers_pattern",
     "ensure_weight_tying"}
)  # fmt: skip
# Other ways to initialise (pissa, olora, corda, ...) change the base weights beside the adapter.
_PLAIN_INITS = (None, True, False, "gaussian", "orthogonal")


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
        return sorted(
            name[len(_PREFIX) : -len(_A)] + ".weight" for name in self.tensors if name.endswith(_A)
        )

    def delta(self, weight_name: str) -> Any:
        """Return scaling * B @ A, the exact dense update float32[out, in]."""
        module = _PREFIX + weight_name.removesuffix(".weight")
        return (self.tensors[module + _B].float() @ self.tensors[module + _A].float()) * (
            self.scaling
        )

    def body(self) -> list[str]:
        """Return the names of the dense weights that were fine-tuned whole, sorted.

        With LoRA only the head is; with full fine-tuning the layers of the base are, too.
        """
        if self.delta_names():
            return []
        heads = set(_HEADS)
        return [name for name in self.head() if not heads & set(name.split("."))]

    def head(self) -> dict[str, Any]:
        """Return the tensors that were trained in full, by their dense names."""
        return {
            name.removeprefix(_PREFIX): tensor
            for name, tensor in sorted(self.tensors.items())
            if ".lora_" not in name
        }

    def alone(self, dense: Mapping[str, Any]) -> dict[str, Any]:
        """Return the dense tensors of base + this adapter; what was trained whole bit for bit.

        `dense` are the tensors of base + fresh head; they are not changed.
        """
        low_rank = {name: dense[name] + self.delta(name) for name in self.delta_names()}
        return {**dense, **low_rank, **self.head()}


def read_adapter(name: str, directory: Path) -> Adapter:
    """Read an adapter.

    Args:
        name: Its expert.
        directory: Folder with adapter_config.json, adapter_model.safetensors, fm_adapter.json.

    Raises:
        MergeRefusedError: If it is not plain LoRA without bias and so has no exact dense form
            here, if files are missing, or if values are not finite.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((directory / "adapter_config.json").read_text("utf-8"))
        facts = json.loads((directory / ADAPTER_FACTS).read_text("utf-8"))
        tensors = load_file(directory / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise MergeRefusedError(
            f"the files of adapter {name!r} cannot be read",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            next_step="fm fsck; then build the adapter again",
        ) from error
    strange = [
        *_not_plain(config),
        *(n for n in tensors if ".lora_" in n and not n.endswith((_A, _B))),
        *(n for n in tensors if n.endswith(_A) and n[: -len(_A)] + _B not in tensors),
        *(f"not finite: {n}" for n, tensor in tensors.items() if not torch.isfinite(tensor).all()),
    ]
    if strange:
        raise MergeRefusedError(
            f"adapter {name!r} cannot be merged exactly",
            expected="plain LoRA, without bias, every value finite",
            found=", ".join(strange[:6]),
        )
    rank = int(config["r"])
    root = rank**0.5 if config.get("use_rslora") else rank
    return Adapter(
        name,
        tensors,
        float(config["lora_alpha"]) / root,
        facts["base_content_hash"],
        tuple(facts["classes"]),
    )


def _not_plain(config: Mapping[str, Any]) -> list[str]:
    found = {
        key: value
        for key, value in config.items()
        if key not in _USED and key not in _HARMLESS and value
    }
    for key, plain in (
        ("peft_type", ("LORA",)),
        ("bias", (None, "none")),
        ("init_lora_weights", _PLAIN_INITS),
    ):
        if config.get(key) not in plain:
            found[key] = config.get(key)
    return [f"{key}={value!r}" for key, value in found.items()]


def require_one_family(
    adapters: Sequence[Adapter], base: str, classes: Sequence[str], dense: Mapping[str, Any]
) -> None:
    """Refuse adapters of another base, of another taxonomy, or that change other layers.

    Ranks and scalings are free. `dense` names the tensors of the dense model.

    Raises:
        MergeRefusedError: Naming the adapter and what differs.
    """
    if not adapters:
        raise MergeRefusedError("there is no adapter to merge")
    first = adapters[0]
    for adapter in adapters:
        for what, expected, found in _differences(adapter, first, base, classes, dense):
            raise MergeRefusedError(
                f"adapter {adapter.name!r} has another {what}",
                expected=expected,
                found=found,
                next_step="train all experts on one base model with one spec, then merge",
            )


def _differences(
    adapter: Adapter,
    first: Adapter,
    base: str,
    classes: Sequence[str],
    dense: Mapping[str, Any],
) -> Iterator[tuple[str, object, object]]:
    if adapter.base_content_hash != base:
        yield "base model", base[:12], adapter.base_content_hash[:12]
    if adapter.classes != tuple(classes):
        yield "list of classes", ", ".join(classes), ", ".join(adapter.classes)
    if adapter.delta_names() != first.delta_names():
        yield "set of adapted layers", len(first.delta_names()), len(adapter.delta_names())
    if sorted(adapter.head()) != sorted(first.head()):
        yield "head", sorted(first.head()), sorted(adapter.head())
    shapes = {name: tuple(tensor.shape) for name, tensor in adapter.head().items()}
    for name in adapter.delta_names():
        module = _PREFIX + name.removesuffix(".weight")
        a, b = adapter.tensors[module + _A], adapter.tensors[module + _B]
        shapes[name] = (b.shape[0], a.shape[1])
        if b.shape[1] != a.shape[0]:
            yield f"rank in its two factors of {name}", b.shape[1], a.shape[0]
    for name, shape in sorted(shapes.items()):
        expected = tuple(dense[name].shape) if name in dense else None
        if shape != expected:
            yield f"shape of {name}", expected, shape
