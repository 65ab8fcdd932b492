"""A merge is exact or refused, and what it writes is a model for everybody."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fm_platform.errors import MergeRefusedError
from fm_platform.merging import merge as merge_module
from fm_platform.merging.merge import MergeResult, merge_experts
from fm_platform.spec.models import BaseModelSpec, Merge
from fm_platform.training.adapter import save_adapter
from fm_platform.training.base_model import resolve_base_model
from fm_platform.training.predict import load_adapter, predict_probabilities
from tests.merging.conftest import DEV, Family
from tests.support.tiny_model import CLASSES, build_tiny_base, tiny_rows

TEXTS = DEV["text"].to_pylist()


SOURCES = {"chat": ["chat"], "mail": ["mail"]}


def merged(family: Family, out: Path, merge: Merge | None = None, **changes: Any) -> MergeResult:
    experts = changes.pop("experts", family.experts)
    settings = {"start": family.start, "threads": 1, **changes}
    return merge_experts(family.base, experts, merge or Merge(), CLASSES, out, **settings)


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(**batch).logits
    return found


def dense(folder: Path) -> torch.Tensor:
    """Load as anybody would, and answer."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    return logits(model, AutoTokenizer.from_pretrained(folder))


def peft(family: Family, adapter: Path) -> torch.Tensor:
    model = PeftModel.from_pretrained(family.base.new_classifier(CLASSES, 0), str(adapter))
    return logits(model, family.base.tokenizer())


@pytest.mark.parametrize("with_start", [True, False])
@pytest.mark.parametrize("name", ["chat", "mail"])
def test_one_adapter_at_weight_one_is_that_adapter(
    family: Family, tmp_path: Path, name: str, with_start: bool
) -> None:
    result = merged(
        family, tmp_path / "m", Merge(weights={name: 1.0}), experts={name: family.experts[name]},
        start=family.start if with_start else None,
    )  # fmt: skip

    gap = (dense(result.directory) - peft(family, family.experts[name])).abs().max()
    assert gap < 1e-5
    assert result.report["max_logit_difference"] < 1e-5


def test_all_weight_on_one_of_two_is_that_adapter(family: Family, tmp_path: Path) -> None:
    result = merged(family, tmp_path / "m", Merge(weights={"chat": 0.0, "mail": 1.0}))

    assert (dense(result.directory) - peft(family, family.experts["mail"])).abs().max() < 1e-5


def test_no_weight_on_any_is_the_start(family: Family, tmp_path: Path) -> None:
    result = merged(family, tmp_path / "m", Merge(weights={"chat": 0.0, "mail": 0.0}))

    assert (dense(result.directory) - peft(family, family.start)).abs().max() < 1e-5


def test_linear_weights_that_sum_to_one_need_no_start(family: Family, tmp_path: Path) -> None:
    half = Merge(weights={"chat": 0.5, "mail": 0.5})
    one = merged(family, tmp_path / "a", half)
    two = merged(family, tmp_path / "b", half, start=None)

    assert torch.allclose(dense(one.directory), dense(two.directory), atol=1e-5)


def test_what_is_written(family: Family, tmp_path: Path) -> None:
    result = merged(family, tmp_path / "m", dev=DEV)
    files = {path.name: path.read_bytes() for path in result.directory.iterdir()}
    config = json.loads(files["config.json"])

    assert set(files) == {"config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"}
    assert config["id2label"] == {"0": "negative", "1": "neutral", "2": "positive"}
    assert config["label2id"] == {"negative": 0, "neutral": 1, "positive": 2}
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert files["vocab.txt"] == (family.base.directory / "vocab.txt").read_bytes()
    assert str(family.base.directory.parent).encode() not in b"".join(files.values())
    again = resolve_base_model(BaseModelSpec(location=str(result.directory)), tmp_path)
    assert again.new_classifier(CLASSES, 0).config.num_labels == 3


@pytest.mark.parametrize("method", ["linear", "dare_ties", "fisher", "regmean"])
def test_the_same_bits_again(family: Family, tmp_path: Path, method: Any) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = merged(family, tmp_path / "a", Merge(method=method), dev=DEV)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = merged(family, tmp_path / "b", Merge(method=method), dev=DEV)

    assert one.weights == two.weights
    assert one.report == two.report
    for path in one.directory.iterdir():
        assert path.read_bytes() == (two.directory / path.name).read_bytes()


def test_the_report_names_layers_and_conflicts(family: Family, tmp_path: Path) -> None:
    report = merged(family, tmp_path / "m").report

    assert len(report["layers"]) == 12
    assert all(0 <= row["sign_conflicts"] <= 1 for row in report["layers"])
    assert all(row["norm chat"] > 0 and row["norm mail"] > 0 for row in report["layers"])
    assert 0 < report["sign_conflict_rate"] < 1
    assert report["search"] == []


