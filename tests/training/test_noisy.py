"""Trainings with another loss, weights and a subset: their rows, their bits, their resume."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fm_platform.hashing import sha256_file
from fm_platform.training.base_model import BaseModel
from fm_platform.training.loop import StepInfo
from fm_platform.training.train import TrainedExpert, train_expert
from fm_platform.training.variants import fit_start_as, train_expert_as
from tests.support.tiny_model import CLASSES, tiny_config, tiny_rows

ROOT = Path(__file__).parents[2]
ROWS, DEV = tiny_rows(80), tiny_rows(16, 1, split="dev")
ALL: dict[str, Any] = {"loss": "generalised", "weights": "class", "subset": 0.7}


def vectors(ids: Sequence[str]) -> Any:
    return np.array([[int(row[-4:]) % 7 + 1, int(row[-4:]) % 5 + 1] for row in ids], np.float32)


def bits(trained: TrainedExpert) -> str:
    return sha256_file(trained.directory / "adapter_model.safetensors")


def train(
    base: BaseModel, start: Path, folder: Path, rows: pa.Table = ROWS, on_step: Any = None,
    **changes: Any,
) -> TrainedExpert:  # fmt: skip
    config = tiny_config(checkpoint_every_steps=2, **changes)
    return train_expert_as(
        rows, DEV, base, start, config, CLASSES, folder, on_step, vectors=vectors
    )


class Interrupted(Exception):
    pass


def stop(info: StepInfo) -> None:
    if info.step == 5:
        raise Interrupted


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "generalised"}, {"loss": "generalised", "loss_q": 0.2}, {"weights": "confidence"},
        {"weights": "source"}, {"weights": "class"}, {"subset": 0.5},
        {"subset": 0.5, "subset_by": "certainty"},
    ],
    ids=str,
)  # fmt: skip
def test_each_option_is_another_training_and_the_same_again(
    base: BaseModel, start: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    generator = np.random.default_rng(0)
    soft = generator.dirichlet(np.ones(3), 80).astype(np.float32)
    rows = ROWS.set_column(
        ROWS.schema.get_field_index("probabilities"), "probabilities",
        pa.array(soft.tolist(), pa.list_(pa.float32())),
    ).filter(pa.array([i % 2 == 0 or i % 3 == 0 for i in range(80)]))  # fmt: skip
    plain = train_expert(rows, DEV, base, start, tiny_config(), CLASSES, tmp_path / "plain")

    once = train(base, start, tmp_path / "once", rows, **changes)
    again = train(base, start, tmp_path / "again", rows, **changes)

    assert bits(once) == bits(again) != bits(plain)


def test_the_dev_loss_before_the_first_step_is_that_of_every_training(
    base: BaseModel, start: Path, tmp_path: Path
) -> None:
    plain = train_expert(ROWS, DEV, base, start, tiny_config(), CLASSES, tmp_path / "plain")
    other = train(base, start, tmp_path / "other", **ALL)

    assert plain.history[0] == other.history[0]


def test_a_subset_takes_its_share_of_the_rows(base: BaseModel, tmp_path: Path) -> None:
    def tokens(**changes: Any) -> int:
        config, folder = tiny_config(**changes), tmp_path / str(sorted(changes))
        trained = fit_start_as(ROWS, DEV, base, config, CLASSES, folder, vectors=vectors)
        return int(trained.metrics["tokens"] or 0)

    assert 0.4 < tokens(subset=0.5) / tokens() < 0.6


def test_partial_labels_are_trained_on_with_everything_declared(
    base: BaseModel, start: Path, tmp_path: Path
) -> None:
    cells = pa.array([[0, 1, 1] if i % 4 == 0 else None for i in range(80)], pa.list_(pa.int8()))
    rows = ROWS.append_column("cells", cells)

    found = train(base, start, tmp_path / "cells", rows, **ALL)

    assert found.metrics["train_loss"] is not None
    assert bits(found) != bits(train(base, start, tmp_path / "apart", **ALL))


def test_an_interrupted_training_ends_with_the_same_bits(
    base: BaseModel, start: Path, tmp_path: Path
) -> None:
    whole = train(base, start, tmp_path / "whole", **ALL)
    with pytest.raises(Interrupted):
        train(base, start, tmp_path / "cut", on_step=stop, **ALL)
    again = train(base, start, tmp_path / "cut", **ALL)

    assert again.metrics["resumed_at_step"] == 4
    assert bits(again) == bits(whole)
    assert again.history == whole.history


def test_a_killed_training_ends_with_the_same_bits(
    base: BaseModel, start: Path, tmp_path: Path
) -> None:
    (tmp_path / "base").symlink_to(base.directory)
    declared = {
        "loss": "generalised", "weights": "confidence", "subset": 0.7, "subset_by": "certainty",
    }  # fmt: skip
    config = tiny_config(**declared)
    whole = train_expert_as(ROWS, DEV, base, start, config, CLASSES, tmp_path / "whole")

    done = subprocess.run(
        [sys.executable, "-m", "tests.training.kills", str(tmp_path), str(start), "2",
         json.dumps(declared)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    results = json.loads(done.stdout.splitlines()[-1])

    assert {result["sha256"] for result in results} == {bits(whole)}
    assert sum(result["killed"] for result in results) >= 2
