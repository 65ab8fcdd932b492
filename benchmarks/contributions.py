"""What a contribution of one entry in a hundred keeps of a fine-tuning, and what it weighs.

    python -m benchmarks.contributions [--share 0.01] [--rows 500] [--seed 0] [--folder WHERE]
                                       [--quick] [--json]

Reads what `make demo` has built in FM_HOME; nothing there is changed. All begin from the base with
a head fitted on its frozen states. Side by side: all weights fine-tuned (dense); a FISH mask of the
same share trained on the same rows, whose update is a contribution by itself; and the dense update
cut to the share afterwards, by each importance. Gains are over the beginning: support-weighted F1
on gold test rows (mean over sources), and log loss in nats of gold test and of weak dev rows. What
is trained and measured is kept in --folder: a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import f1, read
from fm_platform.fisher import diagonal_fisher
from fm_platform.merging.adapters import read_adapter
from fm_platform.merging.contribution import (
    IMPORTANCES,
    applied,
    contribution,
    read_contribution,
    write_contribution,
)
from fm_platform.numerics import reproducible
from fm_platform.stages.models import targets_of, training_days
from fm_platform.training.base_model import resolve_base_model
from fm_platform.training.data import balanced_sample, encode, padded, take
from fm_platform.training.methods import new_adapter, save_any
from fm_platform.training.predict import Classifier, predict_probabilities
from fm_platform.training.start import probe_head
from fm_platform.training.variants import train_expert_as
from fm_platform.workspace import Workspace, find_project

FISHER_ROWS = 256


class Measured:
    """One beginning, what was trained from it, and how well each answers."""

    def __init__(self, given: argparse.Namespace, root: Path) -> None:
        ws, project = Workspace.open(), find_project(given.project)
        self.spec, self.given, self.root = project.spec, given, root
        self.base = resolve_base_model(self.spec.base_model, project.directory)
        days, rows = training_days(ws, self.spec), read(ws, project)
        train, dev = (targets_of(ws, self.spec, days, split) for split in ("train", "dev"))
        sources = np.array(train["source"].to_pylist(), dtype=object)
        generator = np.random.default_rng([given.seed, 0])
        self.train = train.take(sorted(balanced_sample(sources, given.rows, generator)))
        self.dev = dev.take(np.random.default_rng(1).permutation(dev.num_rows)[: given.judged])
        every = -(-len(rows.test) // given.judged)
        self.texts = rows.table["text"].take(rows.test[::every]).to_pylist()
        self.truth, self.sources = rows.test_labels[::every], rows.sources[rows.test[::every]]
        self.model = self.base.new_classifier(self.spec.taxonomy.classes, given.seed)
        self.plain = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.scores = root / "scores.json"

    def settings(self, method: str) -> Any:
        """Return the declared training by another method, on all the rows."""
        changes = {"method": method, "seed": self.given.seed, "max_rows": self.train.num_rows}
        changes |= {"mask_share": self.given.share, "threads": self.given.threads}
        changes["epochs"] = self.given.epochs
        if method == "fish":  # fewer entries move, so each must move farther than a LoRA expert's
            declared = self.spec.training.learning_rate
            changes["expert_learning_rate"] = self.given.learning_rate or declared
        return self.spec.training.model_copy(update=changes)

    def begun(self) -> Path:
        """Return the folder of the beginning: the base with a fitted head."""
        folder, config = self.root / "begin", self.settings("full")
        if not folder.is_dir():
            classes, tokenizer = self.spec.taxonomy.classes, self.base.tokenizer()
            with reproducible(config.threads):
                model = new_adapter(self.base, config, classes, 1)
                rows = encode(tokenizer, self.train, config.max_tokens, classes)
                probe_head(model, rows, config, tokenizer.pad_token_id or 0)
                save_any(model, folder, self.base, classes)
        return folder

    def trained(self, method: str) -> Path:
        """Return the adapter folder of a training from the beginning."""
        done = self.root / f"{method}.done"
        if not done.is_file():
            said = train_expert_as(
                self.train, self.dev, self.base, self.begun(), self.settings(method),
                self.spec.taxonomy.classes, self.root / method,
            )  # fmt: skip
            _say(f"{method}: {json.dumps(said.metrics)}")
            done.write_text("")
        return self.root / method / "adapter"

    def state(self, folder: Path) -> dict[str, Any]:
        """Return the dense tensors of base + adapter."""
        return read_adapter(folder.parent.name, folder).alone(self.plain)

    def fisher(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the Fisher information on dev rows."""
        self.model.load_state_dict(state)
        tokenizer = self.base.tokenizer()
        rows = encode(tokenizer, self.dev, 128, self.spec.taxonomy.classes)

        def singly() -> Iterator[dict[str, Any]]:
            for tokens in take(rows, list(range(min(FISHER_ROWS, len(rows))))).tokens:
                ids, mask = padded([tokens], tokenizer.pad_token_id or 0)
                yield {"input_ids": ids, "attention_mask": mask}

        with reproducible(self.given.threads):
            return diagonal_fisher(self.model, singly(), dict(self.model.named_parameters()))

    def score(self, name: str, state: dict[str, Any]) -> dict[str, float]:
        """Return how well a model answers; measured once."""
        known = json.loads(self.scores.read_text()) if self.scores.is_file() else {}
        if name not in known:
            self.model.load_state_dict(state)
            asked = Classifier(self.model, self.base.tokenizer())
            told = predict_probabilities(asked, self.texts)
            weak = predict_probabilities(asked, self.dev["text"].to_pylist())
            targets = np.array(self.dev["probabilities"].to_pylist())
            right = told[np.arange(len(told)), self.truth]
            known[name] = {
                "F1": float(np.mean(f1(self.truth, told.argmax(axis=1), self.sources))),
                "gold log loss": float(-np.log(right + 1e-9).mean()),
                "weak log loss": float(-(targets * np.log(weak + 1e-9)).sum(axis=1).mean()),
            }
            self.scores.write_text(json.dumps(known, indent=1))
            _say(f"{name}: {known[name]}")
        return dict(known[name])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(given: argparse.Namespace, root: Path) -> dict[str, dict[str, float]]:
    """Return system -> gains over the beginning, shares of the dense gain, bytes."""
    from safetensors.torch import save

    world = Measured(given, root)
    begin = world.state(world.begun())
    first = world.score("begin", begin)
    dense = world.state(world.trained("full"))
    whole = len(save(dense))
    found = {"dense": {**_gains(first, world.score("dense", dense)), "bytes": whole}}
    tuned = {"mask, then trained": world.state(world.trained("fish"))}
    fisher = world.fisher(begin)
    for name in ("mask, then trained", *IMPORTANCES):
        made = contribution(
            begin, tuned.get(name, dense), given.share,
            "fisher_change" if name in tuned else name, fisher,
        )  # fmt: skip
        size = write_contribution(made, root / "contribution.safetensors")
        told = applied(begin, [read_contribution(root / "contribution.safetensors")])
        exact = all(bool((told.state[n] == tensor).all()) for n, tensor in dense.items())
        if name in tuned:
            exact = all(bool((told.state[n] == tensor).all()) for n, tensor in tuned[name].items())
        system = name if name in tuned else f"trained, then cut by {name}"
        found[system] = {**_gains(first, world.score(system, told.state)), "bytes": size}
        found[system] |= {"entries": told.entries, "exact": exact}
    for told_of in found.values():
        for name, gain in _gains(first, world.score("dense", dense)).items():
            told_of[f"share of {name}"] = told_of[name] / gain if gain else float("nan")
        told_of["share of bytes"] = told_of["bytes"] / whole
    return found


