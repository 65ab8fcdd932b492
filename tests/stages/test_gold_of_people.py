"""Answers of people on dev rows become gold rows, and only what they change is built again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.status import plan
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.annotations import save
from fm_platform.stages.answered import people
from fm_platform.stages.gold_queue import gold_wanted
from fm_platform.stages.label_report import Wanted, label_report
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace

DAYS = ("2026-01-01", "2026-01-02")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: shop
  taxonomy: {{classes: [bad, good]}}
  calendar: {{start: 2026-01-01, end: 2026-01-02}}
  sources: [{{name: main, options: {{path: "rows-*.jsonl"}}}}]
  split: {{train: 0.5, dev: 0.3, test: 0.2}}
  gold: {{dev_rows_per_source: {budget}}}
  annotation: {{use: {use}, minimum_annotators: {least}}}
  labeling:
    functions:
      - {{kind: keyword, name: praise, words: [lovely], label: good}}
      - {{kind: keyword, name: blame, words: [awful], label: bad}}
    label_model: {{window_days: 1}}
"""


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


def project(folder: Path, use: str = "gold", least: int = 1, budget: int = 4) -> LoadedProject:
    folder.mkdir(exist_ok=True)
    for day in DAYS:
        rows = [{"text": f"{('lovely', 'awful')[i % 2]} {i} {day}"} for i in range(40)]
        (folder / f"rows-{day}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "defs.yaml").write_text(SPEC.format(use=use, least=least, budget=budget))
    return load_spec(folder / "defs.yaml")


def build(ws: Workspace, loaded: LoadedProject) -> dict[str, list[dict[str, object]]]:
    """Build both days; return by day what is told of gold rows."""
    found = {}
    for day in DAYS:
        build_raw(ws, loaded, day, RunContext(), SilentReporter())
        build_weak_labels(ws, loaded, day, RunContext(), SilentReporter())
        model = ws.ledger.latest("shop", "label_model", "label_model", day)
        assert model is not None
        found[day] = model.metrics["gold"]
    return found


def say(ws: Workspace, loaded: LoadedProject, who: str, *texts: str) -> None:
    records = [{"text": text, "annotator": who, "label": "good" if "lovely" in text else "bad"}
               for text in texts]  # fmt: skip
    save(ws, loaded.spec, records, RunContext())


def dev_texts(ws: Workspace, day: str) -> list[str]:
    version = ws.ledger.latest("shop", "raw", "raw", day)
    assert version is not None
    rows = tables.read(ws, version, "raw").sort_by("row_id").to_pylist()
    return [row["text"] for row in rows if row["split"] == "dev"]


def stale(ws: Workspace, loaded: LoadedProject) -> set[tuple[str, str | None]]:
    rows = plan(ws.ledger, loaded.spec, probe(ws, loaded))
    return {(row.kind, row.partition) for row in rows if row.action in ("build", "check")
            and row.kind in ("votes", "label_model", "weak_labels")}  # fmt: skip


def test_answers_on_dev_rows_are_gold_within_the_budget(ws: Workspace, tmp_path: Path) -> None:
    loaded = project(tmp_path / "shop")
    before = build(ws, loaded)
    wanted = gold_wanted(ws, loaded.spec)
    assert [row.text for row in wanted] == dev_texts(ws, DAYS[1])[:4]
    say(ws, loaded, "ann", *dev_texts(ws, DAYS[1]))

    assert ("votes", DAYS[1]) not in stale(ws, loaded)
    after = build(ws, loaded)

    assert before[DAYS[1]] == [{"source": "main", "gold rows": 0, "of answers": 0, "budget": 4}]
    assert after[DAYS[1]] == [{"source": "main", "gold rows": 4, "of answers": 4, "budget": 4}]
    assert gold_wanted(ws, loaded.spec) == []
    assert people(ws, loaded.spec).gold == tuple(after[DAYS[1]])


def test_only_answers_on_rows_of_a_day_reach_its_recipe(ws: Workspace, tmp_path: Path) -> None:
    loaded = project(tmp_path / "shop")
    build(ws, loaded)
    models = {d: ws.ledger.latest("shop", "label_model", "label_model", d) for d in DAYS}
    say(ws, loaded, "ann", dev_texts(ws, DAYS[1])[0], "a text of nowhere")
    build(ws, loaded)

    now = {d: ws.ledger.latest("shop", "label_model", "label_model", d) for d in DAYS}
    assert [models[d].id == now[d].id for d in DAYS] == [True, False]  # type: ignore[union-attr]
    assert stale(ws, loaded) == set()


def test_enough_people_must_agree(ws: Workspace, tmp_path: Path) -> None:
    loaded = project(tmp_path / "shop", least=2)
    build(ws, loaded)
    one, two = dev_texts(ws, DAYS[1])[:2]
    say(ws, loaded, "ann", one, two)
    say(ws, loaded, "bob", one)

    assert build(ws, loaded)[DAYS[1]][0]["of answers"] == 1
    told = people(ws, loaded.spec)
    assert [(p.annotator, p.answers) for p in told.people] == [("ann", 2), ("bob", 1)]
    assert told.agreement.rows == 1


def test_without_the_choice_answers_change_nothing(ws: Workspace, tmp_path: Path) -> None:
    loaded = project(tmp_path / "shop", use="none")
    build(ws, loaded)
    say(ws, loaded, "ann", *dev_texts(ws, DAYS[1]))

    assert stale(ws, loaded) == set()
    assert gold_wanted(ws, loaded.spec) == []


def test_the_report_judges_functions_on_the_gold_rows_of_the_label_model(
    ws: Workspace, tmp_path: Path
) -> None:
    loaded = project(tmp_path / "shop")
    build(ws, loaded)
    before = label_report(ws, loaded, Wanted(rows=False), RunContext())
    say(ws, loaded, "ann", *dev_texts(ws, DAYS[1]))
    build(ws, loaded)

    told = label_report(ws, loaded, Wanted(rows=False), RunContext())

    assert [n for _, n in on_dev(before)] == [0, 0]
    assert told["label_model"]["dev_rows"] == 4
    assert sum(n for _, n in on_dev(told)) == 4
    assert all(right == n for right, n in on_dev(told))
    assert all(value["dev_rows"] == 4 for value in told["values"])
    # a second look counts nothing again, and a reader without a run is told the same
    made = ws.ledger.latest("shop", "label_counts", "label_counts", DAYS[1])
    again = label_report(ws, loaded, Wanted(rows=False), RunContext())
    assert again == told == label_report(ws, loaded, Wanted(rows=False), None)
    assert made == ws.ledger.latest("shop", "label_counts", "label_counts", DAYS[1])


def on_dev(told: dict[str, Any]) -> list[tuple[int, int]]:
    """Return (right, rows) of each function on dev gold rows."""
    whole = [r for r in told["records"] if (r["source"], r["slice"]) == ("all", "all")]
    return [(r["dev"]["right"], r["dev"]["n"]) for r in whole if r["function"] != "*"]
