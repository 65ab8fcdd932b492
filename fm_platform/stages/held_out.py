"""The gold test rows that models are evaluated on, and which of them were there to train on.

Cleaning keeps the texts of test rows out of the days that come after them, where the project
declares a rule of duplicates. A test row whose text came earlier, in a row of train, is found
only here: by then models have been trained on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.cleaning.near import Inverted, near_known
from fm_platform.cleaning.shingles import shingles
from fm_platform.errors import LeakError
from fm_platform.labeling.slices import columns_of
from fm_platform.lineage import ArtifactVersion
from fm_platform.lineage.configs import compared_slices
from fm_platform.sources.ingest import text_key
from fm_platform.spec.evaluation import Leaks
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.window import in_classes_of_today
from fm_platform.workspace import Workspace


@dataclass(frozen=True)
class Leak:
    """A test row that a training row repeats.

    Attributes:
        row: Position among the test rows.
        row_id: Of the training row.
        day: Of the training row.
        similarity: Jaccard similarity of their shingles; 1 where the text is the same.
        exact: Whether the texts differ in case, width and white space only.
    """

    row: int
    row_id: str
    day: str
    similarity: float
    exact: bool

    def told(self) -> str:
        """Return why the row is no fair test, without text."""
        alike = "the same text as" if self.exact else f"{self.similarity:.2f} alike with"
        return f"{alike} train row {self.row_id} of {self.day}"


@dataclass(frozen=True)
class HeldOut:
    """What a model is evaluated on.

    Attributes:
        rows: Gold test rows, without those that are set aside.
        aside: Rows of the quarantine: test rows that are not evaluated on.
        fair: Whether no row that counts was trained on.
        told: How many were, in a sentence.
        numbers: The same as numbers.
        by_source: How many rows of each source leaked, as a table.
    """

    rows: pa.Table
    aside: pa.Table
    fair: bool
    told: str
    numbers: dict[str, Any]
    by_source: list[dict[str, Any]]


def held_out(
    ws: Workspace,
    spec: ProjectSpec,
    labels: Sequence[ArtifactVersion],
    raws: Sequence[ArtifactVersion],
    trained: Sequence[ArtifactVersion],
    part: str,
) -> HeldOut:
    """Return the gold test rows of some days, held against the rows that were trained on.

    Args:
        ws: Where they are.
        spec: The project; `evaluation.leaks` says what is alike and what becomes of it.
        labels: `weak_labels` of the days.
        raws: `raw` of the days.
        trained: `cleaned` of the training window; one day is in memory at a time.
        part: Of the quarantine, for the rows that are set aside.

    Raises:
        LeakError: If more rows leaked than the project allows.
    """
    rows = test_rows(ws, spec, labels, raws)
    days = (
        tables.read(ws, day, "cleaned", ["row_id", "day", "text", "split"])
        for day in trained
        if day.rows
    )
    train = (rows.filter(pc.equal(rows["split"], "train")).sort_by("row_id") for rows in days)
    return held_against(spec, rows, train, part)


def held_against(
    spec: ProjectSpec, rows: pa.Table, trained: Iterable[pa.Table], part: str
) -> HeldOut:
    """Return test rows, held against the rows that were trained on.

    Args:
        spec: The project; `evaluation.leaks` says what is alike and what becomes of it.
        rows: Test rows: row_id, day, source, text and others.
        trained: Train rows of a day, or of more: row_id, day, text.
        part: Of the quarantine, for the rows that are set aside.

    Raises:
        LeakError: If more rows leaked than the project allows.
    """
    declared = spec.evaluation.leaks
    leaks = find_leaks(declared, rows["text"].to_pylist() if rows.num_rows else [], trained)
    count, exact = rows.num_rows, sum(leak.exact for leak in leaks)
    by_source = _by_source(rows, leaks)
    told = (
        f"{len(leaks):,} of {count:,} test rows repeat a row that was trained on"
        f" ({exact:,} exactly, {len(leaks) - exact:,} nearly)"
    )
    if count and len(leaks) / count > declared.max_share:
        raise LeakError(
            "too many test rows repeat rows that models were trained on",
            where=f"test rows of {spec.name}",
            expected=f"at most {declared.max_share:.1%}",
            found=f"{told}; by source: "
            + ", ".join(f"{r['source']} {r['leaked']} of {r['test rows']}" for r in by_source),
            next_step="cleaning rule near_duplicates (or exact_duplicates) with the window of the"
            " training keeps later repeats out; evaluation.leaks.action: set_aside leaves these"
            " test rows out",
        )
    aside = declared.action == "set_aside"
    if leaks:
        told += (
            ". They are set aside, in quarantine" if aside else
            ". The scores count them: evaluation.leaks.action: set_aside leaves them out"
        )  # fmt: skip
    gone = leaks if aside else []
    out = {leak.row for leak in gone}
    kept = rows.filter(pa.array([row not in out for row in range(count)], pa.bool_()))
    numbers = {"leaked": len(leaks), "exact": exact, "test_rows": count, "set_aside": aside}
    fair = aside or not leaks
    return HeldOut(kept, _quarantine(rows, gone, part), fair, f"{told}.", numbers, by_source)


def find_leaks(declared: Leaks, texts: Sequence[str], trained: Iterable[pa.Table]) -> list[Leak]:
    """Return which of some texts a train row repeats, exactly or nearly, in their order.

    Of several, the same text is named before one that is alike, then the earliest.

    Args:
        declared: What is alike.
        texts: n texts of test rows.
        trained: Train rows, some at a time: row_id, day, text.
    """
    documents = shingles(texts, declared.size, declared.unit)
    keys: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        keys.setdefault(text_key(text), []).append(row)
    found: dict[int, Leak] = {}
    for known in trained if texts else ():
        ids, days, others = (known[name].to_pylist() for name in ("row_id", "day", "text"))
        for row_id, day, other in zip(ids, days, others, strict=True):
            for row in keys.get(text_key(other), ()):
                if row not in found or not found[row].exact:
                    found[row] = Leak(row, row_id, day, 1.0, True)
        index = Inverted.of(shingles(others, declared.size, declared.unit))
        pairs = near_known(documents, index, declared.similarity)
        for left, right, alike in zip(
            pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True
        ):
            found.setdefault(right, Leak(right, ids[left], days[left], alike, False))
    return [found[row] for row in sorted(found)]


def test_rows(
    ws: Workspace,
    spec: ProjectSpec,
    labels: Sequence[ArtifactVersion],
    raws: Sequence[ArtifactVersion],
) -> pa.Table:
    """Return weak labels joined with gold on the test rows that people labeled.

    Columns of the contract that a compared slice looks at come with them.
    """
    wanted = columns_of(compared_slices(spec))
    more = [name for name in wanted if name not in tables.WEAK_LABELS.names]
    by_day = {raw.partition: raw for raw in raws}
    found = []
    for version in labels:
        raw = by_day.get(version.partition)
        if raw is None or "test" not in version.parts:
            continue
        weak = tables.read(ws, version, "weak_labels")
        weak = weak.filter(pc.equal(weak["split"], "test"))
        gold = tables.read(ws, raw, "gold", ["row_id", "label", "rater_labels"])
        gold = in_classes_of_today(gold, spec, "label")
        position = pc.index_in(weak["row_id"], value_set=gold["row_id"].combine_chunks())
        weak = weak.filter(pc.is_valid(position))
        picked = gold.take(position.drop_null())
        if more:
            told = tables.read(ws, raw, "raw", ["row_id", *more])
            place = pc.index_in(weak["row_id"], value_set=told["row_id"].combine_chunks())
            for name in more:
                weak = weak.append_column(name, told[name].take(place))
        found.append(
            weak.append_column("gold", picked["label"]).append_column(
                "rater_labels", picked["rater_labels"]
            )
        )
    return tables.combine(found, tables.WEAK_LABELS)


def _by_source(rows: pa.Table, leaks: Sequence[Leak]) -> list[dict[str, Any]]:
    if not leaks:
        return []
    sources = rows["source"].to_pylist()
    every, exact = Counter(sources), Counter(sources[leak.row] for leak in leaks if leak.exact)
    leaked = Counter(sources[leak.row] for leak in leaks)
    return [
        {
            "source": source,
            "test rows": every[source],
            "leaked": leaked[source],
            "exact": exact[source],
        }
        for source in sorted(leaked)
    ]


def _quarantine(rows: pa.Table, leaks: Sequence[Leak], part: str) -> pa.Table:
    listed = []
    for leak in leaks:
        row = rows.select(["row_id", "day", "source", "text"]).slice(leak.row, 1).to_pylist()[0]
        listed.append(
            {
                **{name: row[name] for name in ("row_id", "day", "source")},
                "stage": "evaluation",
                "rule": "leak",
                "reason": leak.told(),
                "column": "text",
                "before": row["text"],
                "after": None,
                "removed": True,
                "part": part,
            }
        )
    return pa.Table.from_pylist(listed, tables.QUARANTINE)
