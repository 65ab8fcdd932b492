"""What a model learned beyond its shared start, as one small file; and files put on a start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fm_platform.errors import FMError
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import resolve, version_name
from fm_platform.numerics import reproducible
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import BaseModelSpec
from fm_platform.stages.models import targets_of, training_days
from fm_platform.stages.serving import base_for
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.merging.contribution import Contribution, Importance

State = dict[str, Any]
FISHER_ROWS = 256
"""Dev rows that tell which entries matter, at most."""


def contribute(
    ws: Workspace,
    project: LoadedProject,
    reference: str,
    share: float,
    importance: Importance,
    path: Path,
) -> dict[str, Any]:
    """Write what an adapter or a merged model learned beyond the shared start as one file.

    Fisher information is that of the start on weak dev rows of the model's sources; labels are not
    looked at. A start of LoRA is multiplied out to be changed, and another type of machine may
    round otherwise: it then refuses the file. Who gets the start as a folder (`apply` without
    files) has the same bits.

    Returns:
        The facts of the contribution, with `entries`, `bytes`, `dense_bytes` (of all tensors) and
        `content_hash`.

    Raises:
        RefError: If the reference names no version, or several.
        FMError: If it is no such model.
        MergeRefusedError: If the adapter has no exact dense form, nothing was learned, or Fisher
            information is needed and there are no dev rows.
        BaseModelError: If its base is not on this machine.
    """
    from fm_platform.merging.contribution import contribution, write_contribution

    version = resolve(ws.ledger, project.spec.name, reference)
    start = start_of(ws, version)
    base = base_for(ws, start)
    with reproducible(threads=1):  # the tensors of a start are the same on any machine
        model = base.new_classifier(_classes(version), 0)
        begun = start_state(ws, start, model)
        tuned = _tuned(ws, version, model)
        fisher = None
        if importance != "change":
            model.load_state_dict(begun)
            fisher = _fisher(ws, project, version, base, model)
        facts = {
            "project": version.project, "model": version_name(version),
            "model_content": version.content_hash, "start_content": start.content_hash,
        }  # fmt: skip
        made: Contribution = contribution(begun, tuned, share, importance, fisher, facts)
    size = write_contribution(made, path)
    dense = sum(tensor.numel() * tensor.element_size() for tensor in tuned.values())
    return {
        **made.facts, "entries": made.count, "bytes": size, "dense_bytes": dense,
        "content_hash": made.content_hash,
    }  # fmt: skip


def apply(
    ws: Workspace, project: str | None, files: Sequence[Path], on: str | None, folder: Path
) -> dict[str, Any]:
    """Write a start with contributions as a model folder that `from_pretrained` loads.

    Args:
        ws: Where starts are.
        project: Whose; None: the one that the first contribution names.
        files: Contributions; none gives the start itself.
        on: A start by reference, or a folder of a dense model; None: what the first contribution
            was made for.
        folder: To write; it must not be there.

    Returns:
        `folder`, `base` and `content_hash` of the tensors, how many `entries` are changed and how
        many of them by several (`conflicts`), and the `contributions`.

    Raises:
        CorruptArtifactError: If a file is damaged.
        MergeRefusedError: If a contribution is for another base, or does not fit it.
        RefError: If there is no such start.
        FMError: If the folder is there, or nothing says what to put them on.
    """
    from fm_platform.merging.contribution import applied, read_contribution, tensors_hash
    from fm_platform.merging.merge import write_dense

    if folder.exists():
        raise FMError("the folder is there already", where=folder, next_step="name another one")
    found = [read_contribution(path) for path in files]
    with reproducible(threads=1):
        base, model = _foundation(ws, project, [one.facts for one in found], on)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        told = applied(state, found)
        model.load_state_dict(told.state)
        write_dense(model, base, folder)
    mode = (folder / "config.json").stat().st_mode & 0o777
    for weights in folder.glob("*.safetensors"):  # safetensors lets nobody else read them
        weights.chmod(mode)
    return {
        "folder": str(folder), "base": tensors_hash(state),
        "content_hash": tensors_hash(told.state),
        "entries": told.entries, "conflicts": told.conflicts,
        "contributions": [
            {**one.facts, "entries": one.count, "content_hash": one.content_hash} for one in found
        ],
    }  # fmt: skip


def start_of(ws: Workspace, version: ArtifactVersion) -> ArtifactVersion:
    """Return the shared start that a model continues.

    Raises:
        FMError: If it continues none, or is no classifier.
    """
    above = [item.version_id for item in version.inputs if item.role == "start" and item.version_id]
    if not above or version.kind not in ("adapter", "merged_model"):
        raise FMError(
            f"{version_name(version)} continues no shared start, so it contributes nothing to one",
            expected="an adapter or a merged model of a project that classifies",
            next_step=f"fm models {version.project} lists them",
        )
    return ws.ledger.get(above[0])


def start_state(ws: Workspace, start: ArtifactVersion, model: Any) -> State:
    """Return the dense tensors of base + start; `model` is base + fresh head and stays as it is."""
    from fm_platform.merging.adapters import read_adapter

    dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return read_adapter("shared start", ws.model_path(start)).alone(dense)


def _tuned(ws: Workspace, version: ArtifactVersion, model: Any) -> State:
    from fm_platform.merging.adapters import read_adapter
    from fm_platform.merging.tensorfile import Checkpoint

    if version.kind == "adapter":
        dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return read_adapter(version.name, ws.model_path(version)).alone(dense)
    with Checkpoint(ws.model_path(version)) as stored:
        return {name: stored.read(name) for name in stored.places}


def _fisher(
    ws: Workspace, project: LoadedProject, version: ArtifactVersion, base: BaseModel, model: Any
) -> State | None:
    """Return the Fisher information on dev rows of the model's sources; None without rows."""
    from fm_platform.fisher import diagonal_fisher
    from fm_platform.training.data import balanced_sample, encode, padded, take

    spec = project.spec
    own = next((e.sources for e in spec.experts if e.name == version.name), None)
    dev = targets_of(ws, spec, training_days(ws, spec), "dev", own)
    if not dev.num_rows:
        return None
    tokenizer, length = base.tokenizer(), int(version.config["training"]["max_tokens"])
    rows = encode(tokenizer, dev, length, _classes(version))
    each = -(-FISHER_ROWS // len(set(rows.sources)))
    chosen = balanced_sample(rows.sources, each, np.random.default_rng(0))
    few = take(rows, chosen[:FISHER_ROWS])

    def singly() -> Iterator[State]:
        for tokens in few.tokens:
            ids, mask = padded([tokens], tokenizer.pad_token_id or 0)
            yield {"input_ids": ids, "attention_mask": mask}

    return diagonal_fisher(model, singly(), dict(model.named_parameters()))


def _foundation(
    ws: Workspace, project: str | None, facts: Sequence[Any], on: str | None
) -> tuple[BaseModel, Any]:
    """Return what contributions are put on, and its model."""
    from fm_platform.training.predict import load_classifier

    if on is not None and Path(on).is_dir():
        folder = Path(on).resolve()
        model = load_classifier(folder).model
        return resolve_base_model(BaseModelSpec(location=str(folder)), folder), model
    if on is None and not facts:
        raise FMError(
            "nothing is to be applied, and on nothing", next_step="name files, or a start by --on"
        )
    start = resolve(
        ws.ledger,
        project or (facts[0].get("project") if facts else None),
        on or str(facts[0].get("start_content")),
    )
    if start.kind != "start":
        raise FMError(
            "contributions are put on a shared start, or on a folder of a dense model",
            found=version_name(start),
        )
    base = base_for(ws, start)
    model = base.new_classifier(_classes(start), 0)
    model.load_state_dict(start_state(ws, start, model))
    return base, model


def _classes(version: ArtifactVersion) -> list[str]:
    return [str(name) for name in version.config["classes"]]
