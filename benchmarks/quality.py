"""How good the shipped project is, and what each ingredient adds: support-weighted F1 by source.

    python -m benchmarks.quality [--seeds 5] [--labels chosen,majority,gold] [--folder WHERE]
                                 [--prompts MODEL] [--base MODEL] [--labels-only] [--quick] [--json]

Reads what `make demo` has built in FM_HOME; nothing there is changed. First the label model, with
ingredients added one after another, beside VADER and the published table; then start, experts and
merged model trained anew for each seed, on the labels of majority vote and on those of the chosen
label model. At most 50 rated dev sentences a source are read before the test, by the same code as
in a run. `gold` labels are a ceiling and not a result: what this base and this training make of
labels without a mistake. A seed takes about eight minutes for each kind of labels on two idle
cores; what is trained is kept in --folder, which `benchmarks.merge_quality` may share.

With larger models on disk the project is built once more, in a home below --folder: `--prompts`
adds two prompt functions of a small causal model (`benchmarks.prompting --convert` makes a folder
of one; forty minutes for all rows on two cores), `--base` takes another base model, of which the
upper third is trained.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from benchmarks.family import train_family
from benchmarks.prompting import declared_prompt
from fm_platform.labeling.label_model import fit_label_model, majority_vote
from fm_platform.lineage import RunContext
from fm_platform.spec.models import LabelModelSpec
from fm_platform.stages import tables
from fm_platform.stages.common import SilentReporter
from fm_platform.stages.evidence import Evidence
from fm_platform.stages.models import targets_of, training_days
from fm_platform.stages.window import dev_gold, last_built_day, window
from fm_platform.training.prefix import States
from fm_platform.workspace import Workspace, find_project, project_root

SOURCES = ("tweets", "movies", "amazon", "nyt")
# Hutto & Gilbert 2014, tables 4 and 5: three-class F1
PUBLISHED = {
    "published: VADER": (0.96, 0.61, 0.63, 0.55),
    "published: best learned in domain": (0.84, 0.75, 0.61, 0.50),
    "published: one person": (0.84, 0.92, 0.85, 0.65),
}
AIM = {"aim: merged model": (0.90, 0.70, 0.71, 0.61)}
# of the prompts of `benchmarks.prompting`, written before any row was seen, the two best on its
# dev rows
ASKED = ("all_in_all", "examples")
UPPER_THIRD = 3
MAJORITY_ONLY = LabelModelSpec(candidates=("majority_vote",))


@dataclass(frozen=True)
class Rows:
    """All weakly labeled rows of the project: ids, votes by function, gold of dev and of test.

    `gold` is the class of every rated row by its id: for `--labels gold` alone.
    """

    table: pa.Table
    functions: Sequence[str]
    kinds: Mapping[str, str]
    votes: Any
    sources: Any
    dev: Any
    dev_labels: Any
    test: Any
    test_labels: Any
    gold: Mapping[str, int]


def write_variant(folder: Path, prompts: Path | None, base: Path | None) -> None:
    """Write the shipped project with larger models below `folder`, in place of `assets/defs`."""
    made = folder / "assets" / "defs" / "sentiment"
    shutil.copytree(project_root() / "assets" / "defs" / "sentiment", made, dirs_exist_ok=True)
    declared = yaml.safe_load((made / "defs.yaml").read_text("utf-8"))
    project = declared["attributes"]
    if prompts is not None:
        project["labeling"]["functions"] += [
            {"name": f"says_{name}", **declared_prompt(name, str(prompts.resolve()))}
            for name in ASKED
        ]
    if base is not None:
        layers = json.loads((base / "config.json").read_text("utf-8"))["num_hidden_layers"]
        project["base_model"] = {"location": str(base.resolve())}
        project["training"]["frozen_layers"] = layers - layers // UPPER_THIRD
    (made / "defs.yaml").write_text(yaml.safe_dump(declared, sort_keys=False), "utf-8")


def build_variant(folder: Path, prompts: Path | None, base: Path | None) -> None:
    """Build the shipped project with larger models below `folder`, and look at that from now on."""
    write_variant(folder / "project", prompts, base)
    os.environ |= {"FM_PROJECTS": str(folder / "project"), "FM_HOME": str(folder / "home")}
    stages = ["raw", "weak_labels", "cleaned"]
    subprocess.run(
        [sys.executable, "-m", "assets.run", "sentiment", "--stages", *stages], check=True
    )


def read(ws: Workspace, project: Any) -> Rows:
    """Return the rows of the last window that was built."""
    spec, classes = project.spec, list(project.spec.taxonomy.classes)
    last = last_built_day(ws, spec, "weak_labels", "weak_labels")
    if last is None:
        raise SystemExit("nothing is built yet; next: make demo")
    width = spec.training.window_days
    weak = window(ws, spec, "weak_labels", "weak_labels", last, width)
    raws = window(ws, spec, "raw", "raw", last, width)
    table = pa.concat_tables([tables.read(ws, day, "weak_labels") for day in weak])
    gold = pa.concat_tables([tables.read(ws, day, "gold", ["row_id", "label"]) for day in raws])
    ids = table["row_id"].combine_chunks()
    known = dict(zip(gold["row_id"].to_pylist(), gold["label"].to_pylist(), strict=True))
    test = np.flatnonzero(np.array(table["split"].to_pylist()) == "test")
    test = np.array([row for row in test.tolist() if ids[row].as_py() in known], np.int64)
    chosen = dev_gold(ws, spec, last)
    return Rows(
        table,
        weak[-1].metrics["functions"],
        {function.name: function.kind for function in spec.labeling.functions},
        tables.matrix(table["votes"]).astype(np.int8),
        np.array(table["source"].to_pylist(), dtype=object),
        pc.index_in(chosen["row_id"], value_set=ids).to_numpy().astype(np.int64),
        np.array([classes.index(label) for label in chosen["label"].to_pylist()], np.int64),
        test,
        np.array([classes.index(known[ids[row].as_py()]) for row in test.tolist()], np.int64),
        {row: classes.index(label) for row, label in known.items()},
    )


def f1(labels: Any, told: Any, sources: Any) -> tuple[float, ...]:
    """Return the support-weighted F1 of each source."""
    from sklearn.metrics import f1_score

    scores = (
        f1_score(labels[sources == name], told[sources == name], average="weighted")
        for name in SOURCES
    )
    return tuple(float(score) for score in scores)


def label_models(rows: Rows, project: Any) -> dict[str, tuple[float, ...]]:
    """Return the F1 on test of label models, one ingredient after another."""
    classes = list(project.spec.taxonomy.classes)
    learned = {n for n, kind in rows.kinds.items() if kind in ("exemplars", "propagated")}
    prompts = {n for n, kind in rows.kinds.items() if kind == "prompt"}
    gold_free = [name for name in rows.functions if rows.kinds.get(name) != "exemplars"]
    plain = [name for name in rows.functions if name not in learned]
    exemplars = [name for name in rows.functions if rows.kinds.get(name) != "propagated"]
    declared = project.spec.labeling.label_model
    steps = {
        "labels: majority of plain functions": (
            [n for n in plain if n not in prompts],
            MAJORITY_ONLY,
        ),
        **({"labels: + prompts": (plain, MAJORITY_ONLY)} if prompts else {}),
        "labels: + texts alike": (gold_free, MAJORITY_ONLY),
        "labels: + exemplars, without texts alike": (exemplars, MAJORITY_ONLY),
        "labels: + both": (list(rows.functions), MAJORITY_ONLY),
        "labels: both, label model as declared": (list(rows.functions), declared),
    }
    found = {}
    sources = rows.sources[rows.test]
    for prompt in sorted(prompts):
        votes = rows.votes[rows.test, list(rows.functions).index(prompt)]
        found[f"prompt {prompt} alone, neutral where it abstains"] = f1(
            rows.test_labels, np.where(votes < 0, classes.index("neutral"), votes), sources
        )
    for baseline, function in sorted(project.spec.evaluation.baselines.items()):
        votes = rows.votes[rows.test, list(rows.functions).index(function)]
        found[f"measured: {baseline}"] = f1(rows.test_labels, votes, sources)
    for name, (functions, spec) in steps.items():
        votes = rows.votes[:, [list(rows.functions).index(own) for own in functions]]
        fit = fit_label_model(
            votes, rows.sources.tolist(), rows.dev, rows.dev_labels, len(classes), spec
        )
        told = fit.predict(votes[rows.test], sources.tolist()).argmax(axis=1)
        found[name] = f1(rows.test_labels, told, sources)
        print(f"  {name}", file=sys.stderr, flush=True)
    return found


def relabeled(cleaned: pa.Table, rows: Rows, classes: int, labels: str) -> pa.Table:
    """Return cleaned rows with other targets.

    `majority`: the vote shares of all functions. `gold`: what people say of every row, so what
    comes of it is what this base and this training can reach at all.
    """
    if labels == "gold":
        told = [rows.gold[row] for row in cleaned["row_id"].to_pylist()]
        shares = np.eye(classes)[told]
    else:
        places = pc.index_in(cleaned["row_id"], value_set=rows.table["row_id"].combine_chunks())
        shares = majority_vote(rows.votes[places.to_numpy().astype(np.int64)], classes)
    at = cleaned.schema.get_field_index("probabilities")
    column = tables.lists(shares.astype(np.float32), pa.float32())
    return cleaned.set_column(at, cleaned.schema.field(at), column)


def frozen_states(ws: Workspace, project: Any, parts: Sequence[pa.Table]) -> States | None:
    """Return what the frozen layers give for all texts; nothing is kept in the home."""
    from fm_platform.stages.activations import Activations, DayStates

    if not (frozen := project.spec.training.frozen_layers):
        return None
    texts = [text for part in parts for text in part["text"].to_pylist()]
    activations = Activations(ws, project, RunContext(), SilentReporter(), frozen)
    return activations.with_texts(DayStates(()), texts)


def trained(
    ws: Workspace,
    project: Any,
    rows: Rows,
    seed: int,
    labels: str,
    root: Path,
    quick: bool,
    held: dict[str, States | None],
) -> dict[str, tuple[float, ...]]:
    """Return the F1 on test of start and merged model of one seed, trained below `root`.

    What frozen layers give for a text is kept in `held` for the next seed.
    """
    from fm_platform.merging.merge import merge_experts
    from fm_platform.training.base_model import resolve_base_model
    from fm_platform.training.predict import load_adapter, load_classifier, predict_probabilities

    spec, classes = project.spec, list(project.spec.taxonomy.classes)
    few = {"start_rows_per_source": 60, "max_rows": 60, "probe_rows": 60} if quick else {}
    config = spec.training.model_copy(update={"seed": seed, **few})
    base = resolve_base_model(spec.base_model, project.directory)
    days = training_days(ws, spec)
    train, dev = (targets_of(ws, spec, days, split) for split in ("train", "dev"))
    if labels != "chosen":
        train, dev = (relabeled(part, rows, len(classes), labels) for part in (train, dev))
    test = rows.test[:: 40 if quick else 1]
    texts = rows.table["text"].take(pa.array(test)).to_pylist()
    truth, sources = rows.test_labels[:: 40 if quick else 1], rows.sources[test]
    found = {}

    def judge(classifier: Any) -> tuple[float, ...]:
        told = predict_probabilities(classifier, texts, max_tokens=config.max_tokens)
        return f1(truth, told.argmax(axis=1), sources)

    if "states" not in held:
        held["states"] = frozen_states(ws, project, [train, dev])
    family = train_family(spec, base, config, train, dev, root, states=held["states"])
    gold = Evidence(ws, spec, str(days[-1].partition)).rows()
    found["start"] = judge(load_adapter(base, family.start))
    with tempfile.TemporaryDirectory(prefix="fm-merge-") as into:
        merged = merge_experts(
            base, family.experts, spec.merge, classes, Path(into) / "model",
            start=family.start, dev=dev, gold=gold,
            sources={expert.name: expert.sources for expert in spec.experts},
            max_tokens=config.max_tokens, seed=seed, threads=config.threads,
        )  # fmt: skip
        found["merged model"] = judge(load_classifier(merged.directory))
    return found


def table(scores: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Return means, and standard deviations where there are several seeds, as text."""
    lines = [f"{'support-weighted F1':44}" + "".join(f"{name:>14}" for name in SOURCES)]
    for name, runs in scores.items():
        mean, spread = np.mean(runs, axis=0), np.std(runs, axis=0)
        cells = [
            f"{m:.3f}" + (f" ±{s:.3f}" if len(runs) > 1 else "")
            for m, s in zip(mean, spread, strict=True)
        ]
        lines.append(f"{name:44}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", default="sentiment")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--labels", default="chosen,majority",
        help="on which labels to train; gold: on what people say of every row, a ceiling",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, help="where trained experts are kept")
    parser.add_argument("--prompts", type=Path, help="folder of a causal model to ask")
    parser.add_argument("--base", type=Path, help="folder of another base model")
    parser.add_argument("--labels-only", action="store_true", help="train nothing")
    parser.add_argument("--quick", action="store_true", help="one seed on a few rows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    begun = time.perf_counter()
    if given.prompts or given.base:
        if given.folder is None:
            parser.error("--prompts and --base build anew: name a --folder to keep it")
        build_variant(given.folder.resolve(), given.prompts, given.base)
    ws, project = Workspace.open(), find_project(given.project)
    rows = read(ws, project)
    scores: dict[str, list[Sequence[float]]] = {
        name: [score] for name, score in {**PUBLISHED, **AIM}.items()
    }
    scores |= {name: [score] for name, score in label_models(rows, project).items()}
    seeds = 0 if given.labels_only else 1 if given.quick else given.seeds
    with tempfile.TemporaryDirectory(prefix="fm-quality-") as scratch:
        folder = given.folder or Path(scratch)
        held: dict[str, States | None] = {}
        for seed in range(seeds):
            for labels in given.labels.split(","):
                root = folder / (f"seed-{seed}" + ("" if labels == "chosen" else f"-{labels}"))
                told = trained(ws, project, rows, seed, labels, root, given.quick, held)
                for name, score in told.items():
                    scores.setdefault(f"{name}, {labels} labels", []).append(score)
                    line = " ".join(f"{one:.3f}" for one in score)
                    print(f"  seed {seed}, {labels} labels, {name}: {line}", file=sys.stderr)
    facts = {
        "rated dev sentences": len(rows.dev),
        "rated test sentences": len(rows.test),
        "seeds": seeds,
        "seconds": round(time.perf_counter() - begun, 1),
        "peak memory, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if given.json:
        print(json.dumps({"sources": SOURCES, "f1": scores, **facts}, indent=1))
    else:
        print(table(scores))
        print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
