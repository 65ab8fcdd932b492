"""Which settings of the spec matter to each kind of artifact: the `config` of its recipe.

A change of a setting that is not here rebuilds nothing of that kind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fm_platform.lineage.records import Readable
from fm_platform.spec.models import ProjectSpec, Slice
from fm_platform.spec.part import Part

Config = dict[str, Any]


def raw(spec: ProjectSpec, sources: Collection[str]) -> Config:
    """Return what matters to one day of raw rows of these sources."""
    return {
        "contract": spec.contract.model_dump(mode="json"),
        "split": spec.split.model_dump(mode="json"),
        "gold": {
            "column": spec.gold.column,
            "values": spec.gold.values,
            "annotator": spec.gold.annotator,
            "guideline_version": spec.gold.guideline_version,
        },
        "classes": classes(spec),
        **former(spec),
        "sources": {
            source.name: source.model_dump(mode="json", include={"connector", "options"})
            for source in spec.sources
            if source.name in sources
        },
    }


def embeddings(spec: ProjectSpec) -> Config:
    """Return what matters to frozen embeddings."""
    return {"max_tokens": spec.training.max_tokens}


def activations(spec: ProjectSpec, frozen_layers: int | None = None) -> Config:
    """Return what matters to the states of frozen layers."""
    training = spec.training
    return {
        "frozen_layers": training.frozen_layers if frozen_layers is None else frozen_layers,
        "max_tokens": training.max_tokens,
        "threads": training.threads,
    }


def replay(spec: ProjectSpec) -> Config:
    """Return what matters to the rows that are kept of the past."""
    rhythm = spec.training.continuing
    rows = rhythm.reservoir_rows if rhythm is not None else 0
    return {"reservoir_rows": rows, "seed": spec.training.seed}


def votes(spec: ProjectSpec, function: str) -> Config:
    """Return what matters to the votes of a labeling function with this fingerprint."""
    found: Config = {"function": function, "classes": classes(spec), **former(spec)}
    default = type(spec.labeling).model_fields["timeout_s"].default
    if spec.labeling.timeout_s != default:  # the usual patience is part of no recipe
        found["timeout_s"] = spec.labeling.timeout_s
    return found


def label_model(spec: ProjectSpec, functions: Sequence[str]) -> Config:
    """Return what matters to the label model over these functions."""
    settings = spec.labeling.label_model
    unused = {"window_days"}
    if "stacked" not in settings.candidates:
        unused.add("inverse_regularization")
    return {
        "label_model": settings.model_dump(mode="json", exclude=unused),
        "classes": classes(spec),
        "functions": list(functions),
    }


def weak_labels(spec: ProjectSpec, functions: Sequence[str]) -> Config:
    """Return what matters to weak labels; the order of the functions is that of a row's votes."""
    return {
        "classes": classes(spec),
        **former(spec),
        "minimum_coverage": spec.labeling.minimum_coverage,
        "max_failed_share": spec.labeling.max_failed_share,
        "functions": list(functions),
    }


def cleaned(spec: ProjectSpec) -> Config:
    """Return what matters to cleaned rows."""
    return {
        "rules": [rule.model_dump(mode="json") for rule in spec.cleaning],
        "classes": classes(spec),
        **former(spec),
    }


def trained(spec: ProjectSpec) -> Config:
    """Return what matters to a trained model."""
    return {"training": training(spec), "classes": classes(spec)}


def merged_model(spec: ProjectSpec) -> Config:
    """Return what matters to a merged model; its card names description and settings."""
    return {
        "merge": spec.merge.model_dump(mode="json", exclude=_merge_without_effect(spec)),
        "classes": classes(spec),
        "training": training(spec),
        "description": spec.description,
        "base_model": spec.base_model.location,
    }


