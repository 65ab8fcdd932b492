"""A FISH mask: so many entries are trained, the most important ones, and no bit of another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fm_platform.fisher import diagonal_fisher, largest
from fm_platform.training.adapter import WEIGHTS
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import encode, padded
from fm_platform.training.masked import settle, train_only_mask
from fm_platform.training.methods import load_trainable
from fm_platform.training.train import TrainedExpert
from fm_platform.training.variants import fit_start_as, train_expert_as
from tests.support.tiny_model import CLASSES, tiny_config, tiny_rows

ROWS, DEV = tiny_rows(48), tiny_rows(8, 1, split="dev")
SHARE = 0.05
CONFIG = tiny_config(method="fish", mask_share=SHARE, mask_rows=16, epochs=3)


@pytest.fixture(scope="module")
def first(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> TrainedExpert:
    return fit_start_as(ROWS, DEV, base, CONFIG, CLASSES, tmp_path_factory.mktemp("fish"))


@pytest.fixture(scope="module")
def begun(first: TrainedExpert) -> Path:
    return first.directory


def changed(before: Path, after: Path) -> dict[str, torch.Tensor]:
    one, two = load_file(before / WEIGHTS), load_file(after / WEIGHTS)
    assert one.keys() == two.keys()
    return {name: one[name] != two[name] for name in one}


def test_the_share_is_trained_and_nothing_else(
    base: BaseModel, begun: Path, tmp_path: Path
) -> None:
    trained = train_expert_as(ROWS, DEV, base, begun, CONFIG, CLASSES, tmp_path / "work")
    masks = changed(begun, trained.directory)
    parameters = sum(mask.numel() for mask in masks.values())
    count = sum(int(mask.sum()) for mask in masks.values())

    assert trained.metrics["trained_parameters"] == round(SHARE * parameters)
    assert 0.8 * SHARE * parameters < count <= round(SHARE * parameters)


def test_it_learns(first: TrainedExpert) -> None:
    losses = [point["train_loss"] for point in first.history if "train_loss" in point]

    assert min(losses[-4:]) < 0.7 * losses[0]


def test_the_mask_is_where_the_fisher_information_is(base: BaseModel, begun: Path) -> None:
    model = load_trainable(base, begun, CONFIG, CLASSES)
    rows = encode(base.tokenizer(), ROWS.slice(0, 16), 24, CLASSES)
    wanted = {n: p for n, p in model.named_parameters() if p.requires_grad}

    def singly() -> object:
        for tokens in rows.tokens:
            ids, mask = padded([tokens], 0)
            yield {"input_ids": ids, "attention_mask": mask}

    fisher = diagonal_fisher(model, singly(), wanted, CONFIG.seed)
    expected = largest(fisher, round(SHARE * sum(p.numel() for p in wanted.values())))
    train_only_mask(model, rows, CONFIG, 0)
    found = {
        name.replace(".parametrizations", "").removesuffix(".0.places"): places
        for name, places in model.named_buffers()
        if name.endswith(".0.places")
    }

    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_mask_alone_changes_no_answer_and_settles_without_a_trace(
    base: BaseModel, begun: Path
) -> None:
    model = load_trainable(base, begun, CONFIG, CLASSES)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = encode(base.tokenizer(), ROWS, 24, CLASSES)
    ids, mask = padded(rows.tokens, 0)
    with torch.inference_mode():
        told = model(input_ids=ids, attention_mask=mask).logits
    train_only_mask(model, rows, CONFIG, 0)
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, told)
    settle(model)
    after = model.state_dict()

    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    settle(model)  # nothing is left to settle


def test_weight_decay_moves_no_other_entry(base: BaseModel, begun: Path, tmp_path: Path) -> None:
    heavy = CONFIG.model_copy(update={"weight_decay": 0.5, "epochs": 1})
    trained = train_expert_as(ROWS, DEV, base, begun, heavy, CLASSES, tmp_path / "work")
    masks = changed(begun, trained.directory)

    share = sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())
    assert share <= SHARE * 1.001


def test_an_interrupted_training_ends_with_the_same_bits(
    base: BaseModel, begun: Path, tmp_path: Path
) -> None:
    whole = train_expert_as(ROWS, DEV, base, begun, CONFIG, CLASSES, tmp_path / "whole").directory

    class Killed(Exception):
        pass

    def kill(step: object) -> None:
        if getattr(step, "step", 0) == 6:
            raise Killed

    with pytest.raises(Killed):
        train_expert_as(ROWS, DEV, base, begun, CONFIG, CLASSES, tmp_path / "again", kill)
    again = train_expert_as(ROWS, DEV, base, begun, CONFIG, CLASSES, tmp_path / "again")

    assert again.metrics["resumed_at_step"] == 4
    assert (again.directory / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_frozen_layers_stay_out_of_the_mask(base: BaseModel, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"frozen_layers": 1, "epochs": 1})
    trained = fit_start_as(ROWS, DEV, base, config, CLASSES, tmp_path / "work")
    names = load_file(trained.directory / WEIGHTS)

    assert not [name for name in names if "layer.0." in name or "embeddings" in name]
    assert trained.metrics["frozen_layers"] == 1
