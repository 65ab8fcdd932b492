"""Load model folders: safetensors only, no network, no foreign code, every tensor accounted for."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from fm_platform.errors import FMError

# Parts of a classifier that are new, not of the base model: trained in full, saved whole.
HEAD_NAMES = ("classifier", "score", "pooler", "pre_classifier")
# Heads of pre-training that a classifier leaves behind, and buffers of older library versions.
_LEFT_BEHIND = frozenset(
    {"cls", "lm_head", "mlm", "vocab_transform", "vocab_layer_norm", "vocab_projector",
     "lm_predictions", "mask_predictions", "discriminator_predictions", "generator_predictions",
     "generator_lm_head", "qa_outputs", "position_ids", *HEAD_NAMES}
)  # fmt: skip


def quiet() -> None:
    """Keep the library's load reports and bars out of our output: we check and report ourselves."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # PEFT still asks by the old name; nothing that a person could do about it
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", category=FutureWarning)


def load_checked(
    directory: Path,
    auto_class: str,
    error: type[FMError],
    *,
    new_parts: tuple[str, ...] = (),
    **settings: Any,
) -> Any:
    """Return a model in float32 and evaluation mode.

    Args:
        directory: Folder with config.json and safetensors.
        auto_class: Name of a class of transformers, e.g. ``AutoModel``.
        error: Class of the error to raise.
        new_parts: Modules that may be missing from the folder and are made fresh.
        settings: Passed on to the configuration.

    Raises:
        FMError: Of class `error`, if the folder does not load, tensors are missing, unexpected
            or of another shape, or a value is not finite.
    """
    import torch
    import transformers

    quiet()
    try:
        model, info = getattr(transformers, auto_class).from_pretrained(
            str(directory),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
            **settings,
        )
    except Exception as problem:  # the library raises any kind for a damaged folder
        raise error(
            "a model folder does not load",
            where=directory,
            found=f"{type(problem).__name__}: {str(problem)[:300]}",
            next_step="compare the folder with where it came from; fetch or build it again",
        ) from problem
    allowed = _LEFT_BEHIND if new_parts else frozenset()
    wrong = [
        *(
            f"missing {key}"
            for key in info["missing_keys"]
            if not set(key.split(".")) & set(new_parts)
        ),
        *(
            f"unexpected {key}"
            for key in info["unexpected_keys"]
            if not set(key.split(".")) & allowed
        ),
        *(f"mismatched {key}" for key in info["mismatched_keys"]),
        *(
            f"not finite {name}"
            for name, value in _tensors(model)
            if not torch.isfinite(value).all()
        ),
    ]
    if wrong:
        raise error(
            "the weights do not fit their configuration",
            where=directory,
            expected="every tensor of the configuration, finite",
            found=", ".join(sorted(wrong)[:6]),
            next_step="compare the folder with where it came from; fetch or build it again",
        )
    return model.eval()


def load_tokenizer(directory: Path, error: type[FMError]) -> Any:
    """Return the tokenizer of a folder, without network and foreign code.

    Raises:
        FMError: Of class `error`, if it does not load or knows tokens that the model does not.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
        vocabulary = json.loads((directory / "config.json").read_text("utf-8"))["vocab_size"]
    except Exception as problem:  # the library raises any kind for a damaged folder
        raise error(
            "a tokenizer does not load",
            where=directory,
            found=f"{type(problem).__name__}: {str(problem)[:300]}",
        ) from problem
    if len(tokenizer) > vocabulary:
        raise error(
            "the tokenizer is not the model's",
            where=directory,
            expected=f"at most {vocabulary} tokens",
            found=len(tokenizer),
            next_step="put the tokenizer that belongs to the weights into the folder",
        )
    return tokenizer


def _tensors(model: Any) -> list[tuple[str, Any]]:
    return [
        (name, value) for name, value in model.state_dict().items() if value.is_floating_point()
    ]
