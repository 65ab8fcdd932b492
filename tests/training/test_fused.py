"""A LoRA layer as one product: the same answers, the same gradients, and nothing left of it."""

from __future__ import annotations

import pytest
import torch
from peft.tuners.lora import Linear

from fm_platform.numerics import reproducible
from fm_platform.spec.training import MethodName
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import encode, padded
from fm_platform.training.fused import fused
from fm_platform.training.methods import new_adapter
from tests.support.tiny_model import CLASSES, tiny_config, tiny_rows


def trained_layers(model: torch.nn.Module) -> list[Linear]:
    return [module for module in model.modules() if isinstance(module, Linear)]


def one_step(
    model: torch.nn.Module, base: BaseModel
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return logits, and the gradient of each trained parameter."""
    model.zero_grad()
    ids, mask = padded(encode(base.tokenizer(), tiny_rows(12), 24, CLASSES).tokens, 0)
    logits = model(input_ids=ids, attention_mask=mask).logits
    logits.square().sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), gradients


@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_answers_and_gradients_are_those_of_the_library(base: BaseModel, method: str) -> None:
    with reproducible(1):
        model = new_adapter(base, tiny_config(method=method), CLASSES, 1)
        for layer in trained_layers(model):  # fresh pairs say nothing: let them say something
            torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
        expected, wanted = one_step(model, base)
        with fused(model):
            assert all("forward" in vars(layer) for layer in trained_layers(model))
            told, found = one_step(model, base)
        after, _ = one_step(model, base)

    assert found.keys() == wanted.keys()
    assert torch.allclose(told, expected, atol=1e-5)
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-4), name
    assert torch.equal(after, expected)


def test_the_gradients_are_those_of_finite_differences(base: BaseModel) -> None:
    with reproducible(1):
        model = new_adapter(base, tiny_config(), CLASSES, 1)
        layer = trained_layers(model)[0]
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        with torch.no_grad():
            torch.nn.init.normal_(up, std=0.5)
        x = torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(0))
        x.requires_grad_()
        with fused(model):
            layer(x).square().sum().backward()
            for tensor in (x, down, up):
                at = tuple(index // 2 for index in tensor.shape)
                values = []
                for change in (1e-2, -1e-2):
                    with torch.no_grad():
                        tensor[at] += change
                        values.append(float(layer(x).double().square().sum()))
                        tensor[at] -= change
                assert float(tensor.grad[at]) == pytest.approx(
                    (values[0] - values[1]) / 2e-2, rel=2e-2, abs=1e-2
                )


@pytest.mark.parametrize("method", sorted(set(MethodName.__args__) - {"lora", "rslora"}))
def test_what_is_more_than_a_low_rank_pair_stays_as_it_is(base: BaseModel, method: str) -> None:
    model = new_adapter(base, tiny_config(method=method), CLASSES, 4)

    with fused(model):
        assert not [m for m in model.modules() if "forward" in vars(m)]


def test_nothing_of_it_is_left_where_training_fails(base: BaseModel) -> None:
    model = new_adapter(base, tiny_config(), CLASSES, 1)

    with pytest.raises(ValueError, match="stop"), fused(model):
        raise ValueError("stop")

    assert not [m for m in model.modules() if "forward" in vars(m)]
