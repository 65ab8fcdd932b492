"""Repairs of metadata, the order of reviews and the value of rows, on one real day."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fm_platform.cli.clean_value import value_text
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.common import StageResult
from fm_platform.stages.raw import build_raw
from fm_platform.stages.review import Deed, chosen, decide, deeds
from fm_platform.stages.review_effect import by_effect
from fm_platform.stages.row_value import row_values
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace
from tests.support.tiny_model import CLASSES, FILLERS, WORDS, build_tiny_base

DAY = "2026-01-01"
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {{classes: [negative, neutral, positive]}}
  calendar: {{start: 2026-01-01, end: 2026-01-01}}
  gold: {{column: label, dev_rows_per_source: 60}}
  split: {{train: 0.5, dev: 0.3, test: 0.2}}
  contract:
    columns:
      text: {{type: string}}
      city: {{type: string}}
      country: {{type: string, nullable: true}}
  sources:
    - {{name: main, options: {{path: "rows-*.jsonl"}}}}
  labeling:
    module: null
    label_model: {{candidates: [majority_vote], per_source: false}}
    functions:
      - {{kind: keyword, name: bad_words, words: [{negative}], label: negative}}
      - {{kind: keyword, name: flat_words, words: [{neutral}], label: neutral}}
      - {{kind: keyword, name: good_words, words: [{positive}], label: positive}}
      - {{kind: keyword, name: always, words: [city], label: negative}}
  base_model: {{location: base}}
  cleaning:
    - rule: metadata_repair
      columns: {{country: {{allowed: [at, de]}}}}
      dependencies: [{{given: [city], column: country}}]
    - {{rule: text_quality, max_digits: 0.2}}
    - {{rule: confidence}}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, LoadedProject]:
    folder: Path = tmp_path_factory.mktemp("small")
    build_tiny_base(folder / "base")
    generator = np.random.default_rng(0)
    lines = []
    for i in range(240):
        label = CLASSES[i % 3]
        told = WORDS[label][int(generator.integers(5))]
        around = " ".join(FILLERS[int(j)] for j in generator.integers(len(FILLERS), size=3))
        place = "city" if i % 4 == 0 else "town"
        text = f"{around} {told} {told} {place} n{i}" if i % 40 else f"{told} {10**14 + i}"
        city = ("wien", "bonn")[i % 2]
        country = {0: None, 1: "xx"}.get(i % 60, {"wien": "at", "bonn": "de"}[city])
        lines.append(json.dumps({"text": text, "label": label, "city": city, "country": country}))
    (folder / f"rows-{DAY}.jsonl").write_text("\n".join(lines) + "\n")
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    (folder / "defs.yaml").write_text(SPEC.format(**words))
    loaded = load_spec(folder / "defs.yaml")
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    for stage in (build_raw, build_weak_labels):
        stage(ws, loaded, DAY, RunContext(), SilentReporter())
    cleaned(ws, loaded)
    return ws, loaded


def cleaned(ws: Workspace, loaded: LoadedProject) -> StageResult:
    return build_cleaned(ws, loaded, DAY, RunContext(), SilentReporter())


def repaired(ws: Workspace) -> list[Deed]:
    return [deed for deed in deeds(ws, "small", DAY) if deed.rule == "metadata_repair"]


def test_a_repair_is_reviewed_and_given_back(small: tuple[Workspace, LoadedProject]) -> None:
    ws, loaded = small
    first = cleaned(ws, loaded)
    rows = tables.read(ws, first.version, "cleaned")
    place = dict(zip(rows["row_id"].to_pylist(), rows["country"].to_pylist(), strict=True))
    listed = repaired(ws)
    assert {deed.before for deed in listed} <= {None, "xx"}
    assert listed
    assert all(place.get(deed.row_id, deed.after) == deed.after for deed in listed)
    numbers = first.metrics
    assert numbers["rows_in"] == numbers["rows_kept"] + numbers["rows_removed"]

    one = chosen(listed, next(d.row_id for d in listed if d.row_id in place), "metadata_repair")
    decide(ws, "small", [one], "reject", "it is so", "me")
    again = tables.read(ws, cleaned(ws, loaded).version, "cleaned")
    now = dict(zip(again["row_id"].to_pylist(), again["country"].to_pylist(), strict=True))
    assert now[one.row_id] == one.before
    assert {row for row in now if now[row] != place[row]} == {one.row_id}


def test_values_by_row_source_and_function(small: tuple[Workspace, LoadedProject]) -> None:
    ws, loaded = small
    told = row_values(ws, loaded, RunContext(), SilentReporter())

    assert told["subsets"][0]["rows"] == told["training_rows"]
    assert told["smallest"]["rows"] <= told["training_rows"]
    functions = {one["function"]: one["value_per_thousand_rows"] for one in told["functions"]}
    assert functions["good_words"] > functions["always"]
    assert sum(one["value"] for one in told["sources"]) > 1 / 3  # more than chance
    lowest = [one["value"] for one in told["lowest"]]
    assert lowest == sorted(lowest)
    assert "rows of least value" in value_text(told, 3)


def test_reviews_come_in_the_order_of_their_effect_on_the_model(
    small: tuple[Workspace, LoadedProject],
) -> None:
    ws, loaded = small
    row_values(ws, loaded, RunContext(), SilentReporter())  # the embeddings are there
    listed = deeds(ws, "small", DAY)
    told = by_effect(ws, "small", listed)
    effects = [deed.effect for deed in told]
    assert effects == sorted(effects, reverse=True)
    assert {(d.row_id, d.rule) for d in told} == {(d.row_id, d.rule) for d in listed}
    removed = {d.row_id: d.effect for d in told if d.rule == "text_quality"}
    assert len(set(removed.values())) > 1  # by the row, no longer by the rule alone
    assert by_effect(ws, "small", []) == []
