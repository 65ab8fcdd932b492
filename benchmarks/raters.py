"""People as annotators: the label model from three raters a row against the majority of the three.

    python -m benchmarks.raters [--quick] [--json] [--raters 3] [--home FM_HOME]

The four shipped corpora have about twenty human ratings a sentence. For each seed three of them
are drawn for each sentence, and the class of the mean of all is the truth (the three are part of
it, for both sides alike). The raters of a corpus are not told apart in the files, so "the first of
three" is nobody in particular. The label model also gets at most 50 gold rows a source, which
are left out of the measurement, and beside it stands the model without any. A tie of the majority
counts as the chance to guess it right.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.home import Home
from fm_platform.labeling.candidates import Gold
from fm_platform.labeling.label_model import LabelModelFit, LabelModelFitter
from fm_platform.labeling.patterns import Votes
from fm_platform.sources import corpora
from fm_platform.spec.models import LabelModelSpec

CLASSES = ("negative", "neutral", "positive")
GOLD_ROWS = 50
Rated = tuple[list[list[int]], npt.NDArray[np.int64]]


def rated(archive: Path, source: str, most: int) -> Rated:
    """Return all raters' classes of each sentence, and the class of the mean."""
    rows = [row for row in corpora._corpus(str(archive), source) if row[3]][:most]
    raters = [[CLASSES.index(label) for label in row[3] or []] for row in rows]
    return raters, np.array([CLASSES.index(row[2]) for row in rows], np.int64)


def drawn(raters: list[list[int]], count: int, seed: int) -> Votes:
    """Return the classes by `count` random raters of each row, int8[n, count]."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(row)[:count] for row in raters], np.int8)


def majority(votes: Votes, truth: npt.NDArray[np.int64]) -> float:
    """Return the expected accuracy of the majority; a tie is a fair draw."""
    counts = np.stack([(votes == label).sum(axis=1) for label in range(len(CLASSES))], axis=1)
    best = counts == counts.max(axis=1, keepdims=True)
    return float((best[np.arange(len(truth)), truth] / best.sum(axis=1)).mean())


def measured(data: dict[str, Rated], count: int, seed: int) -> list[dict[str, Any]]:
    """Return one record per source."""
    votes = {source: drawn(raters, count, seed) for source, (raters, _) in data.items()}
    rng = np.random.default_rng([seed, 1])
    gold = {s: rng.choice(len(v), min(GOLD_ROWS, len(v) // 2), replace=False)
            for s, v in votes.items()}  # fmt: skip
    fitter = LabelModelFitter(count, len(CLASSES), LabelModelSpec())
    for source, own in votes.items():
        fitter.add(own, [source] * len(own))
    known = Gold(
        np.concatenate([votes[s][gold[s]] for s in votes]),
        np.concatenate([data[s][1][gold[s]] for s in votes]).astype(np.int8),
        [s for s in votes for _ in gold[s]],
    )
    fits = {"label model": fitter.fit(known), "label model without gold": fitter.fit()}
    records = []
    for source, own in votes.items():
        rest = np.setdiff1d(np.arange(len(own)), gold[source])
        truth = data[source][1][rest]
        record: dict[str, Any] = {"source": source, "seed": seed, "rows": len(rest)}
        record["majority"] = majority(own[rest], truth)
        for name, fit in fits.items():
            record[name] = _right(fit, own[rest], source, truth)
            record[f"{name}: method"] = fit.groups[source].method
        records.append(record)
    return records


def _right(fit: LabelModelFit, votes: Votes, source: str, truth: npt.NDArray[np.int64]) -> float:
    told = fit.predict(votes, [source] * len(votes))
    best = told == told.max(axis=1, keepdims=True)  # a fallback to majority vote has ties as well
    return float((best[np.arange(len(truth)), truth] / best.sum(axis=1)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 rows a source, two seeds")
    parser.add_argument("--raters", type=int, default=3)
    parser.add_argument("--home", type=Path, help="where the corpora are cached")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    archive = corpora.fetch(Home(asked.home or Path(".fm")).cache)
    most = 500 if asked.quick else 1_000_000
    data = {source: rated(archive, source, most) for source in sorted(corpora.FILES)}
    records = []
    for seed in range(2 if asked.quick else 5):
        records += measured(data, asked.raters, seed)
    if asked.json:
        print(json.dumps(records, indent=1))
        return
    systems = ("majority", "label model without gold", "label model")
    print(f"accuracy in % from {asked.raters} random raters a row, by seed")
    for source in data:
        own = [r for r in records if r["source"] == source]
        print(f"{source} ({own[0]['rows']} rows)")
        for system in systems:
            seeds = "  ".join(f"{100 * r[system]:.2f}" for r in own)
            methods = ", ".join(sorted({r.get(f"{system}: method", "") for r in own}))
            mean = 100 * np.mean([r[system] for r in own])
            print(f"    {system:<26} {mean:6.2f}   {seeds}   {methods}")


if __name__ == "__main__":
    main()
