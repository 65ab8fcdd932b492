"""Rows added, removed and relabeled, a day at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fm_platform.lineage.records import ArtifactVersion
from fm_platform.stages import tables
from fm_platform.stages.diff.records import Relabeled, RowCounts, RowExample, RowsChange
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

Sides = tuple["ArtifactVersion | None", "ArtifactVersion | None"]

TABLES = ("raw", "gold", "weak_labels", "cleaned")
_KIND = {"raw": "raw", "gold": "raw", "weak_labels": "weak_labels", "cleaned": "cleaned"}
# What a row "says" in each table: a change of it is a relabeling.
_LABEL = {"raw": "split", "gold": "label", "weak_labels": "label", "cleaned": "label"}
_WEIGHTS = "probabilities"
_AFTER = ":after"


@dataclass
class _Found:
    """What was counted so far, over days; frames hold only what differs."""

    partitions: list[str] = field(default_factory=list)
    before_rows: int = 0
    after_rows: int = 0
    edited: int = 0
    reweighted: int = 0
    shift: float = 0.0
    gone: list[pl.DataFrame] = field(default_factory=list)
    came: list[pl.DataFrame] = field(default_factory=list)
    relabeled: list[pl.DataFrame] = field(default_factory=list)


def rows_change(
    ws: Workspace,
    table: str,
    days: Iterable[Sides],
    *,
    sources: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
    examples: int = 5,
    text: bool = True,
) -> RowsChange | None:
    """Return how the rows of one table differ over some days; None where they do not.

    Args:
        ws: Where the rows are kept.
        table: One of `TABLES`.
        days: Both versions of each day that differs; None where a history has no such day.
        sources: Only rows of these sources, on either side; None: of all.
        examples: How many rows to show of each kind of change.
        text: Whether they carry their text.

    Raises:
        CorruptArtifactError: If a stored byte differs.
        MissingArtifactError: If a file is gone.
    """
    found = _Found()
    for before, after in days:
        left = _read(ws, before, table, sources[0])
        right = _read(ws, after, table, sources[1])
        if left is None and right is None:
            continue
        if _compare(table, left, right, found):
            found.partitions.append(_day(before, after))
    changed = _result(table, found, examples)
    if changed is None or text:
        return changed
    return replace(changed, examples=tuple(replace(e, text=None) for e in changed.examples))


def _read(
    ws: Workspace, version: ArtifactVersion | None, table: str, sources: Sequence[str] | None
) -> pl.DataFrame | None:
    import polars as pl

    if version is None or table not in version.location.get("tables", {}):
        return None
    read = tables.read(ws, version, table)
    frame = pl.DataFrame(read.drop_columns(["day"]))
    if sources is not None:
        frame = frame.filter(pl.col("source").is_in(list(sources)))
    # a row id may occur twice in a day of a damaged source: the n-th goes with the n-th
    return frame.with_columns(pl.col("row_id").cum_count().over("row_id").alias("occurrence"))


def _compare(
    table: str, left: pl.DataFrame | None, right: pl.DataFrame | None, found: _Found
) -> bool:
    """Count one day; return whether anything differs."""
    import polars as pl

    label = _LABEL[table]
    found.before_rows += 0 if left is None else left.height
    found.after_rows += 0 if right is None else right.height
    if left is None or right is None:
        for whole, store in ((left, found.gone), (right, found.came)):
            if whole is not None:
                store.append(_named(whole, label))
        return any(side is not None and side.height > 0 for side in (left, right))
    keys = ["row_id", "occurrence"]
    gone = left.join(right, on=keys, how="anti", maintain_order="left")
    came = right.join(left, on=keys, how="anti", maintain_order="left")
    both = left.join(right, on=keys, how="inner", suffix=_AFTER, maintain_order="left")
    differs = _differs(both, left, right)
    relabeled = differs.get(label, pl.Series([False] * both.height, dtype=pl.Boolean))
    found.gone.append(_named(gone, label))
    found.came.append(_named(came, label))
    changed = both.filter(relabeled)
    found.relabeled.append(_named(changed, label, changed[f"{label}{_AFTER}"]))
    weights = differs.pop(_WEIGHTS, None)
    others = _any([mask for name, mask in differs.items() if name != label], both.height)
    edited = others & ~relabeled
    found.edited += int(edited.sum())
    if weights is not None:
        shifted = both.filter(weights & ~relabeled & ~edited)
        found.reweighted += shifted.height
        found.shift += _distance(shifted[_WEIGHTS], shifted[f"{_WEIGHTS}{_AFTER}"])
    touched = _any([*differs.values(), *([] if weights is None else [weights])], both.height)
    return bool(gone.height or came.height or touched.any())


def _differs(both: pl.DataFrame, left: pl.DataFrame, right: pl.DataFrame) -> dict[str, pl.Series]:
    """Return column -> which rows of both differ in it; None equals None."""
    import polars as pl

    masks = {}
    for name in left.columns:
        if name in ("row_id", "occurrence"):
            continue
        if name in right.columns and left[name].dtype == right[name].dtype:
            masks[name] = both[name].ne_missing(both[f"{name}{_AFTER}"])
        else:  # a declared column came, went or has another type
            masks[name] = pl.Series([True] * both.height, dtype=pl.Boolean)
    for name in right.columns:
        if name not in left.columns:
            masks[name] = pl.Series([True] * both.height, dtype=pl.Boolean)
    return masks


def _any(masks: Sequence[pl.Series], height: int) -> pl.Series:
    import polars as pl

    found = pl.Series([False] * height, dtype=pl.Boolean)
    for mask in masks:
        found = found | mask
    return found


def _distance(before: pl.Series, after: pl.Series) -> float:
    """Return the sum of total variation distances; 1 where two rows cannot be paired."""
    import numpy as np

    paired = ((before.list.len() == after.list.len()) & (before.list.len() > 0)).fill_null(False)
    one, two = before.filter(paired), after.filter(paired)
    gaps = one.explode().to_numpy().astype(np.float64) - two.explode().to_numpy()
    return float(np.abs(gaps).sum() / 2) + float((~paired).sum())


def _named(rows: pl.DataFrame, label: str, after: pl.Series | None = None) -> pl.DataFrame:
    """Return id, source, label (and the label after) and text of some rows."""
    import polars as pl

    text = (
        rows["text"] if "text" in rows.columns else pl.Series([None] * rows.height, dtype=pl.String)
    )
    return pl.DataFrame(
        {
            "row_id": rows["row_id"],
            "source": rows["source"],
            "before": rows[label],
            "after": rows[label] if after is None else after,
            "text": text,
        }
    )


def _result(table: str, found: _Found, examples: int) -> RowsChange | None:
    import polars as pl

    empty = pl.DataFrame(
        schema=dict.fromkeys(("row_id", "source", "before", "after", "text"), pl.String)
    )
    gone, came, relabeled = (
        pl.concat([empty, *frames]) for frames in (found.gone, found.came, found.relabeled)
    )
    moved = gone.drop("after").join(came.drop("before", "source", "text"), on="row_id")
    gone, came = (
        gone.join(moved, on="row_id", how="anti"),
        came.join(moved, on="row_id", how="anti"),
    )
    elsewhere = moved.filter(pl.col("before").ne_missing(pl.col("after")))
    relabeled = pl.concat([relabeled, elsewhere.select(empty.columns)])
    counts = {"added": came, "removed": gone, "relabeled": relabeled}
    touched = sum(frame.height for frame in counts.values())
    if not (touched or moved.height or found.edited or found.reweighted):
        return None
    shown = [
        *_examples("relabeled", relabeled, examples),
        *_examples("added", came.with_columns(before=pl.lit(None, pl.String)), examples),
        *_examples("removed", gone.with_columns(after=pl.lit(None, pl.String)), examples),
    ]
    return RowsChange(
        table=table,
        partitions=tuple(sorted(day for day in found.partitions if day)),
        before_rows=found.before_rows,
        after_rows=found.after_rows,
        added=came.height,
        removed=gone.height,
        moved=moved.height,
        relabeled=relabeled.height,
        edited=found.edited,
        reweighted=found.reweighted,
        mean_shift=found.shift / found.reweighted if found.reweighted else None,
        by_source=_by_source(counts),
        labels=tuple(
            Relabeled(*row)
            for row in relabeled.group_by("before", "after")
            .len()
            .sort("len", "before", "after", descending=[True, False, False])
            .iter_rows()
        ),
        examples=tuple(shown),
    )


def _examples(change: str, rows: pl.DataFrame, most: int) -> list[RowExample]:
    return [
        RowExample(change, row["row_id"], row["source"], row["before"], row["after"], row["text"])
        for row in rows.head(most).iter_rows(named=True)
    ]


def _by_source(counts: Mapping[str, pl.DataFrame]) -> tuple[RowCounts, ...]:
    told: dict[str, Counter[str]] = {}
    for name, rows in counts.items():
        for source, number in rows.group_by("source").len().iter_rows():
            told.setdefault(str(source), Counter())[name] = number
    return tuple(
        RowCounts(source, **{n: told[source][n] for n in counts}) for source in sorted(told)
    )


def _day(before: ArtifactVersion | None, after: ArtifactVersion | None) -> str:
    return next((str(v.partition) for v in (after, before) if v is not None and v.partition), "")


def kind_of(table: str) -> str:
    """Return the kind of artifact that keeps a table."""
    return _KIND[table]


def vectors_change(ws: Workspace, days: Iterable[Sides]) -> RowsChange | None:
    """Return how frozen embeddings differ: rows, and the mean cosine distance of those of both."""
    import numpy as np

    partitions: list[str] = []
    counts = Counter[str]()
    shift = 0.0
    for before, after in days:
        left, right = (
            None if v is None else ws.columns.get(str(v.location["column"]))
            for v in (before, after)
        )
        partitions.append(_day(before, after))
        rows = [{} if t is None else _vectors(t) for t in (left, right)]
        counts["before"] += len(rows[0])
        counts["after"] += len(rows[1])
        counts["added"] += len(rows[1].keys() - rows[0].keys())
        counts["removed"] += len(rows[0].keys() - rows[1].keys())
        for key in rows[0].keys() & rows[1].keys():
            one, two = rows[0][key], rows[1][key]
            if one.shape != two.shape:
                counts["edited"] += 1
            elif not np.array_equal(one, two):
                scale = float(np.linalg.norm(one) * np.linalg.norm(two))
                counts["reweighted"] += 1
                shift += 1.0 - float(one @ two) / scale if scale else 1.0
    if not partitions:
        return None
    n = counts["reweighted"]
    return RowsChange(
        "embeddings", tuple(sorted(p for p in partitions if p)), counts["before"],
        counts["after"], counts["added"], counts["removed"], edited=counts["edited"],
        reweighted=n, mean_shift=shift / n if n else None,
    )  # fmt: skip


def _vectors(table: pa.Table) -> dict[str, Any]:
    name = next(name for name in table.column_names if name != "row_id")
    matrix = tables.matrix(table[name])
    return dict(zip(table["row_id"].to_pylist(), matrix, strict=True))
