"""Adapters that go on from yesterday: the parent, what breaks the chain, the rhythm."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from fm_platform.home import Home
from fm_platform.lineage import ArtifactVersion, Produced, RunContext
from fm_platform.lineage.continuing import parent_of
from fm_platform.lineage.graph import upstream
from fm_platform.lineage.recipes import cleaned_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.training import Continue
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.common import StageResult
from fm_platform.stages.reproduce import make_plan
from fm_platform.workspace import Workspace
from tests.support.tiny_model import CLASSES, build_tiny_base, tiny_config, tiny_rows

RUN, LOG = RunContext(), SilentReporter()
FIRST = date(2026, 1, 1)
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: daily
  taxonomy: {{classes: [{classes}]}}
  calendar: {{start: 2026-01-01}}
  sources: [{{name: mail, options: {{path: "*.jsonl"}}}}]
  base_model: {{location: base}}
"""


class Days:
    """A project whose cleaned days are written by hand: the stages above are not of interest."""

    def __init__(self, folder: Path, **training: object) -> None:
        from fm_platform.spec.load import load_spec

        build_tiny_base(folder / "base")
        (folder / "defs.yaml").write_text(SPEC.format(classes=", ".join(CLASSES)))
        self.ws = Workspace.open(Home(folder / "home"))
        loaded = load_spec(folder / "defs.yaml")
        config = tiny_config(**training)
        spec = loaded.spec.model_copy(update={"training": config})
        self.project = LoadedProject(spec, loaded.directory, loaded.file)

    def clean(self, number: int, seed: int = 0, wrong: bool = False) -> ArtifactVersion:
        """Write one day of rows; `wrong`: each train row has the label of another class."""
        day = (FIRST + timedelta(number)).isoformat()
        parts = [
            tiny_rows(count, 10 * number + seed, ("mail",), split).append_column(
                "split", pa.array([split] * count)
            )
            for split, count in (("train", 24), ("dev", 8))
        ]
        if wrong:
            turned = [p[1:] + p[:1] for p in parts[0]["probabilities"].to_pylist()]
            at = parts[0].schema.get_field_index("probabilities")
            turned_column = pa.array(turned, pa.list_(pa.float32()))
            parts[0] = parts[0].set_column(at, "probabilities", turned_column)
        rows = pa.concat_tables(parts)
        rows = rows.append_column("day", pa.array([day] * rows.num_rows))
        rows = rows.append_column("confidence", pa.array([0.9] * rows.num_rows, pa.float32()))
        rows = rows.select(tables.CLEANED.names).cast(tables.CLEANED)
        made = type("Made", (ArtifactVersion,), {})  # a version of weak labels that nobody built
        labels = object.__new__(made)
        labels.__dict__.update(name="weak_labels", partition=day, content_hash=f"{seed}", id=None)
        recipe = cleaned_recipe(self.project.spec, day, labels, str(seed))

        def compute(lease: object) -> Produced:
            ref = tables.write(self.ws, recipe, lease, "cleaned", rows)
            return Produced(
                tables.hash_rows(rows), tables.location({"cleaned": ref}), rows.num_rows, 1,
                parts=tables.parts_by(rows, "source") | tables.parts_by(
                    rows.filter([s == "dev" for s in rows["split"].to_pylist()]), "split"
                ),
            )  # fmt: skip

        return tables.build(self.ws, recipe, compute, RUN).version

    def train(self) -> StageResult:
        build_start(self.ws, self.project, RUN, LOG)
        return build_adapter(self.ws, self.project, "all", RUN, LOG)

    def parent(self, result: StageResult) -> str | None:
        found = parent_of(self.ws.ledger.get(result.version.id))
        return None if found is None else found.content_hash


def test_going_on_repairs_and_begins_again(tmp_path: Path) -> None:
    days = Days(tmp_path, continuing=Continue(full_every=3, margin=100, reservoir_rows=5))
    days.clean(0)
    first = days.train()
    assert days.parent(first) is None

    days.clean(1)
    second = days.train()
    assert days.parent(second) == first.version.content_hash
    assert second.metrics["continued"] == 1
    assert 0 < second.metrics["replayed_rows"] <= 15
    assert days.train().reused  # nothing new: nothing is done

    # what went into the chain last is relabelled: its ancestor is continued
    days.clean(1, seed=5)
    repaired = days.train()
    assert days.parent(repaired) == first.version.content_hash
    assert repaired.version.content_hash != second.version.content_hash

    # the rhythm: a new start, and everything in full
    days.clean(2)
    assert days.parent(days.train()) == repaired.version.content_hash
    days.clean(3)
    assert days.parent(days.train()) is None


def test_an_adapter_that_falls_behind_is_trained_in_full(tmp_path: Path) -> None:
    days = Days(tmp_path, continuing=Continue(full_every=9, margin=0, replay=0), epochs=8)
    days.clean(0)
    days.train()
    days.clean(1, wrong=True)

    result = days.train()

    assert days.parent(result) is not None  # it was tried, and so is part of the recipe
    assert "continued" not in result.metrics
    assert result.metrics["train_rows"] == 48


def test_the_parent_is_lineage_and_the_days_before_are_under_it(tmp_path: Path) -> None:
    days = Days(tmp_path, continuing=Continue(full_every=9, margin=100), frozen_layers=1)
    days.clean(0)
    first = days.train()
    days.clean(1)
    second = days.train()

    under = upstream(days.ws.ledger, [second.version.id])
    assert first.version.id in under
    plan = [v.slot for v in make_plan(days.ws, second.version).versions]
    assert plan.index(("adapter", "all", None)) < len(plan) - 1
    assert [slot[0] for slot in plan].count("replay") == 2
