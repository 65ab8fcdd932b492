"""Rows of a day whose source is not what it was: those that were kept are taken instead."""

from __future__ import annotations

from fm_platform.errors import SourceError, StoreError
from fm_platform.lineage import ArtifactVersion, Produced, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import raw_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.carry import RAW_TABLES
from fm_platform.stages.probe import source_ids, sources_read
from fm_platform.workspace import Workspace


def lost_source(ws: Workspace, project: LoadedProject, raw: ArtifactVersion) -> str:
    """Return why a day cannot be brought in as it was; empty where it can.

    Args:
        ws: Where connectors keep what they fetch.
        project: As it was declared when the day was brought in.
        raw: The recorded day, with its inputs.
    """
    recorded = sources_read(raw)
    try:
        found = source_ids(ws, project, str(raw.partition))
    except SourceError as error:
        return error.message
    changed = sorted(n for n in {*recorded, *found} if recorded.get(n) != found.get(n))
    return f"source {', '.join(changed)} changed since" if changed else ""


def take_kept(
    ws: Workspace, again: Workspace, project: LoadedProject, raw: ArtifactVersion, run: RunContext
) -> str:
    """Write the kept tables of a day to another workspace; each is verified as it is read.

    Returns:
        Why that cannot be done; empty where it was.
    """
    day = str(raw.partition)
    recipe = raw_recipe(project.spec, day, sources_read(raw))
    try:
        found = {name: tables.read(ws, raw, name) for name in RAW_TABLES}
    except StoreError as error:
        return error.message

    def compute(lease: Lease) -> Produced:
        refused = {"column": "part", "value": f"raw-{day}"}
        refs = {
            name: tables.write(
                again, recipe, lease, name, table, **(refused if name == "quarantine" else {})
            )
            for name, table in found.items()
        }
        return Produced(
            refs["raw"].content_hash, tables.location(refs), raw.rows, raw.bytes or 0,
            parts=raw.parts, metrics=raw.metrics,
        )  # fmt: skip

    tables.build(again, recipe, compute, run)
    return ""
