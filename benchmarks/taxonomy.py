"""A class is split: partial labels against dropping the old rows and keeping the old class.

    python -m benchmarks.taxonomy [--quick] [--json]

The shipped corpora; `positive` is split into `mild_positive` and `strong_positive` by the mean of
about twenty human ratings (strong from 2 of 4 on; the split was fixed before anything was
measured). Rows of before the split carry the old three classes, rows of after it the new four.
One classifier over the embeddings of a finished `make demo` (FM_HOME) is trained by the loss of
the product (`fm_platform.losses`) in every variant; macro-F1 over the four classes on test rows:

* partial: an old positive row is "mild or strong"; the loss sums over the two;
* drop: rows of before the split are left out;
* keep, as the larger part: old positive rows count as the part that is more frequent;
* keep, as a class of its own: a fifth class, whose probability is shared out by the parts' shares;
* drop positive: only the old rows of the class that was split are left out.
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

from fm_platform.losses import soft_cross_entropy
from fm_platform.spec.taxonomy import Taxonomy

STRONG_FROM = 2.0
TAXONOMY = Taxonomy.model_validate(
    {
        "version": 2,
        "classes": ["negative", "neutral", "mild_positive", "strong_positive"],
        "changes": [{"version": 2, "split": {"positive": ["mild_positive", "strong_positive"]}}],
    }
)
OLD_ROWS = 4_000
NEW_ROWS = (100, 300)
SEEDS = (0, 1, 2, 3, 4)
_STEPS, _RATE, _DECAY = 120, 0.05, 1e-3
VARIANTS = ("partial", "drop", "keep_larger", "keep_own", "drop_positive")


@dataclass(frozen=True)
class Rows:
    """Embeddings float32[n, d], class of today int64[n], old class name, split."""

    vectors: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    old: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]


def load(project: str) -> Rows:
    """Return every rated row of a project that is built in this FM_HOME."""
    from fm_platform.sources import corpora
    from fm_platform.sources.ingest import row_id
    from fm_platform.stages import tables
    from fm_platform.workspace import Workspace

    ws = Workspace.open()
    archive = str(corpora.fetch(ws.home.cache))
    mean: dict[str, float] = {}
    for source, name in corpora.FILES.items():
        for line in corpora._lines(corpora._member(archive, f"{name}_GroundTruth.txt")):
            cells = line.split("\t")
            mean[row_id(source, cells[0])] = float(cells[1])
    vectors, labels, old, split = [], [], [], []
    for raw in ws.ledger.all_latest(project, "raw"):
        embedded = ws.ledger.latest(project, "embeddings", "embeddings", raw.partition)
        if embedded is None:
            continue
        column = ws.columns.get(str(embedded.location["column"]))
        place = {row: i for i, row in enumerate(column["row_id"].to_pylist())}
        matrix = tables.matrix(column["embedding"])
        for row in tables.read(ws, raw, "raw", ["row_id", "split"]).to_pylist():
            rating = mean[row["row_id"]]
            name = corpora.gold_label(rating)
            fine = ("strong_" if rating >= STRONG_FROM else "mild_") if name == "positive" else ""
            vectors.append(matrix[place[row["row_id"]]])
            labels.append(TAXONOMY.classes.index(fine + name))
            old.append(name)
            split.append(row["split"])
    if not vectors:
        sys.exit(f"project {project!r} is not built in this FM_HOME: make demo")
    unit = np.stack(vectors)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    return Rows(unit, np.array(labels), np.array(old), np.array(split))


def train(
    x: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], cells: npt.NDArray[np.int64]
) -> Any:
    """Fit one linear layer with the loss of the product; full batches, so nothing is drawn."""
    import torch

    torch.manual_seed(0)
    layer = torch.nn.Linear(x.shape[1], targets.shape[1])
    optimizer = torch.optim.AdamW(layer.parameters(), lr=_RATE, weight_decay=_DECAY)
    rows, wanted = torch.from_numpy(x), torch.from_numpy(targets)
    together = torch.from_numpy(cells)
    for _ in range(_STEPS):
        loss = soft_cross_entropy(layer(rows), wanted, together).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layer


def targets_of(
    variant: str, rows: Rows, old: npt.NDArray[np.int64], new: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return which rows a variant trains on, their targets and their cells."""
    positive = rows.old[old] == "positive"
    k = len(TAXONOMY.classes)
    parts = [TAXONOMY.classes.index(name) for name in TAXONOMY.meaning("positive", 1) or ()]
    larger = max(parts, key=lambda part: int((rows.labels[new] == part).sum()))
    width = k + 1 if variant == "keep_own" else k
    if variant == "drop":
        old, positive = old[:0], positive[:0]
    elif variant == "drop_positive":
        old, positive = old[~positive], positive[~positive]
    stands_for = {"keep_own": k, "keep_larger": larger}.get(variant, parts[0])
    # of an old row that is positive nothing else is read than its old class
    classes = np.where(positive, stands_for, rows.labels[old])
    chosen = np.concatenate([old, new])
    targets = np.eye(width, dtype=np.float32)[np.concatenate([classes, rows.labels[new]])]
    cells = np.tile(np.arange(width), (len(chosen), 1))
    if variant == "partial":
        apart = np.flatnonzero(positive)
        cells[apart[:, None], parts] = parts[0]
    return chosen, targets, cells


