"""`raw`: one day of rows as they came, checked against the contract, with ids and split.

Writes three tables: `raw`, `gold` (human labels, kept apart from the text) and `quarantine`
(everything refused, with the reason).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from fm_platform.cleaning.contracts import check_batch
from fm_platform.lineage import Produced, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import raw_recipe
from fm_platform.sources.connectors import Connector, connect, origin_of
from fm_platform.sources.ingest import Ingest
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.carry import RAW_TABLES, carried_raw
from fm_platform.stages.common import CheckResult, Reporter, StageResult, stage_result, summary
from fm_platform.workspace import Workspace


def connectors(ws: Workspace, project: LoadedProject, day: str) -> dict[str, Connector]:
    """Return source name -> connector, for the sources that have begun by `day`."""
    spec = project.spec
    return {
        source.name: connect(source, spec, project.directory, ws.home.cache)
        for source in spec.sources
        if (source.starts or spec.calendar.start).isoformat() <= day
    }


def build_raw(
    ws: Workspace, project: LoadedProject, day: str, run: RunContext, log: Reporter
) -> StageResult:
    """Bring in one day.

    Raises:
        SourceError: If a source cannot be read.
        ContractError: If a declared column is missing.
    """
    spec = project.spec
    sources = connectors(ws, project, day)
    ids = {name: connector.content_id(day) for name, connector in sources.items()}
    recipe = raw_recipe(spec, day, ids)
    for name, connector in sources.items():
        ws.ledger.describe(ids[name], "source", partial(origin_of, connector, day))

    def compute(lease: Lease) -> Produced:
        found = carried_raw(ws, recipe) or _ingest(spec, day, sources, log)
        raw, labels, quarantine = (found[name] for name in RAW_TABLES)
        refs = {
            "raw": tables.write(ws, recipe, lease, "raw", raw),
            "gold": tables.write(ws, recipe, lease, "gold", labels),
            "quarantine": tables.write(
                ws, recipe, lease, "quarantine", quarantine, column="part", value=f"raw-{day}"
            ),
        }
        return Produced(
            content_hash=refs["raw"].content_hash,
            location=tables.location(refs),
            rows=raw.num_rows,
            bytes=sum(file.bytes for ref in refs.values() for file in ref.files),
            parts={"gold": refs["gold"].content_hash, **tables.parts_by(raw, "source")},
            metrics=_summary(project, day, raw, labels, quarantine),
        )

    return stage_result(tables.build(ws, recipe, compute, run))


def _ingest(
    spec: ProjectSpec, day: str, sources: Mapping[str, Connector], log: Reporter
) -> dict[str, pa.Table]:
    """Read the sources of a day, every row sorted into one of the tables."""
    ingest, schema = Ingest(spec, day, check_batch), tables.raw_schema(spec)
    rows: list[pa.Table] = []
    gold: list[pa.Table] = []
    refused: list[pa.Table] = []
    for done, (name, connector) in enumerate(sorted(sources.items())):
        log.progress(f"raw {day}", done, len(sources), name)
        for part in ingest.source(name, connector.read(day)):
            rows.append(pa.Table.from_pylist(part.rows, schema))
            gold.append(pa.Table.from_pylist(part.gold, tables.GOLD))
            refused.append(pa.Table.from_pylist(part.quarantine, tables.QUARANTINE))
    return {
        "raw": tables.combine(rows, schema).sort_by("row_id"),
        "gold": tables.combine(gold, tables.GOLD).sort_by("row_id"),
        "quarantine": tables.combine(refused, tables.QUARANTINE),
    }


def _summary(
    project: LoadedProject, day: str, raw: pa.Table, gold: pa.Table, refused: pa.Table
) -> dict[str, Any]:
    came = raw.num_rows + refused.num_rows
    share = refused.num_rows / came if came else 0.0
    limit = project.spec.contract.max_quarantined_share
    rules = refused.group_by(["source", "rule", "column"]).aggregate([([], "count_all")])
    by_rule = [
        {"source": r["source"], "rule": r["rule"], "column": r["column"], "rows": r["count_all"]}
        for r in rules.sort_by([("source", "ascending"), ("rule", "ascending")]).to_pylist()
    ]
    return summary(
        {
            "rows": raw.num_rows,
            "gold_rows": gold.num_rows,
            "quarantined_rows": refused.num_rows,
            "quarantined_share": share,
        },
        {
            "rows by source": tables.count_by(raw, "source"),
            "rows by split": tables.count_by(raw, "split"),
            "quarantined by rule": by_rule,
        },
        (
            CheckResult(
                "non_empty",
                raw.num_rows > 0,
                f"{raw.num_rows} rows came on {day}."
                if raw.num_rows
                else f"no row came on {day}: {came} were read, {refused.num_rows} refused.",
                {"rows": raw.num_rows},
            ),
            CheckResult(
                "contract",
                share <= limit,
                f"{refused.num_rows} of {came} rows break the contract ({share:.1%}, at most "
                f"{limit:.0%}); they are in the quarantine table with the reason.",
                {"quarantined_share": share},
            ),
        ),
    )
