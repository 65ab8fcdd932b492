"""What the choice of the base model loses against training all candidates: top-1 regret.

    python -m benchmarks.choosing_base [--real] [--rows 400] [--tasks 6] [--seed 0] [--json]

Each task has several bases. All are trained and judged on test rows, which is the truth; then a
probe chooses one without that. Regret is the accuracy of the best less that of the chosen one, in
points. Planted tasks: tiny bases that know more or fewer of the words that tell the classes, with
labels of which some are wrong. With --real: the four shipped corpora with the labels of people,
and bases made of the shipped one: whole, its lower three layers, its lowest one, with noise on its
weights, and with fresh weights; some minutes a corpus on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.home import Home
from fm_platform.sources import corpora
from fm_platform.spec.models import BaseModelSpec, DeclaredBase
from fm_platform.spec.training import Training
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.choose_base import Candidate, choose_base
from fm_platform.training.loading import quiet
from tests.support.tiny_model import CLASSES, build_knowing_base, tiny_config, tiny_rows

SOURCES = ("tweets", "movies", "amazon", "nyt")
PROBES = ("separability", "logme", "short_run")
REAL = Training(max_tokens=64, start_rows_per_source=1, rank=8)


@dataclass(frozen=True)
class Task:
    """Rows to train on, to choose by and to judge by, and the bases."""

    name: str
    train: pa.Table
    dev: pa.Table
    test: pa.Table
    bases: dict[str, BaseModel]
    config: Training


def planted(folder: Path, count: int, rows: int, seed: int) -> Iterator[Task]:
    """Yield tasks with tiny bases."""
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        bases = {}
        for known in generator.permutation(6)[:4].tolist():
            name = f"{number}-knows-{known}"
            build_knowing_base(folder / name, known, seed=int(generator.integers(1000)))
            bases[name] = resolve_base_model(BaseModelSpec(location=name), folder)
        parts = [
            tiny_rows(n, 10 * number + i, split=split)
            for i, (n, split) in enumerate(((rows, "train"), (rows // 2, "dev"), (600, "test")))
        ]
        noisy = [*(mislabeled(part, 0.1, generator) for part in parts[:2]), parts[2]]
        yield Task(f"planted {number}", *noisy, bases, tiny_config(epochs=3))


def mislabeled(rows: pa.Table, share: float, generator: np.random.Generator) -> pa.Table:
    """Return rows of which a share has the probabilities of another class."""
    told = np.array(rows["probabilities"].to_pylist(), np.float32)
    wrong = generator.random(len(told)) < share
    told[wrong] = np.roll(told[wrong], 1, axis=1)
    at = rows.schema.get_field_index("probabilities")
    return rows.set_column(at, "probabilities", pa.array(told.tolist(), pa.list_(pa.float32())))


def real(folder: Path, archive: Path, rows: int, seed: int) -> Iterator[Task]:
    """Yield the shipped corpora with bases made of the shipped one."""
    bases = {
        name: resolve_base_model(BaseModelSpec(location=name), folder)
        for name in made_of_shipped(folder, seed)
    }
    for source in SOURCES:
        told = corpora._corpus(str(archive), source)
        order = np.random.default_rng(seed).permutation(len(told))
        table = pa.Table.from_pylist(
            [
                {
                    "row_id": str(told[i][0]), "text": told[i][1], "source": source,
                    "probabilities": [float(told[i][2] == name) for name in CLASSES],
                }
                for i in order
            ]
        )  # fmt: skip
        dev = table.slice(rows, 200)
        yield Task(source, table.slice(0, rows), dev, table.slice(rows + 200, 600), bases, REAL)


def made_of_shipped(folder: Path, seed: int) -> list[str]:
    """Write bases made of the shipped one, and return their names."""
    import torch
    from transformers import AutoModel

    quiet()
    shipped = resolve_base_model(BaseModelSpec(), folder)

    def of_layers(count: int) -> Callable[[Any], None]:
        def cut(model: Any) -> None:
            model.encoder.layer = model.encoder.layer[:count]
            model.config.num_hidden_layers = count

        return cut

    def noise(model: Any) -> None:
        for weights in model.parameters():
            weights.data += 0.5 * weights.std(unbiased=False) * torch.randn_like(weights)

    ways: dict[str, Callable[[Any], None]] = {
        "whole": lambda _model: None, "three-layers": of_layers(3), "one-layer": of_layers(1),
        "noise": noise, "fresh": lambda model: model.apply(model._init_weights),
    }  # fmt: skip
    for name, change in ways.items():
        model = AutoModel.from_pretrained(str(shipped.directory), local_files_only=True)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            if name == "fresh":
                model = AutoModel.from_config(model.config)
            else:
                change(model)
        model.save_pretrained(str(folder / name))
        for file in shipped.tokenizer_files():
            shutil.copy(file, folder / name)
    return list(ways)


def measure(task: Task, folder: Path) -> dict[str, Any]:
    """Return the accuracy of each base, what each probe chose, its regret and its seconds."""
    from fm_platform.training.auto import short_training

    brief = task.config.model_copy(update={
        "max_dev_rows": task.test.num_rows,
        "auto": task.config.auto.model_copy(
            update={"rows_per_source": task.train.num_rows, "epochs": task.config.epochs}),
    })  # fmt: skip
    began, accuracy = time.perf_counter(), {}
    for name, base in task.bases.items():
        own = folder / f"truth-{name}"
        found = short_training(task.train, task.test, base, brief, CLASSES, own)
        accuracy[name] = round(found[1], 4)
    told: dict[str, Any] = {"task": task.name, "accuracy": accuracy, "regret": {}, "seconds": {}}
    told["seconds"]["all trained"] = round(time.perf_counter() - began, 1)
    for probe in ("separability", "short_run"):
        began = time.perf_counter()
        declared = DeclaredBase.model_validate({
            "candidates": [{"location": name} for name in task.bases], "probe": probe,
            "rows_per_source": task.train.num_rows // 2, "epochs": task.config.epochs,
        })  # fmt: skip
        candidates = [Candidate(name, base) for name, base in task.bases.items()]
        chosen = choose_base(
            task.train, task.dev, candidates, declared, task.config, CLASSES, {}, folder / probe
        )
        told["seconds"][probe] = round(time.perf_counter() - began, 1)
        picked = {probe: chosen.label}
        if probe == "separability":
            picked["logme"] = max(chosen.trials, key=lambda row: float(row["logme"]))["candidate"]
        for way, label in picked.items():
            told["regret"][way] = round(100 * (max(accuracy.values()) - accuracy[label]), 2)
    return told


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return one line a task, and the mean and greatest regret of each probe."""
    lines = [f"{'task':12}" + "".join(f"{way:>14}" for way in PROBES) + "  accuracy of all"]
    for one in results:
        cells = "".join(f"{one['regret'][way]:14.2f}" for way in PROBES)
        told = ", ".join(f"{name} {value:.3f}" for name, value in one["accuracy"].items())
        lines.append(f"{one['task']:12}{cells}  {told}")
    for name, how in (("mean", np.mean), ("greatest", np.max)):
        cells = "".join(f"{how([r['regret'][way] for r in results]):14.2f}" for way in PROBES)
        lines.append(f"{name:12}{cells}")
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--tasks", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="fm-choosing-") as name:
        folder = Path(name)
        tasks = (
            real(folder, corpora.fetch(Home.from_environment().cache), asked.rows, asked.seed)
            if asked.real
            else planted(folder, asked.tasks, asked.rows, asked.seed)
        )
        for task in tasks:
            results.append(measure(task, folder / f"work-{len(results)}"))
            print(json.dumps(results[-1]) if asked.json else table(results[-1:]), flush=True)
    if not asked.json:
        print("\n" + table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
