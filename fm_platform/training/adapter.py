"""Put LoRA adapters on a base model, load them back, save them.

LoRA: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fm_platform.errors import TrainingError
from fm_platform.spec.models import Training
from fm_platform.training.base_model import BaseModel
from fm_platform.training.loading import HEAD_NAMES

ADAPTER_FACTS = "fm_adapter.json"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# Settings with which the library would import a module or fetch a class by name.
_FOREIGN = ("auto_mapping", "megatron_config")


def new_peft(base: BaseModel, config: Training, classes: Sequence[str]) -> Any:
    """Return base + fresh LoRA on all linear layers, head trained in full.

    Raises:
        BaseModelError: If the base cannot be used.
    """
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    model = base.new_classifier(classes, config.seed)
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules=linear_layers(model),
        modules_to_save=head_modules(model),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return get_peft_model(model, lora).eval()


def load_peft(
    base: BaseModel, adapter: Path, classes: Sequence[str], seed: int, *, trainable: bool
) -> Any:
    """Return base + adapter.

    Raises:
        TrainingError: If the adapter was trained on another base model or taxonomy, lacks
            tensors, has unknown ones, or values that are not finite.
    """
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    _require_same(adapter, base, classes)
    model = base.new_classifier(classes, seed)
    with torch.random.fork_rng(devices=[]):
        peft = PeftModel.from_pretrained(
            model, str(adapter), is_trainable=trainable, local_files_only=True
        ).eval()
    stored = load_file(adapter / WEIGHTS)
    expected = set(get_peft_model_state_dict(peft, save_embedding_layers=False))
    wrong = [f"missing {name}" for name in expected - set(stored)]
    wrong += [f"unexpected {name}" for name in set(stored) - expected]
    wrong += [f"not finite {n}" for n, tensor in stored.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise TrainingError(
            "the tensors of an adapter do not fit its configuration",
            where=adapter.name,
            found=", ".join(sorted(wrong)[:6]),
            next_step="fm fsck; then build it again",
        )
    return peft


def adapter_classes(adapter: Path) -> tuple[str, ...]:
    """Return the classes that an adapter was trained for.

    Raises:
        TrainingError: If the folder is no adapter of this platform.
    """
    return tuple(_read(adapter / ADAPTER_FACTS)["classes"])


def _require_same(adapter: Path, base: BaseModel, classes: Sequence[str]) -> None:
    facts, settings = _read(adapter / ADAPTER_FACTS), _read(adapter / CONFIG)
    for what, expected, found in (
        ("base model", base.content_hash, facts["base_content_hash"]),
        ("list of classes", list(classes), facts["classes"]),
    ):
        if expected != found:
            raise TrainingError(
                f"the adapter belongs to another {what}",
                where=adapter.name,
                expected=expected,
                found=found,
                next_step="retrain it: adapters are never paired with what they were not made for",
            )
    foreign = [key for key in _FOREIGN if settings.get(key)]
    # Without this file the library would fall back to a pickled one.
    if foreign or not (adapter / WEIGHTS).is_file():
        raise TrainingError(
            "the folder is not a plain adapter",
            where=adapter.name,
            expected=WEIGHTS,
            found=", ".join(foreign) or ", ".join(sorted(p.name for p in adapter.iterdir())),
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"an adapter folder has no readable {path.name}",
            where=path.parent.name,
            found=str(error)[:200],
        ) from error
    return found


def head_modules(model: Any) -> list[str]:
    """Return the names of the head's modules, as PEFT saves them."""
    found = {name.split(".")[-1] for name, _ in model.named_modules()}
    return [name for name in HEAD_NAMES if name in found]


def linear_layers(model: Any) -> list[str]:
    """Return suffixes that name all linear layers but the head's, sorted."""
    import torch

    heads = set(head_modules(model))
    return sorted(
        {
            ".".join(name.split(".")[-2:])
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and not heads & set(name.split("."))
        }
    )


def save_adapter(model: Any, directory: Path, base: BaseModel, classes: Sequence[str]) -> None:
    """Write adapter_model.safetensors, adapter_config.json and what the adapter belongs to.

    The base is named as declared, never by its folder on this machine. Equal adapters give equal
    bytes.
    """
    shutil.rmtree(directory, ignore_errors=True)
    for config in model.peft_config.values():
        config.base_model_name_or_path = base.location
        config.revision = base.revision
        config.inference_mode = True
    # Embeddings are never trained; to look whether they were, the library would ask the hub.
    model.cpu().save_pretrained(
        str(directory), safe_serialization=True, save_embedding_layers=False
    )
    (directory / "README.md").unlink(missing_ok=True)
    path = directory / CONFIG
    settings: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    # The library adds head names at every load, whether the model has them or not.
    ordered = {
        **settings,
        "target_modules": sorted(settings["target_modules"]),
        "modules_to_save": sorted(head_modules(model)),
    }
    path.write_text(json.dumps(ordered, indent=2, sort_keys=True) + "\n", "utf-8")
    facts = {
        "base": base.location, "base_content_hash": base.content_hash, "classes": list(classes),
    }  # fmt: skip
    (directory / ADAPTER_FACTS).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