def _merge_without_effect(spec: ProjectSpec) -> set[str]:
    """Return the settings that the declared merge does not read."""
    merge = spec.merge
    similar = merge.search == "similar" and merge.weights is None
    unused = {
        "density": not {"ties", "dare", "dare_ties"} & set(merge.candidates),
        "rank": "svd" not in merge.candidates,
        "methods": merge.method != "auto",
        "search": merge.search == "simplex" or merge.weights is not None,
        "max_loss": merge.max_loss is None,
        "evidence": merge.weights is not None or similar,
        "scales": merge.weights is not None or merge.evidence == "weak" or similar,
        "towards": not similar,
        "similarity": not similar,
    }
    return {name for name, has_no_effect in unused.items() if has_no_effect}


def evaluation(spec: ProjectSpec) -> Config:
    """Return what matters to an evaluation and its gate; what is not declared is in no recipe."""
    return {
        "evaluation": _declared(spec.evaluation, "router", "behaviour", "leaks"),
        "gate": _gate(spec),
        "classes": classes(spec),
        **former(spec),
        "max_tokens": spec.training.max_tokens,
    }


def _gate(spec: ProjectSpec) -> Config:
    """Return the gate as declared, with the slices that a constraint compares."""
    gate = spec.gate.model_copy(update={"canary": None})  # of what becomes of a model that passed
    found = _declared(gate, "places", "together", "constraints", "canary")
    if "constraints" in found:
        found["constraints"] = _declared(gate.constraints, "latency", "confidence")
    slices = [one.model_dump(mode="json") for one in compared_slices(spec)]
    return {**found, **({"slices": slices} if slices else {})}


def compared_slices(spec: ProjectSpec) -> list[Slice]:
    """Return the slices between which a constraint bounds the gap, in their declared order."""
    gaps = spec.gate.constraints.largest_gap
    named = {name for gap in gaps if not isinstance(gap.between, str) for name in gap.between}
    return [one for one in spec.slices if one.name in named]


def _declared(part: Part, *optional: str) -> Config:
    """Return a part without those of the optional settings that say what is usual."""
    usual = {
        name for name in optional if getattr(part, name) == type(part).model_fields[name].default
    }
    return part.model_dump(mode="json", exclude=usual)


def classes(spec: ProjectSpec) -> list[str]:
    """Return the classes in their order."""
    return list(spec.taxonomy.classes)


def former(spec: ProjectSpec) -> Config:
    """Return what former classes mean today; nothing for a project whose classes never changed."""
    if not spec.taxonomy.former:
        return {}
    return {"former": {name: list(told) for name, told in spec.taxonomy.former.items()}}


def answers(spec: ProjectSpec, raw: Iterable[Readable], parts: Iterable[Readable]) -> list[object]:
    """Return what matters to answers of people as gold rows; nothing where they are not used.

    Args:
        spec: The project.
        raw: The days that are looked through.
        parts: The answers.
    """
    if spec.annotation.use != "gold":
        return []
    return [
        [day.content_hash for day in raw],
        sorted([part.name, part.partition or "", part.content_hash] for part in parts),
        spec.annotation.model_dump(mode="json", exclude={"guideline": {"text"}}),
        spec.taxonomy.model_dump(mode="json", include={"version", "changes"}),
    ]


def training(spec: ProjectSpec) -> Config:
    """Return the training settings that alter a model: which days count is in the inputs."""
    return spec.training.model_dump(
        mode="json",
        exclude={"window_days", "checkpoint_every_steps", "auto"} | _usual_training(spec),
    )


def _usual_training(spec: ProjectSpec) -> set[str]:
    """Return the training settings that are part of no recipe while nobody declares them."""
    fields = type(spec.training).model_fields
    optional = (
        "method", "frozen_layers", "continuing", "target_power", "loss", "weights", "subset",
        "narrow_gap",
    )  # fmt: skip
    usual = {name for name in optional if getattr(spec.training, name) == fields[name].default}
    if spec.training.loss == "soft":
        usual.add("loss_q")
    if "subset" in usual:
        usual.add("subset_by")
    if spec.training.method != "full":
        usual.add("full_learning_rate")
    if spec.training.method != "fish":
        usual |= {"mask_share", "mask_rows"}
    return usual