def _gains(first: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return how much better each number became."""
    return {f"{n} gain": (after[n] - first[n]) * (1 if n == "F1" else -1) for n in first}


def table(found: dict[str, dict[str, float]]) -> str:
    """Return a line for each system: gains with their share of the dense gain, and bytes."""
    names = ("F1", "gold log loss", "weak log loss")
    head = f"{'gain over the beginning':32}" + "".join(f"{name:>22}" for name in names)
    lines = [f"{head}{'bytes':>14}"]
    for system, told in found.items():
        cells = "".join(
            f"{told[f'{n} gain']:12.4f} ({told[f'share of {n} gain']:6.1%})" for n in names
        )
        lines.append(f"{system:32}{cells}{told['bytes']:14,} ({told['share of bytes']:.2%})")
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", default="sentiment")
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--rows", type=int, default=500, help="train rows of each source")
    parser.add_argument("--epochs", type=int, default=3, help="of each training at most")
    parser.add_argument("--judged", type=int, default=1000, help="test rows and dev rows asked")
    parser.add_argument(
        "--learning-rate", type=float, help="of the mask; else that declared of a start"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where what is trained is kept")
    parser.add_argument("--quick", action="store_true", help="a few rows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if given.quick:
        given.rows, given.judged = 40, 100
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fm-contributions-") as scratch:
        root = given.folder or Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        found = measure(given, root)
    facts = {
        "seconds": round(time.perf_counter() - begun, 1),
        "peak memory, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if given.json:
        print(json.dumps({"systems": found, **facts}, indent=1))
    else:
        print(table(found))
        print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
