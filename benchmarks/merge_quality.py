"""How good merged models are: every method, the experts, one model of everything, the router.

    python -m benchmarks.merge_quality [--seeds 5] [--methods linear,ties] [--folder WHERE]
                                       [--quick] [--json]

Reads what `make demo` has built in FM_HOME; nothing there is changed. For each seed the start and
the experts are trained anew, and one adapter on all sources with the same settings. What is
trained and what was measured is kept in --folder: a stopped run goes on, runs of other seeds
(`--first-seed`) or methods add to it. Every merge method then takes the weights that fit weak dev
labels best; the row "chosen" is the merge as the project declares it, on which the gold dev rows
decide, as in a run. Printed: support-weighted F1 on gold test rows by source, their mean and the
worst, mean over seeds; and what the issue asks of the chosen merge.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.family import Family, train_family
from benchmarks.quality import SOURCES, Rows, f1, read
from fm_platform.hashing import sha256_file
from fm_platform.spec.models import Merge
from fm_platform.stages.evidence import Evidence
from fm_platform.stages.models import targets_of, training_days
from fm_platform.workspace import Workspace, find_project

WAYS: dict[str, dict[str, Any]] = {
    "uniform": {"method": "linear"},  # equal weights, nothing searched
    "uniform, half": {"method": "linear"},
    "linear": {"method": "linear"},
    "linear, any sign": {"method": "linear", "search": "free"},
    "soup": {"method": "linear", "search": "soup"},
    "ties": {"method": "ties"},
    "dare": {"method": "dare"},
    "dare_ties": {"method": "dare_ties"},
    "svd": {"method": "svd", "rank": 8},
    "fisher": {"method": "fisher"},
    "regmean": {"method": "regmean"},
}
CHOSEN = "chosen"


def merges(names: Sequence[str], methods: Sequence[str], evaluations: int) -> Iterator[Any]:
    """Yield the name of each way to merge and its declaration."""
    for way in methods:
        fields = {**WAYS[way], "search_evaluations": evaluations}
        fields["evidence"] = "weak"
        if way.startswith("uniform"):
            share = 0.5 if "half" in way else 1.0
            fields["weights"] = {name: share / len(names) for name in names}
        yield way, Merge(**fields)


def of_one_seed(
    project: Any, ws: Workspace, rows: Rows, seed: int, root: Path, given: argparse.Namespace
) -> dict[str, tuple[float, ...]]:
    """Return system -> F1 of each source on test rows."""
    from fm_platform.merging.merge import merge_experts
    from fm_platform.merging.router import Router, compose
    from fm_platform.training.base_model import resolve_base_model
    from fm_platform.training.predict import load_adapter, load_classifier, predict_probabilities

    spec = project.spec
    few = {"start_rows_per_source": 60, "max_rows": 60, "probe_rows": 60} if given.quick else {}
    config = spec.training.model_copy(update={"seed": seed, **few})
    base = resolve_base_model(spec.base_model, project.directory)
    days = training_days(ws, spec)
    train, dev = (targets_of(ws, spec, days, split) for split in ("train", "dev"))
    family: Family = train_family(spec, base, config, train, dev, root, everything=True)
    test = rows.test[:: 40 if given.quick else 1]
    truth, sources = rows.test_labels[:: 40 if given.quick else 1], rows.sources[test]
    texts = rows.table["text"].take(test).to_pylist()
    answers: dict[str, Any] = {}
    kept = root / "scores.json"
    found = {
        system: tuple(score)
        for system, score in (json.loads(kept.read_text()) if kept.is_file() else {}).items()
    }

    def note(system: str, told: Any) -> None:
        found[system] = f1(truth, told.argmax(axis=1), sources)
        kept.write_text(json.dumps(found, indent=1))
        score = " ".join(f"{one:.3f}" for one in found[system])
        print(f"  seed {seed}: {system:22} {score}", file=sys.stderr, flush=True)

    def judge(system: str, classifier: Any) -> None:
        answers[system] = predict_probabilities(classifier, texts, max_tokens=config.max_tokens)
        note(system, answers[system])

    asked_before: dict[str, str] = {}

    def judge_merged(system: str, folder: Path) -> None:
        """Ask each model once: ways that come to the same bytes have the same answers."""
        twin = asked_before.setdefault(sha256_file(folder / "model.safetensors"), system)
        if twin == system:
            judge(system, load_classifier(folder))
        else:
            note(system, answers[twin])

    assert family.everything is not None
    if "router" not in found:
        judge("start", load_adapter(base, family.start))
        judge("one model of everything", load_adapter(base, family.everything))
        for name, folder in sorted(family.experts.items()):
            judge(f"expert {name}", load_adapter(base, folder))
        owner = {source: expert.name for expert in spec.experts for source in expert.sources}
        router = Router(
            train["text"].to_pylist(), [owner[s] for s in train["source"].to_pylist()], seed
        )
        of_experts = {name: answers[f"expert {name}"] for name in family.experts}
        note("router", compose(router.weights(texts), router.names, of_experts))
    evaluations = 2 if given.quick else 12
    declared = spec.merge.model_copy(update={"search_evaluations": evaluations})
    ways = [*merges(sorted(family.experts), given.methods, evaluations), (CHOSEN, declared)]
    gold = Evidence(ws, spec, str(days[-1].partition)).rows()
    for way, merge in ways:
        if way in found:
            continue
        with tempfile.TemporaryDirectory(prefix="fm-merge-") as into:
            merged = merge_experts(
                base, family.experts, merge, spec.taxonomy.classes, Path(into) / "model",
                start=family.start, dev=dev, gold=gold, max_tokens=config.max_tokens, seed=seed,
                sources={expert.name: expert.sources for expert in spec.experts},
                threads=config.threads,
            )  # fmt: skip
            judge_merged(way, merged.directory)
            if way == CHOSEN:
                for row in merged.report["methods"]:
                    print(f"    {row}", file=sys.stderr)
                print(f"    {merged.method} {merged.weights}", file=sys.stderr, flush=True)
    asked = {way for way, _ in ways}
    return {
        system: score for system, score in found.items() if system in asked or system not in WAYS
    }


def table(scores: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Return means over seeds: each source, their mean, the worst."""
    lines = [
        f"{'support-weighted F1':26}" + "".join(f"{n:>9}" for n in (*SOURCES, "mean", "worst"))
    ]
    for name, runs in scores.items():
        mean = np.mean(runs, axis=0)
        spread = np.std(np.mean(runs, axis=1))
        cells = "".join(f"{v:9.3f}" for v in (*mean, mean.mean(), mean.min()))
        lines.append(f"{name:26}{cells}   ±{spread:.3f}")
    return "\n".join(lines)


