"""What of a base model is trained: LoRA and its kin, scalings, prompts, biases, head, or all.

All are PEFT adapters in one folder of safetensors, so that all are saved, loaded, checked and
signed alike. Full fine-tuning is one too: an adapter without low-rank parts whose trained modules
are kept whole, and a linear probe one whose head alone is; a FISH mask (`training.masked`) trains
some entries of the same modules. Merging takes what has an exact dense form (LoRA, rsLoRA, full,
FISH, head) and refuses the rest by name.

LoRA: Hu et al. 2021, arXiv 2106.09685. rsLoRA: Kalajdzievski 2023, arXiv 2312.03732.
DoRA: Liu et al. 2024, arXiv 2402.09353. IA3: Liu et al. 2022, arXiv 2205.05638.
AdaLoRA: Zhang et al. 2023, arXiv 2303.10512. Prompt tuning: Lester et al. 2021, arXiv 2104.08691.
BitFit: Ben Zaken et al. 2022, arXiv 2106.10199. FISH mask: Sung et al. 2021, arXiv 2111.09839.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fm_platform.spec.training import Training
from fm_platform.training.adapter import ADAPTER_FACTS, CONFIG, head_modules, load_peft
from fm_platform.training.base_model import BaseModel
from fm_platform.training.prefix import layer_stack, require_layers

MERGEABLE = ("lora", "rslora", "full", "fish", "head")
_PROMPT_TOKENS = 8
_NO_TARGETS = "dummy-target-modules"  # PEFT's own word for: nothing but modules_to_save


def new_adapter(base: BaseModel, config: Training, classes: Sequence[str], steps: int) -> Any:
    """Return base + a fresh adapter of the declared method, head trained in full.

    Args:
        base: The base model.
        config: Its method, rank, alpha, frozen layers and seed.
        classes: Class names, by index.
        steps: Steps that will be trained; AdaLoRA shares out its ranks over them.

    Raises:
        BaseModelError: If the base cannot be used.
        TrainingError: If as many layers cannot be frozen.
    """
    import torch
    from peft import get_peft_model

    model = base.new_classifier(classes, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        peft = get_peft_model(model, adapter_config(model, config, steps)).eval()
    _require_gradients(peft, config)
    return peft


def load_trainable(base: BaseModel, adapter: Path, config: Training, classes: Sequence[str]) -> Any:
    """Return base + adapter, to be trained further; errors as of `load_peft`.

    AdaLoRA goes on with the ranks that it has: they are shared out once.
    """
    # The library refuses to make prompts, and AdaLoRA whose ranks are shared out, trainable.
    by_library = config.method not in ("prompt", "adalora")
    model = load_peft(base, adapter, classes, config.seed, trainable=by_library)
    _require_gradients(model, config)
    return model


def _require_gradients(peft: Any, config: Training) -> None:
    """Train what the method says where the library has no word for it."""
    if config.method not in ("bitfit", "prompt", "adalora"):
        return
    for name, parameter in peft.named_parameters():
        own = {
            "bitfit": name.endswith(".bias") and "original_module" not in name,
            "prompt": name.startswith("prompt_encoder."),
            "adalora": ".lora_" in name and "ranknum" not in name,
        }
        trained = "modules_to_save" in name or own[config.method]
        parameter.requires_grad_(trained)


def adapter_config(model: Any, config: Training, steps: int) -> Any:
    """Return the PEFT configuration of a method for a classifier."""
    import peft

    heads = head_modules(model)
    task: dict[str, Any] = {"task_type": peft.TaskType.SEQ_CLS, "modules_to_save": heads}
    targets = linear_names(model, config.frozen_layers)
    lora: dict[str, Any] = {
        **task, "r": config.rank, "lora_alpha": config.alpha, "lora_dropout": 0.0,
    }  # fmt: skip
    if config.method in ("lora", "rslora", "dora"):
        return peft.LoraConfig(
            **lora, target_modules=targets,
            use_rslora=config.method == "rslora", use_dora=config.method == "dora",
        )  # fmt: skip
    if config.method == "ia3":
        return peft.IA3Config(**task, target_modules=targets, feedforward_modules=[])
    if config.method == "adalora":
        total = max(steps, 3)
        return peft.AdaLoraConfig(
            **task, lora_alpha=config.alpha, lora_dropout=0.0,  # type: ignore[arg-type]
            target_modules=targets,
            init_r=config.rank + (config.rank + 1) // 2,
            target_r=config.rank, total_step=total, tinit=total // 5, tfinal=total // 5,
            deltaT=max(1, total // 20),
        )  # fmt: skip
    if config.method == "prompt":
        return peft.PromptTuningConfig(
            task_type=peft.TaskType.SEQ_CLS, num_virtual_tokens=_PROMPT_TOKENS
        )
    if config.method == "bitfit":
        return peft.LoraConfig(**lora, target_modules=_NO_TARGETS, bias="all")
    if config.method == "head":
        return peft.LoraConfig(**lora, target_modules=_NO_TARGETS)
    lora["modules_to_save"] = trained_modules(model, config.frozen_layers, heads)
    return peft.LoraConfig(**lora, target_modules=_NO_TARGETS)


def linear_names(model: Any, frozen: int) -> list[str]:
    """Return the full names of all linear layers above the frozen ones, but the head's, sorted."""
    import torch

    heads = set(head_modules(model))
    below = _frozen_prefixes(model, frozen)
    return sorted(
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and not heads & set(name.split("."))
        and not name.startswith(below)
    )


