"""How the settings of anchored label models were fixed, on generators no other benchmark uses.

    python -m benchmarks.label_anchors [--first 0] [--sets 60] [--kind one|telling|some]

Functions that know one class each: 2 to 6 classes, 1 to 4 functions a class, 500 to 10,000 rows,
any coverage and precision, mistakes that prefer a class, rows on which all functions speak more
(long texts), copies in a quarter of the sets, and up to two functions that say several classes;
`telling`: with three to six of these. `some`: each function knows two classes or more, seldom all,
and speaks less on rows of others. Printed are accuracy on rows with a vote, and gain over
majority vote in points: of the model of silence alone, of each weight and precision of the
anchors (`anchors._WEIGHT`, `anchors._RIGHT`), and of what is chosen with 0, 20 and 100 gold rows.

The settings were fixed on the sets 0 to 59, and looked at once on 60 to 119; the share of votes
that a model may contradict (`plausible._MOST_CONTRADICTION`) on 200 to 239 of `telling`, how far
one of silence may move the classes (`plausible._MOST_SHIFT`) on 0 to 39 of `some`.
"""

from __future__ import annotations

import argparse
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from fm_platform.labeling import anchors
from fm_platform.labeling.candidates import fit_all, part_of
from fm_platform.labeling.em import Settings
from fm_platform.labeling.label_model import fit_label_model, majority_vote
from fm_platform.labeling.parameters import ANCHORED, MAJORITY, SILENCE
from fm_platform.labeling.partial import NO_SETS
from fm_platform.labeling.patterns import unique_patterns
from fm_platform.spec.models import LabelModelSpec

WEIGHTS, RIGHT = (0.1, 0.3, 1.0, 3.0, 10.0), (0.75, 0.9)
GOLD = (0, 20, 100)


def draw(
    seed: int, telling: bool = False
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], int]:
    """Return votes int8[n, m], truth int64[n], and the number of classes."""
    rng = np.random.default_rng([seed, 77])
    k, n = int(rng.choice([2, 3, 4, 6])), int(rng.choice([500, 2000, 10000]))
    truth = rng.choice(k, n, p=rng.dirichlet(np.full(k, 3.0)))
    talks = np.exp(rng.choice([0, 0.5, 1.0]) * rng.normal(size=n))
    talks /= talks.mean()
    votes = []
    for label in range(k):
        for _ in range(int(rng.integers(1, 5))):
            found, precision = (
                rng.uniform(0.05, 0.9),
                np.clip(0.35 + 0.63 * rng.beta(3, 2), 0, 0.98),
            )
            right = (truth == label) & (rng.random(n) < found * talks)
            prone = np.ones(n)
            if rng.random() < 0.5:
                prone[truth == rng.integers(k)] = 4
            prone = prone * talks * (truth != label)
            wanted = right.sum() * (1 - precision) / precision
            wrong = rng.random(n) < np.minimum(prone / max(prone.sum(), 1e-9) * wanted, 1)
            votes.append(np.where(right | wrong, label, -1))
    if rng.random() < 0.25 and len(votes) > 2:
        copied, strength = votes[int(rng.integers(len(votes)))], rng.uniform(0.6, 1)
        for _ in range(int(rng.integers(1, 4))):
            votes.append(np.where(rng.random(n) < strength, copied, -1))
    for _ in range(int(rng.choice([3, 4, 6] if telling else [0, 0, 1, 2]))):
        accuracy = rng.uniform(0.5, 0.9)
        said = np.where(rng.random(n) < accuracy, truth, (truth + rng.integers(1, k, n)) % k)
        said[rng.random(n) > (rng.uniform(0.05, 0.6) if telling else rng.uniform(0.2, 0.9))] = -1
        votes.append(said)
    kept = [column for column in votes if (column >= 0).any()]
    return np.stack(kept, axis=1).astype(np.int8), truth, k


def draw_some(seed: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], int]:
    """Return the same of functions of which each knows some of the classes."""
    rng = np.random.default_rng([seed, 99])
    k, n = int(rng.choice([3, 3, 4, 5])), int(rng.choice([500, 2000, 10000]))
    truth = rng.choice(k, n, p=rng.dirichlet(np.full(k, 3.0)))
    talks = np.exp(rng.choice([0, 0.5, 1.0]) * rng.normal(size=n))
    talks /= talks.mean()
    ease = rng.choice([0, 0.7]) * rng.normal(size=n)
    votes = []
    for _ in range(int(rng.integers(4, 14))):
        known = np.sort(rng.choice(k, int(rng.integers(2, k + 1)), replace=False))
        accuracy, inside = rng.uniform(0.55, 0.93), np.isin(truth, known)
        right = rng.random(n) < 1 / (1 + np.exp(-np.log(accuracy / (1 - accuracy)) - ease))
        speaks = rng.uniform(0.1, 0.9)
        often = np.where(inside, speaks, speaks * rng.uniform(0.1, 0.8)) * talks
        silent = rng.random(n) >= often
        said = np.where(inside & right, truth, known[rng.integers(0, len(known), n)])
        votes.append(np.where(silent, -1, said))
    if rng.random() < 0.3:
        copied = votes[int(rng.integers(len(votes)))]
        for _ in range(int(rng.integers(1, 3))):
            votes.append(np.where(rng.random(n) < rng.uniform(0.6, 1), copied, -1))
    return np.stack(votes, axis=1).astype(np.int8), truth, k


def examine(seed: int, kind: str) -> dict[str, float]:
    """Return the accuracy of each model and setting on one set."""
    votes, truth, k = draw_some(seed) if kind == "some" else draw(seed, kind == "telling")
    voted = (votes >= 0).any(axis=1)
    patterns, _, counts = unique_patterns(votes, k)

    def right(told: Any) -> float:
        return float((told[voted].argmax(axis=1) == truth[voted]).mean())

    def alone(method: str) -> float:
        part = part_of("*", patterns, counts.astype(np.float64), k, NO_SETS)
        fit_all(part, [method], (), Settings())
        return right(part.models[method].predict(votes))

    found = {MAJORITY: right(majority_vote(votes, k)), SILENCE: alone(SILENCE)}
    for weight in WEIGHTS:
        for precision in RIGHT:
            with mock.patch.multiple(anchors, _WEIGHT=weight, _RIGHT=precision):
                found[f"weight {weight}, right {precision}"] = alone(ANCHORED)
    rng, sources = np.random.default_rng(seed), ["*"] * len(truth)
    for rows in GOLD:
        gold = np.sort(rng.choice(len(truth), rows, replace=False))
        fit = fit_label_model(votes, sources, gold, truth[gold], k, LabelModelSpec())
        found[f"chosen, {rows} gold rows"] = right(fit.predict(votes, sources))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--kind", choices=("one", "telling", "some"), default="one")
    asked = parser.parse_args()
    records = [examine(asked.first + i, asked.kind) for i in range(asked.sets)]
    print(f"{'':28}{'accuracy':>9}{'gain':>7}{'worst':>7}  sets more than .3 points worse")
    for name in records[0]:
        gains = 100 * np.array([record[name] - record[MAJORITY] for record in records])
        mean = 100 * np.mean([record[name] for record in records])
        print(f"{name:28}{mean:9.2f}{gains.mean():+7.2f}{gains.min():+7.1f}"
              f"{(gains < -0.3).mean():8.0%}")  # fmt: skip


if __name__ == "__main__":
    main()
