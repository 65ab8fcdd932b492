"""What a row is worth, and in which order labels are reviewed, beside cleanlab and chance.

    python -m benchmarks.values [--rows 3000] [--seeds 5] [--quick] [--json] [--only values|order]

The shipped sentences with labels of people, in three tasks of growing difficulty; labels of some
rows are flipped, rows and flips drawn for each seed (no setting was fixed on them).

* `values`: 5 % are flipped. The value of each training row by 200 dev rows as in `fm clean value`
  (`fm_platform.cleaning.shapley`), in the representation of a model of the task: how many flipped
  rows are among the tenth of least value, and macro-F1 on test rows of a linear head on all rows,
  without a twentieth and without four tenths, of each class those of least value. Beside it the
  same on the frozen embeddings of the base, and cleanlab's value (`data_shapley_knn`, which reads
  no dev rows).
* `order`: 15 % are flipped, as many reviews as half of these mend what they look at; log loss on
  test rows of a linear head fitted on the labels of then. The order is ours (expected effect on
  the model, `cleaning.noise_rule`), that of cleanlab's label quality, and chance.

The model of a task is the base with a hidden layer fitted on the given labels, flips included: a
stand-in for an adapter that takes seconds. Needs the packages of the extra `benchmarks`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cleaning import sentences
from fm_platform.cleaning.confident import judge
from fm_platform.cleaning.shapley import knn_shapley, unit
from fm_platform.home import Home
from fm_platform.spec.cleaning import LabelNoiseRule
from fm_platform.spec.models import BaseModelSpec
from fm_platform.stages.row_value import NEIGHBOURS, removal_order

VALUED, DEV, FLIPPED, NOISE = 0.1, 200, 0.05, 0.15
REMOVED = (0.05, 0.4)


def tasks(cache: Path, rows: int) -> dict[str, tuple[Any, Any]]:
    """Return task -> base embeddings and labels of people, twice as many rows as are trained on."""
    from fm_platform.training.base_model import resolve_base_model
    from fm_platform.training.embed import embed

    listed = sentences(cache)
    mixed = [listed[i] for i in np.random.default_rng(17).permutation(len(listed))]
    sure = [row for row in mixed if row[2] == "tweets" and row[1] != "neutral"]
    named = {
        "which of four corpora": [(text, corpus) for text, _, corpus in mixed],
        "tweets: negative or positive": [(text, label) for text, label, _ in sure],
        "all: negative, neutral, positive": [(text, label) for text, label, _ in mixed],
    }
    base = resolve_base_model(BaseModelSpec(), Path())
    found = {}
    for name, task in named.items():
        chosen = task[: 2 * rows + DEV]
        vectors = embed(base, [text for text, _ in chosen])
        found[name] = (vectors, np.unique([label for _, label in chosen], return_inverse=True)[1])
    return found


def flipped(rng: np.random.Generator, labels: Any, share: float) -> tuple[Any, Any]:
    """Return labels of which a share is of another class, and which those are."""
    classes = int(labels.max()) + 1
    wrong = rng.random(len(labels)) < share
    others = (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(wrong, others, labels), wrong


def hidden(vectors: Any, labels: Any, others: Any, seed: int) -> tuple[Any, Any]:
    """Return what a hidden layer that was fitted to the labels makes of both sets of vectors."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((128,), early_stopping=True, random_state=seed, max_iter=60)
    model.fit(vectors, labels)
    return tuple(
        np.maximum(part @ model.coefs_[0] + model.intercepts_[0], 0).astype(np.float32)
        for part in (vectors, others)
    )