def trained_modules(model: Any, frozen: int, heads: Sequence[str]) -> list[str]:
    """Return the names of the modules that full fine-tuning trains, sorted: whole, none twice."""
    parent, stack = layer_stack(model)
    prefix = next(name for name, module in model.named_modules() if module is parent)
    backbone = prefix.split(".")[0]
    layers = [f"{prefix}.{stack}.{i}" for i in range(frozen, len(getattr(parent, stack)))]
    if frozen:
        return sorted([*layers, *heads])
    around = [
        f"{backbone}.{name}"
        for name, module in model.get_submodule(backbone).named_children()
        if name not in heads
        and next(module.parameters(), None) is not None
        and not any(layer.startswith(f"{backbone}.{name}.") for layer in layers)
    ]
    return sorted([*around, *layers, *heads])


def _frozen_prefixes(model: Any, frozen: int) -> tuple[str, ...]:
    if not frozen:
        return ()
    require_layers(model, frozen)
    parent, stack = layer_stack(model)
    prefix = next(name for name, module in model.named_modules() if module is parent)
    return tuple(f"{prefix}.{stack}.{i}." for i in range(frozen))


def save_any(model: Any, directory: Path, base: BaseModel, classes: Sequence[str]) -> None:
    """Write a PEFT adapter of any method as `save_adapter` writes LoRA: equal ones, equal bytes."""
    shutil.rmtree(directory, ignore_errors=True)
    for config in model.peft_config.values():
        config.base_model_name_or_path = base.location
        config.revision = base.revision
        config.inference_mode = True
    model.cpu().save_pretrained(
        str(directory), safe_serialization=True, save_embedding_layers=False
    )
    (directory / "README.md").unlink(missing_ok=True)
    path = directory / CONFIG
    settings = json.loads(path.read_text("utf-8"))
    for key in ("target_modules", "modules_to_save", "feedforward_modules", "exclude_modules"):
        if isinstance(settings.get(key), list):  # sets by nature, in no order
            settings[key] = sorted(_present(model, settings[key]))
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", "utf-8")
    facts = {
        "base": base.location, "base_content_hash": base.content_hash, "classes": list(classes),
    }  # fmt: skip
    (directory / ADAPTER_FACTS).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def _present(model: Any, names: Sequence[str]) -> set[str]:
    """Leave out head names that the library adds whether the model has them or not."""
    known = [name for name, _ in model.get_base_model().named_modules()]
    return {name for name in names if any(k == name or k.endswith(f".{name}") for k in known)}