def verdicts(scores: Mapping[str, Sequence[Sequence[float]]], owner: Mapping[str, str]) -> Any:
    """Return what is asked of the chosen merge, with the numbers, in points."""
    mean = {name: np.mean(runs, axis=0) for name, runs in scores.items()}
    chosen, uniform = mean[CHOSEN], mean["uniform"]
    own = np.array([mean[f"expert {owner[source]}"][i] for i, source in enumerate(SOURCES)])
    return {
        "points above one model of everything (at least -1)": round(
            100 * float(chosen.mean() - mean["one model of everything"].mean()), 2
        ),
        "points above uniform, mean": round(100 * float(chosen.mean() - uniform.mean()), 2),
        "points above uniform, worst source": round(100 * float(chosen.min() - uniform.min()), 2),
        "points above own expert, worst source (at least -2)": round(
            100 * float((chosen - own).min()), 2
        ),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", default="sentiment")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--methods", default=",".join(WAYS).replace(", ", "; "))
    parser.add_argument("--folder", type=Path, help="where trained experts are kept")
    parser.add_argument("--quick", action="store_true", help="one seed on a few rows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    given.methods = [way.replace("; ", ", ") for way in given.methods.split(",")]
    if "uniform" not in given.methods:
        given.methods.insert(0, "uniform")
    begun = time.perf_counter()
    ws, project = Workspace.open(), find_project(given.project)
    rows = read(ws, project)
    scores: dict[str, list[Sequence[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="fm-merge-quality-") as scratch:
        folder = given.folder or Path(scratch)
        seeds = 1 if given.quick else given.seeds
        for seed in range(given.first_seed, given.first_seed + seeds):
            kept = folder / f"{'quick' if given.quick else 'seed'}-{seed}"
            for name, score in of_one_seed(project, ws, rows, seed, kept, given).items():
                scores.setdefault(name, []).append(score)
    owner = {source: expert.name for expert in project.spec.experts for source in expert.sources}
    facts = {
        **verdicts(scores, owner),
        "seeds": len(scores[CHOSEN]),
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