def test_without_dev_rows_the_weights_are_equal(family: Family, tmp_path: Path) -> None:
    assert merged(family, tmp_path / "m").weights == {"chat": 0.5, "mail": 0.5}


def test_adapters_of_other_rank_and_scaling_fit_together(family: Family, tmp_path: Path) -> None:
    other = random_adapter(family, tmp_path / "other", r=5, lora_alpha=3, use_rslora=True)
    experts = {"chat": family.experts["chat"], "other": other}
    result = merged(
        family, tmp_path / "m", Merge(weights={"chat": 0.0, "other": 1.0}), experts=experts
    )

    assert (dense(result.directory) - peft(family, other)).abs().max() < 1e-5


def random_adapter(family: Family, folder: Path, **settings: Any) -> Path:
    config = json.loads((family.start / "adapter_config.json").read_text())
    lora = LoraConfig(
        task_type="SEQ_CLS",
        target_modules=settings.pop("target_modules", config["target_modules"]),
        modules_to_save=config["modules_to_save"],
        init_lora_weights=False,
        **settings,
    )
    model = get_peft_model(family.base.new_classifier(CLASSES, 0), lora)
    save_adapter(model, folder, family.base, CLASSES)
    return folder


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"rank_pattern": {"self.key": 3}}, "rank_pattern"),
        ({"target_modules": ["query"]}, "set of adapted layers"),
    ],
)
def test_other_kinds_are_refused(
    family: Family, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    other = random_adapter(family, tmp_path / "other", r=2, **settings)

    with pytest.raises(MergeRefusedError) as caught:
        merged(family, tmp_path / "m", experts={**family.experts, "other": other})
    assert reason in str(caught.value)
    assert not (tmp_path / "m").exists()


def edited(source: Path, target: Path, file: str, **changes: Any) -> Path:
    shutil.copytree(source, target)
    path = target / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return target


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("adapter_config.json", {"peft_type": "IA3"}, "peft_type='IA3'"),
        ("adapter_config.json", {"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ("adapter_config.json", {"from_the_future": 1}, "from_the_future=1"),
        ("fm_adapter.json", {"base_content_hash": "0" * 64}, "another base model"),
        ("fm_adapter.json", {"classes": ["no", "yes"]}, "another list of classes"),
    ],
)
def test_an_adapter_that_says_something_else(
    family: Family, tmp_path: Path, file: str, changes: dict[str, Any], reason: str
) -> None:
    other = edited(family.experts["mail"], tmp_path / "other", file, **changes)

    with pytest.raises(MergeRefusedError) as caught:
        merged(family, tmp_path / "m", experts={**family.experts, "other": other})
    assert reason in str(caught.value)


@pytest.mark.parametrize("damage", ["truncated", "not finite", "half a pair", "missing file"])
def test_a_damaged_adapter(family: Family, tmp_path: Path, damage: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(family.experts["mail"], other)
    file = other / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if "lora_B" in name)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-9])
    elif damage == "missing file":
        file.unlink()
    else:
        if damage == "not finite":
            tensors[name][0, 0] = float("inf")
        else:
            del tensors[name]
        save_file(tensors, file)

    with pytest.raises(MergeRefusedError, match="other"):
        merged(family, tmp_path / "m", experts={**family.experts, "other": other})


def test_a_base_that_was_swapped(family: Family, tmp_path: Path) -> None:
    build_tiny_base(tmp_path / "swapped", seed=5)
    swapped = resolve_base_model(BaseModelSpec(location="swapped"), tmp_path)

    with pytest.raises(MergeRefusedError, match="another base model"):
        merge_experts(swapped, family.experts, Merge(), CLASSES, tmp_path / "m")


