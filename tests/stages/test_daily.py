"""The daily stages on a small project: build, reuse, edit, damage."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fm_platform.home import Home
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.status import plan
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.common import StageResult
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace
from tests.support.tiny_model import build_tiny_base

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {{classes: [bad, good]}}
  calendar: {{start: 2026-01-01, end: 2026-01-03}}
  gold: {{column: label}}
  sources:
    - {{name: main, options: {{path: "rows-*.jsonl"}}}}
  labeling:
    functions:
      - {{kind: keyword, name: good_words, words: [{good}], label: good}}
      - {{kind: keyword, name: bad_words, words: [awful, broken], label: bad}}
      - {{kind: rule, name: short, column: char_count, operator: "<", value: 12, label: bad}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "small"
    made.mkdir()
    for day in DAYS:
        lines = [
            f'{{"text": "{word} number {i} of {day}", "label": "{label}"}}'
            for i in range(20)
            for word, label in (("great", "good"), ("awful", "bad"))
        ]
        (made / f"rows-{day}.jsonl").write_text("\n".join(lines) + "\n")
    return made


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


def project(
    folder: Path, good: str = "great", exemplars: bool = False, noise: bool = False
) -> LoadedProject:
    text = SPEC.format(good=good)
    if exemplars:
        text += "      - {kind: exemplars, name: near, per_source: false}\n"
    if noise:
        text += "  base_model: {location: base}\n  cleaning: [{rule: label_noise}]\n"
    (folder / "defs.yaml").write_text(text)
    return load_spec(folder / "defs.yaml")


def build_day(ws: Workspace, loaded: LoadedProject, day: str) -> list[StageResult]:
    run, log = RunContext(), SilentReporter()
    return [
        build_raw(ws, loaded, day, run, log),
        build_weak_labels(ws, loaded, day, run, log),
        build_cleaned(ws, loaded, day, run, log),
    ]


def content(ws: Workspace) -> dict[tuple[str, str, str | None], str]:
    versions = ws.ledger.all_latest("small")
    return {(v.kind, v.name, v.partition): v.content_hash for v in versions}


def test_a_day_is_built_once_and_reused_afterwards(ws: Workspace, folder: Path) -> None:
    first = build_day(ws, project(folder), DAYS[0])
    second = build_day(ws, project(folder), DAYS[0])

    assert [result.reused for result in first] == [False, False, False]
    assert [result.reused for result in second] == [True, True, True]
    assert all(check.passed for result in first for check in result.checks)
    assert [r.metrics for r in second] == [r.metrics for r in first]


def test_the_cleaned_table_holds_no_test_row_and_no_gold(ws: Workspace, folder: Path) -> None:
    cleaned = build_day(ws, project(folder), DAYS[0])[2]

    rows = ws.tables.read_table(ws.table_ref(cleaned.version, "cleaned"))

    assert set(rows["split"].to_pylist()) <= {"train", "dev"}
    assert "gold" not in rows.schema.names
    assert set(rows["label"].to_pylist()) <= {"bad", "good"}


def test_the_next_day_leaves_the_days_before_alone(ws: Workspace, folder: Path) -> None:
    build_day(ws, project(folder), DAYS[0])
    before = content(ws)
    build_day(ws, project(folder), DAYS[1])
    after = content(ws)

    assert {key: after[key] for key in before} == before


def test_editing_one_function_computes_one_column(ws: Workspace, folder: Path) -> None:
    for day in DAYS:
        build_day(ws, project(folder), day)
    before = {v.id for v in ws.ledger.all_latest("small")}

    for day in DAYS:
        build_day(ws, project(folder, good="great, nice"), day)

    made = [v for v in ws.ledger.all_latest("small") if v.id not in before]
    votes = Counter(v.name for v in made if v.kind == "votes")
    assert votes == {"good_words": 3}
    # the new word occurs nowhere: the votes are the same, and everything below stays valid
    assert {v.kind for v in made} == {"votes"}


def test_a_changed_source_rebuilds_its_day_only(ws: Workspace, folder: Path) -> None:
    for day in DAYS:
        build_day(ws, project(folder), day)
    before = content(ws)
    path = folder / f"rows-{DAYS[0]}.jsonl"
    path.write_text(path.read_text() + '{"text": "great late row", "label": "good"}\n')

    results = {day: build_day(ws, project(folder), day) for day in DAYS}

    after = content(ws)
    assert [r.reused for r in results[DAYS[0]]] == [False, False, False]
    assert results[DAYS[1]][0].reused
    assert after[("raw", "raw", DAYS[1])] == before[("raw", "raw", DAYS[1])]
    assert after[("raw", "raw", DAYS[0])] != before[("raw", "raw", DAYS[0])]


def test_a_later_day_is_built_while_votes_of_a_changed_day_are_not_made_again(
    ws: Workspace, folder: Path
) -> None:
    build_tiny_base(folder / "base")
    loaded = project(folder, exemplars=True, noise=True)
    for day in DAYS[:2]:
        build_day(ws, loaded, day)
    path = folder / f"rows-{DAYS[0]}.jsonl"
    lines = path.read_text().splitlines()
    late = [f'{{"text": "great late row {i}", "label": "good"}}' for i in range(30)]
    path.write_text("\n".join([*lines[5:], *late]) + "\n")
    build_raw(ws, loaded, DAYS[0], RunContext(), SilentReporter())  # and a kill comes

    results = build_day(ws, loaded, DAYS[2])
    for day in DAYS:  # later all of it is built, and equals what was never killed
        build_day(ws, loaded, day)

    assert all(check.passed for result in results for check in result.checks)
    other = Workspace.open(Home(folder / "other"))
    for day in DAYS:
        build_raw(other, loaded, day, RunContext(), SilentReporter())
    for day in DAYS:
        build_day(other, loaded, day)
    assert content(ws) == content(other)


def test_an_edited_function_leaves_alone_what_does_not_read_its_votes(
    ws: Workspace, folder: Path
) -> None:
    build_tiny_base(folder / "base")
    learning = "      - {kind: exemplars, name: joint, votes_weight: 0.5}\n"
    for good in ("great", "superb"):
        loaded = project(folder, good=good, exemplars=True)
        text = (folder / "defs.yaml").read_text() + learning
        (folder / "defs.yaml").write_text(text + "  base_model: {location: base}\n")
        loaded = load_spec(folder / "defs.yaml")
        for day in DAYS[:2]:
            build_day(ws, loaded, day)

    def versions(name: str) -> int:
        found = ws.ledger.versions(loaded.spec.name, "votes", name)
        return len({version.recipe_hash for version in found})

    assert versions("near") == 2  # one a day: it learns from gold rows alone
    assert versions("joint") == 4


def test_a_damaged_file_is_found_and_its_artifact_built_again(ws: Workspace, folder: Path) -> None:
    first = build_day(ws, project(folder), DAYS[0])
    ref = ws.table_ref(first[2].version, "cleaned")
    path = ws.home.lake / "small" / "cleaned" / ref.files[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))

    again = build_day(ws, project(folder), DAYS[0])

    assert [result.reused for result in again] == [True, True, False]
    assert "damaged" in again[2].reason
    assert again[2].version.content_hash == first[2].version.content_hash


def test_a_stage_without_its_input_says_what_to_run(ws: Workspace, folder: Path) -> None:
    with pytest.raises(LookupError, match=r"(?s)raw of 2026-01-02 is not built.*next: fm run"):
        build_weak_labels(ws, project(folder), DAYS[1], RunContext(), SilentReporter())


def test_votes_and_gold_of_other_classes_are_not_mistaken_for_todays(
    ws: Workspace, folder: Path
) -> None:
    for day in DAYS[:2]:
        build_day(ws, project(folder), day)
    changed = SPEC.replace("[bad, good]", "[good, bad, spam]")
    (folder / "defs.yaml").write_text(changed.format(good="great"))

    weak = build_day(ws, load_spec(folder / "defs.yaml"), DAYS[2])[1].version

    model = ws.ledger.latest("small", "label_model", "label_model", DAYS[2])
    assert model is not None
    # the votes of the days before are numbers of other classes
    assert {item.partition for item in model.inputs if item.role == "votes"} == {DAYS[2]}
    rows = ws.tables.read_table(ws.table_ref(weak, "weak_labels")).to_pylist()
    assert {row["label"] for row in rows if "great" in row["text"]} == {"good"}


SPLIT = SPEC.replace(
    "{{classes: [bad, good]}}",
    "{{version: 2, classes: [bad, fine, great], changes: [{{version: 2, split: "
    "{{good: [fine, great]}}}}]}}",
).replace(
    "      - {{kind: rule",
    "      - {{kind: keyword, name: great_words, words: [number 7], label: great}}\n"
    "      - {{kind: rule",
)


def test_a_split_carries_old_days_over_and_runs_what_is_new(ws: Workspace, folder: Path) -> None:
    for day in DAYS[:2]:
        build_day(ws, project(folder), day)
    before = content(ws)
    (folder / "defs.yaml").write_text(SPLIT.format(good="great"))
    loaded = load_spec(folder / "defs.yaml")

    weak = [build_day(ws, loaded, day)[1].version for day in DAYS[:2]]

    after = {v.slot: v for v in ws.ledger.all_latest("small")}
    assert after["raw", "raw", DAYS[0]].content_hash == before["raw", "raw", DAYS[0]]
    votes = [after[slot] for slot in after if slot[0] == "votes"]
    carried = {version.name for version in votes if version.metrics.get("carried")}
    assert carried == {"bad_words", "good_words", "short"}
    rows = tables_of(ws, weak[0], "weak_labels")
    told = {row["text"].split(" of")[0]: row for row in rows}
    # "great number 7": its own function says which part it is; elsewhere nobody does
    assert told["great number 7"]["cells"] is None
    assert told["great number 8"]["cells"] == [0, 1, 1]
    assert told["awful number 8"]["cells"] is None


def test_votes_that_are_carried_over_are_those_of_running_again(
    ws: Workspace, folder: Path, tmp_path: Path
) -> None:
    build_day(ws, project(folder), DAYS[0])
    (folder / "defs.yaml").write_text(SPLIT.format(good="great"))
    loaded = load_spec(folder / "defs.yaml")
    build_day(ws, loaded, DAYS[0])
    fresh = Workspace.open(Home(tmp_path / "fresh"))

    build_day(fresh, loaded, DAYS[0])

    assert content(ws) == content(fresh)


def tables_of(ws: Workspace, version: ArtifactVersion, table: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = ws.tables.read_table(ws.table_ref(version, table)).to_pylist()
    return listed


def test_the_plan_of_a_split_is_what_the_run_does(ws: Workspace, folder: Path) -> None:
    for day in DAYS:
        build_day(ws, project(folder), day)
    (folder / "defs.yaml").write_text(SPLIT.format(good="great"))
    loaded = load_spec(folder / "defs.yaml")
    look = replace(probe(ws, loaded), base=lambda: "base")

    planned = {
        (row.kind, row.name, row.partition): row.action
        for row in plan(ws.ledger, loaded.spec, look)
        if row.partition is not None
    }
    before = {version.id for version in ws.ledger.all_latest("small")}
    for day in DAYS:
        build_day(ws, loaded, day)

    made = {v.slot: v for v in ws.ledger.all_latest("small") if v.id not in before}
    assert set(made) == set(planned)
    ran = {s for s, v in made.items() if s[0] == "votes" and not v.metrics.get("carried")}
    assert ran == {s for s, a in planned.items() if s[0] == "votes" and a == "build"}
    assert {s[1] for s in ran} == {"great_words"}
    assert {a for s, a in planned.items() if s[0] == "raw"} == {"carry"}
    assert {a for s, a in planned.items() if s[0] in ("weak_labels", "cleaned")} == {"build"}
