"""`raw`: one day of rows as they came, checked against the contract, with ids and split.

Writes three tables: `raw`, `gold` (human labels, kept apart from the text) and `quarantine`
(everything refused, with the reason).
"""

from __future__ import annotations

import pyarrow as pa

from fm_platform.cleaning.contracts import check_batch
from fm_platform.lineage import Produced, RunContext, build
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import raw_recipe
from fm_platform.sources import connectors
from fm_platform.sources.ingest import ingest_day
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter, StageResult, stage_result
from fm_platform.workspace import Workspace


def source_ids(ws: Workspace, project: LoadedProject, day: str) -> dict[str, str]:
    """Return source name -> id of what it holds for `day`, for the sources that have begun."""
    return {
        source.name: connectors.connect(source, project.spec, project.directory, ws.home.cache)
        .content_id(day)
        for source in project.spec.sources
        if (source.starts or project.spec.calendar.start).isoformat() <= day
    }  # fmt: skip


def build_raw(
    ws: Workspace, project: LoadedProject, day: str, run: RunContext, log: Reporter
) -> StageResult:
    """Bring in one day.

    Raises:
        SourceError: If a source cannot be read.
        ContractError: If a declared column is missing.
    """
    spec = project.spec
    recipe = raw_recipe(spec, day, source_ids(ws, project, day))

    def compute(lease: Lease) -> Produced:
        rows, gold, refused = [], [], []
        names = [i.name for i in recipe.inputs]
        for done, source in enumerate(s for s in spec.sources if s.name in names):
            log.progress(f"raw {day}", done, len(names), source.name)
            connector = connectors.connect(source, spec, project.directory, ws.home.cache)
            taken = ingest_day(
                spec, source.name, connector.read(day), day, check_batch, tables.raw_schema(spec)
            )
            for part in taken:
                rows.append(part.rows)
                gold.append(part.gold)
                refused.append(part.quarantine)
        return _write(ws, project, day, lease, recipe_tables(rows, gold, refused, spec, day))

    def _write(
        ws: Workspace,
        project: LoadedProject,
        day: str,
        lease: Lease,
        data: dict[str, pa.Table],
    ) -> Produced:
        refs = {
            "raw": tables.write(ws, recipe, lease, "raw", data["raw"]),
            "gold": tables.write(ws, recipe, lease, "gold", data["gold"]),
            "quarantine": tables.write(
                ws, recipe, lease, "quarantine", data["quarantine"],
                column="part", value=f"raw-{day}",
            ),
        }  # fmt: skip
        return Produced(
            content_hash=refs["raw"].content_hash,
            location=tables.location(refs),
            rows=refs["raw"].rows,
            bytes=sum(file.bytes for ref in refs.values() for file in ref.files),
            parts={
                "gold": refs["gold"].content_hash,
                **{f"source:{k}": v for k, v in tables.parts_by(data["raw"], "source").items()},
            },
            metrics=_summary(project, day, data),
        )

    built = build(
        ws.ledger, recipe, verify=ws.verify, compute=compute, run=run, on_damage=ws.set_aside
    )
    return stage_result(built)


def recipe_tables(
    rows: list[pa.Table], gold: list[pa.Table], refused: list[pa.Table], spec: object, day: str
) -> dict[str, pa.Table]:
    """Return the three tables of a day, each sorted by row id."""
    raise NotImplementedError