def test_a_merge_that_is_not_exact_is_refused(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = merge_module.merged_state

    def wrong(*args: Any) -> Any:
        return {n: t * 1.01 if "query.weight" in n else t for n, t in real(*args).items()}

    monkeypatch.setattr(merge_module, "merged_state", wrong)
    with pytest.raises(MergeRefusedError, match="merged at weight 1 is not that adapter"):
        merged(family, tmp_path / "m")


@pytest.mark.parametrize(
    "weights", [{"chat": 1.0}, {"chat": 0.5, "mail": 0.5, "news": 0.5}, {"news": 1.0}]
)
def test_weights_of_other_experts(
    family: Family, tmp_path: Path, weights: dict[str, float]
) -> None:
    with pytest.raises(MergeRefusedError, match="name other experts"):
        merged(family, tmp_path / "m", Merge(weights=weights))


def test_weights_that_leave_the_head_without_value(family: Family, tmp_path: Path) -> None:
    with pytest.raises(MergeRefusedError, match="sum to zero"):
        merged(family, tmp_path / "m", Merge(weights={"chat": 1.0, "mail": -1.0}), start=None)


def test_no_adapter(family: Family, tmp_path: Path) -> None:
    with pytest.raises(MergeRefusedError, match="no adapter"):
        merged(family, tmp_path / "m", experts={}, start=None)


def test_auto_takes_the_method_with_the_least_loss(family: Family, tmp_path: Path) -> None:
    tried_ones = ("linear", "ties", "regmean", "slerp")
    auto = Merge(method="auto", methods=tried_ones, density=0.2, evidence="weak")
    result = merged(family, tmp_path / "m", auto, dev=DEV, sources=SOURCES)

    tried = {row["method"]: row["log_loss"] for row in result.report["methods"]}
    assert set(tried) == {"linear", "ties", "regmean", "slerp"}
    assert tried[result.method] == min(tried.values())
    one = Merge(method=result.method, density=0.2, evidence="weak")
    assert merged(family, tmp_path / "n", one, dev=DEV, sources=SOURCES).weights == result.weights


def labeled_by(family: Family, adapter: Path, rows: int = 120, *, wrong: bool = False) -> pa.Table:
    """Dev rows with the answers of one adapter, or the wrong ones, as what people say."""
    table = tiny_rows(rows, 7, split="dev").select(["row_id", "source", "text"])
    model = load_adapter(family.base, adapter)
    told = predict_probabilities(model, table["text"].to_pylist()).argmax(axis=1)
    sure = pa.array(
        np.eye(3, dtype=np.float32)[(told + wrong) % 3].tolist(), pa.list_(pa.float32())
    )
    return table.append_column("probabilities", pa.array(sure, pa.list_(pa.float32())))


def test_gold_rows_decide_and_not_the_search(family: Family, tmp_path: Path) -> None:
    weak = labeled_by(family, family.experts["mail"])  # weak labels are for one expert
    people = labeled_by(family, family.experts["mail"], wrong=True)  # people against it
    found = merged(family, tmp_path / "m", dev=weak, gold=people, sources=SOURCES)
    misled = merged(family, tmp_path / "w", Merge(evidence="weak"), dev=weak, gold=people)

    assert misled.weights["mail"] > 0.5
    assert found.weights["mail"] <= 0.5
    equal, *others = found.report["methods"]
    assert (equal["weight chat"], equal["weight mail"]) == (0.5, 0.5)
    assert equal["gold gain"] == equal["gold gain at least"] == 0
    chosen = [r for r in others if r["weight mail"] == found.weights["mail"]] or [equal]
    assert chosen[0]["gold gain at least"] == max(0, *(row["gold gain at least"] for row in others))
    assert found.report["gold_rows"] == 120


def test_a_proposal_that_people_agree_with_is_taken(family: Family, tmp_path: Path) -> None:
    rows = labeled_by(family, family.experts["mail"], 240)
    found = merged(family, tmp_path / "m", dev=rows, gold=rows, sources=SOURCES)

    assert found.weights["mail"] > 0.5


def test_too_few_gold_rows_leave_equal_weights(family: Family, tmp_path: Path) -> None:
    weak = labeled_by(family, family.experts["mail"])
    few = weak.slice(0, 30)  # 15 of each source
    found = merged(family, tmp_path / "m", dev=weak, gold=few, sources=SOURCES)

    assert found.weights == {"chat": 0.5, "mail": 0.5}
    assert found.report["gold_rows"] == 0
    assert len(found.report["methods"]) == 1


def test_auto_leaves_out_what_cannot_merge_so_many(family: Family, tmp_path: Path) -> None:
    one = {"chat": family.experts["chat"]}
    with pytest.raises(MergeRefusedError, match="nothing to choose a merge method by"):
        merged(family, tmp_path / "m", Merge(method="auto", methods=("slerp",)), dev=DEV,
               experts=one)  # fmt: skip
    with pytest.raises(MergeRefusedError, match="no dev rows"):
        merged(family, tmp_path / "m", Merge(method="auto"))
    with pytest.raises(MergeRefusedError, match="there are none"):
        merged(family, tmp_path / "m", Merge(method="fisher"))


def test_each_task_before_and_after(family: Family, tmp_path: Path) -> None:
    report = merged(family, tmp_path / "m", dev=DEV, sources=SOURCES).report

    assert [row["source"] for row in report["tasks"]] == ["chat", "mail"]
    for row in report["tasks"]:
        assert row["own expert"] == row["source"]
        assert row["lost"] == pytest.approx(row["before"] - row["after"], abs=2e-4)
        assert row["best"] >= row["before"]
    (pair,) = report["pairs"]
    assert pair["experts"] == "chat, mail"
    assert -1 <= pair["cosine"] <= 1


def test_a_merge_that_forgets_is_refused(family: Family, tmp_path: Path) -> None:
    bad = Merge(weights={"chat": -4.0, "mail": -4.0}, max_loss=0.05)
    with pytest.raises(MergeRefusedError, match="forgets what an expert knew") as refused:
        merged(family, tmp_path / "m", bad, dev=DEV, sources=SOURCES)
    assert "mail: 0." in str(refused.value)
    assert not (tmp_path / "m").exists()
