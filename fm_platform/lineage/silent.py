"""Experts that have nothing to learn from: no row of their sources lies in the training window."""

from __future__ import annotations

from collections.abc import Sequence

from fm_platform.lineage.records import Readable
from fm_platform.spec.models import ProjectSpec


def with_rows(spec: ProjectSpec, days: Sequence[Readable]) -> ProjectSpec:
    """Return the project without the experts that no day has a row for.

    The others are merged and evaluated without them. Where no expert has any, or no day is built
    yet, it is the project as declared: its training then says so.
    """
    held = {part for day in days for part in day.parts}
    kept = tuple(expert for expert in spec.experts if held & set(expert.sources))
    if len(kept) in (0, len(spec.experts)):
        return spec
    weights, names = spec.merge.weights, {expert.name for expert in kept}
    if weights is not None:
        weights = {name: weight for name, weight in weights.items() if name in names}
    merge = spec.merge.model_copy(update={"weights": weights})
    return spec.model_copy(update={"experts": kept, "merge": merge})
