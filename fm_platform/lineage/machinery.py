"""What computes each kind of artifact: its code and the packages that can alter its content.

Code is named as text: nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fm_platform.lineage.fingerprints import (
    MODEL_PACKAGES,
    TABLE_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)

EXEMPLAR_PACKAGES = (*TABLE_PACKAGES, "scikit-learn", "scipy")

# What computes the content of each kind of artifact.
CODE: dict[str, tuple[str, ...]] = {
    "raw": (
        "fm_platform.sources.ingest",
        "fm_platform.cleaning.contracts",
        "fm_platform.stages.raw",
    ),
    "embeddings": ("fm_platform.training.embed",),
    "votes": ("fm_platform.labeling.apply",),
    "exemplar_votes": ("fm_platform.labeling.apply", "fm_platform.stages.weak_labels"),
    "gold": ("fm_platform.stages.window",),
    "people": ("fm_platform.stages.people",),
    "gold_of_people": ("fm_platform.stages.gold_of_people",),
    "seen": ("fm_platform.stages.lookups",),
    "shingles": ("fm_platform.cleaning.shingles",),
    "label_model": ("fm_platform.labeling.label_model", "fm_platform.stages.label_model"),
    "weak_labels": ("fm_platform.labeling.label_model", "fm_platform.stages.weak_labels"),
    "cleaned": ("fm_platform.cleaning.clean", "fm_platform.stages.cleaned"),
    "activations": ("fm_platform.training.prefix",),
    "replay": ("fm_platform.training.reservoir",),
    "choice": ("fm_platform.training.auto", "fm_platform.stages.choice"),
    "base_choice": ("fm_platform.training.choose_base", "fm_platform.stages.base_choice"),
    "start": ("fm_platform.training.start", "fm_platform.stages.models"),
    "adapter": ("fm_platform.training.train", "fm_platform.stages.models"),
    "merged_model": (
        "fm_platform.merging.merge",
        "fm_platform.stages.merged_model",
        "fm_platform.tracking.model_card",  # its text is a file of the model
    ),
    "evaluation": ("fm_platform.stages.evaluation",),
    "routed_evaluation": ("fm_platform.stages.evaluation",),
    "spec": (),
}


# What computes beside that the rows of a project that declares such a rule.
RULE_CODE: dict[str, tuple[str, ...]] = {
    "label_noise": ("fm_platform.cleaning.noise_rule", "fm_platform.stages.noise"),
    "near_duplicates": ("fm_platform.cleaning.near_rule", "fm_platform.stages.shingles"),
    "pii": ("fm_platform.cleaning.pii",),
    "metadata_repair": ("fm_platform.cleaning.repair_rule", "fm_platform.stages.repairs"),
    "text_quality": ("fm_platform.cleaning.quality_rule",),
}


# What computes beside that the models of a project that declares such a training.
TRAINING_CODE: dict[str, tuple[str, ...]] = {
    "method": ("fm_platform.training.variants", "fm_platform.stages.variants"),
    "continuing": ("fm_platform.training.variants", "fm_platform.stages.continuing"),
    "frozen_layers": ("fm_platform.training.variants", "fm_platform.stages.variants"),
    "loss": ("fm_platform.training.variants", "fm_platform.stages.variants"),
    "weights": ("fm_platform.training.variants", "fm_platform.stages.variants"),
    "subset": ("fm_platform.training.variants", "fm_platform.stages.subset"),
    "narrow_gap": ("fm_platform.training.variants", "fm_platform.stages.variants"),
}


PROPOSING_RULES = ("label_noise", "metadata_repair")
"""Rules that leave unsure changes to people: an accepted one is carried out."""


# The packages that can alter the content of each kind, and whether the machine type can, too.
PACKAGES: dict[str, tuple[tuple[str, ...], bool]] = {
    "raw": (TABLE_PACKAGES, False),
    "embeddings": (MODEL_PACKAGES, True),
    "votes": (TABLE_PACKAGES, False),
    "exemplar_votes": (EXEMPLAR_PACKAGES, True),
    "shingles": (TABLE_PACKAGES, False),
    "label_model": (EXEMPLAR_PACKAGES, True),  # the stacked one is a regression
    "weak_labels": (TABLE_PACKAGES, True),
    "cleaned": ((*TABLE_PACKAGES, "py3langid"), False),
    "cleaned_learning": ((*TABLE_PACKAGES, "py3langid", "scipy"), True),
    "activations": (MODEL_PACKAGES, True),
    "replay": (TABLE_PACKAGES, False),
    "choice": ((*MODEL_PACKAGES, "optuna"), True),
    "base_choice": ((*MODEL_PACKAGES, "scipy"), True),
    "start": (MODEL_PACKAGES, True),
    "adapter": (MODEL_PACKAGES, True),
    "merged_model": (MODEL_PACKAGES, True),
    "evaluation": (MODEL_PACKAGES, True),
    "routed_evaluation": ((*MODEL_PACKAGES, "scikit-learn"), True),
}


def works_as(kind: str, roles: Iterable[str]) -> str:
    """Return the key of `CODE` and `PACKAGES` for an artifact that reads inputs of these roles."""
    read = set(roles)
    if kind == "votes" and read - {"raw", "annotations"}:
        return "exemplar_votes"
    if kind == "choice" and "candidate" in read:
        return "base_choice"
    return "routed_evaluation" if kind == "evaluation" and "router" in read else kind


def code_version(kind: str, config: Mapping[str, Any] | None = None) -> str:
    """Return the code fingerprint of one kind of artifact.

    With the `config` of a recipe that has `rules`, the code of these rules counts as well, and
    that of what its `training` declares beyond the usual.
    """
    known = config or {}
    more = {m for rule in known.get("rules", ()) for m in RULE_CODE.get(str(rule["rule"]), ())}
    if kind in ("start", "adapter"):
        more |= {m for name in known.get("training", ()) for m in TRAINING_CODE.get(name, ())}
    return code_fingerprint(*CODE[kind], *sorted(more))


def environment_of(kind: str, config: Mapping[str, Any] | None = None) -> str:
    """Return the fingerprint of the packages, and machine type, that matter to a kind.

    With the `config` of a recipe that has `rules`, those of rules that learn count as well.
    """
    rules = {str(rule["rule"]) for rule in (config or {}).get("rules", ())}
    learns = kind == "cleaned" and not rules.isdisjoint(PROPOSING_RULES)
    names, machine = PACKAGES["cleaned_learning" if learns else kind]
    return environment_fingerprint(names, machine)
