"""The label model of a day: partial votes all the way, and evidence that is carried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.labeling.partial import ClassSets
from fm_platform.lineage import RunContext
from fm_platform.lineage.status import status
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.store.tables import TableRef
from fm_platform.workspace import Workspace

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
CLASSES = ("billing", "bug", "crash")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: tickets
  taxonomy: {{classes: [billing, bug, crash]}}
  calendar: {{start: 2026-01-01, end: 2026-01-03}}
  gold: {{column: label}}
  sources:
    - {{name: main, options: {{path: "rows-*.jsonl"}}}}
  labeling:
    functions:
      - {{kind: keyword, name: money, words: [invoice], label: billing}}
      - {{kind: keyword, name: broken, words: [broken], label: [bug, crash]}}
      - {{kind: keyword, name: died, words: [died], label: crash}}
    label_model: {{window_days: {window}, carry: {carry}}}
"""
TEXTS = (("an invoice", "billing"), ("is broken", "bug"), ("broken and died", "crash"))


def project(folder: Path, window: int = 28, carry: float = 0.0) -> LoadedProject:
    folder.mkdir(exist_ok=True)
    for day in DAYS:
        lines = [f'{{"text": "{text} {i} of {day}", "label": "{label}"}}'
                 for i in range(30) for text, label in TEXTS]  # fmt: skip
        (folder / f"rows-{day}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "defs.yaml").write_text(SPEC.format(window=window, carry=carry))
    return load_spec(folder / "defs.yaml")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


def build(ws: Workspace, loaded: LoadedProject, day: str) -> TableRef:
    build_raw(ws, loaded, day, RunContext(), SilentReporter())
    built = build_weak_labels(ws, loaded, day, RunContext(), SilentReporter())
    return ws.table_ref(built.version, "weak_labels")


def test_a_partial_vote_stays_one_from_the_function_to_the_table(
    ws: Workspace, tmp_path: Path
) -> None:
    loaded = project(tmp_path / "tickets")

    rows = ws.tables.read_table(build(ws, loaded, DAYS[0])).to_pylist()

    version = ws.ledger.latest("tickets", "weak_labels", "weak_labels", DAYS[0])
    assert version is not None
    book = ClassSets.of(version.metrics["class_sets"])
    broken = [row for row in rows if "broken" in row["text"]]
    place = version.metrics["functions"].index("broken")
    assert {book.names(row["votes"][place], CLASSES) for row in broken} == {"bug or crash"}
    assert all(row["probabilities"][0] < 0.1 for row in broken)
    assert {row["label"] for row in rows if "died" in row["text"]} == {"crash"}
    model = ws.ledger.latest("tickets", "label_model", "label_model", DAYS[0])
    assert model is not None
    assert {"evidence", "reason", "calibration", "copies"} <= set(model.metrics)


def test_evidence_is_carried_from_day_to_day_and_is_an_input(ws: Workspace, tmp_path: Path) -> None:
    loaded = project(tmp_path / "tickets", window=1, carry=0.5)
    for day in DAYS:
        build(ws, loaded, day)

    models = [ws.ledger.latest("tickets", "label_model", "label_model", day) for day in DAYS]

    read = [[i.content_hash for i in m.inputs if i.role == "label_model"] for m in models if m]
    assert read == [[], [models[0].content_hash], [models[1].content_hash]]  # type: ignore[union-attr]
    carried = [m.location["label_model"]["likeliest"]["*"]["rows"] for m in models if m]
    assert carried == [90, 135, 157.5]
    again = build_weak_labels(ws, loaded, DAYS[2], RunContext(), SilentReporter())
    assert again.reused
    rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    assert {r.state for r in rows if r.kind in ("label_model", "weak_labels")} == {"fresh"}


def test_without_carry_the_past_is_no_input(ws: Workspace, tmp_path: Path) -> None:
    loaded = project(tmp_path / "tickets", window=1)
    for day in DAYS[:2]:
        build(ws, loaded, day)

    model = ws.ledger.latest("tickets", "label_model", "label_model", DAYS[1])

    assert model is not None
    assert {(i.role, i.partition) for i in model.inputs} == {("votes", DAYS[1]), ("gold", DAYS[1])}
