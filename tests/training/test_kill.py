"""SIGKILL at any moment of a training: it resumes and ends with the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fm_platform.hashing import sha256_file
from fm_platform.training.base_model import BaseModel
from fm_platform.training.train import train_expert
from fm_platform.training.variants import train_expert_as
from tests.support.tiny_model import CLASSES, tiny_config, tiny_rows

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("kills", "declared"),
    [
        (4, {}),
        (2, {"narrow_gap": {"between": "source"}}),
        pytest.param(50, {}, marks=pytest.mark.slow),
        pytest.param(50, {"narrow_gap": {"between": "class"}}, marks=pytest.mark.slow),
    ],
)
def test_killed_trainings_end_with_the_same_bits(
    base: BaseModel, start: Path, tmp_path: Path, kills: int, declared: dict[str, Any]
) -> None:
    (tmp_path / "base").symlink_to(base.directory)
    rows, dev = tiny_rows(80), tiny_rows(16, 1, split="dev")
    train = train_expert_as if declared else train_expert
    config = tiny_config(**declared)
    trained = train(rows, dev, base, start, config, CLASSES, tmp_path / "whole")
    expected = sha256_file(trained.directory / "adapter_model.safetensors")

    done = subprocess.run(
        [sys.executable, "-m", "tests.training.kills", str(tmp_path), str(start), str(kills),
         json.dumps(declared)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    results = json.loads(done.stdout.splitlines()[-1])

    assert [result["code"] for result in results] == [0] * kills
    assert {result["sha256"] for result in results} == {expected}
    assert sum(result["killed"] for result in results) >= kills
    assert any(result["steps"] < int(trained.metrics["steps"] or 0) for result in results)
