"""The counts of labeling functions, one artifact a day, made once from that day's rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.hashing import fingerprint
from fm_platform.labeling.counts import DayCounts, Voted, count_day
from fm_platform.labeling.partial import ClassSets
from fm_platform.labeling.slices import columns_of, in_slices
from fm_platform.lineage import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.lineage.fingerprints import (
    TABLE_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)
from fm_platform.lineage.ledger import Lease
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.gold import gold_key, gold_of
from fm_platform.stages.window import in_classes_of_today, window
from fm_platform.workspace import Workspace

KIND = "label_counts"
Gold = list[tuple[str, str]]
"""(row id, class) of dev gold rows of one day."""
GoldOfDays = dict[str, Gold]
_CODE = ("fm_platform.labeling.counts", "fm_platform.labeling.slices")


class DaysCounted:
    """The counts of some days: those that are known are read, the others are made.

    Args:
        ws: Where everything is.
        spec: The project.
        run: Who asks. None: what is missing is counted and not recorded, for a reader.
    """

    def __init__(self, ws: Workspace, spec: ProjectSpec, run: RunContext | None) -> None:
        self.ws, self.spec, self.run = ws, spec, run
        self._known: dict[str, DayCounts] = {}
        self._answered: tuple[str, GoldOfDays] = ("", {})

    def days(self, first: str, last: str) -> list[tuple[str, DayCounts]]:
        """Return (day, counts) of the days that have weak labels, oldest first.

        Where people's answers are gold, dev gold rows are those that the label model of the last
        of them may read.
        """
        ask = self.ws.ledger.latest_of_days
        name = self.spec.name
        raws = {v.partition: v for v in ask(name, "raw", "raw", first, last)}
        heads = {v.partition: v for v in ask(name, KIND, KIND, first, last)}
        weaks = [v for v in ask(name, "weak_labels", "weak_labels", first, last)
                 if v.partition in raws]  # fmt: skip
        gold = self._with_answers(str(weaks[-1].partition)) if weaks else {}
        return [
            (day, self._counts(raws[day], weak, heads, gold.get(day)))
            for weak in weaks
            for day in (str(weak.partition),)
        ]

    def _with_answers(self, last: str) -> GoldOfDays:
        """Return the gold rows of each day of the window up to `last`; {} without answers."""
        spec = self.spec
        if spec.annotation.use != "gold":
            return {}
        raws = window(self.ws, spec, "raw", "raw", last, spec.labeling.label_model.window_days)
        key = gold_key(self.ws, spec, raws)
        if self._answered[0] != key:
            found: GoldOfDays = {str(raw.partition): [] for raw in raws}
            for row in gold_of(self.ws, spec, last).sort_by("row_id").to_pylist():
                found.setdefault(row["day"], []).append((row["row_id"], row["label"]))
            self._answered = (key, found)
        return self._answered[1]

    def version(
        self, raw: ArtifactVersion, weak: ArtifactVersion, gold: Gold | None = None
    ) -> ArtifactVersion:
        """Return the counts of one day as an artifact, building it where it is missing."""

        def compute(lease: Lease) -> Produced:
            table = self._made(raw, weak, gold).to_table()
            content = self.ws.columns.put(table)
            return Produced(content, {"column": content}, weak.rows, table.nbytes)

        run = self.run or RunContext()
        return tables.build(self.ws, self._recipe(raw, weak, gold), compute, run).version

    def _counts(
        self, raw: ArtifactVersion, weak: ArtifactVersion, heads: dict[Any, ArtifactVersion],
        gold: Gold | None,
    ) -> DayCounts:  # fmt: skip
        recipe = self._recipe(raw, weak, gold)
        if recipe.hash not in self._known:
            head = heads.get(weak.partition)
            fits = head is not None and head.recipe_hash == recipe.hash
            if head is not None and fits and self.ws.columns.unharmed(_column(head)):
                self._known[recipe.hash] = DayCounts.from_table(self.ws.columns.get(_column(head)))
            elif self.run is None:
                self._known[recipe.hash] = self._made(raw, weak, gold)
            else:
                made = self.ws.columns.get(_column(self.version(raw, weak, gold)))
                self._known[recipe.hash] = DayCounts.from_table(made)
        return self._known[recipe.hash]

    def _recipe(self, raw: ArtifactVersion, weak: ArtifactVersion, gold: Gold | None) -> Recipe:
        spec = self.spec
        config = {
            "functions": list(weak.metrics["functions"]),
            "classes": list(spec.taxonomy.classes),
            "slices": [one.model_dump(mode="json") for one in spec.slices],
            "dev_rows_per_source": spec.gold.dev_rows_per_source,
        }
        if spec.taxonomy.former:
            config["former"] = {old: list(new) for old, new in spec.taxonomy.former.items()}
        if gold is not None:
            config["gold"] = fingerprint(gold)
        return Recipe(
            project=spec.name, kind=KIND, name=KIND, partition=str(weak.partition),
            inputs=(raw.as_input("raw"), weak.as_input("weak_labels"),
                    *((raw.as_input("gold", part="gold"),) if "gold" in raw.parts else ())),
            code=code_fingerprint(*_CODE), config=config,
            environment=environment_fingerprint(TABLE_PACKAGES),
        )  # fmt: skip

    def _made(self, raw: ArtifactVersion, weak: ArtifactVersion, gold: Gold | None) -> DayCounts:
        spec = self.spec
        columns = ["row_id", "source", "split", "votes", "probabilities"]
        rows = tables.read(self.ws, weak, "weak_labels", columns)
        functions = list(weak.metrics["functions"])
        shape = (rows.num_rows, len(functions))
        votes = np.asarray(rows["votes"].combine_chunks().flatten(), np.int8).reshape(shape)
        k = len(spec.taxonomy.classes)
        told = tables.matrix(rows["probabilities"]).reshape(rows.num_rows, k)
        sets = ClassSets.of(weak.metrics.get("class_sets", ()))
        inside = self._slices(raw, rows)
        day = Voted(
            rows["row_id"].to_pylist(), rows["source"].to_pylist(), votes, sets, told,
            np.array(pc.equal(rows["split"], "test").to_numpy(), bool), inside,
        )  # fmt: skip
        listed = self._gold(raw) if gold is None else gold
        return count_day(day, functions, list(spec.taxonomy.classes), listed)

    def _slices(self, raw: ArtifactVersion, rows: pa.Table) -> dict[str, Any]:
        if not self.spec.slices:
            return {}
        wanted = ["row_id", *(c for c in columns_of(self.spec.slices) if c != "row_id")]
        read = tables.read(self.ws, raw, "raw", wanted)
        spot = pc.index_in(rows["row_id"], value_set=read["row_id"].combine_chunks())
        return dict(in_slices(self.spec.slices, read.take(spot.combine_chunks())))

    def _gold(self, raw: ArtifactVersion) -> Gold:
        """Return the first dev gold rows of each source, as many as may be read at all."""
        columns = ["row_id", "source", "split", "label"]
        gold = in_classes_of_today(tables.read(self.ws, raw, "gold", columns), self.spec, "label")
        gold = gold.filter(pc.equal(gold["split"], "dev")).sort_by("row_id")
        found: Gold = []
        for source in sorted(set(gold["source"].to_pylist())):
            own = gold.filter(pc.equal(gold["source"], source))
            first = own.slice(0, self.spec.gold.dev_rows_per_source)
            found += zip(first["row_id"].to_pylist(), first["label"].to_pylist(), strict=True)
        return found


def first_and_last(ws: Workspace, spec: ProjectSpec) -> tuple[str, str] | None:
    """Return the first day of the project and the last one with weak labels, or None."""
    last = ws.ledger.last_partition(spec.name, "weak_labels", "weak_labels")
    return None if last is None else (spec.calendar.start.isoformat(), last)


def noted_rows(days: Iterable[tuple[str, DayCounts]], part: str) -> list[tuple[str, Any]]:
    """Return (day, row) of all rows worth looking at: `disputed` or `bare`."""
    return [(day, row) for day, counts in days for row in getattr(counts, part)]


def _column(version: ArtifactVersion) -> str:
    return str(version.location["column"])
