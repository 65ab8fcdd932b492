"""The model card: what a Hugging Face user expects, written from the ledger, nothing typed.

A card with a gap is worse than none, so a missing required value is an error. Texts that come
from data (examples, class names of others, function names) are made inert; nothing of a row is
shown beyond them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from fm_platform.display import as_markdown, plain, safe_url
from fm_platform.errors import TrackingError
from fm_platform.evaluation.metrics import ALL, METRICS
from fm_platform.evaluation.table import MERGED_MODEL, EvaluationTable

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub import EvalResult

    from fm_platform.spec.models import ProjectSpec

_NAMES = {
    "f1_weighted": "support-weighted F1",
    "f1_macro": "macro F1",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "ece": "expected calibration error",
}
# Names that the hub's metric pages use.
_TYPES = {
    "f1_weighted": "f1",
    "f1_macro": "f1",
    "accuracy": "accuracy",
    "log_loss": "log_loss",
    "ece": "expected_calibration_error",
}
_TRAINED = {
    "lora": "One LoRA adapter per expert was trained",
    "rslora": "One rsLoRA adapter per expert was trained",
    "full": "All weights were fine-tuned for each expert",
    "fish": "The most important weights (a FISH mask) were trained for each expert",
    "head": "A linear head was trained for each expert",
}
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CardInput:
    """One data partition or model that the merged model was made from."""

    name: str
    content_hash: str
    rows: int | None = None


@dataclass(frozen=True)
class CardExpert:
    """One merged expert."""

    name: str
    sources: tuple[str, ...]
    weight: float
    content_hash: str


@dataclass(frozen=True)
class CardFunction:
    """One labeling function; accuracy and its interval are those on dev rows, where known."""

    name: str
    coverage: float
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ModelCardInputs:
    """Everything a card says.

    Attributes:
        project: Project name.
        description: What the project is for, in the words of its file.
        classes: Class names, by index.
        taxonomy_version: Version of the classes.
        base_model: Name of the base model (hub id, or a package's name).
        base_model_hash: Its content hash.
        language: ISO 639-1 codes.
        license: Licence identifier of the model, as the hub spells them.
        recipe_hash: Of the merged model.
        merge_method: `linear` or `ties`.
        experts: What was merged.
        inputs: Data partitions behind it.
        functions: Labeling functions behind the labels.
        git_commit: Of the code, or `unknown` with uncommitted changes said so.
        created_at: ISO 8601 time.
        evaluation: Table with a row for `merged_model`, or None before an evaluation.
        evaluation_hash: Content hash of the evaluation.
        limits: Sentences on what the model should not be used for.
        links: Title -> address.
        training_method: How experts were trained, as projects declare it.
    """

    project: str
    description: str
    classes: tuple[str, ...]
    taxonomy_version: int
    base_model: str
    base_model_hash: str
    language: tuple[str, ...]
    license: str
    recipe_hash: str
    merge_method: str
    experts: tuple[CardExpert, ...]
    inputs: tuple[CardInput, ...]
    functions: tuple[CardFunction, ...]
    git_commit: str
    created_at: str
    evaluation: EvaluationTable | None = None
    evaluation_hash: str | None = None
    limits: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    training_method: str = "lora"


def write_card(inputs: ModelCardInputs) -> str:
    """Return the text of `README.md`: front matter of the hub, then the card.

    Raises:
        TrackingError: If required values are missing; all of them are named.
    """
    _check(inputs)
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        base_model=inputs.base_model,
        base_model_relation="merge" if len(inputs.experts) > 1 else "finetune",
        language=list(inputs.language),
        library_name="transformers",
        license=inputs.license,
        pipeline_tag="text-classification",
        metrics=["f1", "accuracy"],
        tags=[
            "text-classification",
            "weak-supervision",
            "model-merging",
            *(["lora"] if inputs.training_method in ("lora", "rslora") else []),
        ],
        model_name=inputs.project,
        eval_results=_eval_results(inputs) or None,
    )
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(inputs)}")
    return str(card)


def base_card(folder: Path) -> Mapping[str, Any]:
    """Return the metadata of a model folder's own card; empty where it has none that is valid."""
    import yaml
    from huggingface_hub.repocard import ModelCard

    path = folder / "README.md"
    if not path.is_file():
        return {}
    try:
        card = ModelCard(path.read_text("utf-8", "replace"), ignore_metadata_errors=True)
    except (ValueError, TypeError, yaml.YAMLError):  # its metadata is no mapping
        return {}
    data: dict[str, Any] = card.data.to_dict()  # type: ignore[no-untyped-call]
    return data


def languages(spec: ProjectSpec | None, own: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the languages that cleaning lets through, or else those of the base model's card."""
    for rule in spec.cleaning if spec is not None else ():
        if rule.rule == "language":
            return rule.allowed
    told = own.get("language")
    if isinstance(told, str):
        return (told,)
    return tuple(str(code) for code in told) if isinstance(told, (list, tuple)) else ()


def _check(inputs: ModelCardInputs) -> None:
    optional = {"evaluation", "evaluation_hash", "limits", "links", "functions"}
    missing = []
    for item in fields(inputs):
        value = getattr(inputs, item.name)
        empty = value is None or value == () or (isinstance(value, str) and not value.strip())
        if item.name not in optional and empty:
            missing.append(item.name)
    for name in ("base_model_hash", "recipe_hash"):
        if name not in missing and not _HASH.fullmatch(getattr(inputs, name)):
            missing.append(f"{name} (64 hex digits)")
    if inputs.evaluation is not None:
        if not inputs.evaluation_hash:
            missing.append("evaluation_hash")
        if inputs.evaluation.get(MERGED_MODEL) is None:
            missing.append(f"evaluation of {MERGED_MODEL}")
    if missing:
        raise TrackingError(
            "a model card needs values that are not known",
            where=inputs.project or "a project without a name",
            expected=", ".join(missing),
            next_step="give them in the project file, or build the artifact they come from",
        )


def _eval_results(inputs: ModelCardInputs) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    if inputs.evaluation is None:
        return []
    results = []
    for row in inputs.evaluation.rows:
        if row.system != MERGED_MODEL:
            continue
        name = "all sources" if row.source == ALL else plain(row.source, 64)
        for metric in METRICS:
            interval = row.metric(metric)
            if interval is not None and math.isfinite(interval.value):
                results.append(
                    EvalResult(
                        task_type="text-classification",
                        task_name=f"{inputs.project} test rows",
                        dataset_type=plain(row.source, 64),
                        dataset_name=name,
                        dataset_split="test",
                        dataset_revision=inputs.evaluation_hash,
                        metric_type=_TYPES[metric],
                        metric_name=_NAMES[metric],
                        metric_value=interval.value,
                    )
                )
    return results


def _body(inputs: ModelCardInputs) -> str:
    sections = [
        f"# {as_markdown(inputs.project)}",
        as_markdown(inputs.description, 2000),
        f"Classes (version {inputs.taxonomy_version}): "
        + ", ".join(as_markdown(name) for name in inputs.classes)
        + ".",
        _use(),
        _making(inputs),
        _evaluation(inputs),
        _functions(inputs.functions),
        _limits(inputs.limits),
        _identity(inputs),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _use() -> str:
    return (
        "## Use\n\n```python\n"
        "from transformers import pipeline\n\n"
        'classify = pipeline("text-classification", model="path/of/this/folder")\n'
        'classify("The service was good.")\n```'
    )


def _making(inputs: ModelCardInputs) -> str:
    rows = [
        [
            as_markdown(expert.name),
            ", ".join(as_markdown(source) for source in expert.sources),
            f"{expert.weight:g}",
            f"`{expert.content_hash[:12]}`",
        ]
        for expert in inputs.experts
    ]
    trained = _TRAINED.get(inputs.training_method, "Each expert was trained")
    return (
        "## How it was made\n\n"
        f"{trained} on weak labels and merged into "
        f"{as_markdown(inputs.base_model)} ({as_markdown(inputs.merge_method)} merge). No text "
        "was labeled by hand for training.\n\n"
        + _table(["expert", "sources", "weight", "content"], rows)
    )


def _evaluation(inputs: ModelCardInputs) -> str:
    if inputs.evaluation is None:
        return "## Evaluation\n\nNot evaluated yet."
    return (
        "## Evaluation\n\nOn gold test rows that neither training nor any choice has seen; "
        "beside it what it is compared with, on the same rows.\n\n"
        + inputs.evaluation.to_markdown()
    )


def _functions(functions: Sequence[CardFunction]) -> str:
    if not functions:
        return ""
    rows = []
    for function in functions:
        accuracy = "-" if function.accuracy is None else f"{function.accuracy:.2f}"
        if function.low is not None and function.high is not None:
            accuracy += f" ({function.low:.2f}-{function.high:.2f})"
        rows.append([as_markdown(function.name), f"{function.coverage:.1%}", accuracy])
    head = ["labeling function", "coverage", "accuracy on dev rows"]
    return f"## Labels\n\n{_table(head, rows)}"


def _limits(limits: Sequence[str]) -> str:
    own = (
        "It repeats the mistakes of its labeling functions where no gold row shows them.",
        "The numbers above hold for texts like those of the sources named; for others nothing "
        "was measured.",
    )
    lines = [f"- {as_markdown(line, 500)}" for line in (*limits, *own)]
    return "## Limits\n\n" + "\n".join(lines)


def _identity(inputs: ModelCardInputs) -> str:
    rows: list[list[str]] = [
        ["recipe", f"`{inputs.recipe_hash}`"],
        ["base model", f"`{as_code(inputs.base_model_hash)}`"],
        ["code", f"`{as_code(inputs.git_commit)}`"],
        ["made", as_markdown(inputs.created_at)],
    ]
    if inputs.evaluation_hash:
        rows.append(["evaluation", f"`{as_code(inputs.evaluation_hash)}`"])
    for data in inputs.inputs:
        count = "" if data.rows is None else f", {data.rows:,} rows"
        rows.append([as_markdown(data.name), f"`{as_code(data.content_hash)}`{count}"])
    for title, address in sorted(inputs.links.items()):
        url = safe_url(address)
        if url is not None:
            # The allow-list leaves no bracket, quote or space that could end the link.
            rows.append([as_markdown(title), f"<{url}>" if ")" in url else f"[open]({url})"])
    return "## Where it comes from\n\n" + _table(["what", "version"], rows)


def as_code(value: Any) -> str:
    """Return a text that stays within a code span of a table cell."""
    return re.sub(r"[`|\\<>]", "", plain(value, 128))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)
