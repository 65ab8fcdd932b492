"""The gold rows that labeling may read: those of the sources, and what people agreed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pyarrow as pa

from fm_platform.lineage import ArtifactVersion, recipes
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages.window import dev_gold
from fm_platform.workspace import Workspace


def gold_of(ws: Workspace, spec: ProjectSpec, day: str) -> pa.Table:
    """Return the dev gold rows that labeling may read on `day`; see `dev_gold`.

    With `annotation.use: gold` people's answers fill what is left of the budget of each source.

    Returns:
        Columns row_id, day, source, label; at most budget x sources rows.
    """
    gold = dev_gold(ws, spec, day)
    return _people().filled(ws, spec, day, gold) if spec.annotation.use == "gold" else gold


def gold_key(ws: Workspace, spec: ProjectSpec, raw: Sequence[ArtifactVersion]) -> str:
    """Return the key under which the ledger keeps the hash of the gold rows of a window."""
    if spec.annotation.use != "gold":
        return recipes.gold_key(spec, raw)
    return recipes.gold_key(spec, raw, ws.ledger.all_latest(spec.name, "annotations"))


def gold_budget(ws: Workspace, spec: ProjectSpec, day: str, gold: pa.Table) -> list[dict[str, Any]]:
    """Return by source how many gold rows are read, how many by people's answers, the budget."""
    counts = Counter(gold["source"].to_pylist())
    given = counts
    if spec.annotation.use == "gold":
        given = Counter(dev_gold(ws, spec, day)["source"].to_pylist())
    return [
        {
            "source": source.name,
            "gold rows": counts[source.name],
            "of answers": counts[source.name] - given[source.name],
            "budget": spec.gold.dev_rows_per_source,
        }
        for source in spec.sources
    ]


def _people() -> Any:
    # by name: its code counts in the key of gold rows that it fills, and nowhere else
    return import_module("fm_platform.stages.gold_of_people")
