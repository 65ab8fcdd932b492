"""Schemas of the tables, and the one way a stage writes and reads them.

`row_id` is 32 hex digits, `day` is `YYYY-MM-DD`. Probabilities follow the order of the
taxonomy's classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.lineage import build as lineage_build
from fm_platform.lineage.build import BuildResult
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.records import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.losses import Cells
from fm_platform.spec.models import ProjectSpec
from fm_platform.store.content import content_hash
from fm_platform.store.files import storage_errors
from fm_platform.store.refs import Commit
from fm_platform.store.tables import TableRef
from fm_platform.workspace import Workspace

ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}

GOLD = pa.schema(
    [
        ("row_id", pa.string()),
        ("day", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("annotator", pa.string()),
        ("guideline_version", pa.string()),
        ("rater_labels", pa.list_(pa.string())),
    ]
)

QUARANTINE = pa.schema(
    [
        ("row_id", pa.string()),
        ("day", pa.string()),
        ("stage", pa.string()),
        ("source", pa.string()),
        ("rule", pa.string()),
        ("reason", pa.string()),
        ("column", pa.string()),
        ("before", pa.string()),
        ("after", pa.string()),
        ("removed", pa.bool_()),
        ("part", pa.string()),
    ]
)

WEAK_LABELS = pa.schema(
    [
        ("row_id", pa.string()),
        ("day", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("text", pa.string()),
        ("text_key", pa.string()),
        ("votes", pa.list_(pa.int8())),
        ("majority", pa.list_(pa.float32())),
        ("probabilities", pa.list_(pa.float32())),
        ("label", pa.string()),
        ("confidence", pa.float32()),
        ("labeled", pa.bool_()),
    ]
)

CLEANED = pa.schema(
    [
        ("row_id", pa.string()),
        ("day", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("text", pa.string()),
        ("label", pa.string()),
        ("probabilities", pa.list_(pa.float32())),
        ("confidence", pa.float32()),
    ]
)

PREDICTIONS = pa.schema(
    [
        ("row_id", pa.string()),
        ("day", pa.string()),
        ("source", pa.string()),
        ("system", pa.string()),
        ("label", pa.string()),
        ("probabilities", pa.list_(pa.float32())),
        ("gold", pa.string()),
        ("part", pa.string()),
    ]
)


_CELLS = ("cells", pa.list_(pa.int8()))
"""Where classes were split: for each class the first that a row's votes do not tell it from;
null where they tell all apart."""


def weak_labels_schema(spec: ProjectSpec) -> pa.Schema:
    """Return the schema of weak labels; with `cells` where labels may stand for several classes."""
    return WEAK_LABELS.append(pa.field(*_CELLS)) if spec.taxonomy.sets else WEAK_LABELS


def cleaned_schema(spec: ProjectSpec) -> pa.Schema:
    """Return the schema of cleaned rows; `cells` as in weak labels, then repaired columns."""
    schema = CLEANED.append(pa.field(*_CELLS)) if spec.taxonomy.sets else CLEANED
    for name in repaired_columns(spec):
        schema = schema.append(pa.field(name, ARROW_TYPES[spec.contract.columns[name].type]))
    return schema


def repaired_columns(spec: ProjectSpec) -> list[str]:
    """Return the metadata columns that cleaning repairs, sorted; cleaned rows keep them."""
    return sorted({name for rule in spec.cleaning for name in getattr(rule, "columns", ())})


def raw_schema(spec: ProjectSpec) -> pa.Schema:
    """Return the schema of raw rows: ids, text, and the declared columns."""
    names = ("row_id", "day", "source", "split", "text", "text_key")
    fixed = [(name, pa.string()) for name in names]
    declared = [
        (name, ARROW_TYPES[column.type])
        for name, column in sorted(spec.contract.columns.items())
        if name != "text"
    ]
    return pa.schema(fixed + declared)


def write(
    ws: Workspace,
    recipe: Recipe,
    lease: Lease,
    table: str,
    data: pa.Table,
    *,
    column: str = "day",
    value: str | None = None,
) -> TableRef:
    """Write one partition of a project table under the lease of its artifact."""
    partition = value if value is not None else recipe.partition or ""
    identity = {
        "project": recipe.project, "kind": recipe.kind, "name": recipe.name,
        "recipe_hash": recipe.hash,
    }  # fmt: skip
    scope = ws.ledger.scope(recipe.project)  # a branch writes tables of its own
    app_id = "|".join((scope, table, partition))
    return ws.tables.write_partition(
        f"{scope}/{table}",
        data.schema,
        data.to_batches(max_chunksize=16_384),
        column=column,
        value=partition,
        commit=Commit(app_id, lease.epoch, identity),
        fence=lambda: ws.ledger.check_lease(lease),
    )


def location(refs: Mapping[str, TableRef]) -> dict[str, Any]:
    """Return the ledger's location of an artifact kept in tables."""
    return {"tables": {name: ref.to_json() for name, ref in sorted(refs.items())}}


