"""What a change of the classes leaves as it is: old days are carried over instead of built again.

A day of raw depends on the classes only by the gold labels that it refuses: where it refused
none, and every class of before is still known, its rows are what they were. (Votes: see
`carried_votes`.)

The outcome is that of building again (the recipe is the same), without reading a source or
running a function.
"""

from __future__ import annotations

import pyarrow as pa

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.lineage import ArtifactVersion, Recipe
from fm_platform.lineage.recorded import refuses_gold
from fm_platform.lineage.settings import can_be_carried
from fm_platform.stages import tables
from fm_platform.workspace import Workspace

RAW_TABLES = ("raw", "gold", "quarantine")


def carried_raw(ws: Workspace, recipe: Recipe) -> dict[str, pa.Table] | None:
    """Return the tables of a day as they are in use; None where its sources must be read."""
    before = unchanged_but_for_classes(ws, recipe)
    if before is None:
        return None
    if refuses_gold(before.metrics):  # some of these labels may be classes by now
        return None
    try:
        return {name: tables.read(ws, before, name) for name in RAW_TABLES}
    except (CorruptArtifactError, MissingArtifactError):  # it is built anew, from its sources
        return None


def unchanged_but_for_classes(ws: Workspace, recipe: Recipe) -> ArtifactVersion | None:
    """Return the version in use, where only the classes differ from what is wanted."""
    found = ws.ledger.latest(recipe.project, recipe.kind, recipe.name, recipe.partition)
    if found is None or not can_be_carried(found, found.config, recipe):
        return None
    return found
