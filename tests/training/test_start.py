"""The shared start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fm_platform.errors import TrainingError
from fm_platform.training.adapter import new_peft
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import encode
from fm_platform.training.start import fit_start, probe_head
from tests.support.tiny_model import CLASSES, tiny_config, tiny_rows

ROWS, DEV = tiny_rows(64), tiny_rows(16, 1, split="dev")


def test_the_same_bits_again(base: BaseModel, start: Path, tmp_path: Path) -> None:
    again = fit_start(ROWS, DEV, base, tiny_config(), CLASSES, tmp_path).directory

    for path in start.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_probing_fits_the_head_and_leaves_the_encoder(base: BaseModel) -> None:
    config = tiny_config(probe_epochs=20)
    model = new_peft(base, config, CLASSES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = encode(base.tokenizer(), ROWS, 24, CLASSES)
    torch.manual_seed(0)
    probe_head(model, rows, config, 0)

    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all("modules_to_save" in name for name in changed)
    assert {n.split(".modules_to_save")[0].rsplit(".", 1)[-1] for n in changed} == {
        "classifier", "pooler",
    }  # fmt: skip


def test_every_source_counts_the_same(base: BaseModel, tmp_path: Path) -> None:
    config = tiny_config(start_rows_per_source=4)
    trained = fit_start(ROWS, DEV, base, config, CLASSES, tmp_path)

    tokens = encode(base.tokenizer(), ROWS, 24, CLASSES).tokens
    assert 0 < int(trained.metrics["tokens"] or 0) < sum(map(len, tokens)) / 4


def test_no_rows(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no rows"):
        fit_start(ROWS.slice(0, 0), DEV, base, tiny_config(), CLASSES, tmp_path)
