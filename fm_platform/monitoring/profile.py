"""The profile of one day: sketches of everything that is watched, by source, and a small sample.

A profile is made once, from the rows of its day alone, and merges with those of other days. The
sample holds the rows with the smallest ids (ids are hashes): a uniform sample that merges, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import CorruptArtifactError
from fm_platform.monitoring.records import ALL
from fm_platform.monitoring.sketches import (
    EXACT_POINTS,
    CategorySketch,
    MomentSketch,
    NumericSketch,
    Sketch,
    merge,
)

FORMAT = 1
SLICE_POINTS = 1 << 11
"""Points of a numeric sketch of one source: for the search of causes."""

SCHEMA = pa.schema(
    [
        ("slice", pa.string()),
        ("metric", pa.string()),
        ("kind", pa.string()),
        ("meta", pa.string()),
        ("keys", pa.list_(pa.string())),
        ("first", pa.list_(pa.float64())),
        ("second", pa.list_(pa.float64())),
        ("third", pa.list_(pa.float64())),
        ("sample", pa.binary()),
    ]
)

Slices = Mapping[str, Mapping[str, Sketch]]


@dataclass(frozen=True)
class Profile:
    """What is kept of one day, or of several merged days.

    Attributes:
        project: Name of the project.
        days: The days, sorted.
        rows: Slice -> rows. `all` and each source.
        slices: Slice -> metric (`family:name`) -> sketch.
        classes: Names of the classes, in the order of probabilities.
        facts: Plain JSON values of the day, e.g. quarantined rows by rule.
        sample: Rows with the smallest ids of each source, or None. Columns `row_id`, `source` and
            whatever the maker adds: `day`, `text`, `votes`, `label`, `gold`, `embedding`
            list<float32>, `champion` list<float32> (its probabilities).
        judged: Further rows that people labeled and that are not in the sample, or None: what a
            shift costs is measured on them, too. They have no `embedding`.
    """

    project: str
    days: tuple[str, ...]
    rows: Mapping[str, int]
    slices: Slices
    classes: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    sample: pa.Table | None = None
    judged: pa.Table | None = None

    @property
    def day(self) -> str:
        """The last day."""
        return self.days[-1] if self.days else ""

    @property
    def sources(self) -> list[str]:
        """Sources that have rows, sorted."""
        return sorted(name for name, rows in self.rows.items() if name != ALL and rows)

    def sketch(self, metric: str, slice_name: str = ALL) -> Sketch | None:
        """Return the sketch of a metric in a slice; None where there is none."""
        return self.slices.get(slice_name, {}).get(metric)

    def to_table(self) -> pa.Table:
        """Return everything as an Arrow table of `SCHEMA`; a table of rows is one value of it."""
        head = {
            "format": FORMAT, "project": self.project, "days": list(self.days),
            "rows": dict(self.rows), "classes": list(self.classes), "facts": dict(self.facts),
        }  # fmt: skip
        first = _row("", "", "head", json.dumps(head, sort_keys=True))
        rows = [{**first, "sample": _packed(self.sample)}]
        if self.judged is not None:
            rows.append({**_row("", "", "judged", "{}"), "sample": _packed(self.judged)})
        for name in sorted(self.slices):
            for metric in sorted(self.slices[name]):
                rows.append(_sketch_row(name, metric, self.slices[name][metric]))
        return pa.Table.from_pylist(rows, SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> Profile:
        """Return the profile that `to_table` wrote.

        Raises:
            CorruptArtifactError: If the table is no profile of this format.
        """
        first = table.slice(0, 1).to_pylist()
        if not first or first[0]["kind"] != "head":
            raise CorruptArtifactError("this is no profile", found=table.column_names)
        head = json.loads(first[0]["meta"])
        if head["format"] != FORMAT:
            raise CorruptArtifactError(
                "the profile has another format", expected=FORMAT, found=head["format"],
                next_step="build the day again",
            )  # fmt: skip
        slices: dict[str, dict[str, Sketch]] = {}
        names = table["slice"].to_pylist()
        metrics, kinds = table["metric"].to_pylist(), table["kind"].to_pylist()
        metas = table["meta"].to_pylist()
        columns = [table[name].combine_chunks() for name in ("keys", "first", "second", "third")]
        judged = None
        for i in range(1, table.num_rows):
            if kinds[i] == "judged":
                judged = _unpacked(table["sample"][i].as_py())
                continue
            keys, *numbers = [column[i].values for column in columns]
            arrays = [np.asarray(part, np.float64) for part in numbers]
            slices.setdefault(names[i], {})[metrics[i]] = _sketch(
                kinds[i], json.loads(metas[i]), keys.to_pylist(), arrays
            )
        return cls(
            head["project"], tuple(head["days"]), head["rows"], slices, tuple(head["classes"]),
            head["facts"], _unpacked(first[0]["sample"]), judged,
        )  # fmt: skip


def merge_profiles(profiles: Iterable[Profile], sample_rows: int = 1_024) -> Profile:
    """Return the profile of all days together; the sample keeps `sample_rows` of each source.

    Rows that people labeled and that the sample does not keep are kept beside it, as many again.

    Raises:
        ValueError: If there is no profile.
    """
    listed = sorted(profiles, key=lambda profile: profile.days)
    if not listed:
        raise ValueError("there is no profile to merge")
    names = sorted({name for profile in listed for name in profile.slices})
    slices: dict[str, dict[str, Sketch]] = {}
    for name in names:
        own = [profile.slices[name] for profile in listed if name in profile.slices]
        metrics = sorted({metric for part in own for metric in part})
        size = EXACT_POINTS if name == ALL else SLICE_POINTS
        slices[name] = {
            metric: merge([part[metric] for part in own if metric in part], size)
            for metric in metrics
        }
    rows = {name: sum(profile.rows.get(name, 0) for profile in listed) for name in names}
    sample = _joined([profile.sample for profile in listed], sample_rows)
    further = [gold_beside(profile.sample, sample) for profile in listed]
    judged = _joined([*further, *(profile.judged for profile in listed)], sample_rows)
    return Profile(
        listed[0].project,
        tuple(sorted({day for profile in listed for day in profile.days})),
        rows,
        slices,
        listed[-1].classes,
        {},
        sample,
        judged,
    )


def _joined(tables: Sequence[pa.Table | None], each: int) -> pa.Table | None:
    """Return the `each` rows of every source with the smallest ids of all tables, or None."""
    held = [table for table in tables if table is not None]
    return smallest_ids(pa.concat_tables(held, promote_options="default"), each) if held else None


def gold_beside(rows: pa.Table | None, sample: pa.Table | None) -> pa.Table | None:
    """Return the rows that people labeled and that are not in a sample; without embeddings."""
    if rows is None or sample is None or "gold" not in rows.column_names:
        return None
    outside = pc.invert(pc.is_in(rows["row_id"], value_set=sample["row_id"].combine_chunks()))
    found = rows.filter(pc.and_(pc.is_valid(rows["gold"]), outside))
    return found.drop_columns(["embedding"]) if "embedding" in found.column_names else found


def smallest_ids(rows: pa.Table, each: int) -> pa.Table:
    """Return the `each` rows of every source with the smallest ids, by source and id."""
    if rows.num_rows == 0:
        return rows
    found = []
    for name in sorted(pc.unique(rows["source"]).to_pylist()):
        own = pa.table({"row_id": rows["row_id"], "spot": pa.array(np.arange(rows.num_rows))})
        own = own.filter(pc.equal(rows["source"], name))
        if own.num_rows > each:  # without ordering what is left out
            own = own.take(pc.select_k_unstable(own, each, [("row_id", "ascending")]))
        found.append(own.sort_by([("row_id", "ascending"), ("spot", "ascending")])["spot"])
    return rows.take(pa.chunked_array([chunk for spots in found for chunk in spots.chunks]))


def _row(
    name: str, metric: str, kind: str, meta: str,
    keys: Sequence[str] = (), *numbers: Sequence[float],
) -> dict[str, object]:  # fmt: skip
    padded = [*numbers, *([()] * (3 - len(numbers)))]
    return {
        "slice": name, "metric": metric, "kind": kind, "meta": meta, "keys": list(keys),
        "first": list(padded[0]), "second": list(padded[1]), "third": list(padded[2]),
    }  # fmt: skip


def _packed(sample: pa.Table | None) -> bytes | None:
    if sample is None:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, sample.schema) as writer:
        writer.write_table(sample.combine_chunks())
    return bytes(sink.getvalue().to_pybytes())


def _unpacked(data: bytes | None) -> pa.Table | None:
    return None if data is None else pa.ipc.open_stream(data).read_all()


def _sketch_row(name: str, metric: str, sketch: Sketch) -> dict[str, object]:
    if isinstance(sketch, NumericSketch):
        meta = {
            "rows": sketch.rows, "nulls": sketch.nulls, "total": sketch.total,
            "squares": sketch.squares, "slack": sketch.slack,
        }  # fmt: skip
        return _row(
            name, metric, "numeric", json.dumps(meta), (),
            sketch.values.tolist(), sketch.below.tolist(), sketch.upto.tolist(),
        )  # fmt: skip
    if isinstance(sketch, CategorySketch):
        meta = {"rows": sketch.rows, "other": sketch.other, "dropped": sketch.dropped}
        keys = sorted(sketch.counts)
        counts = [float(sketch.counts[key]) for key in keys]
        return _row(name, metric, "category", json.dumps(meta), keys, counts)
    meta = {"rows": sketch.rows}
    return _row(
        name, metric, "moments", json.dumps(meta), (),
        sketch.sums.tolist(), sketch.products.reshape(-1).tolist(),
    )  # fmt: skip


def _sketch(
    kind: str, meta: Mapping[str, float], keys: list[str], numbers: Sequence[np.ndarray]
) -> Sketch:
    first, second, third = numbers
    if kind == "numeric":
        return NumericSketch(
            first, second, third, int(meta["rows"]), int(meta["nulls"]), float(meta["total"]),
            float(meta["squares"]), float(meta["slack"]),
        )  # fmt: skip
    if kind == "category":
        counts = {key: int(count) for key, count in zip(keys, first, strict=True)}
        return CategorySketch(counts, int(meta["rows"]), int(meta["other"]), int(meta["dropped"]))
    width = len(first)
    return MomentSketch(int(meta["rows"]), first, second.reshape(width, width))
