"""The rows that are worth looking at: most disputed, and groups of those that nothing votes on.

Days noted a bounded number of them when they were counted; only those of the newest days are read
here. Rows of the test split are never shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.labeling.clusters import clusters_of
from fm_platform.labeling.counts import DayCounts, Noted
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter
from fm_platform.stages.embeddings import Embeddings
from fm_platform.workspace import Workspace

DAYS = 28
MOST_DISPUTED = 20
SAMPLE = 512
_EXAMPLES = 3
_LEAST = 20
Found = list[tuple[str, Noted]]


def rows_to_look_at(
    ws: Workspace,
    project: LoadedProject,
    days: Sequence[tuple[str, DayCounts]],
    source: str | None,
    run: RunContext | None,
    log: Reporter,
) -> dict[str, Any]:
    """Return `disputed` rows and `uncovered` groups of rows, with their texts.

    Args:
        ws: Where the texts are.
        project: Whose rows.
        days: (day, counts), oldest first.
        source: Only rows of this source.
        run: Who asks. None: embeddings are only read where they are recorded.
        log: Told of embeddings that are made.
    """
    newest = days[-DAYS:]
    disputed = _noted(newest, "disputed", source)
    disputed.sort(key=lambda item: (-item[1].score, item[0], item[1].row_id))
    disputed = disputed[:MOST_DISPUTED]
    bare = _noted(newest, "bare", source)
    fewest = 0 if sum(row.score == 0 for _, row in bare) >= _LEAST else 1
    bare = sorted(
        (item for item in bare if item[1].score <= fewest), key=lambda item: item[1].row_id
    )[:SAMPLE]
    texts = _texts(ws, project.spec.name, [*disputed, *bare])
    return {
        "disputed": [_told(day, row, texts) for day, row in disputed],
        "uncovered": _clusters(ws, project, bare, texts, run, log, disputed),
        "uncovered_votes": fewest,
        "uncovered_rows": len(bare),
    }


def _noted(days: Sequence[tuple[str, DayCounts]], part: str, source: str | None) -> Found:
    return [
        (day, row)
        for day, counts in days
        for row in getattr(counts, part)
        if source in (None, row.source)
    ]


def _texts(ws: Workspace, project: str, rows: Found) -> dict[str, str]:
    """Return row id -> text; only days that hold one of the rows are read."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for day, row in rows:
        wanted[day].append(row.row_id)
    found: dict[str, str] = {}
    for day, ids in sorted(wanted.items()):
        raw = ws.ledger.latest(project, "raw", "raw", day)
        if raw is None:
            continue
        table = tables.read(ws, raw, "raw", ["row_id", "text"])
        table = table.filter(pc.is_in(table["row_id"], value_set=pa.array(ids)))
        found |= dict(zip(table["row_id"].to_pylist(), table["text"].to_pylist(), strict=True))
    return found


def _told(day: str, row: Noted, texts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "row_id": row.row_id, "day": day, "source": row.source, "text": texts.get(row.row_id),
        "score": row.score, "votes": list(row.said),
    }  # fmt: skip


def _clusters(
    ws: Workspace,
    project: LoadedProject,
    rows: Found,
    texts: Mapping[str, str],
    run: RunContext | None,
    log: Reporter,
    others: Found,
) -> list[dict[str, Any]]:
    rows = [(day, row) for day, row in rows if texts.get(row.row_id)]
    vectors = _vectors(ws, project, rows, texts, run, log)
    if vectors is None:
        return []
    listed = [texts[row.row_id] for _, row in rows]
    beside = [texts[row.row_id] for _, row in others if texts.get(row.row_id)]
    found = []
    for cluster in clusters_of(vectors, listed, project.spec.training.seed, beside):
        members = [rows[i] for i in cluster.members]
        found.append(
            {
                "terms": list(cluster.terms),
                "rows": len(members),
                "sources": sorted({row.source for _, row in members}),
                "examples": [_told(day, row, texts) for day, row in members[:_EXAMPLES]],
            }
        )
    return found


def _vectors(
    ws: Workspace,
    project: LoadedProject,
    rows: Found,
    texts: Mapping[str, str],
    run: RunContext | None,
    log: Reporter,
) -> npt.NDArray[np.float32] | None:
    """Return float32[n, d]: recorded embeddings where there are, otherwise of these rows alone."""
    known: dict[str, npt.NDArray[np.float32]] = {}
    for day in sorted({day for day, _ in rows}):
        version = ws.ledger.latest(project.spec.name, "embeddings", "embeddings", day)
        if version is None:
            continue
        table = ws.columns.get(str(version.location["column"]))
        ids = pa.array([row.row_id for where, row in rows if where == day])
        table = table.filter(pc.is_in(table["row_id"], value_set=ids))
        matrix = tables.matrix(table["embedding"])
        known |= dict(zip(table["row_id"].to_pylist(), matrix, strict=True))
    missing = [row.row_id for _, row in rows if row.row_id not in known]
    if missing and run is None:
        return None
    if missing:
        from fm_platform.training.embed import embed

        embeddings = Embeddings(ws, project, run or RunContext(), log)
        log.info(f"embedding {len(missing)} rows without a vote")
        limit = project.spec.training.max_tokens
        made = embed(embeddings.base, [texts[row] for row in missing], max_tokens=limit)
        known |= dict(zip(missing, made, strict=True))
    return np.stack([known[row.row_id] for _, row in rows]) if rows else None
