"""Recipe of the hand-made set of a project: all that labeling, cleaning, training and merging read.

So it runs whenever a function, a class, a setting, the base model or the code of one of these
changed, and at no other time. What is measured and decided afterwards is no part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fm_platform.lineage import configs
from fm_platform.lineage.fingerprints import (
    MODEL_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)
from fm_platform.lineage.machinery import EXEMPLAR_PACKAGES, RULE_CODE
from fm_platform.lineage.records import Input, Recipe, Slot
from fm_platform.lineage.wanting import Function, Probe, Wanted
from fm_platform.spec.models import ProjectSpec

KIND = "unit"
SLOT: Slot = (KIND, KIND, None)
LOOKING_AROUND = ("label_noise", "metadata_repair", "near_duplicates")
"""Rules that judge a row by many others, of other days too: a few rows say nothing of them."""
_CODE = ("fm_platform.stages.unit.chain", "fm_platform.stages.unit.verdict")
_PACKAGES = (*MODEL_PACKAGES, *EXEMPLAR_PACKAGES, "py3langid")


def unit_recipe(
    spec: ProjectSpec, rows: str, functions: Iterable[Function], base: str
) -> Recipe | None:
    """Return the recipe of what comes of the set; None for a project without one.

    Args:
        spec: The project.
        rows: Hash of the file.
        functions: The labeling functions.
        base: Content hash of the base model.
    """
    if spec.unit is None or spec.task == "causal":
        return None
    inputs = (
        Input("unit_rows", spec.unit.file, None, rows),
        *(Input("function", f.name, None, f.fingerprint) for f in functions),
        Input("base_model", "base_model", None, base),
    )
    config = _config(spec)
    code = {module for rule in config["rules"] for module in RULE_CODE.get(rule["rule"], ())}
    return Recipe(
        spec.name, KIND, KIND, None, inputs, code_fingerprint(*_CODE, *sorted(code)), config,
        environment_fingerprint(_PACKAGES, True), spec.training.seed,
    )  # fmt: skip


def _config(spec: ProjectSpec) -> dict[str, Any]:
    training = configs.training(spec)
    if spec.training.method == "auto":
        training["methods"] = list(spec.training.auto.methods)
    columns: Mapping[str, Any] = spec.contract.model_dump(mode="json")["columns"]
    return {
        "unit": spec.unit.model_dump(mode="json", exclude={"file"}) if spec.unit else {},
        "classes": configs.classes(spec),
        **configs.former(spec),
        "columns": dict(columns),
        "sources": sorted(source.name for source in spec.sources),
        "experts": {expert.name: sorted(expert.sources) for expert in spec.experts},
        "timeout_s": spec.labeling.timeout_s,
        "label_model": spec.labeling.label_model.model_dump(mode="json", exclude={"window_days"}),
        "rules": [rule.model_dump(mode="json") for rule in spec.cleaning
                  if rule.rule not in LOOKING_AROUND],
        "training": training,
        "merge": spec.merge.model_dump(mode="json"),
    }  # fmt: skip


def unit_of(spec: ProjectSpec, probe: Probe) -> Wanted | None:
    """Return the set that a project wants now; None where it declares none."""
    if spec.unit is None or spec.task == "causal":
        return None
    recipe = unit_recipe(spec, probe.unit(), probe.functions(), probe.base())
    return Wanted(SLOT, tuple, recipe)
