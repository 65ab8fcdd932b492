"""What a slot would be made with, where its inputs are not known yet: settings, code, packages.

So a plan can tell what will be built for certain from what only may be: a version whose settings
changed cannot come out as it is, whatever becomes of its inputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fm_platform.lineage import configs, recipes
from fm_platform.lineage.records import ArtifactVersion, Head, Recipe, Slot, config_json
from fm_platform.lineage.wanted import Function
from fm_platform.spec.models import ProjectSpec

CARRIED = ("raw", "votes")
"""Kinds that are carried over where nothing but the classes changed."""
_SEEDED = ("start", "adapter", "merged_model")


def settings_of(spec: ProjectSpec, slot: Slot, functions: Sequence[Function]) -> Recipe | None:
    """Return the recipe of a slot without its inputs; None where only its inputs decide.

    Args:
        spec: What is declared.
        slot: Which artifact.
        functions: The labeling functions, in order.
    """
    kind, name, partition = slot
    config = _config(spec, kind, name, functions)
    if config is None:
        return None
    learns = kind == "votes" and any(f.name == name and f.needs for f in functions)
    seed = spec.training.seed if kind in _SEEDED or learns else None
    works_as = "exemplar_votes" if learns else kind
    return Recipe(
        spec.name, kind, name, partition, (), recipes.code_version(works_as, config), config,
        recipes.environment_of(_packages(spec, works_as), config),
        spec.evaluation.seed if kind == "evaluation" else seed,
    )  # fmt: skip


def _packages(spec: ProjectSpec, kind: str) -> str:
    """Return the key of the packages that matter, as the recipe of the kind chooses it."""
    return "routed_evaluation" if kind == "evaluation" and spec.evaluation.router else kind


def _config(
    spec: ProjectSpec, kind: str, name: str, functions: Sequence[Function]
) -> configs.Config | None:
    names = [function.name for function in functions]
    if kind == "votes":
        fingerprints = {function.name: function.fingerprint for function in functions}
        return configs.votes(spec, fingerprints[name])
    if kind == "label_model":
        return configs.label_model(spec, names)
    if kind == "weak_labels":
        return configs.weak_labels(spec, names)
    of_spec = {
        "embeddings": configs.embeddings, "cleaned": configs.cleaned,
        "activations": configs.activations, "replay": configs.replay, "start": configs.trained,
        "adapter": configs.trained, "merged_model": configs.merged_model,
        "evaluation": configs.evaluation,
    }  # fmt: skip
    return of_spec[kind](spec) if kind in of_spec else None


def same_settings(head: Head, config: Mapping[str, Any], settings: Recipe) -> bool:
    """Whether a version was made with these settings, code, packages and seed.

    Args:
        head: The version.
        config: Its recorded configuration.
        settings: Of `settings_of`.
    """
    made_with = (head.code, head.environment, head.seed)
    wanted = (settings.code, settings.environment, settings.seed)
    return made_with == wanted and dict(config) == json.loads(config_json(settings.config))


def can_be_carried(head: Head | ArtifactVersion, config: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a version can be carried over to the classes of today.

    That is: nothing else that it was made from changed, and all of its classes are still known.
    What learns from labels learns other things with other classes.
    """
    return (
        head.kind in CARRIED
        and recipe.seed is None
        and (head.code, head.environment) == (recipe.code, recipe.environment)
        and head.inputs_hash == recipe.inputs_hash
        and only_classes_differ(config, recipe.config)
    )


def only_classes_differ(before_config: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether two configurations are the same but for the classes, none of which is forgotten."""
    own = ("classes", "former")

    def rest(of: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in of.items() if key not in own}

    known = {*config["classes"], *config.get("former", {})}
    was = {*before_config["classes"], *before_config.get("former", {})}
    return rest(before_config) == rest(config) and was <= known
