"""Duplicates, personal data and label noise: what is found, how surely, and how fast.

    python -m benchmarks.cleaning [--quick] [--json] [--only duplicates] [--base FOLDER]

Documents are made of the shipped sentences, so they overlap as real ones do. Beside our near
duplicates stand datasketch and rensa, all from the same texts to pairs. The truth is counted from
the plain definition of the similarity. Needs the packages of the extra `benchmarks`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.documents import PII_KINDS, Planted, plant, sentences, true_pairs, word_runs
from fm_platform.cleaning.clean import CleanedDay, clean_day
from fm_platform.cleaning.confident import _sharpened, judge
from fm_platform.cleaning.near import Inverted, near_earlier, near_known, near_pairs
from fm_platform.cleaning.near_rule import Twin, Twins
from fm_platform.cleaning.pii import find, suspects
from fm_platform.cleaning.shingles import shingles
from fm_platform.sources.ingest import text_key
from fm_platform.spec.cleaning import (
    ExactDuplicatesRule,
    LabelNoiseRule,
    NearDuplicatesRule,
    PiiRule,
)

SIMILARITY, NOISE = 0.7, 0.15


def timed(act: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what `act` gives, with processor and wall seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    found = act()
    return found, time.process_time() - processor, time.perf_counter() - wall


# --- near duplicates beside other libraries -------------------------------------------------


def throughput(texts: list[str], sample: int) -> dict[str, Any]:
    """Return documents a processor second, recall and precision of ours and of two others."""
    runs = [word_runs(text) for text in texts]
    truth = true_pairs(runs, SIMILARITY)
    some = true_pairs(runs[:sample], SIMILARITY)

    def ours() -> set[tuple[int, int]]:
        pairs = near_pairs(shingles(texts), SIMILARITY)
        return set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))

    few = texts[:sample]
    told = {"ours": _judged(ours, len(texts), truth)}
    told["datasketch"] = _judged(lambda: _datasketch(map(word_runs, few)), sample, some)
    told["rensa"] = _judged(lambda: _rensa(map(word_runs, few)), sample, some)
    ratio = told["ours"]["documents/s"] / told["datasketch"]["documents/s"]
    return {"true pairs": len(truth), "systems": told, "times datasketch": ratio}


def _judged(
    act: Callable[[], set[tuple[int, int]]], count: int, truth: set[tuple[int, int]]
) -> dict[str, float]:
    found, processor, wall = timed(act)
    right = len(found & truth)
    return {
        "documents": count,
        "processor s": processor,
        "wall s": wall,
        "documents/s": count / processor,
        "recall": right / max(len(truth), 1),
        "precision": right / max(len(found), 1),
    }


def _datasketch(runs: Iterable[set[str]]) -> set[tuple[int, int]]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=SIMILARITY, num_perm=128)
    found = set()
    for i, told in enumerate(runs):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([run.encode() for run in told])
        found |= {(j, i) for j in index.query(sketch)}
        index.insert(i, sketch)
    return found


def _rensa(runs: Iterable[set[str]]) -> set[tuple[int, int]]:
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=SIMILARITY, num_perm=128, num_bands=16)
    sketches = []
    found = set()
    for i, told in enumerate(runs):
        sketch = RMinHash(num_perm=128, seed=42)
        sketch.update(sorted(told))
        sketches.append(sketch)
        near = (j for j in index.query(sketch) if j != i)
        found |= {(j, i) for j in near if sketch.jaccard(sketches[j]) >= SIMILARITY}
        index.insert(i, sketch)
    return found


# --- what was planted is found --------------------------------------------------------------


def planted(documents: Planted) -> dict[str, Any]:
    """Clean all documents as one day, and tell how much of what was planted was found."""
    texts = documents.texts

    def clean() -> CleanedDay:
        near = near_earlier(shingles(texts), SIMILARITY)
        ids = [f"{i:032x}" for i in range(len(texts))]
        today = {
            ids[right]: Twin(ids[left], "today", False, alike)
            for left, right, alike in zip(near.left.tolist(), near.right.tolist(),
                                          near.similarity.tolist(), strict=True)
        }  # fmt: skip
        rows = pa.table(
            {
                "row_id": ids, "text": texts, "text_key": [text_key(text) for text in texts],
                **{name: ["-"] * len(texts) for name in ("day", "source", "split", "label")},
                "probabilities": pa.nulls(len(texts), pa.list_(pa.float32())),
                "confidence": pa.nulls(len(texts), pa.float32()),
            }
        )  # fmt: skip
        rules = (
            ExactDuplicatesRule(rule="exact_duplicates"),
            NearDuplicatesRule(rule="near_duplicates"),
            PiiRule(rule="pii"),
        )
        twins = Twins({}, today)
        batches = rows.to_batches()
        return clean_day(batches, rules, ("a", "b"), frozenset(), "-", known={1: twins})

    done, processor, wall = timed(clean)
    refused = done.quarantine[0].to_pylist()
    kept = sum(part.num_rows for part in done.kept)
    removed: dict[str, set[int]] = {"exact_duplicates": set(), "near_duplicates": set()}
    for row in refused:
        if row["removed"]:
            removed[row["rule"]].add(int(row["row_id"], 16))
    gone = removed["exact_duplicates"] | removed["near_duplicates"]
    # of a copy and its original, the later one goes
    exact = [max(pair) in removed["exact_duplicates"] for pair in documents.exact.items()]
    near = [max(pair) in gone for pair in documents.near.items()]
    copies = documents.exact | documents.near
    told = _personal(texts, documents)
    return {
        "documents": len(texts), "processor s": processor, "wall s": wall,
        "rows in": len(texts), "rows kept": kept, "rows removed": len(gone),
        "nothing lost": kept + len(gone) == len(texts),
        "exact recall": float(np.mean(exact)), "near recall": float(np.mean(near)),
        "removed and neither copy nor copied": len(gone - set(copies) - set(copies.values())),
        "personal": told,
    }  # fmt: skip


def _personal(texts: list[str], documents: Planted) -> dict[str, Any]:
    found, processor, _ = timed(
        lambda: {i: find(texts[i], PII_KINDS) for i in suspects(texts, PII_KINDS)}
    )
    told: dict[str, Any] = {"processor s": processor}
    hits = 0
    for kind in PII_KINDS:
        wanted = [item for item in documents.personal if item[1] == kind]
        whole = [
            any(f.start <= start and f.end >= end for f in found.get(i, ()))
            for i, _, start, end in wanted
        ]
        told[kind] = {"planted": len(wanted), "recall": float(np.mean(whole))}
        hits += sum(whole)
    places = {i: (start, end) for i, _, start, end in documents.personal}
    spans = [(i, f) for i, listed in found.items() for f in listed]
    right = sum(f.start < places[i][1] and f.end > places[i][0] for i, f in spans if i in places)
    told |= {"recall": hits / max(len(documents.personal), 1), "precision": right / len(spans)}
    return told


# --- over days ------------------------------------------------------------------------------


def days(texts: list[str], count: int, window: int) -> list[dict[str, float]]:
    """Return what looking a day up costs, day after day, with a window of days."""
    step = len(texts) // count
    known: list[Inverted] = []
    told = []
    for day in range(count):
        some = texts[day * step : (day + 1) * step]

        def look_up(some: list[str] = some) -> Inverted:
            documents = shingles(some)
            for index in known[-window:]:
                near_known(documents, index, SIMILARITY)
            return Inverted.of(documents)

        index, processor, _ = timed(look_up)
        known.append(index)
        told.append({"day": day + 1, "processor s": processor})
    return told


# --- label noise ----------------------------------------------------------------------------


def noise(cache: Path, rows: int, seeds: Sequence[int], base: str | None = None) -> dict[str, Any]:
    """Return the error of labels with 15 % planted noise, before and after correction.

    Beside ours stand what an accepted review adds, cleanlab, and what no method can do better on
    these embeddings: a head that was fitted to the right labels, and is told how often which class
    is mistaken.

    Args:
        cache: Where the corpora are.
        rows: Of each task, at most.
        seeds: Of the noise and the folds; those used while the method was made are not among them.
        base: Folder of the model whose frozen embeddings are looked at; the default one without it.
    """
    from fm_platform.spec.models import BaseModelSpec
    from fm_platform.training.base_model import resolve_base_model
    from fm_platform.training.embed import embed

    listed = sentences(cache)
    mixed = [listed[i] for i in np.random.default_rng(5).permutation(len(listed))]
    tweets = [row for row in mixed if row[2] == "tweets" and row[1] != "neutral"]
    tasks = {
        "which of four corpora": [(text, corpus) for text, _, corpus in mixed[:rows]],
        "tweets: negative or positive": [(text, label) for text, label, _ in tweets[:rows]],
        "all: negative, neutral, positive": [(text, label) for text, label, _ in mixed[:rows]],
    }
    texts = sorted({text for task in tasks.values() for text, _ in task})
    declared = BaseModelSpec() if base is None else BaseModelSpec(location=base)
    vectors = embed(resolve_base_model(declared, Path()), texts)
    place = {text: i for i, text in enumerate(texts)}
    told = {}
    for name, task in tasks.items():
        places = [place[text] for text, _ in task]
        told[name] = _task(vectors[places], np.array([label for _, label in task]), seeds)
    return told


def _task(vectors: Any, labels: Any, seeds: Sequence[int]) -> dict[str, float]:
    names, true = np.unique(labels, return_inverse=True)
    found = [_corrected(vectors, true, len(names), seed) for seed in seeds]
    told = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    shares = [one["error after"] / one["error before"] for one in found]
    return {
        "rows": len(true), **told,
        "share left": told["error after"] / told["error before"],
        "share left, worst seed": max(shares),
        "share left, reviews accepted": told["error after, reviews accepted"]
        / told["error before"],
        "share left, at best": told["error after, at best"] / told["error before"],
    }  # fmt: skip


def _corrected(vectors: Any, true: Any, classes: int, seed: int) -> dict[str, float]:
    """Return the errors of one draw of the noise."""
    from cleanlab.filter import find_label_issues

    rule = LabelNoiseRule(rule="label_noise")
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(true)) < NOISE
    given = np.where(wrong, (true + rng.integers(1, classes, len(true))) % classes, true)
    folds = rng.integers(0, 5, len(true))
    judged = judge(vectors, given, folds, classes)

    def error(believed: Any, least: float) -> float:
        sure = believed.max(axis=1) >= least
        return float((np.where(sure, believed.argmax(axis=1), given) != true).mean())

    once = judge(vectors, given, folds, classes, rounds=1).predicted
    issues = find_label_issues(given, once)
    mistaken = np.full((classes, classes), NOISE / (classes - 1))
    np.fill_diagonal(mistaken, 1 - NOISE)
    knowing = _sharpened(judge(vectors, true, folds, classes, rounds=1).predicted, mistaken, given)
    joint = knowing * mistaken[:, given].T
    return {
        "out-of-fold accuracy": float((judged.predicted.argmax(axis=1) == true).mean()),
        "out-of-fold accuracy, right labels": float((knowing.argmax(axis=1) == true).mean()),
        "error before": float((given != true).mean()),
        "error after": error(judged.probabilities, rule.minimum_probability),
        "error after, reviews accepted": error(judged.probabilities, rule.review_probability),
        "error after, cleanlab issues relabeled": float(
            (np.where(issues, once.argmax(axis=1), given) != true).mean()
        ),
        "error after, at best": error(joint / joint.sum(axis=1, keepdims=True), 0.0),
    }


def run(count: int, cache: Path, only: str | None, base: str | None = None) -> dict[str, Any]:
    """Return all numbers."""
    told: dict[str, Any] = {}
    if only in (None, "duplicates", "personal"):
        documents = plant(cache, count, seed=7)
        told["planted"] = planted(documents)
        if only != "personal":
            told["near duplicates"] = throughput(documents.texts, max(count // 5, 1))
            cost = days(documents.texts, 20, 5)
            late = [day["processor s"] for day in cost]
            told["over days"] = {
                "rows a day": count // 20, "window": 5,
                "days 6 to 10, processor s": float(np.mean(late[5:10])),
                "days 16 to 20, processor s": float(np.mean(late[15:20])),
            }  # fmt: skip
    if only in (None, "noise"):
        told["label noise"] = noise(cache, max(count // 20, 500), (11, 12, 13, 14, 15), base)
    told["peak memory MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return told


def text(told: dict[str, Any], indent: int = 0) -> str:
    """Return the numbers as lines."""
    lines = []
    for key, value in told.items():
        if isinstance(value, dict):
            lines += [" " * indent + key, text(value, indent + 2)]
        else:
            shown = f"{value:,.4f}" if isinstance(value, float) else str(value)
            lines.append(f"{' ' * indent}{key:<{40 - indent}} {shown}")
    return "\n".join(lines)


def main() -> None:
    """Print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 documents")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=("duplicates", "personal", "noise"))
    parser.add_argument("--base", help="folder of the model whose embeddings tell label noise")
    arguments = parser.parse_args()
    cache = Path(os.environ.get("FM_HOME", ".fm")) / "cache"
    count = 10_000 if arguments.quick else 100_000
    told = run(count, cache, arguments.only, arguments.base)
    print(json.dumps(told, indent=1) if arguments.json else text(told))


if __name__ == "__main__":
    main()
