"""What a constraint that training enforces does to the gaps between sources and classes.

    python -m benchmarks.constrained [--seeds 3] [--rows 2000] [--test 4000]
                                     [--strength 10] [--quick] [--json]

Reads what `make demo` has built in FM_HOME (its cleaned tables are enough); nothing there is
changed. For each seed one model of everything is trained on a sample of the cleaned train rows,
sources in their own shares, by the settings of the project: as it is, narrowing the gap between
sources, and narrowing the gap between classes (`training: {narrow_gap: …}`). Each is measured on
the gold test rows: largest gap of the support-weighted F1 between sources, largest gap of the F1
between classes, mean and worst of both, and the processor time of the training. A training takes
about a minute and a half on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.evaluation.metrics import ALL, SystemPredictions, class_f1, measure
from fm_platform.spec.models import Evaluation
from fm_platform.spec.training import NarrowGap
from fm_platform.stages.held_out import test_rows
from fm_platform.stages.models import targets_of, training_days
from fm_platform.stages.window import last_built_day, window
from fm_platform.workspace import Workspace, find_project

Scores = dict[str, float]
TITLES = {
    "gap_sources": "gap of sources", "gap_classes": "gap of classes", "f1": "F1 overall",
    "mean_sources": "mean of sources", "worst_source": "worst source",
    "mean_classes": "mean of classes", "worst_class": "worst class", "cpu_seconds": "cpu s",
}  # fmt: skip


def scores(told: Any, gold: Any, sources: Sequence[str], classes: Sequence[str]) -> Scores:
    """Return gaps, means and worst values of one model.

    Args:
        told: int[n] class indices that the model answers.
        gold: int[n] those of people.
        sources: n names.
        classes: Class names.
    """
    model, few = SystemPredictions(np.asarray(told)), Evaluation(bootstrap_samples=100)
    measured = measure({"model": model}, gold, sources, len(classes), few)["model"]
    values = {name: found.values["f1_weighted"] for name, found in measured.items()}
    weighted = {name: found.value for name, found in values.items() if found is not None}
    overall = weighted.pop(ALL)
    by_source, by_class = list(weighted.values()), list(class_f1(model, gold, classes).values())
    return {
        "gap_sources": max(by_source) - min(by_source),
        "gap_classes": max(by_class) - min(by_class),
        "f1": overall,
        "mean_sources": float(np.mean(by_source)),
        "worst_source": min(by_source),
        "mean_classes": float(np.mean(by_class)),
        "worst_class": min(by_class),
    }


def sample(rows: pa.Table, most: int, seed: int) -> pa.Table:
    """Return at most so many rows, drawn by a generator of their own, in their order."""
    order = np.random.default_rng([seed, 11]).permutation(rows.num_rows)[:most]
    return rows.take(pa.array(np.sort(order)))


def ways(strength: float) -> dict[str, NarrowGap | None]:
    """Return what is compared."""
    return {
        "plain": None,
        "narrow_gap between source": NarrowGap(between="source", strength=strength),
        "narrow_gap between class": NarrowGap(between="class", strength=strength),
    }


def trained(
    project: Any, base: Any, rows: pa.Table, dev: pa.Table, test: pa.Table, seed: int,
    way: NarrowGap | None, few: Mapping[str, Any],
) -> Scores:  # fmt: skip
    """Return the scores of one training on the rows of a seed."""
    from fm_platform.training.predict import load_adapter, predict_probabilities
    from fm_platform.training.variants import fit_start_as

    spec, classes = project.spec, list(project.spec.taxonomy.classes)
    changes = {"seed": seed, "narrow_gap": way, "start_rows_per_source": rows.num_rows, **few}
    config = spec.training.model_copy(update=changes)
    with tempfile.TemporaryDirectory(prefix="fm-constrained-") as folder:
        before = time.process_time()
        found = fit_start_as(rows, dev, base, config, classes, Path(folder))
        seconds = time.process_time() - before
        model = load_adapter(base, found.directory)
    texts = test["text"].to_pylist()
    told = predict_probabilities(model, texts, max_tokens=config.max_tokens).argmax(axis=1)
    gold = np.array([classes.index(label) for label in test["gold"].to_pylist()], np.int64)
    return {**scores(told, gold, test["source"].to_pylist(), classes), "cpu_seconds": seconds}


def table(found: Mapping[str, Sequence[Scores]]) -> str:
    """Return means, and standard deviations where there are several seeds, as text."""
    lines = [f"{'':27}" + "".join(f"{title:>17}" for title in TITLES.values())]
    for name, runs in found.items():
        cells = []
        for key in TITLES:
            values = [run[key] for run in runs]
            digits = 1 if key == "cpu_seconds" else 3
            spread = f" ±{np.std(values):.{digits}f}" if len(runs) > 1 else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        lines.append(f"{name:27}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    from fm_platform.training.base_model import resolve_base_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", default="sentiment")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000, help="train rows of each seed")
    parser.add_argument("--test", type=int, default=4000, help="gold test rows at most")
    parser.add_argument("--strength", type=float, default=NarrowGap().strength)
    parser.add_argument("--quick", action="store_true", help="one seed on a few rows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    ws, project = Workspace.open(), find_project(given.project)
    spec = project.spec
    days = training_days(ws, spec)
    train, dev = (targets_of(ws, spec, days, split) for split in ("train", "dev"))
    last, width = last_built_day(ws, spec, "weak_labels", "weak_labels"), spec.training.window_days
    labels = window(ws, spec, "weak_labels", "weak_labels", last or "", width)
    test = test_rows(ws, spec, labels, window(ws, spec, "raw", "raw", last or "", width))
    few: dict[str, Any] = {}
    if given.quick:
        given.seeds, given.rows, given.test = 1, 200, 240
        few = {"probe_rows": 60, "max_dev_rows": 20}
    test = sample(test, given.test, 0)
    base = resolve_base_model(spec.base_model, project.directory)
    found: dict[str, list[Scores]] = {}
    for seed in range(given.seeds):
        rows = sample(train, given.rows, seed)
        for name, way in ways(given.strength).items():
            told = trained(project, base, rows, dev, test, seed, way, few)
            found.setdefault(name, []).append(told)
            line = ", ".join(f"{TITLES[key]} {value:.3f}" for key, value in told.items())
            print(f"  seed {seed}, {name}: {line}", file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps({"rows": given.rows, "test": test.num_rows, "scores": found}, indent=1))
    else:
        print(f"{given.seeds} seeds, {given.rows:,} train rows, {test.num_rows:,} gold test rows")
        print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
