"""Ways to adapt one base model to one task: processor time against macro-F1.

    python -m benchmarks.training [--quick] [--json] [--rows 4000] [--test 2000] [--seeds 3]
                                  [--frozen 4] [--home FM_HOME]

Real sentences of three of the shipped corpora with the class of their human rating, one thread,
one process, everything side by side: `transformers.Trainer` with PEFT padded to the maximum and
to the longest of a batch; the platform's loop (LoRA, full fine-tuning); the same above frozen
layers, the states of the texts made first or known from before; the head alone on frozen
features; and a retrain when a tenth of new texts has come. Rank, alpha, layers, epochs, batch
rows, weight decay, schedule and clipping are equal; full fine-tuning has a rate of its own, as
it must. Padding to the maximum is timed on a few batches and multiplied: masked padding changes
no answer, so its macro-F1 is that of the row below it.

The share of the machine is the arithmetic that the training needs (forward 2 operations a weight
and token, again as much for the gradient of what lies below, and again for that of a weight that
is trained) over time, against a product of matrices of the model's own shapes timed here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.home import Home
from fm_platform.numerics import reproducible
from fm_platform.sources import corpora
from fm_platform.spec.models import BaseModelSpec
from fm_platform.spec.training import Training
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.data import Encoded, encode, take

CLASSES = ("negative", "neutral", "positive")
SOURCES = ("tweets", "movies", "amazon")
MAX_TOKENS = 128
PADDED_BATCHES = 6
States = dict[bytes, Any]


def data(archive: Path, count: int, seed: int) -> pa.Table:
    """Return `count` rows, the sources in their own shares, with the class as a sure target."""
    rows = [
        (f"{source}-{row[0]}", row[1], source, CLASSES.index(row[2]))
        for source in SOURCES
        for row in corpora._corpus(str(archive), source)
    ]
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    ids, texts, sources, labels = zip(*(rows[i] for i in order), strict=True)
    return pa.table(
        {
            "row_id": list(ids), "text": list(texts), "source": list(sources),
            "probabilities": pa.array(np.eye(3, dtype=np.float32)[list(labels)].tolist(),
                                      pa.list_(pa.float32())),
        }
    )  # fmt: skip


def settings(seed: int, **changes: Any) -> Training:
    """Return the hyper-parameters that all share."""
    return Training.model_validate(
        {"threads": 1, "probe_epochs": 0, "max_tokens": MAX_TOKENS, "seed": seed,
         "patience": 1000, "evaluations_per_epoch": 1} | changes
    )  # fmt: skip


def with_trainer(
    base: BaseModel, rows: Encoded, config: Training, folder: Path, *, padded: bool
) -> tuple[Any, float]:
    """Train as most people do; return (model, seconds for one epoch)."""
    import torch
    import transformers

    from fm_platform.training.methods import new_adapter

    transformers.logging.set_verbosity_error()
    model = new_adapter(base, config, CLASSES, 1)
    size = max(1, round(config.batch_tokens / np.mean([len(t) for t in rows.tokens])))
    steps = -(-len(rows) // size)
    timed = min(PADDED_BATCHES, steps) if padded else steps

    def collate(batch: list[int]) -> dict[str, Any]:
        longest = MAX_TOKENS if padded else max(len(rows.tokens[i]) for i in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for at, i in enumerate(batch):
            ids[at, : len(rows.tokens[i])] = torch.tensor(rows.tokens[i])
            mask[at, : len(rows.tokens[i])] = 1
        labels = torch.tensor([int(rows.targets[i].argmax()) for i in batch])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    arguments = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=size, num_train_epochs=1,
        max_steps=timed if padded else -1, learning_rate=config.learning_rate,
        warmup_steps=max(1, round(steps * config.warmup_share)),
        weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm,
        seed=config.seed, report_to=[], save_strategy="no", logging_strategy="no",
        disable_tqdm=True, use_cpu=True, remove_unused_columns=False,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model, args=arguments, data_collator=collate, train_dataset=list(range(len(rows)))
    )
    before = time.process_time()
    trainer.train()
    return model.eval(), (time.process_time() - before) * steps / timed


def with_platform(
    base: BaseModel,
    rows: Encoded,
    config: Training,
    folder: Path,
    states: States | None = None,
    parent: Path | None = None,
) -> tuple[Any, float, Path]:
    """Train with the platform's loop; return (model, seconds, its adapter)."""
    from fm_platform.training import variants
    from fm_platform.training.methods import load_trainable, new_adapter, save_any

    before = time.process_time()
    model = (
        new_adapter(base, config, CLASSES, 1)
        if parent is None
        else load_trainable(base, parent, config, CLASSES)
    )
    nothing = take(rows, [])
    with variants._above(model, config, states):
        loop = variants.run_loop(
            model, rows, nothing, config, folder, config.rate(start=parent is None), 0, None
        )
    save_any(model, folder / "adapter", base, CLASSES)
    return loop.model.eval(), time.process_time() - before, folder / "adapter"


