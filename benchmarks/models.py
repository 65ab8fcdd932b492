"""What thirty daily rank-8 adapters and their merged models cost on the disk, and in time.

    python -m benchmarks.models [--quick] [--json]

The shapes are those of the shipped base model (22.7 M parameters); four experts are trained and
merged a day. Beside our store stand what one would have without it: a folder for each model, and
a store that keeps each file once (as DVC and Git LFS do).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from fm_platform.store.models import ModelStore

WIDTH, INNER, LAYERS, WORDS, POSITIONS = 384, 1536, 6, 30_522, 512
RANK, EXPERTS = 8, 4
Tensors = dict[str, Any]


def base_model(layers: int, words: int) -> Tensors:
    """Return random weights of a BERT with these many layers and words."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32) * np.float32(0.02)

    found = {
        "embeddings.word": draw(words, WIDTH),
        "embeddings.position": draw(POSITIONS, WIDTH),
        "embeddings.norm": draw(WIDTH),
    }
    for layer in range(layers):
        for name, shape in linears().items():
            found[f"layer.{layer}.{name}.weight"] = draw(*shape)
            found[f"layer.{layer}.{name}.bias"] = draw(shape[0])
        found[f"layer.{layer}.norm.weight"] = draw(WIDTH)
    return found


def linears() -> dict[str, tuple[int, int]]:
    """Return the linear maps of one layer: name -> (out, in)."""
    square = dict.fromkeys(("query", "key", "value", "output"), (WIDTH, WIDTH))
    return {**square, "up": (INNER, WIDTH), "down": (WIDTH, INNER)}


def adapter(base: Tensors, day: int, expert: int) -> Tensors:
    """Return one day's LoRA matrices and head of one expert."""
    rng = np.random.default_rng([day, expert])
    found: Tensors = {"head": rng.standard_normal((3, WIDTH), np.float32)}
    for name, weight in base.items():
        if name.endswith(".weight") and weight.ndim == 2:
            out, inner = weight.shape
            found[f"{name}.lora_A"] = rng.standard_normal((RANK, inner), np.float32) * 0.01
            found[f"{name}.lora_B"] = rng.standard_normal((out, RANK), np.float32) * 0.01
    return found


def merged(base: Tensors, adapters: list[Tensors]) -> Tensors:
    """Return base + mean of the adapters."""
    found = dict(base)
    for name in base:
        if f"{name}.lora_A" in adapters[0]:
            deltas = [a[f"{name}.lora_B"] @ a[f"{name}.lora_A"] for a in adapters]
            found[name] = (base[name] + sum(deltas) / len(deltas)).astype(np.float32)
    found["head"] = np.mean([a["head"] for a in adapters], axis=0).astype(np.float32)
    return found


def stage(folder: Path, tensors: Tensors, card: str) -> Path:
    """Write a model folder as a stage hands it to the store."""
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("x" * 466_247)
    (folder / "README.md").write_text(card)
    return folder


def run(days: int, layers: int, words: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Publish every day's models, and open them again; return the numbers."""
    base = base_model(layers, words)
    seconds: dict[str, list[float]] = {"publish": [], "checkout": [], "verify": []}
    whole, by_file, last = 0, {}, []
    with tempfile.TemporaryDirectory(prefix="fm-models-") as name:
        root = Path(name)
        store = ModelStore(root / "models", root / "key")
        for day in range(days):
            adapters = [adapter(base, day, expert) for expert in range(EXPERTS)]
            models = [*adapters, merged(base, adapters)]
            last = []
            for number, tensors in enumerate(models):
                folder = stage(root / "staged", tensors, f"day {day}, model {number}")
                begun = time.perf_counter()
                ref = store.publish(folder, {"day": str(day)})
                seconds["publish"] += [time.perf_counter() - begun] if number == EXPERTS else []
                whole += ref.bytes
                by_file.update({file.sha256: file.bytes for file in ref.files})
                last.append(ref.content_hash)
            tell(f"day {day + 1} of {days}")
        store.checkouts.clear()
        for content_hash in last:
            store.checkouts.drop(content_hash)
            for what, act in (("checkout", store.open), ("verify", store.verify)):
                begun = time.perf_counter()
                act(content_hash)
                taken = time.perf_counter() - begun
                seconds[what] += [taken] if content_hash == last[-1] else []
        shutil.rmtree(store.checkouts.folder)
        kept = sum(path.stat().st_size for path in store.root.rglob("*") if path.is_file())
        sizes = {
            "one merged model": store.ref(last[-1]).bytes,
            "one adapter": store.ref(last[0]).bytes,
        }
    return {
        "days": days,
        "experts": EXPERTS,
        **{f"{key}, bytes": value for key, value in sizes.items()},
        "folders, bytes": whole,
        "each file once, bytes": sum(by_file.values()),
        "each tensor once, bytes": kept,
        "share of folders": kept / whole,
        "share of files": kept / sum(by_file.values()),
        **{f"{key} of a merged model, s": statistics.median(v) for key, v in seconds.items()},
    }


def table(told: dict[str, Any]) -> str:
    """Return the numbers as text."""
    lines = []
    for key, value in told.items():
        if key.endswith("bytes"):
            lines.append(f"{key.removesuffix(', bytes'):34} {value / 1e6:10.1f} MB")
        else:
            lines.append(f"{key:34} {value:10.3f}" if isinstance(value, float) else
                         f"{key:34} {value:10d}")  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 days of a smaller model")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    days, layers, words = (5, 2, 2_000) if given.quick else (30, LAYERS, WORDS)
    told = run(days, layers, words, lambda text: print(text, file=sys.stderr))
    print(json.dumps(told, indent=1) if given.json else table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