def answers(
    variant: str, layer: Any, x: npt.NDArray[np.float32], shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return the class of today for each row."""
    import torch

    with torch.inference_mode():
        told = torch.softmax(layer(torch.from_numpy(x)), -1).double().numpy()
    k = len(TAXONOMY.classes)
    if variant == "keep_own":
        told = told[:, :k] + told[:, k:] * shares
    found: npt.NDArray[np.int64] = told.argmax(axis=1)
    return found


def compare(rows: Rows, new_rows: int, seed: int) -> dict[str, Any]:
    """Return macro-F1 of every variant with one seed."""
    from sklearn.metrics import f1_score

    order = np.random.default_rng(seed).permutation(np.flatnonzero(rows.split == "train"))
    old, new = order[:OLD_ROWS], order[OLD_ROWS : OLD_ROWS + new_rows]
    held = rows.split == "test"
    k = len(TAXONOMY.classes)
    count = np.bincount(rows.labels[new], minlength=k)[2:] + 1.0
    shares = np.concatenate([[0.0, 0.0], count / count.sum()])
    found: dict[str, Any] = {"seed": seed, "new_rows": new_rows}
    for variant in VARIANTS:
        chosen, targets, cells = targets_of(variant, rows, old, new)
        layer = train(rows.vectors[chosen], targets, cells)
        told = answers(variant, layer, rows.vectors[held], shares)
        found[variant] = float(f1_score(rows.labels[held], told, average="macro"))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.taxonomy")
    parser.add_argument("--quick", action="store_true", help="two seeds, one size")
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--project", default="sentiment")
    given = parser.parse_args(arguments)
    rows = load(given.project)
    sizes, seeds = (NEW_ROWS[1:2], SEEDS[:2]) if given.quick else (NEW_ROWS, SEEDS)
    found = [compare(rows, size, seed) for size in sizes for seed in seeds]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if given.as_json:
        print(json.dumps({"runs": found, "peak_memory_mib": round(peak)}, indent=1))
        return
    held = int((rows.split == "test").sum())
    print(f"macro-F1 on {held} test rows, {OLD_ROWS} rows of before the split; peak {peak:.0f} MiB")
    print("new rows  " + "  ".join(f"{variant:>13}" for variant in VARIANTS) + "  partial is best")
    for size in sizes:
        runs = [run for run in found if run["new_rows"] == size]
        means = [np.mean([run[variant] for run in runs]) for variant in VARIANTS]
        best = sum(run["partial"] >= max(run[v] for v in VARIANTS) for run in runs)
        shown = "  ".join(f"{mean:13.4f}" for mean in means)
        print(f"{size:8}  {shown}  {best} of {len(runs)} seeds")


if __name__ == "__main__":
    main()
