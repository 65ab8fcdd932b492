"""Training above frozen layers on what they gave, against training with them computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fm_platform.errors import TrainingError
from fm_platform.numerics import reproducible
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import tokenize
from fm_platform.training.predict import load_adapter, predict_probabilities
from fm_platform.training.prefix import Half, key_of, prefix_states
from fm_platform.training.variants import fit_start_as, train_expert_as
from tests.support.tiny_model import CLASSES, tiny_config, tiny_rows

ROWS, DEV = tiny_rows(64), tiny_rows(16, 1, split="dev")
TEXTS = [*ROWS["text"].to_pylist(), *DEV["text"].to_pylist()]


def states_of(base: BaseModel, texts: list[str]) -> dict[bytes, Half]:
    tokens = tokenize(base.tokenizer(), texts, 24)
    with reproducible(1):
        return {key_of(tokens[i]): rows for i, rows in prefix_states(base, 1, tokens)}


def test_what_is_computed_for_a_text_does_not_depend_on_the_texts_beside_it(
    base: BaseModel,
) -> None:
    together = states_of(base, TEXTS)
    apart = states_of(base, TEXTS[:7]) | states_of(base, TEXTS[7:][::-1])

    assert together.keys() == apart.keys()
    assert all(np.array_equal(rows, apart[key]) for key, rows in together.items())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_on_kept_states_is_training_with_the_layers_frozen(
    base: BaseModel, tmp_path: Path, method: str
) -> None:
    config = tiny_config(method=method, frozen_layers=1, epochs=2)
    states = states_of(base, TEXTS)
    answers, files = [], []
    for name, kept in (("computed", None), ("kept", states), ("again", states)):
        start = fit_start_as(ROWS, DEV, base, config, CLASSES, tmp_path / name / "s", None, kept)
        expert = train_expert_as(
            ROWS, DEV, base, start.directory, config, CLASSES, tmp_path / name / "e", None, kept
        )
        told = load_adapter(base, expert.directory)
        answers.append(predict_probabilities(told, TEXTS, max_tokens=24))
        files.append((expert.directory / "adapter_model.safetensors").read_bytes())

    # half precision keeps 11 bits of a state
    assert abs(answers[0] - answers[1]).max() < 2e-3
    assert files[1] == files[2]
    assert files[0] != files[1]


def test_what_cannot_be_trained_above(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no layer to train"):
        fit_start_as(ROWS, DEV, base, tiny_config(frozen_layers=2), CLASSES, tmp_path)
    with pytest.raises(TrainingError, match="no cached states"):
        fit_start_as(ROWS, DEV, base, tiny_config(frozen_layers=1), CLASSES, tmp_path, None, {})
    with pytest.raises(ValueError, match="works on all layers"):
        tiny_config(method="bitfit", frozen_layers=1)
