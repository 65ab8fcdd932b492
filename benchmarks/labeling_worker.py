"""One label model on one file of votes, in a process of its own (see `benchmarks.labeling`).

It is run by path with the interpreter of whoever's model it is, and imports nothing of the others.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Fit = Callable[[], Any]
Predict = Callable[[Any], Any]


def ours(votes: Any, k: int, gold: Any, labels: Any, *, with_gold: bool) -> tuple[Fit, Predict]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from fm_platform.labeling.candidates import Gold
    from fm_platform.labeling.label_model import LabelModelFitter
    from fm_platform.spec.models import LabelModelSpec

    names: list[str] = []

    def fit() -> Any:
        fitter = LabelModelFitter(votes.shape[1], k, LabelModelSpec(per_source=False))
        for start in range(0, len(votes), 262_144):
            fitter.add(votes[start : start + 262_144], names)
        known = Gold(votes[gold], labels.astype(np.int8), ["all"] * len(gold))
        return fitter.fit(known if with_gold else None)

    return fit, lambda found: found.groups["*"].predict(votes)


def majority(votes: Any, k: int) -> tuple[Fit, Predict]:
    def shares(_: Any) -> Any:
        counts = np.stack([(votes == label).sum(axis=1) for label in range(k)], axis=1)
        # an even vote is a coin: a fixed order of the classes would be luck
        return counts + np.random.default_rng(0).random(counts.shape) * 0.5

    return lambda: None, shares


def snorkel(votes: Any, k: int, gold: Any, labels: Any, *, tuned: bool) -> tuple[Fit, Predict]:
    from snorkel.labeling.model import LabelModel

    logging.disable(logging.WARNING)
    matrix = votes.astype(np.int64)

    def fit() -> Any:
        model = LabelModel(cardinality=k, verbose=False)
        if tuned:
            model.fit(matrix, Y_dev=labels, n_epochs=500, seed=0, progress_bar=False)
        else:
            model.fit(matrix, seed=0, progress_bar=False)
        return model

    return fit, lambda model: model.predict_proba(matrix)


def crowdkit(name: str, votes: Any, k: int, gold: Any, labels: Any) -> tuple[Fit, Predict]:
    import pandas as pd
    from crowdkit import aggregation

    row, function = np.nonzero(votes >= 0)
    frame = pd.DataFrame({"task": row, "worker": function, "label": votes[row, function]})
    known = pd.Series(labels, index=pd.Index(gold, name="task"), name="true_label")

    def fit() -> Any:
        model = getattr(aggregation, name)(n_iter=100)
        if name == "DawidSkene":
            model.fit(frame, true_labels=known)
        else:
            model.fit(frame)
        return model

    def predict(model: Any) -> Any:
        told = np.full((len(votes), k), 1 / k)
        told[model.probas_.index.to_numpy()] = model.probas_.reindex(columns=range(k)).fillna(0)
        return told

    return fit, predict


def main() -> None:
    folder, systems = Path(sys.argv[1]), sys.argv[2:]
    data = np.load(folder / "in.npz")
    votes, gold, labels, k = data["votes"], data["gold"], data["labels"], int(data["k"])
    for number, system in enumerate(systems):
        if system.startswith("fm_platform"):
            fit, predict = ours(votes, k, gold, labels, with_gold="without" not in system)
        elif system == "majority vote":
            fit, predict = majority(votes, k)
        elif system.startswith("snorkel"):
            fit, predict = snorkel(votes, k, gold, labels, tuned="Y_dev" in system)
        else:
            fit, predict = crowdkit(system.split()[-1], votes, k, gold, labels)
        begun, cpu = time.perf_counter(), time.process_time()
        model = fit()
        fitted, fitted_cpu = time.perf_counter() - begun, time.process_time() - cpu
        begun = time.perf_counter()
        told = np.asarray(predict(model))
        predicted = time.perf_counter() - begun
        np.save(folder / f"out-{number}.npy", told)
        found = {
            "fit_s": max(fitted, 1e-6),
            "fit_cpu_s": max(fitted_cpu, 1e-6),
            "predict_s": predicted,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "note": getattr(model, "method", ""),
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main()