def states_of(base: BaseModel, rows: Encoded, frozen: int) -> tuple[States, float]:
    """Return the states of the texts and the seconds they took."""
    from fm_platform.training.prefix import key_of, prefix_states

    before = time.process_time()
    found = {key_of(rows.tokens[i]): s for i, s in prefix_states(base, frozen, rows.tokens)}
    return found, time.process_time() - before


def linear_probe(base: BaseModel, train: pa.Table, test: pa.Table) -> tuple[Any, float]:
    """Fit a logistic regression on mean embeddings; return (predicted classes, seconds)."""
    from sklearn.linear_model import LogisticRegression

    from fm_platform.training.embed import embed

    truth = [row.index(max(row)) for row in train["probabilities"].to_pylist()]
    before = time.process_time()
    features = embed(base, train["text"].to_pylist(), max_tokens=MAX_TOKENS)
    model = LogisticRegression(max_iter=1000).fit(features, truth)
    seconds = time.process_time() - before
    return model.predict(embed(base, test["text"].to_pylist(), max_tokens=MAX_TOKENS)), seconds


def macro_f1(truth: np.ndarray, told: np.ndarray) -> float:
    """Return the mean F1 of the classes."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, told, average="macro"))


def operations(base: BaseModel, tokens: int, frozen: int, method: str) -> float:
    """Return the arithmetic of one epoch over `tokens` text tokens, in operations."""
    settings = json.loads((base.directory / "config.json").read_text("utf-8"))
    width, inner = settings["hidden_size"], settings["intermediate_size"]
    weights = 4 * width * width + 2 * width * inner
    passes = 3 if method == "full" else 2
    return 2.0 * weights * (settings["num_hidden_layers"] - frozen) * tokens * passes


def matmul_rate(width: int = 384, inner: int = 1536, rows: int = 1024) -> float:
    """Return operations a second of a product of the model's own shapes, one thread."""
    import torch

    left, right = torch.rand(rows, width), torch.rand(width, inner)
    out = torch.empty(rows, inner)
    for _ in range(5):
        torch.mm(left, right, out=out)
    before, count = time.process_time(), 0
    while time.process_time() - before < 1.0:
        torch.mm(left, right, out=out)
        count += 1
    return count * 2.0 * rows * width * inner / (time.process_time() - before)