def read(
    ws: Workspace, version: ArtifactVersion, table: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the verified rows of one table of an artifact."""
    return ws.tables.read_table(ws.table_ref(version, table), columns)


def corrections(ws: Workspace, version: ArtifactVersion) -> list[dict[str, Any]]:
    """Return the corrections of cleaned rows that have a probability, done or only proposed."""
    key = version.location.get("column")
    return [] if key is None else ws.columns.get(str(key)).to_pylist()


def parts_by(table: pa.Table, column: str) -> dict[str, str]:
    """Return value -> content hash of the rows with that value, for each value of `column`."""
    found = {}
    for value in sorted(pc.unique(table[column]).to_pylist()):
        rows = table.filter(pc.equal(table[column], value))
        found[str(value)] = content_hash(rows.to_batches(), rows.schema)
    return found


def hash_rows(table: pa.Table) -> str:
    """Return the content hash of a table in memory."""
    return content_hash(table.to_batches(), table.schema)


def combine(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return the tables below one another; the empty table of `schema` where there are none.

    A column that only some of them have is null in the others.
    """
    listed = list(tables)
    if not listed:
        return schema.empty_table()
    return pa.concat_tables(listed, promote_options="default")


def count_by(table: pa.Table, column: str) -> list[dict[str, Any]]:
    """Return rows of value and count, sorted by value."""
    counted = table.group_by(column).aggregate([([], "count_all")]).sort_by(column)
    return [{column: str(row[column]), "rows": row["count_all"]} for row in counted.to_pylist()]


def build(
    ws: Workspace, recipe: Recipe, compute: Callable[[Lease], Produced], run: RunContext
) -> BuildResult:
    """Build or reuse what `recipe` describes, with the stores of this workspace."""
    with storage_errors(ws.home.root, full_only=True), ws.building():
        return lineage_build(
            ws.ledger, recipe, verify=ws.verify, compute=compute, run=run, on_damage=ws.set_aside
        )


def tracking_tags(version: ArtifactVersion, run: RunContext) -> dict[str, str]:
    """Return the tags that join an MLflow run with the ledger and Dagster."""
    tags = {
        "fm.project": version.project,
        "fm.artifact": version.name,
        "fm.recipe_hash": version.recipe_hash,
        "fm.content_hash": version.content_hash,
        "fm.asked_by": run.asked_by,
    }
    if run.dagster_run_id:
        tags["dagster/run_id"] = run.dagster_run_id
    if run.git_commit:
        tags["git_sha"] = run.git_commit
    return tags


def tracked(version: ArtifactVersion, run: RunContext) -> dict[str, Any]:
    """Return the fields that every MLflow record shares."""
    from fm_platform.tracking.records import DataInput

    ended = int(version.created_at.timestamp() * 1000)
    numbers = version.metrics.get("numbers", {})
    return {
        "project": version.project,
        "recipe_hash": version.recipe_hash,
        "content_hash": version.content_hash,
        "started_ms": ended - int(version.duration_s * 1000),
        "ended_ms": ended,
        "metrics": {k: float(v) for k, v in numbers.items() if isinstance(v, (int, float))},
        "tags": tracking_tags(version, run),
        "inputs": tuple(
            DataInput(
                name="/".join(str(x) for x in (i.name, i.partition, i.part) if x),
                content_hash=i.content_hash,
                context=i.role,
            )
            for i in version.inputs
        ),
    }


def lists(values: npt.NDArray[Any], item: pa.DataType) -> pa.ListArray:
    """Return a [rows, width] matrix as a list column."""
    rows, width = values.shape
    offsets = pa.array(np.arange(0, (rows + 1) * width, width or 1, dtype=np.int32)[: rows + 1])
    if width == 0:
        offsets = pa.array(np.zeros(rows + 1, np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1), item))


def cells(values: Cells) -> pa.Array:
    """Return cells as a column: null where all classes are told apart."""
    alone = (values == np.arange(values.shape[1])).all(axis=1)
    rows = zip(values.tolist(), alone.tolist(), strict=True)
    return pa.array([None if whole else row for row, whole in rows], pa.list_(pa.int8()))


def vectors(values: npt.NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Return a [rows, width] matrix as a fixed-size list column."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1), pa.float32()), max(values.shape[1], 1)
    )


def matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """Return a list column without nulls, all of one length, as a [rows, width] matrix."""
    whole = column.combine_chunks()
    if len(whole) == 0:
        return np.zeros((0, 0), np.float32)
    return np.asarray(whole.flatten(), np.float32).reshape(len(whole), -1)