def head(vectors: Any, labels: Any) -> Any:
    """Return a fitted linear head."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, max_iter=300).fit(vectors, labels)


def values(vectors: Any, true: Any, seed: int) -> dict[str, dict[str, float]]:
    """Return way -> share of flipped rows found, and F1 after removals."""
    from cleanlab.data_valuation import data_shapley_knn
    from sklearn.metrics import f1_score

    rng = np.random.default_rng([seed, 22])
    order = rng.permutation(len(true))
    dev, train, test = np.split(order, [DEV, (len(true) - DEV) // 2 + DEV])
    given, wrong = flipped(rng, true[train], FLIPPED)
    own, of_dev = hidden(vectors[train], given, vectors[dev], seed)
    shares = np.eye(int(true.max()) + 1)[given]
    k = int(np.clip(len(train) // 20, *NEIGHBOURS))
    ways = {
        "ours": knn_shapley(own, shares, of_dev, true[dev], k),
        "ours, on the base": knn_shapley(vectors[train], shares, vectors[dev], true[dev], k),
        "cleanlab": data_shapley_knn(given, features=own, k=10),
        "cleanlab, on the base": data_shapley_knn(given, features=vectors[train], k=10),
    }
    near, held = unit(vectors[train]), unit(vectors[test])

    def score(kept: Any) -> float:
        told = head(near[kept], given[kept]).predict(held)
        return float(f1_score(true[test], told, average="macro"))

    everything = score(np.arange(len(train)))
    found = {}
    for name, worth in ways.items():
        lowest = np.argsort(worth, kind="stable")
        leaving = removal_order(worth, given) if name.startswith("ours") else lowest
        found[name] = {
            "flips in the lowest tenth": float(
                wrong[lowest[: int(VALUED * len(lowest))]].sum() / wrong.sum()
            ),
            "F1 with all": everything,
            **{f"F1 without {s:.0%}": score(leaving[int(s * len(leaving)) :]) for s in REMOVED},
        }
    return found


def order(vectors: Any, true: Any, seed: int) -> dict[str, dict[str, float]]:
    """Return order -> log loss after so many reviews, and how many of them found a flip."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import log_loss

    rng = np.random.default_rng([seed, 16])
    at = rng.permutation(len(true))
    train, test = np.split(at, [len(true) // 2])
    given, wrong = flipped(rng, true[train], NOISE)
    classes = int(true.max()) + 1
    folds = rng.integers(0, 5, len(train))
    doubts = judge(vectors[train], given, folds, classes)
    once = judge(vectors[train], given, folds, classes, rounds=1).predicted
    believed = doubts.probabilities
    sure = np.where(believed.argmax(axis=1) == given, 0.0, believed.max(axis=1))
    sure[sure < LabelNoiseRule(rule="label_noise").review_probability] = 0.0
    effect = sure * np.linalg.norm(vectors[train], axis=1)
    orders = {
        "ours": np.lexsort((-(1 - believed[np.arange(len(given)), given]), -effect)),
        "cleanlab": np.argsort(get_label_quality_scores(given, once), kind="stable"),
        "chance": rng.permutation(len(train)),
    }
    reviews = int(NOISE * len(train) / 2)

    def loss(labels: Any) -> float:
        fitted = head(unit(vectors[train]), labels)
        return float(log_loss(true[test], fitted.predict_proba(unit(vectors[test]))))

    found = {"no review": {"log loss": loss(given), "flips found": 0.0}}
    for name, listed in orders.items():
        seen = listed[:reviews]
        labels = given.copy()
        labels[seen] = true[train][seen]
        found[name] = {"log loss": loss(labels), "flips found": float(wrong[seen].mean())}
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3000, help="training rows of a task, at most")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=("values", "order"))
    parser.add_argument("--quick", action="store_true", help="one seed on 400 rows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    begun = time.perf_counter()
    rows, seeds = (400, 1) if given.quick else (given.rows, given.seeds)
    told: dict[str, Any] = {}
    for task, (vectors, true) in tasks(Home.from_environment().cache, rows).items():
        for what, measure in (("values", values), ("order", order)):
            if given.only in (None, what):
                told.setdefault(what, {})[task] = [measure(vectors, true, s) for s in range(seeds)]
    if given.json:
        print(json.dumps({**told, "seconds": time.perf_counter() - begun}, indent=1))
        return 0
    for what, by_task in told.items():
        for task, runs in by_task.items():
            print(f"{what}, {task}: mean of {len(runs)} seeds")
            for way in runs[0]:
                cells = "".join(
                    f"  {name} {np.mean([run[way][name] for run in runs]):.4f}"
                    for name in runs[0][way]
                )
                print(f"  {way:24}{cells}")
            if what == "order":
                for other in ("chance", "cleanlab"):
                    won = sum(run["ours"]["log loss"] < run[other]["log loss"] for run in runs)
                    print(f"  a smaller loss than {other} with {won} of {len(runs)} seeds")
    print(f"{time.perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
