"""Ways to learn from noisy labels: macro-F1 on gold test rows where more noise was planted.

    python -m benchmarks.noisy [--seeds 3] [--noise 0.2,0.4] [--rows 250] [--test 200]
                               [--project sentiment] [--quick] [--json]

Reads what `make demo` has built in FM_HOME; nothing there is changed. Of each source so many
cleaned train rows, with the weak labels that the shipped project trains on. Of a share of the rows
(train and dev alike) the probabilities are dealt to other classes at random, on top of the noise
that weak labels have anyway. One model of all sources is trained for each way, seed and share, and
judged by people's labels, which no training reads. What is planted is independent of how sure a
label is: confidence can tell only the noise that was there before. One thread; a training on all
rows takes about half a minute of processor time, one on a share less.
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

from benchmarks.quality import Rows, read
from benchmarks.training import macro_f1
from fm_platform.stages import tables
from fm_platform.stages.models import targets_of, training_days
from fm_platform.training.data import balanced_sample
from fm_platform.workspace import Workspace, find_project

WAYS: Mapping[str, Mapping[str, Any]] = {
    "soft": {},
    "generalised": {"loss": "generalised"},
    "confidence": {"weights": "confidence"},
    "subset 0.3, coverage": {"subset": 0.3},
    "subset 0.3, certainty": {"subset": 0.3, "subset_by": "certainty"},
    "subset 0.3, at random": {"rows": 0.3},
}


def noisy(rows: pa.Table, share: float, seed: int) -> pa.Table:
    """Return rows of which a share has the probabilities of its classes moved round.

    Each is moved by one to k - 1 classes, so that its most probable class is another one.
    """
    generator = np.random.default_rng([seed, 5])
    told = tables.matrix(rows["probabilities"])
    n, k = told.shape
    hit = generator.permutation(n)[: round(share * n)]
    moved = (np.arange(k) - generator.integers(1, k, size=len(hit))[:, None]) % k
    told = told.copy()
    told[hit] = np.take_along_axis(told[hit], moved, axis=1)
    at = rows.schema.get_field_index("probabilities")
    return rows.set_column(at, rows.schema.field(at), tables.lists(told, pa.float32()))


def few(rows: pa.Table, each: int, seed: int) -> pa.Table:
    """Return at most so many rows of each source."""
    generator = np.random.default_rng([seed, 6])
    kept = balanced_sample(rows["source"].to_pylist(), each, generator)
    return rows.take(pa.array(kept, pa.int64()))


class World:
    """Train, dev and test rows, and the base model."""

    def __init__(self, ws: Workspace, project: Any, rows: Rows, test: int) -> None:
        from fm_platform.training.base_model import resolve_base_model

        self.spec = project.spec
        self.base = resolve_base_model(self.spec.base_model, project.directory)
        days = training_days(ws, self.spec)
        self.train, self.dev = (targets_of(ws, self.spec, days, s) for s in ("train", "dev"))
        sources = rows.sources[rows.test].tolist()
        kept = balanced_sample(sources, test, np.random.default_rng(0))
        self.texts = rows.table["text"].take(pa.array(rows.test[kept])).to_pylist()
        self.truth = rows.test_labels[kept]

    def score(
        self, way: Mapping[str, Any], share: float, seed: int, each: int, folder: Path
    ) -> float:
        """Return macro-F1 on the gold test rows of a model trained that way."""
        from fm_platform.training.embed import embed
        from fm_platform.training.predict import load_adapter, predict_probabilities
        from fm_platform.training.variants import fit_start_as

        options = dict(way)
        size = round(each * options.pop("rows", 1.0))
        config = self.spec.training.model_copy(
            update={"seed": seed, "threads": 1, "start_rows_per_source": size, **options}
        )
        train = noisy(few(self.train, each, seed), share, seed)
        dev = noisy(few(self.dev, config.max_dev_rows // 2, seed), share, seed)
        texts = dict(zip(train["row_id"].to_pylist(), train["text"].to_pylist(), strict=True))

        def vectors(ids: Sequence[str]) -> Any:
            return embed(self.base, [texts[row] for row in ids], max_tokens=config.max_tokens)

        trained = fit_start_as(
            train, dev, self.base, config, self.spec.taxonomy.classes, folder, vectors=vectors
        )
        told = predict_probabilities(
            load_adapter(self.base, trained.directory), self.texts, max_tokens=config.max_tokens
        )
        return macro_f1(self.truth, told.argmax(axis=1))


def table(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return means, and standard deviations where there are several seeds, as text."""
    shares = list(next(iter(scores.values())))
    lines = [f"{'macro-F1, noise planted':26}" + "".join(f"{share:>14}" for share in shares)]
    for name, runs in scores.items():
        cells = [
            f"{np.mean(runs[share]):.3f}"
            + (f" ±{np.std(runs[share]):.3f}" if len(runs[share]) > 1 else "")
            for share in shares
        ]
        lines.append(f"{name:26}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", default="sentiment")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", default="0.2,0.4", help="shares of the rows")
    parser.add_argument("--rows", type=int, default=250, help="train rows of a source")
    parser.add_argument("--test", type=int, default=200, help="gold test rows of a source")
    parser.add_argument("--quick", action="store_true", help="one seed on a few rows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    begun = time.perf_counter()
    seeds, each, test = (1, 40, 30) if given.quick else (given.seeds, given.rows, given.test)
    ws, project = Workspace.open(), find_project(given.project)
    world = World(ws, project, read(ws, project), test)
    scores: dict[str, dict[str, list[float]]] = {name: {} for name in WAYS}
    for seed in range(seeds):
        for share in given.noise.split(","):
            for name, way in WAYS.items():
                with tempfile.TemporaryDirectory(prefix="fm-noisy-") as folder:
                    found = world.score(way, float(share), seed, each, Path(folder))
                scores[name].setdefault(share, []).append(found)
                print(f"  seed {seed}, noise {share}, {name}: {found:.3f}", file=sys.stderr)
    seconds = round(time.perf_counter() - begun, 1)
    if given.json:
        print(json.dumps({"macro_f1": scores, "seconds": seconds}, indent=1))
    else:
        print(table(scores))
        print(f"{seeds} seeds, {each} rows a source, {len(world.truth)} test rows, {seconds} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
