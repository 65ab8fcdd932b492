"""Experts that were fine-tuned whole: every layer is merged by the method, not only their heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from fm_platform.merging.merge import merge_experts
from fm_platform.spec.models import Merge
from fm_platform.training.predict import load_adapter, load_classifier
from fm_platform.training.variants import fit_start_as, train_expert_as
from tests.merging.conftest import DEV, Family
from tests.support.tiny_model import CLASSES, rows_of, tiny_config, tiny_rows

OWN = {"chat": ("chat",), "mail": ("mail",)}


@pytest.fixture(scope="module", params=["full", "head"])
def whole(
    request: pytest.FixtureRequest, family: Family, tmp_path_factory: pytest.TempPathFactory
) -> Family:
    folder, rows, none = tmp_path_factory.mktemp(request.param), tiny_rows(96), DEV.slice(0, 0)
    config = tiny_config(method=request.param, full_learning_rate=1e-2)
    start = fit_start_as(rows, none, family.base, config, CLASSES, folder / "start").directory
    experts = {
        name: train_expert_as(
            rows_of(rows, name), none, family.base, start, config, CLASSES, folder / name
        ).directory
        for name in ("chat", "mail")
    }
    return Family(family.base, start, experts)


def logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.arange(40).reshape(4, 10) % 25
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def merged(whole: Family, out: Path, weights: Mapping[str, float] | None, **how: object) -> Path:
    declared = Merge.model_validate({"weights": weights, "search_evaluations": 3, **how})
    return merge_experts(
        whole.base, whole.experts, declared, CLASSES, out, start=whole.start, dev=DEV, sources=OWN
    ).directory


def test_all_weight_on_one_gives_that_one(whole: Family, tmp_path: Path) -> None:
    path = merged(whole, tmp_path / "m", {"chat": 1.0, "mail": 0.0})
    alone = load_adapter(whole.base, whole.experts["chat"]).model

    torch.testing.assert_close(
        logits(load_classifier(path).model), logits(alone), atol=1e-5, rtol=0
    )


def test_every_method_can_be_tried(whole: Family, tmp_path: Path) -> None:
    methods = ("linear", "ties", "fisher", "regmean")
    declared = Merge(method="auto", methods=methods, search_evaluations=3, evidence="weak")
    found = merge_experts(
        whole.base, whole.experts, declared, CLASSES, tmp_path / "m", start=whole.start, dev=DEV,
        sources=OWN,
    )  # fmt: skip

    assert [row["method"] for row in found.report["methods"]] == list(methods)


def test_ties_acts_on_the_layers_themselves(whole: Family, tmp_path: Path) -> None:
    even = {"chat": 0.5, "mail": 0.5}
    one, two = (
        load_classifier(merged(whole, tmp_path / m, even, method=m, density=0.2)).model
        for m in ("linear", "ties")
    )
    name = "bert.encoder.layer.0.output.dense.weight"
    same = torch.equal(one.state_dict()[name], two.state_dict()[name])
    full = "layers" if any(
        "encoder" in n for n in (whole.experts["chat"] / "adapter_config.json").read_text().split()
    ) else "head"  # fmt: skip

    assert same == (full == "head")
