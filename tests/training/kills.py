"""A process that trains in forked children and kills them; run by test_kill.py.

The heavy imports happen once; a child costs milliseconds. One thread only: a fork keeps no pool.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import BertForSequenceClassification

from fm_platform.hashing import sha256_file
from fm_platform.spec.models import BaseModelSpec
from fm_platform.training.base_model import resolve_base_model
from fm_platform.training.loop import StepInfo
from fm_platform.training.train import train_expert
from fm_platform.training.variants import train_expert_as
from tests.support.tiny_model import CLASSES, tiny_config, tiny_rows

_PRELOADED = (PeftModel, BertForSequenceClassification, np, torch)


def child(folder: Path, start: Path, workdir: Path, pipe: int, declared: dict[str, Any]) -> None:
    """Train to the end; tell of each step through a pipe."""

    def on_step(info: StepInfo) -> None:
        os.write(pipe, f"{info.step}\n".encode())

    base = resolve_base_model(BaseModelSpec(location="base"), folder)
    config = tiny_config(checkpoint_every_steps=2, **declared)
    rows, dev = tiny_rows(80), tiny_rows(16, 1, split="dev")
    train = train_expert_as if declared else train_expert
    train(rows, dev, base, start, config, CLASSES, workdir, on_step)


def fork(folder: Path, start: Path, workdir: Path, declared: dict[str, Any]) -> tuple[int, int]:
    """Return (process id, read end of the pipe)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        code = 1
        try:
            child(folder, start, workdir, write, declared)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    return pid, read


def steps_seen(read: int, until: int) -> int:
    """Read the pipe until `until` steps were told or the child is done; return how many."""
    seen = 0
    while seen < until and (data := os.read(read, 2)):
        seen += data.count(b"\n")
    return seen


def main(folder: Path, start: Path, kills: int, declared: dict[str, Any]) -> None:
    """Kill `kills` trainings at seeded moments, finish each, print their hashes and resumes."""
    torch.set_num_threads(1)
    results = []
    for seed in range(kills):
        rng = random.Random(seed)
        workdir = folder / f"work-{seed}"
        killed = 0
        for _ in range(rng.randint(1, 3)):
            pid, read = fork(folder, start, workdir, declared)
            steps_seen(read, rng.randint(1, 4))
            time.sleep(rng.uniform(0, 0.03))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            killed += os.WIFSIGNALED(status)
            os.close(read)
        pid, read = fork(folder, start, workdir, declared)
        steps = steps_seen(read, 10**6)
        _, status = os.waitpid(pid, 0)
        os.close(read)
        adapter = workdir / "adapter" / "adapter_model.safetensors"
        results.append(
            {"killed": killed, "code": status, "steps": steps, "sha256": sha256_file(adapter)}
        )
    print(json.dumps(results))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
