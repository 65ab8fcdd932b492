"""Base model, tokenizer, training code and the model in use, without training anything."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fm_platform.errors import BaseModelError, FMError, TrainingError
from fm_platform.lineage import ArtifactVersion
from fm_platform.lineage.machinery import CODE
from fm_platform.spec.base_model import BaseModelSpec
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec, Training
from fm_platform.stages.check.findings import (
    DIFFERS,
    MISSING,
    NOTE,
    OK,
    WRONG,
    Finding,
    failing,
    of_error,
)
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path


def base_findings(
    project: LoadedProject, recorded: ArtifactVersion | None
) -> tuple[BaseModel | None, list[Finding]]:
    """Return the base model, and whether it is there and the one of the last build.

    Args:
        project: The project.
        recorded: What it declared at its last build (kind `spec`, with inputs); None: not known.
    """
    declared = project.spec.base_model
    try:
        base = resolve_base_model(declared, project.directory)
    except BaseModelError as error:
        return None, [of_error("base model", error)]
    then = next((i.content_hash for i in recorded.inputs if i.role == "base_model"), None) if (
        recorded
    ) else None  # fmt: skip
    named = f"{declared.location}, content {base.content_hash[:12]}"
    if then is None or then == base.content_hash:
        seen = "that of the last build" if then else "no build with it is recorded"
        return base, [Finding("base model", OK, f"{named}: {seen}")]
    before = recorded.config.get("base_model", {}) if recorded else {}
    told = declared.model_dump(mode="json", include=set(before) | {"location"})
    if before != told:
        return base, [
            Finding(
                "base model", NOTE, f"{named}: another one was declared at the last build "
                f"({before.get('location')}, content {then[:12]}); every adapter is trained again",
            )
        ]  # fmt: skip
    return base, [
        Finding(
            "base model", DIFFERS,
            f"{named}: the last build had content {then[:12]} under the same declaration",
            "bring that model back, or declare the new one: its adapters are all trained again",
        )
    ]  # fmt: skip


def candidate_findings(
    project: LoadedProject, chosen: ArtifactVersion | None, only_files: bool
) -> Iterator[Finding]:
    """Yield which candidates for the base model can be used; one that cannot is left out.

    Args:
        project: A project that declares candidates.
        chosen: The last choice: the base in use must be there. None: there is none.
        only_files: Load no tokenizer and lay out no model.
    """
    spec, usable = project.spec, 0
    used = BaseModelSpec.model_validate(chosen.location["chosen"]).label if chosen else None
    if not only_files:
        yield from _imports()
    for declared in spec.base_model.candidates:
        one = replace(project, spec=spec.model_copy(
            update={"base_model": spec.base_model.as_one(declared)}))  # fmt: skip
        base, found = base_findings(one, None)
        if base is not None and not only_files:
            found += [*tokenizer_findings(base, spec), *_trained(base, spec)]
        bad = failing(found)
        if bad and declared.label == used:
            yield from bad
            continue
        for finding in bad:
            told = f"{declared.label} is left out of the choice: {finding.what}"
            yield Finding("base model", NOTE, told, finding.next_step)
        if not bad:
            usable += 1
            role = "is the base in use" if declared.label == used else "is a candidate"
            yield Finding("base model", OK, f"{declared.label} {role}: {found[0].what}")
    if not usable:
        yield Finding(
            "base model", WRONG, "no candidate for the base model can be used",
            "mend one of them, or declare others under base_model.candidates",
        )  # fmt: skip


def tokenizer_findings(base: BaseModel, spec: ProjectSpec) -> Iterator[Finding]:
    """Yield where the tokenizer does not fit the model: vocabulary, special tokens, lengths."""
    try:
        tokenizer = base.tokenizer()
    except BaseModelError as error:
        yield of_error("tokenizer", error)
        return
    config = json.loads((base.directory / "config.json").read_text("utf-8"))
    found = [
        *_beyond(tokenizer, embedding_rows(base.directory, int(config["vocab_size"]))),
        *_special(tokenizer, config),
        *_lengths(tokenizer, config, spec.training.max_tokens),
    ]
    yield from found or [
        Finding("tokenizer", OK, f"{len(tokenizer)} tokens fit {config['vocab_size']} embeddings")
    ]


def embedding_rows(directory: Path, vocabulary: int) -> int:
    """Return how many tokens the weights embed, from the headers of the files alone.

    Where no tensor has as many rows as the configuration says, the nearest embedding table's.

    Args:
        directory: Folder of safetensors.
        vocabulary: `vocab_size` of its configuration.
    """
    from safetensors import safe_open

    sizes = set()
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(str(path), framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                if name.endswith(("word_embeddings.weight", "embed_tokens.weight", "wte.weight")):
                    sizes.add(int(file.get_slice(name).get_shape()[0]))
    return min(sizes, default=vocabulary)


def _beyond(tokenizer: Any, rows: int) -> Iterator[Finding]:
    if len(tokenizer) > rows:
        yield Finding(
            "tokenizer", WRONG, f"it knows {len(tokenizer)} tokens, the weights embed {rows}",
            "put the tokenizer that belongs to the weights into the folder",
        )  # fmt: skip
        return
    outside = {n: i for n, i in sorted(_ids(tokenizer).items()) if not 0 <= i < rows}
    for name, number in outside.items():
        yield Finding(
            "tokenizer", WRONG, f"{name} is token {number}, the weights embed {rows}",
            "put the tokenizer that belongs to the weights into the folder",
        )  # fmt: skip


def _ids(tokenizer: Any) -> dict[str, int]:
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "bos_token", "eos_token")
    ids = {name: getattr(tokenizer, f"{name}_id", None) for name in names}
    return {name: int(number) for name, number in ids.items() if number is not None}


def _special(tokenizer: Any, config: dict[str, Any]) -> Iterator[Finding]:
    ids = _ids(tokenizer)
    if "pad_token" not in ids:
        yield Finding(
            "tokenizer", WRONG, "it has no padding token, so texts cannot be put into one batch",
            "name one in tokenizer_config.json: pad_token",
        )  # fmt: skip
    for name in ("pad_token", "bos_token", "eos_token"):
        wanted = config.get(f"{name}_id")
        if isinstance(wanted, int) and name in ids and ids[name] != wanted:
            yield Finding(
                "tokenizer", WRONG, f"its {name} is token {ids[name]}, config.json says {wanted}",
                "put the tokenizer that belongs to the weights into the folder",
            )  # fmt: skip


def _lengths(tokenizer: Any, config: dict[str, Any], wanted: int) -> Iterator[Finding]:
    from fm_platform.training.data import readable_tokens

    limit = readable_tokens(config, tokenizer)
    if wanted > limit:
        yield Finding(
            "training", WRONG, f"training.max_tokens is {wanted}, the base model reads {limit}",
            f"set training.max_tokens to {limit} or less",
        )  # fmt: skip


def training_findings(base: BaseModel | None, spec: ProjectSpec) -> Iterator[Finding]:
    """Yield what would stop a training: code that does not import, a base that takes no LoRA.

    The model is laid out without its weights, so the size of the base does not matter.
    """
    broken = [*_imports()]
    yield from broken
    if base is not None and not broken:
        yield from _trained(base, spec)


def _trained(base: BaseModel, spec: ProjectSpec) -> Iterator[Finding]:
    try:
        trained, total = trial(base, spec)
    except TrainingError as error:
        yield of_error("training", error)
        return
    yield Finding(
        "training", OK,
        f"the code imports; {_trains(spec.training)} {trained:,} of {total:,} "
        f"parameters, {len(spec.taxonomy.classes)} classes",
    )  # fmt: skip


def _trains(training: Training) -> str:
    """Return in words what trains parameters; of a search, what is tried as usual."""
    rank = training.rank
    return {
        "auto": f"how is chosen by trials, e.g. LoRA of rank {rank} trains",
        "lora": f"LoRA of rank {rank} trains",
        "rslora": f"rsLoRA of rank {rank} trains",
        "full": "full fine-tuning trains",
        "fish": f"a FISH mask of {100 * training.mask_share:g} % trains",
        "head": "the head alone trains",
    }.get(training.method, f"{training.method} trains")


def _imports() -> Iterator[Finding]:
    for module in sorted({name for names in CODE.values() for name in names}):
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield Finding(
                "training", MISSING if isinstance(error, ModuleNotFoundError) else WRONG,
                f"{module} does not import: {type(error).__name__}: {error}",
                "pip install -c constraints.txt -e .",
            )  # fmt: skip


def trial(base: BaseModel, spec: ProjectSpec) -> tuple[int, int]:
    """Return (trained, all) parameters of base + adapter + head, laid out without memory.

    Raises:
        TrainingError: If the installed libraries cannot make that model, or more layers are to be
            frozen than it has.
    """
    import torch
    import transformers
    from peft import get_peft_model

    from fm_platform.training.loading import quiet
    from fm_platform.training.methods import adapter_config

    quiet()
    training = spec.training
    if training.method == "auto":
        training = training.model_copy(update={"method": "lora"})
    try:
        config = transformers.AutoConfig.from_pretrained(
            str(base.directory), local_files_only=True, trust_remote_code=False,
            num_labels=len(spec.taxonomy.classes),
        )  # fmt: skip
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            make: Any = transformers.AutoModelForSequenceClassification.from_config
            model = make(config)
            total = sum(p.numel() for p in model.parameters())
            made = get_peft_model(model, adapter_config(model, training, steps=1))
    except TrainingError:
        raise
    except Exception as error:  # the libraries raise any kind for a model they do not know
        raise TrainingError(
            "the base model and the installed libraries do not go together",
            where=base.location,
            found=f"{type(error).__name__}: {str(error)[:300]}",
            next_step="declare another base model, or install the packages of constraints.txt",
        ) from error
    trained = sum(p.numel() for p in made.parameters() if p.requires_grad)
    if training.method == "fish":
        trained = round(training.mask_share * trained)
    return trained, total


def serving_findings(ws: Workspace, model: ArtifactVersion) -> Iterator[Finding]:
    """Yield what would keep the model in use from being loaded: bytes, architecture, tokenizer."""
    import transformers

    from fm_platform.training.loading import load_tokenizer

    name = f"{model.name} {model.content_hash[:12]}"
    try:
        path = ws.model_path(model)
        load_tokenizer(path, BaseModelError)
        made = json.loads((path / "config.json").read_text("utf-8")).get("architectures") or []
    except FMError as error:
        yield of_error("serving", error)
        return
    unknown = [cls for cls in made if not hasattr(transformers, cls)]
    for cls in unknown:
        yield Finding(
            "serving", WRONG, f"{name} is a {cls}, which transformers does not know",
            "install the transformers that the model was made with",
        )  # fmt: skip
    if not unknown:
        yield Finding("serving", OK, f"{name}: bytes verified, {', '.join(made)}, tokenizer loads")
