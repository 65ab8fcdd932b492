"""Small real histories for comparisons: a labeled project, and evaluations of made-up answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from fm_platform.lineage.records import ArtifactVersion, Produced, RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.spec.models import Evaluation
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.definition import record_definition
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.store.refs import Commit
from fm_platform.workspace import Workspace
from tests.lineage.factory import make_recipe, record

DAY = "2026-01-01"
CLASSES = ("bad", "good")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {{classes: [bad, good]}}
  calendar: {{start: 2026-01-01, end: 2026-01-01}}
  gold: {{column: label}}
  sources:
    - {{name: main, options: {{path: "rows-*.jsonl"}}}}
  labeling:
    functions:
      - {{kind: keyword, name: good_words, words: [{good}], label: good}}
      - {{kind: keyword, name: bad_words, words: [awful, broken], label: bad}}
  cleaning:
    - {{rule: length, min_chars: {least}}}
    - {{rule: confidence}}
"""
MODULE = '''\
from fm_platform.labeling.functions import labeling_function

SHORT = {short}


def is_short(text):
    return len(text) < SHORT


@labeling_function
def short(row):
    """Short texts are bad."""
    return "bad" if is_short(row.text) else None
'''


def write_project(
    folder: Path, good: str = "great", least: int = 3, short: int = 5
) -> LoadedProject:
    """Write the project and 20 rows of each of three words; `fine` is nobody's word at first."""
    folder.mkdir(exist_ok=True)
    lines = [
        f'{{"text": "{word} number {i:02d} of the day", "label": "{label}"}}'
        for i in range(20)
        for word, label in (("great", "good"), ("awful", "bad"), ("fine", "good"))
    ]
    (folder / f"rows-{DAY}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "defs.yaml").write_text(SPEC.format(good=good, least=least))
    (folder / "labeling_functions.py").write_text(MODULE.format(short=short))
    return load_spec(folder / "defs.yaml")


def build_day(ws: Workspace, project: LoadedProject) -> ArtifactVersion:
    """Build the day; return the cleaned version."""
    run, log = RunContext(git_commit="c" * 40, git_dirty=False), SilentReporter()
    record_definition(ws, project, run)
    build_raw(ws, project, DAY, run, log)
    build_weak_labels(ws, project, DAY, run, log)
    return build_cleaned(ws, project, DAY, run, log).version


def model(ws: Workspace, text: str, kind: str = "merged_model") -> ArtifactVersion:
    """Publish and record a model of one small tensor, which is its name."""
    import numpy as np
    from safetensors.numpy import save_file

    recipe = make_recipe(project="small", kind=kind, name=kind, partition=None,
                         inputs=(), config={"text": text})  # fmt: skip
    staged = ws.home.work / text
    staged.mkdir(parents=True)
    codes = np.frombuffer(text.ljust(8).encode(), np.uint8).astype(np.float32)
    save_file({"w": codes.reshape(2, 4)}, staged / "model.safetensors")
    ref = ws.models.publish(staged, {"name": text})
    made = record(ws.ledger, recipe, Produced(ref.content_hash, {"model": ref.content_hash}))
    return ws.ledger.get(made.id)


def evaluate(
    ws: Workspace,
    systems: dict[str, list[str | None]],
    gold: list[str],
    inputs: dict[str, ArtifactVersion],
    first_row: int = 0,
) -> ArtifactVersion:
    """Record an evaluation of given answers on given gold rows; `inputs` is role -> model."""
    import numpy as np

    from fm_platform.evaluation.metrics import SystemPredictions
    from fm_platform.evaluation.table import evaluate as measured

    index: dict[str | None, int] = {"bad": 0, "good": 1, None: -1}
    sources = ["mail" if i % 2 else "chat" for i in range(len(gold))]
    settings = Evaluation(bootstrap_samples=100)
    told = {n: np.array([index[a] for a in answers]) for n, answers in systems.items()}
    table = measured(
        {n: SystemPredictions(labels) for n, labels in told.items()},
        np.array([index[g] for g in gold]), sources, CLASSES, settings,
    )  # fmt: skip
    recipe = make_recipe(
        project="small", kind="evaluation", name="evaluation", partition=None,
        inputs=tuple(v.as_input(role) for role, v in inputs.items()),
        config={"classes": list(CLASSES), "evaluation": settings.model_dump(mode="json")},
    )  # fmt: skip
    part = recipe.hash[:16]
    rows: list[dict[str, Any]] = [
        {
            "row_id": f"{first_row + i:032x}", "day": DAY, "source": sources[i], "system": system,
            "label": answers[i], "probabilities": [0.4, 0.6], "gold": gold[i], "part": part,
        }
        for system, answers in systems.items()
        for i in range(len(gold))
    ]  # fmt: skip
    data = pa.Table.from_pylist(rows, tables.PREDICTIONS)
    ref = ws.tables.write_partition(
        "small/predictions", data.schema, data.to_batches(), column="part", value=part,
        commit=Commit(f"small|predictions|{part}", 1, {}),
    )  # fmt: skip
    metrics = {
        "evaluation": table.to_json("small", part),
        "gate": {"promote": True, "reason": f"{len(gold)} rows"},
    }
    produced = Produced(
        recipe.hash[::-1], tables.location({"predictions": ref}), len(rows), 1, metrics
    )
    return ws.ledger.get(record(ws.ledger, recipe, produced).id)
