"""The review queue against random choice: 200 answers of people on the shipped corpora.

    python -m benchmarks.review_queue [--quick] [--json]

Rows, votes, weak labels and embeddings are those of a finished `make demo` (FM_HOME). For each
seed a pool of 4,000 training rows is drawn; 200 of them get their gold label, either at random or
by the queue in four rounds of 50, as `fm label queue` chooses them (`fm_platform.labeling.queue`).
A soft-max classifier on embedding and votes is fitted on these 200 and measured on the gold test
rows of the corpora. Settings were fixed on dev rows and other seeds.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from fm_platform.labeling.queue import belief, choose, disagreement, features

BUDGET, ROUNDS, POOL, SEEDS = 200, 4, 4_000, (0, 1, 2, 3, 4)
CLASSES = ("negative", "neutral", "positive")


@dataclass(frozen=True)
class Rows:
    """Rows with gold labels: weak probabilities, embeddings, features, classes, split."""

    weak: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float32]
    seen: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    split: npt.NDArray[np.str_]


def load(project: str) -> Rows:
    """Return the rows of all days of a project that is built in this FM_HOME."""
    from fm_platform.stages import tables
    from fm_platform.workspace import Workspace

    ws = Workspace.open()
    parts: list[tuple[Any, ...]] = []
    for weak in ws.ledger.all_latest(project, "weak_labels"):
        day = weak.partition
        raw = ws.ledger.latest(project, "raw", "raw", day)
        embedded = ws.ledger.latest(project, "embeddings", "embeddings", day)
        if raw is None or embedded is None:
            continue
        gold = tables.read(ws, raw, "gold", ["row_id", "label"])
        rows = tables.read(ws, weak, "weak_labels", ["row_id", "split", "votes", "probabilities"])
        place = pc.index_in(rows["row_id"], value_set=gold["row_id"].combine_chunks())
        rows = rows.filter(pc.is_valid(place))
        labels = gold["label"].take(place.drop_null())
        column = ws.columns.get(str(embedded.location["column"]))
        where = pc.index_in(rows["row_id"], value_set=column["row_id"].combine_chunks())
        vectors = tables.matrix(column["embedding"])[where.to_numpy(zero_copy_only=False)]
        parts.append(
            (
                tables.matrix(rows["probabilities"]).astype(np.float64), vectors,
                tables.matrix(rows["votes"]).astype(np.int8),
                np.array([CLASSES.index(label) for label in labels.to_pylist()], np.int64),
                np.array(rows["split"].to_pylist()),
            )
        )  # fmt: skip
    if not parts:
        sys.exit(f"project {project!r} is not built in this FM_HOME: make demo")
    weak_, vectors_, votes, labels_, split = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Rows(weak_, vectors_, features(vectors_, votes, len(CLASSES)), labels_, split)


def measure(rows: Rows, chosen: npt.NDArray[np.int64], split: str) -> dict[str, float]:
    """Return F1 on a split after the chosen rows were labeled."""
    from sklearn.metrics import f1_score

    told = belief(rows.weak, rows.seen, chosen, rows.labels[chosen]).argmax(axis=1)
    held = rows.split == split
    gold, answers = rows.labels[held], told[held]
    return {
        "f1_weighted": float(f1_score(gold, answers, average="weighted")),
        "f1_macro": float(f1_score(gold, answers, average="macro")),
    }


def by_queue(rows: Rows, pool: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return the rows that the queue asks for, round after round."""
    chosen = np.zeros(0, np.int64)
    for _ in range(ROUNDS):
        now = belief(rows.weak[pool], rows.seen[pool], chosen, rows.labels[pool][chosen])
        apart = disagreement(now, rows.weak[pool])
        new, _ = choose(now, apart, rows.vectors[pool], BUDGET // ROUNDS, seed, chosen)
        chosen = np.concatenate([chosen, new])
    return pool[chosen]


def compare(rows: Rows, seed: int, split: str = "test") -> dict[str, Any]:
    """Return what both choices reach with one seed."""
    train = np.flatnonzero(rows.split == "train")
    pool = np.random.default_rng(seed).permutation(train)[:POOL]
    return {
        "seed": seed,
        "queue": measure(rows, by_queue(rows, pool, seed), split),
        "random": measure(rows, pool[:BUDGET], split),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.review_queue")
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--project", default="sentiment")
    given = parser.parse_args(arguments)
    rows = load(given.project)
    found = [compare(rows, seed) for seed in SEEDS[: 2 if given.quick else None]]
    wins = sum(one["queue"]["f1_weighted"] > one["random"]["f1_weighted"] for one in found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"answers": BUDGET, "rows": len(rows.labels), "seeds": found, "queue_wins": wins,
            "peak_memory_mib": round(peak)}  # fmt: skip
    if given.as_json:
        print(json.dumps(told, indent=1))
        return
    held = int((rows.split == "test").sum())
    print(f"{BUDGET} answers, pool of {POOL} rows, {held} gold test rows")
    print("seed  weighted F1: queue  random   macro F1: queue  random")
    for one in found:
        q, r = one["queue"], one["random"]
        print(f"{one['seed']:4}  {q['f1_weighted']:18.4f}  {r['f1_weighted']:6.4f}"
              f"  {q['f1_macro']:15.4f}  {r['f1_macro']:6.4f}")  # fmt: skip
    mean = {
        name: np.mean([one[name]["f1_weighted"] for one in found]) for name in ("queue", "random")
    }
    print(f"the queue is better with {wins} of {len(found)} seeds; peak {peak:.0f} MiB")
    print(f"mean weighted F1 {mean['queue']:.4f} against {mean['random']:.4f}")


if __name__ == "__main__":
    main()