def measured(
    base: BaseModel, archive: Path, seed: int, rows: int, tests: int, frozen: int
) -> dict[str, Any]:
    """Return the records of one seed."""
    from fm_platform.training.predict import Classifier, predict_probabilities

    table = data(archive, rows + rows // 10 + tests, seed)
    train, new = table.slice(0, rows), table.slice(rows, rows // 10)
    test = table.slice(rows + rows // 10)
    truth = np.array([row.index(max(row)) for row in test["probabilities"].to_pylist()])
    tokenizer, texts = base.tokenizer(), test["text"].to_pylist()
    known, fresh = (encode(tokenizer, part, MAX_TOKENS, CLASSES) for part in (train, new))
    both = encode(tokenizer, table.slice(0, rows + rows // 10), MAX_TOKENS, CLASSES)
    tokens = sum(map(len, known.tokens))
    records: list[dict[str, Any]] = []

    def note(name: str, seconds: float, model: Any, share_of: float | None = None) -> None:
        told = model if isinstance(model, np.ndarray) else None
        if model is not None and told is None:
            answers = predict_probabilities(Classifier(model, tokenizer), texts)
            told = answers.argmax(axis=1)
        score = None if told is None else macro_f1(truth, told)
        rate = None if share_of is None else share_of / seconds
        records.append({"way": name, "seconds": seconds, "macro_f1": score, "rate": rate})

    work = tempfile.TemporaryDirectory()
    with work as name, reproducible(1):
        folder = Path(name)
        lora, full = settings(seed), settings(seed, method="full")
        above = settings(seed, frozen_layers=frozen)
        _, seconds = with_trainer(base, known, lora, folder / "a", padded=True)
        note("Trainer + PEFT, padded to the maximum", seconds, None)
        model, seconds = with_trainer(base, known, lora, folder / "b", padded=False)
        note("Trainer + PEFT, padded to the batch", seconds, model)
        model, seconds, _ = with_platform(base, known, lora, folder / "c")
        note("LoRA", seconds, model, operations(base, tokens, 0, "lora"))
        model, seconds, _ = with_platform(base, known, full, folder / "d")
        note("full fine-tuning", seconds, model, operations(base, tokens, 0, "full"))
        states, making = states_of(base, known, frozen)
        model, seconds, parent = with_platform(base, known, above, folder / "e", states)
        note(f"LoRA above {frozen} frozen layers, states made", making + seconds, model)
        note("  the same, states known", seconds, model,
             operations(base, tokens, frozen, "lora"))  # fmt: skip
        more, making = states_of(base, fresh, frozen)
        states |= more
        model, seconds, _ = with_platform(base, both, above, folder / "f", states)
        note("retrain with 10 % new texts: on all", making + seconds, model)
        old = np.random.default_rng(seed).permutation(rows)[: len(fresh)].tolist()
        replay = take(both, [*old, *range(rows, rows + len(fresh))])
        model, seconds, _ = with_platform(base, replay, above, folder / "g", states, parent)
        note("  going on: the new, and as many old", making + seconds, model)
        told, seconds = linear_probe(base, train, test)
        note("linear probe on frozen features", seconds, told)
    return {"seed": seed, "tokens": tokens, "matmul": matmul_rate(), "records": records}


def table_of(results: list[dict[str, Any]]) -> str:
    """Return the means over the seeds, with ratios to the two trainings with Trainer."""
    ways = [record["way"] for record in results[0]["records"]]
    ceiling = float(np.mean([r["matmul"] for r in results]))
    lines = [
        f"{len(results)} seeds, {results[0]['tokens']:,} tokens; one thread multiplies at "
        f"{ceiling / 1e9:.0f} GFLOP/s",
        f"{'':<42} {'cpu s':>7} {'padded':>7} {'batch':>7} {'macro-F1':>9} {'of mm':>6}",
    ]
    means = {
        way: float(np.mean([r["records"][i]["seconds"] for r in results]))
        for i, way in enumerate(ways)
    }
    for i, way in enumerate(ways):
        own = [r["records"][i] for r in results]
        scores = [o["macro_f1"] for o in own if o["macro_f1"] is not None]
        rates = [o["rate"] for o in own if o["rate"] is not None]
        lines.append(
            f"{way:<42} {means[way]:7.1f} {means[ways[0]] / means[way]:6.1f}x"
            f" {means[ways[1]] / means[way]:6.1f}x"
            f" {np.mean(scores) if scores else float('nan'):9.3f}"
            + (f" {100 * np.mean(rates) / ceiling:5.0f}%" if rates else "")
        )
    return "\n".join(lines)


def run(
    base: BaseModel, archive: Path, seeds: int, rows: int, tests: int, frozen: int,
    tell: Callable[[str], None] = lambda _text: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the results of each seed."""
    found = []
    for seed in range(seeds):
        tell(f"seed {seed + 1} of {seeds}")
        found.append(measured(base, archive, seed, rows, tests, frozen))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 rows, one seed")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frozen", type=int, default=4)
    parser.add_argument("--home", type=Path, help="where the corpora are cached")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    archive = corpora.fetch(Home(asked.home or Path(".fm")).cache)
    base = resolve_base_model(BaseModelSpec(), Path.cwd())
    rows, tests, seeds = (
        (300, 300, 1) if asked.quick else (asked.rows, asked.test, asked.seeds)
    )  # fmt: skip
    results = run(base, archive, seeds, rows, tests, asked.frozen)
    print(json.dumps(results, indent=1) if asked.json else table_of(results))


if __name__ == "__main__":
    main()
