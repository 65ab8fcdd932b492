"""What an expert knows, against gradients and products worked out one row at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.knowledge import knowledge_of
from fm_platform.merging.search import DevSample
from tests.merging.conftest import DEV, Family
from tests.support.tiny_model import CLASSES

LAYER = "bert.encoder.layer.0.intermediate.dense"
NAMES = [f"{LAYER}.weight", "classifier.weight", "classifier.bias"]


@pytest.fixture(scope="module")
def model(family: Family) -> Any:
    return family.base.new_classifier(CLASSES, 3)


@pytest.fixture(scope="module")
def batches(family: Family) -> list[Any]:
    return list(DevSample(DEV, family.base.tokenizer(), 4, 24, 0).batches_of(["chat", "mail"]))


def single(batches: list[Any]) -> list[Any]:
    """Return the rows one by one, without padding."""
    rows = []
    for batch in batches:
        for i in range(len(batch["input_ids"])):
            real = batch["attention_mask"][i].bool()
            rows.append({name: tensor[i : i + 1, real] for name, tensor in batch.items()})
    return rows


def test_gram_is_the_mean_of_the_products_of_real_positions(model: Any, batches: list[Any]) -> None:
    seen: list[torch.Tensor] = []
    module = model.get_submodule(LAYER)
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].double()))
    with torch.no_grad():
        for row in single(batches):
            model(**row)
    handle.remove()
    inputs = torch.cat(seen)

    found = knowledge_of("gram", model, batches, NAMES)
    assert torch.allclose(found[f"{LAYER}.weight"], inputs.T @ inputs / len(inputs), atol=1e-4)
    assert sorted(found) == [f"{LAYER}.weight", "classifier.weight"], "a bias has no inputs"


def test_fisher_is_the_mean_squared_gradient_of_a_row(model: Any, batches: list[Any]) -> None:
    found = knowledge_of("fisher", model, batches, NAMES, seed=5)
    # the same draws, one row at a time
    wanted = {name: torch.zeros_like(model.get_parameter(name)).double() for name in NAMES}
    rows, start = 0, 0
    for batch in batches:
        logits = model(**batch).logits.detach().float()
        generator = torch.Generator().manual_seed(5 + start)
        drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
        for row, label in zip(single([batch]), drawn[:, 0], strict=True):
            model.zero_grad()
            torch.log_softmax(model(**row).logits[0], dim=-1)[label].backward()
            for name in NAMES:
                wanted[name] += model.get_parameter(name).grad.double().square()
            rows += 1
        start += len(batch["input_ids"])
    model.zero_grad(set_to_none=True)

    for name in NAMES:
        assert torch.allclose(found[name], wanted[name] / rows, rtol=1e-3, atol=1e-9), name
    assert all(p.grad is None for p in model.parameters())


def test_what_cannot_be_measured_is_refused(model: Any, batches: list[Any]) -> None:
    with pytest.raises(MergeRefusedError, match="only linear layers"):
        knowledge_of("gram", model, batches, ["bert.embeddings.word_embeddings.weight"])
    with pytest.raises(MergeRefusedError, match="without rows"):
        knowledge_of("fisher", model, [], NAMES)
    with pytest.raises(MergeRefusedError, match="no such knowledge"):
        knowledge_of("wisdom", model, batches, NAMES)
