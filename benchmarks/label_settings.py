"""How the settings of the label model were fixed, on generators that no other benchmark uses.

    python -m benchmarks.label_settings [--quick] [--json]

The generators: functions whose errors share Gaussian factors, items of different difficulty,
confusion matrices drawn for each function, functions below chance, copies whose silence is copied
or not; 2 to 4 classes, 6 to 24 functions, 2 to 20 thousand rows, any coverage. Three questions:

* `_LEAST_GAIN` of `dependence`: what a group must explain. Too little, and difficulty looks like
  copying; too much, and weak copies count twice.
* `GOLD_SHARES` of `candidates`: how much gold rows weigh beside the others.
* the doubts of `choice`: how far the predicted gain over majority vote is off, by misfit.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from fm_platform.labeling import candidates, dependence
from fm_platform.labeling.candidates import (
    METHODS,
    Gold,
    fit_all,
    fit_with_gold,
    judge,
    part_of,
    without_groups,
)
from fm_platform.labeling.dependence import find_groups, sample_of
from fm_platform.labeling.em import Settings
from fm_platform.labeling.parameters import MAJORITY
from fm_platform.labeling.partial import NO_SETS
from fm_platform.labeling.patterns import Votes, unique_patterns
from fm_platform.labeling.units import Groups

FAMILIES = ("independent", "copies", "factor", "difficulty", "confusions", "below chance")
GAINS = (0.0, 0.003, 0.006, 0.012, 0.024)
SHARES = (0.0, 0.02, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Drawn:
    """Votes int8[n, m] with their truth int64[n] and the groups that were planted."""

    family: str
    votes: Votes
    truth: npt.NDArray[np.int64]
    classes: int
    groups: Groups


def draw(seed: int) -> Drawn:
    """Return one data set; everything about it is drawn."""
    rng = np.random.default_rng(seed)
    family = FAMILIES[seed % len(FAMILIES)]
    k, n = int(rng.choice([2, 2, 3, 4])), int(rng.choice([2_000, 5_000, 20_000]))
    m = int(rng.integers(6, 25))
    truth = rng.choice(k, n, p=rng.dirichlet(np.full(k, 4.0))).astype(np.int64)
    least = 1 / k + 0.05
    accuracy = least + (0.95 - least) * rng.beta(2, 2, m)
    voted = rng.random((n, m)) < rng.uniform(0.2, 1, m)
    wrong = (truth[:, None] + rng.integers(1, k, (n, m))) % k
    chance = rng.random((n, m))
    groups: list[tuple[int, ...]] = []
    if family == "below chance":
        bad = rng.permutation(m)[: max(1, m // 6)]
        accuracy[bad] = rng.uniform(0.05, 1 / k, len(bad))
    if family == "difficulty":
        ease = rng.normal(0, rng.uniform(0.3, 1.0), n)
        odds = np.log(accuracy / (1 - accuracy)) + ease[:, None]
        votes = np.where(chance < 1 / (1 + np.exp(-odds)), truth[:, None], wrong)
    elif family == "confusions":
        votes = _confusions(rng, accuracy, truth, chance, k)
    elif family == "factor":
        votes, groups = _factors(rng, accuracy, truth, wrong, k)
    else:
        votes = np.where(chance < accuracy, truth[:, None], wrong)
    if family == "copies":
        groups = _copied(rng, votes, voted)
    told = np.where(voted, votes, -1).astype(np.int8)
    return Drawn(family, told, truth, k, tuple(sorted(groups)))


def _confusions(
    rng: np.random.Generator, accuracy: Any, truth: Any, chance: Any, k: int
) -> npt.NDArray[np.int64]:
    tables = np.empty((len(accuracy), k, k))
    for j, mean in enumerate(accuracy):
        for label in range(k):
            right = float(np.clip(mean + rng.normal(0, 0.12), 0.1, 0.98))
            tables[j, label] = np.insert(rng.dirichlet(np.ones(k - 1)) * (1 - right), label, right)
    above = chance[:, :, None] > tables[np.arange(len(accuracy))[None], truth[:, None]].cumsum(2)
    return np.minimum(above.sum(axis=2), k - 1)


def _parts(rng: np.random.Generator, m: int) -> list[npt.NDArray[np.int64]]:
    """Return one or two clusters of functions, at most half of all."""
    some = rng.permutation(m)[: max(2, int(rng.uniform(0.15, 0.5) * m))]
    return [p for p in np.array_split(some, int(rng.integers(1, 3))) if len(p) > 1]


def _factors(
    rng: np.random.Generator, accuracy: Any, truth: Any, wrong: Any, k: int
) -> tuple[npt.NDArray[np.int64], list[tuple[int, ...]]]:
    n, m = wrong.shape
    error, groups = rng.normal(size=(n, m)), []
    for part in _parts(rng, m):
        strength, factor = rng.uniform(0.3, 0.95), rng.normal(size=n)
        error[:, part] = (
            np.sqrt(strength) * factor[:, None] + np.sqrt(1 - strength) * error[:, part]
        )
        shared = (truth + rng.integers(1, k, n)) % k
        same = rng.random((n, len(part))) < strength
        wrong[:, part] = np.where(same, shared[:, None], wrong[:, part])
        groups.append(tuple(sorted(part.tolist())))
    limit = np.array([NormalDist().inv_cdf(a) for a in accuracy])
    return np.where(error < limit, truth[:, None], wrong), groups


def _copied(rng: np.random.Generator, votes: Any, voted: Any) -> list[tuple[int, ...]]:
    groups = []
    for part in _parts(rng, votes.shape[1]):
        strength = rng.uniform(0.3, 1.0)
        for j in part[1:]:
            same = rng.random(len(votes)) < strength
            votes[same, j] = votes[same, part[0]]
            if rng.random() < 0.5:
                voted[same, j] = voted[same, part[0]]
        groups.append(tuple(sorted(part.tolist())))
    return groups


def examine(seed: int) -> dict[str, Any]:
    """Return what each setting gives on one data set."""
    drawn = draw(seed)
    patterns, _, counts = unique_patterns(drawn.votes, drawn.classes)
    weights = counts.astype(np.float64)

    def right(model: Any) -> float:
        return float((model.predict(drawn.votes).argmax(axis=1) == drawn.truth).mean())

    found: dict[str, Any] = {"seed": seed, "family": drawn.family}
    sample = sample_of(patterns, weights, drawn.classes)
    groups: dict[float, Groups] = {}
    for gain in GAINS:
        with mock.patch.object(dependence, "_LEAST_GAIN", gain):
            groups[gain] = find_groups(sample)
    fitted = {}
    for own in {(), drawn.groups, *groups.values()}:
        part = part_of("*", patterns, weights, drawn.classes, NO_SETS)
        methods = [m for listed in METHODS.values() for m in listed]
        fit_all(part, methods if own else without_groups(methods), own, Settings())
        fitted[own] = part
    best = {own: max(part.fit, key=part.fit.__getitem__) for own, part in fitted.items()}
    for gain, own in groups.items():
        found[f"gain {gain}"] = right(fitted[own].models[best[own]])
    found["no groups"] = right(fitted[()].models[best[()]])
    found["planted groups"] = right(fitted[drawn.groups].models[best[drawn.groups]])
    part, reference = fitted[groups[0.006]], best[groups[0.006]]
    judge(part, reference)
    found["majority"] = right(part.models[MAJORITY])
    found["misfit"] = part.misfit
    predicted = part.predicted[reference] - part.predicted[MAJORITY]
    found["error"] = found["gain 0.006"] - found["majority"] - predicted
    chosen = np.random.default_rng(seed).choice(len(drawn.truth), 100, replace=False)
    gold = Gold(drawn.votes[chosen], drawn.truth[chosen].astype(np.int8), ["*"] * 100)
    rest = np.setdiff1d(np.arange(len(drawn.truth)), chosen)
    for share in SHARES:
        model = part.models[reference]
        if share:
            with mock.patch.dict(candidates.GOLD_SHARES, {"_gold": share}):
                model = fit_with_gold(part, reference, "_gold", gold, Settings())[0]
        told = model.predict(drawn.votes[rest]).argmax(axis=1)
        found[f"gold {share}"] = float((told == drawn.truth[rest]).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="12 data sets instead of 120")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    records = []
    for seed in range(12 if asked.quick else 120):
        records.append(examine(seed))
        print(f"data set {seed}: {records[-1]['family']}", file=sys.stderr, flush=True)
    if asked.json:
        print(json.dumps(records, indent=1))
        return
    columns = ["majority", "no groups", *(f"gain {g}" for g in GAINS), "planted groups",
               *(f"gold {s}" for s in SHARES)]  # fmt: skip
    print("mean accuracy in %, and the worst loss of groups against none, in points")
    for family in [*FAMILIES, "all"]:
        own = [r for r in records if family in ("all", r["family"])]
        told = "  ".join(f"{c} {100 * np.mean([r[c] for r in own]):.2f}" for c in columns)
        worst = "  ".join(
            f"{g}: {100 * min(r[f'gain {g}'] - r['no groups'] for r in own):+.2f}" for g in GAINS
        )
        print(f"{family:<13} {told}\n{'':<13} worst {worst}")
    print("\nerror of the predicted gain over majority vote, in points, by misfit")
    for low, high in ((0, 0.002), (0.002, 0.01), (0.01, 0.03), (0.03, 1)):
        errors = np.array([r["error"] for r in records if low <= r["misfit"] < high])
        if len(errors):
            rms, most = np.sqrt((errors**2).mean()), abs(errors).max()
            print(
                f"misfit {low} to {high}: {len(errors)} data sets, "
                f"root mean square {100 * rms:.2f}, most {100 * most:.2f}"
            )


if __name__ == "__main__":
    main()
