"""A causal model that learns answers from a few pairs, is merged, and generates.

    python -m benchmarks.instructing --model FOLDER [--pairs 200] [--epochs 1] [--quick] [--json]

Real sentences of the shipped corpora with the class of their human rating, written as a question
and a short answer; LoRA on all linear layers, the loss of the answers alone. Printed: the loss of
held-out answers before and after, the share of them that is generated word for word, how far the
logits of base + adapter and of the merged model are apart, seconds and peak memory.

FOLDER holds a causal model as safetensors with its tokenizer, see `benchmarks.prompting`.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.home import Home
from fm_platform.sources import corpora
from fm_platform.spec.instruction import Instruction
from fm_platform.spec.models import BaseModelSpec, Merge
from fm_platform.spec.training import Training

SOURCES = ("tweets", "movies", "amazon")
ANSWERS = {"negative": "It is a complaint.", "positive": "It is praise.",
           "neutral": "It says neither good nor bad."}  # fmt: skip
ASKED = Instruction(template="{text}\nIs this praise or a complaint?\n", answer_tokens=12)


def rows_of(archive: Path, count: int, seed: int) -> pa.Table:
    """Return `count` pairs, the sources in their own shares."""
    rows = [
        {"row_id": f"{source}-{row[0]}", "source": source, "text": row[1],
         "answer": ANSWERS[row[2]]}
        for source in SOURCES
        for row in corpora._corpus(str(archive), source)
    ]  # fmt: skip
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    return pa.Table.from_pylist([rows[i] for i in order])


def measured(folder: Path, archive: Path, pairs: int, tests: int, epochs: int) -> dict[str, Any]:
    """Train, merge, ask; return the figures."""
    import torch

    from fm_platform.merging.causal import merge_causal
    from fm_platform.training.answering import generate, losses_of, same_answer
    from fm_platform.training.base_model import resolve_base_model
    from fm_platform.training.instruct import (
        Dialogue,
        causal_base,
        encode_pairs,
        load_answering,
        load_causal_peft,
        train_answers,
    )

    base = causal_base(resolve_base_model(BaseModelSpec(location=str(folder.resolve())), folder))
    dialogue = Dialogue.of(base.tokenizer(), ASKED)
    table = rows_of(archive, pairs + tests, 0)
    test = table.slice(pairs)
    learned, held = (encode_pairs(dialogue, part, 128)[0] for part in (table.slice(0, pairs), test))
    config = Training(
        expert_learning_rate=5e-4, epochs=epochs, max_tokens=128, batch_tokens=512, threads=1,
        evaluations_per_epoch=1,
    )  # fmt: skip
    found: dict[str, Any] = {"pairs": len(learned), "test_pairs": len(held)}
    found["loss_before"] = float(losses_of(base.new_classifier((), 0), held).mean())
    with tempfile.TemporaryDirectory(prefix="fm-instructing-") as name:
        began, cpu = time.perf_counter(), time.process_time()
        none = encode_pairs(dialogue, test.slice(0, 0), 128)[0]
        done = train_answers(learned, none, base, dialogue, config, Path(name) / "work")
        found["train_seconds"] = time.perf_counter() - began
        found["train_cpu_seconds"] = time.process_time() - cpu
        losses = [point["train_loss"] for point in done.history if "train_loss" in point]
        found["train_loss_first"], found["train_loss_last"] = losses[0], float(np.mean(losses[-5:]))
        merged = merge_causal(
            base, {"all": done.directory}, Merge(), Path(name) / "model", threads=1
        )
        dialogue.save(merged.directory)
        answering = load_answering(merged.directory)
        ids = torch.tensor([held.tokens[0]])
        with torch.inference_mode():
            ours = answering.model(input_ids=ids).logits
            theirs = load_causal_peft(base, done.directory)(input_ids=ids).logits
        found["logits_apart"] = float((ours - theirs).abs().max())
        found["largest_logit"] = float(theirs.abs().max())
        found["loss_after"] = float(losses_of(answering.model, held).mean())
        told = generate(answering, test.to_pylist())
        wanted = test["answer"].to_pylist()
        right = [same_answer(*both) for both in zip(told, wanted, strict=True)]
        found["word_for_word"] = float(np.mean(right))
        found["most_common_answer"] = max(wanted.count(a) for a in ANSWERS.values()) / len(wanted)
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a causal model")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--test", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="20 pairs, 6 tests")
    parser.add_argument("--home", type=Path, help="where the corpora are cached")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    archive = corpora.fetch(Home(asked.home or Path(".fm")).cache)
    pairs, tests = (20, 6) if asked.quick else (asked.pairs, asked.test)
    found = measured(asked.model, archive, pairs, tests, asked.epochs)
    if asked.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(f"{name:<20} {value:12.4f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
