"""Causal experts as one dense model: the same logits, and answers of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc
import pytest
import torch

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.causal import merge_causal
from fm_platform.spec.instruction import Instruction
from fm_platform.spec.models import BaseModelSpec, Merge
from fm_platform.training.answering import generate, losses_of
from fm_platform.training.base_model import resolve_base_model
from fm_platform.training.instruct import (
    CausalBase,
    Dialogue,
    causal_base,
    encode_pairs,
    load_answering,
    load_causal_peft,
    train_answers,
)
from tests.support.tiny_causal import build_tiny_causal
from tests.support.tiny_model import tiny_config
from tests.support.tiny_pairs import LEARNS, pairs

ASKED = Instruction(template="{text} answer :", answer_tokens=5)
Family = tuple[CausalBase, Dialogue, Mapping[str, Path]]


@pytest.fixture(scope="module", params=["llama", "gemma"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp(request.param)
    build_tiny_causal(folder / "base", request.param)
    base = causal_base(resolve_base_model(BaseModelSpec(location="base"), folder))
    dialogue = Dialogue.of(base.tokenizer(), ASKED)
    config = tiny_config(**LEARNS)
    experts = {}
    for name in ("chat", "mail"):
        table = pairs(200)
        rows = encode_pairs(dialogue, table.filter(pc.equal(table["source"], name)), 24)[0]
        none = encode_pairs(dialogue, table.slice(0, 0), 24)[0]
        experts[name] = train_answers(
            rows, none, base, dialogue, config, folder / name
        ).directory  # fmt: skip
    return base, dialogue, experts


def test_one_adapter_merged_has_the_logits_of_the_adapter(family: Family, tmp_path: Path) -> None:
    base, dialogue, experts = family
    merged = merge_causal(base, {"chat": experts["chat"]}, Merge(), tmp_path / "model")
    dialogue.save(merged.directory)
    answering = load_answering(merged.directory)
    ids = torch.tensor(dialogue.prompts(pairs(8).to_pylist())[:1])

    with torch.inference_mode():
        ours = answering.model(input_ids=ids).logits
        theirs = load_causal_peft(base, experts["chat"])(input_ids=ids).logits

    assert merged.report["max_logit_difference"] < 1e-4
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


def test_the_merge_of_two_answers_as_both(family: Family, tmp_path: Path) -> None:
    base, dialogue, experts = family
    dev = encode_pairs(dialogue, pairs(30, 1, "dev"), 24)[0]
    merged = merge_causal(
        base, experts, Merge(method="auto", methods=("linear", "ties"), search_evaluations=4),
        tmp_path / "model", loss=lambda model: float(losses_of(model, dev).mean()),
    )  # fmt: skip
    dialogue.save(merged.directory)
    asked = pairs(40, 2, "test")
    told = generate(load_answering(merged.directory), asked.to_pylist())
    before = losses_of(base.new_classifier((), 0), dev).mean()

    assert all(answer.startswith("mood :") for answer in told)
    assert {row["method"] for row in merged.report["methods"]} == {"linear", "ties"}
    assert min(row["answer_loss"] for row in merged.report["methods"]) < 0.3 * before


def test_the_same_merge_is_the_same_bytes(family: Family, tmp_path: Path) -> None:
    base, _, experts = family
    declared = Merge(method="dare", weights={"chat": 0.4, "mail": 0.6})
    one, two = (merge_causal(base, experts, declared, tmp_path / n) for n in ("one", "two"))

    for path in sorted(one.directory.iterdir()):
        assert (two.directory / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    "declared", [Merge(method="regmean"), Merge(weights={"chat": 1.0, "other": 1.0})]
)
def test_what_cannot_be_merged_so_is_refused(
    family: Family, tmp_path: Path, declared: Merge
) -> None:
    base, _, experts = family

    with pytest.raises(MergeRefusedError, match="cannot be merged as declared"):
        merge_causal(base, experts, declared, tmp_path / "model")
