"""Answers of a model version: what `fm predict` says, and which pairs it refuses.

A model answers with the classes and the text length that it was made with, whatever the project
declares today. An adapter is put on the base it was trained and evaluated on, and on no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fm_platform.errors import BaseModelError, FMError
from fm_platform.hashing import sha256_hex
from fm_platform.lineage.marks import MODELS, base_of, evaluations_of
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import prediction_id, resolve, version_name
from fm_platform.spec.models import BaseModelSpec
from fm_platform.stages.canary import answers, live
from fm_platform.stages.definition import read_definition
from fm_platform.tracking.records import CANARY, CHAMPION
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.workspace import Workspace, project_names, project_root

if TYPE_CHECKING:
    from pathlib import Path

    from fm_platform.training.instruct import Answering
    from fm_platform.training.predict import Classifier


def predict(
    ws: Workspace, project: str, reference: str, texts: Sequence[str]
) -> list[dict[str, Any]]:
    """Return text, label, confidence, probabilities, model and prediction id for each text.

    The id names the model and the text asked (its SHA-256, cut): `fm lineage ID` says which model
    answered and what it is made from, whatever is in use later. While a canary is tried out, it
    answers its share of what the champion is asked, and each answer says whose it is (`by`).

    Raises:
        RefError: If the reference names no version, or several.
        FMError: If it names no model, or an adapter without an evaluation on its base.
        BaseModelError: If the base of an adapter is not on this machine.
    """
    version = resolve(ws.ledger, project, reference)
    if version.config.get("task") == "causal":
        return _answers(ws, version, texts)
    trial = live(ws, project) if reference == CHAMPION else None
    if trial is None:
        return _labels(ws, version, texts)
    canary, declared = trial
    own = [answers(canary, _text_id(text), declared.share) for text in texts]
    told: dict[bool, Iterator[dict[str, Any]]] = {}
    for mine, model, name in ((True, canary, CANARY), (False, version, CHAMPION)):
        part = [text for text, is_own in zip(texts, own, strict=True) if is_own is mine]
        rows = _labels(ws, model, part) if part else []
        told[mine] = iter([{**row, "by": name} for row in rows])
    return [next(told[mine]) for mine in own]


def _labels(ws: Workspace, version: ArtifactVersion, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return what one classifier says of some texts."""
    from fm_platform.training.predict import predict_probabilities

    model = servable(ws, version)
    classes = [str(name) for name in version.config["classes"]]
    length = int(version.config["training"]["max_tokens"])
    probabilities = predict_probabilities(model, list(texts), max_tokens=length)
    return [
        {
            "text": text,
            "label": classes[int(row.argmax())],
            "confidence": float(row.max()),
            "probabilities": {name: float(p) for name, p in zip(classes, row, strict=True)},
            "model": version.content_hash,
            "prediction_id": prediction_id(version.content_hash, _text_id(text)),
        }
        for text, row in zip(texts, probabilities, strict=True)
    ]


def _text_id(text: str) -> str:
    """Return by what a text is known that came without a row id."""
    return sha256_hex(text.encode("utf-8", "replace"))[:32]


def _answers(ws: Workspace, version: ArtifactVersion, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return text, answer, model and prediction id for each prompt."""
    from fm_platform.training.answering import generate

    answering = answerable(ws, version)
    columns = answering.dialogue.instruction.columns
    if len(columns) != 1:
        raise FMError(
            f"{version_name(version)} is asked with several columns, not with one text",
            found=", ".join(columns),
            next_step="use fm_platform.training.answering.generate",
        )
    told = generate(answering, [{columns[0]: text} for text in texts])
    return [
        {
            "text": text,
            "answer": answer,
            "model": version.content_hash,
            "prediction_id": prediction_id(version.content_hash, _text_id(text)),
        }
        for text, answer in zip(texts, told, strict=True)
    ]


def answerable(ws: Workspace, version: ArtifactVersion) -> Answering:
    """Load a causal model with every byte verified, if it may answer; errors as `servable`."""
    from fm_platform.training.instruct import (
        causal_base,
        load_answering,
        load_answering_adapter,
    )

    if version.kind == "merged_model":
        return load_answering(ws.model_path(version))
    _require_evaluated(ws, version)
    return load_answering_adapter(causal_base(base_for(ws, version)), ws.model_path(version))


def servable(ws: Workspace, version: ArtifactVersion) -> Classifier:
    """Load a model with every byte verified, if it may answer.

    Raises:
        FMError: If it is no model, or an adapter that was never evaluated on its base.
        BaseModelError: If the base of an adapter is not on this machine.
    """
    from fm_platform.training.predict import load_adapter, load_classifier

    if version.kind == "merged_model":  # it carries its base
        return load_classifier(ws.model_path(version))
    _require_evaluated(ws, version)
    return load_adapter(base_for(ws, version), ws.model_path(version))


def _require_evaluated(ws: Workspace, version: ArtifactVersion) -> None:
    if version.kind not in MODELS:
        raise FMError(
            f"{version_name(version)} does not answer texts",
            found=version.kind,
            expected="a merged model or an adapter",
            next_step=f"fm models {version.project} lists them",
        )
    if not evaluations_of(ws.ledger, version):
        raise FMError(
            f"{version_name(version)} was never evaluated, so it does not answer",
            expected=f"an evaluation of it on base {str(base_of(ws.ledger, version))[:12]}",
            next_step=f"fm run {version.project} evaluates every adapter in use",
        )


def base_for(ws: Workspace, version: ArtifactVersion) -> BaseModel:
    """Return the base model that an adapter was trained and evaluated on.

    It is looked for where the project declares its bases today, then where it did when the
    adapter was made: content decides, not the name.

    Raises:
        BaseModelError: If neither is the recorded one.
    """
    recorded = base_of(ws.ledger, version)
    found: list[str] = []
    for declared, folder in _declared(ws, version):
        try:
            base = resolve_base_model(declared, folder)
        except BaseModelError as error:
            found.append(f"{declared.location}: {error.message}")
            continue
        if base.content_hash == recorded:
            return base
        found.append(f"{declared.location}: content {base.content_hash[:12]}")
    raise BaseModelError(
        f"the base model of {version_name(version)} is not here: an adapter is never put on "
        "another one",
        expected=f"content {str(recorded)[:12]}",
        found="; ".join(dict.fromkeys(found)) or "no declared base model",
        next_step=f"bring the base back, or train for the new one: fm run {version.project}",
    )


def _declared(ws: Workspace, version: ArtifactVersion) -> Iterator[tuple[BaseModelSpec, Path]]:
    """Yield what the project declares and declared as its base, with the project's folder."""
    from fm_platform.workspace import find_project

    folder = project_root()
    if version.project in project_names():
        project = find_project(version.project)
        folder = project.directory
        yield from ((base, folder) for base in project.spec.base_model.bases)
    spec = ws.ledger.latest(version.project, "spec", "spec", at=version.created_at)
    if spec is not None and "model" in spec.location:
        bases = read_definition(ws, spec).spec.base_model.bases
        yield from ((base, folder) for base in bases)
